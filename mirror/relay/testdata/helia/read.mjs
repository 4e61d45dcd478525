// Reads files of an edition from a relay, with Helia's trustless-gateway client
// block by block, then again out of one CAR, and prints the SHA-256 of each as
// "WAY PATH HASH". On stdin: the gateway's URL with its prefix, the edition's
// CID, and the paths, one a line.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { trustlessGateway } from '@helia/block-brokers'
import { CarBlockIterator } from '@ipld/car'
import { defaultLogger } from '@libp2p/logger'
import { multiaddr } from '@multiformats/multiaddr'
import { exporter } from 'ipfs-unixfs-exporter'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

const [base, root, ...paths] = readFileSync(0, 'utf8').trim().split('\n')
const at = new URL(base)

// Helia's client knows gateways by host and port alone: the prefix is put back
// where its request leaves.
const fetchAsIs = globalThis.fetch
globalThis.fetch = async (url, init) => {
  const u = new URL(url)
  u.pathname = at.pathname + u.pathname
  return fetchAsIs(u, init)
}

async function check (cid, bytes) {
  const hash = await sha256.digest(bytes)
  if (cid.multihash.code !== sha256.code || Buffer.compare(hash.bytes, cid.multihash.bytes) !== 0) {
    throw new Error(`${cid}: another hash`)
  }
}

async function print (way, get) {
  for (const path of paths) {
    const file = await exporter(`${root}/${path}`, { get })
    const hash = createHash('sha256')
    for await (const part of file.content()) hash.update(part)
    console.log(way, path, hash.digest('hex'))
  }
}

const broker = trustlessGateway({ allowInsecure: true, allowLocal: true })({
  logger: defaultLogger(),
  routing: {
    async * findProviders () {
      yield { multiaddrs: [multiaddr(`/ip4/${at.hostname}/tcp/${at.port}/http`)] }
    }
  }
})
await print('blocks', cid => broker.retrieve(cid, { validateFn: bytes => check(cid, bytes) }))

const resp = await fetchAsIs(`${base}/ipfs/${root}?format=car`, { headers: { accept: 'application/vnd.ipld.car; version=1; order=dfs; dups=n' } })
if (resp.status !== 200) throw new Error(`CAR: status ${resp.status}`)
const held = new Map()
for await (const { cid, bytes } of await CarBlockIterator.fromIterable(resp.body)) {
  await check(cid, bytes)
  held.set(cid.toString(), bytes)
}
await print('car', cid => {
  const bytes = held.get(CID.asCID(cid).toString())
  if (bytes == null) throw new Error(`${cid} is not in the CAR`)
  return bytes
})

// A second writer of bundle/FORMAT.md, from that text alone: it makes a channel of two
// editions, so that the first implementation reads what it has not written. It is a
// test's; who publishes wants mirror-publish.
//
//   npm ci
//   node write.mjs DIR PICTURE.jpg WIDTH HEIGHT    DIR/invite.txt, edition-0.car, edition-1.car
//
// Section numbers are FORMAT.md's.
import { createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { base32nopad, bech32 } from '@scure/base'
import { Encrypter, identityToRecipient } from 'age-encryption'
import { compress, init as initZstd } from '@bokuweb/zstd-wasm'
import { CLASSES, b32, grantName, leafHash, mintKey, nodeHash, passphrase, prefix, sha256, tagFor, treeHash, treeTop, varint } from './verify.mjs'

const bytes = (...parts) => Buffer.concat(parts.map(p => typeof p === 'string' ? Buffer.from(p) : Buffer.from(p)))
const b64 = b => Buffer.from(b).toString('base64')
const u32le = n => { const b = Buffer.alloc(4); b.writeUInt32LE(n); return b }

// 1. Notes, signed with keys that are made here.

function newKey() {
  const key = createPrivateKey({ key: bytes(Buffer.from('302e020100300506032b657004220420', 'hex'), randomBytes(32)), format: 'der', type: 'pkcs8' })
  return { key, public: createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(12) }
}
function note(text, name, { key, public: pub }) {
  const id = sha256(name, Buffer.from([10, 1]), pub).subarray(0, 4)
  return bytes(`${text}\n— ${name} ${b64(bytes(id, sign(null, Buffer.from(text), key)))}\n`)
}

// 2. Layers.

const padme = n => {
  const e = Math.floor(Math.log2(n)), m = 2 ** Math.max(0, e - Math.floor(Math.log2(e)) - 1)
  return Math.ceil(n / m) * m
}
function pad(plain, layer) {
  const sized = n => (layer === 'front' && [3915, 8011, 16203].find(s => n <= s)) || padme(n)
  let size = sized(plain.length)
  while (size > plain.length && size - plain.length < 8) size = sized(size + 1)
  const gap = size - plain.length
  return gap === 0 ? plain : bytes(plain, u32le(0x184d2a50), u32le(gap - 8), Buffer.alloc(gap - 8))
}
async function seal(layer, frames, at) {
  const e = new Encrypter()
  e.setPassphrase(passphrase(at.key, at.id, at.edition, layer))
  e.setScryptWorkFactor(1)
  return Buffer.from(await e.encrypt(pad(bytes(...frames), layer)))
}
const frame = content => Buffer.from(compress(Buffer.from(content), 19))

// spansOf is where frames lie in their layer.
function spansOf(frames) {
  let o = 0
  return frames.map(f => { const span = { o, n: f.length }; o += f.length; return span })
}

// tarMember is one file of a tar archive (USTAR).
function tarMember(name, data) {
  const h = Buffer.alloc(512), octal = (at, n, v) => h.write(v.toString(8).padStart(n - 1, '0') + '\0', at)
  h.write(name)
  ;[[100, 8, 0o644], [108, 8, 0], [116, 8, 0], [124, 12, data.length], [136, 12, 0]].forEach(f => octal(...f))
  h.write('        0', 148)
  h.write('ustar\x0000', 257, 'latin1')
  h.write(h.reduce((a, b) => a + b, 0).toString(8).padStart(6, '0') + '\0 ', 148)
  return bytes(h, data, Buffer.alloc(-data.length & 511))
}

// 3. Blocks. A block is { cid, data, tsize, size }, cid in bytes; size is that of the bytes
// of a file that lie below.

const block = (codec, data, links = []) => ({
  cid: bytes([1, codec, 0x12, 32], sha256(data)), data, links, size: data.length, tsize: links.reduce((n, l) => n + l.tsize, data.length),
})
const field = (n, b) => bytes([n << 3 | 2], varint(b.length), b)
function node(data, links, names) {
  return block(0x70, bytes(...links.map((l, i) => field(2, bytes(field(1, l.cid), field(2, Buffer.from(names?.[i] ?? '')), [0x18], varint(l.tsize)))), field(1, data)), links)
}
const folder = entries => {
  const names = Object.keys(entries).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return node(Buffer.from([8, 1]), names.map(n => entries[n]), names)
}
function file(data, first = 65717, rest = 65552) {
  let level = []
  for (let i = 0; i < data.length; i += level.length === 1 ? first : rest) level.push(block(0x55, data.subarray(i, i + (i === 0 ? first : rest))))
  while (level.length > 1) {
    const up = []
    for (let i = 0; i < level.length; i += 174) {
      const links = level.slice(i, i + 174), size = links.reduce((n, l) => n + l.size, 0)
      up.push({ ...node(bytes([8, 2, 0x18], varint(size), ...links.map(l => bytes([0x20], varint(l.size)))), links), size })
    }
    level = up
  }
  return level[0]
}
const depthFirst = b => [b, ...b.links.flatMap(depthFirst)]
const names = blocks => ({ l: b32(treeTop(blocks.map(b => b.data), CLASSES.large)), s: b32(treeTop(blocks.map(b => b.data), CLASSES.small)) })

// 4. The edition as one file.

function carOf(notes, head, root, order) {
  const top = [...notes, head], roots = [...top, root]
  const header = bytes([0xa2, 0x65], 'roots', [0x80 + roots.length], ...roots.map(r => bytes([0xd8, 42, 0x58, 37, 0], r.cid)), [0x67], 'version', [1])
  const seen = new Set(), sections = []
  for (const b of [...top, ...order.filter(b => { const k = b.cid.toString('hex'); return !seen.has(k) && seen.add(k) })]) sections.push(varint(36 + b.data.length), b.cid, b.data)
  return bytes(varint(header.length), header, ...sections)
}

// 6. Log and leaf, 7. head.

// edgeOf is the right edge of the tree over leaf hashes, nearest first.
function edgeOf(leaves) {
  const edge = []
  for (let n = leaves.length, from = 0; n > 0;) {
    const k = 2 ** Math.floor(Math.log2(n))
    edge.unshift(treeHash(leaves.slice(from, from + k)))
    from += k
    n -= k
  }
  return edge
}

// A channel with one of each key, one batch, and what was published so far.
class Channel {
  constructor() {
    Object.assign(this, { root: newKey(), log: newKey(), ipns: newKey(), seed: randomBytes(32), key: randomBytes(32), leaves: [], past: [] })
    const text = `tamizdat/v1/root\nversion 1\nchannel -\nprevious -\nthreshold 1\nroot ed25519 ${b64(this.root.public)}\nlog 0 ed25519 ${b64(this.log.public)} 0 0 -\nquorum 0\n` +
      `ipns ed25519 ${b64(this.ipns.public)}\nmoved -\n`
    this.id = sha256(text)
    this.origin = `tamizdat/v1/log/${b32(this.id)}/0`
    this.note = note(text, 'tamizdat/v1/root', this.root)
    const pin = randomBytes(16)
    this.relay = { pin, prefix: prefix(mintKey(randomBytes(32), this.id), tagFor(this.seed, pin)) }
  }

  // 9.
  async grant() {
    const identity = bech32.encode('age-secret-key-pq-', bech32.toWords(new Uint8Array(this.seed)), false).toUpperCase(), recipient = await identityToRecipient(identity)
    const text = note(`tamizdat/v1/grant\n${b32(this.id)}\nrecipient ${b64(sha256(recipient))}\nserial 1\nepoch 0 ${b64(this.key)}\n` +
      `relay 192.0.2.7 443 ${b32(this.relay.pin)} ${this.relay.prefix.toString('base64url')} -\nzone n.example -\ngateway https://gateway.example\n`, this.origin, this.log)
    const e = new Encrypter()
    e.addRecipient(recipient)
    return Buffer.from(await e.encrypt(bytes(text, Buffer.alloc(4096 - 1627 - 32 - text.length))))
  }

  // 10.
  invite() {
    const place = (kind, ...parts) => { const p = bytes(...parts); return bytes([kind, p.length], p) }
    const raw = bytes([1], this.id, this.seed, this.ipns.public, place(1, [1, 187], this.relay.pin, this.relay.prefix, '192.0.2.7'), place(2, 'n.example'), place(4, 'https://gateway.example'))
    return `TAMIZDAT:${base32nopad.encode(new Uint8Array(bytes(raw, sha256(raw).subarray(0, 4))))}\n`
  }

  // publish makes an edition of articles, of which pictures are files: media, text, front,
  // folder, leaf, head.
  async publish(articles, date, gone = []) {
    const at = { key: this.key, id: this.id, edition: this.leaves.length }, layers = {}, plain = {}
    const written = new Date(date * 1000).toISOString().replace('.000', '')
    const pictures = articles.flatMap(a => a.pictures.map((p, i) => ({ id: a.id, i, ...p })))
    const members = pictures.map(p => frame(tarMember(`${p.id}-${p.i}.jpg`, p.data))), spans = spansOf(members)
    if (members.length > 0) layers.media = await seal('media', [...members, frame(Buffer.alloc(1024))], at)
    const lines = articles.map(a => JSON.stringify({
      v: 1, salt: b64(randomBytes(16)), id: a.id, title: a.title, lead: a.lead, body: a.body, lang: a.lang, dir: a.dir, date: a.date, source: a.source,
      images: a.pictures.length > 0 ? a.pictures.map((p, i) => ({ name: `${a.id}-${i}.jpg`, type: 'image/jpeg', alt: p.alt, w: p.w, h: p.h })) : undefined,
    }))
    const texts = lines.map(l => frame(l + '\n')), textSpans = spansOf(texts)
    if (texts.length > 0) layers.text = await seal('text', texts, at)
    if (at.edition > 0) plain.log = file(bytes(...this.leaves), 65536, 65536)
    const files = Object.fromEntries(Object.entries(layers).map(([l, b]) => [l, file(b)]))
    const headlines = articles.map((a, i) => ({
      id: a.id, title: a.title, lead: a.lead, lang: a.lang, dir: a.dir, date: a.date, source: a.source, corrected: a.corrected, ed: at.edition, text: textSpans[i],
      images: a.pictures.length > 0 ? pictures.flatMap((p, k) => p.id === a.id ? [{ type: 'image/jpeg', w: p.w, h: p.h, span: spans[k] }] : []) : undefined,
    }))
    const older = (this.front?.articles ?? []).filter(h => !gone.includes(h.id) && !headlines.some(n => n.id === h.id))
    const dns = f => names(depthFirst(f)), layer = l => layers[l] && { prologue: b64(layers[l].subarray(0, 165)), dns: l === 'text' ? dns(files[l]) : undefined }
    const front = {
      v: 1, channel: b32(this.id), name: 'A second writer', langs: ['en'], edition: at.edition, epoch: 0, date: written,
      articles: [...headlines, ...older].sort((a, b) => b.date.localeCompare(a.date)),
      past: this.past.length > 0 ? this.past : undefined, leaves: this.leaves.length > 0 ? b64(bytes(...this.leaves.slice(-16))) : undefined,
      text: layer('text'), media: layer('media'), log: plain.log && dns(plain.log), gone: gone.length > 0 ? gone : undefined,
    }
    files.front = file(await seal('front', [frame(JSON.stringify(front))], at))
    this.granted ??= block(0x55, await this.grant()) // used again as long as it says the same
    const root = folder({
      ...Object.fromEntries(Object.entries(files).map(([l, f]) => [`${l}.age`, f])), ...plain,
      root: folder({ 1: block(0x55, this.note) }), grants: folder({ [grantName(this.seed, this.id)]: this.granted }),
    })
    const frontBlocks = [root, ...depthFirst(files.front)], top = names(frontBlocks)
    const leaf = `tamizdat/v1/leaf\n${b32(this.id)}\nedition ${at.edition}\nepoch 0\nroot-note 1\nb${b32(root.cid)}\nfront ${top.l} ${top.s}\n` +
      `content ${b64(treeHash(lines.map(l => leafHash(l))))}\ndate ${date}\n`
    const path = edgeOf(this.leaves), tree = path.reduce((t, p) => nodeHash(p, t), leafHash(leaf))
    const checkpoint = note(`${this.origin}\n${at.edition + 1}\n${b64(tree)}\ntime ${date + 90}\n`, this.origin, this.log)
    const head = bytes(`c2sp.org/tlog-proof@v1\nextra ${b64(leaf)}\nindex ${at.edition}\n${path.map(p => b64(p) + '\n').join('')}\n`, checkpoint)
    this.past.push({ n: at.edition, epoch: 0, root: 'b' + b32(root.cid), date: written, front: top, text: front.text?.dns, articles: headlines.length })
    this.leaves.push(leafHash(leaf))
    this.front = front
    return carOf([block(0x55, this.note)], block(0x55, head), root, [...frontBlocks, ...depthFirst(root)])
  }
}

async function main(dir, picture, w, h) {
  const channel = new Channel(), day = 1_790_000_000
  const article = (id, title, body, more = {}) => ({
    id, title, lead: 'Written by somebody else.', body, lang: 'en', dir: 'ltr', date: '2026-09-21T12:00:00Z', source: `https://news.example/${id}`, pictures: [], ...more,
  })
  const photo = { data: readFileSync(picture), w: Number(w), h: Number(h), alt: 'noise' }
  const ferry = article('00112233445566a0', 'Ferry line opens again', '<p>It runs.</p><p><img src="image:0" alt="noise"/></p>', { pictures: [photo] })
  const first = await channel.publish([ferry, article('00112233445566a1', 'Bridge is painted', '<p>It was grey.</p>'), article('00112233445566a2', 'A mistake', '<p>It never happened.</p>')], day)
  const second = await channel.publish([article('00112233445566a1', 'Bridge is painted green', '<p>It was grey.</p>', { corrected: '2026-09-22T12:00:00Z' })], day + 86400, ['00112233445566a2'])
  writeFileSync(join(dir, 'edition-0.car'), first)
  writeFileSync(join(dir, 'edition-1.car'), second)
  writeFileSync(join(dir, 'invite.txt'), channel.invite())
}

const args = process.argv.slice(2)
if (args.length !== 4) {
  console.error('write: usage: node write.mjs DIR PICTURE.jpg WIDTH HEIGHT')
  process.exitCode = 1
} else {
  await initZstd()
  await main(...args)
}

// A second implementation of bundle/FORMAT.md, written from that text alone: it
// checks and opens an edition, given an invite or a key. It exists so that nobody
// has to believe the first one; it fetches nothing and keeps nothing.
//
//   npm ci                                   (age, zstd and base32 by others)
//   node verify.mjs INVITE.txt EDITION.car   check all of it, print the articles
//   node verify.mjs --proof FILE             check evidence of a fork, as mirror proof writes it
//   node verify.mjs --vectors DIR            the test vectors, valid and invalid
//
// Section numbers are FORMAT.md's. What is refused throws Refused, with the rule.
import { createHash, createHmac, createPublicKey, hkdfSync, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { base32nopad, base58, bech32 } from '@scure/base'
import { Decrypter, identityToRecipient } from 'age-encryption'
import { createDCtx, decompress as decompressWhole, decompressUsingDict, init as initZstd } from '@bokuweb/zstd-wasm'
import { Decompress } from 'fzstd'

export class Refused extends Error {}

const need = (ok, why) => { if (!ok) throw new Refused(why) }

// 1. Conventions.

export const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash('sha256')).digest()
const hkdf = (key, info, n) => Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), info, n))
const same = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0
const u64 = n => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b }
export const b32 = b => base32nopad.encode(new Uint8Array(b)).toLowerCase()
const unb32 = s => {
  need(/^[a-z2-7]*$/.test(s), 'base32 is lower case')
  try { return Buffer.from(base32nopad.decode(s.toUpperCase())) } catch { throw new Refused('base32 is canonical') }
}
const unb64 = (s, n) => {
  need(typeof s === 'string', 'base64 is a text')
  const b = Buffer.from(s, 'base64')
  need(b.toString('base64') === s, 'base64 is canonical')
  need(n === undefined || b.length === n, `${n} bytes of base64`)
  return b
}
const number = (s, max = 2n ** 63n - 1n) => {
  need(/^(0|[1-9][0-9]{0,18})$/.test(s) && BigInt(s) <= BigInt(max), 'a number without leading zeros, in its range')
  return exact(BigInt(s))
}
const exact = n => n > BigInt(Number.MAX_SAFE_INTEGER) ? n : Number(n)
const u32 = s => number(s, 2 ** 32 - 1)
const time = s => number(s, 2 ** 40)
const utf8 = bytes => {
  try { return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) } catch { throw new Refused('UTF-8') }
}

// Lines takes a text apart, line by line, each in its one spelling.
class Lines {
  constructor(text) {
    need(text.endsWith('\n'), 'lines end in LF')
    this.rest = text.slice(0, -1).split('\n')
  }
  at(pattern) { return this.rest.length > 0 && pattern.test(this.rest[0]) }
  take(pattern, what) {
    const m = this.rest.length > 0 && pattern.exec(this.rest[0])
    need(m, `a line "${what}"`)
    this.rest.shift()
    return m.slice(1)
  }
  end() { need(this.rest.length === 0, 'no more lines') }
}

class Bytes {
  constructor(b) { this.b = b; this.i = 0 }
  get left() { return this.b.length - this.i }
  take(n, what = 'as many bytes as it says') {
    need(n <= this.left, what)
    return this.b.subarray(this.i, this.i += n)
  }
  byte() { return this.take(1)[0] }
  varint(max = Number.MAX_SAFE_INTEGER) {
    for (let n = 0, f = 1, i = 0; ; f *= 128, i++) {
      const b = this.byte()
      need(i < 8 && (b !== 0 || i === 0), 'varints are minimal')
      n += (b & 127) * f
      if (b < 128) { need(n <= max, 'a varint in its range'); return n }
    }
  }
  // uint is a varint of 64 bits: a BigInt where a number is not exact.
  uint() {
    for (let n = 0n, i = 0n; ; i++) {
      const b = this.byte()
      need(i < 10n && (b !== 0 || i === 0n), 'varints are minimal')
      n |= BigInt(b & 127) << 7n * i
      if (b < 128) { need(n < 2n ** 64n, 'a varint in its range'); return exact(n) }
    }
  }
}

function openNote(bytes, limit) {
  need(bytes.length <= limit, `at most ${limit} bytes`)
  const all = utf8(bytes)
  need(!/[\x00-\x09\x0b-\x1f]/.test(all), 'a note has no control characters')
  const cut = all.lastIndexOf('\n\n')
  need(cut >= 0, 'a note has signature lines')
  const lines = new Lines(all.slice(cut + 2))
  need(lines.rest.length >= 1 && lines.rest.length <= 32, '1 to 32 signature lines')
  const signatures = []
  while (lines.rest.length > 0) {
    const [name, b64] = lines.take(/^— ([^\p{White_Space}\p{Cc}+]+) (\S+)$/u, '— NAME BASE64')
    const raw = unb64(b64)
    need(raw.length > 4, 'a signature line has key ID and signature')
    signatures.push({ name, id: raw.subarray(0, 4), signature: raw.subarray(4) })
  }
  return { text: all.slice(0, cut + 1), signatures }
}

const ed25519 = (text, signature, key) =>
  verify(null, Buffer.from(text), createPublicKey({ key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key]), format: 'der', type: 'spki' }), signature)
const signedBy = (text, { name, id, signature }, as, key) => name === as && signature.length === 64 &&
  same(id, sha256(name, Buffer.from([10, 1]), key).subarray(0, 4)) && ed25519(text, signature, key)

export const leafHash = data => sha256(Buffer.from([0]), data)
export const nodeHash = (l, r) => sha256(Buffer.from([1]), l, r)
export const treeHash = hashes => {
  if (hashes.length < 2) return hashes[0] ?? sha256('')
  let k = 1
  while (2 * k < hashes.length) k *= 2
  return nodeHash(treeHash(hashes.slice(0, k)), treeHash(hashes.slice(k)))
}

// 3. Blocks.

const MAX_BLOCK = 65717, MAX_FILE = 2 ** 30, RAW = 0x55, PB = 0x70

// A CID here is its text; cidOf takes one from bytes.
function cidOf(b) {
  const p = b.take(4, 'a whole CID')
  need(p[0] === 1 && (p[1] === RAW || p[1] === PB) && p[2] === 0x12 && p[3] === 32, 'CIDs are version 1, raw or dag-pb, SHA-256')
  return 'b' + b32(Buffer.concat([p, b.take(32, 'a whole CID')]))
}
function parseCID(s, codec) {
  need(typeof s === 'string' && s[0] === 'b', 'CIDs are version 1, in base32')
  const b = new Bytes(unb32(s.slice(1)))
  need(cidOf(b) === s && b.left === 0 && (codec === undefined || b.b[1] === codec), 'a CID of that kind')
  return { codec: b.b[1], digest: b.b.subarray(4) }
}
function checkBlock(cid, data) {
  need(data.length <= MAX_BLOCK, `a block has at most ${MAX_BLOCK} bytes`)
  const { codec, digest } = parseCID(cid)
  need(same(sha256(data), digest), 'a block has the hash of its CID')
  return codec
}

// fields reads a protobuf message: [number, value], value a number or bytes.
function fields(bytes) {
  const b = new Bytes(bytes), out = []
  while (b.left > 0) {
    const tag = b.varint(2 ** 32 - 1), wire = tag & 7
    need(tag > 7 && (wire === 0 || wire === 2), 'protobuf of dag-pb and UnixFS')
    out.push([tag >>> 3, wire === 0 ? b.uint() : b.take(b.varint())])
  }
  return out
}
function dagpb(data) {
  const links = []
  let inner
  for (const [n, v] of fields(data)) {
    need(inner === undefined && (n === 1 || n === 2) && typeof v === 'object', 'dag-pb: links, then data')
    if (n === 1) { inner = v; continue }
    const parts = fields(v), [hash, name, size] = parts.map(([, w]) => w)
    need(parts.map(([m]) => m).join() === '1,2,3' && typeof hash === 'object' && typeof name === 'object' && typeof size !== 'object', 'a link has hash, name and size, in this order')
    const c = new Bytes(hash), link = { cid: cidOf(c), name: utf8(name) }
    need(c.left === 0 && size < 2n ** 63n, 'a CID alone, and a size')
    links.push(link)
  }
  need(inner, 'a node has data')
  return { links, inner }
}
function folder(data) {
  const { links, inner } = dagpb(data)
  need(same(inner, [8, 1]), 'a folder is UnixFS type 1')
  const out = new Map()
  let last = Buffer.alloc(0)
  for (const { name, cid } of links) {
    need(name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name), 'names of a folder')
    need(Buffer.compare(last, Buffer.from(name)) < 0, 'names are sorted and distinct')
    last = Buffer.from(name)
    out.set(name, cid)
  }
  return out
}
function directory(data) {
  const d = folder(data)
  need(d.has('front.age'), 'an edition has front.age')
  return d
}
function fileNode(data) {
  const { links, inner } = dagpb(data)
  const [[one, type] = [], [three, size] = [], ...rest] = fields(inner), sizes = rest.map(([, v]) => v)
  need(one === 1 && type === 2 && three === 3 && rest.every(([n]) => n === 4), 'a file is UnixFS type 2, of filesize and blocksizes alone, in this order')
  need(links.length >= 1 && links.length <= 174 && sizes.length === links.length, 'one size a link, at most 174')
  links.forEach((l, i) => need(l.name === '' && sizes[i] > 0 && sizes[i] <= (parseCID(l.cid).codec === RAW ? MAX_BLOCK : MAX_FILE), 'sizes of links'))
  need(sizes.reduce((a, b) => a + b, 0) === size && size <= MAX_FILE, 'sizes add up to filesize')
  return { links, sizes, size }
}

// file joins the blocks of one file; pieces, if given, gets them depth first.
function file(blocks, cid, pieces = [], size = undefined, depth = 3, leaves = []) {
  const data = blocks.get(cid)
  need(data !== undefined && depth > 0, 'all blocks of a file are there')
  pieces.push(data)
  if (checkBlock(cid, data) === RAW) {
    need(data.length > 0 && (size === undefined || data.length === size), 'a block as long as its node says')
    leaves.push(data.length)
    return data
  }
  const n = fileNode(data)
  need(size === undefined || n.size === size, 'a node as long as the one above says')
  return Buffer.concat(n.links.map((l, i) => file(blocks, l.cid, pieces, n.sizes[i], depth - 1, leaves)))
}

// layer joins the blocks of a layer's file, which are cut along age's chunks (3.1).
function layer(blocks, cid, pieces, first = MAX_BLOCK, rest = MAX_BLOCK - 165) {
  const leaves = [], data = file(blocks, cid, pieces, undefined, 3, leaves)
  leaves.forEach((n, i) => need(i === leaves.length - 1 ? n <= (i ? rest : first) : n === (i ? rest : first), 'blocks follow the chunks'))
  return data
}

// 4. The edition as one file.

function* sections(car) {
  const b = new Bytes(car)
  const head = new Bytes(b.take(b.varint(65536), 'the file is cut off'))
  const text = s => need(same(head.take(s.length), Buffer.from(s)), 'a CARv1 header with roots')
  text([0xa2, 0x65, ...Buffer.from('roots')])
  let n = head.byte()
  if (n === 0x98) { n = head.byte(); need(n >= 24, 'the header is in its one form') }
  else if (n === 0x99) { n = head.take(2).readUInt16BE(); need(n >= 256, 'the header is in its one form') }
  else { need(n >= 0x80 && n < 0x98, 'a list of roots'); n -= 0x80 }
  need(n <= 1000, 'at most 1,000 roots')
  const roots = []
  for (let i = 0; i < n; i++) {
    need(same(head.take(5), [0xd8, 42, 0x58, 37, 0]), 'a root is a CID')
    roots.push(cidOf(head))
  }
  text([0x67, ...Buffer.from('version'), 1])
  need(head.left === 0, 'a header of roots and version')
  yield { roots }
  while (b.left > 0) {
    const s = new Bytes(b.take(b.varint(MAX_BLOCK + 36), 'the file is cut off'))
    const cid = cidOf(s), data = s.take(s.left)
    checkBlock(cid, data)
    yield { cid, data }
  }
}

// openCAR checks a whole file of one edition; channel is the ID, as bytes.
export function openCAR(car, channel) {
  const it = sections(car)
  const { roots } = it.next().value
  need(roots.length >= 3, 'the header names root notes, head and folder')
  const front = roots.slice(0, -1).map(want => {
    const { value } = it.next()
    need(value?.cid === want, 'the blocks of the header come first, in order')
    parseCID(want, RAW)
    return value.data
  })
  const chain = rootChain(channel, front.slice(0, -1))
  const head = textHead(front.at(-1), channel, chain)
  need(head.root === roots.at(-1), 'header and head name the same edition')
  const blocks = new Map(), linked = new Set([head.root])
  for (const { cid, data } of it) {
    need(linked.has(cid) && !blocks.has(cid), 'a block is linked from one before it, and there once')
    need(blocks.size > 0 || cid === head.root, 'the folder follows the head')
    blocks.set(cid, data)
    if (checkBlock(cid, data) === PB) dagpb(data).links.forEach(l => linked.add(l.cid))
  }
  need(linked.size === blocks.size, 'no block is missing')
  return { chain, head, blocks, dir: directory(blocks.get(head.root)) }
}

// 5. Root notes.

const KEY = '([A-Za-z0-9+/]{43}=)'

function rootNote(bytes) {
  const note = openNote(bytes, 8192), l = new Lines(note.text), key = s => unb64(s, 32)
  l.take(/^tamizdat\/v1\/root$/, 'tamizdat/v1/root')
  const r = { ...note, version: number(l.take(/^version (\d+)$/, 'version')[0]) }
  r.channel = l.take(/^channel (-|[a-z2-7]{52})$/, 'channel')[0]
  r.previous = l.take(/^previous (-|\S{44})$/, 'previous')[0]
  r.threshold = number(l.take(/^threshold (\d+)$/, 'threshold')[0])
  r.roots = []
  while (l.at(/^root /)) r.roots.push(key(l.take(new RegExp(`^root ed25519 ${KEY}$`), 'root ed25519')[0]))
  const [gen, log, notAfter, base, hash] = l.take(new RegExp(`^log (\\d+) ed25519 ${KEY} (\\d+) (\\d+) (-|\\S{44})$`), 'log')
  Object.assign(r, { generation: u32(gen), log: key(log), notAfter: time(notAfter), base: u32(base), hash })
  r.quorum = number(l.take(/^quorum (\d+)$/, 'quorum')[0])
  r.witnesses = []
  r.names = []
  while (l.at(/^witness /)) {
    const [name, k] = l.take(new RegExp(`^witness ([!-*,-~]{1,100}) ed25519 ${KEY}$`), 'witness')
    r.names.push(name)
    r.witnesses.push(key(k))
  }
  r.ipns = key(l.take(new RegExp(`^ipns ed25519 ${KEY}$`), 'ipns')[0])
  const [moved] = l.take(/^moved (-|[a-z2-7]{52})$/, 'moved')
  l.end()
  need(r.version >= 1 && (r.version === 1) === (r.channel === '-') && (r.version === 1) === (r.previous === '-'), 'only version 1 has no channel and no previous')
  need(r.roots.length >= 1 && r.roots.length <= 16 && r.threshold >= 1 && r.threshold <= r.roots.length, 'the threshold is 1 to the number of root keys, which are at most 16')
  need(r.witnesses.length <= 16 && r.quorum <= r.witnesses.length, 'the quorum is at most the number of witnesses, which are at most 16')
  const keys = [...r.roots, r.log, ...r.witnesses, r.ipns].map(k => k.toString('hex'))
  need(new Set(keys).size === keys.length, 'one role a key')
  need((r.base === 0) === (hash === '-'), 'a base has a hash')
  need(r.generation > 0 ? r.version > 1 : r.base === 0, 'version 1 is of generation 0, which has no base')
  for (const b of [moved !== '-' && unb32(moved), hash !== '-' && unb64(hash, 32)]) need(!b || b.some(c => c !== 0), 'IDs and hashes of zeros do not occur')
  return r
}
const enough = (note, keys, n) => keys.filter(k => note.signatures.some(s => signedBy(note.text, s, 'tamizdat/v1/root', k))).length >= n

// rootChain checks notes from version 1 on.
export function rootChain(channel, notes) {
  let last
  return notes.map(bytes => {
    const r = rootNote(bytes)
    if (!last) {
      need(r.version === 1, 'the chain begins with version 1')
      need(same(sha256(r.text), channel), 'the text of note 1 hashes to the channel ID')
    } else {
      need(r.version === last.version + 1 && r.channel === b32(channel), 'the next version, of this channel')
      need(same(unb64(r.previous, 32), sha256(last.text)), 'previous is the hash of the previous text')
      need(r.generation === last.generation || r.generation === last.generation + 1, 'the same generation or the next')
      need(r.generation !== last.generation || same(r.log, last.log) && r.base === last.base && r.hash === last.hash, 'one log a generation')
      need(enough(r, last.roots, last.threshold), 'the previous threshold signed it too')
    }
    need(enough(r, r.roots, r.threshold), "the note's own threshold signed it")
    return last = r
  })
}

// 6. Leaf, 7. heads.

function parseLeaf(text) {
  const l = new Lines(text)
  l.take(/^tamizdat\/v1\/leaf$/, 'tamizdat/v1/leaf')
  const leaf = { text, channel: l.take(/^([a-z2-7]{52})$/, 'ID')[0] }
  leaf.edition = u32(l.take(/^edition (\d+)$/, 'edition')[0])
  leaf.epoch = u32(l.take(/^epoch (\d+)$/, 'epoch')[0])
  leaf.version = u32(l.take(/^root-note (\d+)$/, 'root-note')[0])
  leaf.root = l.take(/^(b[a-z2-7]+)$/, 'CID')[0]
  parseCID(leaf.root, PB)
  ;[leaf.large, leaf.small] = l.take(/^front ([a-z2-7]{26}) ([a-z2-7]{26})$/, 'front')
  leaf.content = unb64(l.take(/^content (\S+)$/, 'content')[0], 32)
  leaf.date = time(l.take(/^date (\d+)$/, 'date')[0])
  l.end()
  ;[unb32(leaf.channel), unb32(leaf.large), unb32(leaf.small)]
  return leaf
}

// witnessed are the names of a root note's witnesses who have cosigned a head (7.4). In
// the compact form cosignatures have no name.
const witnessed = (h, r) => r.names.filter((name, i) => h.cosignatures.some(c => cosigned(h, c, name, r.witnesses[i])))
function cosigned(h, c, name, key) {
  const at = c.signature.length === 72 ? c.signature.readBigUInt64BE() : 0n
  return (c.name ?? name) === name && at > 0n && at < 2n ** 63n && same(c.id, sha256(name, Buffer.from([10, 4]), key).subarray(0, 4)) &&
    ed25519(`cosignature/v1\ntime ${at}\n${h.checkpoint}`, c.signature.subarray(8), key)
}

// checkHead is 7.3, for both forms; old: also one under the key of a generation that has
// ended, for who has to know (8).
function checkHead(h, channel, chain, old = false) {
  need(h.leaf.channel === b32(channel), "the channel is the reader's")
  const newest = chain.at(-1)
  need(h.leaf.version <= newest.version && h.generation <= newest.generation, 'newer root note needed')
  need(h.leaf.version >= 1, 'root notes count from 1')
  const r = chain.findLast(n => n.generation === h.generation)
  need(r, 'a generation that there was')
  need(signedBy(h.checkpoint, h.signature, h.origin, r.log), 'the log key signed it')
  need(r.notAfter === 0 || h.time <= r.notAfter, 'signed while the log key was good')
  need(same(h.tree, h.path.reduce((t, p) => nodeHash(p, t), leafHash(h.leaf.text))), 'leaf and path give the tree hash')
  const size = h.leaf.edition + 1
  need(size >= r.base, 'no shorter than what its generation began with')
  if (r.base > 0 && size === r.base) need(same(h.tree, unb64(r.hash, 32)), 'the tree that its generation began with')
  if (r.base > 0 && size === r.base + 1) need(same(h.path.slice(1).reduce((t, p) => nodeHash(p, t), h.path[0]), unb64(r.hash, 32)), 'goes on from the tree that its generation began with')
  need(old || h.generation === newest.generation, 'the key of the newest generation signed it')
  // Lines of witnesses whom no root note names yet are absent, also once one does.
  const cosignatures = h.cosignatures.filter(c => newest.names.some((name, i) => cosigned(h, c, name, newest.witnesses[i])))
  return { ...h.leaf, size, path: h.path, generation: h.generation, time: h.time, tree: h.tree, leafHash: leafHash(h.leaf.text), checkpoint: h.checkpoint, cosignatures, seen: witnessed(h, newest), of: newest.names.length, quorum: newest.quorum }
}
const ones = n => { let c = 0; for (; n > 0; n = Math.floor(n / 2)) c += n % 2; return c }

export function textHead(bytes, channel, chain, old) {
  need(bytes.length <= 4096, 'at most 4,096 bytes')
  const all = utf8(bytes), cut = all.indexOf('\n\n')
  need(cut > 0, 'a tlog-proof')
  const l = new Lines(all.slice(0, cut + 1))
  l.take(/^c2sp\.org\/tlog-proof@v1$/, 'c2sp.org/tlog-proof@v1')
  const leaf = parseLeaf(utf8(unb64(l.take(/^extra (\S+)$/, 'extra')[0])))
  need(u32(l.take(/^index (\d+)$/, 'index')[0]) === leaf.edition, 'edition = index')
  const path = l.rest.map(s => unb64(s, 32))
  need(path.length === ones(leaf.edition), 'as many hashes as the edition number has one bits')
  const note = openNote(Buffer.from(all.slice(cut + 2)), 4096), c = new Lines(note.text)
  const [origin, id, gen] = c.take(/^(tamizdat\/v1\/log\/([a-z2-7]{52})\/(\d+))$/, 'origin')
  need(number(c.take(/^(\d+)$/, 'size')[0]) === leaf.edition + 1 && id === leaf.channel, 'edition = size - 1, of one channel')
  const tree = unb64(c.take(/^(\S+)$/, 'hash')[0], 32)
  const at = time(c.take(/^time (\d+)$/, 'time')[0])
  c.end()
  return checkHead({ leaf, path, origin, generation: u32(gen), tree, time: at, checkpoint: note.text, signature: note.signatures[0], cosignatures: note.signatures.slice(1) }, channel, chain, old)
}

export function compactHead(bytes, channel, chain, old) {
  need(bytes.length <= 1040, 'at most 1,040 bytes')
  const b = new Bytes(bytes), max = 2 ** 32 - 1
  need(b.byte() === 1, 'the first byte is 1')
  const [edition, epoch, version, generation] = [0, 0, 0, 0].map(() => b.varint(max))
  const date = b.varint(2 ** 40), at = b.varint(2 ** 40), id = b32(channel)
  const root = 'b' + b32(Buffer.concat([Buffer.from([1, PB, 0x12, 32]), b.take(32)]))
  const large = b32(b.take(16)), small = b32(b.take(16)), content = b.take(32)
  const path = Array.from({ length: ones(edition) }, () => b.take(32))
  const signature = b.take(64)
  need(b.left % 76 === 0, 'its length follows from the edition number and the number of cosignatures')
  const cosignatures = Array.from({ length: b.left / 76 }, () => ({ id: b.take(4), signature: b.take(72) }))
  const leaf = parseLeaf(`tamizdat/v1/leaf\n${id}\nedition ${edition}\nepoch ${epoch}\nroot-note ${version}\n${root}\nfront ${large} ${small}\ncontent ${content.toString('base64')}\ndate ${date}\n`)
  const tree = path.reduce((t, p) => nodeHash(p, t), leafHash(leaf.text)), origin = `tamizdat/v1/log/${id}/${generation}`
  const r = chain.findLast(n => n.generation === generation)
  need(r, 'newer root note needed')
  return checkHead({
    leaf, path, origin, generation, tree, time: at, checkpoint: `${origin}\n${edition + 1}\n${tree.toString('base64')}\ntime ${at}\n`,
    signature: { name: origin, id: sha256(origin, Buffer.from([10, 1]), r.log).subarray(0, 4), signature }, cosignatures,
  }, channel, chain, old)
}

// 8. What a reader remembers.

// consistent checks an RFC 6962 consistency proof (as RFC 9162, 2.1.4.2, has it) from the
// tree first of m leaves to the tree second of n, 0 < m < n.
function consistent(m, n, first, second, proof) {
  const path = (m & (m - 1)) === 0 ? [first, ...proof] : [...proof]
  need(path.length > 0 && path.every(h => h.length === 32), 'hashes have 32 bytes')
  let fn = m - 1, sn = n - 1, [fr, sr] = [path[0], path[0]]
  for (; fn % 2 === 1; fn = (fn - 1) / 2) sn = Math.floor(sn / 2)
  for (const c of path.slice(1)) {
    need(sn > 0, 'the proof has nothing more')
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(c, fr)
      sr = nodeHash(c, sr)
      for (; fn % 2 === 0 && fn > 0; fn /= 2) sn = Math.floor(sn / 2)
    } else sr = nodeHash(sr, c)
    fn = Math.floor(fn / 2)
    sn = Math.floor(sn / 2)
  }
  need(sn === 0 && same(fr, first) && same(sr, second), 'the proof leads from one tree to the other')
}

// leftOut tells whether a later generation has left out what a head states.
const leftOut = (h, chain) => chain.some(r => r.generation > h.generation &&
  (r.base < h.size || r.base === h.size && !same(unb64(r.hash, 32), h.tree)))

// contradiction checks one pair of evidence, and returns the two heads.
function contradiction({ ours, theirs, root, proof }, channel, chain) {
  const head = text => { need(typeof text === 'string', 'heads are texts'); return textHead(Buffer.from(text), channel, chain, true) }, b = head(theirs)
  if (!ours) {
    need(leftOut(b, chain), 'a generation has left it out')
    return { ours: null, theirs: b }
  }
  const a = head(ours), [short, long] = a.size <= b.size ? [a, b] : [b, a]
  need(a.generation === b.generation || !leftOut(a, chain) && !leftOut(b, chain), 'of two generations, neither is left out')
  if (short.size === long.size) need(!same(a.tree, b.tree), 'the heads state different trees')
  else {
    const was = unb64(root ?? '', 32)
    need(!same(was, short.tree), 'the larger one does not continue the smaller')
    consistent(short.size, long.size, was, long.tree, (proof ?? []).map(h => unb64(h, 32)))
  }
  return { ours: a, theirs: b }
}

// checkEvidence reads a file of evidence with nothing else at hand.
export function checkEvidence(bytes) {
  need(bytes.length <= 2 ** 20, 'at most 1 MiB')
  const f = json(bytes, EVIDENCE)
  need(f.v === 1 && f.forks?.length > 0, 'evidence of version 1, of a fork')
  const channel = unb32(f.channel ?? ''), notes = f.root_notes ?? []
  need(channel.length === 32 && notes.length > 0, 'the root notes of a channel')
  const chain = rootChain(channel, notes.map(n => Buffer.from(n)))
  return f.forks.map(e => contradiction(e, channel, chain))
}

// Reader is what one reader remembers of a channel, and concludes.
class Reader {
  constructor(channel) { Object.assign(this, { channel, notes: [], chain: [], head: null, best: null, begin: 0, edge: [], leaves: [], evidence: new Set(), settled: 0, withdrawn: null }) }
  get size() { return this.begin + this.leaves.length }
  // seen is how many witnesses of the highest root note, whichever that is now, have seen
  // the tree held: the head, or the best that was seen of its tree.
  get seen() {
    return Math.max(0, ...[this.head, this.best].filter(h => h && this.head && h.size === this.head.size && same(h.tree, this.head.tree)).map(h => witnessed(h, this.chain.at(-1)).length))
  }
  // at is our tree at a size, nothing where it is not known. The edge is nearest first.
  at(size, leaves = this.leaves) {
    if (size < Math.max(1, this.begin) || size > this.begin + leaves.length) return undefined
    const stack = [] // whole trees, their sizes falling
    for (let left = this.begin, i = this.edge.length - 1; i >= 0; i--) {
      const n = 2 ** Math.floor(Math.log2(left))
      stack.push([n, this.edge[i]])
      left -= n
    }
    for (const l of leaves.slice(0, size - this.begin)) {
      stack.push([1, l])
      while (stack.length > 1 && stack.at(-1)[0] === stack.at(-2)[0]) {
        const [n, r] = stack.pop(), [, s] = stack.pop()
        stack.push([2 * n, nodeHash(s, r)])
      }
    }
    return stack.reduceRight(([, r], [, s]) => [0, nodeHash(s, r)])[1]
  }
  // accuse keeps evidence; of two heads one that enough witnesses have seen overrules one
  // that they have not.
  accuse(h) {
    if (!this.head) return 'fork'
    this.evidence.add(`fork ${h.generation} ${h.size} ${h.tree.toString('hex')} ${h.time}`)
    if (this.seen >= h.quorum || h.seen.length < h.quorum) return 'fork'
    this.begins(h)
    this.withdrawn = 0
    return 'overruled'
  }
  begins(h) { Object.assign(this, { begin: h.edition, edge: h.path, leaves: [h.leafHash], head: h }) }
  // drop withdraws the editions from first on, and lets the head go.
  drop(first) {
    this.withdrawn = Math.min(first, this.withdrawn ?? first)
    if (this.head && leftOut(this.head, this.chain)) this.evidence.add(`left out ${this.head.size}`)
    this.head = null
  }
  forget() { Object.assign(this, { begin: 0, edge: [], leaves: [] }) }
  note(bytes) {
    const before = this.chain.at(-1)?.generation ?? 0
    this.notes.push(bytes)
    this.chain = rootChain(this.channel, this.notes)
    const { generation, base, hash } = this.chain.at(-1)
    if (generation === before) return
    if (this.size > 0 && base <= this.size) {
      const tree = this.at(base)
      if (tree === undefined) { this.drop(base); this.forget() }
      else if (!same(tree, unb64(hash, 32))) { this.drop(0); this.forget() }
      else if (base < this.size) { this.drop(base); this.leaves = this.leaves.slice(0, base - this.begin) }
    }
    this.settled = this.evidence.size
  }
  see(bytes) {
    const h = textHead(bytes, this.channel, this.chain, true)
    if (h.generation < this.chain.at(-1).generation) return ['old', h]
    return [this.verdict(h), h]
  }
  verdict(h) {
    if (this.size === 0) {
      this.begins(h)
      return 'newer'
    }
    if (h.edition > this.size) return 'provisional'
    if (h.size > this.size) {
      const folds = this.fold(h, [])
      return folds === 'begun anew' ? 'provisional' : folds
    }
    const ours = this.at(h.size)
    if (ours && !same(ours, h.tree)) return this.accuse(h)
    if (h.size < this.size) return 'stale'
    const held = this.head, more = held && h.seen.length > this.seen
    if (more) this.best = h
    if (!held || h.generation > held.generation || h.time > held.time) {
      this.head = h
      if (held && witnessed(held, this.chain.at(-1)).length > this.seen) this.best = held
    }
    return !held ? 'newer' : more || this.head === h ? 'heartbeat' : 'same'
  }
  fold(h, between) {
    need(between.length === h.edition - this.size, 'the leaves between')
    const grown = [...this.leaves, ...between, h.leafHash], { base, hash } = this.chain.at(-1), older = base > this.size
    if ((older && !same(this.at(base, grown), unb64(hash, 32))) || !same(this.at(h.size, grown), h.tree)) return older ? 'begun anew' : this.accuse(h)
    Object.assign(this, { leaves: grown, head: h })
    return 'newer'
  }
  // replace takes a head whose whole log is known, in place of a history that was another's.
  replace(h, log) {
    const all = [...log, h.leafHash], { base, hash } = this.chain.at(-1)
    need(same(treeHash(all.slice(0, base)), unb64(hash, 32)) && same(treeHash(all), h.tree), 'the log that its generation began with')
    if (this.head && !leftOut(this.head, this.chain) && !same(treeHash(all.slice(0, this.head.size)), this.head.tree)) this.evidence.add(`replaced ${this.head.size}`)
    const i = this.leaves.findIndex((l, i) => !same(l, all[this.begin + i])), edge = this.begin === 0 || same(this.at(this.begin), treeHash(all.slice(0, this.begin)))
    this.drop(edge ? i < 0 ? this.size : this.begin + i : 0)
    this.settled = this.evidence.size
    Object.assign(this, { begin: 0, edge: [], leaves: all, head: h })
  }
}

// 2. Layers.

export const passphrase = (key, channel, edition, layer) =>
  hkdf(key, Buffer.concat([Buffer.from('tamizdat/v1/layer\n'), channel, u64(edition), Buffer.from(layer)]), 32).toString('base64url')

// age opens a file with a passphrase or an identity; its own errors are refusals.
async function age(bytes, prepare) {
  const d = new Decrypter()
  prepare(d)
  try { return Buffer.from(await d.decrypt(bytes)) } catch (e) { throw new Refused(`age: ${e.message}`) }
}

async function openLayer(bytes, pass) {
  need(bytes.length >= 182 && bytes.length <= MAX_FILE, 'the size of a layer')
  need(/^age-encryption\.org\/v1\n-> scrypt [A-Za-z0-9+/]{22} 1\n[A-Za-z0-9+/]{43}\n--- [A-Za-z0-9+/]{43}\n$/.test(bytes.subarray(0, 149).toString('latin1')), 'one scrypt stanza of work factor 1')
  return age(bytes, d => d.addPassphrase(pass))
}

// frameAt reads a zstd frame (RFC 8878) that begins at i: where it ends, which dictionary
// it names (0: none), how large it says that its content is, and the window it asks for.
function frameAt(p, i) {
  const b = new Bytes(p)
  b.i = i
  need(b.take(4).readUInt32LE() === 0xfd2fb528, 'a zstd frame')
  const d = b.byte(), single = d >> 5 & 1, idSize = [0, 1, 2, 4][d & 3], sizeSize = [single, 2, 4, 8][d >> 6]
  need((d & 8) === 0, 'a zstd frame')
  const w = single ? 0 : b.byte()
  const id = idSize && b.take(idSize).readUIntLE(0, idSize), s = b.take(sizeSize)
  const size = [undefined, () => s[0], () => s.readUInt16LE() + 256, undefined, () => s.readUInt32LE()][sizeSize]?.() ??
    (sizeSize === 8 ? Number(s.readBigUInt64LE()) : undefined)
  const window = single ? size : 2 ** (10 + (w >> 3)) * (1 + (w & 7) / 8)
  for (let last = 0; !last;) {
    const h = b.take(3).readUIntLE(0, 3)
    last = h & 1
    need((h >> 1 & 3) !== 3 && h >> 3 <= 128 * 1024, 'a zstd block of at most 128 KiB')
    b.take((h >> 1 & 3) === 1 ? 1 : h >> 3)
  }
  b.take(d & 4 ? 4 : 0)
  return { end: b.i, id, size, window }
}
// frames splits a plaintext (2.4) into [offset, size] of its frames, and checks its padding.
function frames(p) {
  const out = []
  for (let i = 0; i < p.length;) {
    if (p.length - i >= 8 && p.readUInt32LE(i) === 0x184d2a50) {
      need(p.readUInt32LE(i + 4) === p.length - i - 8 && p.subarray(i + 8).every(c => c === 0), 'padding is one skippable frame of zeros, the last thing')
      break
    }
    const { end } = frameAt(p, i)
    out.push([i, end - i])
    i = end
  }
  return out
}
let context // of zstd, for all frames
function decompress(frame, limit, dict) {
  const { id, size, window } = frameAt(frame, 0)
  need(window <= limit, `a window of at most ${limit} bytes`)
  if (dict) {
    need(id === dict.id, 'a text names the dictionary of its edition')
    need(size !== undefined && size <= limit, `a content of at most ${limit} bytes, whose size the frame says`)
    try { return Buffer.from(decompressUsingDict(context ??= createDCtx(), frame, dict.bytes, { defaultHeapSize: limit })) } catch (e) { throw new Refused(`zstd: ${e.message}`) }
  }
  need(id === 0, 'a frame without dictionary')
  const parts = []
  let n = 0
  const d = new Decompress(c => { n += c.length; need(n <= limit, `at most ${limit} bytes`); parts.push(Buffer.from(c)) })
  try {
    for (let i = 0; i < frame.length; i += 4096) d.push(frame.subarray(i, i + 4096), i + 4096 >= frame.length)
  } catch (e) { throw e instanceof Refused ? e : new Refused(`zstd: ${e.message}`) }
  const content = Buffer.concat(parts)
  need(size === undefined || size === n, 'a content of the size that the frame says')
  // The one above stops in time, but takes wrong checksums and some blocks that are none.
  let again
  try { again = decompressWhole(frame, { defaultHeapSize: n }) } catch (e) { throw new Refused(`zstd: ${e.message}`) }
  need(same(again, content), 'a frame that is read in one way')
  return content
}

// What the text calls the type of a value: in JSON, with what lies in it; [t] are arrays of
// t, {key: t} objects with keys that may be there, and {'*': t} ones of any keys.
const DNS = { l: 'string', s: 'string' }, SPAN = { o: 'number', n: 'number' }, DICT = { ed: 'number', n: 'number', dns: DNS }
const HEADLINE = {
  id: 'string', title: 'string', lead: 'string', lang: 'string', dir: 'string', date: 'string', source: 'string', corrected: 'string', ed: 'number', text: SPAN,
  images: [{ type: 'string', w: 'number', h: 'number', span: SPAN }],
}
const FRONT = {
  v: 'number', channel: 'string', name: 'string', langs: ['string'], edition: 'number', epoch: 'number', date: 'string', articles: [HEADLINE],
  past: [{ n: 'number', epoch: 'number', root: 'string', date: 'string', front: DNS, text: DNS, dict: DICT, articles: 'number' }],
  leaves: 'string', text: { prologue: 'string', dns: DNS }, media: { prologue: 'string' }, dict: DICT, log: DNS, gone: ['string'], replaces: { '*': 'string' },
}
const ARTICLE = {
  v: 'number', salt: 'string', id: 'string', title: 'string', lead: 'string', body: 'string', lang: 'string', dir: 'string', date: 'string', source: 'string',
  images: [{ name: 'string', type: 'string', alt: 'string', w: 'number', h: 'number' }],
}
const EVIDENCE = { v: 'number', channel: 'string', root_notes: ['string'], forks: [{ ours: 'string', theirs: 'string', root: 'string', proof: ['string'] }] }
function typed(v, t) {
  if (typeof t === 'string') return typeof v === t
  if (Array.isArray(t)) return Array.isArray(v) && v.every(e => typed(e, t[0]))
  return v !== null && typeof v === 'object' && !Array.isArray(v) && Object.entries(v).every(([k, e]) => !Object.hasOwn(t, k) && !t['*'] || typed(e, t['*'] ?? t[k]))
}

// fold puts letter case aside by Unicode's simple mappings, a code point at a time.
const fold = s => Array.from(s.toWellFormed(), c => {
  const upper = c.toUpperCase()
  return Array.from((Array.from(upper).length === 1 ? upper : c).toLowerCase())[0]
}).join('')

// json parses one object of a type: no key twice, letter case aside.
function json(bytes, type) {
  const text = utf8(bytes)
  let v
  try {
    JSON.parse(text)
    // A number is spelt without fraction and exponent, and 0 without a sign; others are of no type.
    v = JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/gs, t => t === '-0' || t[0] !== '"' && /[.eE]/.test(t) ? 'null' : t))
  } catch { throw new Refused('one JSON object') }
  need(v && typeof v === 'object' && !Array.isArray(v), 'one JSON object')
  const open = [] // of each level: the keys of an object, or nothing for an array; and how many elements
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[[\]{},]/gs)) {
    const top = open.at(-1)
    if (token === '{' || token === '[') { open.push({ keys: new Set(), n: 1 }); need(open.length <= 8, 'at most 8 levels') }
    else if (token === '}' || token === ']') open.pop()
    else if (token === ',') need(++top.n <= 2000, 'at most 2,000 elements')
    else if (token.endsWith(':')) {
      const key = fold(JSON.parse(token.slice(0, -1)))
      need(!top.keys.has(key), 'no key twice')
      top.keys.add(key)
    }
  }
  need(typed(v, type), 'values are of the types that the text says')
  return v
}

const one = (s, max, min = 0) => typeof s === 'string' && Buffer.byteLength(s) >= min && Buffer.byteLength(s) <= max && !/\p{Surrogate}/u.test(s) && !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(s)
const whole = (n, max) => Number.isInteger(n) && n >= 0 && n <= max
const list = (v, max) => v === undefined || Array.isArray(v) && v.length <= max
const span = s => s && whole(s.o, MAX_FILE) && whole(s.n, 4 * 2 ** 20 + 65536) && s.n > 0
// Date takes days that no month has, and the hour 24: what it makes of them says another time.
const dated = s => typeof s === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(s) && !Number.isNaN(Date.parse(s)) && new Date(s).toISOString() === s.replace('Z', '.000Z')
const label = s => typeof s === 'string' && /^[a-z2-7]{25}[aeimquy4]$/.test(s) // canonical: the last two bits are zero
const names = v => v === undefined || label(v.l) && label(v.s)

const articleID = s => typeof s === 'string' && /^[0-9a-f]{16}$/.test(s)
const language = s => typeof s === 'string' && /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,33})[A-Za-z0-9]$/.test(s)

function articleHead(a) {
  need(articleID(a.id), 'IDs are 16 hex characters')
  need(one(a.title, 500, 1) && (a.lead === undefined || one(a.lead, 1000)), 'titles and leads are one line')
  need(language(a.lang) && (a.dir === 'ltr' || a.dir === 'rtl') && dated(a.date), 'language, direction, date')
  need(a.source === undefined || one(a.source, 2000) && /^https?:\/\//.test(a.source), 'sources are http or https')
}
const picture = i => (i.type === 'image/webp' || i.type === 'image/jpeg') && whole(i.w, 65535) && whole(i.h, 65535) && i.w > 0 && i.h > 0

export async function openFront(bytes, key, channel, leaf) {
  need(bytes.length <= 4 * 2 ** 20, 'at most 4 MiB')
  const plain = await openLayer(bytes, passphrase(key, channel, leaf.edition, 'front')), fs = frames(plain)
  need(fs.length === 1, 'a front page is one zstd frame and padding')
  const f = json(decompress(plain.subarray(0, fs[0][1]), 4 * 2 ** 20), FRONT)
  need(f.v === 1, 'v is 1')
  need(f.channel === b32(channel) && f.edition === leaf.edition, 'channel and edition are those of the leaf')
  need(leaf.epoch === undefined || f.epoch === leaf.epoch, 'the epoch is that of the leaf')
  need(one(f.name, 500, 1) && list(f.langs, 64) && f.langs && dated(f.date) && f.articles && list(f.articles, 2000) && list(f.past, 200) && list(f.gone, 2000), 'the fields of a front page')
  need(f.langs.every(language), 'languages')
  need((f.gone ?? []).every(articleID) && Object.entries(f.replaces ?? {}).flat().every(articleID), 'what is gone or replaced is named by IDs')
  const leaves = unb64(f.leaves ?? '')
  need(leaves.length % 32 === 0 && leaves.length <= 32 * Math.min(16, f.edition), 'at most 16 leaves, of 32 bytes, as many as editions before')
  for (const l of [f.text, f.media]) if (l) unb64(l.prologue, 165)
  const dictionary = (d, edition) => d === undefined || whole(d?.ed, edition) && whole(d.n, 256 * 1024) && d.n > 0 && names(d.dns)
  need(dictionary(f.dict, f.edition), "a dictionary is this edition's or an older one's")
  const editions = new Set([f.edition])
  for (const p of f.past ?? []) {
    need(whole(p.n, f.edition - 1) && !editions.has(p.n) && whole(p.epoch, 2 ** 32 - 1) && dated(p.date) && (p.articles === undefined || whole(p.articles, 2000)) && names(p.front) && names(p.text) && dictionary(p.dict, p.n), 'older editions')
    parseCID(p.root, PB)
    editions.add(p.n)
  }
  const ids = new Set()
  for (const a of f.articles) {
    articleHead(a)
    need(!ids.has(a.id), 'article IDs are distinct')
    ids.add(a.id)
    need(a.corrected === undefined || dated(a.corrected), 'corrected is a date')
    need(editions.has(a.ed), 'an article lies in this edition or one of past')
    need(span(a.text) && list(a.images, 100) && (a.images ?? []).every(i => picture(i) && span(i.span)), 'spans lie in a layer')
  }
  need(names(f.text?.dns) && names(f.log), 'DNS names')
  return f
}

// standing are the articles that stand after these front pages, whatever their order, and
// the edition in which each lies (2.5).
export function standing(fronts) {
  const out = {}, gone = {}
  for (const f of fronts) {
    for (const a of f.articles) out[a.id] = Math.max(out[a.id] ?? 0, a.ed)
    for (const id of [...(f.gone ?? []), ...Object.entries(f.replaces ?? {}).filter(([a, b]) => a !== b).map(([, old]) => old)]) gone[id] = Math.max(gone[id] ?? 0, f.edition)
  }
  return Object.fromEntries(Object.entries(out).filter(([id, ed]) => !(gone[id] >= ed)).sort())
}

// readArticle reads one line of the text layer; h is the headline that leads there,
// if one does.
function readArticle(line, h) {
  need(line.at(-1) === 10, 'an article is one line')
  const a = json(line, ARTICLE)
  need(a.v === 1 && unb64(a.salt, 16), 'an article of version 1, salted')
  articleHead(a)
  need(typeof a.body === 'string' && Buffer.byteLength(a.body) <= 2 ** 20, 'a body of at most 1 MiB')
  need(list(a.images, 100) && (a.images ?? []).every(i => picture(i) && (i.alt === undefined || one(i.alt, 1000))), 'pictures of an article')
  need(!h || h.id === a.id && (h.images ?? []).length === (a.images ?? []).length, "the headline's ID and pictures")
  return { ...a, headline: h }
}
// spanned is the content of the frame that a span names.
function spanned(plain, { o, n }, limit, dict) {
  need(o + n <= plain.length && frameAt(plain, o).end === o + n, 'a span is one frame of the layer')
  return decompress(plain.subarray(o, o + n), limit, dict)
}
const MAX_LINE = 4 * 2 ** 20
// openDict reads the dictionary that an edition's texts need (2.8).
export async function openDict(bytes, key, channel, made) {
  need(bytes.length <= 256 * 1024, 'at most 256 KiB')
  const plain = await openLayer(bytes, passphrase(key, channel, made, 'dict')), fs = frames(plain)
  need(fs.length === 1, 'a dictionary is one zstd frame and padding')
  const d = decompress(plain.subarray(0, fs[0][1]), 128 * 1024)
  need(d.length >= 8 && d.readUInt32LE() === 0xec30a437, 'it begins with the magic number')
  const id = d.readUInt32LE(4)
  need(id >= 32768 && id <= 65535, 'IDs are 32,768 to 65,535')
  const dict = { id, bytes: d }
  decompress(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x22, id & 255, id >> 8, 1, 9, 0, 0, 120]), 1, dict) // "x": are its tables whole?
  return dict
}

// openTexts reads the articles of this edition, in the order of the layer.
async function openTexts(ed, key, channel, front) {
  const cid = ed.dir.get('text.age'), own = front.articles.filter(h => h.ed === front.edition)
  if (!cid) {
    need(own.length === 0, "a headline's text is there")
    return []
  }
  const bytes = layer(ed.blocks, cid)
  need(same(bytes.subarray(0, 165), unb64(front.text?.prologue, 165)), 'the prologue that the front page names')
  const plain = await openLayer(bytes, passphrase(key, channel, front.edition, 'text'))
  let dict
  if (front.dict) {
    need(ed.dir.has('dict.age'), 'the dictionary is there')
    const bytes = layer(ed.blocks, ed.dir.get('dict.age'))
    need(bytes.length === front.dict.n, 'it is as large as the front page says')
    dict = await openDict(bytes, key, channel, front.dict.ed)
  }
  const leaves = []
  const out = frames(plain).map(([o, n]) => {
    const line = decompress(plain.subarray(o, o + n), MAX_LINE, dict)
    const h = own.find(h => h.text.o === o)
    need(!h || h.text.n === n, "the headline's span")
    leaves.push(leafHash(line.subarray(0, -1)))
    return readArticle(line, h)
  })
  need(own.every(h => out.some(a => a.headline === h)), "a headline's text is there")
  need(same(treeHash(leaves), ed.head.content), "the texts are those of the leaf's content")
  return out
}

// readPicture takes a picture out of its member of the archive.
function readPicture(member) {
  need(member.length >= 512 && member.length % 512 === 0, 'a member of a tar archive')
  const octal = (i, n) => { // 7 or 11 digits, then NUL or a space
    const s = member.subarray(i, i + n).toString('latin1').replace(/[\0 ]+$/, '').trimStart()
    need(/^[0-7]+$/.test(s), 'a number of a tar header')
    return parseInt(s, 8)
  }
  const sum = member.subarray(0, 512).reduce((n, c, i) => n + (i >= 148 && i < 156 ? 32 : c), 0)
  need(octal(148, 8) === sum, 'a tar header has its checksum')
  const size = octal(124, 12)
  need(size > 0 && size <= 2 * 2 ** 20 && member.length === 512 + Math.ceil(size / 512) * 512, 'a picture of at most 2 MiB')
  need(member.subarray(512 + size).every(c => c === 0), 'zeros to a multiple of 512')
  return member.subarray(512, 512 + size)
}
const MAX_MEMBER = 2 * 2 ** 20 + 4096

// openMedia returns what finds one picture of the media layer by its headline's span.
async function openMedia(ed, key, channel, front) {
  const cid = ed.dir.get('media.age')
  if (!cid) return () => need(false, 'there is a media layer')
  const bytes = layer(ed.blocks, cid)
  need(same(bytes.subarray(0, 165), unb64(front.media?.prologue, 165)), 'the prologue that the front page names')
  const plain = await openLayer(bytes, passphrase(key, channel, front.edition, 'media'))
  frames(plain)
  return span => readPicture(spanned(plain, span, MAX_MEMBER))
}

// 9. Grants, 10. invites.

const domain = s => s.length <= 253 && s.split('.').every(l => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(l))
// An address of IPv4 in the form of IPv6 is none of IPv6's, however it is spelt.
const host = s => isIP(s) === 6 ? !/%|^::ffff:[^:]+:[^:]+$/.test(s) && new URL(`http://[${s}]/`).hostname === `[${s}]` : domain(s)
const authority = s => { const m = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(s), at = m?.[1] ?? m?.[2]; return m && isIP(at) === (m[1] ? 6 : 4) && host(at) && number(m[3], 65535) > 0 }
// URLs and multiaddresses by hand: what a library takes for one, and makes of it, differs.
const web = s => {
  const m = /^(https?):\/\/(?:\[([0-9a-f:.]+)\]|([0-9a-z._-]+))(?::(\d+))?(?:\/(?:[\w.~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?$/.exec(s)
  need(m && s.length <= 253, 'a URL of the one form, of at most 253 characters')
  const [, scheme, v6, name, port] = m
  need(v6 ? isIP(v6) === 6 && host(v6) : isIP(name) === 4 || domain(name) && !/(?:^|\.)\d+$/.test(name), 'a URL names a host')
  need(!port || number(port, 65535) > 0, 'ports are 1 to 65535')
  need(scheme === 'https' || v6 === '::1' || name === 'localhost' || isIP(name) === 4 && name.startsWith('127.'), 'https, unless loopback')
}
const peer = s => {
  const m = /^\/(ip4|ip6|dns[46]?)\/([^/]+)\/(?:tcp\/(\d+)|udp\/(\d+)\/quic-v1)\/p2p\/([1-9A-HJ-NP-Za-km-z]+)$/.exec(s)
  need(m && s.length <= 253, 'a multiaddress of the forms named, of at most 253 characters')
  const [, kind, at, tcp, udp, id] = m
  need(kind === 'ip4' ? isIP(at) === 4 : kind === 'ip6' ? isIP(at) === 6 && host(at) : domain(at), 'a multiaddress begins with an address or a name')
  need(number(tcp ?? udp, 65535) > 0, 'ports are 1 to 65535')
  const hash = base58.decode(id)
  need(hash[1] === hash.length - 2 && (hash[0] === 0 ? hash[1] > 0 && hash[1] <= 42 : hash[0] === 0x12 && hash[1] === 32), 'a peer ID is the multihash of a key')
}
function relay(h, port, pin) {
  need(host(h) && port > 0, 'a host and a port from 1 on')
  if (pin.every(c => c === 0)) need(!isIP(h) && /\.[^.]*[^0-9.][^.]*$/.test(h), 'a relay with a pin of zeros has a domain name')
}
function zone(name, at) {
  need(name.length <= 30 && domain(name), 'a zone of at most 30 lower-case characters')
  need(at === '-' || authority(at), 'an authority is an address and a port')
}

// findInvite looks behind each TAMIZDAT: for the longest stretch with its checksum. No
// character becomes two in upper case: ß is no SS.
function findInvite(pasted) {
  need(pasted.length <= 16384, 'at most 16 KiB')
  const upper = Array.from(pasted.toString(), c => Array.from(c.toUpperCase()).length === 1 ? c.toUpperCase() : c).join('')
  const parts = upper.replace(/[\p{White_Space}"'`><«»“”„|*\p{Cf}]/gu, '').split('TAMIZDAT:')
  need(parts.length > 1, 'it begins with TAMIZDAT:')
  for (let i = 1; i < parts.length && i <= 16; i++) {
    const s = /^[A-Z2-7]*/.exec(parts.slice(i).join('TAMIZDAT:'))[0].slice(0, 589)
    for (let n = s.length; n > 0; n--) {
      let raw
      try { raw = unb32(s.slice(0, n).toLowerCase()) } catch { continue }
      if (raw.length >= 5 && same(sha256(raw.subarray(0, -4)).subarray(0, 4), raw.subarray(-4))) return raw
    }
  }
  need(false, 'the checksum matches: it may be mistyped')
}

// A relay's ECHConfigList of one ECHConfig (RFC 9849), from its key and outer name.
function echList(key, name) {
  const u16 = n => { const b = Buffer.alloc(2); b.writeUInt16BE(n); return b }
  const config = Buffer.concat([key.subarray(0, 1), u16(0x20), u16(32), key, u16(8), u16(1), u16(1), u16(1), u16(3), Buffer.from([0, name.length]), Buffer.from(name), u16(0)])
  return Buffer.concat([u16(config.length + 4), u16(0xfe0d), u16(config.length), config])
}

// The protocols of multiaddresses: number, name, size in bytes.
const PROTOCOLS = new Map([[4, 'ip4', 4], [6, 'tcp', 2], [41, 'ip6', 16], [53, 'dns'], [54, 'dns4'], [55, 'dns6'], [273, 'udp', 2], [421, 'p2p'], [461, 'quic-v1', 0]].map(([n, ...p]) => [n, p]))
function binaryPeer(bytes) {
  const b = new Bytes(bytes)
  let out = ''
  while (b.left > 0) {
    const known = PROTOCOLS.get(b.varint())
    need(known, 'a multiaddress of the protocols named')
    const [name, size] = known
    const v = b.take(size ?? b.varint(253), 'a whole multiaddress')
    out += `/${name}`
    if (name === 'ip4') out += `/${v.join('.')}`
    else if (name === 'ip6') out += '/' + new URL(`http://[${v.toString('hex').match(/..../g).join(':')}]/`).hostname.slice(1, -1)
    else if (name === 'p2p') out += `/${base58.encode(new Uint8Array(v))}`
    else if (size === 2) out += `/${v.readUInt16BE()}`
    else if (size === undefined) out += `/${utf8(v)}`
  }
  peer(out)
  return out
}

// parseInvite reads what was pasted, as bytes.
export function parseInvite(pasted) {
  const raw = findInvite(pasted)
  const b = new Bytes(raw.subarray(0, -4))
  need(b.byte() === 1, 'the version is 1')
  const inv = { channel: b.take(32), seed: b.take(32), ipns: b.take(32), places: [] }
  let last // a relay, as long as nothing else stands behind it but its ECH
  while (b.left > 0) {
    const kind = b.byte(), p = new Bytes(b.take(b.byte(), 'every place is as long as it says'))
    if (kind === 1) {
      const port = p.take(2).readUInt16BE(), pin = p.take(16), prefix = p.take(24), h = utf8(p.take(p.left))
      relay(h, port, pin)
      inv.places.push(`relay ${h} ${port} ${b32(pin)} ${prefix.toString('base64url')} -`)
      last = inv.places.length - 1
    } else if (kind === 6) {
      need(last !== undefined && inv.places[last].endsWith(' -'), 'a place of kind 6 follows its relay, once')
      const key = p.take(32), name = utf8(p.take(p.left))
      need(domain(name), 'an outer name is a lower-case domain name')
      inv.places[last] = inv.places[last].slice(0, -1) + echList(key, name).toString('base64')
    } else if (kind === 2) {
      const [name, ...at] = utf8(p.take(p.left)).split('@')
      need(at.join('@') !== '-', 'an authority is an address and a port')
      zone(name, at.length === 0 ? '-' : at.join('@'))
      inv.places.push(`zone ${name} ${at.length === 0 ? '-' : at.join('@')}`)
    } else if (kind === 3) inv.places.push(`peer ${binaryPeer(p.take(p.left))}`)
    else if (kind === 4 || kind === 5) {
      const u = utf8(p.take(p.left))
      web(u)
      inv.places.push(`${kind === 4 ? 'gateway' : 'mirror'} ${u}`)
    } // others belong to later versions
    if (kind !== 1 && kind !== 6) last = undefined
  }
  return inv
}

export const grantName = (seed, channel) => b32(hkdf(seed, Buffer.concat([Buffer.from('tamizdat/v1/grant\n'), channel]), 16))

export async function openGrant(bytes, seed, channel, chain) {
  need(bytes.length === 4096 || bytes.length === 8192, 'exactly 4,096 or 8,192 bytes')
  const header = bytes.subarray(0, 1627).toString('latin1')
  need(/^age-encryption\.org\/v1\n-> mlkem768x25519 \S+\n(?:[A-Za-z0-9+/]+\n)+--- \S{43}\n$/.test(header), 'one mlkem768x25519 stanza of 1,627 bytes')
  const identity = bech32.encode('age-secret-key-pq-', bech32.toWords(new Uint8Array(seed)), false).toUpperCase()
  const plain = await age(bytes, d => d.addIdentity(identity))
  const note = openNote(plain.subarray(0, plain.lastIndexOf(10) + 1), 8192)
  need(plain.subarray(plain.lastIndexOf(10) + 1).every(c => c === 0), 'zeros to the end')
  const r = chain.at(-1), l = new Lines(note.text)
  need(note.signatures.length === 1 && signedBy(note.text, note.signatures[0], `tamizdat/v1/log/${b32(channel)}/${r.generation}`, r.log), 'the log key signed it')
  l.take(/^tamizdat\/v1\/grant$/, 'tamizdat/v1/grant')
  const id = l.take(/^([a-z2-7]{52})$/, 'ID')[0]
  const recipient = unb64(l.take(/^recipient (\S+)$/, 'recipient')[0], 32)
  const g = { text: note.text, serial: number(l.take(/^serial (\d+)$/, 'serial')[0]), epochs: new Map(), places: [] }
  while (l.at(/^epoch /)) {
    const [n, key] = l.take(new RegExp(`^epoch (\\d+) ${KEY}$`), 'epoch')
    need(u32(n) > (Math.max(-1, ...g.epochs.keys())), 'epochs ascend')
    g.epochs.set(u32(n), unb64(key, 32))
  }
  need(g.epochs.size <= 64, 'at most 64 epochs')
  const order = ['relay', 'zone', 'peer', 'gateway', 'mirror'], count = {}
  let at = 0
  while (l.rest.length > 0) {
    const [kind, a, b, c, d, e] = l.rest[0].split(' ')
    need(order.indexOf(kind) >= at && (count[kind] = (count[kind] ?? 0) + 1) <= 64, 'places, by kind, at most 64 of each')
    at = order.indexOf(kind)
    if (kind === 'relay') {
      l.take(/^relay \S+ \S+ [a-z2-7]{26} [A-Za-z0-9_-]{32} \S+$/, 'relay')
      relay(a, number(b, 65535), unb32(c))
      need(d && (e === '-' || unb64(e).length <= 1024), 'an ECH list of at most 1,024 bytes')
    } else if (kind === 'zone') { l.take(/^zone \S+ \S+$/, 'zone'); zone(a, b) }
    else if (kind === 'peer') { l.take(/^peer \S+$/, 'peer'); peer(a) }
    else { l.take(/^(?:gateway|mirror) \S+$/, 'URL'); web(a) }
    g.places.push([kind, a, b, c, d, e].filter(x => x !== undefined).join(' '))
  }
  need(id === b32(channel), 'the channel is this one')
  need(same(recipient, sha256(await identityToRecipient(identity))), "recipient is the hash of the batch's own")
  return g
}

// 11. Relays: prefixes, and the list of revoked batches.

const hmac = (key, ...parts) => parts.reduce((h, p) => h.update(p), createHmac('sha256', key)).digest()
export const mintKey = (relaySecret, channel) => hmac(relaySecret, 'tamizdat/v1/mint\n', channel)
export const tagFor = (seed, pin) => hkdf(seed, Buffer.concat([Buffer.from('tamizdat/v1/tag\n'), pin]), 8)
export const prefix = (mint, tag) => Buffer.concat([tag, hmac(mint, 'tamizdat/v1/hint\n').subarray(0, 4), hmac(mint, tag).subarray(0, 12)])

export function openDenied(bytes, channel, chain) {
  const note = openNote(bytes, 16384), r = chain.at(-1)
  need(note.signatures.length === 1 && signedBy(note.text, note.signatures[0], `tamizdat/v1/log/${b32(channel)}/${r.generation}`, r.log), 'the log key signed it, and nobody else')
  const l = new Lines(note.text)
  l.take(/^tamizdat\/v1\/denied$/, 'tamizdat/v1/denied')
  need(l.take(/^([a-z2-7]{52})$/, 'ID')[0] === b32(channel), 'the channel is this one')
  const d = { pin: unb32(l.take(/^relay ([a-z2-7]{26})$/, 'relay')[0]), epoch: number(l.take(/^epoch (\d+)$/, 'epoch')[0]), tags: [] }
  need(d.pin.some(c => c !== 0), 'a pin is not zero')
  while (l.rest.length > 0) {
    const tag = unb64(l.take(/^tag (\S+)$/, 'tag')[0], 8)
    need(d.tags.length < 900 && (d.tags.length === 0 || Buffer.compare(d.tags.at(-1), tag) < 0), 'tags ascend, at most 900')
    d.tags.push(tag)
  }
  return d
}

// 12. DNS: the names of an edition's trees.

export const CLASSES = { large: { kind: 0, max: 1040, fan: 64 }, small: { kind: 16, max: 300, fan: 18 } }
export const varint = n => { const out = []; for (; n >= 128; n = Math.floor(n / 128)) out.push(n % 128 | 128); return Buffer.from([...out, n]) }
const recordName = r => sha256(r).subarray(0, 16)

// stretch is the least size·fan^k that needs at most fan children.
function stretch(n, size, fan) {
  let s = size
  while (Math.ceil(n / s) > fan) s *= fan
  return s
}
const runs = (n, s) => Array.from({ length: Math.ceil(n / s) }, (_, i) => [i * s, Math.min(n, (i + 1) * s)])

function pieceTop(data, c) {
  if (data.length <= c.max - 1) return recordName(Buffer.concat([Buffer.from([c.kind]), data]))
  return recordName(Buffer.concat([Buffer.from([c.kind + 1]), varint(data.length),
    ...runs(data.length, stretch(data.length, c.max - 1, c.fan)).map(([a, b]) => pieceTop(data.subarray(a, b), c))]))
}
export function treeTop(pieces, c) {
  if (pieces.length === 0) return Buffer.alloc(16)
  if (pieces.length === 1) return pieceTop(pieces[0], c)
  const short = Buffer.concat([Buffer.from([c.kind + 3]), varint(pieces.length), ...pieces.map(p => varint(p.length)),
    ...pieces.flatMap(p => p.length === 0 ? [pieceTop(p, c)] : runs(p.length, c.max - 1).map(([a, b]) => pieceTop(p.subarray(a, b), c)))])
  if (short.length <= c.max) return recordName(short)
  return recordName(Buffer.concat([Buffer.from([c.kind + 2]), varint(pieces.length),
    ...runs(pieces.length, stretch(pieces.length, 1, c.fan)).map(([a, b]) => treeTop(pieces.slice(a, b), c))]))
}

// parseRecord checks one record's form, and takes a part apart.
export function parseRecord(bytes) {
  need(bytes.length >= 1 && bytes.length <= 1040, '1 to 1,040 bytes')
  const b = new Bytes(bytes), kind = b.byte(), c = kind < 16 ? CLASSES.large : CLASSES.small, P = c.max - 1
  need(kind < 32 && bytes.length <= c.max, 'as long as its class allows')
  let want
  switch (kind % 16) {
    case 0: return { kind }
    case 1: {
      const size = b.varint(MAX_BLOCK)
      need(size > P, 'a piece is longer than a leaf')
      want = Math.ceil(size / stretch(size, P, c.fan))
      break
    }
    case 2: {
      const count = b.varint(2 ** 20)
      need(count >= 2, 'a list has two pieces')
      want = Math.ceil(count / stretch(count, 1, c.fan))
      break
    }
    case 3: {
      const count = b.varint(c.max)
      need(count >= 2, 'a list has two pieces')
      want = 0
      for (let i = 0; i < count; i++) want += Math.max(1, Math.ceil(b.varint(MAX_BLOCK) / P))
      break
    }
    case 4: {
      need(kind === 20, 'parts are of the Small class')
      const place = b.byte(), part = { kind, n: (place >> 4) + 1, i: place & 15, check: b.take(4), payload: b.take(b.left) }
      need(part.n <= 4 && part.i < part.n, 'a place among four parts at most')
      need(part.payload.length >= 1 && part.payload.length <= 294 && (part.i === part.n - 1 || part.payload.length === 294), 'all parts but the last are full')
      return part
    }
    default: need(false, 'a kind of record')
  }
  need(b.left === want * 16, 'as many names as the size needs')
  return { kind }
}
export function joinParts(records) {
  const parts = records.map(parseRecord)
  need(parts.length > 0 && parts.every((p, i) => p.kind === 20 && p.i === i && p.n === records.length && same(p.check, parts[0].check)), 'all parts of one whole, in order')
  const whole = Buffer.concat(parts.map(p => p.payload))
  need(same(sha256(whole).subarray(0, 4), parts[0].check), 'the check is that of the whole')
  return whole
}
const recordLabel = s => { need(label(s), 'a name has 26 characters'); return unb32(s) }
const smallText = s => {
  const b = unb64(s)
  need(b.length >= 1 && b.length <= 300, 'a Small record')
  return b
}

// 13. IPNS records, and packets of BitTorrent's DHT.

// cbor reads one value of DAG-CBOR. A record has numbers, bytes, texts and maps, and keys
// that nobody knows may have any (18).
function cbor(b, levels = 0) {
  need(levels < 1000, 'at most 1,000 levels') // or the stack ends first
  const first = b.byte(), kind = first >> 5, short = first & 31
  if (kind === 7) {
    if (first === 0xf4 || first === 0xf5) return first === 0xf5
    if (first === 0xf6) return null
    need(first === 0xfb, 'DAG-CBOR has false, true, null and floats of 64 bits')
    const float = b.take(8).readDoubleBE()
    need(Number.isFinite(float), 'floats are finite')
    return { float }
  }
  need(short <= 27, 'DAG-CBOR has lengths')
  const n = short < 24 ? short : exact(BigInt(`0x${b.take(2 ** (short - 24)).toString('hex')}`))
  need(short < 24 || n >= [24, 2 ** 8, 2 ** 16, 2 ** 32][short - 24], 'numbers are minimal')
  if (kind === 0) return n
  if (kind === 1) return -1n - BigInt(n)
  if (kind === 2) return b.take(n)
  if (kind === 3) return utf8(b.take(n))
  if (kind === 6) {
    const link = cbor(b, levels + 1)
    need(n === 42 && Buffer.isBuffer(link) && link.length > 1 && link[0] === 0, 'the only tag is 42, a CID')
    return { link }
  }
  need(n <= b.left, 'as many values as it says')
  if (kind === 4) return Array.from({ length: n }, () => cbor(b, levels + 1))
  const out = new Map()
  for (let i = 0; i < n; i++) {
    const key = cbor(b, levels + 1)
    need(typeof key === 'string' && !out.has(key), 'keys are texts, and distinct')
    out.set(key, cbor(b, levels + 1))
  }
  return out
}

const ipnsID = key => Buffer.concat([Buffer.from([1, 0x72, 0, 36, 8, 1, 18, 32]), key])
const ipnsName = key => `k${BigInt(`0x${ipnsID(key).toString('hex')}`).toString(36)}`

// claimedRoot is the root CID that a compact head states.
function claimedRoot(compact) {
  const b = new Bytes(compact)
  need(b.byte() === 1, 'the first byte is 1')
  for (let i = 0; i < 6; i++) b.varint()
  return 'b' + b32(Buffer.concat([Buffer.from([1, PB, 0x12, 32]), b.take(32)]))
}

// ipnsRecord checks a record (specs.ipfs.tech/ipns/ipns-record) whose key is known.
export function ipnsRecord(bytes, key) {
  need(bytes.length <= 10240, 'at most 10,240 bytes')
  const f = new Map(fields(bytes)), signature = f.get(8), data = f.get(9)
  need(data?.length > 0 && signature?.length === 64, 'signed data, and a signature of version 2')
  need(!f.has(7) || Buffer.isBuffer(f.get(7)) && same(f.get(7), ipnsID(key).subarray(4)), 'a key beside it is the same')
  need(ed25519(Buffer.concat([Buffer.from('ipns-signature:'), data]), signature, key), 'the IPNS key signed it')
  const b = new Bytes(data), m = cbor(b)
  need(b.left === 0 && m instanceof Map, 'signed data is one map')
  for (const [name, n, text] of [['Value', 1, true], ['ValidityType', 3], ['Validity', 4, true], ['Sequence', 5], ['TTL', 6]]) {
    const v = m.get(name), old = f.get(n)
    need(text ? Buffer.isBuffer(v) && Buffer.isBuffer(old ?? v) : Number.isInteger(v) || typeof v === 'bigint' && v >= 0n && v < 2n ** 63n, 'the fields of a record')
    if (f.has(1) || f.has(2)) need(Buffer.isBuffer(v) ? same(old ?? [], v) : (old ?? 0) === v, 'fields of version 1 say the same')
  }
  const head = m.get('_head'), value = utf8(m.get('Value')), validity = utf8(m.get('Validity'))
  const until = /^(.{19})(?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/.exec(validity)
  need(m.get('ValidityType') === 0 && until && dated(`${until[1]}Z`), 'its validity ends at a time')
  need(Buffer.isBuffer(head) && head.length >= 1 && head.length <= 1040, 'a compact head of 1 to 1,040 bytes')
  need(value.startsWith('/ipfs/'), 'the value begins with /ipfs/')
  parseCID(value.slice(6))
  need(claimedRoot(head) === value.slice(6), 'value and head name one edition')
  return { head, root: value.slice(6), sequence: m.get('Sequence'), validity }
}

const zbase32 = bytes => b32(bytes).replace(/./g, c => 'ybndrfg8ejkmcpqxot1uwisza345h769'['abcdefghijklmnopqrstuvwxyz234567'.indexOf(c)])
const packetName = key => `_head.${zbase32(key)}.`

// packetOf is the one DNS packet of a head.
function packetOf(head, key) {
  const u16 = n => { const b = Buffer.alloc(2); b.writeUInt16BE(n); return b }, strings = []
  for (let i = 0; i < head.length; i += 255) strings.push(Buffer.from([Math.min(255, head.length - i)]), head.subarray(i, i + 255))
  const txt = Buffer.concat(strings), labels = packetName(key).split('.').map(l => Buffer.from([l.length, ...Buffer.from(l)]))
  return Buffer.concat([...[0, 0x8400, 0, 1, 0, 0].map(u16), ...labels, ...[16, 1, 0, 60, txt.length].map(u16), txt])
}

// signedPacket checks one as it travels.
export function signedPacket(bytes, key) {
  need(bytes.length > 72, 'signature, number and value')
  const signature = bytes.subarray(0, 64), n = bytes.readBigInt64BE(64), value = bytes.subarray(72)
  const bencoded = Buffer.concat([Buffer.from(`${value.length}:`), value])
  need(n >= 0n && bencoded.length <= 1000, 'a number, and a value of at most 1,000 bytes, bencoded')
  need(ed25519(Buffer.concat([Buffer.from(`3:seqi${n}e1:v`), bencoded]), signature, key), 'the IPNS key signed it')
  const strings = new Bytes(value), head = []
  strings.take(packetOf([], key).length)
  while (strings.left > 0) head.push(strings.take(strings.byte()))
  const whole = Buffer.concat(head)
  need(whole.length > 0 && same(packetOf(whole, key), value), 'the one packet of a head')
  return { head: whole, number: Number(n) }
}

// The whole of it.

// named is false for who does not look at the names of DNS trees.
export async function openEdition(car, channel, keyOf, named = true) {
  const ed = openCAR(car, channel), { head, dir, blocks } = ed
  const key = await keyOf(ed)
  const frontPieces = [blocks.get(head.root)]
  const front = await openFront(layer(blocks, dir.get('front.age'), frontPieces), key, channel, head)
  for (const [top, c] of [[head.large, CLASSES.large], [head.small, CLASSES.small]]) need(!named || b32(treeTop(frontPieces, c)) === top, 'the DNS names of folder and front page')
  for (const [name, dns] of [['text.age', front.text?.dns], ['dict.age', front.dict?.dns], ['log', front.log]]) {
    if (!dir.has(name)) continue
    const pieces = []
    if (name === 'log') layer(blocks, dir.get(name), pieces, 65536, 65536)
    else layer(blocks, dir.get(name), pieces)
    need(!named || dns && b32(treeTop(pieces, CLASSES.large)) === dns.l && b32(treeTop(pieces, CLASSES.small)) === dns.s, `the DNS names of ${name}`)
  }
  if (head.edition > 0) {
    const log = file(blocks, dir.get('log'))
    need(log.length === 32 * head.edition, 'log holds a hash for each older edition')
    const hashes = Array.from({ length: head.edition }, (_, i) => log.subarray(32 * i, 32 * i + 32))
    need(same(treeHash([...hashes, head.leafHash]), head.tree), 'log and leaf give the tree hash')
    const leaves = unb64(front.leaves ?? '')
    need(leaves.length % 32 === 0 && leaves.length <= 512 && same(leaves, log.subarray(log.length - leaves.length)), 'leaves are the end of the log')
  }
  const picture = await openMedia(ed, key, channel, front)
  const articles = await openTexts(ed, key, channel, front)
  for (const a of articles) a.pictures = (a.headline?.images ?? []).map(i => picture(i.span))
  return { ...ed, front, articles }
}

const openInvited = (car, inv) => openEdition(car, inv.channel, async ({ chain, dir, blocks, head }) => {
  const cid = dir.has('grants') && folder(blocks.get(dir.get('grants'))).get(grantName(inv.seed, inv.channel))
  need(cid, 'there is a grant for this invite')
  const key = (await openGrant(blocks.get(cid), inv.seed, inv.channel, chain)).epochs.get(head.epoch)
  need(key, 'the grant has the key of this epoch')
  return key
})

async function main(inviteFile, carFile) {
  const { head, front, articles } = await openInvited(readFileSync(carFile), parseInvite(readFileSync(inviteFile)))
  console.log(`${front.name}: edition ${head.edition} of ${front.date}, signed ${new Date(head.time * 1000).toISOString()}; all checks passed`)
  if (head.of > 0) console.log(`seen by ${head.seen.length} of ${head.of} witnesses, of ${head.quorum} that should have`)
  for (const a of articles) console.log(`\n${a.title}\n${a.date} ${a.lang} ${a.source ?? ''} pictures: ${a.pictures.length}\n${a.body.replace(/<[^>]*>/g, ' ')}`)
}

function proof(file) {
  const stated = h => `generation ${h.generation}, ${h.size} editions, tree ${h.tree.toString('base64')}, signed ${new Date(h.time * 1000).toISOString()}`
  for (const { ours, theirs } of checkEvidence(readFileSync(file))) {
    console.log(ours ? `both were signed, and one of them is not true:\n  ${stated(ours)}\n  ${stated(theirs)}` : `it was signed, and the root notes leave it out:\n  ${stated(theirs)}`)
  }
}

// The vectors.

function node(cid, data, read) {
  need(checkBlock(cid, data) === PB, 'a node is dag-pb')
  return read(data)
}

// submission reads what a witness is asked to cosign (7.4).
function submission(bytes) {
  need(bytes.length <= 16384, 'at most 16 KiB')
  const all = utf8(bytes), cut = all.indexOf('\n\n')
  need(cut > 0 && cut + 2 < all.length, 'an empty line and a checkpoint follow')
  const l = new Lines(all.slice(0, cut + 1)), old = number(l.take(/^old (\d+)$/, 'old')[0])
  need(l.rest.length <= 63, 'at most 63 hashes')
  const proof = l.rest.map(s => unb64(s, 32)), checkpoint = openNote(Buffer.from(all.slice(cut + 2)), 16384), c = new Lines(checkpoint.text)
  c.take(/^[^\n]+$/, 'origin')
  number(c.take(/^(\d+)$/, 'size')[0])
  unb64(c.take(/^(\S+)$/, 'hash')[0], 32)
  need(c.rest.every(s => s !== ''), 'no empty line behind the tree hash') // what else stands there is of no interest
  return { old, proof, checkpoint }
}

// plays shows a reader one thing after another.
function plays(w, channel, read) {
  const r = new Reader(channel), hashes = l => (l ?? []).map(h => unb64(h, 32))
  for (const s of w.steps) {
    if (s.note) { r.note(read(s.note)); continue }
    const [verdict, h] = r.see(read(s.head))
    need(verdict === s.verdict, `${w.about}: ${s.head} is ${verdict}`)
    if (!s.folds) continue
    const folds = r.fold(h, hashes(s.leaves))
    need(folds === s.folds, `${w.about}: ${s.head} folds to ${folds}`)
    if (folds === 'begun anew') r.replace(h, hashes(s.log))
  }
  const got = [r.size, r.head?.size ?? 0, r.head?.tree.toString('base64') ?? '', r.evidence.size, r.evidence.size > r.settled, r.withdrawn]
  need(JSON.stringify(got) === JSON.stringify([w.size, w.held, w.tree, w.evidence, w.forked, w.withdrawn]), `${w.about}: ${got}`)
}

function witnessVectors(read) {
  const v = JSON.parse(read('witness.json')), channel = unb32(v.channel), chain = rootChain(channel, [read(v.root_note)])
  const vkeys = chain[0].names.map((name, i) => {
    const typed = Buffer.concat([Buffer.from([4]), chain[0].witnesses[i]])
    return `${name}+${sha256(name, Buffer.from([10]), typed).subarray(0, 4).toString('hex')}+${typed.toString('base64')}`
  })
  need(JSON.stringify(vkeys) === JSON.stringify(v.witnesses) && chain[0].quorum === v.quorum, 'witnesses of the root note')
  for (const h of v.heads) {
    for (const got of [textHead(read(h.text), channel, chain), compactHead(read(h.compact), channel, chain)]) need(JSON.stringify(got.seen) === JSON.stringify(h.seen ?? []), 'who has seen a head')
  }
  for (const s of v.submissions) {
    const got = submission(read(s.file)), [, size, tree] = got.checkpoint.text.split('\n')
    need(got.old === s.old && Number(size) === s.size && tree === s.tree, 'submission')
  }
  const taken = v.refused.filter(x => {
    try {
      const data = read(x.file)
      if (x.as === 'submission') submission(data)
      else if (x.as === 'root-note') rootChain(sha256(data.subarray(0, data.lastIndexOf('\n\n') + 1)), [data])
      else compactHead(data, channel, chain)
      return true
    } catch (e) {
      if (!(e instanceof Refused)) throw e
      return false
    }
  })
  need(taken.length === 0, `taken: ${taken.map(x => `${x.file}, though: ${x.check}`).join('; ')}`)
  v.readers.forEach(w => plays(w, channel, read))
  console.log(`witnesses: ${v.heads.length + v.submissions.length} valid files and ${v.readers.length} readers agree; ${v.refused.length} invalid ones are refused`)
}

// historyVectors are heads of two generations, evidence, and readers who see one thing
// after another.
function historyVectors(read) {
  const v = JSON.parse(read('history.json')), channel = unb32(v.channel), notes = v.root_notes.map(read)
  const agrees = (h, want) => need(h.generation === want.generation && h.size === want.size && h.tree.toString('base64') === want.tree && h.time === want.time, 'what a head states')
  for (const w of v.heads) {
    const chain = rootChain(channel, notes.slice(0, w.notes))
    for (const [f, open] of [[w.text, textHead], [w.compact, compactHead]]) {
      let conclude = 'good'
      try { agrees(open(read(f), channel, chain, true), w) } catch (e) { conclude = e.message }
      if (conclude === 'good' && w.generation < chain.at(-1).generation) conclude = 'old'
      need(conclude === w.conclude, `${f}: ${conclude}`)
    }
  }
  for (const e of v.evidence) {
    const got = checkEvidence(read(e.file))
    need(got.length === e.proven.length, e.file)
    got.forEach(({ ours, theirs }, i) => {
      agrees(theirs, e.proven[i].theirs)
      need((ours === null) === (e.proven[i].ours === null), e.file)
      if (ours) agrees(ours, e.proven[i].ours)
    })
  }
  v.readers.forEach(w => plays(w, channel, read))
  const taken = v.refused.filter(x => {
    try {
      const data = read(x.file)
      if (x.as === 'evidence') checkEvidence(data)
      else if (x.as === 'head') (data[0] === 1 ? compactHead : textHead)(data, channel, rootChain(channel, x.after.map(read)))
      else throw new Error(`nothing here reads "${x.as}"`)
      return true
    } catch (e) {
      if (!(e instanceof Refused)) throw e
      if (process.env.VERBOSE) console.log(`${x.file}: ${x.check}: ${e.message}`)
      return false
    }
  })
  need(taken.length === 0, `taken: ${taken.map(x => `${x.file}, though: ${x.check}`).join('; ')}`)
  console.log(`histories: ${v.heads.length} heads, ${v.evidence.length} files of evidence and ${v.readers.length} readers agree; ${v.refused.length} invalid files are refused`)
}

async function vectors(dir) {
  const read = f => readFileSync(join(dir, f)), v = JSON.parse(read('vectors.json'))
  const channel = unb32(v.channel), hex = s => Buffer.from(s, 'hex')
  const chain = rootChain(channel, [read(v.root_note.file)])
  need(chain[0].log.equals(hex(v.root_note.log_key)), 'root note')
  const inv = parseInvite(read(v.invite.file))
  need(same(inv.channel, channel) && same(inv.seed, hex(v.invite.seed)), 'invite')
  for (const i of [v.invite, ...v.invites]) {
    const got = parseInvite(read(i.file))
    need(same(got.channel, channel) && same(got.seed, hex(i.seed)) && same(got.ipns, hex(i.ipns_key)) && JSON.stringify(got.places) === JSON.stringify(i.places ?? []), i.file)
  }
  need(grantName(inv.seed, channel) === v.grant.name, 'name of the grant')
  const grant = await openGrant(read(v.grant.file), inv.seed, channel, chain)
  need(grant.epochs.get(0).equals(hex(v.grant.epochs[0])) && JSON.stringify(grant.places) === JSON.stringify(v.grant.places), 'grant')
  const denied = openDenied(read(v.denied.file), channel, chain)
  need(b32(denied.pin) === v.denied.pin && denied.epoch === v.denied.epoch && JSON.stringify(denied.tags.map(t => t.toString('base64'))) === JSON.stringify(v.denied.tags), 'list of revoked batches')
  const pin = unb32(v.derived.pin), mint = mintKey(hex(v.derived.relay_secret), channel), tag = tagFor(inv.seed, pin)
  const identity = bech32.encode('age-secret-key-pq-', bech32.toWords(new Uint8Array(inv.seed)), false).toUpperCase()
  for (const [name, got] of Object.entries({
    head_label: b32(channel.subarray(0, 8)), root_label_1: b32(sha256('tamizdat/v1/root\n', channel, u64(1)).subarray(0, 16)), origin_0: `tamizdat/v1/log/${v.channel}/0`,
    recipient: await identityToRecipient(identity), pin: b32(pin), tag: tag.toString('hex'), mint_key: mint.toString('hex'), prefix: prefix(mint, tag).toString('base64url'), relay_secret: v.derived.relay_secret,
  })) need(got === v.derived[name], name)
  need(Object.keys(v.derived).length === 9, 'all that is derived')
  let good = 5 + v.invites.length
  const fronts = []
  for (const e of v.editions) {
    const ed = await openEdition(read(e.car), channel, () => grant.epochs.get(e.epoch))
    for (const h of [textHead(read(e.head_text), channel, chain), compactHead(read(e.head_compact), channel, chain)]) need(h.text === e.leaf_text && h.tree.toString('base64') === e.tree, 'head')
    need(ed.blocks.size === e.blocks && ed.head.root === e.root, 'blocks')
    for (const [l, p] of Object.entries(e.passphrases)) need(passphrase(grant.epochs.get(e.epoch), channel, e.edition, l) === p, 'passphrase')
    need(JSON.stringify(ed.front) === JSON.stringify(JSON.parse(read(e.front_json))), 'front page')
    fronts.unshift(ed.front)
    need(JSON.stringify(standing(fronts)) === JSON.stringify(e.standing), 'which articles stand')
    for (const a of ed.articles) {
      const want = e.articles.find(w => w.ID === a.id && w.Edition === e.edition)
      need(want && want.Title === a.title && want.Body === a.body && want.Lang === a.lang, 'article')
      need(JSON.stringify(a.pictures.map(p => sha256(p).toString('hex'))) === JSON.stringify(want.Pictures ?? []), 'pictures')
    }
    good += 3
  }
  for (const t of v.texts) {
    const dict = t.dict && await openDict(read(t.dict), grant.epochs.get(0), channel, 0)
    const a = readArticle(spanned(await openLayer(read(t.file), passphrase(grant.epochs.get(0), channel, 0, 'text')), t.headline.text, MAX_LINE, dict), t.headline)
    need(a.id === t.headline.id && a.lead === t.lead && a.body === t.body, t.file)
    good++
  }
  const frozen = parseInvite(read('frozen/invite.txt'))
  for (let n = 0; n < 5; n++, good++) need((await openInvited(read(`frozen/edition-${n}.car`), frozen)).head.edition === n, 'what was frozen opens')
  witnessVectors(read)
  historyVectors(read)
  const invalid = JSON.parse(read('invalid.json')), key = grant.epochs.get(0), bad = []
  // take reads one file as what it is taken for.
  const take = async x => {
    const data = read(x.file)
    switch (x.as) {
      case 'head': (data[0] === 1 ? compactHead : textHead)(data, channel, x.after ? rootChain(channel, x.after.map(read)) : chain); break
      case 'root-note': rootChain(channel, [...(x.after ?? []).map(read), data]); break
      case 'grant': await openGrant(data, inv.seed, channel, chain); break
      case 'invite': parseInvite(data); break
      case 'denied': openDenied(data, channel, chain); break
      case 'car': case 'edition': openCAR(data, channel); break
      case 'opened': await openEdition(data, channel, () => key, false); break
      case 'text': {
        const dict = x.dict && await openDict(read(x.dict), key, channel, 0)
        readArticle(spanned(await openLayer(data, passphrase(key, channel, 0, 'text')), x.headline.text, MAX_LINE, dict), x.headline)
        break
      }
      case 'picture': readPicture(spanned(await openLayer(data, passphrase(key, channel, 0, 'media')), x.headline.images[0].span, MAX_MEMBER)); break
      case 'front': await openFront(data, key, channel, { edition: x.edition ?? 0 }); break
      case 'dict': await openDict(data, key, channel, x.edition); break
      case 'block': checkBlock(x.cid, data); break
      case 'folder': node(x.cid, data, folder); break
      case 'directory': node(x.cid, data, directory); break
      case 'file': node(x.cid, data, fileNode); break
      case 'record': parseRecord(data); break
      default: throw new Error(`nothing here reads "${x.as}"`)
    }
  }
  for (const x of JSON.parse(read('room.json'))) {
    await take(x)
    good++
  }
  for (const x of invalid) {
    try {
      await take(x)
      bad.push(`${x.file} was taken, though: ${x.check}`)
    } catch (e) {
      if (!(e instanceof Refused)) throw e
      if (process.env.VERBOSE) console.log(`${x.file}: ${x.check}: ${e.message}`)
    }
  }
  for (const t of JSON.parse(read('dns-trees.json'))) {
    const pieces = t.sizes.map((n, i) => Buffer.concat(Array.from({ length: Math.ceil(n / 32) }, (_, k) => sha256(t.seed + i % 10, u64(k)))).subarray(0, n))
    need(b32(treeTop(pieces, CLASSES.large)) === t.large && b32(treeTop(pieces, CLASSES.small)) === t.small, `the tree of ${t.sizes.length} pieces`)
    good++
  }
  const dns = JSON.parse(read('dns-invalid.json'))
  for (const x of dns) {
    try {
      if (x.as === 'label') recordLabel(x.text ?? '')
      else if (x.as === 'record') parseRecord(hex(x.hex[0]))
      else if (x.as === 'parts') joinParts(x.hex.map(hex))
      else if (x.as === 'text') smallText(x.text ?? '')
      else throw new Error(`nothing here reads "${x.as}"`)
      bad.push(`DNS, ${x.as}: ${x.check}`)
    } catch (e) {
      if (!(e instanceof Refused)) throw e
    }
  }
  const all = invalid.length + dns.length
  console.log(`${good} valid files agree; ${all - bad.length} of ${all} invalid ones are refused`)
  need(bad.length === 0, bad.join('\n'))
  pointerVectors(read)
}

// pointerVectors are IPNS records and signed packets.
function pointerVectors(read) {
  const ipns = JSON.parse(read('ipns.json')), packets = JSON.parse(read('packets.json')), hex = s => Buffer.from(s, 'hex'), key = hex(ipns.key)
  need(ipnsName(key) === ipns.name && packets.key === ipns.key && packetName(key) === packets.name, 'names of the IPNS key')
  for (const r of ipns.records) {
    const got = ipnsRecord(hex(r.hex), key)
    need(same(got.head, read(r.head)) && got.root === r.root && got.sequence === r.sequence && got.validity === r.validity, `IPNS record of ${r.head}`)
  }
  for (const p of packets.packets) {
    const got = signedPacket(hex(p.hex), key)
    need(same(got.head, read(p.head)) && got.number === p.number, `signed packet of ${p.head}`)
  }
  const taken = [[ipns, ipnsRecord], [packets, signedPacket]].flatMap(([v, open]) => v.refused.filter(x => {
    try {
      open(hex(x.hex), key)
      return true
    } catch (e) {
      if (!(e instanceof Refused)) throw e
      if (process.env.VERBOSE) console.log(`${x.check}: ${e.message}`)
      return false
    }
  }))
  need(taken.length === 0, `taken, though: ${taken.map(x => x.check).join('; ')}`)
  console.log(`pointers: ${ipns.records.length + packets.packets.length} agree; ${ipns.refused.length + packets.refused.length} invalid ones are refused`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2)
  await initZstd()
  try {
    if (args.length === 2 && args[0] === '--vectors') await vectors(args[1])
    else if (args.length === 2 && args[0] === '--proof') proof(args[1])
    else if (args.length === 2) await main(...args)
    else throw new Refused('usage: node verify.mjs INVITE.txt EDITION.car, or --proof FILE, or --vectors DIR')
  } catch (e) {
    if (!(e instanceof Refused) && e.code !== 'ENOENT') throw e
    console.error(`verify: ${e.message}`)
    process.exitCode = 1
  }
}

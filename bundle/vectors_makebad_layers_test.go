package bundle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"filippo.io/age"
	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
)

// front returns an edition's front.age from its blocks.
func (m *maker) front(n int) []byte {
	for _, b := range m.packed[n].Blocks {
		if len(b.Data) == 4096 && bytes.HasPrefix(b.Data, []byte("age-")) && bytes.Contains(b.Data[:60], []byte("-> scrypt")) {
			return b.Data
		}
	}
	m.err = fmt.Errorf("vector: edition %d has no front page of 4096 bytes", n)
	return make([]byte, 4096)
}

// sealFront encrypts what stands for a front page, with the right key.
func (m *maker) sealFront(work int, plain []byte) []byte {
	r, err := age.NewScryptRecipient(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerFront))
	if err != nil {
		m.err = err
		return nil
	}
	r.SetWorkFactor(work)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		m.err = err
	}
	return b.Bytes()
}

func frame(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// padded appends a skippable frame of n bytes in all, filled with c.
func padded(b []byte, n int, c byte) []byte {
	b = append(bytes.Clone(b), 0x50, 0x2A, 0x4D, 0x18)
	b = binary.LittleEndian.AppendUint32(b, uint32(n-8))
	return append(b, bytes.Repeat([]byte{c}, n-8)...)
}

func (m *maker) invalidLayers() error {
	good := m.front(0)
	js, err := json.Marshal(m.packed[0].Front)
	if err != nil {
		return err
	}
	if _, err := bundle.OpenFront(m.epoch, m.id, 0, m.sealFront(1, padded(frame(js), 100, 0))); err != nil {
		return fmt.Errorf("a front page written by hand: %w", err)
	}
	m.refused("front-work-factor-2", ".age", "front", "one scrypt stanza of work factor 1, before any work", "work factor 1", m.sealFront(2, frame(js)))
	m.refused("front-of-another-edition", ".age", "front", "the passphrase is the edition's", "wrong key", m.front(1))
	m.refused("front-two-stanzas", ".age", "front", "one scrypt stanza of work factor 1, before any work", "work factor 1",
		bytes.Replace(good, []byte("\n--- "), []byte("\n-> x\nAAAA\n--- "), 1))
	m.refused("front-cut", ".age", "front", "the last chunk is marked as such", "does not decrypt", good[:len(good)-1])
	m.refused("front-header-alone", ".age", "front", "an age file has a chunk", "size out of range", good[:165])
	m.refused("front-mac-flipped", ".age", "front", "the header's MAC", "wrong key", flip(good, 120))
	m.refused("front-padding-not-zero", ".age", "front", "padding is zero", "padding is not zero", m.sealFront(1, padded(frame(js), 100, 1)))
	m.refused("front-padding-twice", ".age", "front", "one skippable frame at most", "malformed padding", m.sealFront(1, padded(padded(frame(js), 100, 0), 50, 0)))
	m.refused("front-two-frames", ".age", "front", "a front page is one zstd frame and padding", "malformed padding", m.sealFront(1, append(frame(js), frame([]byte("{}"))...)))
	m.refused("front-not-zstd", ".age", "front", "a front page is one zstd frame and padding", "not a zstd frame", m.sealFront(1, js))
	m.refused("front-bomb", ".age", "front", "at most 4 MiB of JSON", "oversized", m.sealFront(1, frame(make([]byte, 5<<20))))
	m.refused("front-not-json", ".age", "front", "the content is one JSON object", "not JSON", m.sealFront(1, frame([]byte("hello"))))
	sub := func(old, with string) []byte {
		out := bytes.Replace(js, []byte(old), []byte(with), 1)
		if bytes.Equal(out, js) {
			m.err = fmt.Errorf("vector: %q is not in the front page", old)
		}
		return m.sealFront(1, frame(out))
	}
	m.refused("front-version-2", ".age", "front", "v is 1", "unknown version", sub(`{"v":1`, `{"v":2`))
	m.refused("front-says-another-edition", ".age", "front", "channel and edition are those of the leaf", "another edition", sub(`"edition":0`, `"edition":3`))
	m.refused("front-article-twice", ".age", "front", "article IDs are distinct", "listed twice", sub("00112233445566bb", "00112233445566aa"))
	m.refused("front-article-in-unknown-edition", ".age", "front", "an article lies in this edition or one of past", "unknown edition", sub(`"ed":0`, `"ed":5`))
	m.refused("front-title-of-two-lines", ".age", "front", "titles are one line", "malformed title", sub("Ferry line", `Ferry\nline`))
	m.refused("front-script-source", ".age", "front", "sources are http or https", "source URL", sub("https://news.example", "javascript://news.example"))
	m.refused("front-span-negative", ".age", "front", "spans lie in a layer", "span out of range", sub(`"text":{"o":0`, `"text":{"o":-1`))
	return nil
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func (m *maker) invalidBlocks() error {
	file := m.cars[0]
	m.refused("car-cut", ".car", "car", "the last section is whole", "cut off", file[:len(file)-1])
	m.refused("car-flipped", ".car", "car", "every block has the hash its CID says", "another hash", flip(file, len(file)-1))
	m.refused("car-version-2", ".car", "car", "the header says version 1", "CAR version 2", append([]byte("\x0a\xa1\x67version\x02"), make([]byte, 60)...))
	m.refused("car-header-oversized", ".car", "car", "a header of at most 64 KiB", "", []byte("\xff\xff\xff\x7f\xa2\x65roots"))
	var b bytes.Buffer
	w, err := car.NewWriter(&b, []cid.Cid{bundle.RawCID(m.signed), bundle.RawCID(m.heads[0].Text()), m.heads[0].Root})
	if err != nil {
		return err
	}
	for _, data := range [][]byte{m.heads[0].Text(), m.signed} {
		if err := w.Put(bundle.RawCID(data), data); err != nil {
			return err
		}
	}
	m.refused("car-head-before-root-note", ".car", "car", "the first blocks are those that the header names, in order", "don't come first", b.Bytes())
	b.Reset()
	if _, err := car.NewWriter(&b, []cid.Cid{m.heads[0].Root}); err != nil {
		return err
	}
	m.refused("car-without-head", ".car", "car", "the header names a head and a directory", "no head", b.Bytes())

	block := func(name, as, check, errText string, c cid.Cid, data []byte) {
		m.refused(name, ".bin", as, check, errText, data).CID = c.String()
	}
	dir := m.packed[0].Blocks[0]
	raw := []byte("some bytes")
	block("block-other-bytes", "block", "the hash is that of the CID", "another hash", bundle.RawCID(raw), []byte("same bytes"))
	block("block-cid-v0", "block", "CIDs are version 1", "not a CIDv1", cid.NewCidV0(dir.CID.Hash()), dir.Data)
	block("block-oversized", "block", "at most 65,717 bytes", "at most 65717", bundle.RawCID(make([]byte, bundle.MaxBlock+1)), make([]byte, bundle.MaxBlock+1))
	node := func(data []byte) cid.Cid {
		return cid.NewCidV1(cid.DagProtobuf, bundle.RawCID(data).Hash())
	}
	// A dag-pb node by hand: links (field 2: hash 1, name 2, size 3), then data (field 1).
	link := func(c cid.Cid, name string, size byte) []byte {
		l := append([]byte{0x0a, byte(c.ByteLen())}, c.Bytes()...)
		l = append(append(l, 0x12, byte(len(name))), name...)
		return append(l, 0x18, size)
	}
	pb := func(data []byte, links ...[]byte) []byte {
		var out []byte
		for _, l := range links {
			out = append(append(out, 0x12, byte(len(l))), l...)
		}
		return append(append(out, 0x0a, byte(len(data))), data...)
	}
	folder, fileOf := []byte{0x08, 0x01}, func(total byte, sizes ...byte) []byte {
		out := []byte{0x08, 0x02, 0x18, total}
		for _, s := range sizes {
			out = append(out, 0x20, s)
		}
		return out
	}
	c := bundle.RawCID(raw)
	if links, err := bundle.ParseFile(node(pb(fileOf(20, 10, 10), link(c, "", 10), link(c, "", 10))), pb(fileOf(20, 10, 10), link(c, "", 10), link(c, "", 10)), 0); err != nil || len(links) != 2 {
		return fmt.Errorf("a file's node written by hand: %w", err)
	}
	put := func(name, as, check, errText string, data []byte) { block(name, as, check, errText, node(data), data) }
	put("folder-name-twice", "folder", "names are distinct", "not distinct", pb(folder, link(c, "a", 10), link(c, "a", 10)))
	put("folder-slash-in-name", "folder", "names have no slash", "malformed name", pb(folder, link(c, "a/b", 10)))
	put("folder-is-a-file", "folder", "a folder is UnixFS type 1", "not a folder", pb(fileOf(10, 10), link(c, "", 10)))
	put("directory-without-front", "directory", "an edition has front.age", "without a front page", pb(folder, link(c, "text.age", 10)))
	put("file-sizes-do-not-add-up", "file", "filesize is the sum of blocksizes", "don't add up", pb(fileOf(21, 10, 10), link(c, "", 10), link(c, "", 10)))
	put("file-size-missing", "file", "one blocksize a link", "not a file", pb(fileOf(10, 10), link(c, "", 10), link(c, "", 10)))
	put("file-inline-data", "file", "bytes lie in raw blocks only", "not a file", pb([]byte{0x08, 0x02, 0x12, 0x01, 'x', 0x18, 0x01}))
	put("file-empty-block", "file", "no block is empty", "malformed link", pb(fileOf(0, 0), link(c, "", 0)))
	m.refused("record-missing-name", ".bin", "record", "as many names as the size needs", "bytes of names", append([]byte("\x01\x90\x08"), make([]byte, 16)...))
	m.refused("record-varint-not-minimal", ".bin", "record", "varints are minimal", "number", append([]byte("\x01\x90\x88\x00"), make([]byte, 32)...))
	return nil
}

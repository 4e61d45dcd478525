package bundle_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
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
	return m.seal(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerFront), work, plain)
}

func (m *maker) seal(passphrase string, work int, plain []byte) []byte {
	r, err := age.NewScryptRecipient(passphrase)
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
	m.refused("front-work-factor-22", ".age", "front", "one scrypt stanza of work factor 1, before any work", "work factor 1", bytes.Replace(good, []byte(" 1\n"), []byte(" 22\n"), 1))
	m.refused("front-x25519", ".age", "front", "one scrypt stanza of work factor 1, before any work", "work factor 1", m.sealX25519(frame(js)))
	m.refused("front-of-another-epoch", ".age", "front", "the passphrase is of the leaf's epoch", "wrong key", m.seal(bundle.Passphrase(channel.EpochKey(secret32("epoch key 1")), m.id, 0, bundle.LayerFront), 1, frame(js)))
	m.refused("front-of-another-channel", ".age", "front", "the passphrase is the channel's", "wrong key", m.seal(bundle.Passphrase(m.epoch, channel.ID(secret32("another channel")), 0, bundle.LayerFront), 1, frame(js)))
	m.refused("front-is-a-text", ".age", "front", "the passphrase is the layer's", "wrong key", m.seal(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerText), 1, frame(js)))
	two := m.sealFront(1, padded(frame(js), 70_000, 0))
	if _, err := bundle.OpenFront(m.epoch, m.id, 0, two); err != nil {
		return fmt.Errorf("a front page of two chunks: %w", err)
	}
	m.refused("front-cut-at-a-chunk", ".age", "front", "the last chunk is marked as such", "does not decrypt", two[:165+65_552])
	m.refused("front-chunks-swapped", ".age", "front", "a chunk's nonce is its number", "does not decrypt", swapChunks(m.sealFront(1, padded(frame(js), 200_000, 0))))
	m.refused("front-of-another-edition", ".age", "front", "the passphrase is the edition's", "wrong key", m.front(1))
	m.refused("front-two-stanzas", ".age", "front", "one scrypt stanza of work factor 1, before any work", "work factor 1",
		bytes.Replace(good, []byte("\n--- "), []byte("\n-> x\nAAAA\n--- "), 1))
	m.refused("front-cut", ".age", "front", "the last chunk is marked as such", "does not decrypt", good[:len(good)-1])
	m.refused("front-header-alone", ".age", "front", "an age file has a chunk", "size out of range", good[:165])
	m.refused("front-mac-flipped", ".age", "front", "the header's MAC", "wrong key", flip(good, 120))
	m.refused("front-padding-not-zero", ".age", "front", "padding is zero", "padding is not zero", m.sealFront(1, padded(frame(js), 100, 1)))
	m.refused("front-padding-twice", ".age", "front", "one skippable frame at most", "malformed padding", m.sealFront(1, padded(padded(frame(js), 100, 0), 50, 0)))
	other := padded(frame(js), 100, 0)
	other[len(other)-100] = 0x51
	m.refused("front-padding-of-another-magic", ".age", "front", "the skippable frame's magic is 50 2A 4D 18", "malformed padding", m.sealFront(1, other))
	m.refused("front-two-frames", ".age", "front", "a front page is one zstd frame and padding", "malformed padding", m.sealFront(1, append(frame(js), frame([]byte("{}"))...)))
	m.refused("front-not-zstd", ".age", "front", "a front page is one zstd frame and padding", "not a zstd frame", m.sealFront(1, js))
	m.refused("front-bomb", ".age", "front", "at most 4 MiB of JSON", "oversized", m.sealFront(1, frame(make([]byte, 5<<20))))
	m.refused("front-bomb-of-unknown-size", ".age", "front", "at most 4 MiB of JSON", "oversized", m.sealFront(1, bomb(5<<20)))
	m.refused("front-not-json", ".age", "front", "the content is one JSON object", "not JSON", m.sealFront(1, frame([]byte("hello"))))
	sub := func(old, with string) []byte {
		out := bytes.Replace(js, []byte(old), []byte(with), 1)
		if bytes.Equal(out, js) {
			m.err = fmt.Errorf("vector: %q is not in the front page", old)
		}
		return m.sealFront(1, frame(out))
	}
	m.refused("front-two-objects", ".age", "front", "the content is one JSON object", "not JSON", m.sealFront(1, frame(append(bytes.Clone(js), "{}"...))))
	m.refused("front-frame-cut", ".age", "front", "a front page is one zstd frame and padding", "cut off", m.sealFront(1, frame(js)[:100]))
	m.refused("front-padding-cut", ".age", "front", "a skippable frame as long as it says", "malformed padding", m.sealFront(1, padded(frame(js), 100, 0)[:len(frame(js))+90]))
	m.refused("front-not-utf8", ".age", "front", "the content is UTF-8", "not JSON", sub("Ferry line", "Ferry \xff line"))
	m.refused("front-key-twice", ".age", "front", "no key twice", "not JSON", sub(`"edition":0`, `"edition":0,"edition":0`))
	m.refused("front-key-twice-in-other-case", ".age", "front", "no key twice, letter case aside", "not JSON", sub(`"edition":0`, `"edition":0,"Edition":0`))
	m.refused("front-key-twice-escaped", ".age", "front", "no key twice, however it is spelt", "not JSON", sub(`"edition":0`, `"edition":0,"\u0065dition":0`))
	m.refused("front-nested-too-deep", ".age", "front", "at most 8 levels", "not JSON", sub(`"v":1`, `"v":1,"x":[[[[[[[[]]]]]]]]`))
	m.refused("front-too-many-elements", ".age", "front", "at most 2,000 elements", "not JSON", sub(`"v":1`, `"v":1,"x":[`+strings.Repeat("0,", 2000)+`0]`))
	m.refused("front-name-missing", ".age", "front", "a channel has a name", "malformed name", sub(`"name":"Vector Channel"`, `"name":""`))
	m.refused("front-language-malformed", ".age", "front", "languages are letters, digits and inner hyphens", "malformed languages", sub(`"langs":["en"`, `"langs":["en "`))
	m.refused("front-of-a-day", ".age", "front", "dates are RFC 3339", "not JSON", sub(`"date":"2026-09-21T`, `"date":"2026-09-21 `))
	m.refused("front-leaves-in-edition-0", ".age", "front", "at most as many leaves as editions before", "malformed leaves", sub(`"v":1`, `"v":1,"leaves":"`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`"`))
	m.refused("front-leaves-not-of-32", ".age", "front", "leaves are 32 bytes each", "malformed leaves", sub(`"v":1`, `"v":1,"leaves":"AAAA"`))
	m.refused("front-prologue-oversized", ".age", "front", "a prologue has 165 bytes", "malformed layer", sub(`"text":{"prologue":"YWdl`, `"text":{"prologue":"YWdl`+"YWdl"))
	m.refused("front-prologue-with-a-line-end", ".age", "front", "base64 has its one spelling", "not JSON", sub(`"text":{"prologue":"YWdl`, `"text":{"prologue":"YWdl\n`))
	m.refused("front-leaves-a-list", ".age", "front", "leaves are base64", "not JSON", sub(`"v":1`, `"v":1,"leaves":[]`))
	first := func(leaves string) []byte {
		return m.seal(bundle.Passphrase(m.epoch, m.id, 1, bundle.LayerFront), 1, frame(fmt.Appendf(nil,
			`{"v":1,"channel":%q,"name":"x","langs":[],"edition":1,"epoch":0,"date":"2026-09-21T00:00:00Z","articles":[],"leaves":%s}`, m.id, leaves)))
	}
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 32))
	if _, err := bundle.OpenFront(m.epoch, m.id, 1, first(`"`+zeros+`"`)); err != nil {
		return fmt.Errorf("a front page with a leaf: %w", err)
	}
	m.refused("front-leaves-unused-bits-set", ".age", "front", "unused bits are zero", "not JSON", first(`"`+zeros[:42]+`B="`)).Edition = 1
	m.refused("front-leaves-of-numbers", ".age", "front", "leaves are base64", "not JSON", first("["+strings.Repeat("0,", 31)+"0]")).Edition = 1
	long := strings.Repeat("x", 2000)
	m.refused("front-65-languages", ".age", "front", "at most 64 languages", "malformed languages", sub(`"langs":["en"`, `"langs":["en"`+strings.Repeat(`,"en"`, 62)))
	m.refused("front-name-oversized", ".age", "front", "a name has at most 500 bytes", "malformed name", sub(`"name":"Vector Channel"`, `"name":"`+long[:501]+`"`))
	m.refused("front-name-with-a-paragraph-end", ".age", "front", "names are one line, without U+2029", "malformed name", sub(`"name":"Vector Channel"`, `"name":"Vector\u2029Channel"`))
	m.refused("front-title-oversized", ".age", "front", "a title has at most 500 bytes", "malformed title", sub("Ferry line opens again", long[:501]))
	m.refused("front-title-with-a-line-end", ".age", "front", "titles are one line, without U+2028", "malformed title", sub("Ferry line", "Ferry\u2028line"))
	m.refused("front-lead-oversized", ".age", "front", "a lead has at most 1,000 bytes", "malformed lead", sub("The boats run every hour.", long[:1001]))
	m.refused("front-source-oversized", ".age", "front", "a URL has at most 2,000 bytes", "source URL", sub("https://news.example/00112233445566aa", "https://news.example/"+long[:1980]))
	m.refused("front-101-pictures", ".age", "front", "at most 100 pictures", "too many images", sub(`"images":[`, `"images":[`+strings.Repeat(`{"type":"image/jpeg","w":1,"h":1,"span":{"o":0,"n":1}},`, 99)))
	m.refused("front-17-leaves", ".age", "front", "at most 16 leaves", "too many leaves", m.seal(bundle.Passphrase(m.epoch, m.id, 20, bundle.LayerFront), 1, frame(fmt.Appendf(nil,
		`{"v":1,"channel":%q,"name":"x","langs":[],"edition":20,"epoch":0,"date":"2026-09-21T00:00:00Z","articles":[],"leaves":%q}`, m.id, base64.StdEncoding.EncodeToString(make([]byte, 17*32)))))).Edition = 20
	base58, err := m.heads[0].Root.StringOfBase(multibase.Base58BTC)
	if err != nil {
		return err
	}
	m.refused("front-past-root-in-base58", ".age", "front", "a root CID is in base32", "malformed older edition", m.seal(bundle.Passphrase(m.epoch, m.id, 1, bundle.LayerFront), 1, frame(fmt.Appendf(nil,
		`{"v":1,"channel":%q,"name":"x","langs":[],"edition":1,"epoch":0,"date":"2026-09-21T00:00:00Z","articles":[],"past":[{"n":0,"epoch":0,"root":%q,"date":"2026-09-21T00:00:00Z"}]}`, m.id, base58)))).Edition = 1
	m.refused("front-names-upper-case", ".age", "front", "DNS names are lower case", "malformed names", m.sealFront(1, frame(upperName(js))))
	m.refused("front-past-of-itself", ".age", "front", "older editions are older", "malformed older edition", sub(`"v":1`, `"v":1,"past":[{"n":0,"epoch":0,"root":"`+m.heads[0].Root.String()+`","date":"2026-09-21T00:00:00Z"}]`))
	m.refused("front-past-root-raw", ".age", "front", "a root CID is dag-pb", "malformed older edition", m.seal(bundle.Passphrase(m.epoch, m.id, 1, bundle.LayerFront), 1,
		frame(fmt.Appendf(nil, `{"v":1,"channel":%q,"name":"x","langs":[],"edition":1,"epoch":0,"date":"2026-09-21T00:00:00Z","articles":[],"past":[{"n":0,"epoch":0,"root":%q,"date":"2026-09-21T00:00:00Z"}]}`, m.id, bundle.RawCID(js))))).Edition = 1
	m.refused("front-gone-no-id", ".age", "front", "what is gone is named by article IDs", "malformed article ID", sub(`"v":1`, `"v":1,"gone":["00112233445566AA"]`))
	m.refused("front-replaces-no-id", ".age", "front", "what is replaced is named by article IDs", "malformed article ID", sub(`"v":1`, `"v":1,"replaces":{"00112233445566aa":"x"}`))
	m.refused("front-gone-short", ".age", "front", "an article ID has 16 characters", "malformed article ID", sub(`"v":1`, `"v":1,"gone":["00112233445566a"]`))
	m.refused("front-gone-is-a-title", ".age", "front", "what is gone is named by article IDs", "malformed article ID", sub(`"v":1`, `"v":1,"gone":["Ferry line opens again"]`))
	m.refused("front-gone-no-list", ".age", "front", "what is gone is a list", "not JSON", sub(`"v":1`, `"v":1,"gone":"00112233445566aa"`))
	m.refused("front-gone-of-numbers", ".age", "front", "what is gone is named by article IDs", "not JSON", sub(`"v":1`, `"v":1,"gone":[1122334455667788]`))
	m.refused("front-gone-too-many", ".age", "front", "at most 2,000 are gone", "not JSON", sub(`"v":1`, `"v":1,"gone":[`+strings.Repeat(`"00112233445566aa",`, 2000)+`"00112233445566aa"]`))
	m.refused("front-replaced-by-no-id", ".age", "front", "what replaces is named by article IDs", "malformed article ID", sub(`"v":1`, `"v":1,"replaces":{"x":"00112233445566aa"}`))
	m.refused("front-replaces-a-list", ".age", "front", "an article replaces one other", "not JSON", sub(`"v":1`, `"v":1,"replaces":{"00112233445566aa":["00112233445566bb"]}`))
	m.refused("front-corrected-no-date", ".age", "front", "corrected is a date", "not JSON", sub(`"lang":"en"`, `"lang":"en","corrected":"yesterday"`))
	m.refused("front-corrected-true", ".age", "front", "corrected is a date", "not JSON", sub(`"lang":"en"`, `"lang":"en","corrected":true`))
	m.refused("front-names-cut", ".age", "front", "DNS names have 26 characters", "malformed names", sub(`"dns":{"l":"`, `"dns":{"l":"a`))
	m.refused("front-edition-too-large", ".age", "front", "an edition's number is that of the leaf", "not JSON", sub(`"edition":0`, `"edition":99999999999999999999`))
	past := func(n int) string {
		return fmt.Sprintf(`{"n":%d,"epoch":0,"root":%q,"date":"2026-09-21T00:00:00Z"}`, n, m.heads[0].Root)
	}
	older := func(name, check string, past ...string) {
		m.refused(name, ".age", "front", check, "", m.seal(bundle.Passphrase(m.epoch, m.id, 300, bundle.LayerFront), 1, frame(fmt.Appendf(nil,
			`{"v":1,"channel":%q,"name":"x","langs":[],"edition":300,"epoch":0,"date":"2026-09-21T00:00:00Z","articles":[],"past":[%s]}`, m.id, strings.Join(past, ","))))).Edition = 300
	}
	var many []string
	for i := range 201 {
		many = append(many, past(i))
	}
	older("front-past-twice", "older editions are distinct", past(7), past(7))
	older("front-past-too-many", "at most 200 older editions", many...)
	m.refused("front-direction-unknown", ".age", "front", "directions are ltr and rtl", "malformed direction", sub(`"dir":"ltr"`, `"dir":"up"`))
	m.refused("front-picture-of-another-type", ".age", "front", "pictures are WebP or JPEG", "malformed image", sub(`image/jpeg`, `image/svg+xml`))
	m.refused("front-picture-65536-wide", ".age", "front", "a picture's sides have at most 65,535 pixels", "malformed image", sub(`"w":40`, `"w":65536`))
	m.refused("front-number-with-exponent", ".age", "front", "numbers have no exponent", "not JSON of this version", sub(`"w":40`, `"w":4e1`))
	m.refused("front-number-with-fraction", ".age", "front", "numbers have no fraction", "not JSON of this version", sub(`"w":40`, `"w":40.0`))
	m.refused("front-picture-without-size", ".age", "front", "pictures have a width and a height", "malformed image", sub(`"w":40`, `"w":0`))
	m.refused("front-span-oversized", ".age", "front", "a frame has at most 4 MiB and 64 KiB", "span out of range", sub(`"text":{"o":0,"n":`, `"text":{"o":0,"n":9`+"000"))
	m.refused("front-version-2", ".age", "front", "v is 1", "unknown version", sub(`{"v":1`, `{"v":2`))
	m.refused("front-says-another-edition", ".age", "front", "channel and edition are those of the leaf", "another edition", sub(`"edition":0`, `"edition":3`))
	m.refused("front-article-twice", ".age", "front", "article IDs are distinct", "listed twice", sub("00112233445566bb", "00112233445566aa"))
	m.refused("front-article-in-unknown-edition", ".age", "front", "an article lies in this edition or one of past", "unknown edition", sub(`"ed":0`, `"ed":5`))
	m.refused("front-title-of-two-lines", ".age", "front", "titles are one line", "malformed title", sub("Ferry line", `Ferry\nline`))
	m.refused("front-script-source", ".age", "front", "sources are http or https", "source URL", sub("https://news.example", "javascript://news.example"))
	m.refused("front-dictionary-of-a-later-edition", ".age", "front", "a dictionary is this edition's or an older one's", "dictionary of a later edition",
		sub(`"edition":0`, `"edition":0,"dict":{"ed":1,"n":4096}`))
	m.refused("front-dictionary-too-large", ".age", "front", "its file has at most 262,144 bytes", "too large", sub(`"edition":0`, `"edition":0,"dict":{"ed":0,"n":262145}`))
	m.refused("front-span-negative", ".age", "front", "spans lie in a layer", "span out of range", sub(`"text":{"o":0`, `"text":{"o":-1`))
	return nil
}

// upperName is a front page whose first DNS name is in upper case.
func upperName(js []byte) []byte {
	out := bytes.Clone(js)
	at := bytes.Index(js, []byte(`"l":"`)) + len(`"l":"`)
	copy(out[at:], bytes.ToUpper(js[at:at+26]))
	return out
}

// bomb is a frame of n zeros in blocks of one byte repeated, in a small window; it does
// not say how large it is.
func bomb(n int) []byte {
	const block = 128 << 10
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}
	for ; n > 0; n -= block {
		header := uint32(block<<3 | 1<<1)
		if n <= block {
			header |= 1
		}
		out = append(out, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return out
}

// sealX25519 is a layer for a public key: what age makes most often.
func (m *maker) sealX25519(plain []byte) []byte {
	var b bytes.Buffer
	x, err := age.GenerateX25519Identity()
	if err != nil {
		m.err = err
		return nil
	}
	w, err := age.Encrypt(&b, x.Recipient())
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

// swapChunks changes the first two chunks' places.
func swapChunks(file []byte) []byte {
	const prologue, chunk = 165, 65_552
	out := bytes.Clone(file)
	copy(out[prologue:], file[prologue+chunk:prologue+2*chunk])
	copy(out[prologue+chunk:], file[prologue:prologue+chunk])
	return out
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func nodeCID(data []byte) cid.Cid { return cid.NewCidV1(cid.DagProtobuf, bundle.RawCID(data).Hash()) }

// pb is a dag-pb node by hand: links (field 2), then data (field 1).
func pb(data []byte, links ...[]byte) []byte {
	var out []byte
	for _, l := range links {
		out = append(append(out, 0x12, byte(len(l))), l...)
	}
	return append(append(out, 0x0a, byte(len(data))), data...)
}

// link is one of pb's: hash 1, name 2, size 3.
func link(c cid.Cid, name string, size byte) []byte {
	l := append([]byte{0x0a, byte(c.ByteLen())}, c.Bytes()...)
	l = append(append(l, 0x12, byte(len(name))), name...)
	return append(l, 0x18, size)
}

// otherHash is a CID that names its block by SHA-512.
func (m *maker) otherHash(b []byte) cid.Cid {
	mh, err := multihash.Sum(b, multihash.SHA2_512, -1)
	if err != nil {
		m.err = err
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// manyLinks is a file of n blocks of one byte.
func manyLinks(n int, c cid.Cid) []byte {
	inner := binary.AppendUvarint([]byte{0x08, 0x02, 0x18}, uint64(n))
	links := make([][]byte, n)
	for i := range links {
		inner = append(inner, 0x20, 1)
		links[i] = link(c, "", 1)
	}
	out := pb(nil, links...)
	out = binary.AppendUvarint(out[:len(out)-1], uint64(len(inner)))
	return append(out, inner...)
}

// invalidHeaders are a CAR's header in other CBOR of the same meaning; root note and head
// stand behind it.
func (m *maker) invalidHeaders(file []byte) {
	size, n := binary.Uvarint(file)
	header, rest := file[n:n+int(size)], file[n+int(size):]
	for range 2 {
		s, n := binary.Uvarint(rest)
		rest = rest[n+int(s):]
	}
	behind := file[n+int(size) : len(file)-len(rest)]
	version := slices.Concat([]byte{0x67}, []byte("version"), []byte{1})
	list := []byte("\xa2\x65roots")
	cids := header[len(list)+1 : len(header)-len(version)]
	put := func(name, check string, header ...[]byte) {
		h := slices.Concat(header...)
		m.refused(name, ".car", "car", check, "header", slices.Concat(binary.AppendUvarint(nil, uint64(len(h))), h, behind))
	}
	start := header[:len(header)-1]
	put("car-header-version-of-two-bytes", "numbers of DAG-CBOR are minimal", start, []byte{0x18, 1})
	put("car-header-version-of-nine-bytes", "numbers of DAG-CBOR are minimal", start, []byte{0x1b, 0, 0, 0, 0, 0, 0, 0, 1})
	put("car-header-list-indefinite", "lists of DAG-CBOR have a length", list, []byte{0x9f}, cids, []byte{0xff}, version)
	put("car-header-and-a-byte", "nothing stands behind roots and version", header, []byte{0})
	put("car-header-version-first", "roots, then version", []byte{0xa2}, version, list[1:], header[len(list):len(list)+1], cids)
	many := slices.Concat(list, []byte{0x99, 0x03, 0xe9})
	for range 1001 {
		many = append(many, cids[:len(cids)/3]...)
	}
	put("car-header-1001-roots", "at most 1,000 roots", many, version)
}

func (m *maker) invalidBlocks() error {
	file := m.cars[0]
	m.refused("car-cut", ".car", "car", "the last section is whole", "cut off", file[:len(file)-1])
	m.refused("car-flipped", ".car", "car", "every block has the hash its CID says", "another hash", flip(file, len(file)-1))
	m.refused("car-version-2", ".car", "car", "the header says version 1", "CAR version 2", append([]byte("\x0a\xa1\x67version\x02"), make([]byte, 60)...))
	m.refused("car-header-oversized", ".car", "car", "a header of at most 64 KiB", "", []byte("\xff\xff\xff\x7f\xa2\x65roots"))
	m.invalidHeaders(file)
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
	folder, fileOf := []byte{0x08, 0x01}, func(total byte, sizes ...byte) []byte {
		out := []byte{0x08, 0x02, 0x18, total}
		for _, s := range sizes {
			out = append(out, 0x20, s)
		}
		return out
	}
	c := bundle.RawCID(raw)
	if links, err := bundle.ParseFile(nodeCID(pb(fileOf(20, 10, 10), link(c, "", 10), link(c, "", 10))), pb(fileOf(20, 10, 10), link(c, "", 10), link(c, "", 10)), 0); err != nil || len(links) != 2 {
		return fmt.Errorf("a file's node written by hand: %w", err)
	}
	put := func(name, as, check, errText string, data []byte) {
		block(name, as, check, errText, nodeCID(data), data)
	}
	put("folder-name-twice", "folder", "names are distinct", "not distinct", pb(folder, link(c, "a", 10), link(c, "a", 10)))
	put("folder-slash-in-name", "folder", "names have no slash", "malformed name", pb(folder, link(c, "a/b", 10)))
	put("folder-is-a-file", "folder", "a folder is UnixFS type 1", "not a folder", pb(fileOf(10, 10), link(c, "", 10)))
	put("folder-dots", "folder", "no name is . or ..", "malformed name", pb(folder, link(c, "..", 10)))
	put("folder-nul-in-name", "folder", "names have no NUL", "malformed name", pb(folder, link(c, "a\x00b", 10)))
	put("folder-name-not-utf8", "folder", "names are UTF-8", "malformed name", pb(folder, link(c, "a\xff", 10)))
	put("folder-inline-data", "folder", "a folder has no data", "not a folder", pb([]byte{0x08, 0x01, 0x12, 0x01, 'x'}, link(c, "a", 10)))
	put("folder-with-a-mode", "folder", "a folder's data is 08 01", "not a folder", pb([]byte{0x08, 0x01, 0x38, 0xed, 0x03}, link(c, "a", 10)))
	put("folder-unsorted", "folder", "names are sorted", "", pb(folder, link(c, "b", 10), link(c, "a", 10)))
	put("folder-name-empty", "folder", "every link has a name", "malformed name", pb(folder, link(c, "", 10)))
	put("folder-data-first", "folder", "dag-pb: links, then data", "", append([]byte{0x0a, 2, 8, 1}, pb(folder, link(c, "a", 10))[:len(link(c, "a", 10))+2]...))
	put("folder-links-to-cid-v0", "folder", "CIDs are version 1", "not a CIDv1", pb(folder, link(cid.NewCidV0(dir.CID.Hash()), "a", 10)))
	put("folder-links-to-another-hash", "folder", "CIDs are of SHA-256", "not a CIDv1", pb(folder, link(m.otherHash(raw), "a", 10)))
	block("folder-is-raw", "folder", "a folder is dag-pb", "not a block of links", bundle.RawCID(pb(folder, link(c, "a", 10))), pb(folder, link(c, "a", 10)))
	large := pb(folder, slices.Collect(func(yield func([]byte) bool) {
		for i := range 1300 {
			if !yield(link(c, fmt.Sprintf("name-%04d", i), 10)) {
				return
			}
		}
	})...)
	put("directory-oversized", "directory", "at most 65,717 bytes", "at most 65717", large)
	put("directory-without-front", "directory", "an edition has front.age", "without a front page", pb(folder, link(c, "text.age", 10)))
	put("file-sizes-do-not-add-up", "file", "filesize is the sum of blocksizes", "don't add up", pb(fileOf(21, 10, 10), link(c, "", 10), link(c, "", 10)))
	put("file-size-missing", "file", "one blocksize a link", "not a file", pb(fileOf(10, 10), link(c, "", 10), link(c, "", 10)))
	put("file-inline-data", "file", "bytes lie in raw blocks only", "not a file", pb([]byte{0x08, 0x02, 0x12, 0x01, 'x', 0x18, 0x01}))
	put("file-links-named", "file", "links of a file have no names", "malformed link", pb(fileOf(10, 10), link(c, "a", 10)))
	put("file-of-175-blocks", "file", "at most 174 links a node", "not a file", manyLinks(175, c))
	put("file-block-oversized", "file", "a raw block has at most 65,717 bytes", "malformed link", pb([]byte{0x08, 0x02, 0x18, 0xb6, 0x81, 0x04, 0x20, 0xb6, 0x81, 0x04}, link(c, "", 10)))
	put("file-without-links", "file", "a node has a link", "not a file", pb(fileOf(0)))
	put("file-oversized", "file", "a file has at most 2^30 bytes", "malformed link", pb([]byte{0x08, 0x02, 0x18, 0x81, 0x80, 0x80, 0x80, 0x04, 0x20, 0x81, 0x80, 0x80, 0x80, 0x04}, link(nodeCID(raw), "", 10)))
	put("file-varint-not-minimal", "file", "varints are minimal", "", pb([]byte{0x08, 0x02, 0x18, 0x8a, 0x00, 0x20, 0x0a}, link(c, "", 10)))
	put("file-is-a-symlink", "file", "a file is UnixFS type 2", "not a file", pb([]byte{0x08, 0x04}))
	put("file-empty-block", "file", "no block is empty", "malformed link", pb(fileOf(0, 0), link(c, "", 0)))
	m.refused("record-missing-name", ".bin", "record", "as many names as the size needs", "bytes of names", append([]byte("\x01\x90\x08"), make([]byte, 16)...))
	m.refused("record-varint-not-minimal", ".bin", "record", "varints are minimal", "number", append([]byte("\x01\x90\x88\x00"), make([]byte, 32)...))
	return nil
}

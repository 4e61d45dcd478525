package bundle

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
)

// What a hostile publisher may sign: it is authentic, and must still not hurt.

// pbLinks is a dag-pb node by hand: links without names, then data.
func pbLinks(data []byte, to cid.Cid, n int) []byte {
	var out []byte
	for range n {
		l := append([]byte{0x0a, byte(to.ByteLen())}, to.Bytes()...)
		l = append(l, 0x12, 0, 0x18, 1)
		out = append(append(out, 0x12, byte(len(l))), l...)
	}
	out = binary.AppendUvarint(append(out, 0x0a), uint64(len(data)))
	return append(out, data...)
}

func TestFewBlocksDoNotUnfold(t *testing.T) {
	h := held{}
	at := RawCID([]byte("x"))
	h[at] = []byte("x")
	for range 3 { // 174³ links, if one believed them
		data := []byte{8, 2, 0x18, 0xae, 1}
		for range dagWidth {
			data = append(data, 0x20, 1)
		}
		node := pbLinks(data, at, dagWidth)
		at = named(node)
		h[at] = node
	}
	dir, err := buildFolder([]folderEntry{{"front.age", at, 1}})
	if err != nil {
		t.Fatal(err)
	}
	h[dir.root] = dir.blocks[0].Data
	v := &Volume{Root: dir.root, Get: h.get}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = v.Front()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrBlock) && !errors.Is(err, ErrLayer) {
		t.Errorf("%v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d MiB for %d blocks", n>>20, len(h))
	}
}

func TestHashesFromFarAway(t *testing.T) {
	in := input(article(1))
	in.Edition, in.Leaves = 1, []channel.Hash{{1}}
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	v := volume(in, p, blocksOf(p))
	for _, first := range []uint64{2, 1 << 26, 1 << 58, 1<<58 + 3, 1 << 59, 1 << 62} {
		if hs, err := v.Hashes(first); len(hs) != 0 || err != nil {
			t.Errorf("from %d: %d hashes, %v", first, len(hs), err)
		}
	}
}

func TestFrontJSON(t *testing.T) {
	var before, after runtime.MemStats
	bomb := `{"v":1,"articles":[` + strings.Repeat("{},", 1_300_000) + `{}]}`
	runtime.GC()
	runtime.ReadMemStats(&before)
	err := unmarshal([]byte(bomb), &Front{})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 32<<20 {
		t.Errorf("a million headlines: %v, %d MiB", err, n>>20)
	}
	for name, js := range map[string]string{
		"behind a bracket": `{"v":1}} more`, "two values": `{"v":1}{"v":1}`, "a key twice": `{"v":1,"name":"a","name":"b"}`,
		"a key twice, in other case": `{"v":1,"name":"a","NAME":"b"}`, "a long s": `{"v":1,"langs":[],"lang\u017f":[]}`,
		"not UTF-8": "{\"v\":1,\"name\":\"\xff\"}", "deep": `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
	} {
		if err := unmarshal([]byte(js), &Front{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := unmarshal([]byte(`{"v":1,"of a later version":{"a":[{"a":1},{"a":2}]}}`+"\n"), &Front{}); err != nil {
		t.Errorf("unknown keys: %v", err)
	}
	for name, f := range map[string]Front{
		"escape in a language": {Langs: []string{"\x1b[2J"}}, "gone": {Gone: []string{"../../x"}},
		"replaces": {Replaces: map[string]string{"<": "b"}}, "log names": {Log: &Names{"a", "b"}},
		"C1 control": {Name: "a\u009b2J"},
	} {
		f.V = 1
		if f.Name == "" {
			f.Name = "n"
		}
		if f.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if (Span{0, 1 << 30}).check() == nil {
		t.Error("an article of a gigabyte accepted")
	}
}

func TestLastChunk(t *testing.T) {
	sealed, err := seal(make([]byte, 10), "p")
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUnsealer(sealed, "p", int64(len(sealed)))
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	nonce[11] = 1
	if _, err := u.chunk(0, u.aead.Seal(nil, nonce, make([]byte, chunkSize+1), nil)); !errors.Is(err, ErrLayer) {
		t.Errorf("longer than 64 KiB: %v", err)
	}
	u.last, nonce[10] = 1, 1
	if _, err := u.chunk(1, u.aead.Seal(nil, nonce, nil, nil)); !errors.Is(err, ErrLayer) {
		t.Errorf("empty: %v", err)
	}
}

func TestNodesAreCanonical(t *testing.T) {
	raw := RawCID([]byte("x"))
	good := pbLinks([]byte{8, 1}, raw, 0)
	if _, err := Children(Block{named(good), good}); err != nil {
		t.Fatal(err)
	}
	link := append([]byte{0x0a, byte(raw.ByteLen())}, raw.Bytes()...)
	link = append(link, 0x12, 1, 'a', 0x18, 1)
	link = append([]byte{0x12, byte(len(link))}, link...)
	for name, b := range map[string][]byte{
		"data before links":  append([]byte{0x0a, 2, 8, 1}, link...),
		"varint not minimal": append(append([]byte{}, link...), 0x0a, 3, 8, 0x81, 0),
	} {
		if _, err := Children(Block{named(b), b}); !errors.Is(err, ErrBlock) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParseFolder(named(b), b); !errors.Is(err, ErrBlock) {
			t.Errorf("%s as a folder: %v", name, err)
		}
	}
}

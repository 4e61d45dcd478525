package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
)

// noise is incompressible: it stands for pictures.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func article(i int, images ...int) Article {
	a := Article{
		ID: fmt.Sprintf("%016x", i), Title: fmt.Sprintf("Заголовок %d", i), Lead: "Коротко о главном.",
		Body: fmt.Sprintf("<p>Текст статьи %d.</p><p>%s</p>", i, strings.Repeat("слово ", 200+i)),
		Lang: "ru", Dir: "ltr", Date: time.Unix(1_700_000_000+int64(i)*60, 0).UTC(), Source: "https://news.example/a",
	}
	for j, n := range images {
		a.Images = append(a.Images, Image{Type: "image/webp", Alt: "фото", Width: 640, Height: 480, Data: noise(uint64(i*100+j), n)})
	}
	return a
}

func input(articles ...Article) Input {
	return Input{
		Channel: channel.ID{7}, Name: "Radio", Langs: []string{"ru"}, Key: channel.EpochKey{9}, RootVersion: 1,
		Date: time.Unix(1_700_100_000, 0), Articles: articles,
		RootNotes: [][]byte{[]byte("a root note")}, Grants: map[string][]byte{"abc": noise(1, 4096), "abd": noise(2, 4096)},
	}
}

// held is a block store that can lose blocks.
type held map[cid.Cid][]byte

func (h held) get(c cid.Cid) ([]byte, error) {
	b, ok := h[c]
	if !ok {
		return nil, ErrMissing
	}
	return b, nil
}

func blocksOf(p *Packed) held {
	h := held{}
	for _, b := range p.Blocks {
		h[b.CID] = b.Data
	}
	return h
}

func volume(in Input, p *Packed, h held) *Volume {
	return &Volume{Channel: in.Channel, Edition: in.Edition, Root: p.Leaf.Root, Key: in.Key, Get: h.get}
}

func TestPackAndRead(t *testing.T) {
	in := input(article(1), article(2, 90_000, 200_000), article(3, 10))
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Blocks {
		if err := CheckBlock(b.CID, b.Data); err != nil {
			t.Fatal(err)
		}
		if _, err := Children(b); err != nil {
			t.Fatal(err)
		}
	}
	if size := p.Sizes[LayerFront]; size != 4096 {
		t.Errorf("small front of %d bytes", size)
	}
	v := volume(in, p, blocksOf(p))
	f, err := v.Front()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Front, f); diff != "" {
		t.Error(diff)
	}
	if f.Articles[0].ID != article(3).ID {
		t.Error("headlines are not newest first")
	}
	for i := range f.Articles {
		e := &f.Articles[i]
		var want Article
		for _, a := range in.Articles {
			if a.ID == e.ID {
				want = a
			}
		}
		got, err := v.Article(e)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Images {
			img, err := v.Image(e, i)
			if err != nil {
				t.Fatal(err)
			}
			got.Images[i].Data = img.Data
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestMissingBlocks fetches an article the way the engine does: ask, fetch what
// is named, ask again.
func TestMissingBlocks(t *testing.T) {
	in := input()
	for i := range 300 {
		a := article(i)
		a.Body = fmt.Sprintf("<p>%x</p>", noise(uint64(i), 2000))
		in.Articles = append(in.Articles, a)
	}
	in.Keep = 300
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	if p.Sizes[LayerText] < 5*MaxBlock {
		t.Fatalf("text layer of %d bytes: the test wants several blocks", p.Sizes[LayerText])
	}
	for _, prologue := range []bool{false, true} {
		all, some := blocksOf(p), held{}
		v := volume(in, p, some)
		e := &p.Front.Articles[10]
		if prologue {
			v.Prologues = map[string][]byte{LayerText: p.Front.Text.Prologue}
		}
		var got *Article
		var err error
		rounds := 0
		for ; rounds < 5; rounds++ {
			got, err = v.Article(e)
			var m *MissingError
			if !errors.As(err, &m) {
				break
			}
			for _, w := range m.Wants {
				if some[w.CID] != nil {
					t.Fatal("asked for a block that is held")
				}
				if w.Size != 0 && w.Size != len(all[w.CID]) {
					t.Errorf("want of %d bytes for a block of %d", w.Size, len(all[w.CID]))
				}
				some[w.CID] = all[w.CID]
			}
		}
		if err != nil || rounds != 3 {
			t.Fatalf("prologue %v: %d rounds, %v", prologue, rounds, err)
		}
		if len(got.Body) < 4000 {
			t.Error("article lost its body")
		}
	}
}

// A layer of more than 174 blocks has nodes below its root. They are missing all at
// once, and Walk comes by each block.
func TestNodesBelowNodes(t *testing.T) {
	const mb = 1 << 20
	in := input(article(1, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb, 2*mb))
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	all, have := blocksOf(p), held{}
	v := volume(in, p, have)
	last := &p.Front.Articles[0]
	for rounds := 1; ; rounds++ {
		_, err := v.Image(last, 12)
		var m *MissingError
		if !errors.As(err, &m) {
			if err != nil || rounds != 5 { // directory, root, nodes, chunks
				t.Errorf("round %d: %v", rounds, err)
			}
			break
		}
		if rounds == 3 && len(m.Wants) != 3 {
			t.Errorf("%d nodes are missing instead of 3", len(m.Wants))
		}
		for _, w := range m.Wants {
			have[w.CID] = all[w.CID]
		}
	}
	visited := 0
	if err := volume(in, p, all).Walk(func(Want, []byte) error { visited++; return nil }); err != nil || visited != len(all) {
		t.Errorf("%d blocks of %d, %v", visited, len(all), err)
	}
}

// Who asks only what is missing reads no leaf, and hears of the same blocks as who
// reads.
func TestMissingOf(t *testing.T) {
	in := input(article(1, 300_000, 200_000), article(2, 400_000))
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	all := blocksOf(p)
	spans := []Span{{Offset: -1, Size: 5}, {Offset: 1 << 40, Size: 5}} // that can't be read
	byID := map[string]*Entry{}
	for i := range p.Front.Articles {
		byID[p.Front.Articles[i].ID] = &p.Front.Articles[i]
	}
	e := byID[article(2).ID]
	spans = append(spans, e.Images[0].Span, e.Images[0].Span)
	for _, prologue := range []bool{false, true} {
		for _, asks := range []bool{false, true} {
			have, leaves := held{}, 0
			v := volume(in, p, have)
			if !prologue {
				v.Prologues = nil
			}
			v.Get = func(c cid.Cid) ([]byte, error) {
				if c.Type() == cid.Raw {
					leaves++
				}
				return have.get(c)
			}
			if asks {
				v.Holds = func(cs []cid.Cid) ([]bool, error) {
					out := make([]bool, len(cs))
					for i, c := range cs {
						_, out[i] = have[c]
					}
					return out, nil
				}
			}
			reads := volume(in, p, have)
			reads.Prologues = v.Prologues
			for range 8 {
				wants, err := v.MissingOf(LayerMedia, spans)
				var m, other *MissingError
				if errors.As(err, &m) {
					wants = m.Wants
				} else if err != nil {
					t.Fatal(err)
				}
				if _, err := reads.Image(e, 0); errors.As(err, &other) != (len(wants) > 0) {
					t.Fatalf("%d blocks are missing, and reading says %v", len(wants), err)
				}
				if len(wants) == 0 {
					break
				}
				for _, w := range wants {
					if !slices.ContainsFunc(other.Wants, func(o Want) bool { return o.CID == w.CID }) || len(other.Wants) != len(wants) {
						t.Fatalf("missing are %d blocks, to be read %d", len(wants), len(other.Wants))
					}
					have[w.CID] = all[w.CID]
				}
			}
			if _, err := reads.Image(e, 0); err != nil || len(have) == len(all) {
				t.Errorf("prologue %v: %v with %d blocks of %d", prologue, err, len(have), len(all))
			}
			for rounds := 0; ; rounds++ {
				var m *MissingError
				if err := v.Walk(nil); !errors.As(err, &m) {
					if err != nil || len(have) != len(all) || rounds > 3 {
						t.Errorf("after %d rounds %d blocks of %d are here: %v", rounds, len(have), len(all), err)
					}
					break
				}
				for _, w := range m.Wants {
					if have[w.CID] != nil {
						t.Fatal("asked for a block that is held")
					}
					have[w.CID] = all[w.CID]
				}
			}
			if asks && leaves > 0 {
				t.Errorf("%d leaves were read", leaves)
			}
		}
	}
}

func TestSecondEdition(t *testing.T) {
	in := input(article(1), article(2))
	first, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	next := input(article(3))
	corrected := article(2)
	corrected.Title = "Исправлено"
	next.Articles = append(next.Articles, corrected)
	next.Edition, next.Previous, next.PreviousLeaf = 1, first.Front, &first.Leaf
	next.Leaves = []channel.Hash{first.Leaf.Hash()}
	second, err := Pack(next)
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]Entry{}
	for _, e := range second.Front.Articles {
		byID[e.ID] = e
	}
	if len(byID) != 3 || byID[article(1).ID].Edition != 0 || byID[corrected.ID].Title != "Исправлено" || byID[corrected.ID].Edition != 1 {
		t.Errorf("front page: %+v", byID)
	}
	if len(second.Front.Past) != 1 || second.Front.Past[0].Root != first.Leaf.Root.String() || second.Front.Past[0].Articles != 2 {
		t.Errorf("past: %+v", second.Front.Past)
	}
	for _, n := range []int{-1, maxEntries + 1} {
		wrong := *second.Front
		wrong.Past = []Past{wrong.Past[0]}
		if wrong.Past[0].Articles = n; wrong.check() == nil || second.Front.check() != nil {
			t.Errorf("an edition of %d headlines is accepted", n)
		}
	}
	hs, err := volume(next, second, blocksOf(second)).Hashes(0)
	if err != nil || len(hs) != 1 || hs[0] != first.Leaf.Hash() {
		t.Errorf("log: %v, %v", hs, err)
	}
}

// TestForgeries: a wrong key, a layer swapped between editions, and every
// single flipped byte of a front page are refused.
func TestForgeries(t *testing.T) {
	in := input(article(1))
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	var file []byte
	for _, b := range p.Blocks {
		if len(b.Data) == 4096 && bytes.HasPrefix(b.Data, []byte("age-")) {
			file = b.Data
		}
	}
	if _, err := OpenFront(in.Key, in.Channel, 0, file); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"wrong key":       func() error { _, err := OpenFront(channel.EpochKey{1}, in.Channel, 0, file); return err },
		"other channel":   func() error { _, err := OpenFront(in.Key, channel.ID{8}, 0, file); return err },
		"other edition":   func() error { _, err := OpenFront(in.Key, in.Channel, 1, file); return err },
		"cut at a chunk":  func() error { _, err := OpenFront(in.Key, in.Channel, 0, file[:PrologueSize]); return err },
		"cut by one byte": func() error { _, err := OpenFront(in.Key, in.Channel, 0, file[:len(file)-1]); return err },
		"one byte more":   func() error { _, err := OpenFront(in.Key, in.Channel, 0, append(bytes.Clone(file), 0)); return err },
		"empty":           func() error { _, err := OpenFront(in.Key, in.Channel, 0, nil); return err },
	} {
		if err := try(); !errors.Is(err, ErrLayer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := OpenFront(in.Key, in.Channel, 0, bad); err == nil {
			t.Fatalf("byte %d flipped: accepted", i)
		}
	}
}

func TestHeaderGate(t *testing.T) {
	sealed, err := seal([]byte("text"), "passphrase")
	if err != nil {
		t.Fatal(err)
	}
	if !plainHeader(sealed[:HeaderSize]) {
		t.Fatalf("our own header is refused: %q", sealed[:HeaderSize])
	}
	costly := bytes.Replace(sealed, []byte(" 1\n"), []byte(" 9\n"), 1)
	if _, err := newUnsealer(costly, "passphrase", int64(len(costly))); !errors.Is(err, ErrLayer) {
		t.Errorf("work factor 9: %v", err)
	}
}

func TestPadding(t *testing.T) {
	for _, layer := range []string{LayerFront, LayerText} {
		for n := 1; n < 40_000; n += 7 {
			b := pad(make([]byte, n), layer)
			if gap := len(b) - n; gap != 0 && unpadded(b[n:]) != nil {
				t.Fatalf("%s of %d bytes: padding is not readable", layer, n)
			}
			if want := paddedSize(len(b), layer); want != len(b) {
				t.Fatalf("%s of %d bytes: padded to %d, which is no size of the scheme", layer, n, len(b))
			}
		}
	}
	bad := pad(make([]byte, 100), LayerFront)
	bad[len(bad)-1] = 1
	if unpadded(bad[100:]) == nil {
		t.Error("padding that is not zero accepted")
	}
}

func TestDecompressionBomb(t *testing.T) {
	bomb := compress(make([]byte, 64<<20))
	if _, err := decompress(bomb, 1<<20); !errors.Is(err, ErrLayer) {
		t.Errorf("64 MiB from %d bytes: %v", len(bomb), err)
	}
	if _, err := decompress(append(compress([]byte("a")), 'x'), 100); !errors.Is(err, ErrLayer) {
		t.Errorf("bytes after the frame: %v", err)
	}
}

func TestPackRefuses(t *testing.T) {
	for name, change := range map[string]func(*Article){
		"empty title":   func(a *Article) { a.Title = "" },
		"newline":       func(a *Article) { a.Title = "a\nb" },
		"long title":    func(a *Article) { a.Title = strings.Repeat("я", 300) },
		"bad ID":        func(a *Article) { a.ID = "../../../../etc/" },
		"bad direction": func(a *Article) { a.Dir = "up" },
		"bad language":  func(a *Article) { a.Lang = "ru\"" },
		"script URL":    func(a *Article) { a.Source = "javascript:alert(1)" },
		"huge image": func(a *Article) {
			a.Images = []Image{{Type: "image/webp", Width: 1, Height: 1, Data: make([]byte, maxImage+1)}}
		},
		"SVG": func(a *Article) {
			a.Images = []Image{{Type: "image/svg+xml", Width: 1, Height: 1, Data: []byte("<svg/>")}}
		},
	} {
		a := article(1)
		change(&a)
		if _, err := Pack(input(a)); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
}

// A file that doesn't begin as the front page says is not handed out: age would read
// its own header.
func TestCopyOfAnotherPrologue(t *testing.T) {
	in := input(article(1))
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	v := volume(in, p, blocksOf(p))
	v.Prologues = map[string][]byte{LayerText: bytes.Repeat([]byte{1}, PrologueSize)}
	var out bytes.Buffer
	if _, err := v.Copy(&out, LayerText); !errors.Is(err, ErrLayer) || out.Len() != 0 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
	v.Prologues[LayerText] = p.Front.Text.Prologue
	if _, err := v.Copy(&out, LayerText); err != nil || int64(out.Len()) != p.Sizes[LayerText] {
		t.Errorf("%d bytes of %d, %v", out.Len(), p.Sizes[LayerText], err)
	}
}

// A log of more leaves than fit a front page is read, as far as a reader asks.
func TestLongLog(t *testing.T) {
	const n = 4<<20/32 + 5000
	leaves := make([]channel.Hash, n)
	for i := range leaves {
		leaves[i] = channel.Hash{byte(i >> 16), byte(i >> 8), byte(i)}
	}
	log, err := buildFile(channel.JoinHashes(leaves), logChunk, logChunk)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := buildFolder([]folderEntry{{"front.age", RawCID([]byte("front")), 5}, {"log", log.root, log.tsize}})
	if err != nil {
		t.Fatal(err)
	}
	h := held{}
	for _, b := range append(log.blocks, dir.blocks...) {
		h[b.CID] = b.Data
	}
	v := &Volume{Edition: n, Root: dir.root, Get: h.get}
	for _, first := range []uint64{0, 3000, n - 1, n} {
		got, err := v.Hashes(first)
		if err != nil || !slices.Equal(got, leaves[first:]) {
			t.Errorf("from %d on: %d of %d, %v", first, len(got), n-first, err)
		}
	}
}

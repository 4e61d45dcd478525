package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"tamizdat/bundle/channel"
)

// bulletin is an article of a channel whose articles have much in common: in every
// third one in Russian, else in English.
func bulletin(i int) Article {
	a := article(i)
	a.Lang, a.Title = "en", fmt.Sprintf("The council met for the %d. time", i)
	a.Body = fmt.Sprintf("<p>The town council met on Monday and spoke about the water of the river, for the %d. time.</p><p>Nobody said %x.</p>", i, noise(uint64(i), 12))
	if i%3 == 0 {
		a.Lang, a.Title = "ru", fmt.Sprintf("Совет собрался в %d-й раз", i)
		a.Body = fmt.Sprintf("<p>Городской совет собрался в понедельник и говорил о воде в реке, в %d-й раз.</p><p>Никто не сказал %x.</p>", i, noise(uint64(i), 12))
	}
	return a
}

func bulletins(from, n int) (out []Article) {
	for i := range n {
		out = append(out, bulletin(from+i))
	}
	return out
}

func trained(t testing.TB) *Dictionary {
	t.Helper()
	d, err := TrainDictionary(bulletins(1000, 90), 4<<10)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// packed makes the next edition behind prev, nil for none.
func packed(t testing.TB, in Input, prev *Packed, articles ...Article) (*Volume, *Packed, Input) {
	t.Helper()
	in.Articles = articles
	if prev != nil {
		in.Edition, in.Previous, in.PreviousLeaf = prev.Leaf.Edition+1, prev.Front, &prev.Leaf
		in.Leaves = make([]channel.Hash, in.Edition)
	}
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	v := volume(in, p, blocksOf(p))
	v.Dict = p.Front.Dict
	return v, p, in
}

// file is a layer's file.
func fileOf(t testing.TB, v *Volume, layer string) []byte {
	t.Helper()
	var out strings.Builder
	if ok, err := v.Copy(&out, layer); err != nil || !ok {
		t.Fatalf("no %s: %v", layer, err)
	}
	return []byte(out.String())
}

func TestDictionary(t *testing.T) {
	d := trained(t)
	in := input()
	_, plain, _ := packed(t, in, nil, bulletins(0, 30)...)
	in.Dict = d
	v0, p0, in := packed(t, in, nil, bulletins(0, 30)...)
	if p0.Front.Dict == nil || p0.Front.Dict.Edition != 0 {
		t.Fatalf("not used: %+v", p0.Front.Dict)
	}
	if p0.Sizes[LayerText] > plain.Sizes[LayerText]*3/4 {
		t.Errorf("%d bytes of texts instead of %d", p0.Sizes[LayerText], plain.Sizes[LayerText])
	}
	reads(t, v0, p0.Front, in.Articles)

	// The next edition uses the file again, byte for byte.
	in.DictFile = &DictFile{Edition: 0, Epoch: in.Epoch, File: fileOf(t, v0, LayerDict)}
	v1, p1, in1 := packed(t, in, p0, bulletins(30, 30)...)
	if p1.Front.Dict == nil || p1.Front.Dict.Edition != 0 {
		t.Fatalf("not used again: %+v", p1.Front.Dict)
	}
	if diff := cmp.Diff(p0.Front.Dict, p1.Front.Dict); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(p0.Front.Dict, p1.Front.Past[0].Dict); diff != "" {
		t.Error(diff)
	}
	if v1.Root.Equals(v0.Root) || string(fileOf(t, v1, LayerDict)) != string(in.DictFile.File) {
		t.Error("another file")
	}
	reads(t, v1, p1.Front, in1.Articles)

	// Nor another dictionary nor a key of another epoch opens it.
	other, err := TrainDictionary(bulletins(2000, 60), 3<<10)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Input){
		"another dictionary": func(in *Input) { in.Dict = other },
		"a new epoch":        func(in *Input) { in.Epoch, in.Key = 1, channel.EpochKey{10} },
		"a damaged file": func(in *Input) {
			in.DictFile = &DictFile{Epoch: in.Epoch, File: slices.Concat(in.DictFile.File, []byte{0})}
		},
		"a file of a later edition": func(in *Input) {
			in.DictFile = &DictFile{Edition: 1, Epoch: in.Epoch, File: in.DictFile.File}
		},
	} {
		in := in
		change(&in)
		v, p, in := packed(t, in, p0, bulletins(60, 30)...)
		if p.Front.Dict == nil || p.Front.Dict.Edition != 1 {
			t.Errorf("%s: %+v", name, p.Front.Dict)
			continue
		}
		reads(t, v, p.Front, in.Articles)
	}

	// What it doesn't make smaller goes without.
	if _, p, _ := packed(t, in, p0); p.Front.Dict != nil || p.Front.Text != nil || p.Sizes[LayerDict] != 0 {
		t.Error("used for no article")
	}
	in.Dict, in.DictFile = noisy(t), nil
	if _, p, _ := packed(t, in, p0, bulletins(0, 5)...); p.Front.Dict != nil || p.Sizes[LayerDict] != 0 {
		t.Error("used though its file costs more than five articles gain")
	}
}

// noisy is a dictionary whose content is no use, but for the tables.
func noisy(t *testing.T) *Dictionary {
	t.Helper()
	var lines [][]byte
	for _, a := range bulletins(0, 20) {
		b, err := sample(&a)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b)
	}
	b, err := zstd.BuildDict(zstd.BuildDictOptions{ID: 40_000, Contents: lines, History: noise(5, 60_000), Offsets: [3]int{1, 4, 8}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseDictionary(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// reads compares the texts of an edition with what was packed.
func reads(t *testing.T, v *Volume, f *Front, want []Article) {
	t.Helper()
	got := map[string]string{}
	for i := range f.Articles {
		if f.Articles[i].Edition != v.Edition {
			continue
		}
		a, err := v.Article(&f.Articles[i])
		if err != nil {
			t.Fatal(err)
		}
		got[a.ID] = a.Body
	}
	bodies := map[string]string{}
	for _, a := range want {
		bodies[a.ID] = a.Body
	}
	if diff := cmp.Diff(bodies, got); diff != "" {
		t.Error(diff)
	}
}

// A text and its dictionary are asked for at once.
func TestDictionaryIsFetchedWithTheText(t *testing.T) {
	in := input()
	in.Dict = trained(t)
	v, p, _ := packed(t, in, nil, bulletins(0, 30)...)
	h, e := held{}, &p.Front.Articles[0]
	v.Get = h.get
	all := blocksOf(p)
	var rounds [][]string
	for {
		_, err := v.Article(e)
		var m *MissingError
		if !errors.As(err, &m) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		var layers []string
		for _, w := range m.Wants {
			layers = append(layers, w.Layer)
			h[w.CID] = all[w.CID]
		}
		slices.Sort(layers)
		rounds = append(rounds, layers)
	}
	if diff := cmp.Diff([][]string{{LayerDirectory}, {LayerDict, LayerText}}, rounds); diff != "" {
		t.Error(diff)
	}
}

// What a publisher may have signed, by mistake or under force.
func TestHostileDictionary(t *testing.T) {
	d := trained(t)
	in := input()
	in.Dict = d
	_, p, _ := packed(t, in, nil, bulletins(0, 30)...)
	e := &p.Front.Articles[0]
	refused := func(name, want string, v *Volume) {
		t.Helper()
		if _, err := v.Article(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := func() *Volume { return volume(in, p, blocksOf(p)) }
	v := again()
	refused("nobody names it", "dictionary that nobody named", v)
	v = again()
	v.Dict = &Dict{Edition: 7, Size: p.Front.Dict.Size}
	refused("of another edition", "wrong key", v)
	v = again()
	v.Dict = &Dict{Size: p.Front.Dict.Size + 1}
	refused("of another size", "another dict than", v)

	// A gigabyte of a dictionary is not asked for.
	large, err := buildFile(make([]byte, 1<<20), firstBlock, sealedChunk)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := buildFolder([]folderEntry{{"dict.age", large.root, large.tsize}, {"front.age", large.root, large.tsize}, {"text.age", large.root, large.tsize}})
	if err != nil {
		t.Fatal(err)
	}
	h := held{dir.root: dir.blocks[0].Data, large.root: large.blocks[0].Data}
	v = &Volume{Root: dir.root, Get: h.get, Dict: &Dict{Size: 2 << 20}}
	refused("of a megabyte", "larger dict", v)
	_, plain, _ := packed(t, input(), nil, bulletins(0, 30)...)
	v = volume(in, plain, blocksOf(plain))
	v.Dict = &Dict{}
	refused("not there", "the edition has no dict", v)
	v = again()
	v.Dict = p.Front.Dict
	other, err := TrainDictionary(bulletins(2000, 60), 3<<10)
	if err != nil {
		t.Fatal(err)
	}
	v.opened.Store(other)
	refused("of another ID", "another dictionary", v)

	encoder, err := d.encoder()
	if err != nil {
		t.Fatal(err)
	}
	for name, frame := range map[string][]byte{
		"a bomb":             encoder.EncodeAll(make([]byte, maxLine+1), nil),
		"bytes behind":       append(encoder.EncodeAll([]byte("council"), nil), 0),
		"without dictionary": compress([]byte("the town council met")),
		"cut":                encoder.EncodeAll([]byte(bulletin(1).Body), nil)[:40],
		"nothing":            nil,
		"two frames":         encoder.EncodeAll([]byte("b"), encoder.EncodeAll([]byte("a"), nil)),
		"of unsaid size":     unsized(encoder.EncodeAll([]byte("council"), nil)),
		"says more than it has": func() []byte {
			b := encoder.EncodeAll([]byte(bulletin(1).Body), nil)
			b[7] = 0xff // the content's size, behind magic, descriptor and ID
			return b
		}(),
	} {
		if b, err := d.decompress(frame); !errors.Is(err, ErrLayer) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// unsized takes the size of its content from a small frame's header.
func unsized(frame []byte) []byte {
	out := slices.Clone(frame[:4])
	out = append(out, frame[4]&^0xe0, 0) // no single segment, no size: a window of 1 KiB
	return append(append(out, frame[5:7]...), frame[8:]...)
}

func TestTrainDictionary(t *testing.T) {
	if _, err := TrainDictionary(nil, 4<<10); !errors.Is(err, ErrFewArticles) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := TrainDictionary(bulletins(0, 15), 4<<10); !errors.Is(err, ErrFewArticles) {
		t.Errorf("of fifteen: %v", err)
	}
	same := make([]Article, 40)
	for i := range same {
		same[i] = bulletin(1)
	}
	if _, err := TrainDictionary(same, 4<<10); !errors.Is(err, ErrFewArticles) {
		t.Errorf("of one article forty times: %v", err)
	}
	d, err := TrainDictionary(bulletins(0, 300), 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.Bytes()); n > 8<<10 || n < 1<<10 {
		t.Errorf("%d bytes", n)
	}
	if got := binary.LittleEndian.Uint32(d.Bytes()[4:]); got != d.ID() || got < 32768 || got > 65535 {
		t.Errorf("ID %d in the file, %d said", got, d.ID())
	}
	// Each language has its part.
	for _, word := range []string{"council", "Городской"} {
		if !strings.Contains(string(d.Bytes()), word) {
			t.Errorf("%q is not in it", word)
		}
	}
	without, with, err := d.Gain(bulletins(500, 30))
	if err != nil || with > without*3/4 {
		t.Errorf("%d bytes with it, %d without, %v", with, without, err)
	}
	sealed, err := seal(pad(compress(d.Bytes()), LayerDict), "p")
	if err != nil || len(sealed) != d.FileSize() {
		t.Errorf("a file of %d bytes, said to be %d, %v", len(sealed), d.FileSize(), err)
	}
}

func FuzzDictionary(f *testing.F) {
	d := trained(f)
	encoder, err := d.encoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.Bytes(), encoder.EncodeAll([]byte(bulletin(1).Body), nil))
	f.Add(d.Bytes()[:200], []byte{})
	f.Add(append([]byte("\x37\xa4\x30\xec\x00\x80\x00\x00"), make([]byte, 64)...), compress([]byte("x")))
	f.Fuzz(func(t *testing.T, dict, frame []byte) {
		d, err := ParseDictionary(dict)
		if err != nil {
			if !errors.Is(err, ErrDictionary) {
				t.Fatal(err)
			}
			return
		}
		out, err := d.decompress(frame)
		if err != nil && !errors.Is(err, ErrLayer) || len(out) > maxLine {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
	})
}

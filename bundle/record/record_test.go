package record

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func random(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// store is all records of a tree by name.
type store map[Name][]byte

func build(t *testing.T, c Class, pieces ...[]byte) (store, Name) {
	t.Helper()
	s := store{}
	tree := NewTree(c, pieces...)
	for it, rec := range tree.All() {
		if NameOf(rec) != it.Name {
			t.Fatal("record under a name that isn't its hash")
		}
		if len(rec) > c.Max() || ClassOf(rec) != c {
			t.Fatalf("%v record of %d bytes, first %#x", c, len(rec), rec[0])
		}
		s[it.Name] = rec
	}
	return s, tree.Name
}

// read is a naive reader, written apart from the one in transport/dns: it knows
// nothing but what records say.
func (s store) read(t *testing.T, name Name, count int) [][]byte {
	t.Helper()
	rec, ok := s[name]
	if !ok {
		t.Fatal("a record is missing")
	}
	r, err := Parse(rec)
	if err != nil {
		t.Fatal(err)
	}
	switch r.Kind {
	case Leaf:
		return [][]byte{r.Payload}
	case Piece:
		var all []byte
		for i, n := range r.Names {
			off, size := r.Stretch(i)
			part := s.read(t, n, 1)[0]
			if off != len(all) || size != len(part) {
				t.Fatalf("child %d covers %d at %d, want %d at %d", i, len(part), len(all), size, off)
			}
			all = append(all, part...)
		}
		return [][]byte{all}
	case List:
		var out [][]byte
		for _, n := range r.Names {
			out = append(out, s.read(t, n, 0)...)
		}
		return out
	case ShortList:
		var out [][]byte
		for i, size := range r.Sizes {
			var all []byte
			for _, n := range r.LeavesOf(i) {
				all = append(all, s.read(t, n, 1)[0]...)
			}
			if len(all) != size {
				t.Fatalf("piece %d has %d bytes, want %d", i, len(all), size)
			}
			out = append(out, all)
		}
		return out
	default:
	}
	t.Fatal("unexpected kind")
	return nil
}

func TestTreesRoundTrip(t *testing.T) {
	sizes := []int{0, 1, 298, 299, 300, 1038, 1039, 1040, 4096, 5382, 5383, 8192, 65536, 65552, MaxPiece}
	for _, c := range Classes {
		for _, n := range sizes {
			want := random(uint64(n), n)
			s, name := build(t, c, want)
			if got := s.read(t, name, 1); len(got) != 1 || !bytes.Equal(got[0], want) {
				t.Errorf("%v: piece of %d bytes came back differently", c, n)
			}
		}
		for _, counts := range [][]int{{2, 10}, {2, 4000}, {3, 65552}, {18, 100}, {19, 100}, {64, 1039}, {65, 1039}, {64*3 + 1, 50}, {400, 300}} {
			pieces := make([][]byte, counts[0])
			for i := range pieces {
				pieces[i] = random(uint64(i), max(0, counts[1]-i%3))
			}
			s, name := build(t, c, pieces...)
			got := s.read(t, name, len(pieces))
			if fmt.Sprint(got) != fmt.Sprint(pieces) {
				t.Errorf("%v: %d pieces of about %d bytes came back as %d others", c, counts[0], counts[1], len(got))
			}
		}
	}
}

func TestStepFindsPiece(t *testing.T) {
	for _, c := range Classes {
		pieces := make([][]byte, 5000)
		for i := range pieces {
			pieces[i] = fmt.Appendf(nil, "piece %d", i)
		}
		s, top := build(t, c, pieces...)
		for _, want := range []int{0, 1, c.Fan() - 1, c.Fan(), 1234, len(pieces) - 1} {
			name, i, count := top, want, len(pieces)
			for count > 1 {
				r, err := Parse(s[name])
				if err != nil {
					t.Fatal(err)
				}
				if r.Count != count {
					t.Fatalf("%v: count %d where the parent says %d", c, r.Count, count)
				}
				if r.Kind == ShortList {
					name, count = r.LeavesOf(i)[0], 1
					continue
				}
				name, i, count = r.Step(i)
			}
			if got := s.read(t, name, 1)[0]; !bytes.Equal(got, pieces[want]) {
				t.Errorf("%v: walked to %q instead of piece %d", c, got, want)
			}
		}
	}
}

// A front page of 16 KiB and its directory must hang on one Large record, or
// DNS needs a fourth round trip.
func TestFrontIsOneLevel(t *testing.T) {
	tree := NewTree(Large, random(1, 900), random(2, 16384))
	r, err := Parse(tree.Top())
	if err != nil || r.Kind != ShortList || r.Count != 2 {
		t.Fatalf("top is %+v, %v", r.Kind, err)
	}
}

func TestNamesOf(t *testing.T) {
	a, b := random(1, 3000), random(2, 70)
	got := NamesOf(a, b)
	if got.Large != NewTree(Large, a, b).Name || got.Small != NewTree(Small, a, b).Name {
		t.Error("NamesOf differs from the trees")
	}
	if one := NamesOf(b); one.Large != NameOf(append([]byte{0}, b...)) || one.Small != NameOf(append([]byte{16}, b...)) {
		t.Error("a short piece alone is not just its leaf")
	}
	if (NamesOf() != Names{}) {
		t.Error("no pieces should have no names")
	}
	if NamesOf(a, b) == NamesOf(b, a) {
		t.Error("order does not matter, but should")
	}
}

func TestItemsTellWhereLeavesLie(t *testing.T) {
	pieces := [][]byte{random(1, 2500), random(2, 10)}
	b := NewBuilder(Large, func(it Item) {
		if it.Index != nil {
			return
		}
		rec := append([]byte{KindByte(Large, Leaf)}, pieces[it.Piece][it.Offset:it.Offset+it.Size]...)
		if NameOf(rec) != it.Name {
			t.Errorf("leaf at %d of piece %d is not there", it.Offset, it.Piece)
		}
	})
	for _, p := range pieces {
		b.Add(p)
	}
	b.Finish()
}

func TestLabels(t *testing.T) {
	name := NameOf([]byte("anything"))
	label := name.Label()
	if len(label) != LabelLen {
		t.Fatal(label)
	}
	if got, err := ParseLabel(strings.ToUpper(label)); err != nil || got != name {
		t.Errorf("upper case: %v, %v", got, err)
	}
	for _, bad := range []string{"", label[1:], label + "a", label[:25] + "1", label[:25] + "\n", label[:25] + "z", label[:24] + "\n\n"} {
		if bad == label {
			continue
		}
		if _, err := ParseLabel(bad); !errors.Is(err, ErrBad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParts(t *testing.T) {
	for _, n := range []int{1, 294, 295, 588, 809, MaxRecord} {
		data := random(uint64(n), n)
		recs, err := Parts(data)
		if err != nil {
			t.Fatal(err)
		}
		parts := make([]Record, len(recs))
		for i, rec := range recs {
			if parts[i], err = Parse(rec); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := Join(parts); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if len(parts) > 1 {
			if _, err := Join(parts[:len(parts)-1]); err == nil {
				t.Error("joined without the last part")
			}
			other, _ := Parts(random(99, n))
			parts[1], _ = Parse(other[1])
			if _, err := Join(parts); err == nil {
				t.Error("joined parts of two heads")
			}
		}
	}
	for _, n := range []int{0, MaxRecord + 1} {
		if _, err := Parts(make([]byte, n)); err == nil {
			t.Errorf("cut %d bytes", n)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	names := func(n int) string { return strings.Repeat("0123456789abcdef", n) }
	bad := map[string]string{
		"empty":                 "",
		"unknown kind":          "\x05abc",
		"unknown class":         "\x20abc",
		"too long":              "\x00" + strings.Repeat("x", 1040),
		"too long for small":    "\x10" + strings.Repeat("x", 300),
		"piece of one leaf":     "\x01\x8f\x08" + names(1),
		"piece over the limit":  "\x01\xb6\x81\x04" + names(64),
		"missing name":          "\x01\x90\x08" + names(1),
		"name too many":         "\x01\x90\x08" + names(3),
		"half a name":           "\x01\x90\x08" + names(1) + "01234567",
		"long varint":           "\x01\x90\x88\x00" + names(2),
		"endless varint":        "\x01" + strings.Repeat("\xff", 20),
		"list of one":           "\x02\x01" + names(1),
		"list of 2 with 3":      "\x02\x02" + names(3),
		"list without end":      "\x02\xff\xff\xff\xff\x0f" + names(2),
		"short list, no sizes":  "\x03\x3d",
		"short list, huge size": "\x03\x02\x01\xb6\x81\x04" + names(65),
		"part of large":         "\x04\x00abcdx",
		"empty part":            "\x14\x00abcd",
		"part 1 of 1":           "\x14\x01abcdx",
		"part of five":          "\x14\x40abcdx",
		"first part short":      "\x14\x10abcdx",
	}
	for what, rec := range bad {
		if r, err := Parse([]byte(rec)); !errors.Is(err, ErrBad) {
			t.Errorf("%s: parsed as kind %d, %v", what, r.Kind, err)
		}
	}
}

// seeds are the records of the corpus under testdata/records, which other
// implementations can use as well.
func seeds(t testing.TB) [][]byte {
	files, err := filepath.Glob("testdata/records/*.bin")
	if err != nil || len(files) < 8 {
		t.Fatalf("seed corpus has %d files, %v", len(files), err)
	}
	var out [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		r, err := Parse(rec)
		if err != nil {
			return
		}
		if got := r.Append(nil); !bytes.Equal(got, rec) {
			t.Fatalf("%x encodes to %x", rec, got)
		}
		switch r.Kind { // walking what parsed must not panic
		case Piece:
			for i := range r.Names {
				if off, n := r.Stretch(i); n < 1 || off+n > r.Size {
					t.Fatalf("child %d covers %d at %d of %d", i, n, off, r.Size)
				}
			}
		case List:
			for i := range min(r.Count, 5000) {
				if _, rest, count := r.Step(i); rest < 0 || rest >= count || count >= r.Count {
					t.Fatalf("piece %d is %d of %d", i, rest, count)
				}
			}
		case ShortList:
			for i := range r.Count {
				if len(r.LeavesOf(i)) != r.Class.Leaves(r.Sizes[i]) {
					t.Fatalf("piece %d", i)
				}
			}
		default:
		}
	})
}

func TestSeedsParse(t *testing.T) {
	kinds := map[byte]bool{}
	for _, s := range seeds(t) {
		if _, err := Parse(s); err == nil {
			kinds[s[0]] = true
		}
	}
	for _, k := range []byte{0, 1, 2, 3, 16, 17, 18, 19, 20} {
		if !kinds[k] {
			t.Errorf("no seed of kind byte %d", k)
		}
	}
}

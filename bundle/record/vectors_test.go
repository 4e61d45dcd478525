package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"

	"tamizdat/internal/testvectors"
)

// Vectors for other implementations, beside those of package bundle: trees by
// their names, and what must be refused. With -update the files are made anew;
// nothing in them is random.
var update = flag.Bool("update", false, "make the files dns-trees.json and dns-invalid.json anew")

// stream is the bytes that vectors are made of: SHA-256(seed ‖ uint64-BE i) for i
// from 0 on, one behind the other, cut to size.
func stream(seed string, size int) []byte {
	var out []byte
	for i := uint64(0); len(out) < size; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(seed), i))
		out = append(out, sum[:]...)
	}
	return out[:size]
}

// treeVector is a list of pieces and what its trees are called.
type treeVector struct {
	// Seed and Sizes: piece i is stream(Seed ‖ decimal i, Sizes[i]).
	Seed  string `json:"seed"`
	Sizes []int  `json:"sizes"`
	Large string `json:"large"`
	Small string `json:"small"`
	// Records is how many records there are in either tree, each name once.
	Records [2]int `json:"records"`
	// Kinds are the first bytes of the top records.
	Kinds [2]byte `json:"kinds"`
}

func (v treeVector) pieces() [][]byte {
	out := make([][]byte, len(v.Sizes))
	for i, n := range v.Sizes {
		out[i] = stream(v.Seed+string(rune('0'+i%10)), n)
	}
	return out
}

func (v *treeVector) fill() {
	v.Seed = "tree"
	for i, c := range Classes {
		t := NewTree(c, v.pieces()...)
		names := map[Name]bool{}
		for it := range t.All() {
			names[it.Name] = true
		}
		v.Records[i] = len(names)
		if top := t.Top(); len(top) > 0 {
			v.Kinds[i] = top[0]
		}
		*[]*string{&v.Large, &v.Small}[i] = t.Name.Label()
	}
}

// badVector is something that must be refused, by the check that it names.
type badVector struct {
	// As is "label" (of a query: Text), "record" (Hex), "parts" (Hex, to be joined in
	// this order), or "text" (Text is the TXT data of a Small record).
	As    string   `json:"as"`
	Text  string   `json:"text,omitempty"`
	Hex   []string `json:"hex,omitempty"`
	Check string   `json:"check"`
	// Error is in what this implementation says.
	Error string `json:"error,omitempty"`
}

func badVectors(t *testing.T) []badVector {
	names := func(n int) string { return string(stream("names", 16*n)) }
	label := NameOf([]byte("a record")).Label()
	var out []badVector
	for _, l := range []struct{ text, check string }{
		{"", "a name has 26 characters"},
		{label[1:], "a name has 26 characters"},
		{label + "a", "a name has 26 characters"},
		{label[:25] + "1", "base32 has no 0, 1, 8 and 9"},
		{label[:25] + "=", "base32 is not padded"},
		{label[:25] + "b", "unused bits are zero"},
		{label[:24] + "\n\n", "base32 has no line breaks"},
	} {
		out = append(out, badVector{As: "label", Text: l.text, Check: l.check})
	}
	for _, r := range []struct{ rec, check, err string }{
		{"", "a record has a byte at least", "bytes"},
		{"\x05abc", "kinds are 0 to 4", "unknown kind"},
		{"\x20abc", "16 is all that is added to a kind", "unknown kind"},
		{"\x00" + strings.Repeat("x", 1040), "a Large record has at most 1,040 bytes", "bytes"},
		{"\x10" + strings.Repeat("x", 300), "a Small record has at most 300 bytes", "bytes"},
		{"\x01\x8f\x08" + names(1), "a piece of one leaf has no record of its own", "out of range"},
		{"\x01\xb6\x81\x04" + names(64), "a piece has at most 65,717 bytes", "out of range"},
		{"\x01\x90\x08" + names(1), "as many names as the size needs", "bytes of names"},
		{"\x01\x90\x08" + names(3), "as many names as the size needs", "bytes of names"},
		{"\x01\x90\x08" + names(2)[:24], "as many names as the size needs", "bytes of names"},
		{"\x01\x90\x88\x00" + names(2), "varints are minimal", "number"},
		{"\x01" + strings.Repeat("\xff", 20), "varints end", "number"},
		{"\x02\x01" + names(1), "a list has two pieces at least", "out of range"},
		{"\x02\x02" + names(3), "as many names as the count needs", "bytes of names"},
		{"\x02\x81\x80\x40" + names(2), "a list has at most 2^20 pieces", "out of range"},
		{"\x03\x02\x05", "as many sizes as pieces", "number"},
		{"\x03\x02\x05\x05" + names(1), "as many names as the sizes need", "bytes of names"},
		{"\x03\x02\x01\xb6\x81\x04" + names(2), "a piece has at most 65,717 bytes", "out of range"},
		{"\x04\x00abcdx", "parts are of the Small class", "part"},
		{"\x14\x00abcd", "a part has a byte of payload", "part"},
		{"\x14\x01abcdx", "a part's number is under their count", "part"},
		{"\x14\x40abcdx", "at most four parts", "part"},
		{"\x14\x10abcdx", "all parts but the last are full", "part"},
	} {
		out = append(out, badVector{As: "record", Hex: []string{hex.EncodeToString([]byte(r.rec))}, Check: r.check, Error: r.err})
	}
	parts := func(seed string) []string {
		recs, err := Parts(stream(seed, 700))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range recs {
			out = append(out, hex.EncodeToString(r))
		}
		return out
	}
	one, other := parts("one head"), parts("another head")
	for _, p := range []struct {
		hex   []string
		check string
	}{
		{one[:2], "no part is missing"},
		{[]string{one[1], one[0], one[2]}, "parts stand in order"},
		{[]string{one[0], other[1], one[2]}, "all parts are of one head"},
		{append(one[:3:3], one[2]), "no part comes twice"},
	} {
		out = append(out, badVector{As: "parts", Hex: p.hex, Check: p.check, Error: "don't belong together"})
	}
	for _, x := range []struct{ text, check string }{
		{"", "a record has a byte at least"},
		{"EGE", "base64 is padded"},
		{"EGE=\n", "base64 has no line breaks"},
		{"EG\nE=", "base64 has no line breaks"},
		{"EGF=", "unused bits are zero"},
		{"EG_-", "base64 is not the one for URLs"},
		{strings.Repeat("A", 404), "a Small record has at most 300 bytes"},
	} {
		out = append(out, badVector{As: "text", Text: x.text, Check: x.check})
	}
	return out
}

func vectorFile(t *testing.T, name string, v any) []byte {
	t.Helper()
	var made bytes.Buffer
	e := json.NewEncoder(&made)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return testvectors.Same(t, name, made.Bytes(), *update)
}

func TestTreeVectors(t *testing.T) {
	full := func(n, size int) (out []int) {
		for range n {
			out = append(out, size)
		}
		return out
	}
	var trees []treeVector
	for _, sizes := range [][]int{
		{}, {0}, {299}, {300}, {1039}, {1040}, {4096}, {MaxPiece}, // one piece
		{900, 16384}, {0, 0}, {1, 0, 1}, full(18, 100), full(19, 100), full(64, 65552), full(65, 1), full(400, 300),
	} {
		v := treeVector{Sizes: sizes}
		v.fill()
		trees = append(trees, v)
	}
	vectorFile(t, "dns-trees.json", trees)
	for _, v := range trees {
		for i, c := range Classes {
			if len(v.Sizes) == 0 {
				continue
			}
			s, name := build(t, c, v.pieces()...)
			if name.Label() != []string{v.Large, v.Small}[i] || len(s) != v.Records[i] {
				t.Errorf("%v: %s of %d records", v.Sizes, name.Label(), len(s))
			}
			if got := s.read(t, name, len(v.Sizes)); len(got) != len(v.Sizes) || !bytes.Equal(bytes.Join(got, nil), bytes.Join(v.pieces(), nil)) {
				t.Errorf("%v: read back differently", v.Sizes)
			}
		}
	}
}

func TestInvalidVectors(t *testing.T) {
	var bad []badVector
	if err := json.Unmarshal(vectorFile(t, "dns-invalid.json", badVectors(t)), &bad); err != nil {
		t.Fatal(err)
	}
	for _, v := range bad {
		var recs [][]byte
		for _, h := range v.Hex {
			rec, err := hex.DecodeString(h)
			if err != nil {
				t.Fatal(err)
			}
			recs = append(recs, rec)
		}
		var err error
		switch v.As {
		case "label":
			_, err = ParseLabel(v.Text)
		case "record":
			_, err = Parse(recs[0])
		case "parts":
			var parts []Record
			for _, rec := range recs {
				p, err := Parse(rec)
				if err != nil {
					t.Fatal(err)
				}
				parts = append(parts, p)
			}
			_, err = Join(parts)
		case "text":
			continue // transport/dns carries text
		default:
			t.Fatalf("unknown kind %q", v.As)
		}
		if !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), v.Error) {
			t.Errorf("%s, %q: %v", v.As, v.Check, err)
		}
	}
}

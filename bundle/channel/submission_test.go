package channel

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSubmission(t *testing.T) {
	p := newPublisher(t, "a")
	p.publish(t, "0")
	note := p.publish(t, "1").Checkpoint()
	for _, s := range []Submission{
		{0, nil, note},
		{1, []Hash{{1}, {2}}, note},
		{1 << 40, make([]Hash, maxProof), note},
	} {
		got, err := ParseSubmission(s.Marshal())
		if diff := cmp.Diff(s, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	hash := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	for name, c := range map[string]struct{ in, want string }{
		"empty":             {"", "no checkpoint"},
		"no checkpoint":     {"old 0\n\n", "no checkpoint"},
		"no empty line":     {"old 0\nx\n", "no checkpoint"},
		"no old size":       {"\n\nx\n", "old size"},
		"a number alone":    {"5\n\nx\n", "canonical"},
		"007":               {"old 007\n\nx\n", "old size"},
		"negative":          {"old -1\n\nx\n", "old size"},
		"too large":         {"old 9223372036854775808\n\nx\n", "old size"},
		"a plus":            {"old +1\n\nx\n", "old size"},
		"CRLF":              {"old 1\r\n\nx\n", "old size"},
		"a short hash":      {"old 1\nAAAA\n\nx\n", "no hash"},
		"loose base64":      {"old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nx\n", "no hash"},
		"64 hashes":         {"old 1\n" + strings.Repeat(hash, 64) + "\nx\n", "more than 63"},
		"larger than it is": {"old 1\n\n" + strings.Repeat("x", MaxSubmission), "larger than"},
	} {
		if _, err := ParseSubmission([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	p := watched(t, "a", 2, 1)
	roots := p.roots(t)
	p.publish(t, "0")
	h := p.publish(t, "1")
	origin := Origin(p.id, 0)
	text := string(h.checkpointText())
	signed := func(text string) []byte { return formatNote([]byte(text), signLine([]byte(text), origin, p.log)) }
	sub := func(old, with string) []byte {
		out := strings.Replace(text, old, with, 1)
		if out == text {
			t.Fatalf("%q is not in the checkpoint", old)
		}
		return signed(out)
	}
	own := signLine(h.checkpointText(), origin, p.log)
	bad := own
	bad.sig = bytes.Clone(bad.sig)
	bad.sig[3] ^= 1
	unknown := signLine(h.checkpointText(), origin, key("other"))
	for name, c := range map[string]struct {
		note []byte
		want error
	}{
		"as it is":                    {h.Checkpoint(), nil},
		"cosigned":                    {append(h.Checkpoint(), line(h, 0)...), nil},
		"behind another signature":    {formatNote(h.checkpointText(), unknown, own), nil},
		"another time":                {sub("time ", "time 1"), nil},
		"no time at all":              {signed(text[:strings.Index(text, "time ")]), nil},
		"more extension lines":        {signed(text + "more\n"), nil},
		"an empty extension line":     {signed(text + "\nmore\n"), ErrCheckpoint},
		"a control character":         {signed(text + "mo\tre\n"), ErrCheckpoint},
		"007":                         {sub("\n2\n", "\n02\n"), ErrCheckpoint},
		"no size":                     {sub("\n2\n", "\ntwo\n"), ErrCheckpoint},
		"a short hash":                {sub(b64(h.Tree[:]), "AAAA"), ErrCheckpoint},
		"a size that no tree has":     {sub("\n2\n", "\n9223372036854775807\n"), ErrCheckpoint},
		"not signed by anybody known": {formatNote(h.checkpointText(), unknown), ErrUnsigned},
		"cosigned, not signed":        {formatNote(h.checkpointText(), cosign(h.checkpointText(), "w0", watcher(0), seenAt)), ErrUnsigned},
		"a bad signature":             {formatNote(h.checkpointText(), bad), ErrUnsigned},
		"a bad one and a good one":    {formatNote(h.checkpointText(), own, bad), ErrUnsigned},
		"of another channel":          {newPublisher(t, "b").publish(t, "0").Checkpoint(), ErrUnknownLog},
		"of a later generation":       {sub("/0\n", "/1\n"), ErrUnknownLog},
		"not a note":                  {[]byte("x"), ErrCheckpoint},
		"unsigned":                    {[]byte(text + "\n"), ErrCheckpoint},
		"a line of no form behind":    {append(h.Checkpoint(), "x\n"...), ErrCheckpoint},
	} {
		c0, err := roots.Checkpoint(c.note)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil && (c0.Size != 2 || c0.Tree != h.Tree || c0.Origin != origin || len(c0.sigs) != 1) {
			t.Errorf("%s: %+v", name, c0)
		}
	}
}

func TestCosignCheckpoint(t *testing.T) {
	p := watched(t, "a", 2, 1)
	roots := p.roots(t)
	h := p.publish(t, "0")
	c, err := roots.Checkpoint(h.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	answer, note := c.Cosign("w1", watcher(1), seenAt)
	if w := roots.SeenBy(roots.Cosigned(h, answer)); len(w) != 1 || w[0].Name != "w1" {
		t.Errorf("%+v", w)
	}
	got, err := ParseCosigned(note, p.note.Witnesses[1])
	if err != nil || got.Size != 1 || got.Tree != h.Tree || got.Origin != c.Origin {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ParseCosigned(note, p.note.Witnesses[0]); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("read as another witness: %v", err)
	}
	for i := range note {
		bad := bytes.Clone(note)
		bad[i] ^= 4
		if got, err := ParseCosigned(bad, p.note.Witnesses[1]); err == nil && (got.Size != 1 || got.Tree != h.Tree || got.Origin != c.Origin) {
			t.Fatalf("byte %d flipped: %+v", i, got)
		}
	}
	if _, note := c.Cosign("w1", watcher(1), time.Unix(-5, 0)); note != nil {
		if _, err := ParseCosigned(note, p.note.Witnesses[1]); err != nil {
			t.Errorf("by a clock before 1970: %v", err)
		}
	}
}

// Every tree follows every smaller one of its log, by its proof and by no other.
func TestConsistency(t *testing.T) {
	const most = 20
	p := watched(t, "a", 1, 1)
	roots := p.roots(t)
	states := []*Checkpoint{nil}
	for n := range most {
		c, err := roots.Checkpoint(p.publish(t, fmt.Sprint(n)).Checkpoint())
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, c)
	}
	for size := 1; size <= most; size++ {
		log := NewLog(p.history.Leaves()[:size])
		for old := range size + 1 {
			proof, err := log.Consistency(uint64(old))
			if err != nil {
				t.Fatal(err)
			}
			if err := states[size].Follows(states[old], proof); err != nil {
				t.Errorf("%d after %d: %v", size, old, err)
			}
			if states[size].Follows(states[old], append(proof[:len(proof):len(proof)], Hash{})) == nil {
				t.Errorf("%d after %d: a hash more is taken", size, old)
			}
			if len(proof) > 0 && states[size].Follows(states[old], proof[1:]) == nil {
				t.Errorf("%d after %d: a hash less is taken", size, old)
			}
			if old > 0 && old < size {
				other := *states[old]
				other.Tree[0] ^= 1
				if states[size].Follows(&other, proof) == nil {
					t.Errorf("%d follows another tree of %d", size, old)
				}
			}
		}
	}
	if _, err := p.history.Consistency(most + 1); err == nil {
		t.Error("a proof from a larger tree")
	}
	other := *states[3]
	other.Tree[5] ^= 1
	if states[3].Follows(&other, nil) == nil {
		t.Error("another tree of the same size")
	}
	if states[2].Follows(states[3], nil) == nil {
		t.Error("a smaller tree follows")
	}
}

// FuzzSubmission: whatever parses encodes to the same bytes, and so does its
// checkpoint.
func FuzzSubmission(f *testing.F) {
	p := &publisher{root: key("aroot"), log: key("alog"), ipns: key("aipns"), history: NewLog(nil)}
	leaf := p.leaf("x")
	h, err := SignHead(leaf, nil, 0, leaf.Date, p.log)
	if err != nil {
		f.Fatal(err)
	}
	note := append(h.Checkpoint(), lineOf("w0", watcher(0), h)...)
	for _, s := range []Submission{{0, nil, note}, {5, []Hash{{1}, {2}, {3}}, h.Checkpoint()}} {
		if _, err := parseCheckpoint(s.Checkpoint); err != nil {
			f.Fatalf("a seed does not parse: %v", err)
		}
		f.Add(s.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSubmission(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Marshal(), b) || len(s.Proof) > maxProof {
			t.Fatalf("encodes to other bytes:\n%q\n%q", b, s.Marshal())
		}
		c, err := parseCheckpoint(s.Checkpoint)
		if err != nil {
			return
		}
		if got := formatNote(c.text, c.sigs...); !bytes.Equal(got, s.Checkpoint) {
			t.Fatalf("checkpoint encodes to other bytes:\n%q\n%q", s.Checkpoint, got)
		}
		if text := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, b64(c.Tree[:])); !strings.HasPrefix(string(c.text), text) {
			t.Fatalf("%q read as %q", c.text, text)
		}
	})
}

// FuzzWitnessKey: whatever parses is written the same way.
func FuzzWitnessKey(f *testing.F) {
	w, _ := NewWitness(make([]byte, 32), ID{3})
	f.Add(w.VKey())
	f.Add("witness.example/w1+00000000+BAAA")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWitness(s)
		if err == nil && w.VKey() != strings.TrimSpace(s) {
			t.Fatalf("%q is written %q", s, w.VKey())
		}
	})
}

package dns

import (
	"bytes"
	"path/filepath"
	"testing"

	"tamizdat/bundle/record"
)

// nowhere is a carrier that takes everything and brings nothing.
type nowhere struct{}

func (nowhere) send(*pending, []byte) (bool, error) { return false, nil }
func (nowhere) close()                              {}

// FuzzDeliver: whatever a resolver sends, no record but the one that was asked for
// is taken, in either class; nothing is kept of the rest, and the link lives.
func FuzzDeliver(f *testing.F) {
	trees := map[record.Class]*record.Tree{}
	for _, class := range record.Classes {
		trees[class] = record.NewTree(class, random("piece", 3000))
		for _, rec := range trees[class].All() {
			name := record.NameOf(rec).Label() + "." + testZone
			q := appendQuery(nil, 7, name, class)
			for _, seed := range [][]byte{
				withTXT(q, txtData(class, rec)), withTXT(q, rec), withTXT(q, random("x", 50)), withA(q), withCode(q, 0), withCode(q, 3), withCode(q, 5), q,
			} {
				f.Add(byte(class), seed)
			}
			break // all leaves are alike
		}
	}
	f.Fuzz(func(t *testing.T, c byte, msg []byte) {
		class := record.Classes[int(c)%len(record.Classes)]
		var want []byte
		for _, rec := range trees[class].All() {
			want = rec
			break
		}
		name := record.NameOf(want)
		events := make(chan event, 32)
		l := &link{carry: nowhere{}, pending: map[uint16]*pending{}}
		p := &pending{
			name: name.Label() + "." + testZone, class: class, events: events,
			check: func(rec []byte) verdict {
				if len(rec) == 0 || len(rec) > class.Max() && class == record.Small || len(rec) > record.MaxRecord {
					t.Fatalf("a candidate of %d bytes", len(rec))
				}
				if record.NameOf(rec) == name {
					return take
				}
				return drop
			},
		}
		if err := l.send(p); err != nil {
			t.Fatal(err)
		}
		if len(msg) > 1 { // whoever sees the question knows its ID
			msg = bytes.Clone(msg)
			msg[0], msg[1] = byte(p.id>>8), byte(p.id)
		}
		l.deliver(msg)
		if !l.alive() || len(events) > maxCandidates+1 {
			t.Fatalf("alive: %v, %d events", l.alive(), len(events))
		}
		for len(events) > 0 {
			if ev := <-events; ev.kind == answerRecords && (ev.check != take || !bytes.Equal(ev.rec, want)) {
				t.Fatalf("taken: %x", ev.rec)
			}
		}
	})
}

// FuzzHalf: what is kept of a block may have been spoiled, and must cost nothing
// but itself.
func FuzzHalf(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 2, 16, 5})
	f.Add([]byte{0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, kept []byte) {
		first := record.NameOf([]byte("first"))
		k := &keeper{}
		k.Store("dns/half/"+first.Label(), kept)
		k.Store("dns/resolvers/", kept)
		c, err := NewClient(ClientConfig{Pool: NewPool(PoolConfig{Network: &fakeNet{}, Keeper: k, Key: "dns/resolvers/"}), Zone: testZone, Resolvers: []string{addr1}})
		if err != nil {
			t.Fatal(err)
		}
		h := c.halfOf(first)
		if len(h.recs) > len(kept) || !bytes.HasPrefix(kept, h.recs) {
			t.Fatalf("%d bytes out of %d", len(h.recs), len(kept))
		}
		h.end(true)
	})
}

// The corpora are there: a folder that was lost would make the fuzzing of CI empty.
func TestCorpora(t *testing.T) {
	for _, name := range []string{"FuzzDeliver", "FuzzHalf"} {
		if files, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*")); err != nil || len(files) == 0 {
			t.Errorf("%s has no corpus: %v", name, err)
		}
	}
}

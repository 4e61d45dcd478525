package relay

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
)

// leavesOf are the raw blocks of an edition's pictures, in their order.
func leavesOf(s *sheet) (leaves []cid.Cid, sections []byte) {
	for _, b := range s.packed.Blocks {
		if len(b.Data) > 32<<10 && b.CID.Type() == cid.Raw {
			leaves = append(leaves, b.CID)
			sections = append(car.AppendStart(sections, b.CID, len(b.Data)), b.Data...)
		}
	}
	return leaves, sections
}

// Blocks come in the order in which they are asked for, whatever lies where, and a
// run of neighbours at once where there is room for it.
func TestSections(t *testing.T) {
	for name, test := range map[string]struct {
		backwards, crowded bool
		most               int // sections put at once
	}{
		"as they lie":         {most: runBytes / maxSection},
		"lying backwards":     {backwards: true, most: 1},
		"all buffers in use":  {crowded: true, most: 1},
		"backwards and crowd": {backwards: true, crowded: true, most: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPress(t, "sections")
			r := start(t, Config{})
			s := p.edition(t, 700_000)
			if test.backwards {
				var nodes, blocks []bundle.Block // a node comes before what it links to
				for _, b := range s.packed.Blocks {
					if b.CID.Type() == cid.Raw {
						blocks = append(blocks, b)
					} else {
						nodes = append(nodes, b)
					}
				}
				slices.Reverse(blocks)
				blocks = append(nodes, blocks...)
				s.car = s.marshal(t, blocks)
			}
			push(t, r, s)
			if test.crowded {
				r.store.buffers.lent = maxRuns
			}
			leaves, want := leavesOf(s)
			var got []byte
			most := 0
			err := r.store.sections(p.ch, leaves, func(b []byte) error {
				got, most = append(got, b...), max(most, (len(b)+maxSection/2)/maxSection)
				return nil
			})
			if err != nil || !bytes.Equal(got, want) || len(leaves) < 10 {
				t.Errorf("%d bytes of %d: %v", len(got), len(want), err)
			}
			if most != test.most {
				t.Errorf("%d sections at once, not %d", most, test.most)
			}
			if lent := map[bool]int{true: maxRuns}[test.crowded]; r.store.buffers.lent != lent {
				t.Errorf("%d buffers are not given back", r.store.buffers.lent-lent)
			}
		})
	}
}

// What rotted on the disk does not go out: what lies before it does, and if another
// edition holds the block, all of it.
func TestRottenSections(t *testing.T) {
	for name, where := range map[string]int64{"bytes": 100, "length": -39, "CID": -1} {
		t.Run(name, func(t *testing.T) {
			p := newPress(t, "rot")
			r := start(t, Config{})
			s := p.edition(t, 700_000)
			push(t, r, s)
			leaves, want := leavesOf(s)
			const rotten = 6
			e := r.store.snapshot(p.ch)[0]
			at := e.index[leaves[rotten].KeyString()]
			flip(t, e.path, at.off+where)
			var got []byte
			put := func(b []byte) error { got = append(got, b...); return nil }
			err := r.store.sections(p.ch, leaves, put)
			if where < 0 { // only what stands before the block is lost, and that is known
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes of %d: %v", len(got), len(want), err)
				}
				return
			}
			if !errors.Is(err, bundle.ErrBlock) || !bytes.HasPrefix(want, got) || len(got) < rotten*60_000 || len(got) > rotten*maxSection {
				t.Errorf("%d bytes went out: %v", len(got), err)
			}
			func() {
				defer func() {
					if e := recover(); e != http.ErrAbortHandler {
						t.Errorf("the answer ended with %v", e)
					}
				}()
				ask(t, r, p, "GET", "/ipfs/"+s.head.Root.String()+"/media.age?format=car&dag-scope=entity")
			}()
			sound := *e
			sound.path = e.path + ".sound"
			if err := os.WriteFile(sound.path, s.car, 0o600); err != nil {
				t.Fatal(err)
			}
			sh := r.store.shelves[p.ch]
			sh.editions = append(sh.editions, &sound)
			got = nil
			if err := r.store.sections(p.ch, leaves, put); err != nil || !bytes.Equal(got, want) {
				t.Errorf("another edition holds it: %d bytes of %d: %v", len(got), len(want), err)
			}
		})
	}
}

package sync_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// bulletins are short articles that have much in common.
func bulletins(from, n int) (out []bundle.Article) {
	for i := from; i < from+n; i++ {
		out = append(out, bundle.Article{
			ID: fmt.Sprintf("%016x", i), Title: fmt.Sprintf("Bulletin %d", i), Lang: "en", Dir: "ltr", Date: transporttest.Start.Add(time.Duration(i) * time.Minute),
			Body: fmt.Sprintf("<p>The council of the town met for the %d. time and spoke about the bridge, the ferry and the market.</p>", i),
		})
	}
	return out
}

// Texts that need a dictionary come over any path; the file that several editions
// have in common is fetched once.
func TestDictionary(t *testing.T) {
	d, err := bundle.TrainDictionary(bulletins(1000, 60), 4<<10)
	if err != nil {
		t.Fatal(err)
	}
	c := transporttest.NewChannel(t, "Kolokol")
	c.Dict = d
	for n := range 3 {
		c.Publish(bulletins(n*30, 30)...)
	}
	dict := c.Newest().Wants(bundle.LayerDict)
	if len(dict) != 1 || !c.Editions()[0].Wants(bundle.LayerDict)[0].CID.Equals(dict[0].CID) {
		t.Fatalf("%d blocks of a dictionary, or not the same in all editions", len(dict))
	}
	for name, text := range map[string]bool{"a wide path": false, "a path for text": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := transporttest.NewMemory(t, c.Editions()...)
				path := mem.Path("p")
				path.Hints.Text = text
				fetched := 0
				path.Blocks = heard{path.Blocks, func(b transport.Block) {
					if b.CID.Equals(dict[0].CID) {
						fetched++
					}
				}}
				r := newReader(t, c, path)
				r.sync()
				if text { // older front pages are left to wide paths
					r.reads(true, c.Editions()[1:]...)
				} else {
					r.reads(true, c.Editions()...)
				}
				if fetched != 1 {
					t.Errorf("the dictionary was fetched %d times", fetched)
				}
			})
		})
	}
}

// TestDictionaryIsWithdrawn: a dictionary that came with an edition that was left out
// is fetched again for the older texts that need it.
func TestDictionaryIsWithdrawn(t *testing.T) {
	d, err := bundle.TrainDictionary(bulletins(1000, 60), 4<<10)
	if err != nil {
		t.Fatal(err)
	}
	c := transporttest.NewChannel(t, "Kolokol")
	c.Dict = d
	for n := range 4 {
		c.Publish(bulletins(n*30, 30)...)
	}
	r, lib := realReader(t, c) // he joins at the last one, with which the dictionary comes
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	r.reads(true, c.Editions()...)
	if n, all := held(t, lib, c.Newest(), bundle.LayerDict); n != 1 || all != 1 {
		t.Fatalf("%d of %d blocks of a dictionary", n, all)
	}
	c.Rekey(3)
	c.Dict = nil
	c.Publish(transporttest.Brief(9))
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	r.reads(true, c.Editions()...)
}

// heard calls f with each block that comes.
type heard struct {
	transport.Blocks
	f func(transport.Block)
}

func (h heard) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		for b, err := range h.Blocks.Fetch(ctx, r) {
			if err == nil {
				h.f(b)
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

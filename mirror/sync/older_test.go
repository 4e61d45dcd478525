package sync_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport/transporttest"
)

// TestFewOlderFrontPages: who was away, or is new, asks for as few older front
// pages as it takes to have all headlines of the window, each of which repeats
// those of many editions; and misses none, be it of an article that was old
// when it was published and stood on one front page alone.
func TestFewOlderFrontPages(t *testing.T) {
	const editions, old = 60, 25
	c := transporttest.NewChannel(t, "Kolokol")
	for n := range editions {
		var news []bundle.Article
		for i := range 3 {
			a := transporttest.Brief(n)
			a.ID = fmt.Sprintf("%08x%08x", n, i)
			if n == old && i == 1 {
				a.Date = a.Date.Add(-300 * 24 * time.Hour)
			}
			news = append(news, a)
		}
		c.Publish(news...)
	}
	fronts := func(r *reader) (n int) {
		for _, e := range c.Editions() {
			for _, w := range e.Wants(bundle.LayerFront) {
				if r.mem.has(w.CID) {
					n++
				}
			}
		}
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, c.Editions()...).Path("p"))
		r.sync()
		r.reads(true, c.Editions()...)
		// 60 headlines a front page, three an edition: 59, 39 and 19, and the old one's.
		if n := fronts(r); n != 4 {
			t.Errorf("%d front pages were fetched instead of 4", n)
		}
		if res := r.sync(); res.Blocks != 0 {
			t.Errorf("once more: %+v", res)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, c.Editions()[:editions-30]...).Path("p"))
		r.sync()
		before := fronts(r)
		r.over(transporttest.NewMemory(t, c.Editions()...).Path("p")).sync()
		r.reads(true, c.Editions()...)
		if n := fronts(r) - before; n != 2 {
			t.Errorf("%d more front pages were fetched instead of 2", n)
		}
	})
}

package sync_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// TestLiars: one bad path beside one good one. Everything arrives, soon, and the
// bad one is reported.
func TestLiars(t *testing.T) {
	c := published(t, 2)
	stranger := transporttest.NewChannel(t, "Stranger")
	stranger.Publish(transporttest.Articles(9)...)
	for name, l := range map[string]struct {
		of    func(transport.Path) transport.Path
		state string // "" if it depends on who came first
	}{
		"wrong bytes":      {transporttest.WrongBytes, "lied"},
		"cut off":          {transporttest.CutOff, "lied"},
		"wrong heads":      {transporttest.WrongHeads, "lied"},
		"foreign head":     {func(p transport.Path) transport.Path { return transporttest.WithHead(p, stranger.Newest().Head.Text()) }, "lied"},
		"garbage head":     {func(p transport.Path) transport.Path { return transporttest.WithHead(p, make([]byte, 3000)) }, "lied"},
		"no head":          {func(p transport.Path) transport.Path { return transporttest.WithHead(p, nil) }, "lied"},
		"failing":          {transporttest.Failing, "failed"},
		"silent":           {transporttest.Silent, ""},
		"endless":          {transporttest.Endless, ""},
		"one, then silent": {func(p transport.Path) transport.Path { return transporttest.StallAfter(p, 1) }, ""},
		"opening stalls":   {func(p transport.Path) transport.Path { return transporttest.StallOpening(p, 2) }, ""},
		"no blocks":        {transporttest.NoBlocks, ""},
		"duplicates":       {transporttest.Duplicates, ""},
		"unwanted":         {transporttest.Unwanted, ""},
	} {
		for flight, path := range map[string]func(*transporttest.Memory, string) transport.Path{
			"step by step": (*transporttest.Memory).Path, "one flight": (*transporttest.Memory).OpenerPath,
		} {
			t.Run(name+", "+flight, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bad := transporttest.NewMemory(t, c.Editions()...)
					good := transporttest.NewMemory(t, c.Editions()...)
					good.Delay = 10 * time.Millisecond // the bad one is first
					r := newReader(t, c, l.of(path(bad, "bad")), path(good, "good"))
					start := time.Now()
					res := r.sync()
					r.holds(c.Newest())
					r.reads(true, c.Editions()...)
					if p := report(t, res, "good"); p.State != "ok" || p.Blocks == 0 && name != "duplicates" && name != "unwanted" && name != "opening stalls" {
						t.Errorf("good: %+v", p)
					}
					if p := report(t, res, "bad"); l.state != "" && p.State != l.state {
						t.Errorf("bad: %q (%s) instead of %q", p.State, p.Error, l.state)
					}
					if took := time.Since(start); took > 90*time.Second {
						t.Errorf("it took %s", took)
					}
				})
			})
		}
	}
}

// TestOnlyLiars: nobody is honest; Sync ends by itself and nothing wrong is in.
func TestOnlyLiars(t *testing.T) {
	c := published(t, 1)
	for name, of := range map[string]func(transport.Path) transport.Path{
		"wrong bytes": transporttest.WrongBytes, "cut off": transporttest.CutOff, "no blocks": transporttest.NoBlocks,
		"endless": transporttest.Endless,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := transporttest.NewMemory(t, c.Editions()...)
				r := newReader(t, c, of(m.Path("bad")))
				res, err := r.e.Sync(t.Context(), c.ID())
				if err == nil && name != "endless" {
					t.Fatal("no error")
				}
				if p := report(t, res, "bad"); p.State == "ok" && err != nil {
					t.Errorf("%+v", p)
				}
				if name == "endless" {
					return // its first blocks are right: it may get there in the end
				}
				// A good path later finds things as if the liar had not been.
				r.over(m.Path("good")).sync()
				r.reads(true, c.Editions()...)
			})
		})
	}
}

// TestStalledIsDoubled: the fast path takes everything and stalls, with as many
// requests as it likes; the slow one does the work.
func TestStalledIsDoubled(t *testing.T) {
	c := published(t, 2)
	for _, parallel := range []int{1, 2, 8} {
		for _, stallAfter := range []int{1, 2} {
			synctest.Test(t, func(t *testing.T) {
				fast := transporttest.NewMemory(t, c.Editions()...)
				slow := transporttest.NewMemory(t, c.Editions()...)
				slow.Delay = 50 * time.Millisecond
				p := transporttest.StallAfter(fast.Path("fast"), stallAfter)
				p.Hints.Batch, p.Hints.Parallel = 64, parallel
				r := newReader(t, c, p, slow.Path("slow"))
				start := time.Now()
				r.sync()
				r.reads(true, c.Editions()...)
				if took := time.Since(start); took > 2*time.Minute {
					t.Errorf("%d requests at once, stalling after %d blocks: it took %s", parallel, stallAfter, took)
				}
			})
		}
	}
}

// TestOpeningCutShort: the only path answers with root note and head, then with
// nothing. What the opening left out comes the long way.
func TestOpeningCutShort(t *testing.T) {
	c := published(t, 1)
	for pieces := 2; pieces <= 5; pieces++ {
		synctest.Test(t, func(t *testing.T) {
			m := transporttest.NewMemory(t, c.Editions()...)
			r := newReader(t, c, transporttest.StallOpening(m.OpenerPath("p"), pieces))
			start := time.Now()
			r.sync()
			r.reads(true, c.Editions()...)
			if took := time.Since(start); took > time.Minute {
				t.Errorf("%d pieces, and it took %s", pieces, took)
			}
		})
	}
}

// TestSilentAlone: one path that answers with a head and then never again does
// not hold a reader for ever.
func TestSilentAlone(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		r := newReader(t, c, transporttest.StallAfter(m.Path("p"), 1))
		start := time.Now()
		res, err := r.e.Sync(t.Context(), c.ID())
		if err != nil && !errors.Is(err, sync.ErrIncomplete) || err == nil && !res.ImagesMissing {
			t.Errorf("images missing: %v, %v", res.ImagesMissing, err)
		}
		state(t, res, "p", "failed")
		if took := time.Since(start); took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
		once(t, m) // what came is kept, and a stalled want is not asked again of who stalled it
		r.over(r.guard(m.Path("p"))).sync()
		r.reads(true, c.Editions()...)
	})
}

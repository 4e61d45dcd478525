package sync_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// allBut is a path that holds these editions, the last one as last.
func allBut(t *testing.T, name string, c *transporttest.Channel, last *transporttest.Edition) transport.Path {
	t.Helper()
	es := c.Editions()
	return transporttest.NewMemory(t, append(slices.Clip(es[:len(es)-1]), last)...).OpenerPath(name)
}

// TestWitnessed: the reader is told who has seen what he has, also when the head
// itself is old news.
func TestWitnessed(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol").Watched(3, 2)
	history(c, 2)
	none, one := allBut(t, "none", c, c.Newest()), allBut(t, "one", c, c.Cosign(c.Newest(), 0))
	more := allBut(t, "more", c, c.Cosign(c.Newest(), 1, 2))
	history(c, 1)
	next := allBut(t, "next", c, c.Newest())
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, none)
		r.sync()
		step := func(want int, paths ...transport.Path) {
			t.Helper()
			if res := r.over(paths...).sync(); res.Fork {
				t.Errorf("%+v", res)
			}
			if f := sync.Judge(r.view(), nil, whole(r.view(), nil), time.Now()); f.Witnessed != (channel.Witnessed{Seen: want, Of: 3, Quorum: 2}) || f.Alarming() {
				t.Errorf("%+v instead of %d", f.Witnessed, want)
			}
		}
		step(0, none)
		step(1, one)
		step(2, one, more) // one path alone knows of it
		step(2, one)       // and it is not forgotten
		step(2, none)
		step(0, next) // too few: it is shown all the same
		r.reads(false, c.Newest())
	})
}

// TestWitnessedForkWins: a reader who was shown a history of his own goes over to
// the one that enough witnesses have seen, however long each is, and keeps the proof.
// Nothing of the other stays, neither its articles nor what it has corrected or taken
// back.
func TestWitnessedForkWins(t *testing.T) {
	for name, c := range map[string]struct {
		ours, theirs int // editions after those in common
		together     bool
	}{
		"as long":          {1, 1, false},
		"longer by one":    {1, 2, false},
		"longer by more":   {1, 4, false},
		"shorter":          {3, 1, false},
		"as long, at once": {1, 1, true},
		"longer, at once":  {1, 3, true},
		"shorter, at once": {4, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			lied := transporttest.NewChannel(t, "Kolokol").Watched(3, 2)
			history(lied, 2)
			truth, start := lied.Fork(), allBut(t, "start", lied, lied.Newest())
			corrected := transporttest.Brief(0)
			corrected.Body, corrected.Corrected = "<p>It was all different.</p>", transporttest.Start.Add(time.Hour)
			lied.Gone = []string{transporttest.Brief(1).ID}
			var lies []*transporttest.Edition
			for n := range c.ours {
				lie := *lied.Publish(transporttest.Brief(100+n), corrected)
				lie.Articles = lie.Articles[:1]
				lies = append(lies, &lie)
			}
			for range c.theirs {
				truth.Publish(transporttest.Brief(200 + len(truth.Editions())))
			}
			seen := truth.Cosign(truth.Newest(), 0, 2)
			liar, honest := allBut(t, "liar", lied, lied.Newest()), allBut(t, "honest", truth, seen)
			truth.Publish(transporttest.Brief(300))
			next := allBut(t, "next", truth, truth.Newest())
			synctest.Test(t, func(t *testing.T) {
				r := newReader(t, lied, start)
				r.sync()
				if !c.together {
					r.over(liar).sync()
					r.holds(lied.Newest())
				}
				res := r.over(liar, honest).sync()
				if !res.Fork || res.Head == nil || res.Head.Tree != seen.Head.Tree {
					t.Errorf("%+v", res)
				}
				r.holds(seen)
				r.reads(false, truth.Editions()[:seen.Head.Size]...)
				r.gone(lies...)
				if n := len(r.view().Evidence()); n != 1 {
					t.Errorf("%d pieces of evidence", n)
				}
				if p := report(t, res, "honest"); p.State != "ok" {
					t.Errorf("who told the truth: %+v", p)
				}
				// The other branch does not come back, and the true one goes on.
				r.over(liar)
				_, _ = r.e.Sync(t.Context(), lied.ID()) // it brings nothing
				r.holds(seen)
				r.over(next).sync()
				r.holds(truth.Newest())
			})
		})
	}
}

// TestOverruledByNothing: what enough witnesses have seen takes the place of what is here
// once its front page has come, and not before: a head alone empties no library.
func TestOverruledByNothing(t *testing.T) {
	lied := transporttest.NewChannel(t, "Kolokol").Watched(3, 2)
	history(lied, 3)
	for _, more := range []int{1, 2} {
		truth, ours := lied.Fork(), lied.Fork()
		ours.Publish(transporttest.Brief(100))
		for n := range more {
			truth.Publish(transporttest.Brief(200 + n))
		}
		head := allBut(t, "head", truth, truth.Cosign(truth.Newest(), 0, 2))
		whole := head
		head = plain(head)
		head.Blocks = nil
		synctest.Test(t, func(t *testing.T) {
			r := newReader(t, lied, transporttest.NewMemory(t, ours.Editions()...).OpenerPath("start"))
			r.sync()
			res, _ := r.over(head).e.Sync(t.Context(), lied.ID())
			if !res.Fork || !r.view().Forked() {
				t.Errorf("%d more: no alarm", more)
			}
			r.holds(ours.Newest())
			r.reads(false, ours.Editions()...)
			r.over(whole).sync()
			r.gone(ours.Newest())
			r.reads(false, truth.Newest())
			if n := len(r.view().Evidence()); n != 1 {
				t.Errorf("%d more: %d pieces of evidence", more, n)
			}
		})
	}
}

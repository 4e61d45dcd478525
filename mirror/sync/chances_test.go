package sync_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// TestSlowAlike: where all paths are equally slow, nothing is gained by asking
// two of them for the same.
func TestSlowAlike(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(2 << 20)...)
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, names(6, func(int) transport.Path {
			return newRoad(t, 50*time.Millisecond, 16<<10, c.Editions()...).path("p", transport.KindTCP)
		})...)
		res := r.sync()
		r.reads(true, c.Editions()...)
		if res.Twice*100 > 3*res.Bytes {
			t.Errorf("%d bytes of %d came twice", res.Twice, res.Bytes)
		}
		if least := time.Duration(res.Bytes) * time.Second / (6 * 16 << 10); res.ToImages > 2*least {
			t.Errorf("pictures after %s, %s if nobody were idle", res.ToImages, least)
		}
	})
}

// TestAllFrozen: however many paths a piece is stuck on, the one that moves
// brings it.
func TestAllFrozen(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(1 << 20)...)
	synctest.Test(t, func(t *testing.T) {
		paths := names(5, func(int) transport.Path {
			rd := newRoad(t, 20*time.Millisecond, 2<<20, c.Editions()...)
			rd.freezeAfter = 40 << 10
			return rd.path("frozen", transport.KindTCP)
		})
		r := newReader(t, c, append(paths, newRoad(t, 100*time.Millisecond, 512<<10, c.Editions()...).path("moves", transport.KindQUIC))...)
		res := r.sync()
		r.reads(true, c.Editions()...)
		if res.ToImages > 10*time.Second {
			t.Errorf("pictures after %s", res.ToImages)
		}
	})
}

// TestThrottled: a path that was fast when it was given much, and is throttled in the
// middle of it, does not keep the rest to itself.
func TestThrottled(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(16 << 20)...)
	for _, after := range []int{3 << 20, 6 << 20, 9 << 20} {
		t.Run(fmt.Sprintf("after %d MiB", after>>20), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fast := newRoad(t, 10*time.Millisecond, 32<<20, c.Editions()...)
				fast.slowAfter, fast.slowRate = after, 16<<10
				paths := []transport.Path{fast.path("throttled", transport.KindQUIC), newRoad(t, 50*time.Millisecond, 1<<20, c.Editions()...).path("steady", transport.KindTCP)}
				for i := range paths {
					paths[i].Hints.Batch = 256
				}
				r := newReader(t, c, paths...)
				res := r.sync()
				r.reads(true, c.Editions()...)
				if res.ToImages > 90*time.Second {
					t.Errorf("pictures after %s", res.ToImages)
				}
				if res.Twice > 4<<20 {
					t.Errorf("%d bytes came twice", res.Twice)
				}
			})
		})
	}
}

// TestTogether: what does not depend on one another is asked for together, and
// small things over the nearest path.
func TestTogether(t *testing.T) {
	c := published(t, 12)
	const rtt = 50 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		near, far := newRoad(t, rtt, 0, c.Editions()...), newRoad(t, 4*rtt, 0, c.Editions()...)
		r := newReader(t, c, near.path("near", transport.KindQUIC), far.path("far", transport.KindIPFS))
		res := r.sync()
		r.reads(true, c.Editions()...)
		// Two for the opening; then directory and text of each edition, two at a time.
		if res.ToText > 14*rtt {
			t.Errorf("texts after %.1f round trips", float64(res.ToText)/float64(rtt))
		}
		if res.ToImages > 30*rtt {
			t.Errorf("pictures after %.1f round trips", float64(res.ToImages)/float64(rtt))
		}
		if res.Twice != 0 {
			t.Errorf("%d bytes came twice", res.Twice)
		}
	})
}

// TestLead: a loud path that answers soonest does not go first where a quiet one
// works, and the quiet one that brought the headlines does.
func TestLead(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		slow, fast, loud := newRoad(t, 90*time.Millisecond, 128<<10, c.Editions()...), newRoad(t, 60*time.Millisecond, 128<<10, c.Editions()...), newRoad(t, 5*time.Millisecond, 0, c.Editions()...)
		roads := []*road{slow, fast, loud}
		r := newReader(t, c, slow.path("slow", transport.KindQUIC), fast.path("fast", transport.KindQUIC), loud.path("loud", transport.KindDNS))
		for n := range 3 {
			for _, rd := range roads {
				rd.asked = nil
			}
			start := time.Now()
			res := r.sync()
			if res.ToHeadlines > 300*time.Millisecond || res.Delivered["headlines"] != "fast" {
				t.Errorf("sync %d: headlines after %s, from %s", n, res.ToHeadlines, res.Delivered["headlines"])
			}
			if n > 0 && (fast.questions() == 0 || !fast.asked[0].Equal(start)) {
				t.Errorf("sync %d: the path that brought the headlines does not go first", n)
			}
			if n > 0 && (slow.questions() == 0 || slow.asked[0].Sub(start) > 50*time.Millisecond) {
				t.Errorf("sync %d: the other one was asked late, or never", n)
			}
			if n > 0 && loud.questions() != 0 {
				t.Errorf("sync %d: the loud path was asked though the news was here", n)
			}
			next := c.Publish(transporttest.Articles(7 + n)...)
			for _, rd := range roads {
				if err := rd.m.Publish(t.Context(), next.Source(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Today it is blocked.
		r.over(slow.path("slow", transport.KindQUIC), transporttest.Silent(fast.path("fast", transport.KindQUIC)), loud.path("loud", transport.KindDNS))
		if took := r.sync().ToHeadlines; took > 310*time.Millisecond { // 250 alone
			t.Errorf("with the first one silent: headlines after %s", took)
		}
	})
}

// TestHeadAlone: once a front page is here, the other openings end with their
// heads.
func TestHeadAlone(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c)
		var roads []*road
		r.over(names(5, func(i int) transport.Path {
			rd := newRoad(t, time.Duration(40+5*i)*time.Millisecond, 0, c.Editions()...)
			roads = append(roads, rd)
			return rd.path("p", transport.KindQUIC)
		})...)
		r.e.Budget.TextOnly = true
		res := r.sync()
		for i, rd := range roads {
			if p := report(t, res, fmt.Sprintf("p %d", i)); p.Head != 1 || rd.opened != 1 {
				t.Errorf("path %d: %d openings, %+v", i, rd.opened, p)
			}
		}
		if res.Twice != 0 {
			t.Errorf("%d bytes came twice", res.Twice)
		}
	})
}

// TestNobodyWaitsForEachOther: paths that bring much at once, late, do not leave
// everything to one another.
func TestNobodyWaitsForEachOther(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(2 << 20)...)
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, names(3, func(int) transport.Path {
			return newRoad(t, 10*time.Second, 8<<20, c.Editions()...).path("p", transport.KindTCP)
		})...)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if _, err := r.e.Sync(ctx, c.ID()); err != nil {
			t.Fatal(err)
		}
		r.reads(true, c.Editions()...)
	})
}

package sync_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/library"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// theft is a channel of three editions, and what a thief of its log key has made of
// it: so many more.
func theft(t *testing.T, more int) (c, thief *transporttest.Channel) {
	t.Helper()
	c = published(t, 3)
	thief = c.Fork()
	for i := range more {
		thief.Publish(transporttest.Brief(700 + i))
	}
	return c, thief
}

// gone sees that nothing of these editions is shown any more.
func (r *reader) gone(editions ...*transporttest.Edition) {
	r.t.Helper()
	shelf := sync.Shelf{Library: r.lib}
	for _, e := range editions {
		for _, a := range e.Articles {
			if _, err := shelf.Article(r.t.Context(), r.c.ID(), a.ID); !errors.Is(err, transport.ErrNotFound) {
				r.t.Errorf("article %s of edition %d is still here: %v", a.ID, e.Head.Edition, err)
			}
		}
	}
}

// wide makes a path one of a relay.
func wide(p transport.Path) transport.Path {
	p.Kind = transport.KindQUIC
	return p
}

// TestStolenLogKey: a reader who has followed a thief is brought back, over whatever
// kind of path the new root note comes, though the thief's relay answers first and
// his log is the longer.
func TestStolenLogKey(t *testing.T) {
	for name, path := range map[string]func(m *transporttest.Memory) transport.Path{
		"step by step": func(m *transporttest.Memory) transport.Path { return wide(m.Path("honest")) },
		"compact head": func(m *transporttest.Memory) transport.Path { m.Compact = true; return wide(m.Path("honest")) },
		"one flight":   func(m *transporttest.Memory) transport.Path { return wide(m.OpenerPath("honest")) },
	} {
		for _, more := range []int{1, 9, 40} {
			t.Run(fmt.Sprintf("%s, %d more", name, more), func(t *testing.T) {
				c, thief := theft(t, more)
				c.Rekey(3)
				c.Publish(transporttest.Articles(50)...)
				honest, bad := transporttest.NewMemory(t, c.Editions()...), transporttest.NewMemory(t, thief.Editions()...)
				synctest.Test(t, func(t *testing.T) {
					r := newReader(t, c, wide(bad.OpenerPath("thief's")))
					r.sync()
					r.reads(true, thief.Newest())
					slow := path(honest)
					slow.Hints.Patience = 300 * time.Millisecond
					res := r.over(wide(bad.OpenerPath("thief's")), slow).sync()
					if !res.New || res.Fork || res.Withdrawn == 0 || res.Head.Edition != 3 {
						t.Errorf("%+v", res)
					}
					r.holds(c.Newest())
					r.reads(true, c.Editions()...)
					r.gone(thief.Editions()[3:]...)
					if v := r.view(); v.Forked() || len(v.Evidence()) != 1 || v.Roots().Version() != 2 {
						t.Errorf("forked %v, %d pieces of evidence", v.Forked(), len(v.Evidence()))
					}
					f := sync.Judge(r.view(), res.Paths, whole(r.view(), nil), time.Now())
					if f.Forked || !f.Rekeyed || f.Sources != 1 || f.Verdict != sync.VerdictOneSource && f.Verdict != sync.VerdictFrozen {
						t.Errorf("%+v", f)
					}
					// The thief goes on. He lags, and is nobody's proof that there is nothing newer.
					thief.Publish(transporttest.Brief(990))
					bad = transporttest.NewMemory(t, thief.Newest())
					res = r.over(wide(bad.OpenerPath("thief's"))).sync()
					if res.New || res.Fork || res.Withdrawn > 0 {
						t.Errorf("the thief alone: %+v", res)
					}
					r.holds(c.Newest())
					c.Publish(transporttest.Brief(60))
					res = r.over(wide(bad.OpenerPath("thief's")), path(transporttest.NewMemory(t, c.Editions()...))).sync()
					if !res.New {
						t.Errorf("the next edition: %+v", res)
					}
					r.holds(c.Newest())
				})
			})
		}
	}
}

// TestForgedPast: who has stolen the log key can say of an older edition that it lies
// elsewhere, and of an article that it lies in it, or what its title is. All of it goes
// with his own editions, from who joined then and from who was here before.
func TestForgedPast(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(long(1))
	c.Publish(transporttest.Brief(2))
	other := c.Fork()
	forged := other.Publish(long(3))
	c.Publish(long(4))
	c.Publish(transporttest.Brief(5))
	thief := c.Fork()
	last, packed, front := *thief.Newest(), *thief.Newest().Packed, *thief.Newest().Packed.Front
	front.Past, front.Articles = slices.Clone(front.Past), slices.Clone(front.Articles)
	for i := range front.Articles {
		front.Articles[i].Title = "A thief's title"
	}
	front.Articles = append(front.Articles, forged.Packed.Front.Articles[0])
	for i := range front.Past {
		if front.Past[i].Edition == 2 {
			front.Past[i].Root = forged.Head.Root.String()
		}
	}
	packed.Front, last.Packed = &front, &packed
	thief.Editions()[3] = &last
	thief.Publish(transporttest.Brief(6))
	before, now := c.Editions(), thief.Newest()
	c.Rekey(4)
	c.Publish(transporttest.Brief(7))
	for name, joined := range map[string]bool{"joined then": true, "was here before": false} {
		t.Run(name, func(t *testing.T) {
			r, lib := realReader(t, c)
			if !joined {
				r.over(transporttest.NewMemory(t, before...).OpenerPath("honest")).sync()
			}
			r.over(transporttest.NewMemory(t, forged, now).OpenerPath("thief's"))
			_, _ = r.e.Sync(t.Context(), c.ID()) // he has not all that he speaks of
			if h, err := lib.Headline(t.Context(), c.ID(), long(3).ID); err != nil || h.Text != joined {
				t.Fatalf("the thief's article: %+v, %v", h, err)
			}
			r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("honest")).sync()
			r.gone(forged, now)
			if n, _ := held(t, lib, forged, bundle.LayerText, bundle.LayerMedia); n != 0 {
				t.Errorf("%d blocks of the forged edition are left", n)
			}
			r.reads(true, c.Editions()...)
			for h, err := range lib.Headlines(t.Context(), library.Query{Search: "thief"}) {
				t.Errorf("a search finds %q, %v", h.Title, err)
			}
			for h, err := range lib.Headlines(t.Context(), library.Query{Channel: c.ID()}) {
				if err != nil || strings.Contains(h.Title, "thief") {
					t.Errorf("%q, %v", h.Title, err)
				}
			}
		})
	}
}

// TestMisledBeforeTheRepair: the thief split off from an edition that the reader never
// had. The whole log shows that his is not the one that goes on.
func TestMisledBeforeTheRepair(t *testing.T) {
	c := published(t, 2)
	thief := c.Fork()
	thief.Publish(transporttest.Articles(20)...)
	history(c, 30)
	c.Rekey(32)
	c.Publish(transporttest.Articles(50)...)
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, thief.Editions()...).Path("thief's"))
		r.sync()
		res := r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("honest")).sync()
		if !res.New || res.Fork || res.Withdrawn == 0 {
			t.Errorf("%+v", res)
		}
		r.holds(c.Newest())
		r.gone(thief.Newest())
		r.reads(true, c.Newest())
		v := r.view()
		if v.Forked() || len(v.Evidence()) != 1 || v.FirstTime() {
			t.Errorf("forked %v, %d pieces of evidence", v.Forked(), len(v.Evidence()))
		}
		if _, _, err := v.Roots().CheckEvidence(v.Evidence()[0]); err != nil {
			t.Error(err)
		}
	})
}

// TestRepairIsAllOrNothing: a reader whose device fails anywhere in the middle of being
// brought back ends up there all the same.
func TestRepairIsAllOrNothing(t *testing.T) {
	c, thief := theft(t, 4)
	c.Rekey(3)
	c.Publish(transporttest.Articles(50)...)
	broken := errors.New("the disk is gone")
	for n := 1; ; n++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			r := newReader(t, c, transporttest.NewMemory(t, thief.Editions()...).Path("thief's"))
			r.sync()
			r.mem.writes, r.mem.before = 0, func(i int) error {
				if i >= n {
					return broken
				}
				return nil
			}
			r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("honest"))
			_, err := r.e.Sync(t.Context(), c.ID())
			if done = r.mem.writes < n; !done && !errors.Is(err, broken) {
				t.Logf("%d writes: %v", n, err) // what the paths did is not stored: no failure
			}
			r.mem.before = nil
			r.sync()
			r.holds(c.Newest())
			r.gone(thief.Editions()[3:]...)
			r.reads(true, c.Newest())
		})
		if done {
			return
		}
		if n > 500 {
			t.Fatal("no end of writes")
		}
	}
}

package sync_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

func TestOnePath(t *testing.T) {
	c := published(t, 2)
	for name, path := range map[string]func(m *transporttest.Memory) transport.Path{
		"step by step": func(m *transporttest.Memory) transport.Path { return m.Path("p") },
		"compact head": func(m *transporttest.Memory) transport.Path { m.Compact = true; return m.Path("p") },
		"one flight":   func(m *transporttest.Memory) transport.Path { return m.OpenerPath("p") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := transporttest.NewMemory(t, c.Editions()...)
				r := newReader(t, c, path(m))
				res := r.sync()
				if !res.New || res.Fork || res.Articles != 8 || res.Head == nil || res.Head.Edition != 1 || res.Bytes == 0 {
					t.Errorf("%+v", res)
				}
				r.holds(c.Newest())
				r.reads(true, c.Editions()...)
				state(t, res, "p", "ok")
				once(t, m)
				for _, e := range c.Editions() { // whole, to be handed on
					for id := range e.Blocks() {
						if e == c.Newest() && !r.mem.has(id) {
							t.Errorf("block %s of the newest edition is not held", id)
						}
					}
				}
				m.Forget()
				again := r.sync()
				if again.New || again.Blocks != 0 || len(m.Fetched()) != 0 && name != "one flight" {
					t.Errorf("second sync: %+v, %d blocks asked for", again, len(m.Fetched()))
				}
			})
		})
	}
}

// TestPathsAddUp: each block comes once, and every path brings some.
func TestPathsAddUp(t *testing.T) {
	c := published(t, 3)
	synctest.Test(t, func(t *testing.T) {
		var ms []*transporttest.Memory
		paths := names(3, func(int) transport.Path {
			m := transporttest.NewMemory(t, c.Editions()...)
			m.Delay = 100 * time.Millisecond
			ms = append(ms, m)
			p := m.Path("p")
			p.Hints.Batch, p.Hints.Parallel = 1, 1
			return p
		})
		r := newReader(t, c, paths...)
		res := r.sync()
		r.reads(true, c.Editions()...)
		once(t, ms...)
		for _, p := range res.Paths {
			if p.State != "ok" || p.Blocks == 0 {
				t.Errorf("%s: %s, %d blocks", p.Name, p.State, p.Blocks)
			}
		}
	})
}

// TestHalves: no path has everything.
func TestHalves(t *testing.T) {
	c := published(t, 2)
	synctest.Test(t, func(t *testing.T) {
		a, b := transporttest.NewMemory(t, c.Editions()...), transporttest.NewMemory(t, c.Editions()...)
		n := 0
		for _, e := range c.Editions() {
			for _, w := range e.Wants() {
				if n++; n%2 == 0 {
					a.Drop(w.CID)
				} else {
					b.Drop(w.CID)
				}
			}
		}
		r := newReader(t, c, a.Path("a"), b.Path("b"))
		r.sync()
		r.reads(true, c.Editions()...)
		once(t, a, b)
	})
}

func TestHighestHeadWins(t *testing.T) {
	c := published(t, 3)
	synctest.Test(t, func(t *testing.T) {
		old := transporttest.NewMemory(t, c.Editions()[0])
		mid := transporttest.NewMemory(t, c.Editions()[:2]...)
		top := transporttest.NewMemory(t, c.Editions()...)
		r := newReader(t, c, old.Path("old"), mid.OpenerPath("mid"), top.Path("top"))
		res := r.sync()
		if res.Head.Edition != 2 || res.Fork {
			t.Errorf("%+v", res)
		}
		r.holds(c.Newest())
		r.reads(true, c.Editions()...)
		// A path that lags is innocent.
		for _, p := range res.Paths {
			if p.State == "lied" {
				t.Errorf("%+v", p)
			}
		}
		// And alone, it takes nobody back.
		res = r.over(old.OpenerPath("old"), transporttest.WithHead(mid.Path("liar"), c.Editions()[1].Head.Text())).sync()
		if res.New || res.Fork || res.Head.Edition != 2 {
			t.Errorf("with an older head: %+v", res)
		}
		r.holds(c.Newest())
		if len(r.view().Evidence()) != 0 {
			t.Error("an older head was taken for a fork")
		}
	})
}

func TestHeartbeat(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Newest())
		r := newReader(t, c, m.Path("p"))
		r.sync()
		beat := c.Heartbeat(time.Hour)
		m = transporttest.NewMemory(t, beat)
		res := r.over(transporttest.WithHead(m.Path("p"), beat.Head.Text())).sync()
		if res.New || res.Blocks != 0 {
			t.Errorf("%+v", res)
		}
		r.holds(beat)
	})
}

// TestCatchesUp: a reader who was away folds what he missed, from the front
// page's hashes or from the log.
func TestCatchesUp(t *testing.T) {
	c := published(t, 1)
	history(c, 32)
	for _, away := range []int{1, 3, 17, 18, 30} {
		synctest.Test(t, func(t *testing.T) {
			joined, now := c.Editions()[:3], c.Editions()[:3+away]
			newest := now[len(now)-1]
			r := newReader(t, c, transporttest.NewMemory(t, joined...).Path("p"))
			r.sync()
			r.holds(joined[2])
			res := r.over(transporttest.NewMemory(t, now...).OpenerPath("p")).sync()
			if !res.New || res.Fork || res.Head.Edition != newest.Head.Edition {
				t.Errorf("%d editions later: %+v", away, res)
			}
			r.holds(newest)
			r.reads(true, now[0], newest)
			// What was folded is history now.
			if v := r.view().Consider(now[len(now)-2].Head); v != channel.Stale {
				t.Errorf("%d editions later, the head before is %v", away, v)
			}
		})
	}
}

// TestFork: somebody shows another history. Nothing is replaced, the evidence is
// kept, and honest paths deliver all the same.
func TestFork(t *testing.T) {
	for name, c := range map[string]struct{ before, ours, theirs int }{
		"same size":       {1, 1, 1},
		"one ahead":       {1, 1, 2},
		"smaller":         {1, 3, 1},
		"far ahead":       {1, 1, 6},
		"very far ahead":  {1, 1, 20}, // more than a front page has hashes for
		"the whole of it": {0, 2, 5},
	} {
		t.Run(name, func(t *testing.T) {
			ours := published(t, c.before)
			theirs := ours.Fork()
			ours.Publish(transporttest.Articles(100)...)
			history(ours, c.ours-1)
			for i := range c.theirs {
				theirs.Publish(transporttest.Brief(500 + i))
			}
			synctest.Test(t, func(t *testing.T) {
				good := transporttest.NewMemory(t, ours.Editions()...)
				bad := transporttest.NewMemory(t, theirs.Editions()...)
				r := newReader(t, ours)
				if c.before > 0 { // he knows the history from there on
					r.over(transporttest.NewMemory(t, ours.Editions()[:c.before]...).Path("before")).sync()
				}
				r.over(good.Path("good")).sync()
				r.holds(ours.Newest())
				// Both at once, with something new on the honest side.
				next := ours.Publish(transporttest.Articles(101)...)
				if err := good.Publish(t.Context(), next.Source(), nil); err != nil {
					t.Fatal(err)
				}
				r.over(transporttest.WithHead(bad.Path("bad"), theirs.Newest().Head.Text()), good.Path("good"))
				res, err := r.e.Sync(t.Context(), ours.ID())
				if err != nil {
					t.Errorf("a fork keeps the honest path from delivering: %v", err)
				}
				if !res.Fork || len(r.view().Evidence()) == 0 {
					t.Errorf("fork %v, %d pieces of evidence", res.Fork, len(r.view().Evidence()))
				}
				r.holds(next)
				r.reads(true, next)
				for _, e := range r.view().Evidence() {
					if string(e.Theirs) != string(theirs.Newest().Head.Text()) {
						t.Error("the evidence is not the other head")
					}
				}
				// The forked history alone.
				res, _ = r.over(transporttest.WithHead(bad.Path("bad"), theirs.Newest().Head.Text())).e.Sync(t.Context(), ours.ID())
				if !res.Fork {
					t.Error("the fork is not reported again")
				}
				r.holds(next)
				r.reads(true, next)
			})
		})
	}
}

func TestRotationAndEpochs(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, c.Editions()...).Path("p"))
		r.sync()
		c.Rotate()
		c.NewEpoch()
		c.Publish(transporttest.Articles(1)...)
		c.Rotate()
		c.Publish(transporttest.Articles(2)...)
		for name, p := range map[string]transport.Path{
			"step by step": transporttest.NewMemory(t, c.Editions()...).Path("p"),
			"one flight":   transporttest.NewMemory(t, c.Editions()...).OpenerPath("p"),
		} {
			r2 := newReader(t, c, p) // new
			r2.sync()
			r2.reads(true, c.Editions()...)
			if v := r2.view().Roots().Version(); v != 3 {
				t.Errorf("%s: root note %d", name, v)
			}
		}
		r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
		r.holds(c.Newest())
		r.reads(true, c.Editions()...)
	})
}

func TestTextOnly(t *testing.T) {
	c := published(t, 2)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		r := newReader(t, c, m.Path("p"))
		r.e.Budget.TextOnly = true
		res := r.sync()
		r.reads(false, c.Editions()...)
		for _, e := range c.Editions() {
			for _, w := range e.Wants(bundle.LayerMedia) {
				if m.Fetched()[w.CID] != 0 {
					t.Errorf("block of media at %d was fetched", w.Offset)
				}
			}
		}
		if res.ImagesMissing {
			t.Error("pictures are missed that were not wanted")
		}
		r.e.Budget.TextOnly = false // on a wide path, later
		r.sync()
		r.reads(true, c.Editions()...)
		once(t, m)
	})
}

// TestNarrowPath: a path without media brings the text, and no error.
func TestNarrowPath(t *testing.T) {
	c := published(t, 2)
	synctest.Test(t, func(t *testing.T) {
		p := transporttest.NewMemory(t, c.Editions()...).Path("narrow")
		p.Hints.Text = true
		r := newReader(t, c, p)
		res := r.sync()
		if !res.ImagesMissing {
			t.Error("nobody says that pictures are missing")
		}
		r.reads(false, c.Editions()...)
	})
}

// TestBudget: an engine that asks for every block by itself, or for what it does
// not need, is found here.
func TestBudget(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		p := m.OpenerPath("p")
		p.Hints.Batch, p.Hints.Parallel = 64, 1
		r := newReader(t, c, p)
		r.sync()
		// Text block; media node and its chunks; log, root notes and grants.
		if n := m.Calls(); n > 6 {
			t.Errorf("%d requests for one edition", n)
		}
		blocks := c.Newest().Blocks()
		for id := range m.Fetched() {
			if blocks[id] == nil {
				t.Errorf("block %s is not the edition's", id)
			}
		}
		if len(m.Fetched()) != len(blocks) {
			t.Errorf("%d blocks of %d", len(m.Fetched()), len(blocks))
		}
	})
}

func TestGrants(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		wrong, none, good := transporttest.NewMemory(t, c.Editions()...), transporttest.NewMemory(t, c.Editions()...), transporttest.NewMemory(t, c.Editions()...)
		wrong.SetGrant(c.ID(), c.GrantName(), c.SealGrant(channel.Seed{7})) // another batch's
		none.DropGrants(c.ID())
		for name, paths := range map[string][]transport.Path{
			"none":           {none.Path("p")},
			"none, flight":   {none.OpenerPath("p")},
			"wrong":          {wrong.Path("p")},
			"wrong, flight":  {wrong.OpenerPath("p")},
			"wrong and none": {wrong.Path("p"), none.Path("q")},
		} {
			r := newReader(t, c, paths...)
			r.fails(sync.ErrNoKey)
			r.holds(c.Newest()) // the head is known, if not readable
			// With the grant, the same head opens.
			for _, p := range []transport.Path{good.Path("good"), good.OpenerPath("good")} {
				later := newReader(t, c, paths...)
				later.fails(sync.ErrNoKey)
				if res, err := later.over(p).e.Sync(t.Context(), c.ID()); err != nil {
					t.Errorf("%s: the grant came later: %v", name, err)
				} else if res.Articles != 4 {
					t.Errorf("%s: %d articles", name, res.Articles)
				}
			}
			_, err := r.over(append(slices.Clone(paths), good.Path("good"))...).e.Sync(t.Context(), c.ID())
			if err != nil {
				t.Errorf("%s: with an honest path beside: %v", name, err)
			}
		}
	})
}

func TestNoPath(t *testing.T) {
	c := published(t, 1)
	stranger := transporttest.NewChannel(t, "Stranger")
	stranger.Publish(transporttest.Brief(1))
	synctest.Test(t, func(t *testing.T) {
		newReader(t, c).fails(sync.ErrNoPath)
		m := transporttest.NewMemory(t, c.Editions()...)
		foreign := transporttest.NewMemory(t, stranger.Editions()...)
		r := newReader(t, c,
			transporttest.Failing(m.Path("broken road")), transporttest.Silent(m.Path("quiet road")), transporttest.Silent(m.OpenerPath("quiet flight")),
			foreign.Path("other road"), transporttest.WithHead(m.Path("foreign head"), stranger.Newest().Head.Text()),
			transporttest.WrongHeads(m.Path("false road")), transporttest.Endless(transporttest.WrongHeads(m.OpenerPath("endless road"))),
		)
		res, err := r.e.Sync(t.Context(), c.ID())
		if !errors.Is(err, sync.ErrNoPath) {
			t.Fatal(err)
		}
		for _, p := range res.Paths {
			if !strings.Contains(err.Error(), p.Name) {
				t.Errorf("%q is not named in: %v", p.Name, err)
			}
			if p.State == "ok" || p.State == "idle" {
				t.Errorf("%q: %s", p.Name, p.State)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("not one line: %q", err)
		}
		for _, liar := range []string{"foreign head", "false road"} {
			state(t, res, liar, "lied")
		}
		if h := r.view().Head(); h != nil {
			t.Error("a head is held")
		}
	})
}

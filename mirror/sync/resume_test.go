package sync_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// guard makes a path that reports wants which the library has.
func (r *reader) guard(p transport.Path) transport.Path {
	p.Blocks = guarded{p.Blocks, r.t, r.mem}
	return p
}

// TestKilled ends the first sync at its n-th write, for each n that it has: by
// cancelling, and by a library that fails from there on (a full disk). The next
// sync brings the rest, and asks for nothing that is here.
func TestKilled(t *testing.T) {
	c := published(t, 2)
	first := c.Editions()[:1]
	full := errors.New("disk full")
	for name, kill := range map[string]func(stop context.CancelFunc) error{
		"cancelled": func(stop context.CancelFunc) error { stop(); return nil },
		"disk full": func(context.CancelFunc) error { return full },
	} {
		t.Run(name, func(t *testing.T) {
			for n, last := 1, false; !last; n++ {
				synctest.Test(t, func(t *testing.T) {
					m := transporttest.NewMemory(t, c.Editions()...)
					// He had the first edition, so that there is something to lose.
					r := newReader(t, c, transporttest.NewMemory(t, first...).Path("before"))
					r.sync()
					r.over(r.guard(m.OpenerPath("p")), r.guard(m.Path("q")))
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					r.mem.writes = 0
					reached := false
					r.mem.before = func(i int) error {
						if i < n {
							return nil
						}
						reached = true
						return kill(stop)
					}
					_, err := r.e.Sync(ctx, c.ID())
					if last = !reached; last {
						if err != nil {
							t.Fatal(err)
						}
						return
					}
					if name == "disk full" && !errors.Is(err, full) {
						t.Errorf("write %d failed, and Sync says %v", n, err)
					}
					r.mem.before = nil
					v := r.view() // reads again what was stored
					if h := v.Head(); h == nil || h.Edition > 1 {
						t.Fatal("the head is lost")
					}
					res := r.sync()
					r.holds(c.Newest())
					r.reads(true, c.Editions()...)
					if res.Head.Edition != 1 {
						t.Errorf("write %d: edition %d", n, res.Head.Edition)
					}
				})
			}
		})
	}
}

// TestCancelledWhileFetching ends it at the n-th block instead.
func TestCancelledWhileFetching(t *testing.T) {
	c := published(t, 1)
	total := len(c.Newest().Blocks())
	for n := 1; n <= total; n++ {
		synctest.Test(t, func(t *testing.T) {
			m := transporttest.NewMemory(t, c.Editions()...)
			r := newReader(t, c)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			seen := 0
			r.e.Progress = func(p sync.Progress) {
				if seen = max(seen, p.Blocks); seen >= n {
					stop()
				}
			}
			p := m.Path("p")
			p.Hints.Batch, p.Hints.Parallel = 1, 1
			_, err := r.over(r.guard(p)).e.Sync(ctx, c.ID())
			if seen < total && err == nil {
				t.Errorf("cancelled after block %d of %d: no error", n, total)
			}
			if errors.Is(err, sync.ErrNoPath) {
				t.Errorf("cancelled after block %d: %v", n, err)
			}
			r.e.Progress = nil
			r.sync()
			r.reads(true, c.Editions()...)
		})
	}
}

// TestCancelledAtAnyTime ends it at moments in between, over two paths with
// blocks on their way. What came whole does not come again.
func TestCancelledAtAnyTime(t *testing.T) {
	c := published(t, 2)
	for at := 10 * time.Millisecond; at < 2*time.Second; at += 37 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			a, b := newRoad(t, 40*time.Millisecond, 300<<10, c.Editions()...), newRoad(t, 60*time.Millisecond, 200<<10, c.Editions()...)
			r := newReader(t, c)
			r.over(r.guard(a.path("a", transport.KindQUIC)), r.guard(b.path("b", transport.KindTCP)))
			ctx, stop := context.WithTimeout(t.Context(), at)
			defer stop()
			_, err := r.e.Sync(ctx, c.ID())
			if errors.Is(err, sync.ErrNoPath) || errors.Is(err, sync.ErrIncomplete) {
				t.Errorf("cancelled after %s: %v", at, err)
			}
			before := maps.Clone(a.whole)
			for id, n := range b.whole {
				before[id] += n
			}
			r.sync()
			r.holds(c.Newest())
			r.reads(true, c.Editions()...)
			for id, n := range before {
				if a.whole[id]+b.whole[id] > n {
					t.Errorf("cancelled after %s: block %s came again", at, id)
				}
			}
		})
	}
}

// TestRealLibrary does it once with the store that readers have, closed and
// opened between.
func TestRealLibrary(t *testing.T) {
	c := published(t, 2)
	m := transporttest.NewMemory(t, c.Editions()...)
	dir := filepath.Join(t.TempDir(), "lib")
	session := func(f func(r *reader)) {
		lib, err := library.Open(t.Context(), dir, library.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := lib.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(&reader{t: t, c: c, lib: lib, e: sync.Engine{Library: lib, Ways: ways{m.OpenerPath("p")}}})
	}
	session(func(r *reader) {
		if _, err := sync.Add(t.Context(), r.lib, c.Invite(channel.Places{})); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		r.e.Progress = func(p sync.Progress) {
			if p.Stage == "images" && p.Blocks > 0 {
				stop()
			}
		}
		if _, err := r.e.Sync(ctx, c.ID()); err == nil {
			t.Fatal("cancelled, and no error")
		}
	})
	had := m.Fetched()
	m.Forget()
	session(func(r *reader) {
		r.reads(false, c.Editions()[:0]...)
		r.sync()
		r.holds(c.Newest())
		r.reads(true, c.Editions()...)
	})
	if len(had) == 0 {
		t.Error("nothing came before the end")
	}
	twice := 0
	for id := range m.Fetched() {
		if had[id] > 0 {
			twice++
		}
	}
	// What was on its way when it ended may come again, not what was stored.
	if twice > 8 {
		t.Errorf("%d blocks of %d came twice", twice, len(had))
	}
}

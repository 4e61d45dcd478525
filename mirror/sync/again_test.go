package sync_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// badLine gives up on the first heads, the first grants, and the first requests
// for each block, each after a second of silence.
type badLine struct {
	transport.Heads
	transport.Blocks
	heads, grants, blocks int // so many are lost
	no                    error

	mu    gosync.Mutex
	asked map[cid.Cid]int
}

func (l *badLine) lose(ctx context.Context, left *int) error {
	if *left == 0 {
		return nil
	}
	*left--
	select {
	case <-time.After(time.Second):
		return l.no
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *badLine) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	if err := l.lose(ctx, &l.heads); err != nil {
		return nil, err
	}
	return l.Heads.Head(ctx, ch, have)
}

func (l *badLine) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	if err := l.lose(ctx, &l.grants); err != nil {
		return nil, err
	}
	return l.Heads.Grant(ctx, ch, name)
}

func (l *badLine) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		open := r
		open.Wants = nil
		for _, w := range r.Wants {
			l.mu.Lock()
			l.asked[w.CID]++
			lost := l.asked[w.CID] <= l.blocks
			l.mu.Unlock()
			if !lost {
				open.Wants = append(open.Wants, w)
			} else if !yield(transport.Block{}, &transport.WantError{CID: w.CID, Err: l.no}) {
				return
			}
		}
		for b, err := range l.Blocks.Fetch(ctx, open) {
			if !yield(b, err) {
				return
			}
		}
	}
}

// The only path there is loses much, and says so. It is asked again for
// everything: the head, the grant without which nothing opens, the blocks.
func TestOnlyPathAgain(t *testing.T) {
	c := published(t, 1)
	lost := errors.New("no answer")
	for name, l := range map[string]*badLine{
		"head":   {heads: 1, no: lost},
		"grant":  {grants: 3, no: lost},
		"blocks": {blocks: 2, no: lost},
		"all":    {heads: 1, grants: 2, blocks: 3, no: lost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("p", transport.KindQUIC)
				l.Heads, l.Blocks, l.asked = p.Heads, p.Blocks, map[cid.Cid]int{}
				p.Heads, p.Blocks = struct{ transport.Heads }{l}, l
				r := newReader(t, c, p)
				r.sync()
				r.reads(true, c.Editions()...)
			})
		})
	}
}

// Who says that there is no such thing is not asked again and again.
func TestNoIsNo(t *testing.T) {
	c := published(t, 1)
	no := fmt.Errorf("here: %w", transport.ErrNotFound)
	for name, l := range map[string]*badLine{"head": {heads: 1, no: no}, "grant": {grants: 1, no: no}, "blocks": {blocks: 1, no: no}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("p", transport.KindQUIC)
				l.Heads, l.Blocks, l.asked = p.Heads, p.Blocks, map[cid.Cid]int{}
				p.Heads, p.Blocks = struct{ transport.Heads }{l}, l
				r := newReader(t, c, p)
				if _, err := r.e.Sync(t.Context(), c.ID()); err == nil {
					t.Fatal("it came all the same")
				}
				for id, n := range l.asked {
					if n > 1 {
						t.Errorf("block %s was asked for %d times", id, n)
					}
				}
			})
		})
	}
}

// Nobody waits long to hear that nobody answers: a silent path is not asked for
// ever.
func TestAgainInTheDark(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		p := newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("p", transport.KindQUIC)
		l := &badLine{Heads: p.Heads, Blocks: p.Blocks, heads: 1000, no: errors.New("no answer")}
		p.Heads = struct{ transport.Heads }{l}
		r := newReader(t, c, p)
		start := time.Now()
		r.fails(sync.ErrNoPath)
		if asked := 1000 - l.heads; asked != 2 || time.Since(start) > 10*time.Second {
			t.Errorf("asked %d times in %s", asked, time.Since(start))
		}
	})
}

// Beside a relay that lags, an answer that was lost is asked for again: that the
// page from yesterday is shown meanwhile is no reason to leave it at that.
func TestAgainBesideALaggard(t *testing.T) {
	c := published(t, 2)
	joined, now := c.Editions()[:1], c.Editions()
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, joined...).Path("p"))
		r.sync()
		p := newRoad(t, 20*time.Millisecond, 0, now...).path("p", transport.KindQUIC)
		l := &badLine{Heads: p.Heads, Blocks: p.Blocks, heads: 1, no: errors.New("no answer")}
		p.Heads = struct{ transport.Heads }{l}
		behind := newRoad(t, 20*time.Millisecond, 0, joined...).path("behind", transport.KindQUIC)
		behind.Source = behind.Name
		r.over(p, behind).sync()
		r.holds(now[1])
	})
}

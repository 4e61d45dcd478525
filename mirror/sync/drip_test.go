package sync_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// drip shows a true head and then blocks that nobody wants.
type drip struct {
	roadHeads
	size  int
	every time.Duration
}

func (d drip) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		for p, err := range d.roadHeads.Open(ctx, ask) {
			if p.Kind == transport.PieceBlock {
				break
			}
			if !yield(p, err) {
				return
			}
		}
		for i := range 1000 {
			if sleep(ctx, d.every) != nil {
				yield(transport.Piece{}, ctx.Err())
				return
			}
			data := transporttest.Noise(uint64(i)+77777, d.size)
			if !yield(transport.Piece{Kind: transport.PieceBlock, CID: bundle.RawCID(data), Data: data}, nil) {
				return
			}
		}
	}
}

// trickle goes on saying that bytes come, and no block ever does.
type trickle struct{ every time.Duration }

func (d trickle) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
			if sleep(ctx, d.every) != nil {
				yield(transport.Block{}, ctx.Err())
				return
			}
			r.Got(0, 1)
		}
		for _, w := range r.Wants {
			if !yield(transport.Block{}, &transport.WantError{CID: w.CID, Err: context.DeadlineExceeded}) {
				return
			}
		}
	}
}

// headsOnly hides that a path can open.
type headsOnly struct{ transport.Heads }

// A relay that goes on sending something, only never what is wanted, may cost a
// few of its round trips and no more, and is no reason to speak of a fork.
func TestDrip(t *testing.T) {
	c := published(t, 2)
	for name, spoil := range map[string]func(p *transport.Path){
		"opening": func(p *transport.Path) {
			p.Heads = drip{p.Heads.(roadHeads), 10, 200 * time.Millisecond}
			p.Blocks = transporttest.Silent(*p).Blocks
		},
		"blocks": func(p *transport.Path) { p.Heads, p.Blocks = headsOnly{p.Heads}, trickle{200 * time.Millisecond} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRoad(t, 100*time.Millisecond, 1<<20, c.Editions()...).path("good", transport.KindGateway)
				g.Heads = headsOnly{g.Heads}
				b := newRoad(t, 20*time.Millisecond, 1<<20, c.Editions()...).path("bad", transport.KindQUIC)
				spoil(&b)
				r := newReader(t, c, g, b)
				res := r.sync()
				if res.ToHeadlines == 0 || res.ToHeadlines > 5*time.Second || res.Fork {
					t.Errorf("headlines after %s, fork %v", res.ToHeadlines, res.Fork)
				}
				r.reads(true, c.Editions()...)
			})
		})
	}
}

// What openings bring in vain is counted, and can't eat the budget.
func TestJunk(t *testing.T) {
	c := published(t, 2)
	for _, limit := range []int64{0, 2_000_000} {
		synctest.Test(t, func(t *testing.T) {
			g := newRoad(t, 100*time.Millisecond, 1<<20, c.Editions()...).path("good", transport.KindQUIC)
			b := newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("bad", transport.KindQUIC)
			b.Heads = drip{b.Heads.(roadHeads), 60_000, 0}
			r := newReader(t, c, g, b)
			r.e.Budget = sync.Budget{Bytes: limit, TextOnly: limit > 0}
			res := r.sync()
			r.reads(limit == 0, c.Editions()...)
			if limit == 0 && res.Twice < 8_000_000 || limit > 0 && res.Received > limit {
				t.Errorf("limit %d: received %d, in vain %d", limit, res.Received, res.Twice)
			}
			if res.Received < res.Bytes+res.Twice {
				t.Errorf("received %d, of which %d used and %d in vain", res.Received, res.Bytes, res.Twice)
			}
		})
	}
}

package sync_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	gosync "sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// road is a path of a known speed: each question costs a round trip (the first
// one setup of them more), each byte its time, and requests share the rate.
type road struct {
	m     *transporttest.Memory
	rtt   time.Duration
	setup int
	rate  float64 // bytes a second over all requests, 0 for any
	// broken makes it fail: how often the next fetches break off.
	broken int
	// freezeAfter stops everything for ever after so many bytes of blocks, 0 never.
	freezeAfter int
	// slowAfter bytes of blocks it brings only slowRate, 0 never.
	slowAfter int
	slowRate  float64

	mu      gosync.Mutex
	asked   []time.Time     // when heads were asked for
	opened  int             // openings among them
	whole   map[cid.Cid]int // blocks that arrived whole, by fetches
	partial int             // bytes given out, whole or not
	wants   []transport.Want
	line    time.Time // when the line is free again
}

func newRoad(t *testing.T, rtt time.Duration, rate float64, es ...*transporttest.Edition) *road {
	return &road{m: transporttest.NewMemory(t, es...), rtt: rtt, setup: 1, rate: rate, whole: map[cid.Cid]int{}}
}

func (r *road) path(name, kind string) transport.Path {
	o := r.m.OpenerPath(name)
	p := transport.Path{
		Name: name, Kind: kind, Heads: roadHeads{r, o.Heads.(interface {
			transport.Heads
			transport.Opener
		})}, Blocks: r,
		Hints: transport.Hints{Batch: 32, Parallel: 2},
	}
	if kind == transport.KindDNS {
		p.Hints.Patience, p.Hints.Text = 300*time.Millisecond, true
	}
	return p
}

func sleep(ctx context.Context, d time.Duration) error {
	// A timer that is due at once runs where it is looked at, and two goroutines of a
	// bubble that do so at a time break the race detector (golang/go issue 78156).
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// carry lets n bytes over the line.
func (r *road) carry(ctx context.Context, n int) error {
	r.mu.Lock()
	if r.freezeAfter > 0 && r.partial+n > r.freezeAfter {
		r.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	if r.partial += n; r.slowAfter > 0 && r.partial > r.slowAfter {
		r.rate = r.slowRate
	}
	now := time.Now()
	if r.line.Before(now) {
		r.line = now
	}
	if r.rate > 0 {
		r.line = r.line.Add(time.Duration(float64(n) / r.rate * float64(time.Second)))
	}
	wait := r.line.Sub(now)
	r.mu.Unlock()
	return sleep(ctx, wait)
}

func (r *road) Fetch(ctx context.Context, req transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		r.mu.Lock()
		r.wants = append(r.wants, req.Wants...)
		broken := r.broken > 0
		r.broken--
		r.mu.Unlock()
		if err := sleep(ctx, r.rtt); err != nil {
			yield(transport.Block{}, err)
			return
		}
		if broken {
			yield(transport.Block{}, errors.New("the bridge is out"))
			return
		}
		got := req.Got
		req.Got = nil
		index := map[string]int{}
		for i, w := range req.Wants {
			index[w.CID.KeyString()] = i
		}
		for b, err := range r.m.Fetch(ctx, req) {
			const piece = 4096
			for part := range slices.Chunk(b.Data, piece) {
				if err := r.carry(ctx, len(part)); err != nil {
					yield(transport.Block{}, err)
					return
				}
				if got != nil {
					got(index[b.CID.KeyString()], len(part))
				}
			}
			r.mu.Lock()
			r.whole[b.CID]++
			r.mu.Unlock()
			if !yield(b, err) {
				return
			}
		}
	}
}

// roadHeads is the same for heads.
type roadHeads struct {
	r  *road
	in interface {
		transport.Heads
		transport.Opener
	}
}

func (h roadHeads) ask(ctx context.Context, opens bool) error {
	h.r.mu.Lock()
	h.r.asked = append(h.r.asked, time.Now())
	if opens {
		h.r.opened++
	}
	h.r.mu.Unlock()
	return sleep(ctx, time.Duration(1+h.r.setup)*h.r.rtt)
}

func (h roadHeads) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	if err := h.ask(ctx, false); err != nil {
		return nil, err
	}
	return h.in.Head(ctx, ch, have)
}

func (h roadHeads) RootNote(ctx context.Context, ch channel.ID, v uint64) ([]byte, error) {
	if err := sleep(ctx, h.r.rtt); err != nil {
		return nil, err
	}
	return h.in.RootNote(ctx, ch, v)
}

func (h roadHeads) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	if err := sleep(ctx, h.r.rtt); err != nil {
		return nil, err
	}
	return h.in.Grant(ctx, ch, name)
}

func (h roadHeads) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		if err := h.ask(ctx, true); err != nil {
			yield(transport.Piece{}, err)
			return
		}
		for p, err := range h.in.Open(ctx, ask) {
			if stop := h.r.carry(ctx, len(p.Data)); stop != nil {
				yield(transport.Piece{}, stop)
				return
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// questions is how often a road was asked for its head.
func (r *road) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

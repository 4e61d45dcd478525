package relay

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// maxSpread is how many connections a reader has at once where one does not
	// bring much: where packets are lost by chance each of them has a congestion
	// window of its own (RFC 9002), and sixteen bring what one brings on a good line.
	maxSpread = 16
	// spreadFor is how long a line counts as bad once it was found to be, spreadIdle
	// how long connections are kept that nobody needs: each costs the relay memory.
	spreadFor  = 10 * time.Minute
	spreadIdle = 3 * time.Second
)

// errBadLine ends a fetch over one connection: several will do better.
var errBadLine = errors.New("packets are lost")

// bulk fetches blocks over one connection as long as that goes well, and else over
// several, in pieces.
//
// One connection on a line that loses 5 % of packets gets no further than some ten
// packets a round trip, whatever the line could carry, since each loss halves its
// window. A line that is merely slow is full, and packets come one behind the
// other; there more connections would only be more handshakes.
type bulk struct {
	network transport.Network
	main    *quicConn
	one     *gateway.Client // over main
	base    string

	mu     sync.Mutex
	more   []*quicConn // besides main, all on the same way
	users  int
	idle   *time.Timer
	bad    time.Time // until then the line counts as bad
	ranges bool      // ranges of blocks were had from there
	closed bool
}

var _ interface {
	transport.Blocks
	transport.Wide
} = (*bulk)(nil)

// Fetch implements transport.Blocks.
func (b *bulk) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		begun := &beginnings{of: map[string][]byte{}}
		if !b.isBad() {
			var more bool
			if r, more = b.plain(ctx, r, begun, yield); !more {
				return
			}
		}
		b.spread(ctx, r, begun, yield)
	}
}

// Ahead implements transport.Wide: on a bad line all connections have something to
// do, which a request of one block leaves to three of them.
func (b *bulk) Ahead() int64 {
	if !b.isBad() {
		return 0
	}
	return maxSpread * spreadAhead * spreadPiece
}

func (b *bulk) isBad() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.bad)
}

// plain fetches over one connection. more: the line was found to be bad; what is
// left of the request is returned.
func (b *bulk) plain(ctx context.Context, r transport.Request, begun *beginnings, yield func(transport.Block, error) bool) (left transport.Request, more bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{main: b.main, left: make([]int, len(r.Wants))}
	for i, want := range r.Wants {
		w.left[i], w.total = want.Size, w.total+int64(want.Size)
	}
	got := r.Got
	req := r
	req.Got = func(i, n int) {
		w.add(i, n)
		if got != nil {
			got(i, n)
		}
	}
	var done sync.WaitGroup
	done.Go(func() {
		if !w.run(ctx) {
			return
		}
		b.mu.Lock()
		b.bad = time.Now().Add(spreadFor)
		b.mu.Unlock()
		if !r.Once { // else from the next fetch on
			cancel(errBadLine)
		}
	})
	defer done.Wait()
	defer cancel(nil)
	here := map[string]bool{}
	for block, err := range b.one.FetchKeeping(ctx, req, begun.keep) {
		if err != nil && errors.Is(context.Cause(ctx), errBadLine) {
			return rest(r, here), true
		}
		var failed *transport.WantError
		switch {
		case err == nil:
			here[block.CID.KeyString()] = true
		case errors.As(err, &failed): // said once
			here[failed.CID.KeyString()] = true
		}
		if !yield(block, err) {
			return r, false
		}
	}
	return r, false
}

// rest is a request for what is not here.
func rest(r transport.Request, here map[string]bool) transport.Request {
	out, at := r, []int(nil)
	out.Wants = nil
	for i, w := range r.Wants {
		if !here[w.CID.KeyString()] {
			out.Wants, at = append(out.Wants, w), append(at, i)
		}
	}
	if r.Got != nil {
		out.Got = func(i, n int) { r.Got(at[i], n) }
	}
	return out
}

// spread fetches what is missing of blocks in pieces over several connections.
func (b *bulk) spread(ctx context.Context, r transport.Request, begun *beginnings, yield func(transport.Block, error) bool) {
	via, err := b.answered(ctx)
	if err != nil {
		yield(transport.Block{}, err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	b.mu.Lock()
	// A relay has them; a CDN before it may not.
	ranges := b.ranges || !b.main.peer().pin.WebPKI()
	b.mu.Unlock()
	s := &spreading{base: b.base, r: r, main: b.main, ranges: ranges, out: make(chan spreadOut)}
	s.plan(begun)
	conns, closeAll := b.open(min(maxSpread, (len(s.pieces)+spreadAhead-1)/spreadAhead+1), via)
	defer closeAll()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ranges = b.ranges || s.ranges
	}()
	var workers sync.WaitGroup
	defer workers.Wait() // nobody calls r.Got after Fetch has ended
	defer cancel()
	for range spreadAhead {
		for _, q := range conns {
			workers.Go(func() { s.work(ctx, q) })
		}
	}
	for range len(s.blocks) {
		select {
		case o := <-s.out:
			switch {
			case errors.Is(o.err, transport.ErrNotFound): // not here now
			case !yield(o.block, o.err) || o.fatal:
				return
			}
		case <-ctx.Done():
			yield(transport.Block{}, ctx.Err())
			return
		}
	}
}

// answered waits until somebody has answered on main, and returns the way there.
func (b *bulk) answered(ctx context.Context) (way, error) {
	for {
		l, _, err := b.main.line(ctx)
		if err != nil {
			return way{}, err
		}
		select {
		case <-l.conn.HandshakeComplete():
			return l.at, nil
		case <-l.conn.Context().Done(): // or another one has overtaken it
			if !l.overtaken.Load() {
				return way{}, context.Cause(l.conn.Context())
			}
		case <-ctx.Done():
			return way{}, context.Cause(ctx)
		}
	}
}

// open returns n connections, main among them, for as long as close is not called.
// The others go main's way: where it leads nowhere, nobody is flooded.
func (b *bulk) open(n int, via way) (conns []*quicConn, closeAll func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return []*quicConn{b.main}, func() {}
	}
	b.users++
	if b.idle != nil {
		b.idle.Stop()
	}
	if len(b.more) > 0 && *b.more[0].via != via {
		old := b.more
		b.more = nil
		time.AfterFunc(spreadIdle, func() {
			for _, q := range old {
				_ = q.Close()
			}
		})
	}
	for len(b.more) < n-1 {
		q := newQUIC(b.network, b.main.peer()).(*quicConn)
		q.via = &via
		b.more = append(b.more, q)
	}
	return append([]*quicConn{b.main}, b.more[:n-1]...), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.users--; b.users == 0 && !b.closed {
			b.idle = time.AfterFunc(spreadIdle, b.shut)
		}
	}
}

// shut closes the connections that nobody needs.
func (b *bulk) shut() {
	b.mu.Lock()
	if b.users > 0 {
		b.mu.Unlock()
		return
	}
	more := b.more
	b.more = nil
	b.mu.Unlock()
	for _, q := range more {
		_ = q.Close()
	}
}

// close ends everything but main.
func (b *bulk) close() {
	b.mu.Lock()
	if b.idle != nil {
		b.idle.Stop()
	}
	b.users, b.closed = 0, true
	b.mu.Unlock()
	b.shut()
}

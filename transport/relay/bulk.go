package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// maxSpread is how many connections a reader has at once where one does not
	// bring much: where packets are lost by chance each of them has a congestion
	// window of its own (RFC 9002), and sixteen bring what one brings on a good line.
	maxSpread = 16
	// spreadPiece is how much of a block each is asked for at a time, spreadAhead how
	// many of them: together a little less than it may send in one flight.
	spreadPiece = 8 << 10
	spreadAhead = 4
	// spreadTries is how often a piece is asked for, not counting doubles.
	spreadTries = 4
	// spreadFor is how long a line counts as bad once it was found to be, spreadIdle
	// how long connections are kept that nobody needs: each costs the relay memory.
	spreadFor  = 10 * time.Minute
	spreadIdle = 3 * time.Second
	// leastTime is how long a line is watched at least. Where round trips are so short
	// that this is many of them, windows grow again before anybody notices.
	leastTime = 200 * time.Millisecond
	// leastGap is no silence: a relay's disk may need that.
	leastGap = 30 * time.Millisecond
	// firstFlight is what a relay sends before it hears from us again: quic-go's
	// initial window of 32 packets.
	firstFlight = 32 * minPacket
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

var _ transport.Blocks = (*bulk)(nil)

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

func (b *bulk) isBad() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.bad)
}

// plain fetches over one connection. more: the line was found to be bad; what is
// left of the request is returned.
func (b *bulk) plain(ctx context.Context, r transport.Request, begun *beginnings, yield func(transport.Block, error) bool) (left transport.Request, more bool) {
	if !r.Once { // else all of it comes over this one
		ctx = context.WithValue(ctx, beginningsKey{}, begun)
	}
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
	for block, err := range b.one.Fetch(ctx, req) {
		if err != nil && errors.Is(context.Cause(ctx), errBadLine) {
			return rest(r, here), true
		}
		var failed *transport.WantError
		switch {
		case err == nil:
			here[block.CID.KeyString()] = true
			begun.forget(block.CID.String())
		case errors.As(err, &failed): // said once
			here[failed.CID.KeyString()] = true
		}
		if !yield(block, err) {
			return r, false
		}
	}
	return r, false
}

// beginnings keeps what has come of blocks that may have to be gone on with over
// other connections: nothing of it is asked for twice then.
type beginnings struct {
	mu sync.Mutex
	of map[string][]byte // by CID
}

// forget lets go of what is here as a whole.
func (b *beginnings) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.of, name)
}

type beginningsKey struct{}

// keeper is a round tripper that keeps beginnings for who asks for it.
type keeper struct{ http.RoundTripper }

func (k keeper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := k.RoundTripper.RoundTrip(req)
	b, ok := req.Context().Value(beginningsKey{}).(*beginnings)
	_, name, block := strings.Cut(req.URL.Path, "/ipfs/")
	if err != nil || !ok || !block || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	resp.Body = &keptBody{resp.Body, b, name}
	return resp, nil
}

type keptBody struct {
	io.ReadCloser
	b    *beginnings
	name string
}

func (k *keptBody) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	k.b.mu.Lock()
	defer k.b.mu.Unlock()
	if at := k.b.of[k.name]; len(at)+n <= bundle.MaxBlock {
		k.b.of[k.name] = append(at, p[:n]...)
	}
	return n, err
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

// watch compares what comes over a connection with what comes over a good one.
type watch struct {
	main  *quicConn
	total int64

	mu    sync.Mutex
	left  []int        // bytes of each block that are missing
	open  map[int]bool // those of which something is here
	got   int64
	times int           // that something came
	first time.Time     // when something came first
	last  time.Time     // and last
	gap   time.Duration // the longest silence in the middle of a block since the last look
}

func (w *watch) add(i, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.times++; w.times == 1 {
		w.first, w.open = now, map[int]bool{}
	} else if len(w.open) > 0 { // else the relay may not have begun with the next
		w.gap = max(w.gap, now.Sub(w.last))
	}
	w.got, w.last = w.got+int64(n), now
	if w.left[i] -= n; w.left[i] > 0 {
		w.open[i] = true
	} else {
		delete(w.open, i)
	}
}

// look is how much has come, the longest silence since it was asked last, and the
// usual one.
func (w *watch) look() (got int64, gap, usual time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gap = w.gap; w.times > 0 {
		if len(w.open) > 0 {
			gap = max(gap, time.Since(w.last))
		}
		usual = w.last.Sub(w.first) / time.Duration(w.times)
	}
	w.gap = 0
	return w.got, gap, usual
}

// run returns true when the line is bad: a round trip after the first byte or later
// there is less than half of what a good one would have brought, and in the middle
// of a block nothing came for half a round trip, which is much longer than usual: so
// it is not full. How long the relay takes to begin with a block doesn't matter.
func (w *watch) run(ctx context.Context) bool {
	// In round trips after the request, if it was answered at once.
	for trips := 2; ; {
		least, _, ok := w.main.trips()
		first := w.began()
		if !ok || first.IsZero() { // nothing can be told yet
			if !pause(ctx, 25*time.Millisecond) {
				return false
			}
			continue
		}
		at := time.Duration(trips-1)*least + least/4
		if !pause(ctx, max(time.Until(first.Add(max(at, leastTime-least))), 0)) {
			return false
		}
		got, gap, usual := w.look()
		if good := int64(firstFlight)<<min(trips, 16) - firstFlight; 2*got < min(good, w.total) && gap > max(least/2, 4*usual, leastGap) {
			return true
		}
		trips++
	}
}

// pause waits; false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// began is when the first byte came, zero if none has.
func (w *watch) began() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// trips are the shortest and the usual round trip of the current connection.
func (q *quicConn) trips() (least, smoothed time.Duration, ok bool) {
	q.mu.Lock()
	l := q.cur
	q.mu.Unlock()
	if l == nil || l.over() {
		return 0, 0, false
	}
	select {
	case <-l.ready:
	default:
		return 0, 0, false
	}
	if l.conn == nil || !l.complete() {
		return 0, 0, false
	}
	s := l.conn.ConnectionStats()
	return s.MinRTT, s.SmoothedRTT, s.MinRTT > 0
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

// spreading is one fetch in pieces.
type spreading struct {
	base string
	r    transport.Request
	main *quicConn
	out  chan spreadOut

	mu     sync.Mutex
	blocks []*spreadBlock
	pieces []*spreadPart // all, in order
	usual  time.Duration // that a piece takes, 0 before the first is here
	ranges bool          // ranges are known to be had
	whole  bool          // they are not: one request a block is enough
}

type spreadOut struct {
	block transport.Block
	err   error
	fatal bool // the connection's fault, not the block's
}

// spreadBlock is a block as far as it has come.
type spreadBlock struct {
	i    int // in the request
	want transport.Want
	data []byte
	left int // parts
	done bool
}

// spreadPart is a piece of a block; takers are the requests under way for it.
type spreadPart struct {
	of       *spreadBlock
	at, size int64
	first    bool // of its block
	tries    int
	begun    time.Time
	takers   map[*quicConn]context.CancelFunc
	doubles  int
	done     bool
}

// plan cuts what is missing of each block into pieces. One whose size is not known
// is one piece.
func (s *spreading) plan(begun *beginnings) {
	begun.mu.Lock()
	defer begun.mu.Unlock()
	seen := map[string]bool{}
	for i, w := range s.r.Wants {
		if !w.CID.Defined() || seen[w.CID.KeyString()] {
			continue
		}
		seen[w.CID.KeyString()] = true
		size := int64(w.Size)
		if size <= 0 || size > bundle.MaxBlock {
			size = 0
		}
		blk := &spreadBlock{i: i, want: w, data: make([]byte, size)}
		s.blocks = append(s.blocks, blk)
		at := int64(0)
		if have := begun.of[w.CID.String()]; size > 0 {
			at = min(int64(len(have)), size-1) // of one that is whole the last byte again
			copy(blk.data, have[:at])
		}
		for ; at < max(size, 1); at += spreadPiece {
			blk.left++
			s.pieces = append(s.pieces, &spreadPart{
				of: blk, at: at, size: min(spreadPiece, size-at), first: blk.left == 1, takers: map[*quicConn]context.CancelFunc{},
			})
		}
	}
}

// take gives a connection the next piece that nobody has, or one that is late.
func (s *spreading) take(ctx context.Context, by *quicConn) (p *spreadPart, pctx context.Context, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Late is who takes twice as long as a piece does, and longer than two round trips.
	late := 2 * s.usual
	if s.usual == 0 {
		late = time.Second
	}
	if least, smoothed, ok := s.main.trips(); ok {
		late = max(late, 2*max(least, smoothed)+50*time.Millisecond)
	}
	var double *spreadPart
	for _, q := range s.pieces {
		switch {
		case q.done || q.of.done || s.whole && !q.first:
		case !s.ranges && !q.first:
			wait = true
		case q.takers[by] != nil:
			wait = true
		case len(q.takers) == 0:
			p = q
		case !s.r.Once && time.Since(q.begun) > late<<q.doubles && (double == nil || q.begun.Before(double.begun)):
			double = q
			wait = true
		default:
			wait = true
		}
		if p != nil {
			break
		}
	}
	if p == nil && double != nil {
		p = double
		p.doubles++
	}
	if p == nil {
		return nil, nil, wait
	}
	pctx, cancel := context.WithCancel(ctx)
	if len(p.takers) == 0 {
		p.begun, p.doubles = time.Now(), 0
	}
	p.takers[by] = cancel
	return p, pctx, false
}

// work fetches pieces over one connection until there are none.
func (s *spreading) work(ctx context.Context, q *quicConn) {
	for ctx.Err() == nil {
		p, pctx, wait := s.take(ctx, q)
		if p == nil {
			if !wait {
				return
			}
			pause(ctx, 50*time.Millisecond) // what is late by then?
			continue
		}
		data, whole, err := s.ask(pctx, q, p)
		if err != nil && q != s.main && !aboutBlock(err) && pctx.Err() == nil {
			s.giveBack(p, q)
			return // this connection brings nothing; others do
		}
		if o := s.settle(p, q, data, whole, err, ctx.Err() != nil); o != nil {
			select {
			case s.out <- *o:
			case <-ctx.Done():
			}
		}
	}
}

// aboutBlock reports whether an error is about what was asked for and not about the
// connection.
func aboutBlock(err error) bool {
	return errors.Is(err, transport.ErrNotFound) || errors.Is(err, gateway.ErrStatus) || isReset(err)
}

// giveBack lets others take a piece.
func (s *spreading) giveBack(p *spreadPart, q *quicConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.drop(q)
}

// drop ends one request for a piece.
func (p *spreadPart) drop(q *quicConn) {
	if cancel := p.takers[q]; cancel != nil {
		cancel()
		delete(p.takers, q)
	}
}

func (s *spreading) ask(ctx context.Context, q *quicConn, p *spreadPart) (data []byte, whole bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/ipfs/"+p.of.want.CID.String()+"?format=raw", nil)
	if err != nil {
		return nil, false, errors.New("relay: malformed request")
	}
	req.Header.Set("Accept", "application/vnd.ipld.raw")
	req.Header.Set("User-Agent", "")
	size := p.size
	if len(p.of.data) == 0 {
		size = bundle.MaxBlock
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	data, head, err := askRange(ctx, q, req, p.at, size, func(n int) {
		if s.r.Got != nil {
			s.r.Got(p.of.i, n)
		}
	})
	if err != nil {
		return nil, false, err
	}
	switch head.status {
	case http.StatusPartialContent:
		if len(p.of.data) > 0 && int64(len(data)) != p.size {
			return nil, false, fmt.Errorf("%w: %d bytes of %d", gateway.ErrStatus, len(data), p.size)
		}
		return data, len(p.of.data) == 0, nil
	case http.StatusOK:
		return data, true, nil
	case http.StatusNotFound, http.StatusGone:
		return nil, false, transport.ErrNotFound
	}
	return nil, false, fmt.Errorf("%w: status %d", gateway.ErrStatus, head.status)
}

// settle takes in what came of a piece; what it returns is to be told.
func (s *spreading) settle(p *spreadPart, q *quicConn, data []byte, whole bool, err error, over bool) *spreadOut {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.drop(q)
	b := p.of
	if p.done || b.done || over {
		return nil // another one was faster
	}
	if err != nil {
		p.tries++
		no := errors.Is(err, transport.ErrNotFound)
		if !no && p.tries < spreadTries {
			return nil
		}
		s.end(b)
		if no || errors.Is(err, gateway.ErrStatus) || errors.Is(err, context.DeadlineExceeded) {
			return &spreadOut{err: &transport.WantError{CID: b.want.CID, Err: err}}
		}
		return &spreadOut{err: err, fatal: true}
	}
	p.done = true
	if took := time.Since(p.begun); s.usual == 0 {
		s.usual = took
	} else {
		s.usual += (took - s.usual) / 8
	}
	for other := range p.takers {
		p.drop(other)
	}
	if whole {
		s.whole = s.whole || len(b.data) > spreadPiece
		b.data, b.left = data, 0
	} else {
		s.ranges = true
		copy(b.data[p.at:], data)
		b.left--
	}
	if b.left > 0 {
		return nil
	}
	s.end(b)
	if err := bundle.CheckBlock(b.want.CID, b.data); err != nil {
		return &spreadOut{err: &transport.WantError{CID: b.want.CID, Err: err}}
	}
	return &spreadOut{block: transport.Block{CID: b.want.CID, Data: b.data}}
}

// end lets nobody ask for more of a block.
func (s *spreading) end(b *spreadBlock) {
	b.done = true
	for _, p := range s.pieces {
		if p.of != b {
			continue
		}
		for q := range p.takers {
			p.drop(q)
		}
	}
}

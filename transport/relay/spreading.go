package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// spreadPiece is how much of a block each is asked for at a time, spreadAhead how
	// many of them: together a little less than it may send in one flight.
	spreadPiece = 8 << 10
	spreadAhead = 4
	// spreadTries is how often a piece is asked for, not counting doubles.
	spreadTries = 4
)

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
	whole  bool          // they were not: one request is enough for a block of which nothing came as a piece
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
	left int  // parts
	cut  bool // one of them came by itself
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
		if have := begun.of[w.CID.KeyString()]; size > 0 {
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
		case q.done || q.of.done || s.whole && !q.first && !q.of.cut:
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
	req, err := gateway.BlockRequest(ctx, s.base, p.of.want.CID)
	if err != nil {
		return nil, false, err
	}
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
	}
	return nil, false, gateway.StatusError(head.status)
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
		s.ranges, b.cut = true, true
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

package sync

import (
	"context"
	"errors"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
)

const (
	// A batch of which nothing comes for this long is over. Resolvers that have had
	// enough of us say nothing for a minute or two.
	silence     = time.Minute
	silenceText = 150 * time.Second
	// How often an idle path looks whether another one is late.
	lookEvery = 100 * time.Millisecond
)

// errSilent and errFlood end a batch.
var (
	errSilent = errors.New("it took the request and sent nothing")
	errFlood  = errors.New("it sends more than it was asked for")
)

// carry lets one path take wants until ctx ends.
func (w *work) carry(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		news := w.crew.news()
		if d := w.board.wait(l); d > 0 {
			if !pause(ctx, d, news) {
				return
			}
			continue
		}
		t, again := w.board.take(l)
		if t == nil {
			if !pause(ctx, lookEvery, again) {
				return
			}
			continue
		}
		if t.doubled {
			w.out <- arrival{lane: l, event: EventDoubled}
		}
		err := w.fetchBatch(ctx, t)
		w.out <- w.settle(ctx, t, err)
	}
}

// settle ends a batch and says what became of it.
func (w *work) settle(ctx context.Context, t *batch, err error) arrival {
	l, took := t.lane, time.Since(t.taken)
	sum := w.board.sum(t)
	var one *transport.WantError
	// A connection that broke may be made anew; who says no, says nothing, or
	// sends what nobody asked for, is not asked for the same again.
	broken := err != nil && !errors.As(err, &one) && !errors.Is(err, transport.ErrNotFound) && !errors.Is(err, errNotNeeded)
	lied := errors.Is(err, bundle.ErrBlock)
	stopped := ctx.Err() != nil
	stalled := errors.Is(err, errNotNeeded) && sum.stalled
	a := arrival{lane: l, err: err, event: EventFailed}
	dropped := false
	switch {
	case stopped:
	case lied:
		w.crew.lie(l)
	case broken || stalled || err != nil && sum.came > 0 && sum.yielded == 0 && !errors.Is(err, errNotNeeded): // bytes of no use
		if dropped = w.crew.fail(l, errors.Is(err, transport.ErrUnsupported)); dropped {
			a.event = EventDropped
		}
	default:
		w.crew.measure(l, sum.came, sum.first, took)
	}
	again := broken && !dropped && !errors.Is(err, errSilent) && !errors.Is(err, errFlood)
	// Bytes of no use, more than was asked for, "not found" without exception:
	// these say no.
	why := fault(err == nil || !broken && !stalled || errors.Is(err, errFlood))
	undone, vain := w.board.release(t, !stopped && !again, why)
	a.vain = vain
	switch {
	case stopped:
		a.err = nil
	case errors.Is(err, errNotNeeded):
		if a.err = nil; stalled {
			a.err = errSilent
		}
	case err == nil && undone > 0:
		a.err = transport.ErrNotFound
	case err == nil || undone == 0 && !broken && !lied:
		a.err = nil
	}
	if a.err == nil && !stopped && sum.useful > 0 {
		w.crew.keeps(l, sum.first)
	}
	return a
}

// fetchBatch asks one path for some wants and checks what comes. A block counts
// as arrived from here on, so that no other path fetches it again; store puts it
// into the library.
func (w *work) fetchBatch(ctx context.Context, t *batch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.board.begin(t, cancel)
	patience := silence
	if t.lane.Hints.Text {
		patience = silenceText
	}
	quiet := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer quiet.Stop()
	heard := func(got, block int) {
		quiet.Reset(patience)
		if !w.board.heard(t, got, block) && w.purse.limit > 0 {
			cancel(errFlood)
		}
	}
	req := transport.Request{Edition: *t.ed, Once: w.purse.limit > 0, Got: func(_, n int) {
		if n > 0 {
			heard(n, 0)
		}
	}}
	for _, want := range t.wants {
		req.Wants = append(req.Wants, want.Want)
	}
	var last error
	yields := 0
	for block, err := range t.lane.Blocks.Fetch(ctx, req) {
		if yields++; yields > 2*len(t.wants)+1 {
			return errFlood
		}
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			last = err
			var one *transport.WantError
			if errors.As(err, &one) {
				w.board.silent(t, one)
				continue
			}
			return err
		}
		heard(0, len(block.Data))
		checked, err := bundle.Check(block.CID, block.Data)
		if err != nil {
			return err // a liar: nothing more from this path
		}
		if want := w.board.arrived(block.CID, t, len(block.Data)); want != nil {
			w.out <- arrival{lane: t.lane, block: checked, want: want}
		}
		if cause := context.Cause(ctx); errors.Is(cause, errFlood) {
			return cause
		}
	}
	if last == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return last
}

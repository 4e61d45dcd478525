package transporttest

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// faults are what the suite's censor does, from before the first socket on.
var faults = []struct {
	name  string
	fault Fault
	// fails tells that nothing can come through.
	fails bool
}{
	{"refused", Fault{Refuse: true}, true},
	{"black hole", Fault{BlackHole: true}, true},
	{"cut in the handshake", Fault{CutAfter: 40}, true},
	{"cut", Fault{CutAfter: 30_000}, false},
	{"stalled in the handshake", Fault{StallAfter: 40}, true},
	{"stalled", Fault{StallAfter: 30_000}, false},
	{"flipped bits", Fault{FlipEvery: 997}, false},
	{"flipped bits everywhere", Fault{FlipEvery: 61}, false},
}

// hold is how long a path may try before its ctx ends: long enough for it to
// run into the fault on loopback.
const hold = 700 * time.Millisecond

// censored sees that each path under each fault ends soon after ctx, with
// nothing wrong taken for right and nothing without end.
func censored(t *testing.T, set func(*testing.T) (*World, Subject)) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			w, s := set(t)
			before := w.Network.Opened()
			w.Network.Set(f.fault)
			for _, p := range s.Paths {
				j := &judge{t: t, w: w, s: s, p: p}
				j.censored(f.fails)
			}
			if w.Network.Opened() == before {
				t.Fatal("no socket was opened through the network: nothing was tested")
			}
			if !f.fault.Refuse {
				return
			}
			// A path whose sockets were refused is whole when they are not.
			w.Network.Set(Fault{})
			for _, p := range s.Paths {
				j := &judge{t: t, w: w, s: s, p: p}
				j.recovers()
			}
		})
	}
}

func (j *judge) censored(fails bool) {
	e, ch := j.w.Newest, j.w.Channel.ID()
	try := func(what string, f func(ctx context.Context) error) {
		j.t.Helper()
		ctx, cancel := context.WithTimeout(j.t.Context(), hold)
		defer cancel()
		j.within(j.p.Name+": "+what, func() {
			if err := f(ctx); fails && err == nil {
				j.t.Errorf("%s: %s came through a net that carries nothing", j.p.Name, what)
			}
		})
	}
	if h := j.p.Heads; h != nil {
		try("head", func(ctx context.Context) error {
			raw, err := h.Head(ctx, ch, 0)
			if err == nil && len(raw) > 4096 {
				j.t.Errorf("head of %d bytes", len(raw))
			}
			if err == nil && j.s.PlainHeads {
				_, err = j.w.Channel.Roots().Head(raw)
			}
			return err
		})
		if !j.s.NoGrants {
			try("grant", func(ctx context.Context) error {
				b, err := h.Grant(ctx, ch, j.w.Channel.GrantName())
				if err == nil && len(b) > 8192 {
					j.t.Errorf("grant of %d bytes", len(b))
				}
				return err
			})
		}
		if o, ok := h.(transport.Opener); ok {
			try("opening", func(ctx context.Context) (last error) {
				n := 0
				for p, err := range o.Open(ctx, transport.Ask{Channel: ch, Grant: j.w.Channel.GrantName()}) {
					if n++; n > 1000 {
						j.t.Error("an opening without end")
						break
					}
					if last = err; err == nil && len(p.Data) > bundle.MaxBlock {
						j.t.Errorf("piece of %d bytes", len(p.Data))
					}
				}
				return last
			})
		}
	}
	if j.p.Blocks == nil {
		return
	}
	wants, blocks := j.wants(e), e.Blocks()
	total := 0
	for _, w := range wants {
		total += w.Size
	}
	try("blocks", func(ctx context.Context) error {
		var heard atomic.Int64
		var last error
		right, errs := 0, 0
		r := transport.Request{Edition: e.Where(), Wants: wants, Got: func(_, n int) { heard.Add(int64(n)) }}
		for b, err := range j.p.Blocks.Fetch(ctx, r) {
			var one *transport.WantError
			switch {
			case errors.As(err, &one):
				errs++
			case err != nil:
				if last != nil {
					j.t.Errorf("%v after the last error", err)
				}
				last = err
			case !bytes.Equal(b.Data, blocks[b.CID]):
				j.t.Errorf("%s: %d wrong bytes yielded as block %s", j.p.Name, len(b.Data), b.CID)
			default:
				right++
			}
		}
		if right+errs > len(wants) {
			j.t.Errorf("%s: %d blocks and %d errors for %d wants", j.p.Name, right, errs, len(wants))
		}
		if n := heard.Load(); n > int64(4*total) {
			j.t.Errorf("%s: %d bytes read for %d", j.p.Name, n, total)
		}
		if right < len(wants) && last == nil && errs == 0 {
			// Not held is no error; here everything is held.
			j.t.Errorf("%s: %d of %d blocks, and no reason", j.p.Name, right, len(wants))
		}
		if right == 0 {
			return errors.Join(last, errNothing)
		}
		return nil
	})
}

var errNothing = errors.New("nothing came")

func (j *judge) recovers() {
	if j.p.Heads != nil {
		if _, err := j.p.Heads.Head(j.soon(), j.w.Channel.ID(), 0); err != nil {
			j.t.Errorf("%s: head after the refusal: %v", j.p.Name, err)
		}
	}
	if j.p.Blocks != nil {
		j.fetchAll(j.soon(), j.w.Newest)
	}
}

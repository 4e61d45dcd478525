package gateway

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/transport"
)

// Fetch implements transport.Blocks. A failure of the connection ends it; a
// block that is wrong, cut off or too slow is a *transport.WantError; one that
// the gateway does not have is not yielded.
func (c *Client) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return c.FetchKeeping(ctx, r, nil)
}

// FetchKeeping is Fetch; begun, if not nil, is given what has come of blocks that
// were on their way when ctx ended, not checked, for who wants to go on with them
// elsewhere. It is called from several goroutines, and not after the last value.
func (c *Client) FetchKeeping(ctx context.Context, r transport.Request, begun func(id cid.Cid, data []byte)) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		f := &fetching{Client: c, r: r, begun: begun, start: time.Now(), todo: distinct(r.Wants), results: make(chan result)}
		defer func() {
			f.workers.Wait() // nobody calls r.Got after Fetch has ended
			f.pace.note(f.came, time.Since(f.start))
		}()
		defer cancel()
		f.hire(ctx)
		done := make(chan struct{})
		go func() { f.workers.Wait(); close(done) }()
		for {
			select {
			case res := <-f.results:
				if err := ctx.Err(); err != nil {
					f.keep(res.block.CID, res.block.Data)
					yield(transport.Block{}, err)
					return
				}
				if !yield(res.block, res.err) {
					return
				}
				if res.err != nil && !isWantError(res.err) {
					return
				}
			case <-done:
				// The workers may have gone because ctx did.
				if err := ctx.Err(); err != nil {
					yield(transport.Block{}, err)
				}
				return
			}
		}
	}
}

// distinct are the wants of a request, each once.
func distinct(wants []transport.Want) []int {
	out := make([]int, 0, len(wants))
	seen := make(map[string]bool, len(wants))
	for i, w := range wants {
		if key := w.CID.KeyString(); w.CID.Defined() && !seen[key] {
			seen[key] = true
			out = append(out, i)
		}
	}
	return out
}

// fetching is one Fetch under way.
type fetching struct {
	*Client
	r       transport.Request
	begun   func(id cid.Cid, data []byte)
	results chan result
	start   time.Time
	workers sync.WaitGroup

	mu    sync.Mutex
	todo  []int // wants that nobody has taken, in order
	alone []int // of runs that brought them not: raw
	busy  int   // workers
	runs  int   // under way
	came  int64 // bytes
}

type result struct {
	block transport.Block
	err   error
}

// hire lets as many work as may and have something to do. Runs are handed to them one
// after the other: what is wanted first is asked for first.
func (f *fetching) hire(ctx context.Context) {
	f.mu.Lock()
	n := min(f.opts.Parallel-f.busy, len(f.todo)+len(f.alone))
	f.busy += max(0, n)
	f.mu.Unlock()
	if n <= 0 {
		return
	}
	runs := make(chan []int)
	for range n {
		f.workers.Go(func() { f.work(ctx, runs) })
	}
	go func() {
		defer close(runs)
		for run := f.take(); len(run) > 0; run = f.take() {
			select {
			case runs <- run:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (f *fetching) work(ctx context.Context, runs <-chan []int) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.busy--
	}()
	for run := range runs {
		switch {
		case len(run) == 1:
			if !f.one(ctx, run[0]) {
				return
			}
		case !f.run(ctx, run):
			return
		default:
			f.ran()
			f.hire(ctx)
		}
	}
}

// take is what a worker asks for next: one want, or a run of neighbours; nothing if
// that is up to the workers of the runs under way.
func (f *fetching) take() (run []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.alone) > 0 {
		run, f.alone = f.alone[:1], f.alone[1:]
		return run
	}
	n := min(1, len(f.todo))
	if long := f.runLength(); long > 0 {
		if m := neighbours(f.r.Wants, f.todo, long); m > 0 {
			if f.runs == maxRuns {
				return nil
			}
			n = m
			f.runs++
		}
	}
	run, f.todo = f.todo[:n], f.todo[n:]
	return run
}

func (f *fetching) ran() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs--
}

// got tells of bytes of a want.
func (f *fetching) got(i, n int) {
	f.mu.Lock()
	f.came += int64(n)
	f.mu.Unlock()
	if f.r.Got != nil {
		f.r.Got(i, n)
	}
}

// keep gives back what will not be yielded any more.
func (f *fetching) keep(id cid.Cid, data []byte) {
	if f.begun != nil && len(data) > 0 {
		f.begun(id, data)
	}
}

// send is false when the Fetch is over.
func (f *fetching) send(ctx context.Context, b transport.Block, err error) bool {
	select {
	case f.results <- result{b, err}:
		return true
	case <-ctx.Done():
		f.keep(b.CID, b.Data)
		return false
	}
}

// one fetches one want; false means that the Fetch is over.
func (f *fetching) one(ctx context.Context, i int) bool {
	w := f.r.Wants[i]
	data, err := f.block(ctx, w, func(n int) { f.got(i, n) })
	switch {
	case err == nil:
		return f.send(ctx, transport.Block{CID: w.CID, Data: data}, nil)
	case errors.Is(err, transport.ErrNotFound): // not here now
		return true
	case ctx.Err() != nil:
		f.keep(w.CID, data)
		return false
	case isWantError(err), errors.Is(err, ErrStatus), errors.Is(err, context.DeadlineExceeded):
		if !isWantError(err) {
			err = &transport.WantError{CID: w.CID, Err: err}
		}
		return f.send(ctx, transport.Block{}, err)
	}
	f.send(ctx, transport.Block{}, err)
	return false
}

func isWantError(err error) bool {
	var we *transport.WantError
	return errors.As(err, &we)
}

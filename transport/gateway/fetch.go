package gateway

import (
	"context"
	"errors"
	"iter"
	"sync"

	"tamizdat/transport"
)

// Fetch implements transport.Blocks. A failure of the connection ends it; a
// block that is wrong, cut off or too slow is a *transport.WantError; one that
// the gateway does not have is not yielded.
func (c *Client) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		type result struct {
			block transport.Block
			err   error
		}
		jobs, results := make(chan []int), make(chan result)
		var wg sync.WaitGroup
		defer wg.Wait() // nobody calls r.Got after Fetch has ended
		defer cancel()
		send := func(b transport.Block, err error) bool {
			select {
			case results <- result{b, err}:
				return true
			case <-ctx.Done():
				return false
			}
		}
		runs := c.plan(r)
		for range min(c.opts.Parallel, len(runs)) {
			wg.Go(func() {
				for run := range jobs {
					if !c.run(ctx, r, run, send) {
						return
					}
				}
			})
		}
		go func() {
			defer close(jobs)
			for _, run := range runs {
				select {
				case jobs <- run:
				case <-ctx.Done():
					return
				}
			}
		}()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for {
			select {
			case res := <-results:
				if err := ctx.Err(); err != nil {
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

// run fetches one run of wants; false means that the Fetch is over.
func (c *Client) run(ctx context.Context, r transport.Request, run []int, send func(transport.Block, error) bool) bool {
	for _, i := range run {
		w := r.Wants[i]
		var got func(int)
		if r.Got != nil {
			got = func(n int) { r.Got(i, n) }
		}
		data, err := c.block(ctx, w, got)
		switch {
		case err == nil:
			if !send(transport.Block{CID: w.CID, Data: data}, nil) {
				return false
			}
		case errors.Is(err, transport.ErrNotFound): // not here now
		case ctx.Err() != nil:
			send(transport.Block{}, ctx.Err())
			return false
		case isWantError(err), errors.Is(err, ErrStatus), errors.Is(err, context.DeadlineExceeded):
			if !isWantError(err) {
				err = &transport.WantError{CID: w.CID, Err: err}
			}
			if !send(transport.Block{}, err) {
				return false
			}
		default:
			send(transport.Block{}, err)
			return false
		}
	}
	return true
}

func isWantError(err error) bool {
	var we *transport.WantError
	return errors.As(err, &we)
}

// plan groups the wants into requests, each want once.
func (c *Client) plan(r transport.Request) [][]int {
	runs := make([][]int, 0, len(r.Wants))
	seen := make(map[string]bool, len(r.Wants))
	for i, w := range r.Wants {
		if key := w.CID.KeyString(); w.CID.Defined() && !seen[key] {
			seen[key] = true
			runs = append(runs, []int{i})
		}
	}
	return runs
}

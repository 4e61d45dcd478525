package sync_test

import (
	"context"
	"iter"
	"slices"
	gosync "sync"
	"testing"
	"testing/synctest"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// counting remembers which requests wanted blocks of the log, and what came of them.
type counting struct {
	transport.Blocks
	mu       gosync.Mutex
	requests [][]transport.Want
	bytes    int64
}

func (c *counting) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	var log []transport.Want
	for _, w := range r.Wants {
		if w.Layer == bundle.LayerLog {
			log = append(log, w)
		}
	}
	return func(yield func(transport.Block, error) bool) {
		c.mu.Lock()
		if len(log) > 0 {
			c.requests = append(c.requests, log)
		}
		c.mu.Unlock()
		for b, err := range c.Blocks.Fetch(ctx, r) {
			if slices.ContainsFunc(log, func(w transport.Want) bool { return w.CID.Equals(b.CID) }) {
				c.mu.Lock()
				c.bytes += int64(len(b.Data))
				c.mu.Unlock()
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// TestTenThousandBehind: who was away for ten thousand editions takes the log's node,
// and then, in one request, its blocks from where he stood to the end: neither what was
// before that, nor any of the editions.
func TestTenThousandBehind(t *testing.T) {
	const away = 10_000
	for name, before := range map[string]int{"from the beginning": 0, "from the middle of the log": 5_000} {
		t.Run(name, func(t *testing.T) {
			c := published(t, 2)
			if before > 0 {
				c.Idle(before)
				c.Publish(transporttest.Brief(1))
			}
			joined, then := c.Newest(), c.Editions()
			c.Idle(away - 1)
			c.Publish(transporttest.Articles(7)...)
			newest := c.Newest()
			if newest.Head.Size-joined.Head.Size != away {
				t.Fatalf("%d editions behind", newest.Head.Size-joined.Head.Size)
			}
			synctest.Test(t, func(t *testing.T) {
				r := newReader(t, c, transporttest.NewMemory(t, then...).Path("p"))
				r.sync()
				r.holds(joined)
				m := transporttest.NewMemory(t, newest)
				counted := &counting{Blocks: m}
				path := m.OpenerPath("p")
				path.Blocks = counted
				path.Hints = transport.Hints{Batch: 64, Parallel: 1, Text: true} // else the whole edition is fetched in the end, to be handed on
				res := r.over(path).sync()
				if !res.New || res.Fork || r.view().Size() != newest.Head.Size || r.view().FirstTime() {
					t.Fatalf("%+v", res)
				}
				r.holds(newest)
				r.reads(false, newest)

				const block = 64 << 10
				missed := int64(newest.Head.Edition-joined.Head.Size) * int64(len(channel.Hash{}))
				if len(counted.requests) != 2 || len(counted.requests[0]) != 1 || !counted.requests[0][0].Node {
					t.Errorf("%d requests for the log: %v", len(counted.requests), counted.requests)
				}
				for _, w := range slices.Concat(counted.requests[1:]...) {
					if w.Node || w.Offset+block <= int64(joined.Head.Size)*int64(len(channel.Hash{})) {
						t.Errorf("a block at %d was asked for", w.Offset)
					}
				}
				if counted.bytes < missed || counted.bytes > missed+block+1024 {
					t.Errorf("%d bytes of the log for %d of hashes that were missed", counted.bytes, missed)
				}
				for id, n := range m.Fetched() {
					if n != 1 {
						t.Errorf("block %s came %d times", id, n)
					}
				}
				t.Logf("%d editions: %d requests, %d bytes", away, len(counted.requests), counted.bytes)
			})
		})
	}
}

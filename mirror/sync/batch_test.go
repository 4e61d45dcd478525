package sync_test

import (
	"context"
	"iter"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// puts watches what is stored, and what of blocks that don't hold links is read.
type puts struct {
	sync.Library
	bytes []int
	put   map[cid.Cid]time.Time
	read  int
}

func (p *puts) PutBlocks(ctx context.Context, ch channel.ID, edition uint64, blocks []bundle.Checked) error {
	n := 0
	for _, b := range blocks {
		n += len(b.Data())
		p.put[b.CID()] = time.Now()
	}
	p.bytes = append(p.bytes, n)
	return p.Library.PutBlocks(ctx, ch, edition, blocks)
}

func (p *puts) Block(ctx context.Context, c cid.Cid) ([]byte, error) {
	b, err := p.Library.Block(ctx, c)
	if len(b) > 32<<10 {
		p.read += len(b)
	}
	return b, err
}

// Pictures are stored some megabytes at a time over a fast path, each half second
// over a slow one, and are not read again; texts are stored as they come.
func TestBatches(t *testing.T) {
	c := transporttest.NewChannel(t, "album")
	a := transporttest.Brief(0)
	for i := range 6 {
		a.Images = append(a.Images, bundle.Image{Type: "image/webp", Alt: "water", Width: 4, Height: 3, Data: transporttest.Noise(uint64(i), 2_000_000)})
	}
	c.Publish(a)
	for name, delay := range map[string]time.Duration{"fast": 0, "slow": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := transporttest.NewMemory(t, c.Editions()...)
				m.Delay = delay
				arrived := map[cid.Cid]time.Time{}
				p := m.OpenerPath("p")
				p.Hints.Batch = 256
				p.Blocks = noted{p.Blocks, &gosync.Mutex{}, arrived}
				r := newReader(t, c, p)
				w := &puts{Library: r.lib, put: map[cid.Cid]time.Time{}}
				r.e.Library = w
				res := r.sync()
				if res.ImagesMissing || res.Bytes < 12_000_000 {
					t.Fatalf("%+v", res)
				}
				for i, n := range w.bytes {
					if n > 8<<20+bundle.MaxBlock {
						t.Errorf("call %d stores %d bytes", i, n)
					}
				}
				if delay == 0 && len(w.bytes) > 16 {
					t.Errorf("%d calls for 12 MB", len(w.bytes))
				}
				for id, at := range w.put {
					if d := at.Sub(arrived[id]); !arrived[id].IsZero() && d > 500*time.Millisecond {
						t.Errorf("a block was stored %v after it came", d)
					}
				}
				if delay > 0 && (res.ToText == 0 || res.ToText > res.ToImages/10) {
					t.Errorf("texts after %v, images after %v", res.ToText, res.ToImages)
				}
				if w.read > 8*bundle.MaxBlock { // texts, and a front page
					t.Errorf("%d bytes were read again", w.read)
				}
				r.reads(true, c.Newest())
			})
		})
	}
}

// noted notes when blocks come.
type noted struct {
	transport.Blocks
	mu *gosync.Mutex
	at map[cid.Cid]time.Time
}

func (n noted) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		for b, err := range n.Blocks.Fetch(ctx, r) {
			if err == nil {
				n.mu.Lock()
				n.at[b.CID] = time.Now()
				n.mu.Unlock()
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

package static

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// StoreReader reads a mirror as its publisher can: out of the store, with his
// credentials, also where readers are led nowhere or another copy is shown to them. Like
// all that comes from a transport, what it returns is unchecked. Its methods may be
// called at once.
type StoreReader struct{ store Store }

var (
	_ transport.Heads  = (*StoreReader)(nil)
	_ transport.Blocks = (*StoreReader)(nil)
	_ io.Closer        = (*StoreReader)(nil)
)

// NewStoreReader reads the mirror in that store.
func NewStoreReader(s Store) *StoreReader { return &StoreReader{s} }

// Close ends what the store has open.
func (r *StoreReader) Close() error { return closeStore(r.store) }

// Head implements transport.Heads. A store never waits.
func (r *StoreReader) Head(ctx context.Context, ch channel.ID, _ uint64) ([]byte, error) {
	intro, err := readOpening(ctx, r.store, ch)
	if err != nil {
		return nil, err
	}
	return intro.Head, nil
}

// RootNote implements transport.Heads.
func (r *StoreReader) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	intro, err := readOpening(ctx, r.store, ch)
	if err != nil {
		return nil, err
	}
	if version == 0 || version > uint64(len(intro.RootNotes)) {
		return nil, transport.ErrNotFound
	}
	return intro.RootNotes[version-1], nil
}

// Grant implements transport.Heads.
func (r *StoreReader) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	intro, err := readOpening(ctx, r.store, ch)
	if err != nil {
		return nil, err
	}
	vol := &bundle.Volume{Channel: ch, Root: intro.Root, Get: func(c cid.Cid) ([]byte, error) { return r.block(ctx, c) }}
	b, ok, err := vol.File(bundle.LayerGrants, name)
	if err == nil && !ok {
		err = transport.ErrNotFound
	}
	return b, err
}

// block reads a block. The error wraps transport.ErrNotFound if it is not there.
func (r *StoreReader) block(ctx context.Context, c cid.Cid) ([]byte, error) {
	return r.store.Get(ctx, blockDir+c.String(), bundle.MaxBlock)
}

// Fetch implements transport.Blocks.
func (r *StoreReader) Fetch(ctx context.Context, req transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		for at := 0; at < len(req.Wants); at += parallel {
			some := req.Wants[at:min(len(req.Wants), at+parallel)]
			blocks, errs := make([][]byte, len(some)), make([]error, len(some))
			var wg sync.WaitGroup
			for i, w := range some {
				wg.Go(func() { blocks[i], errs[i] = r.block(ctx, w.CID) })
			}
			wg.Wait()
			for i, w := range some {
				switch {
				case ctx.Err() != nil:
					yield(transport.Block{}, ctx.Err())
					return
				case errs[i] != nil:
					if !yield(transport.Block{}, &transport.WantError{CID: w.CID, Err: fmt.Errorf("mirror: %w", errs[i])}) {
						return
					}
					continue
				}
				if req.Got != nil {
					req.Got(at+i, len(blocks[i]))
				}
				if !yield(transport.Block{CID: w.CID, Data: blocks[i]}, nil) {
					return
				}
			}
		}
	}
}

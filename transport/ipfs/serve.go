package ipfs

import (
	"context"
	"errors"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"tamizdat/transport"
)

// Store is what a node serves over bitswap: a relay's editions. Both methods
// may be called at once, must be quick (they run on the server's few workers)
// and return an error wrapping transport.ErrNotFound for a block they lack.
type Store interface {
	// Get returns the block's bytes, which the caller does not change.
	Get(ctx context.Context, c cid.Cid) ([]byte, error)
	// Size returns the block's length in bytes without reading it.
	Size(ctx context.Context, c cid.Cid) (int, error)
}

// readOnly lends a Store to boxo's bitswap server, which only reads.
type readOnly struct{ s Store }

var errReadOnly = errors.New("the served store is read-only")

func (r readOnly) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b, err := r.s.Get(ctx, c)
	if err != nil {
		return nil, notFound(c, err)
	}
	return blocks.NewBlockWithCid(b, c)
}

func (r readOnly) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	n, err := r.s.Size(ctx, c)
	return n, notFound(c, err)
}

func (r readOnly) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := r.s.Size(ctx, c)
	if errors.Is(err, transport.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (readOnly) Put(context.Context, blocks.Block) error       { return errReadOnly }
func (readOnly) PutMany(context.Context, []blocks.Block) error { return errReadOnly }
func (readOnly) DeleteBlock(context.Context, cid.Cid) error    { return errReadOnly }

func (readOnly) AllKeysChan(context.Context) (<-chan cid.Cid, error) { return nil, errReadOnly }

func notFound(c cid.Cid, err error) error {
	if errors.Is(err, transport.ErrNotFound) {
		return ipld.ErrNotFound{Cid: c}
	}
	return err
}

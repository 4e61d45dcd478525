package ipfs

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"iter"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// Path returns the path to one channel over this node: heads from the IPNS
// record of key, blocks over bitswap. peers are multiaddrs ending in /p2p/<id>;
// none means the node's own. label distinguishes a reader's IPFS paths and is
// shown to people. key may be nil for a path of blocks only.
func (n *Node) Path(label string, key ed25519.PublicKey, peers []string) (transport.Path, error) {
	infos := n.peers
	if len(peers) > 0 {
		var err error
		if infos, err = parsePeers(peers); err != nil {
			return transport.Path{}, err
		}
	}
	b := &pathBlocks{node: n, peers: infos}
	p := transport.Path{
		Name: "ipfs " + label,
		Kind: transport.KindIPFS,
		Hints: transport.Hints{
			Batch: window, Parallel: 4, MaxBlock: bundle.MaxBlock,
			Setup: 3, Overhead: 1.03, // a handshake, identify, and the question
		},
		Blocks: b,
	}
	if n.dht != nil {
		p.Hints.Patience = 2 * time.Second
	}
	if key == nil {
		return p, nil
	}
	name, err := nameOf(key)
	if err != nil {
		return transport.Path{}, err
	}
	p.Heads = &heads{
		resolve: func(ctx context.Context) (*signed, error) { return n.resolve(ctx, infos, name) },
		block:   b.one,
	}
	return p, nil
}

// pathBlocks is transport.Blocks over bitswap from given peers and, with a DHT,
// from the providers of the edition's root.
type pathBlocks struct {
	node  *Node
	peers []peer.AddrInfo
}

var _ transport.Blocks = (*pathBlocks)(nil)

func (b *pathBlocks) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		index := make(map[cid.Cid]int, len(r.Wants))
		wants := make([]cid.Cid, 0, len(r.Wants))
		for i, w := range r.Wants {
			index[w.CID] = i
			wants = append(wants, w.CID)
		}
		more := true
		err := b.fetch(ctx, r.Edition.Root, wants, func(blk blocks.Block) bool {
			data := blk.RawData()
			if len(data) > bundle.MaxBlock {
				more = yield(transport.Block{}, &transport.WantError{
					CID: blk.Cid(),
					Err: fmt.Errorf("block of %d bytes: more than %d", len(data), bundle.MaxBlock),
				})
				return more
			}
			if r.Got != nil {
				r.Got(index[blk.Cid()], len(data))
			}
			more = yield(transport.Block{CID: blk.Cid(), Data: data}, nil)
			return more
		})
		if err != nil && more {
			yield(transport.Block{}, tidy(err))
		}
	}
}

func (b *pathBlocks) fetch(ctx context.Context, root cid.Cid, wants []cid.Cid, yield func(blocks.Block) bool) error {
	n := b.node
	return n.bitswap.fetch(ctx, b.peers, n.connect,
		func(ctx context.Context) <-chan peer.AddrInfo { return n.providers(ctx, root) }, wants, yield)
}

// one fetches one block of the edition of that root. (Bitswap can't say how much
// is too much; what came is refused behind.)
func (b *pathBlocks) one(ctx context.Context, root, c cid.Cid, limit int) (data []byte, err error) {
	err = b.fetch(ctx, root, []cid.Cid{c}, func(blk blocks.Block) bool {
		data = blk.RawData()
		return false
	})
	switch {
	case err != nil:
		return nil, err
	case data == nil:
		return nil, transport.ErrNotFound
	case len(data) > limit:
		return nil, fmt.Errorf("block of %d bytes: more than %d", len(data), limit)
	}
	return data, nil
}

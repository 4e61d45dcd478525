package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
	wire "tamizdat/transport/relay"
)

const (
	// maxRecovered bounds an edition in memory, as it is while it is packed: what relays
	// take by default.
	maxRecovered = 256_000_000
	// fetchWants is how many blocks are asked for at once.
	fetchWants = 64
)

// errWriteOnly: such targets hold no whole editions.
var errWriteOnly = errors.New("whole editions can't be read back from it")

// sourceOf is a target as its readers see it.
type sourceOf struct {
	heads  transport.Heads
	blocks transport.Blocks
	close  func() error
}

// readBack opens a target for reading.
func (p *Publisher) readBack(ctx context.Context, network transport.Network, t TargetConfig) (*sourceOf, error) {
	switch {
	case t.Folder != "":
		f, err := file.Open(p.below(t.Folder))
		if err != nil {
			return nil, err
		}
		return &sourceOf{f, f, func() error { return nil }}, nil
	case t.Relay != "":
		line, err := wire.ParseTarget(t.Relay)
		if err != nil {
			return nil, err
		}
		// As a reader of a batch that nobody has: whichever were revoked is not known.
		c, err := wire.New(wire.Config{Network: network, Relay: line.Relay(channel.Seed(random()))})
		if err != nil {
			return nil, err
		}
		for _, path := range c.Paths() {
			if path.Heads == nil || path.Blocks == nil {
				continue
			}
			if _, err = path.Heads.Head(ctx, p.Channel(), 0); err == nil {
				return &sourceOf{path.Heads, path.Blocks, c.Close}, nil
			}
		}
		return nil, errors.Join(err, c.Close())
	case t.isMirror():
		return p.readMirror(ctx, network, t)
	}
	return nil, errWriteOnly
}

// fetchEdition fetches all blocks of an edition, each checked by its hash. They come in
// the order of its CAR.
func fetchEdition(ctx context.Context, from transport.Blocks, ch channel.ID, n uint64, root cid.Cid) (*bundle.Volume, []bundle.Block, error) {
	held, size := map[cid.Cid][]byte{}, 0
	vol := &bundle.Volume{Channel: ch, Edition: n, Root: root, Get: func(c cid.Cid) ([]byte, error) {
		if b, ok := held[c]; ok {
			return b, nil
		}
		return nil, bundle.ErrMissing
	}}
	for {
		var blocks []bundle.Block
		err := vol.Walk(func(w bundle.Want, b []byte) error {
			blocks = append(blocks, bundle.Block{CID: w.CID, Data: b})
			return nil
		})
		var m *bundle.MissingError
		if !errors.As(err, &m) {
			return vol, blocks, err
		}
		before := len(held)
		for wants := range slices.Chunk(m.Wants, fetchWants) {
			for b, err := range from.Fetch(ctx, transport.Request{Edition: transport.Edition{Channel: ch, Number: n, Root: root}, Wants: wants}) {
				if errors.As(err, new(*transport.WantError)) {
					continue
				}
				if err == nil {
					err = bundle.CheckBlock(b.CID, b.Data)
				}
				if err != nil {
					return nil, nil, err
				}
				if size += len(b.Data); size > maxRecovered {
					return nil, nil, fmt.Errorf("edition %d is larger than %d bytes", n, maxRecovered)
				}
				held[b.CID] = slices.Clone(b.Data)
			}
		}
		if len(held) == before {
			return nil, nil, fmt.Errorf("edition %d is not there whole: %w", n, transport.ErrNotFound)
		}
	}
}

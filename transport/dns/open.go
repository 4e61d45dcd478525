package dns

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// maxFront bounds how many pieces of front an opening fetches.
const maxFront = 16

// Open implements transport.Opener in three round trips: head, root note and
// the grant's top; the top of front and the grant's leaves; the leaves of
// front. A channel that rotated its keys takes one more for each newer root
// note. If front doesn't come, what came before stands and the error is last.
func (c *Client) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		c.enter()
		defer c.leave()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()

		grant := make(chan []byte, 1)
		go func() {
			var data []byte
			if ask.Grant != "" {
				var err error
				if data, err = c.grant(ctx, ask.Grant, readBefore(ask)); err != nil && ctx.Err() == nil {
					c.log.Debug("dns: no grant", "err", err)
				}
			}
			grant <- data
		}()
		defer func() { cancel(); <-grant }()

		h, raw, err := c.verifiedHead(ctx, ask)
		if roots := c.state(ask.Channel).get(); err == nil && h != nil && ask.Have > 0 && h.Size <= ask.Have && roots.Version() <= ask.Root {
			if h.Size == ask.Have && !ask.Signed.IsZero() && h.Time.After(ask.Signed) {
				yield(transport.Piece{Kind: transport.PieceHead, Data: raw}, nil) // its front page is there
				return
			}
			err = transport.ErrNoNewer
		}
		if err != nil {
			yield(transport.Piece{}, err)
			return
		}
		front := make(chan frontResult, 1)
		go func() {
			var r frontResult
			if h != nil {
				r.blocks, r.err = c.front(ctx, h)
			}
			front <- r
		}()
		defer func() { cancel(); <-front }()

		if roots := c.state(ask.Channel).get(); roots != nil {
			for _, note := range roots.Notes()[min(ask.Root, roots.Version()):] {
				if !yield(transport.Piece{Kind: transport.PieceRootNote, Data: note}, nil) {
					return
				}
			}
		}
		if !yield(transport.Piece{Kind: transport.PieceHead, Data: raw}, nil) {
			return
		}
		data := <-grant
		grant <- nil // for the deferred receive
		if data != nil && !yield(transport.Piece{Kind: transport.PieceGrant, Data: data}, nil) {
			return
		}
		r := <-front
		front <- frontResult{}
		for _, b := range r.blocks {
			if !yield(transport.Piece{Kind: transport.PieceBlock, CID: b.CID, Data: b.Data}, nil) {
				return
			}
		}
		if r.err != nil {
			yield(transport.Piece{}, r.err)
		}
	}
}

// readBefore reports whether somebody asks who has read before: past what resolvers keep
// then, the grant as well as the head, since the one of the epoch before opens nothing.
// Who lacks the grant only says that he has nothing.
func readBefore(ask transport.Ask) bool { return ask.Have > 0 || !ask.Signed.IsZero() }

type frontResult struct {
	blocks []transport.Block
	err    error
}

// verifiedHead fetches the head and as many root notes as it takes to check it;
// the result is nil if they can't be had.
func (c *Client) verifiedHead(ctx context.Context, ask transport.Ask) (*channel.Head, []byte, error) {
	h, raw, err := c.head(ctx, ask.Channel, ask.Have, readBefore(ask))
	st := c.state(ask.Channel)
	for range maxNewerRoots {
		roots := st.get()
		if err != nil || h != nil || roots == nil {
			break
		}
		if _, noteErr := c.rootNote(ctx, ask.Channel, roots.Version()+1); noteErr != nil {
			break // the engine sees what is missing
		}
		if roots = st.get(); roots == nil {
			break
		}
		if checked, checkErr := roots.Head(raw); checkErr == nil {
			h = checked
		} else if !errors.Is(checkErr, channel.ErrNewerRoots) {
			break
		}
	}
	return h, raw, err
}

// front fetches an edition's directory and the blocks of front.age, which the
// head names.
func (c *Client) front(ctx context.Context, h *channel.Head) ([]transport.Block, error) {
	var blocks []transport.Block
	err := c.bothClasses(func(class record.Class) error {
		w := &walker{c: c, class: class, got: func(int) {}}
		l, err := w.list(ctx, nameIn(h.Front, class))
		if err != nil {
			return err
		}
		if l.count < 2 || l.count > maxFront {
			return fmt.Errorf("%w: front of %d pieces", record.ErrBad, l.count)
		}
		shape, err := layout(l.count - 1)
		if err != nil {
			return err
		}
		blocks = make([]transport.Block, l.count)
		err = each(ctx, len(blocks), func(ctx context.Context, i int) error {
			data, err := l.piece(ctx, i)
			if err != nil {
				return err
			}
			codec := uint64(cid.Raw)
			if i == 0 || shape.isNode(i-1) { // the directory, or links of front.age
				codec = cid.DagProtobuf
			}
			id, err := cid.V1Builder{Codec: codec, MhType: multihash.SHA2_256}.Sum(data)
			blocks[i] = transport.Block{CID: id, Data: data}
			return err
		})
		if err != nil {
			return err
		}
		if !blocks[0].CID.Equals(h.Root) {
			return fmt.Errorf("%w: front of another edition", record.ErrBad)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	return blocks, nil
}

func nameIn(n record.Names, c record.Class) record.Name {
	if c == record.Small {
		return n.Small
	}
	return n.Large
}

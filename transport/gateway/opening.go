package gateway

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// MaxOpening bounds an opening answer in bytes. A front page takes 16 KiB and
// seldom much more.
const MaxOpening = 8 << 20

// Opening reads an opening answer (FORMAT.md, section 4), as relays and static
// mirrors give it: root notes, head, grant, then blocks, each block's hash
// checked. An error is the last value.
func Opening(body io.Reader) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		fail := func(err error) { yield(transport.Piece{}, fmt.Errorf("opening: %w", err)) }
		r, err := car.NewReader(io.LimitReader(body, MaxOpening))
		if err != nil {
			fail(err)
			return
		}
		sort, err := newSorter(r.Roots())
		if err != nil {
			fail(err)
			return
		}
		for {
			b, err := r.Next()
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return
			}
			if err != nil {
				fail(err)
				return
			}
			p, err := sort.piece(b.CID, b.Data)
			if err != nil {
				fail(err)
				return
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// sorter tells what the blocks of an opening answer are: its header names root
// notes, head and edition in this order, and a grant is the one raw block of a
// grant's size right behind the head.
type sorter struct {
	notes     []cid.Cid
	head      cid.Cid
	afterHead bool
}

func newSorter(roots []cid.Cid) (*sorter, error) {
	if len(roots) < 2 {
		return nil, errors.New("it names no head")
	}
	n := len(roots) - 2
	return &sorter{notes: roots[:n], head: roots[n]}, nil
}

func (s *sorter) piece(c cid.Cid, data []byte) (transport.Piece, error) {
	tooLong := func(what string) (transport.Piece, error) {
		return transport.Piece{}, fmt.Errorf("%s of %d bytes", what, len(data))
	}
	behindHead := s.afterHead
	s.afterHead = false
	p := transport.Piece{Kind: transport.PieceBlock, CID: c, Data: data}
	switch {
	case c.Equals(s.head):
		if len(data) > channel.MaxHead {
			return tooLong("head")
		}
		s.afterHead = true
		p.Kind, p.CID = transport.PieceHead, cid.Undef
	case len(s.notes) > 0 && c.Equals(s.notes[0]):
		if len(data) > channel.MaxRootNote {
			return tooLong("root note")
		}
		s.notes = s.notes[1:]
		p.Kind, p.CID = transport.PieceRootNote, cid.Undef
	case behindHead && c.Prefix().Codec == cid.Raw && (len(data) == channel.GrantSmall || len(data) == channel.GrantLarge):
		p.Kind, p.CID = transport.PieceGrant, cid.Undef
	}
	return p, nil
}

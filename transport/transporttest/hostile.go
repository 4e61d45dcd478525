package transporttest

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// ErrFailing is what Failing fails with.
var ErrFailing = errors.New("the path is down")

// tamper is a path whose answers are changed on the way. A nil field changes
// nothing.
type tamper struct {
	// block replaces a block before it is yielded.
	block func(transport.Block) transport.Block
	// fetch replaces the whole iterator.
	fetch func(ctx context.Context, r transport.Request, in iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error]
	// small replaces a root note, head or grant.
	small func(ctx context.Context, kind transport.PieceKind, data []byte, err error) ([]byte, error)
	// open replaces the whole opening.
	open func(ctx context.Context, in iter.Seq2[transport.Piece, error]) iter.Seq2[transport.Piece, error]
}

// of decorates p; what p does not have, the result does not have either.
func (t tamper) of(p transport.Path) transport.Path {
	if p.Blocks != nil {
		p.Blocks = tamperedBlocks{p.Blocks, t}
	}
	switch h := p.Heads.(type) {
	case nil:
	case transport.Opener:
		p.Heads = tamperedOpener{tamperedHeads{p.Heads, t}, h}
	default:
		p.Heads = tamperedHeads{p.Heads, t}
	}
	return p
}

type tamperedBlocks struct {
	in transport.Blocks
	t  tamper
}

func (b tamperedBlocks) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	seq := b.in.Fetch(ctx, r)
	if b.t.fetch != nil {
		return b.t.fetch(ctx, r, seq)
	}
	if b.t.block == nil {
		return seq
	}
	return func(yield func(transport.Block, error) bool) {
		for blk, err := range seq {
			if err == nil {
				blk = b.t.block(blk)
			}
			if !yield(blk, err) {
				return
			}
		}
	}
}

type tamperedHeads struct {
	in transport.Heads
	t  tamper
}

func (h tamperedHeads) small(ctx context.Context, kind transport.PieceKind, data []byte, err error) ([]byte, error) {
	if h.t.small == nil {
		return data, err
	}
	return h.t.small(ctx, kind, data, err)
}

func (h tamperedHeads) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	b, err := h.in.Head(ctx, ch, have)
	return h.small(ctx, transport.PieceHead, b, err)
}

func (h tamperedHeads) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	b, err := h.in.RootNote(ctx, ch, version)
	return h.small(ctx, transport.PieceRootNote, b, err)
}

func (h tamperedHeads) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	b, err := h.in.Grant(ctx, ch, name)
	return h.small(ctx, transport.PieceGrant, b, err)
}

type tamperedOpener struct {
	tamperedHeads
	o transport.Opener
}

func (o tamperedOpener) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	seq := o.o.Open(ctx, ask)
	if o.t.open != nil {
		return o.t.open(ctx, seq)
	}
	return func(yield func(transport.Piece, error) bool) {
		for p, err := range seq {
			switch {
			case err != nil:
			case p.Kind == transport.PieceBlock:
				if o.t.block != nil {
					p.Data = o.t.block(transport.Block{CID: p.CID, Data: p.Data}).Data
				}
			default:
				p.Data, err = o.small(ctx, p.Kind, p.Data, nil)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// WrongBytes flips a bit in each block; heads are honest.
func WrongBytes(p transport.Path) transport.Path {
	return tamper{block: func(b transport.Block) transport.Block {
		b.Data = bytes.Clone(b.Data)
		b.Data[len(b.Data)/2] ^= 4
		return b
	}}.of(p)
}

// CutOff gives only the first half of each block; heads are honest.
func CutOff(p transport.Path) transport.Path {
	return tamper{block: func(b transport.Block) transport.Block {
		b.Data = b.Data[:len(b.Data)/2]
		return b
	}}.of(p)
}

// WrongHeads flips a bit in each root note, head and grant.
func WrongHeads(p transport.Path) transport.Path {
	return tamper{small: func(_ context.Context, _ transport.PieceKind, b []byte, err error) ([]byte, error) {
		if err == nil {
			b = bytes.Clone(b)
			b[len(b)/2] ^= 4
		}
		return b, err
	}}.of(p)
}

// WithHead replaces every head by the given one: of another channel, an older
// one, one of a fork. A path that has nothing newer still shows it.
func WithHead(p transport.Path, head []byte) transport.Path {
	t := tamper{small: func(_ context.Context, kind transport.PieceKind, b []byte, err error) ([]byte, error) {
		if kind == transport.PieceHead && (err == nil || errors.Is(err, transport.ErrNoNewer)) {
			return head, nil
		}
		return b, err
	}}
	return t.of(p)
}

// Endless never stops: after its first block it yields that block again and
// again, and its openings go on with their first piece. It ends when ctx does.
func Endless(p transport.Path) transport.Path {
	return tamper{
		fetch: func(ctx context.Context, _ transport.Request, in iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error] {
			return endless(ctx, in)
		},
		open: func(ctx context.Context, in iter.Seq2[transport.Piece, error]) iter.Seq2[transport.Piece, error] {
			return endless(ctx, in)
		},
	}.of(p)
}

func endless[T any](ctx context.Context, in iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range in {
			for ctx.Err() == nil {
				if !yield(v, err) {
					return
				}
			}
			return
		}
	}
}

// Silent never says anything: every call blocks until its ctx ends.
func Silent(p transport.Path) transport.Path { return StallAfter(p, 0) }

// StallAfter yields n blocks of each Fetch, then nothing until ctx ends. With
// n = 0 it does the same to heads.
func StallAfter(p transport.Path, n int) transport.Path {
	t := tamper{fetch: func(ctx context.Context, _ transport.Request, in iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error] {
		return stalled(ctx, in, n)
	}}
	if n == 0 {
		t.small = func(ctx context.Context, _ transport.PieceKind, _ []byte, _ error) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		t.open = func(ctx context.Context, in iter.Seq2[transport.Piece, error]) iter.Seq2[transport.Piece, error] {
			return stalled(ctx, in, 0)
		}
	}
	return t.of(p)
}

// StallOpening yields n pieces of each opening, then nothing until ctx ends.
func StallOpening(p transport.Path, n int) transport.Path {
	return tamper{open: func(ctx context.Context, in iter.Seq2[transport.Piece, error]) iter.Seq2[transport.Piece, error] {
		return stalled(ctx, in, n)
	}}.of(p)
}

func stalled[T any](ctx context.Context, in iter.Seq2[T, error], n int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		left := n
		if left > 0 {
			for v, err := range in {
				if !yield(v, err) || err != nil {
					return
				}
				if left--; left == 0 {
					break
				}
			}
		}
		<-ctx.Done()
		var zero T
		yield(zero, ctx.Err())
	}
}

// Failing fails every call at once with ErrFailing.
func Failing(p transport.Path) transport.Path {
	return tamper{
		fetch: func(context.Context, transport.Request, iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error] {
			return func(yield func(transport.Block, error) bool) { yield(transport.Block{}, ErrFailing) }
		},
		small: func(context.Context, transport.PieceKind, []byte, error) ([]byte, error) { return nil, ErrFailing },
		open: func(context.Context, iter.Seq2[transport.Piece, error]) iter.Seq2[transport.Piece, error] {
			return func(yield func(transport.Piece, error) bool) { yield(transport.Piece{}, ErrFailing) }
		},
	}.of(p)
}

// Duplicates yields each block twice, against the contract of Fetch.
func Duplicates(p transport.Path) transport.Path {
	return tamper{fetch: func(_ context.Context, _ transport.Request, in iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error] {
		return func(yield func(transport.Block, error) bool) {
			for b, err := range in {
				if !yield(b, err) || err == nil && !yield(b, nil) {
					return
				}
			}
		}
	}}.of(p)
}

// Unwanted yields sound blocks that nobody asked for before each one that
// somebody did.
func Unwanted(p transport.Path) transport.Path {
	return tamper{fetch: func(_ context.Context, _ transport.Request, in iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error] {
		return func(yield func(transport.Block, error) bool) {
			n := uint64(0)
			for b, err := range in {
				n++
				junk := Noise(1<<20+n, 500)
				if !yield(transport.Block{CID: bundle.RawCID(junk), Data: junk}, nil) || !yield(b, err) {
					return
				}
			}
		}
	}}.of(p)
}

// NoBlocks holds no block of what it names.
func NoBlocks(p transport.Path) transport.Path {
	return tamper{fetch: func(context.Context, transport.Request, iter.Seq2[transport.Block, error]) iter.Seq2[transport.Block, error] {
		return func(func(transport.Block, error) bool) {}
	}}.of(p)
}

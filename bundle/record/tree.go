package record

import (
	"encoding/binary"
	"iter"
)

// Item is one record of a tree. An index record is whole in Index. A leaf has a
// nil Index and is a [KindByte] followed by bytes Offset … Offset+Size of piece
// number Piece, so that a server need not store those bytes twice.
type Item struct {
	Name   Name
	Index  []byte
	Piece  int
	Offset int
	Size   int
}

// Builder makes the tree of a list of pieces, one piece after another, keeping
// only 16 bytes for each leaf. The zero value is not usable; see [NewBuilder].
type Builder struct {
	class  Class
	emit   func(Item)
	pieces []shape
	buf    [MaxRecord]byte
}

// shape is what the builder remembers of a piece.
type shape struct {
	size   int
	leaves []Name
}

// NewBuilder returns a builder that hands each record to emit (nil: to nobody,
// when only the name is wanted).
func NewBuilder(c Class, emit func(Item)) *Builder {
	if emit == nil {
		emit = func(Item) {}
	}
	return &Builder{class: c, emit: emit}
}

// Add appends a piece and emits its leaves. Pieces over MaxPiece make a tree
// that no reader takes; the caller bounds them. piece is not kept.
func (b *Builder) Add(piece []byte) {
	p, s := b.class.Payload(), shape{size: len(piece)}
	s.leaves = make([]Name, 0, b.class.Leaves(len(piece)))
	for off := 0; off == 0 || off < len(piece); off += p {
		part := piece[off:min(off+p, len(piece))]
		b.buf[0] = KindByte(b.class, Leaf)
		name := NameOf(b.buf[:1+copy(b.buf[1:], part)])
		s.leaves = append(s.leaves, name)
		b.emit(Item{Name: name, Piece: len(b.pieces), Offset: off, Size: len(part)})
	}
	b.pieces = append(b.pieces, s)
}

// Finish emits the index records and returns the name of the tree's top; the
// zero name if nothing was added.
func (b *Builder) Finish() Name {
	if len(b.pieces) == 0 {
		return Name{}
	}
	return b.list(b.pieces)
}

func (b *Builder) list(run []shape) Name {
	if len(run) == 1 {
		return b.piece(run[0].leaves, run[0].size)
	}
	if r, ok := b.short(run); ok {
		return b.index(&r)
	}
	r := Record{Class: b.class, Kind: List, Count: len(run)}
	span := b.class.listSpan(len(run))
	for i := 0; i < len(run); i += span {
		r.Names = append(r.Names, b.list(run[i:min(i+span, len(run))]))
	}
	return b.index(&r)
}

// short makes the short list of the run if it fits.
func (b *Builder) short(run []shape) (r Record, ok bool) {
	size := 1 + len(binary.AppendUvarint(nil, uint64(len(run))))
	for _, s := range run {
		size += len(binary.AppendUvarint(nil, uint64(s.size))) + len(Name{})*len(s.leaves)
		if size > b.class.Max() {
			return r, false
		}
	}
	r = Record{Class: b.class, Kind: ShortList, Count: len(run)}
	for _, s := range run {
		r.Sizes = append(r.Sizes, s.size)
		r.Names = append(r.Names, s.leaves...)
	}
	return r, true
}

func (b *Builder) piece(leaves []Name, size int) Name {
	if len(leaves) == 1 {
		return leaves[0]
	}
	r := Record{Class: b.class, Kind: Piece, Size: size}
	span := b.class.pieceSpan(size)
	for off := 0; off < size; off += span {
		n := min(span, size-off)
		k := off / b.class.Payload()
		r.Names = append(r.Names, b.piece(leaves[k:k+b.class.Leaves(n)], n))
	}
	return b.index(&r)
}

func (b *Builder) index(r *Record) Name {
	rec := r.Append(nil)
	name := NameOf(rec)
	b.emit(Item{Name: name, Index: rec})
	return name
}

// Tree is the tree of pieces that are held in memory.
type Tree struct {
	// Name is the name of the top record.
	Name   Name
	class  Class
	items  []Item
	pieces [][]byte
}

// NewTree builds the tree of the pieces, which must not change while it is used.
func NewTree(c Class, pieces ...[]byte) *Tree {
	t := &Tree{class: c, pieces: pieces}
	b := NewBuilder(c, func(it Item) { t.items = append(t.items, it) })
	for _, p := range pieces {
		b.Add(p)
	}
	t.Name = b.Finish()
	return t
}

// All yields every record of the tree with its bytes, leaves first and the top
// last; equal records may come more than once.
func (t *Tree) All() iter.Seq2[Item, []byte] {
	return func(yield func(Item, []byte) bool) {
		for _, it := range t.items {
			if !yield(it, t.bytes(it)) {
				return
			}
		}
	}
}

// Top returns the top record; nil if there are no pieces.
func (t *Tree) Top() []byte {
	if len(t.items) == 0 {
		return nil
	}
	return t.bytes(t.items[len(t.items)-1])
}

func (t *Tree) bytes(it Item) []byte {
	if it.Index != nil {
		return it.Index
	}
	b := make([]byte, 0, 1+it.Size)
	b = append(b, KindByte(t.class, Leaf))
	return append(b, t.pieces[it.Piece][it.Offset:it.Offset+it.Size]...)
}

// NamesOf returns the names of the tree of these pieces in both classes.
func NamesOf(pieces ...[]byte) Names {
	name := func(c Class) Name {
		b := NewBuilder(c, nil)
		for _, p := range pieces {
			b.Add(p)
		}
		return b.Finish()
	}
	return Names{Large: name(Large), Small: name(Small)}
}

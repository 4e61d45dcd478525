package record

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Kind says what a record is.
type Kind uint8

// The kinds of record; the package comment has the format of each.
const (
	Leaf Kind = iota
	Piece
	List
	ShortList
	Part
)

// smallBit is added to the kind byte of Small records.
const smallBit = 16

// KindByte returns the first byte of records of that class and kind. A server
// that has a leaf's payload at hand needs to put only this in front of it.
func KindByte(c Class, k Kind) byte {
	if c == Small {
		return byte(k) + smallBit
	}
	return byte(k)
}

// ClassOf returns the class of a record by its first byte, which is all a
// server needs to know how to carry it. An empty record counts as Large.
func ClassOf(rec []byte) Class {
	if len(rec) > 0 && rec[0]&smallBit != 0 {
		return Small
	}
	return Large
}

// Record is a parsed record. Which fields are set depends on its kind.
type Record struct {
	Class Class
	Kind  Kind
	// Payload is what a Leaf or a Part carries. It aliases the parsed bytes.
	Payload []byte
	// Size is how many bytes lie under a Piece.
	Size int
	// Count is how many pieces lie under a List or ShortList.
	Count int
	// Sizes are the sizes in bytes of a ShortList's pieces.
	Sizes []int
	// Names are the names of the children of a Piece or List, or all the leaves
	// of a ShortList.
	Names []Name
	// Place and Check belong to a Part.
	Place byte
	Check [4]byte
}

// Parse reads a record of either class. It accepts exactly what Append makes:
// whatever parses encodes to the same bytes. Errors wrap ErrBad.
func Parse(rec []byte) (Record, error) {
	r := Record{Class: ClassOf(rec)}
	if len(rec) == 0 || len(rec) > r.Class.Max() {
		return r, fmt.Errorf("%w: %d bytes", ErrBad, len(rec))
	}
	r.Kind = Kind(rec[0] &^ smallBit)
	body := rec[1:]
	switch r.Kind {
	case Leaf:
		r.Payload = body
		return r, nil
	case Part:
		return r, r.parsePart(body)
	case Piece:
		size, rest, err := number(body, r.Class.Payload()+1, MaxPiece)
		if err != nil {
			return r, err
		}
		r.Size = size
		span := r.Class.pieceSpan(size)
		return r, r.names(rest, (size+span-1)/span)
	case List:
		count, rest, err := number(body, 2, MaxPieces)
		if err != nil {
			return r, err
		}
		r.Count = count
		span := r.Class.listSpan(count)
		return r, r.names(rest, (count+span-1)/span)
	case ShortList:
		// Each piece takes at least a size and a name, which bounds the count.
		count, rest, err := number(body, 2, r.Class.Max()/17)
		if err != nil {
			return r, err
		}
		r.Count = count
		r.Sizes = make([]int, count)
		leaves := 0
		for i := range r.Sizes {
			if r.Sizes[i], rest, err = number(rest, 0, MaxPiece); err != nil {
				return r, err
			}
			leaves += r.Class.Leaves(r.Sizes[i])
		}
		return r, r.names(rest, leaves)
	}
	return r, fmt.Errorf("%w: unknown kind", ErrBad)
}

// number reads a minimal varint within limits.
func number(b []byte, low, high int) (int, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || (n > 1 && b[n-1] == 0) {
		return 0, nil, fmt.Errorf("%w: number", ErrBad)
	}
	if v < uint64(low) || v > uint64(high) {
		return 0, nil, fmt.Errorf("%w: number out of range", ErrBad)
	}
	return int(v), b[n:], nil
}

// names reads exactly n names, which must be all of b.
func (r *Record) names(b []byte, n int) error {
	if len(b) != n*len(Name{}) {
		return fmt.Errorf("%w: %d bytes of names instead of %d", ErrBad, len(b), n*len(Name{}))
	}
	r.Names = make([]Name, n)
	for i := range r.Names {
		copy(r.Names[i][:], b[i*len(Name{}):])
	}
	return nil
}

// Append appends the record's bytes to b.
func (r *Record) Append(b []byte) []byte {
	b = append(b, KindByte(r.Class, r.Kind))
	switch r.Kind {
	case Leaf:
		return append(b, r.Payload...)
	case Part:
		b = append(b, r.Place)
		b = append(b, r.Check[:]...)
		return append(b, r.Payload...)
	case Piece:
		b = binary.AppendUvarint(b, uint64(r.Size))
	case List:
		b = binary.AppendUvarint(b, uint64(r.Count))
	case ShortList:
		b = binary.AppendUvarint(b, uint64(r.Count))
		for _, s := range r.Sizes {
			b = binary.AppendUvarint(b, uint64(s))
		}
	}
	for _, n := range r.Names {
		b = append(b, n[:]...)
	}
	return b
}

// Stretch returns which bytes of the piece lie under child i of a Piece record.
func (r *Record) Stretch(i int) (offset, size int) {
	span := r.Class.pieceSpan(r.Size)
	return i * span, min(span, r.Size-i*span)
}

// Step says where piece i of a List lies: under child, as piece rest of the run
// of count pieces there.
func (r *Record) Step(i int) (child Name, rest, count int) {
	span := r.Class.listSpan(r.Count)
	k := i / span
	return r.Names[k], i - k*span, min(span, r.Count-k*span)
}

// LeavesOf returns the names of the leaves of piece i of a ShortList.
func (r *Record) LeavesOf(i int) []Name {
	skip := 0
	for _, s := range r.Sizes[:i] {
		skip += r.Class.Leaves(s)
	}
	n := r.Class.Leaves(r.Sizes[i])
	return slices.Clip(r.Names[skip : skip+n])
}

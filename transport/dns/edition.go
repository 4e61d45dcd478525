package dns

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// Piece is a block, grant or root note, and where its bytes start in the file
// that a server keeps them in (its CAR; see car.Block). Pos is used by Index
// only.
type Piece struct {
	Data []byte
	Pos  int64
}

// cost is what a piece takes of a limit.
func (p Piece) cost() int64 { return int64(len(p.Data)) + entryCost }

// Edition is what one edition puts into DNS.
type Edition struct {
	Channel channel.ID
	// Head is in compact form, at most 1,040 bytes; nil for an edition that is
	// not the newest.
	Head []byte
	// RootNotes are the signed root notes by version.
	RootNotes map[uint64]Piece
	// Grants are the grant files by name.
	Grants map[string]Piece
	// IPNS is the channel's IPNS name, for DNSLink; empty for none.
	IPNS string
	// Front is the directory block, then the blocks of front.age. Text, Dict and Log
	// are the blocks of those files. Blocks of a file come depth first, each
	// UnixFS node before what it links to.
	Front, Text, Dict, Log []Piece
}

// Entry is one owner name of a zone.
type Entry struct {
	// Label is relative to the zone.
	Label string
	// Data is the record, or the head, in binary; or the text of a DNSLink.
	Data []byte
	// Named marks what stands under a label that is no hash: short TTL, and a
	// wildcard below.
	Named bool
}

// placed is one record on its way into a store.
type placed struct {
	label string // set for what is named
	name  record.Name
	// index is set for index records and everything named; otherwise the record
	// is the leaf kind byte of class and size bytes at pos.
	index []byte
	class record.Class
	pos   int64
	size  int
	// bytes is the whole record in every case.
	bytes []byte
}

// Names returns the names of the edition's trees, by layer.
func (e *Edition) Names() map[string]record.Names {
	out := map[string]record.Names{}
	for layer, pieces := range e.layers() {
		if len(pieces) > 0 {
			out[layer] = record.NamesOf(datas(pieces)...)
		}
	}
	return out
}

// Size is what the edition takes of a limit like ReadEdition's: root notes and grants
// count as layers do, and what stands at several places there counts at each.
func (e *Edition) Size() int64 {
	n := int64(0)
	for _, pieces := range e.layers() {
		for _, p := range pieces {
			n += p.cost()
		}
	}
	for _, p := range e.RootNotes {
		n += p.cost()
	}
	for _, p := range e.Grants {
		n += p.cost()
	}
	return n
}

func (e *Edition) layers() iter.Seq2[string, []Piece] {
	return func(yield func(string, []Piece) bool) {
		_ = yield("log", e.Log) && yield("text", e.Text) && yield("dict", e.Dict) && yield("front", e.Front)
	}
}

func datas(pieces []Piece) [][]byte {
	out := make([][]byte, len(pieces))
	for i, p := range pieces {
		out[i] = p.Data
	}
	return out
}

// records yields every record of the edition, in both classes; the head last.
// An error is the last thing yielded.
func (e *Edition) records() iter.Seq2[placed, error] {
	return func(yield func(placed, error) bool) {
		for _, pieces := range e.layers() {
			for _, c := range record.Classes {
				if len(pieces) > 0 && !treeRecords(c, "", pieces, yield) {
					return
				}
			}
		}
		single := func(label string, p Piece) bool {
			return treeRecords(record.Large, label, []Piece{p}, yield) &&
				treeRecords(record.Small, smallLabel(label), []Piece{p}, yield)
		}
		for _, version := range slices.Sorted(maps.Keys(e.RootNotes)) {
			if !single(e.Channel.RootLabel(version), e.RootNotes[version]) {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(e.Grants)) {
			// A grant's name is 26 base32 characters like a record's.
			if _, err := record.ParseLabel(name); err != nil || lowerASCII(name) != name {
				yield(placed{}, fmt.Errorf("grant name: %w", record.ErrBad))
				return
			}
			if !single(name, e.Grants[name]) {
				return
			}
		}
		if e.IPNS != "" {
			text := []byte("dnslink=/ipns/" + e.IPNS)
			if !yield(placed{label: linkLabel(e.Channel.Label()), index: text, bytes: text}, nil) {
				return
			}
		}
		if e.Head == nil {
			return
		}
		parts, err := record.Parts(e.Head)
		if err != nil {
			yield(placed{}, fmt.Errorf("head: %w", err))
			return
		}
		label := e.Channel.Label()
		for i, p := range parts {
			if !yield(placed{label: partLabel(label, i), index: p, bytes: p}, nil) {
				return
			}
		}
		yield(placed{label: label, index: e.Head, bytes: e.Head}, nil)
	}
}

// treeRecords yields the records of one tree; with a label, the top stands under
// that instead of its hash.
func treeRecords(c record.Class, label string, pieces []Piece, yield func(placed, error) bool) bool {
	for _, p := range pieces {
		if len(p.Data) > record.MaxPiece {
			yield(placed{}, fmt.Errorf("%w: piece of %d bytes", record.ErrBad, len(p.Data)))
			return false
		}
	}
	t := record.NewTree(c, datas(pieces)...)
	for it, rec := range t.All() {
		p := placed{name: it.Name, index: it.Index, class: c, bytes: rec}
		if it.Index == nil {
			p.pos, p.size = pieces[it.Piece].Pos+int64(it.Offset), it.Size
		}
		if label != "" && it.Name == t.Name {
			p.label, p.index = label, rec
		}
		if !yield(p, nil) {
			return false
		}
	}
	return true
}

// Index says where each record of one edition lies in a file that holds the
// edition's pieces already, so that leaves need no space of their own: a leaf is
// one kind byte and a stretch of that file. It takes about 40 bytes a kilobyte
// of text in both classes together. An Index is immutable.
type Index struct {
	leaves  []leafAt // sorted by name
	indexes map[record.Name][]byte
	named   map[string][]byte
	chosen  map[string]bool // of named, what is a grant
}

type leafAt struct {
	name record.Name
	pos  int64
	size uint16
	kind byte
}

// NewIndex makes the index of an edition. It keeps nothing of e but the head
// and what it made.
func NewIndex(e *Edition) (*Index, error) {
	x := &Index{indexes: map[record.Name][]byte{}, named: map[string][]byte{}, chosen: map[string]bool{}}
	for p, err := range e.records() {
		switch {
		case err != nil:
			return nil, err
		case p.label != "":
			x.named[p.label] = slices.Clone(p.index)
		case p.index != nil:
			x.indexes[p.name] = p.index
		default:
			x.leaves = append(x.leaves, leafAt{p.name, p.pos, uint16(p.size), record.KindByte(p.class, record.Leaf)})
		}
	}
	for name := range e.Grants {
		x.chosen[name], x.chosen[smallLabel(name)] = true, true
	}
	slices.SortFunc(x.leaves, compareLeaf)
	x.leaves = slices.CompactFunc(x.leaves, func(a, b leafAt) bool { return a.name == b.name })
	x.leaves = slices.Clip(x.leaves)
	return x, nil
}

func compareLeaf(a, b leafAt) int { return slices.Compare(a.name[:], b.name[:]) }

// Len is how many records the index knows.
func (x *Index) Len() int { return len(x.leaves) + len(x.indexes) + len(x.named) }

// Record returns the record of that name, reading leaves from file; an error
// wrapping transport.ErrNotFound if it is not this edition's. It may be called
// at once.
func (x *Index) Record(file io.ReaderAt, name record.Name) ([]byte, error) {
	if rec, ok := x.indexes[name]; ok {
		return rec, nil
	}
	i, ok := slices.BinarySearchFunc(x.leaves, leafAt{name: name}, compareLeaf)
	if !ok {
		return nil, transport.ErrNotFound
	}
	return x.leaf(file, x.leaves[i])
}

func (x *Index) leaf(file io.ReaderAt, l leafAt) ([]byte, error) {
	rec := make([]byte, 1+int(l.size))
	rec[0] = l.kind
	if n, err := file.ReadAt(rec[1:], l.pos); err != nil && (n < int(l.size) || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return rec, nil
}

// Names yields the name of every record that the index knows, some twice.
func (x *Index) Names() iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		for i := range x.leaves {
			if !yield(x.leaves[i].name) {
				return
			}
		}
		for name := range x.indexes {
			if !yield(name) {
				return
			}
		}
	}
}

// Labels yields the labels that Named knows, and whether the publisher chose them: a
// grant's name is whatever an edition says, all others follow from the channel's ID.
func (x *Index) Labels() iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		for label := range x.named {
			if !yield(label, x.chosen[label]) {
				return
			}
		}
	}
}

// Named returns what stands under a label that is no hash; false if nothing of
// this edition does. All editions of a channel share these labels: ask the
// newest first.
func (x *Index) Named(label string) ([]byte, bool) {
	rec, ok := x.named[label]
	return rec, ok
}

// All yields everything the index knows, reading leaves from file.
func (x *Index) All(file io.ReaderAt) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, l := range x.leaves {
			rec, err := x.leaf(file, l)
			if !yield(Entry{Label: l.name.Label(), Data: rec}, err) || err != nil {
				return
			}
		}
		for name, rec := range x.indexes {
			if !yield(Entry{Label: name.Label(), Data: rec}, nil) {
				return
			}
		}
		for label, rec := range x.named {
			if !yield(Entry{Label: label, Data: rec, Named: true}, nil) {
				return
			}
		}
	}
}

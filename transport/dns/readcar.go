package dns

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// maxNotes bounds how many root notes a channel is believed to have.
const maxNotes = 1000

// ReadEdition takes from the CAR of an edition of the given channel what goes into DNS: head, root notes,
// grants, directory, front, text, dictionary and log, with each piece's place in the file.
// The head is verified with the edition's own root notes. Memory: all of that
// but media, at most limit bytes, beyond which it is an error. The CAR must be
// whole; Reader errors of bundle/car come through.
func ReadEdition(r io.Reader, ch channel.ID, limit int64) (*Edition, error) {
	in, err := car.NewReader(r)
	if err != nil {
		return nil, err
	}
	roots := in.Roots()
	if len(roots) < 2 {
		return nil, fmt.Errorf("%w: no head", car.ErrFormat)
	}
	c := &collector{blocks: map[string]Piece{}, wanted: map[string]bool{}, limit: limit, listed: limit}
	// Root notes, head and directory; what else is wanted, the directory says.
	for _, id := range roots {
		c.wanted[id.KeyString()] = true
	}
	headCID, root := roots[len(roots)-2], roots[len(roots)-1]
	for {
		b, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := c.add(b, root); err != nil {
			return nil, err
		}
	}
	return c.edition(ch, headCID, root)
}

// collector keeps the blocks that are wanted. A CAR is depth first, so that a
// link is seen before the block it leads to; root notes may come earlier.
type collector struct {
	blocks map[string]Piece
	wanted map[string]bool
	limit  int64
	// listed is how many bytes may still go into lists: a node that links to
	// one block a thousand times costs its author nothing.
	listed int64
}

func (c *collector) add(b car.Block, root cid.Cid) error {
	key := b.CID.KeyString()
	if !c.wanted[key] {
		return nil
	}
	if _, ok := c.blocks[key]; ok {
		return nil
	}
	if c.limit -= int64(len(b.Data)); c.limit < 0 {
		return fmt.Errorf("%w: edition too large for dns", ErrFull)
	}
	c.blocks[key] = Piece{Data: b.Data, Pos: b.Offset}
	if b.CID.Prefix().Codec == cid.Raw {
		return nil
	}
	if !b.CID.Equals(root) {
		children, err := bundle.Children(bundle.Block{CID: b.CID, Data: b.Data})
		for _, id := range children {
			c.wanted[id.KeyString()] = true
		}
		return err
	}
	d, err := bundle.ParseDirectory(b.CID, b.Data)
	if err != nil {
		return err
	}
	for _, layer := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerDict, bundle.LayerLog} {
		if id, ok := d.Layers[layer]; ok {
			c.wanted[id.KeyString()] = true
		}
	}
	for _, id := range []cid.Cid{d.RootNotes, d.Grants} {
		if id.Defined() {
			c.wanted[id.KeyString()] = true
		}
	}
	return nil
}

func (c *collector) get(id cid.Cid) (Piece, error) {
	p, ok := c.blocks[id.KeyString()]
	if !ok {
		return p, fmt.Errorf("%w: a block is missing", car.ErrFormat)
	}
	return p, nil
}

func (c *collector) edition(ch channel.ID, headCID, root cid.Cid) (*Edition, error) {
	dir, err := c.get(root)
	if err != nil {
		return nil, err
	}
	d, err := bundle.ParseDirectory(root, dir.Data)
	if err != nil {
		return nil, err
	}
	e := &Edition{Channel: ch, RootNotes: map[uint64]Piece{}, Grants: map[string]Piece{}, Front: []Piece{dir}}
	for _, l := range []struct {
		layer string
		to    *[]Piece
	}{{bundle.LayerFront, &e.Front}, {bundle.LayerText, &e.Text}, {bundle.LayerDict, &e.Dict}, {bundle.LayerLog, &e.Log}} {
		if id, ok := d.Layers[l.layer]; ok {
			if *l.to, err = c.file(id, *l.to); err != nil {
				return nil, err
			}
		}
	}
	err = c.folder(d.RootNotes, func(name string, p Piece) error {
		v, err := strconv.ParseUint(name, 10, 64)
		if err != nil || v < 1 || v > maxNotes {
			return fmt.Errorf("%w: root note under another name than its version", car.ErrFormat)
		}
		e.RootNotes[v] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = c.folder(d.Grants, func(name string, p Piece) error {
		e.Grants[name] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, c.head(e, headCID, root)
}

// list takes room in a list for a piece.
func (c *collector) list(p Piece) error {
	if c.listed -= p.cost(); c.listed < 0 {
		return fmt.Errorf("%w: edition too large for dns", ErrFull)
	}
	return nil
}

// file lists a file's blocks depth first.
func (c *collector) file(id cid.Cid, to []Piece) ([]Piece, error) {
	p, err := c.get(id)
	if err != nil {
		return nil, err
	}
	if err := c.list(p); err != nil {
		return nil, err
	}
	to = append(to, p)
	if id.Prefix().Codec == cid.Raw {
		return to, nil
	}
	children, err := bundle.Children(bundle.Block{CID: id, Data: p.Data})
	if err != nil {
		return nil, err
	}
	for _, child := range children { // hashes make loops impossible
		if to, err = c.file(child, to); err != nil {
			return nil, err
		}
	}
	return to, nil
}

func (c *collector) folder(id cid.Cid, f func(name string, p Piece) error) error {
	if !id.Defined() {
		return nil
	}
	p, err := c.get(id)
	if err != nil {
		return err
	}
	links, err := bundle.ParseFolder(id, p.Data)
	if err != nil {
		return err
	}
	for _, l := range links {
		p, err := c.get(l.CID)
		if err == nil {
			err = c.list(p)
		}
		if err != nil {
			return err
		}
		if err := f(l.Name, p); err != nil {
			return err
		}
	}
	return nil
}

// head verifies the head and brings it into compact form.
func (c *collector) head(e *Edition, headCID, root cid.Cid) error {
	p, err := c.get(headCID)
	if err != nil {
		return err
	}
	var notes [][]byte
	for v := uint64(1); len(e.RootNotes[v].Data) > 0; v++ {
		notes = append(notes, e.RootNotes[v].Data)
	}
	chain, err := channel.ParseRoots(e.Channel, notes)
	if err != nil {
		return err
	}
	h, err := chain.Head(p.Data)
	if err != nil {
		return err
	}
	if !h.Root.Equals(root) {
		return fmt.Errorf("%w: head of another edition", car.ErrFormat)
	}
	e.Head, e.IPNS = h.Compact(), chain.IPNSName()
	return nil
}

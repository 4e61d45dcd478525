package bundle_test

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
)

// invalidCARs makes files that are a CAR, but not one edition's, whole and nothing
// more: who stores editions refuses them (mirror/relay), and so does docs/verify.
func (m *maker) invalidCARs() error {
	p, h := m.packed[1], m.heads[1]
	file := func(notes [][]byte, root cid.Cid, blocks ...bundle.Block) []byte {
		var b bytes.Buffer
		w, err := car.NewEdition(&b, car.Intro{RootNotes: notes, Head: h.Text(), Root: root})
		for _, block := range blocks {
			if err == nil {
				err = w.Put(block.CID, block.Data)
			}
		}
		if err != nil {
			m.err = err
		}
		return b.Bytes()
	}
	notes := [][]byte{m.signed}
	if !bytes.Equal(file(notes, h.Root, p.Blocks...), m.cars[1]) {
		return fmt.Errorf("an edition written by hand differs from the package's")
	}
	foreign := bundle.Block{CID: bundle.RawCID([]byte("some bytes")), Data: []byte("some bytes")}
	node := -1 // a block of links behind the folder, which the next one is linked from
	for i, b := range p.Blocks[1:] {
		if b.CID.Prefix().Codec == cid.DagProtobuf {
			node = i + 1
			break
		}
	}
	if node < 0 {
		return fmt.Errorf("edition 1 has no node")
	}
	late := append([]bundle.Block{}, p.Blocks...)
	late[node], late[node+1] = late[node+1], late[node]
	add := func(name, check string, b []byte) { m.refused(name, ".car", "edition", check, "", b) }
	add("edition-with-a-foreign-block", "every block is linked from one before it", file(notes, h.Root, append(p.Blocks[:len(p.Blocks):len(p.Blocks)], foreign)...))
	add("edition-with-a-block-of-another", "every block is linked from one before it", file(notes, h.Root, append(p.Blocks[:len(p.Blocks):len(p.Blocks)], m.packed[0].Blocks[0])...))
	add("edition-without-a-block", "no linked block is missing", file(notes, h.Root, p.Blocks[:len(p.Blocks)-1]...))
	note := slices.IndexFunc(p.Blocks, func(b bundle.Block) bool { return bytes.Equal(b.Data, m.signed) })
	if note < 0 {
		return fmt.Errorf("edition 1 has no root note")
	}
	add("edition-with-its-root-note-once", "root notes are there before the head, and in the folder", file(notes, h.Root, slices.Delete(slices.Clone(p.Blocks), note, note+1)...))
	add("edition-with-a-block-twice", "each block is there once", file(notes, h.Root, append(p.Blocks[:len(p.Blocks):len(p.Blocks)], p.Blocks[len(p.Blocks)-1])...))
	add("edition-child-before-node", "a node comes before what it links to", file(notes, h.Root, late...))
	add("edition-without-root-notes", "the head needs root note 1", file(nil, h.Root, p.Blocks...))
	add("edition-of-another-root", "the header's last root is the head's", file(notes, m.heads[0].Root, p.Blocks...))
	add("edition-with-the-blocks-of-another", "the folder follows the head", file(notes, h.Root, m.packed[0].Blocks...))
	// As the header and the block itself name it, not the folder.
	respelt := func(data []byte) []byte {
		raw := bundle.RawCID(data)
		return bytes.Replace(m.cars[1], raw.Bytes(), cid.NewCidV1(cid.DagProtobuf, raw.Hash()).Bytes(), 2)
	}
	add("edition-root-note-not-raw", "root notes and head are raw", respelt(m.signed))
	add("edition-head-not-raw", "root notes and head are raw", respelt(h.Text()))
	add("edition-without-blocks", "the folder follows the head", file(notes, h.Root))
	return m.err
}

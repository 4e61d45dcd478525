package bundle

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// Layer lists the blocks of a layer's file in order, without nodes. ok is false
// if the edition has no such layer.
func (v *Volume) Layer(layer string) (leaves []Want, ok bool, err error) {
	d, err := v.Directory()
	if err != nil {
		return nil, false, err
	}
	root, ok := d.Layers[layer]
	if !ok {
		return nil, false, nil
	}
	leaves, err = v.descend(Want{CID: root, Layer: layer, File: root}, nil, 0)
	return leaves, true, err
}

// Missing lists the blocks of the layer that are not held, or *MissingError for
// what must be fetched before they can be listed.
func (v *Volume) Missing(layer string) ([]Want, error) {
	leaves, _, err := v.Layer(layer)
	if err != nil {
		return nil, err
	}
	return v.lacks(leaves)
}

// MissingOf lists the blocks that reading these spans of a layer takes and that are
// not held, each once, or *MissingError as Missing. Spans that can't be read are
// left out: whoever reads them hears of it.
func (v *Volume) MissingOf(layer string, spans []Span) ([]Want, error) {
	wants, err := v.BlocksOf(layer, spans)
	if err != nil {
		return nil, err
	}
	return v.lacks(wants)
}

// BlocksOf lists the blocks that reading these spans of a layer takes, held or not,
// each once and in order; errors and spans as in MissingOf. Without the layer's
// prologue at hand (Prologues) the first block is among them.
func (v *Volume) BlocksOf(layer string, spans []Span) ([]Want, error) {
	leaves, _, err := v.Layer(layer)
	if err != nil {
		return nil, err
	}
	_, have := v.Prologues[layer]
	needed := make([]bool, len(leaves))
	for _, s := range spans {
		first, last := s.Offset/chunkSize, (s.Offset+s.Size-1)/chunkSize
		if s.check() != nil || last >= int64(len(leaves)) {
			continue
		}
		needed[0] = needed[0] || !have
		for i := first; i <= last; i++ {
			needed[i] = true
		}
	}
	var wants []Want
	for i, w := range leaves {
		if needed[i] {
			wants = append(wants, w)
		}
	}
	return wants, nil
}

// lacks lists those of the wants that are not held.
func (v *Volume) lacks(wants []Want) (out []Want, err error) {
	if v.Holds == nil {
		for _, w := range wants {
			if _, err := v.get(w); errors.As(err, new(*MissingError)) {
				out = append(out, w)
			} else if err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	cs := make([]cid.Cid, len(wants))
	for i, w := range wants {
		cs[i] = w.CID
	}
	held, err := v.Holds(cs)
	if err != nil {
		return nil, err
	}
	for i, w := range wants {
		if !held[i] {
			out = append(out, w)
		}
	}
	return out, nil
}

// descend appends the leaves below w to those before them.
func (v *Volume) descend(w Want, to []Want, depth int) ([]Want, error) {
	if w.CID.Prefix().Codec == cid.Raw {
		if w.Offset != blockOffset(w.Layer, len(to)) || w.Offset+int64(w.Size) > blockOffset(w.Layer, len(to)+1) {
			return nil, fmt.Errorf("%w: blocks not along chunks", ErrLayer)
		}
		return append(to, w), nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("%w: file too deep", ErrBlock)
	}
	b, err := v.get(Want{CID: w.CID, Layer: w.Layer, Node: true, Offset: w.Offset, File: w.File})
	if err != nil {
		return nil, err
	}
	links, err := ParseFile(w.CID, b, w.Offset)
	if err != nil {
		return nil, err
	}
	if n := len(links); depth > 0 && (n == 0 || links[n-1].Offset+links[n-1].Size != w.Offset+int64(w.Size)) {
		return nil, fmt.Errorf("%w: sizes don't add up", ErrBlock)
	}
	for i, l := range links {
		next := Want{CID: l.CID, Layer: w.Layer, Offset: l.Offset, Size: int(l.Size), File: w.File}
		if to, err = v.descend(next, to, depth+1); err != nil {
			return nil, v.andNodes(err, w, links[i+1:])
		}
	}
	return to, nil
}

// maxDepth bounds nodes below nodes: 174² blocks of 64 KiB are over MaxLayer.
const maxDepth = 2

// blockOffset is where block i of a layer's file starts. Holding every file to
// it keeps chunk i in block i, and a few small nodes from unfolding into
// millions of links.
func blockOffset(layer string, i int) int64 {
	switch {
	case layer == LayerLog:
		return int64(i) * logChunk
	case i == 0:
		return 0
	}
	return firstBlock + int64(i-1)*sealedChunk
}

// andNodes adds to a *MissingError the nodes of w's links that are missing too: one
// at a time they would be as many round trips.
func (v *Volume) andNodes(err error, w Want, links []Link) error {
	var m *MissingError
	if !errors.As(err, &m) {
		return err
	}
	for _, l := range links {
		if l.CID.Prefix().Codec == cid.Raw {
			continue
		}
		_, err := v.get(Want{CID: l.CID, Layer: w.Layer, Node: true, Offset: l.Offset, File: w.File})
		if err := m.gather(err); err != nil {
			return err
		}
	}
	return m
}

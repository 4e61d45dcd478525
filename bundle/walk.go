package bundle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
)

// Walk visits every block of the edition depth first from its directory, in the
// order of its CAR file. Blocks that aren't held are not descended into but
// listed in the *MissingError that Walk then returns in the end. visit may be nil:
// then only blocks of links are read, and their leaves asked for.
func (v *Volume) Walk(visit func(Want, []byte) error) error {
	missing := &MissingError{}
	seen := map[cid.Cid]bool{}
	var descend func(w Want, depth int) error
	descend = func(w Want, depth int) error {
		if seen[w.CID] {
			return nil
		}
		seen[w.CID] = true
		b, err := v.Get(w.CID)
		if errors.Is(err, ErrMissing) {
			missing.Wants = append(missing.Wants, w)
			return nil
		}
		if err != nil {
			return err
		}
		if visit != nil {
			err = visit(w, b)
		}
		if err != nil || !w.Node {
			return err
		}
		if depth > maxDepth { // the directory is above the files
			return fmt.Errorf("%w: edition too deep", ErrBlock)
		}
		links, err := v.links(w, b)
		if err != nil {
			return err
		}
		if visit == nil {
			var leaves []Want
			links = slices.DeleteFunc(links, func(l Want) bool {
				leaf := !l.Node && !seen[l.CID]
				if leaf {
					leaves = append(leaves, l)
					seen[l.CID] = true
				}
				return leaf
			})
			lacks, err := v.lacks(leaves)
			if err != nil {
				return err
			}
			missing.Wants = append(missing.Wants, lacks...)
		}
		for _, l := range links {
			if err := descend(l, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := descend(Want{CID: v.Root, Layer: LayerDirectory, Node: true}, 0); err != nil {
		return err
	}
	return missing.orNil()
}

// links turns a node's links into wants; the directory's front page comes first.
func (v *Volume) links(w Want, block []byte) ([]Want, error) {
	var links []Link
	var err error
	folder := w.Layer == LayerDirectory || w.Layer == LayerRoot || w.Layer == LayerGrants
	if folder {
		links, err = ParseFolder(w.CID, block)
	} else {
		links, err = ParseFile(w.CID, block, w.Offset)
	}
	if err != nil {
		return nil, err
	}
	out := make([]Want, 0, len(links))
	for _, l := range links {
		next := Want{CID: l.CID, Layer: w.Layer, Node: l.Node(), Offset: l.Offset, Size: int(l.Size), File: w.File}
		if next.Node && !folder {
			next.Size = 0 // the link's size is that of the bytes below
		}
		if w.Layer == LayerDirectory {
			if next.Layer = layerOf(l.Name); next.Layer == "" {
				continue // of a later version
			}
			if next.Layer != LayerRoot && next.Layer != LayerGrants {
				next.File = l.CID
			}
		}
		out = append(out, next)
	}
	if w.Layer == LayerDirectory {
		slices.SortStableFunc(out, func(a, b Want) int { return layerOrder(a.Layer) - layerOrder(b.Layer) })
	}
	return out, nil
}

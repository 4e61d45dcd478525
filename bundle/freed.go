package bundle

import (
	"errors"
	"slices"
)

// Freed lists the blocks of the edition's texts and pictures in which articles lie
// that are gone, and none of those that are left. The first block of a layer is not
// among them while anything is left in that layer: it opens the others. A layer
// whose blocks can't be listed since what lists them is not held is left out; other
// errors are those of BlocksOf.
func (v *Volume) Freed(gone, left []Entry) (free []Want, err error) {
	bare := &Volume{Channel: v.Channel, Edition: v.Edition, Root: v.Root, Get: v.Get, Holds: v.Holds} // no prologues: they may be forgotten
	for _, layer := range []string{LayerText, LayerMedia} {
		needed, err := bare.BlocksOf(layer, spansIn(layer, left))
		if errors.As(err, new(*MissingError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lies, err := bare.BlocksOf(layer, spansIn(layer, gone))
		if err != nil {
			return nil, err
		}
		for _, w := range lies {
			if !slices.ContainsFunc(needed, func(n Want) bool { return n.CID.Equals(w.CID) }) {
				free = append(free, w)
			}
		}
	}
	return free, nil
}

// spansIn lists where the texts, or the pictures, of articles lie.
func spansIn(layer string, entries []Entry) (spans []Span) {
	for i := range entries {
		if layer == LayerText {
			spans = append(spans, entries[i].Text)
			continue
		}
		for _, img := range entries[i].Images {
			spans = append(spans, img.Span)
		}
	}
	return spans
}

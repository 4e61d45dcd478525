package bundle

import (
	"fmt"

	"tamizdat/bundle/channel"
)

// logChunk is the block size of the log layer: full blocks repeat from edition
// to edition.
const logChunk = 64 << 10

// maxHashes bounds what Hashes reads at once, in bytes: as many leaves as a reader folds
// (FORMAT.md, section 8), and the rest of the block that they begin in.
const maxHashes = 32<<20 + logChunk

// log makes the log layer: the leaf hashes of all editions before this one.
func (p *packer) log() (err error) {
	if p.in.Edition == 0 {
		return nil
	}
	p.layers[LayerLog], err = buildFile(channel.JoinHashes(p.in.Leaves), logChunk, logChunk)
	return err
}

// Hashes reads the log layer: the leaf hashes from index first on, 2^20 at most.
func (v *Volume) Hashes(first uint64) ([]channel.Hash, error) {
	leaves, ok, err := v.Layer(LayerLog)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, nil
	}
	if first > MaxLayer/uint64(len(channel.Hash{})) {
		return nil, nil // past any log there can be; times 32 it would overflow
	}
	from := int64(first) * int64(len(channel.Hash{}))
	var keep []Want
	for _, w := range leaves {
		if len(leaves) == 1 || w.Offset+int64(w.Size) > from {
			keep = append(keep, w)
		}
	}
	b, err := v.join(keep, maxHashes)
	if err != nil || len(keep) == 0 {
		return nil, err
	}
	if len(leaves) == 1 && len(b) > logChunk { // no link said how long it is
		return nil, fmt.Errorf("%w: blocks not along chunks", ErrLayer)
	}
	skip := from - keep[0].Offset
	if skip > int64(len(b)) {
		return nil, nil
	}
	return channel.SplitHashes(b[skip:])
}

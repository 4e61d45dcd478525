package bundle

import "tamizdat/bundle/channel"

// logChunk is the block size of the log layer: full blocks repeat from edition
// to edition.
const logChunk = 64 << 10

// log makes the log layer: the leaf hashes of all editions before this one.
func (p *packer) log() (err error) {
	if p.in.Edition == 0 {
		return nil
	}
	p.layers[LayerLog], err = buildFile(channel.JoinHashes(p.in.Leaves), logChunk, logChunk)
	return err
}

// Hashes reads the log layer: the leaf hashes from index first on.
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
	b, err := v.join(keep, maxFrontFile)
	if err != nil || len(keep) == 0 {
		return nil, err
	}
	skip := from - keep[0].Offset
	if skip > int64(len(b)) {
		return nil, nil
	}
	return channel.SplitHashes(b[skip:])
}

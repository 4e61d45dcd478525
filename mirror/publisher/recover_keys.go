package publisher

import (
	"errors"
	"fmt"
	"slices"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// serialGap is how far serials of grants go on above the highest that was found: other
// batches' grants may have had higher ones.
const serialGap = 1000

var errNoGrant = errors.New("it has no grant for a batch of this folder; was keys/keys.json of another channel restored?")

// takeKeys finds in the grants which epochs there were since, and which batches were
// revoked. What this folder has revoked since it was restored stays so.
func (p *Publisher) takeKeys(f *Found, c *candidate, vol *bundle.Volume) error {
	f.keys = p.keys
	f.keys.Epochs, f.keys.Batches = slices.Clone(p.keys.Epochs), slices.Clone(p.keys.Batches)
	epochs, ends, err := p.openGrants(f, vol)
	if err != nil {
		return err
	}
	if err := p.takeEpochs(f, epochs, p.usedEpochs(c.common)); err != nil {
		return err
	}
	f.takeRevocations(ends)
	if used := p.usedEpochs(p.Size()); used > f.head.Epoch+1 && used == uint64(len(f.keys.Epochs)) {
		// Editions that give way have told its key, also to batches of whose revocation this
		// folder did not know.
		f.keys.newEpoch()
	}
	f.keys.Serial += serialGap
	return f.countBatches(vol, ends)
}

// openGrants opens the grants of an edition with the batches' seeds: epochs are all keys
// in them, ends how many epochs each batch can open, 0 for a batch that has none.
func (p *Publisher) openGrants(f *Found, vol *bundle.Volume) (epochs map[uint64]channel.EpochKey, ends []int, err error) {
	epochs, ends = map[uint64]channel.EpochKey{}, make([]int, len(f.keys.Batches))
	for i := range f.keys.Batches {
		b := &f.keys.Batches[i]
		sealed, ok, err := vol.File(bundle.LayerGrants, b.Seed.GrantName(p.Channel()))
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			continue // made since the backup was restored, or see countBatches
		}
		g, err := f.roots.OpenGrant(sealed, b.Seed)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range g.Epochs {
			if known, ok := epochs[e.Number]; ok && known != e.Key {
				return nil, nil, errors.New("its grants contradict each other")
			}
			epochs[e.Number], ends[i] = e.Key, max(ends[i], int(e.Number)+1)
		}
		f.keys.Serial, b.Said = max(f.keys.Serial, g.Serial), nil
	}
	if len(epochs) == 0 {
		return nil, nil, errNoGrant
	}
	return epochs, ends, nil
}

// takeEpochs takes the keys over. The first used epochs are this folder's own: in them
// it has packed what stays. A later one that it knows began after the backup was
// restored, with a revocation: what the targets have under its number counts.
func (p *Publisher) takeEpochs(f *Found, epochs map[uint64]channel.EpochKey, used uint64) error {
	for n, key := range epochs {
		if n < used && p.keys.Epochs[n] != key {
			return errors.New("this folder has another key of an epoch than its grants; was keys/keys.json of another channel restored?")
		}
	}
	for n := used; n <= f.head.Epoch; n++ {
		switch key, ok := epochs[n]; {
		case n < uint64(len(f.keys.Epochs)):
			if ok && f.keys.Epochs[n] != key {
				f.keys.Epochs[n] = key
				f.Epochs++
			}
		case !ok:
			return fmt.Errorf("the key of epoch %d is in no grant that this folder can open", n)
		default:
			f.keys.Epochs = append(f.keys.Epochs, key)
			f.Epochs++
		}
	}
	return nil
}

// takeRevocations shuts those batches out that can't open the newest epoch.
func (f *Found) takeRevocations(ends []int) {
	last := 0 // epoch that a revocation began
	for i := range f.keys.Batches {
		switch b := &f.keys.Batches[i]; {
		case b.revoked(): // it may have got newer keys since the backup
			b.Until = max(b.Until, ends[i])
		case ends[i] == 0: // made here
		case ends[i] <= int(f.head.Epoch):
			b.Until = ends[i]
			f.Revoked++
		}
		last = max(last, f.keys.Batches[i].Until)
	}
	if last >= len(f.keys.Epochs) {
		f.keys.newEpoch()
	}
}

// usedEpochs is how many epochs' keys this folder's first size editions are known to
// have used.
func (p *Publisher) usedEpochs(size uint64) (used uint64) {
	for i := range p.editions[:size] {
		if e := &p.editions[i]; !e.hollow() {
			used = max(used, e.leaf.Epoch+1)
		}
	}
	return used
}

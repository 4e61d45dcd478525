package publisher

import (
	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// Batches are made in order and never fewer, and every edition holds a grant for each.
// So what was published says how many there were: some may have been made after the
// backup, and their seeds are lost with the folder. Others may have been made here since
// the backup was restored, and invited: the next edition is the first with grants for them.

// countBatches checks that the seeds here are those of what was published, as far as
// they go; ends says for each batch of f.keys how many epochs its grant there opens, 0 if
// there is none. It makes new batches in the place of those that are lost, so that
// editions don't show by fewer grants that a backup was restored.
func (f *Found) countBatches(vol *bundle.Volume, ends []int) error {
	opened := 0
	for i, end := range ends {
		switch {
		case end == 0:
			continue
		case i > opened: // one before it has no grant, so it was not made later
			return errNoGrant
		}
		opened++
	}
	there, err := grantsOf(vol)
	if err != nil {
		return err
	}
	f.Lost = max(0, there-opened)
	for len(f.keys.Batches) < min(there, maxBatches) {
		f.keys.Batches = append(f.keys.Batches, batch{Seed: channel.Seed(random())})
	}
	return nil
}

// grantsOf is how many grants an edition holds.
func grantsOf(vol *bundle.Volume) (int, error) {
	d, err := vol.Directory()
	if err != nil || !d.Grants.Defined() {
		return 0, err
	}
	block, err := vol.Get(d.Grants)
	if err != nil {
		return 0, err
	}
	links, err := bundle.ParseFolder(d.Grants, block)
	return len(links), err
}

package publisher

import (
	"context"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/publisher/source"
)

// verify fetches and checks what a candidate holds.
func (p *Publisher) verify(ctx context.Context, c *candidate) (*Found, error) {
	f := &Found{Target: c.name, roots: c.roots, head: c.head, RootNotes: int(c.roots.Version() - p.roots.Version())}
	vol, blocks, err := fetchEdition(ctx, c.from.blocks, p.Channel(), c.head.Leaf.Edition, c.head.Root)
	if err != nil {
		return nil, err
	}
	hashes, err := vol.Hashes(0)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(hashes), c.head.Leaf.Hash())
	if channel.TreeHash(slices.Values(all)) != c.head.Tree {
		return nil, fmt.Errorf("%w: its log is not the one that its head states", channel.ErrHead)
	}
	if err := p.continues(c, all); err != nil {
		return nil, err
	}
	f.common = c.common
	for n := c.common; n < p.kept(c.roots); n++ {
		f.Aside = append(f.Aside, known(n, p.editions[n]))
	}
	if err := p.takeKeys(f, c, vol); err != nil {
		return nil, err
	}
	if c.common > c.head.Edition {
		return f, nil // root notes are all that is new
	}
	newest, err := p.openEdition(f, vol, c.head.Leaf, c.head.Generation)
	if err != nil {
		return nil, err
	}
	for n := c.common; n < c.head.Edition; n++ {
		e := p.between(ctx, c, f, newest.Front, n)
		e.Hash, e.hash, e.Generation, e.generation = slices.Clone(all[n][:]), all[n], c.head.Generation, c.head.Generation
		f.editions = append(f.editions, e)
	}
	f.editions, f.blocks = append(f.editions, newest), blocks
	for i, e := range f.editions {
		f.Editions = append(f.Editions, known(c.head.Edition+1-uint64(len(f.editions)-i), e))
	}
	f.Retract = p.retractedAside(f)
	return f, nil
}

// retractedAside are the articles that editions which give way took back, and that stand
// in what was found.
func (p *Publisher) retractedAside(f *Found) []string {
	_, before := standing(p.editions[:f.common])
	last, _ := standing(slices.Concat(p.editions[:f.common], f.editions))
	return slices.DeleteFunc(p.TakenBack(), func(id string) bool {
		_, stands := last[id]
		return !stands || slices.Contains(before, id)
	})
}

func known(n uint64, e edition) FoundEdition {
	if e.Front == nil {
		return FoundEdition{Number: n}
	}
	return FoundEdition{Number: n, Date: e.Front.Date, Articles: len(e.Packed), Known: true}
}

// kept is how many of this folder's editions no later generation of the log has left out.
func (p *Publisher) kept(roots *channel.Roots) uint64 {
	return min(p.Size(), roots.Kept(p.roots.Last().Log.Generation))
}

// continues checks a log, and finds how far this folder's is a part of it.
func (p *Publisher) continues(c *candidate, all []channel.Hash) error {
	kept := p.kept(c.roots)
	for c.common < kept && c.common < uint64(len(all)) && all[c.common] == p.editions[c.common].hash {
		c.common++
	}
	if uint64(len(all)) < kept && c.common == uint64(len(all)) {
		return ErrNotBehind
	}
	log := c.roots.Last().Log
	if log.Base > 0 && channel.TreeHash(slices.Values(all[:min(log.Base, uint64(len(all)))])) != log.BaseHash {
		return fmt.Errorf("%w: its log is not what its generation began with", channel.ErrHead)
	}
	return nil
}

// openEdition reads what this folder keeps of an edition out of its layers.
func (p *Publisher) openEdition(f *Found, vol *bundle.Volume, leaf channel.Leaf, generation uint64) (edition, error) {
	if leaf.Epoch >= uint64(len(f.keys.Epochs)) {
		return edition{}, fmt.Errorf("the key of epoch %d is not known", leaf.Epoch)
	}
	vol.Key = f.keys.Epochs[leaf.Epoch]
	front, err := vol.Front()
	if err != nil {
		return edition{}, err
	}
	e := edition{
		Leaf: leaf.Text(), Front: front, Packed: map[string][]byte{}, Sizes: map[string]int64{},
		leaf: leaf, hash: leaf.Hash(), generation: generation,
	}
	for i := range front.Articles {
		entry := &front.Articles[i]
		if entry.Edition != vol.Edition {
			continue
		}
		a, err := vol.Article(entry)
		if err != nil {
			return edition{}, err
		}
		for j := range a.Images {
			img, err := vol.Image(entry, j)
			if err != nil {
				return edition{}, err
			}
			a.Images[j].Data = img.Data
		}
		sum := source.Fingerprint(*a)
		e.Packed[a.ID] = sum[:]
	}
	for _, layer := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerMedia} {
		var n counter
		if ok, err := vol.Copy(&n, layer); err != nil {
			return edition{}, err
		} else if ok {
			e.Sizes[layer] = int64(n)
		}
	}
	return e, nil
}

// between is what can be known of an edition between the backup and the newest one: if
// the newest front page leads to it and the target still has it, what was packed. It
// is no failure if not: then its articles may be packed once more.
func (p *Publisher) between(ctx context.Context, c *candidate, f *Found, front *bundle.Front, n uint64) edition {
	at := slices.IndexFunc(front.Past, func(past bundle.Past) bool { return past.Edition == n })
	if at < 0 {
		return edition{}
	}
	past := front.Past[at]
	root, err := cid.Decode(past.Root)
	if err != nil {
		return edition{}
	}
	vol, _, err := fetchEdition(ctx, c.from.blocks, p.Channel(), n, root)
	if err != nil {
		return edition{}
	}
	e, err := p.openEdition(f, vol, channel.Leaf{Channel: p.Channel(), Edition: n, Epoch: past.Epoch, Root: root}, c.head.Generation)
	if err != nil {
		return edition{}
	}
	e.Leaf, e.leaf = nil, channel.Leaf{} // what exactly it said, its hash knows
	return e
}

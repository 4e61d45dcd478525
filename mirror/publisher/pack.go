package publisher

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/publisher/source"
)

// ErrNothingNew: no article is new or changed.
var ErrNothingNew = errors.New("nothing new to pack")

// Packing is what Pack did.
type Packing struct {
	// Edition is the newest one made, Editions how many were: a front page holds
	// only so many headlines.
	Edition  uint64
	Editions int
	Articles int
	// Corrected of these take the place of an earlier text of their own. Unchanged
	// were packed before and have not changed since.
	Corrected, Unchanged int
	// Gone are IDs of articles that were left out since they have been taken back.
	Gone []string
	// Sizes are the layers' file sizes in bytes, Total that of the CAR files.
	Sizes map[string]int64
	Total int64
}

// Owes reports whether an edition is due even without news: the newest one is of an
// epoch that a revoked batch can open or that has lasted long enough, or knows of older
// root keys. If only a revocation made an epoch begin without news, it would show.
func (p *Publisher) Owes(now time.Time) bool {
	if len(p.editions) == 0 {
		return false
	}
	leaf := p.editions[len(p.editions)-1].leaf
	return leaf.Epoch+1 < uint64(len(p.keys.Epochs)) || p.ended(now) || leaf.RootVersion < p.roots.Version()
}

// Pack makes an edition of those articles that are new or changed, or several
// if they don't fit on one front page. If there are none and none is owed (Owes),
// the error wraps ErrNothingNew and nothing is written.
func (p *Publisher) Pack(articles []bundle.Article, now time.Time) (*Packing, error) {
	fresh := p.Fresh(articles)
	out := &Packing{Articles: len(fresh), Gone: p.withheld(articles), Sizes: map[string]int64{}}
	out.Unchanged = len(articles) - len(fresh) - len(out.Gone)
	last, _ := p.standing()
	for i := range fresh {
		if _, ok := last[fresh[i].ID]; ok {
			fresh[i].Corrected = now
			out.Corrected++
		}
	}
	if len(fresh) == 0 && !p.Owes(now) {
		return out, ErrNothingNew
	}
	chunks := slices.Collect(slices.Chunk(fresh, cmp.Or(p.cfg.Headlines, bundle.DefaultKeep)))
	if len(chunks) == 0 {
		chunks = [][]bundle.Article{nil}
	}
	for _, some := range chunks {
		if err := p.packInto(out, some, nil, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Fresh leaves out what was packed before and has not changed, and what was taken
// back and not restored.
func (p *Publisher) Fresh(articles []bundle.Article) (fresh []bundle.Article) {
	last, gone := p.standing()
	seen := map[string]bool{}
	for _, a := range articles {
		sum := source.Fingerprint(a)
		if seen[a.ID] || bytes.Equal(last[a.ID], sum[:]) || slices.Contains(gone, a.ID) && !p.restored[a.ID] {
			continue
		}
		seen[a.ID] = true
		fresh = append(fresh, a)
	}
	return fresh
}

// packInto makes one edition and adds it to what out says.
func (p *Publisher) packInto(out *Packing, articles []bundle.Article, gone []string, now time.Time) error {
	made, size, err := p.packOne(articles, gone, now)
	if err != nil {
		return err
	}
	out.Edition = made.Leaf.Edition
	out.Editions++
	out.Total += size
	for layer, n := range made.Sizes {
		out.Sizes[layer] += n
	}
	return nil
}

// packOne makes one edition, which takes articles back besides those that earlier
// ones did.
func (p *Publisher) packOne(articles []bundle.Article, gone []string, now time.Time) (*bundle.Packed, int64, error) {
	switch {
	case p.torn():
		return nil, 0, errTorn
	case !p.roots.Last().Log.Key.Equal(p.public(p.keys.Log)):
		return nil, 0, errNoLogKey
	}
	if err := p.renew(now); err != nil {
		return nil, 0, err
	}
	grants, err := p.grants()
	if err != nil {
		return nil, 0, err
	}
	epoch := uint64(len(p.keys.Epochs) - 1)
	in := bundle.Input{
		Channel: p.Channel(), Name: p.cfg.Name, Langs: p.cfg.Langs, Edition: p.Size(), Epoch: epoch,
		Key: p.keys.Epochs[epoch], RootVersion: p.roots.Version(), Date: now, Articles: articles,
		Keep: p.cfg.Headlines, RootNotes: p.notes, Grants: grants, Gone: p.goneWith(gone, articles),
	}
	log := p.history(p.Size())
	in.Leaves = log.Leaves()
	if n := len(p.editions); n > 0 {
		in.Previous, in.PreviousLeaf = p.editions[n-1].Front, &p.editions[n-1].leaf
	}
	if in.Dict, in.DictFile, err = p.dictionary(); err != nil {
		return nil, 0, err
	}
	made, err := bundle.Pack(in)
	if err != nil {
		return nil, 0, err
	}
	head, err := channel.SignHead(made.Leaf, log.Edge(), p.roots.Last().Log.Generation, now, p.keys.key(p.keys.Log))
	if err != nil {
		return nil, 0, err
	}
	e := edition{Leaf: made.Leaf.Text(), Front: made.Front, Packed: map[string][]byte{}, Sizes: made.Sizes, leaf: made.Leaf, hash: made.Leaf.Hash(), generation: head.Generation}
	for _, a := range articles {
		sum := source.Fingerprint(a)
		e.Packed[a.ID] = sum[:]
	}
	size, err := p.commit(e, head, made.Blocks)
	if err != nil {
		return nil, 0, err
	}
	p.editions = append(p.editions, e)
	return made, size, nil
}

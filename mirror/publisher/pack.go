package publisher

import (
	"bytes"
	"cmp"
	"errors"
	"os"
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
// epoch that a revoked batch can open or that has lasted long enough, knows of older
// root keys, or was made before there were so many batches. If only a revocation made an epoch begin without news, it would show.
func (p *Publisher) Owes(now time.Time) bool {
	if len(p.editions) == 0 || p.torn() {
		return false
	}
	leaf := p.editions[len(p.editions)-1].leaf
	return leaf.Epoch+1 < uint64(len(p.keys.Epochs)) || p.ended(now) || leaf.RootVersion < p.roots.Version() || p.lacksGrants()
}

// lacksGrants reports whether the newest edition has no grants for the newest batches:
// their invites would open nothing.
func (p *Publisher) lacksGrants() bool {
	vol, err := p.volume(p.Size() - 1)
	if err != nil {
		return false
	}
	n, err := grantsOf(vol)
	return err == nil && n < len(p.keys.Batches)
}

// longPause is how long nothing may have been packed before that is strange.
const longPause = 90 * 24 * time.Hour

// Pause is how long ago the newest edition was packed, less than nothing if that is yet
// to come; strange if this machine's clock is wrong, perhaps, or was then.
func (p *Publisher) Pause(now time.Time) (pause time.Duration, strange bool) {
	if len(p.editions) == 0 || p.Date(p.Size()-1).IsZero() {
		return 0, false
	}
	pause = now.Sub(p.Date(p.Size() - 1))
	return pause, pause < 0 || pause > longPause
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
	made, e, err := p.stage(articles, gone, now)
	if err != nil {
		return err
	}
	size, err := p.finish(e, made.Blocks)
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

// stage makes one edition, which takes articles back besides those that earlier ones
// did, and writes it, durably: all but its head. Finish must follow, now or (see
// finishStaged) later: no other leaf may have this number any more.
func (p *Publisher) stage(articles []bundle.Article, gone []string, now time.Time) (*bundle.Packed, edition, error) {
	fail := func(err error) (*bundle.Packed, edition, error) { return nil, edition{}, err }
	switch _, err := os.Stat(p.blocksName(p.Size())); {
	case p.torn():
		return fail(errTorn)
	case !p.signs():
		return fail(errNoLogKey)
	case err == nil:
		return fail(errStaged)
	}
	if err := p.renew(now); err != nil {
		return fail(err)
	}
	grants, err := p.grants()
	if err != nil {
		return fail(err)
	}
	epoch := uint64(len(p.keys.Epochs) - 1)
	in := bundle.Input{
		Channel: p.Channel(), Name: p.cfg.Name, Langs: p.cfg.Langs, Edition: p.Size(), Epoch: epoch,
		Key: p.keys.Epochs[epoch], RootVersion: p.roots.Version(), Date: now, Articles: articles,
		Keep: p.cfg.Headlines, RootNotes: p.notes, Grants: grants, Gone: p.goneWith(gone, articles),
	}
	if pause, strange := p.Pause(now); strange && pause > 0 {
		in.Window = bundle.DefaultWindow + pause // a clock that is ahead ends nothing at one stroke
	}
	in.Leaves = p.history(p.Size()).Leaves()
	if n := len(p.editions); n > 0 {
		in.Previous, in.PreviousLeaf = p.editions[n-1].Front, &p.editions[n-1].leaf
	}
	if in.Dict, in.DictFile, err = p.dictionary(); err != nil {
		return fail(err)
	}
	made, err := bundle.Pack(in)
	if err != nil {
		return fail(err)
	}
	e := edition{Leaf: made.Leaf.Text(), Front: made.Front, Packed: map[string][]byte{}, Sizes: made.Sizes, leaf: made.Leaf}
	for _, a := range articles {
		sum := source.Fingerprint(a)
		e.Packed[a.ID] = sum[:]
	}
	if err := p.writeBlocks(made); err != nil {
		return fail(err)
	}
	return made, e, p.describe(made.Leaf.Edition, e)
}

// finish signs the head of a staged edition, and makes it the newest one. However often
// it is begun, it signs the same bytes.
func (p *Publisher) finish(e edition, blocks []bundle.Block) (int64, error) {
	n := e.leaf.Edition
	head, err := channel.SignHead(e.leaf, p.history(n).Edge(), p.roots.Last().Log.Generation, e.leaf.Date, p.keys.key(p.keys.Log))
	if err != nil {
		return 0, err
	}
	e.hash, e.generation = e.leaf.Hash(), head.Generation
	size, err := p.writeCar(head, blocks)
	if err != nil {
		return 0, err
	}
	p.editions = append(p.editions, e)
	_ = os.Remove(p.blocksName(n)) // or the next Open does
	return size, nil
}

// errStaged: this process has failed to finish an edition, and its number is taken.
var errStaged = errors.New("the last edition was not finished; run the command again")

// signs reports whether the log key in force is in this folder.
func (p *Publisher) signs() bool { return p.roots.Last().Log.Key.Equal(p.public(p.keys.Log)) }

package publisher

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/transport"
)

// A folder that was restored from a backup knows less than what it has signed since:
// going on from it would sign the same numbers twice. What it lacks is at its
// targets. Recovering takes it back from there: root notes, epoch keys (out of the
// grants, which the batches' seeds open), the log, and the newest edition whole. Of
// editions between that and the backup the log's hashes are enough to go on; what of
// them was packed is taken along where it is to be had.

const (
	// recoverTime bounds how long one target may take.
	recoverTime = 10 * time.Minute
	// maxRecoveredNotes bounds root notes that were made since the backup.
	maxRecoveredNotes = 256
)

// ErrNotBehind: no target that can be read back holds more than this folder.
var ErrNotBehind = errors.New("no target that editions can be read back from holds more than this folder: there is nothing to recover")

// Found is what a target holds that this folder lacks, verified.
type Found struct {
	// Target is where it was found, Also are others that show the same, and Unread says
	// of which it is not known what they hold.
	Target string
	Also   []string
	Unread []error
	// RootNotes, Epochs and Revoked count what was made since the backup: root notes,
	// epoch keys, and batches that were revoked.
	RootNotes, Epochs, Revoked int
	// Lost counts batches that were made since the backup, whose seeds are not here:
	// whoever was invited with one of them can't open what is packed next.
	Lost int
	// Editions are those that are lacking, oldest first. The last one is whole.
	Editions []FoundEdition
	// Aside are editions of this folder whose numbers the target's log gives to others:
	// they were packed from the backup while no target could be asked.
	Aside []FoundEdition
	// Retract are articles that only those took back: they stand again without them.
	Retract []string

	common   uint64 // editions of this folder that stay
	roots    *channel.Roots
	keys     keyring
	editions []edition
	head     *channel.Head
	blocks   []bundle.Block
}

// FoundEdition is one of them.
type FoundEdition struct {
	Number uint64
	// Date and Articles are known if Known.
	Date     time.Time
	Articles int
	Known    bool
}

// Find looks at the named targets of publisher.toml, all of them if none is named,
// for what this folder lacks, each read in its own way, takes the one that holds the
// most, and verifies it: it changes nothing. The error wraps
// ErrNotBehind if nobody holds anything else, and ErrOtherHistory if targets contradict
// each other. Targets that can't be read are no obstacle unless all are such.
func (p *Publisher) Find(ctx context.Context, network transport.Network, names ...string) (*Found, error) {
	var all []*candidate
	var failed []error
	defer func() {
		for _, c := range all {
			_ = c.from.close() // it only read
		}
	}()
	for _, t := range p.cfg.Targets {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		c, err := p.candidate(ctx, network, t)
		switch {
		case errors.Is(err, errWriteOnly):
			continue
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", t.Name, err))
			continue
		}
		all = append(all, c)
	}
	f, err := p.furthest(ctx, all)
	if err == nil || errors.Is(err, ErrNotBehind) {
		unread, beyond := p.beyond(ctx, network, f, names)
		if beyond != nil {
			return nil, beyond
		}
		failed = append(failed, unread...)
	}
	if err == nil {
		f.Unread = failed
	} else if len(all) == 0 {
		err = errors.Join(append([]error{err}, failed...)...)
	}
	return f, err
}

// candidate is the newest head of one target, and the root notes that it needs.
type candidate struct {
	name   string
	from   *sourceOf
	roots  *channel.Roots
	head   *channel.Head
	common uint64 // editions of this folder that are in its log, once that was checked
}

func (p *Publisher) candidate(ctx context.Context, network transport.Network, t TargetConfig) (_ *candidate, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	from, err := p.readBack(context.WithoutCancel(ctx), network, t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, from.close())
		}
	}()
	raw, err := from.heads.Head(ctx, p.Channel(), 0)
	if err != nil {
		return nil, err
	}
	c := &candidate{name: t.Name, from: from, roots: p.roots}
	for range maxRecoveredNotes {
		if c.head, err = c.roots.Head(raw); !errors.Is(err, channel.ErrNewerRoots) {
			return c, err
		}
		note, err := from.heads.RootNote(ctx, p.Channel(), c.roots.Version()+1)
		if err != nil {
			return nil, fmt.Errorf("root note %d: %w", c.roots.Version()+1, err)
		}
		if c.roots, err = c.roots.Extend(note); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("too many root notes")
}

// behind reports whether a candidate holds what this folder lacks.
func (p *Publisher) behind(c *candidate) bool {
	return c.head.Size > p.Size() || c.roots.Version() > p.roots.Version() ||
		channel.TreeHash(slices.Values(p.history(c.head.Size).Leaves())) != c.head.Tree
}

// Adopt takes what Find has found into this folder, durably: keys and root notes
// first, then editions in order, so that a crash leaves a folder that is behind, which
// still can't pack, and can recover again. Of Aside nothing is lost: the folder keeps
// these editions with those that a root note has left out.
func (p *Publisher) Adopt(f *Found) error {
	p.keys = f.keys
	if err := p.saveKeys(); err != nil {
		return err
	}
	for v := p.roots.Version() + 1; v <= f.roots.Version(); v++ {
		if err := durable.Write(filepath.Join(p.dir, "root", strconv.FormatUint(v, 10)), 0o644, f.roots.Notes()[v-1]); err != nil {
			return err
		}
	}
	p.roots, p.notes = f.roots, f.roots.Notes()
	if err := errors.Join(p.dropRootKey(), p.useLogKey(), p.leaveOut()); err != nil {
		return err
	}
	p.dropLeftOut()
	for n := p.Size(); n > f.common; n-- { // the last first: no crash leaves a gap
		if err := p.moveAside(n-1, p.editions[n-1].generation); err != nil {
			return err
		}
		p.editions = p.editions[:n-1]
	}
	last := len(f.editions) - 1
	if last < 0 {
		return nil
	}
	for i, e := range f.editions[:last] {
		if err := p.describe(f.Editions[i].Number, e); err != nil {
			return err
		}
		p.editions = append(p.editions, e)
	}
	if _, err := p.commit(f.editions[last], f.head, f.blocks); err != nil {
		return err
	}
	p.editions = append(p.editions, f.editions[last])
	return nil
}

// torn reports whether recovering was cut off: the newest edition is not here, and its
// number must not be used again.
func (p *Publisher) torn() bool {
	n := len(p.editions)
	return n > 0 && p.editions[n-1].hollow()
}

// Whole is how many editions there are up to the last one that is here whole: all but
// where recovering was cut off.
func (p *Publisher) Whole() uint64 {
	n := p.Size()
	for n > 0 && p.editions[n-1].hollow() {
		n--
	}
	return n
}

var errTorn = errors.New("recovering this folder was cut off; run mirror-publish recover again or, if what it lacks is nowhere any more, leave it out for good: mirror-publish root rotate --new-log")

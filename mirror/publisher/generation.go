package publisher

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// A stolen log key is replaced by a root note that names another one, and the tree
// that its log goes on from (Rotation). The new key is made and kept when the note is
// drafted, and takes its place when the note does; editions that the note leaves out
// are moved aside, so that what is packed next gets their numbers.

// leftOutDir is where editions go that a new generation has left out, or that recovering
// has found others under their numbers for: as G-N.json and G-N.car, G being the
// generation that made them, the second of that name as G-2-N.
const leftOutDir = "left-out"

var errNoLogKey = errors.New("the log key in force is not in this folder; put another one in its place: mirror-publish root rotate DRAFT --new-log")

// nextLog makes the next log key, durably, for a log that goes on from the first
// good editions.
func (p *Publisher) nextLog(good uint64) (channel.LogKey, error) {
	if good > p.Size() {
		return channel.LogKey{}, fmt.Errorf("there are %d editions in this folder, the newest is number %d", p.Size(), int64(p.Size())-1)
	}
	p.keys.NextLog = random()
	if err := p.saveKeys(); err != nil {
		return channel.LogKey{}, err
	}
	k := channel.LogKey{Generation: p.roots.Last().Log.Generation + 1, Key: p.public(p.keys.NextLog), Base: good}
	if good > 0 {
		k.BaseHash = channel.TreeHash(slices.Values(p.history(good).Leaves()))
	}
	return k, nil
}

// public is the public half of a key in the keyring, nil if there is none.
func (p *Publisher) public(seed []byte) ed25519.PublicKey {
	if len(seed) == 0 {
		return nil
	}
	return p.keys.key(seed).Public().(ed25519.PublicKey)
}

// hasLogKey reports whether the secret half of a log key is here.
func (p *Publisher) hasLogKey(k ed25519.PublicKey) bool {
	return k.Equal(p.public(p.keys.Log)) || k.Equal(p.public(p.keys.NextLog))
}

// useLogKey puts the key in place that the newest root note names.
func (p *Publisher) useLogKey() error {
	if k := p.roots.Last().Log.Key; len(p.keys.NextLog) == 0 || !k.Equal(p.public(p.keys.NextLog)) {
		return nil
	}
	p.keys.Log, p.keys.NextLog = p.keys.NextLog, nil
	return p.saveKeys()
}

// leftOut reports whether a root note has left out what the log key of a generation
// said in edition n.
func (p *Publisher) leftOut(n, generation uint64) bool { return n >= p.roots.Kept(generation) }

// dropLeftOut forgets editions that a root note has left out.
func (p *Publisher) dropLeftOut() {
	for n := p.Size(); n > 0 && p.leftOut(n-1, p.editions[n-1].generation); n-- {
		p.editions = p.editions[:n-1]
	}
}

// leaveOut moves editions aside that a root note has left out, the last first: a crash
// leaves no gap, and Open goes on.
func (p *Publisher) leaveOut() error {
	kept := p.roots.Kept(0) // by every generation
	end := kept
	for ; ; end++ {
		if e, err := p.loadEdition(end); err != nil {
			return err
		} else if e == nil {
			break
		}
	}
	for n := end; n > kept; n-- {
		e, err := p.loadEdition(n - 1)
		if err != nil {
			return err
		}
		if !p.leftOut(n-1, e.generation) {
			return nil
		}
		if err := p.moveAside(n-1, e.generation); err != nil {
			return err
		}
	}
	return nil
}

// moveAside moves edition n, which a generation of the log made, to leftOutDir.
func (p *Publisher) moveAside(n, generation uint64) error {
	dir := filepath.Join(p.dir, "editions", leftOutDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	prefix := fmt.Sprintf("%d-", generation)
	for again := 2; slices.ContainsFunc(there, func(f os.DirEntry) bool { // nothing that lies there is overwritten
		return strings.HasPrefix(f.Name(), fmt.Sprintf("%s%d.", prefix, n))
	}); again++ {
		prefix = fmt.Sprintf("%d-%d-", generation, again)
	}
	for _, name := range []string{p.carName(n), p.jsonName(n)} { // without its .car an edition is none
		if err := os.Rename(name, filepath.Join(dir, prefix+filepath.Base(name))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Join(p.dir, "editions")))
}

// holdsEnded is Holds for a target whose newest head is of a generation of the log
// that has ended: as many editions as it has in common with us, if that can be told,
// else all that every generation since has kept. What goes beyond is left out, whoever
// has signed it.
func (p *Publisher) holdsEnded(raw []byte) (uint64, error) {
	head, good, err := p.roots.Ended(raw)
	if err != nil {
		return 0, err
	}
	if good && head.Size <= p.Size() && channel.TreeHash(slices.Values(p.history(head.Size).Leaves())) == head.Tree {
		return head.Size, nil
	}
	return min(p.roots.Kept(head.Generation), p.Size()), nil
}

// Unsaid reports whether the log key in force has signed nothing yet: readers don't
// know of it before the next edition.
func (p *Publisher) Unsaid() bool {
	n := len(p.editions)
	return n > 0 && p.editions[n-1].generation < p.roots.Last().Log.Generation
}

var errUnsaid = errors.New("the new log key has signed nothing yet, so nobody knows of it; run mirror-publish pack first, also without news")

package publisher

import (
	"context"
	"errors"
	"fmt"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// A head under a root note that is not here may be the channel's own: another machine has
// made the note, and the editions under it. But whoever can write to a target can claim
// that of any head. So the notes are read where the head was, and what verifies counts.

// ErrOtherRoots: a target holds a root note under a number that is another one's here: the
// root keys have signed two. Each reader believes the one that he heard of first.
var ErrOtherRoots = errors.New("it holds another root note than this folder under the same number; was this folder copied? go on in the copy that made it, and put no root note in place here; if nobody of yours made it, somebody has the root keys")

// errUnproven: a head claims a newer root note, and nothing there bears it out.
var errUnproven = errors.New("its head needs a root note that is not in this folder, and what is there does not prove it: it was damaged or forged, or the target can't be read back just now")

// notesIn is where a target's root notes can be read.
type notesIn struct {
	noter
	close func() error
}

type noter interface {
	RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error)
}

// readNotes opens the target for reading its root notes.
func (t Target) readNotes(ctx context.Context) (*notesIn, error) {
	if f, ok := t.Publisher.(file.Folder); ok {
		s, err := file.Open(f.Dir)
		if err != nil {
			return nil, err
		}
		return &notesIn{s, func() error { return nil }}, nil
	}
	if t.notes == nil {
		return nil, errWriteOnly
	}
	return t.notes(ctx)
}

// notesOf is Target.notes of what publisher.toml says. A zone has them, too, though no
// whole editions.
func (p *Publisher) notesOf(network transport.Network, t TargetConfig) func(context.Context) (*notesIn, error) {
	return func(ctx context.Context) (*notesIn, error) {
		if t.DNS != "" {
			h, err := p.openHosted(network, t)
			if err != nil {
				return nil, err
			}
			return &notesIn{h.up, h.Close}, nil
		}
		from, err := p.readBack(ctx, network, t)
		if err != nil {
			return nil, err
		}
		return &notesIn{from.heads, from.close}, nil
	}
}

// notesAt are the root notes of a target, verified from the channel's first one on: as many
// as are enough, or all that are there.
func (p *Publisher) notesAt(ctx context.Context, from noter, enough func(*channel.Roots) bool) (*channel.Roots, error) {
	roots, err := channel.ParseRoots(p.Channel(), p.notes[:1])
	for err == nil && roots.Version() < maxRecoveredNotes && !enough(roots) {
		var note []byte
		note, err = from.RootNote(ctx, p.Channel(), roots.Version()+1)
		if errors.Is(err, transport.ErrNotFound) {
			return roots, nil
		}
		if err == nil {
			roots, err = roots.Extend(note)
		}
	}
	return roots, err
}

// noteHash is the hash of one note of a chain.
func noteHash(r *channel.Roots, version uint64) ([32]byte, error) {
	upTo, err := channel.ParseRoots(r.Channel(), r.Notes()[:version])
	if err != nil {
		return [32]byte{}, err
	}
	return upTo.Last().Hash(), nil
}

// follows returns ErrOtherRoots unless two chains are one, as far as both go: each note
// holds the hash of the one before.
func (p *Publisher) follows(theirs *channel.Roots) error {
	n := min(theirs.Version(), p.roots.Version())
	a, err := noteHash(theirs, n)
	if err != nil {
		return err
	}
	b, err := noteHash(p.roots, n)
	if err == nil && a != b {
		err = ErrOtherRoots
	}
	return err
}

// newerHead judges a head that needs a root note which is not here, by those that the
// target itself holds: ErrAhead or ErrOtherRoots if it verifies under them, else
// errUnproven.
func (p *Publisher) newerHead(ctx context.Context, read func(context.Context) (*notesIn, error), raw []byte) error {
	ctx, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	from, err := read(ctx)
	if err != nil {
		return unproven(err)
	}
	defer func() { _ = from.close() }() // it only read
	theirs, err := p.notesAt(ctx, from, func(r *channel.Roots) bool {
		_, err := r.Head(raw)
		return !errors.Is(err, channel.ErrNewerRoots)
	})
	if err == nil {
		_, err = theirs.Head(raw)
	}
	if err != nil {
		return unproven(err)
	}
	if err := p.follows(theirs); err != nil {
		return err
	}
	return ErrAhead
}

// unproven says why, and is no refusal: asking again may help.
func unproven(why error) error { return fmt.Errorf("%w: %s", errUnproven, why.Error()) }

// CheckRoots asks all targets, for a few seconds at most, whether one holds another root
// note than the folder's, or a newer one than next, which is to be put in place: the root
// keys would have signed two under one number, and each reader would go on believing the
// one that he heard of first. Of those in doubts it is not known.
func (p *Publisher) CheckRoots(ctx context.Context, targets []Target, next *channel.Draft) (doubts []error, err error) {
	return p.askAll(ctx, targets, func(ctx context.Context, t Target) error {
		if t.Witness {
			return nil // it holds none
		}
		from, err := t.readNotes(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = from.close() }() // it only read
		theirs, err := p.notesAt(ctx, from, func(*channel.Roots) bool { return false })
		if err != nil {
			return err
		}
		if err := p.follows(theirs); err != nil || theirs.Version() <= p.roots.Version() {
			return err
		}
		if theirs.Version() > next.Note.Version || theirs.Last().Hash() != next.Note.Hash() {
			return ErrOtherRoots
		}
		return nil
	})
}

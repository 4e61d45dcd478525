package relay

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"tamizdat/bundle/channel"
)

// Whoever has a copy of a publisher's folder from before its root keys went elsewhere,
// or those keys, can sign another root note 2 than the publisher, with another log key
// in it, and each is as good as the other. A relay goes by the one that it saw first:
// what comes with another is refused, and nothing that is held goes for it. It remembers
// that apart from editions, so that they may go, and for the whole of a fleet.

// notesFile is a channel's chain, beside its editions.
const notesFile = "root.notes"

// maxChain bounds it in bytes.
const maxChain = maxNotes * (2*len(channel.Hash{}) + 1)

// chain is a channel's root notes from the first one on, each by the SHA-256 of its
// text: who has signed it is another matter. It is immutable.
type chain []channel.Hash

func chainOf(roots *channel.Roots) (c chain) {
	for _, note := range roots.Notes() {
		id, _ := channel.FoundedBy(note) // that hash, of whichever note
		c = append(c, channel.Hash(id))
	}
	return c
}

// forks is the first version of which c and o have another note each, 0 if one of them
// begins with the other.
func (c chain) forks(o chain) int {
	for i := range min(len(c), len(o)) {
		if c[i] != o[i] {
			return i + 1
		}
	}
	return 0
}

// with is o if that goes on from c, else c.
func (c chain) with(o chain) chain {
	if len(o) > len(c) && c.forks(o) == 0 {
		return o
	}
	return c
}

func (c chain) marshal() (b []byte) {
	for _, h := range c {
		b = append(hex.AppendEncode(b, h[:]), '\n')
	}
	return b
}

var errChain = errors.New("torn, or of another channel")

func parseChain(ch channel.ID, b []byte) (c chain, err error) {
	for line := range bytes.Lines(b) {
		var h channel.Hash
		if len(line) != 2*len(h)+1 {
			return nil, errChain
		}
		if _, err := hex.Decode(h[:], line[:2*len(h)]); err != nil {
			return nil, errChain
		}
		c = append(c, h)
	}
	if len(c) == 0 || c[0] != channel.Hash(ch) || !bytes.Equal(c.marshal(), b) {
		return nil, errChain
	}
	return c, nil
}

// chain is that of a channel, nil if nothing was held of it yet.
func (s *Store) chain(ch channel.ID) chain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sh, ok := s.shelves[ch]; ok {
		return sh.chain
	}
	return nil
}

// loadChain is what is stored of it, nil if nothing is: the relay knew no chains then,
// or there was one note only. One that is damaged is as none.
func (s *Store) loadChain(ctx context.Context, ch channel.ID) (chain, error) {
	raw, err := s.kept.load(ctx, s.kept.at(ch, notesFile), int64(maxChain))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("root notes: %w", err)
	}
	c, err := parseChain(ch, raw)
	if err != nil {
		s.log.Error("the stored list of root notes is not used; the newest edition's are", "err", err)
		return nil, nil
	}
	return c, nil
}

// errTurned: another relay of the fleet was first. The upload may be tried again, and
// is judged by that one's notes then.
var errTurned = errors.New("other root notes of the channel have come to this fleet meanwhile")

// bind makes the root notes of an edition that is about to be stored the channel's,
// durably, and for the whole fleet.
func (s *Store) bind(ctx context.Context, ch channel.ID, e *edition) error {
	kept, err := s.loadChain(ctx, ch)
	if err != nil {
		return err
	}
	if kept.forks(s.chain(ch)) > 0 || kept.forks(e.chain) > 0 {
		return errTurned
	}
	if c := kept.with(s.chain(ch)).with(e.chain); len(c) > 1 && len(c) > len(kept) {
		return s.kept.save(ctx, s.kept.at(ch, notesFile), c.marshal())
	}
	return nil
}

// bound sees that they still are when the edition is stored, which may take minutes.
func (s *Store) bound(ctx context.Context, ch channel.ID, e *edition) error {
	if !s.kept.shared() {
		return nil
	}
	kept, err := s.loadChain(ctx, ch)
	if err == nil && kept.forks(e.chain) > 0 {
		err = errTurned
	}
	return err
}

// refreshChain takes over a channel's chain if another relay of the fleet has stored a
// longer one, or another one, which then counts for all.
func (s *Store) refreshChain(ctx context.Context, ch channel.ID, o object) error {
	if o.file == "" || s.chains[ch] == o.tag {
		return nil
	}
	kept, err := s.loadChain(ctx, ch)
	if err != nil {
		return err
	}
	s.chains[ch] = o.tag
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelf(ch)
	if n := sh.chain.forks(kept); n > 0 {
		s.log.Error("another relay of the fleet holds the channel to another root note; so does this one from now on", "version", n)
		s.turn(ch, sh, kept)
	}
	sh.chain = sh.chain.with(kept)
	return nil
}

// turn gives a channel another chain; s.mu and s.refreshing are held. What is of keys
// that count no more is read again, and so is what was left aside.
func (s *Store) turn(ch channel.ID, sh *shelf, c chain) {
	sh.chain, sh.ipns, sh.packet, sh.denied = c, nil, nil, nil
	delete(s.records, ch)
	delete(s.lists, ch)
	clear(s.damaged)
}

// beginAnew forgets the chain of a channel of which nothing is left, nor has come since:
// the volunteer has removed it all.
func (s *Store) beginAnew(ch channel.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.shelf(ch); sh.chain != nil && len(sh.editions) == 0 {
		s.turn(ch, sh, nil)
		delete(s.chains, ch)
	}
}

// along are those editions whose root notes are of c; the others stay where they are.
func (s *Store) along(c chain, es []*edition) (out []*edition) {
	for _, e := range es {
		if n := c.forks(e.chain); n > 0 {
			s.log.Warn("a stored edition comes with another root note than is held: it is not served", "edition", e.head.Edition, "version", n)
			continue
		}
		out = append(out, e)
	}
	return out
}

package sync

import (
	"context"
	"time"

	"tamizdat/bundle/channel"
)

// A new generation of the channel's log answers a stolen log key (bundle/channel).
// What the old key has signed beyond the tree that the new one began with is taken
// back: from the library, from what this sync has heard and shown, and from what is
// remembered of paths. Then it is as if the sync began now.

// generation is that of the log key in force, 0 before the first root note.
func generation(roots *channel.Roots) uint64 {
	if roots.Version() == 0 {
		return 0
	}
	return roots.Last().Log.Generation
}

// beginAnew forgets what was heard, shown and planned of generations that have ended.
func (s *session) beginAnew() {
	s.turns++
	s.targets, s.working, s.shown, s.front, s.done = nil, nil, nil, nil, false
	s.held, s.before = s.view.Size(), s.view.Clone()
	s.res.Head, s.first = s.view.Head(), time.Time{}
	s.asks.anew(s.held)
	s.forgetHeads = true
	for _, a := range s.list {
		if a.head == nil {
			continue
		}
		a.head = nil
		if r := s.report(a.Path); r.State != stateLied {
			*r = PathReport{Name: r.Name, Kind: r.Kind, Source: r.Source, State: r.State, Error: laggard, Blocks: r.Blocks, Bytes: r.Bytes, At: r.At}
		}
	}
}

// withdraw takes what a new generation has left out from the library, if there is
// such, durably; the view is to be stored after it.
func (s *session) withdraw(ctx context.Context) error {
	first, ok := s.view.Withdrawn()
	if !ok {
		return nil
	}
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	var forged []uint64 // or not, but nobody else has vouched for them
	for n, info := range known {
		if n < first && info.By >= first {
			forged = append(forged, n)
		}
	}
	gone, err := s.Library.Withdraw(ctx, s.ch, first, forged...)
	if err != nil {
		return err
	}
	for n, info := range known {
		if n >= first || info.By >= first {
			delete(known, n)
			continue
		}
		// What those have said to be gone or replaced comes again, with its pictures.
		info.Front, info.Images = false, false
		known[n] = info
	}
	if err := storeEditions(ctx, s.Library, s.ch, known); err != nil {
		return err
	}
	s.view.Withdrew()
	if !s.res.Fork { // of a fork people are told
		s.res.Withdrawn += gone
	}
	s.log.Warn("another history of the channel is the true one: what came of ours is taken back", "articles", gone)
	return nil
}

// replace holds a head of a new generation whose history is another one than ours,
// which its whole log has to show.
func (s *session) replace(ctx context.Context, target *channel.Head, hashes func() ([]channel.Hash, error)) error {
	all, err := hashes()
	if err != nil {
		return err
	}
	if err := s.view.Replace(target, all); err != nil {
		return err
	}
	s.before = s.view.Clone()
	return s.withdraw(ctx)
}

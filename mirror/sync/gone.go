package sync

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// changes counts the articles of the library that a front page takes back, and
// those that it has a corrected text of.
func (s *session) changes(ctx context.Context, f *bundle.Front) (gone, corrected int, err error) {
	// older tells whether an article is here, and of an edition before that one.
	older := func(id string, edition uint64) (bool, error) {
		h, err := s.Library.Headline(ctx, s.ch, id)
		if errors.Is(err, transport.ErrNotFound) {
			return false, nil
		}
		return err == nil && h.Edition < edition, err
	}
	for _, id := range f.Gone {
		was, err := older(id, f.Edition)
		if err != nil {
			return 0, 0, err
		}
		if was {
			gone++
		}
	}
	for _, e := range f.Articles {
		if e.Corrected.IsZero() {
			continue
		}
		was, err := older(e.ID, e.Edition)
		if err != nil {
			return 0, 0, err
		}
		if was {
			corrected++
		}
	}
	return gone, corrected, nil
}

// sweep drops the blocks of articles that were taken back or corrected, as far as
// no other article lies in them. Who is killed before it has the library say again
// what is loose.
func (s *session) sweep(ctx context.Context, known map[uint64]editionInfo) error {
	loose, err := s.Library.Loose(ctx, s.ch)
	if err != nil || len(loose) == 0 {
		return err
	}
	of := map[uint64][]bundle.Entry{}
	for _, e := range loose {
		of[e.Edition] = append(of[e.Edition], e)
	}
	left := map[uint64][]bundle.Entry{}
	for h, err := range s.Library.Headlines(ctx, library.Query{Channel: s.ch}) {
		if err != nil {
			return err
		}
		if of[h.Edition] != nil {
			left[h.Edition] = append(left[h.Edition], h.Entry)
		}
	}
	for edition, gone := range of {
		var drop []cid.Cid
		// Of an edition that is not known any more (keepEditions), or whose directory is
		// not here, nobody can tell which blocks lie where, nor which of them is a
		// dictionary that others need. What came of it stays, encrypted as it came, and
		// nothing here opens it; it goes with the channel.
		if info, ok := known[edition]; ok {
			if drop, err = s.freed(ctx, info, gone, left[edition]); err != nil {
				return err
			}
		}
		if err := s.Library.DropLoose(ctx, s.ch, edition, drop); err != nil {
			return err
		}
	}
	return nil
}

// freed lists the blocks of an edition in which articles lie that are gone, and none
// of those that are left.
func (s *session) freed(ctx context.Context, info editionInfo, gone, left []bundle.Entry) (free []cid.Cid, err error) {
	vol, err := s.volume(ctx, info)
	if err != nil {
		return nil, nil //nolint:nilerr // no key: nothing of it can be read
	}
	blocks, err := vol.Freed(gone, left)
	if errors.Is(err, bundle.ErrBlock) || errors.Is(err, bundle.ErrLayer) {
		return nil, nil // it was packed wrongly, and would be each time
	}
	for _, w := range blocks {
		free = append(free, w.CID)
	}
	return free, err
}

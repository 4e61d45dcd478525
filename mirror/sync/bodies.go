package sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// wide reports whether a path that carries everything answered in this sync.
func (s *session) wide() bool {
	return slices.ContainsFunc(s.paths, func(p transport.Path) bool { return !p.Hints.Text && s.report(p).State == stateOK })
}

// rest brings what this reader does not need itself (log, root notes, grants of
// other batches), so that the edition can be handed on whole. It is a favour to
// others: no failure of it is one of the sync.
func (s *session) rest(ctx context.Context, target *channel.Head) error {
	if !s.wide() {
		return nil // not worth waiting for a wide path that may never answer
	}
	info := editionInfo{Number: target.Edition, Epoch: target.Epoch, Root: target.Root.String()}
	vol, err := s.volume(ctx, info)
	if err != nil {
		return err
	}
	err = s.until(ctx, "rest", info.edition(s.ch), func() error {
		return vol.Walk(func(bundle.Want, []byte) error { return nil })
	})
	if errors.Is(err, ErrIncomplete) {
		return nil
	}
	return err
}

// bodies brings texts or images of all headlines in the library whose edition is
// known, edition by edition, newest first. An edition that can't be had doesn't
// keep the others.
func (s *session) bodies(ctx context.Context, stage string, one func(context.Context, *bundle.Volume, []bundle.Entry) error) error {
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	byEdition := map[uint64][]bundle.Entry{}
	for h, err := range s.Library.Headlines(ctx, library.Query{Channel: s.ch}) {
		if err != nil {
			return err
		}
		if stage == "text" && !h.Text || stage == "images" && len(h.Images) > 0 && !known[h.Edition].Images {
			byEdition[h.Edition] = append(byEdition[h.Edition], h.Entry)
		}
	}
	numbers := slices.Sorted(maps.Keys(byEdition))
	slices.Reverse(numbers)
	var failed []error
	for _, n := range numbers {
		info, ok := known[n]
		if !ok {
			continue
		}
		vol, err := s.volume(ctx, info)
		if err != nil {
			failed = append(failed, err) // an epoch from before our invite
			continue
		}
		err = s.until(ctx, stage, info.edition(s.ch), func() error { return one(ctx, vol, byEdition[n]) })
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("edition %d: %w", n, err))
			continue
		}
		if stage == "images" {
			info.Images = true
			if err := saveEdition(ctx, s.Library, s.ch, info, nil); err != nil {
				return err
			}
		}
	}
	return oneLine(failed...)
}

// text opens each article's text and puts it into the search index.
func (s *session) text(ctx context.Context, vol *bundle.Volume, entries []bundle.Entry) error {
	all := &bundle.MissingError{}
	for i := range entries {
		e := &entries[i]
		h, err := s.Library.Headline(ctx, s.ch, e.ID)
		if errors.Is(err, transport.ErrNotFound) || h.Text {
			continue
		}
		if err != nil {
			return err
		}
		a, err := vol.Article(e)
		if collect(all, err) {
			continue
		}
		if err != nil {
			s.log.Warn("article does not open", "edition", e.Edition, "error", err)
			continue
		}
		if err := s.Library.IndexText(ctx, s.ch, e.ID, safehtml.Text(a.Body)); err != nil && !errors.Is(err, transport.ErrNotFound) {
			return err
		}
		s.res.Articles++
	}
	return wantsOf(all)
}

// images makes sure that each article's pictures are in the library.
func (s *session) images(_ context.Context, vol *bundle.Volume, entries []bundle.Entry) error {
	all := &bundle.MissingError{}
	for i := range entries {
		e := &entries[i]
		for j := range e.Images {
			_, err := vol.Image(e, j)
			if !collect(all, err) && err != nil {
				s.log.Warn("image does not open", "edition", e.Edition, "error", err)
			}
		}
	}
	return wantsOf(all)
}

// collect adds what err says is missing, and reports whether it did.
func collect(all *bundle.MissingError, err error) bool {
	var m *bundle.MissingError
	if !errors.As(err, &m) {
		return false
	}
	for _, w := range m.Wants {
		if !slices.ContainsFunc(all.Wants, func(o bundle.Want) bool { return o.CID.Equals(w.CID) }) {
			all.Wants = append(all.Wants, w)
		}
	}
	return true
}

func wantsOf(all *bundle.MissingError) error {
	if len(all.Wants) == 0 {
		return nil
	}
	return all
}

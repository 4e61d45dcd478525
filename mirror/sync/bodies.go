package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	info := infoOf(target)
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
// known, the newest edition first, and before all else what is in the reader's
// languages. An edition that can't be had doesn't keep the others.
func (s *session) bodies(ctx context.Context, stage string, one func(context.Context, *bundle.Volume, []bundle.Entry) error) error {
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	type part struct {
		edition uint64
		urgent  bool
	}
	parts := map[part][]bundle.Entry{}
	for h, err := range s.Library.Headlines(ctx, library.Query{Channel: s.ch}) {
		if err != nil {
			return err
		}
		if stage == "text" && !h.Text || stage == "images" && len(h.Images) > 0 && !known[h.Edition].Images {
			p := part{h.Edition, s.speaks(h.Lang)}
			parts[p] = append(parts[p], h.Entry)
		}
	}
	order := slices.SortedFunc(maps.Keys(parts), func(a, b part) int {
		if a.urgent != b.urgent {
			if a.urgent {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.edition, a.edition)
	})
	var failed []error
	var jobs []*job
	whole := map[uint64]bool{}
	for _, p := range order {
		info, ok := known[p.edition]
		if !ok {
			continue
		}
		vol, err := s.volume(ctx, info)
		if err != nil {
			failed = append(failed, err) // an epoch from before our invite
			continue
		}
		whole[p.edition] = true
		jobs = append(jobs, &job{ed: info.edition(s.ch), urgent: p.urgent, try: func() error { return one(ctx, vol, parts[p]) }})
	}
	if err := s.fetch(ctx, stage, jobs); err != nil {
		return err
	}
	for _, j := range jobs {
		if j.err != nil {
			whole[j.ed.Number] = false
			failed = append(failed, fmt.Errorf("edition %d: %w", j.ed.Number, j.err))
		}
	}
	if stage == "images" {
		for _, n := range slices.Sorted(maps.Keys(whole)) {
			if info := known[n]; whole[n] {
				info.Images = true
				if err := saveEdition(ctx, s.Library, s.ch, info, nil); err != nil {
					return err
				}
			}
		}
	}
	return oneLine(failed...)
}

// speaks reports whether a language is one of the reader's: the same, or of
// another region or script.
func (s *session) speaks(lang string) bool {
	base := func(l string) string { l, _, _ = strings.Cut(strings.ToLower(l), "-"); return l }
	return slices.ContainsFunc(s.Langs, func(l string) bool { return base(l) == base(lang) })
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

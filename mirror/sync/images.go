package sync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Images fetches the pictures of one article whose headline is here, and nothing
// else, whatever Budget.TextOnly says: somebody asked for them. Nobody is asked
// what is newest, so the result's Answered is 0, and no path that lacks them is
// reported as failed. The result is never nil. Errors wrap ErrNoPath,
// ErrIncomplete or ErrBudget, transport.ErrNotFound if there is no such headline,
// or are the library's own.
//
// It may be cancelled at any point, and goes on where it was the next time.
func (e *Engine) Images(ctx context.Context, ch channel.ID, id string) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(e, ch)
	err := s.purse.failure(s.pictures(ctx, id))
	s.finish()
	s.res.Unreached = true
	for _, p := range s.paths {
		r := s.report(p)
		s.res.Unreached = s.res.Unreached && r.Bytes == 0
		s.res.Paths = append(s.res.Paths, *r)
	}
	if note := s.savePictures(ctx); err == nil {
		err = note
	}
	return s.res, err
}

// pictures is the work of Images.
func (s *session) pictures(ctx context.Context, id string) (err error) {
	h, err := s.Library.Headline(ctx, s.ch, id)
	if err != nil {
		return err
	}
	if s.view, err = View(ctx, s.Library, s.ch); err != nil {
		return err
	}
	s.res.Head = s.view.Head()
	if s.memory, err = loadMemory(ctx, s.Library, s.ch, s.Network); err != nil {
		return err
	}
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	s.findPaths()
	s.trusted()
	s.tell("images", 0, 0)
	s.asks = newAsks(&s.purse, s.view.Size(), ctx.Done()) // nobody is asked
	p := &plan{session: s, ctx: ctx, known: known}
	jobs := p.parts("images", []bundle.Entry{h.Entry})
	if len(jobs) == 0 {
		return oneLine(append([]error{fmt.Errorf("%w: this article's edition can't be opened", ErrIncomplete)}, p.failed...)...)
	}
	if err := s.fetch(ctx, "images", jobs, nil); err != nil {
		return err
	}
	for _, j := range jobs {
		if j.err != nil {
			return j.err
		}
	}
	s.res.ToImages = time.Since(s.start)
	s.delivered("images")
	return nil
}

// trusted leaves out the paths that lied lately, and those that carry no blocks,
// unless no other is left.
func (s *session) trusted() {
	paths := slices.DeleteFunc(slices.Clone(s.paths), func(p transport.Path) bool {
		return p.Blocks == nil || p.Hints.Text || s.memory.path(p.Name).lately(s.now())
	})
	if len(paths) > 0 {
		s.paths = paths
	}
}

// savePictures reports who brought something or lied. Who did not may have a
// full disk: that says nothing of whether anybody can be reached.
func (s *session) savePictures(ctx context.Context) error {
	if len(s.paths) == 0 {
		return nil
	}
	old, err := Reports(context.WithoutCancel(ctx), s.Library, s.ch)
	if err != nil {
		return err
	}
	all := slices.Clone(s.res.Paths)
	for i := range all {
		switch r := &all[i]; {
		case r.State == stateLied:
		case r.Bytes > 0:
			r.State, r.Error = stateOK, ""
		default:
			r.State = stateIdle
		}
	}
	for _, o := range old { // those that were left out
		if !slices.ContainsFunc(all, func(r PathReport) bool { return r.Name == o.Name }) {
			o.State = stateIdle // as it was
			all = append(all, o)
		}
	}
	return s.storeReports(context.WithoutCancel(ctx), all)
}

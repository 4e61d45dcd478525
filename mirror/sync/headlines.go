package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// older plans the front pages of older editions of the window that this reader
// has missed: their headlines may have found no room in the newest one. What
// they add is fetched too. Over narrow paths it is not worth it.
func (p *plan) older() (jobs []*job) {
	if !p.wide() {
		return nil
	}
	for _, past := range slices.Backward(p.front.Past) {
		info, ok := p.known[past.Edition]
		if !ok || info.Front {
			continue
		}
		vol, err := p.volume(p.ctx, info)
		if errors.Is(err, ErrNoKey) {
			continue // of an epoch before our invite
		}
		ed := info.edition(p.ch)
		if err == nil && past.Front != nil {
			ed.Names[bundle.LayerFront], err = past.Front.Record()
		}
		if err != nil {
			p.failed = append(p.failed, fmt.Errorf("edition %d: %w", past.Edition, err))
			continue
		}
		var f *bundle.Front
		jobs = append(jobs, &job{
			ed: ed, stage: "headlines", rank: rankOlder,
			try:  func() (err error) { f, err = vol.Front(); return err },
			then: func() ([]*job, error) { return p.olderFront(info, f) },
		})
	}
	return p.add(jobs)
}

// olderFront takes in one of them, and plans what it adds.
func (p *plan) olderFront(info editionInfo, f *bundle.Front) ([]*job, error) {
	var added []bundle.Entry
	for _, e := range f.Articles {
		switch _, err := p.Library.Headline(p.ctx, p.ch, e.ID); {
		case errors.Is(err, transport.ErrNotFound):
			added = append(added, e)
		case err != nil:
			return nil, err
		}
	}
	if err := p.Library.SetFront(p.ctx, p.ch, f); err != nil {
		return nil, err
	}
	if err := saveEdition(p.ctx, p.Library, p.ch, info, f); err != nil {
		return nil, err
	}
	p.known[info.Number] = info.with(f)
	jobs := p.parts("text", added)
	if p.Budget.TextOnly {
		return jobs, nil
	}
	return append(jobs, p.parts("images", added)...), nil
}

// infoOf is what a head says about its edition.
func infoOf(h *channel.Head) editionInfo {
	return editionInfo{Number: h.Edition, Epoch: h.Epoch, Root: h.Root.String()}
}

// frontOf fetches and stores the front page of target, after which target is
// held for good even if it was provisional.
func (s *session) frontOf(ctx context.Context, target *channel.Head) (*bundle.Front, error) {
	info := infoOf(target)
	vol, err := s.volume(ctx, info)
	if err != nil {
		return nil, err
	}
	ed := info.edition(s.ch)
	ed.Names[bundle.LayerFront] = target.Front
	var f *bundle.Front
	if err := s.until(ctx, "headlines", ed, func() (err error) { f, err = vol.Front(); return err }); err != nil {
		return nil, err
	}
	if target.Size > s.view.Size() {
		if err := s.fold(ctx, target, f, vol, ed); err != nil {
			return nil, err
		}
	}
	// A poll that finds nothing new writes nothing.
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return nil, err
	}
	if old := known[target.Edition]; old.Front && old.Root == info.Root {
		return f, nil
	}
	if err := s.Library.SetFront(ctx, s.ch, f); err != nil {
		return nil, err
	}
	return f, saveEditions(ctx, s.Library, s.ch, target, f)
}

// fold makes a provisional head ours, or finds the fork.
func (s *session) fold(ctx context.Context, target *channel.Head, f *bundle.Front, vol *bundle.Volume, ed transport.Edition) error {
	from := s.view.Size()
	first, hs, err := f.Hashes()
	if err != nil {
		return err
	}
	if first > from {
		if f.Log != nil {
			if ed.Names[bundle.LayerLog], err = f.Log.Record(); err != nil {
				return err
			}
		}
		first = from
		if err := s.until(ctx, "headlines", ed, func() (err error) { hs, err = vol.Hashes(from); return err }); err != nil {
			return err
		}
	}
	err = s.view.Fold(target, hs[min(from-first, uint64(len(hs))):])
	if errors.Is(err, channel.ErrFork) {
		s.res.Fork = true
	}
	if err == nil {
		s.res.New, s.res.Head = true, target
	}
	return oneLine(err, s.saveState(ctx))
}

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

// older plans the front pages of older editions of the window that hold headlines
// this reader has not: those that found no room in the newest one. What they add
// is fetched too. Over narrow paths it is not worth it.
//
// Each of them repeats many of the next one's headlines, about as many editions'
// as the newest one does. So only as many are asked for at first as it takes to
// cover the window if all are like the newest; see uncovered.
func (p *plan) older() (jobs []*job) {
	if !p.wide() {
		return nil
	}
	span := p.span()
	covered := 0
	for _, past := range slices.Backward(p.front.Past) {
		info, ok := p.known[past.Edition]
		if !ok || info.Front || p.asked[past.Edition] || past.Articles > 0 && p.held[past.Edition] >= past.Articles {
			continue
		}
		if covered > 0 && past.Articles > 0 { // by the one before, it is hoped
			covered--
			p.hoped = true
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
		p.asked[past.Edition] = true
		if err != nil {
			p.failed = append(p.failed, fmt.Errorf("edition %d: %w", past.Edition, err))
			continue
		}
		covered = span - 1
		var f *bundle.Front
		jobs = append(jobs, &job{
			ed: ed, stage: "headlines", rank: rankOlder,
			try:  func() (err error) { f, err = vol.Front(); return err },
			then: func() ([]*job, error) { return p.olderFront(info, f) },
		})
	}
	return p.add(jobs)
}

// span is how many editions the newest front page holds all headlines of.
func (p *plan) span() int {
	if p.hoped {
		return 1 // hope was not enough
	}
	on := map[uint64]int{}
	for i := range p.front.Articles {
		on[p.front.Articles[i].Edition]++
	}
	n := 1
	for _, past := range p.front.Past {
		if past.Articles > 0 && on[past.Edition] >= past.Articles {
			n++
		}
	}
	return n
}

// uncovered plans the front pages that were hoped to be covered by others and
// are not, once those are here or can't be had.
func (p *plan) uncovered() []*job {
	if !p.hoped || slices.ContainsFunc(p.jobs, func(j *job) bool { return j.rank == rankOlder && !j.done }) {
		return nil
	}
	jobs := p.older()
	p.hoped = false
	return jobs
}

// olderFront takes in one of them, and plans what it adds.
func (p *plan) olderFront(info editionInfo, f *bundle.Front) ([]*job, error) {
	var fresh, added []bundle.Entry
	for _, e := range f.Articles {
		switch _, err := p.Library.Headline(p.ctx, p.ch, e.ID); {
		case errors.Is(err, transport.ErrNotFound):
			fresh = append(fresh, e)
		case err != nil:
			return nil, err
		}
	}
	if err := p.Library.SetFront(p.ctx, p.ch, f); err != nil {
		return nil, err
	}
	for _, e := range fresh {
		switch _, err := p.Library.Headline(p.ctx, p.ch, e.ID); {
		case err == nil:
			added = append(added, e)
			p.held[e.Edition]++
		case !errors.Is(err, transport.ErrNotFound): // else it was taken back since
			return nil, err
		}
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
	if target.Generation < generation(s.view.Roots()) && target.Size > s.view.Size() {
		return nil, channel.ErrOldRoots
	}
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
		err = s.fold(ctx, target, f, vol, ed)
	} else {
		err = s.stillOurs(ctx, target)
	}
	if err != nil {
		return nil, err
	}
	// A poll that finds nothing new writes nothing.
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return nil, err
	}
	if old := known[target.Edition]; old.Front && old.Root == info.Root {
		return f, nil
	}
	gone, corrected, err := s.changes(ctx, f)
	if err != nil {
		return nil, err
	}
	if err := s.Library.SetFront(ctx, s.ch, f); err != nil {
		return nil, err
	}
	s.res.Gone += gone
	s.res.Corrected += corrected
	return f, saveEditions(ctx, s.Library, s.ch, target, f)
}

// stillOurs looks at a head again whose front page has come: meanwhile others may have
// brought the history that we hold to its size, and beyond, and it may be another one.
func (s *session) stillOurs(ctx context.Context, target *channel.Head) error {
	switch s.view.Consider(target) {
	case channel.Fork:
		s.changed, s.res.Fork = true, true
		return oneLine(channel.ErrFork, s.saveState(ctx))
	case channel.Overruled:
		s.overruled(target, nil)
		return s.saveState(ctx)
	default:
		return nil
	}
}

// fold makes a provisional head ours, or finds the fork.
func (s *session) fold(ctx context.Context, target *channel.Head, f *bundle.Front, vol *bundle.Volume, ed transport.Edition) error {
	from := s.view.Size()
	first, hs, err := f.Hashes()
	if err != nil {
		return err
	}
	if f.Log != nil {
		if ed.Names[bundle.LayerLog], err = f.Log.Record(); err != nil {
			return err
		}
	}
	log := func(from uint64) (hs []channel.Hash, err error) {
		err = s.until(ctx, "headlines", ed, func() (err error) { hs, err = vol.Hashes(from); return err })
		return hs, err
	}
	if first > from {
		first = from
		if hs, err = log(from); err != nil {
			return err
		}
	}
	err = s.view.Fold(target, hs[min(from-first, uint64(len(hs))):])
	switch {
	case errors.Is(err, channel.ErrBegunAnew):
		err = s.replace(ctx, target, func() ([]channel.Hash, error) { return log(0) })
	case errors.Is(err, channel.ErrOverruled):
		s.overruled(target, nil)
		err = nil
	case errors.Is(err, channel.ErrFork):
		s.res.Fork = true
	}
	if err == nil {
		s.res.New, s.res.Head = true, target
	}
	return oneLine(err, s.saveState(ctx))
}

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

// older takes in the front pages of older editions of the window that this
// reader has missed: their headlines may have found no room in the newest one.
// Over narrow paths it is not worth it.
func (s *session) older(ctx context.Context, front *bundle.Front) error {
	if !s.wide() {
		return nil
	}
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range slices.Backward(front.Past) {
		info, ok := known[p.Edition]
		if !ok || info.Front {
			continue
		}
		if err := s.olderFront(ctx, info, p); err != nil {
			if ctx.Err() != nil || errors.Is(err, errTurned) || errors.Is(err, ErrBudget) {
				return err
			}
			failed = append(failed, fmt.Errorf("edition %d: %w", p.Edition, err))
		}
	}
	return oneLine(append(failed, s.bodies(ctx, "text", s.text))...)
}

func (s *session) olderFront(ctx context.Context, info editionInfo, p bundle.Past) error {
	vol, err := s.volume(ctx, info)
	if errors.Is(err, ErrNoKey) {
		return nil // of an epoch before our invite
	}
	if err != nil {
		return err
	}
	ed := info.edition(s.ch)
	if p.Front != nil {
		if ed.Names[bundle.LayerFront], err = p.Front.Record(); err != nil {
			return err
		}
	}
	var f *bundle.Front
	if err := s.until(ctx, "headlines", ed, func() (err error) { f, err = vol.Front(); return err }); err != nil {
		return err
	}
	if err := s.Library.SetFront(ctx, s.ch, f); err != nil {
		return err
	}
	return saveEdition(ctx, s.Library, s.ch, info, f)
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

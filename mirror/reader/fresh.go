package reader

import (
	"context"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
)

// rhythm is what the front page of one head says of the channel's editions: to open that again for each page of the browser would cost too much.
type rhythm struct {
	tree  channel.Hash
	shown newsync.Shown
}

// Freshness says how fresh a channel's news is, by what is on the device.
func (r *Reader) Freshness(ctx context.Context, ch channel.ID) (newsync.Freshness, error) {
	view, err := newsync.View(ctx, r.lib, ch)
	if err != nil {
		return newsync.Freshness{}, err
	}
	reports, err := newsync.Reports(ctx, r.lib, ch)
	if err != nil {
		return newsync.Freshness{}, err
	}
	return newsync.Judge(view, reports, r.shown(ctx, ch, view), r.cfg.Now()), nil
}

// shown remembers what was read of the front page of the head held.
func (r *Reader) shown(ctx context.Context, ch channel.ID, view *channel.View) newsync.Shown {
	head := view.Head()
	if head == nil {
		return newsync.Shown{}
	}
	r.mu.Lock()
	known, ok := r.rhythms[ch]
	r.mu.Unlock()
	if ok && known.tree == head.Tree {
		return known.shown
	}
	shown, err := r.Shelf().Shown(ctx, ch)
	if err != nil {
		r.log.Info("the channel's rhythm is not known", "error", err)
		return shown
	}
	if shown.Size == head.Size && len(shown.Packed) > 0 {
		r.mu.Lock()
		r.rhythms[ch] = rhythm{head.Tree, shown}
		r.mu.Unlock()
	}
	return shown
}

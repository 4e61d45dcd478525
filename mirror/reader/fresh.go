package reader

import (
	"context"
	"time"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
)

// rhythm is when a channel's editions were packed, read from the front page of
// one head: to open that again for each page of the browser would cost too much.
type rhythm struct {
	tree   channel.Hash
	packed []time.Time
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
	return newsync.Judge(view, reports, r.packed(ctx, ch, view.Head()), r.cfg.Now()), nil
}

// packed is nil while the front page is not here: the rhythm is not known then.
func (r *Reader) packed(ctx context.Context, ch channel.ID, head *channel.Head) []time.Time {
	if head == nil {
		return nil
	}
	r.mu.Lock()
	known, ok := r.rhythms[ch]
	r.mu.Unlock()
	if ok && known.tree == head.Tree {
		return known.packed
	}
	packed, err := r.Shelf().Packed(ctx, ch)
	if err != nil {
		r.log.Info("the channel's rhythm is not known", "error", err)
		return nil
	}
	if len(packed) > 0 {
		r.mu.Lock()
		r.rhythms[ch] = rhythm{head.Tree, packed}
		r.mu.Unlock()
	}
	return packed
}

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
	size   uint64
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
	return newsync.Judge(view, reports, r.packed(ctx, ch, view.Size()), r.cfg.Now()), nil
}

// packed is nil while the front page is not here: the rhythm is not known then.
func (r *Reader) packed(ctx context.Context, ch channel.ID, size uint64) []time.Time {
	r.mu.Lock()
	known, ok := r.rhythms[ch]
	r.mu.Unlock()
	if ok && known.size == size {
		return known.packed
	}
	packed, err := r.Shelf().Packed(ctx, ch)
	if err != nil {
		r.log.Info("the channel's rhythm is not known", "error", err)
		return nil
	}
	if len(packed) > 0 {
		r.mu.Lock()
		r.rhythms[ch] = rhythm{size, packed}
		r.mu.Unlock()
	}
	return packed
}

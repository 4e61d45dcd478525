package sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// Shelf reads what has arrived, without any network.
type Shelf struct{ Library Library }

// open finds the headline and the edition that holds its text.
func (s Shelf) open(ctx context.Context, ch channel.ID, id string) (library.Headline, *bundle.Volume, error) {
	h, err := s.Library.Headline(ctx, ch, id)
	if err != nil {
		return h, nil, err
	}
	view, err := View(ctx, s.Library, ch)
	if err != nil {
		return h, nil, err
	}
	known, err := loadEditions(ctx, s.Library, ch)
	if err != nil {
		return h, nil, err
	}
	info, ok := known[h.Edition]
	if !ok {
		return h, nil, fmt.Errorf("edition %d: %w", h.Edition, bundle.ErrMissing)
	}
	vol, err := info.volume(view)
	if err != nil {
		return h, nil, err
	}
	vol.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, s.Library, c) }
	return h, vol, nil
}

// Article returns an article's text. The error wraps transport.ErrNotFound if
// there is no such headline, bundle.ErrMissing if the text has not arrived.
func (s Shelf) Article(ctx context.Context, ch channel.ID, id string) (*bundle.Article, error) {
	h, vol, err := s.open(ctx, ch, id)
	if err != nil {
		return nil, err
	}
	return vol.Article(&h.Entry)
}

// Image returns picture i of an article; errors as in Article.
func (s Shelf) Image(ctx context.Context, ch channel.ID, id string, i int) (*bundle.Image, error) {
	h, vol, err := s.open(ctx, ch, id)
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= len(h.Images) {
		return nil, fmt.Errorf("image %d: %w", i, transport.ErrNotFound)
	}
	return vol.Image(&h.Entry, i)
}

// Editions opens the newest edition held and, after it, the older ones that are
// known and whose articles may be here, newest first.
func (s Shelf) Editions(ctx context.Context, ch channel.ID) (*channel.View, []*bundle.Volume, error) {
	view, err := View(ctx, s.Library, ch)
	if err != nil {
		return nil, nil, err
	}
	h := view.Head()
	if h == nil {
		return nil, nil, errors.New("nothing has arrived on this channel yet; run mirror sync")
	}
	known, err := loadEditions(ctx, s.Library, ch)
	if err != nil {
		return nil, nil, err
	}
	var vols []*bundle.Volume
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(known))) {
		vol, err := known[n].volume(view)
		if err != nil || n > h.Edition {
			continue
		}
		vol.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, s.Library, c) }
		if _, err := vol.Directory(); err != nil {
			continue // nothing of it is here
		}
		vols = append(vols, vol)
	}
	if len(vols) == 0 || vols[0].Edition != h.Edition {
		return nil, nil, errors.New("the newest edition has not arrived whole; run mirror sync")
	}
	return view, vols, nil
}

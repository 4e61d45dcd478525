package sync

import (
	"context"
	"errors"
	"fmt"

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

// Edition returns what a CAR file of the newest edition needs: the head and
// root notes held, and whether every block of the edition is here.
func (s Shelf) Edition(ctx context.Context, ch channel.ID) (*channel.View, *bundle.Volume, error) {
	view, err := View(ctx, s.Library, ch)
	if err != nil {
		return nil, nil, err
	}
	h := view.Head()
	if h == nil {
		return nil, nil, errors.New("nothing has arrived on this channel yet; run mirror sync")
	}
	info := editionInfo{Number: h.Edition, Epoch: h.Epoch, Root: h.Root.String()}
	vol, err := info.volume(view)
	if err != nil {
		return nil, nil, err
	}
	vol.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, s.Library, c) }
	return view, vol, nil
}

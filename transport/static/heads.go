package static

import (
	"context"
	"errors"
	"fmt"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

var _ transport.HeadTaker = (*Publisher)(nil)

// PublishHead implements transport.HeadTaker: one file is written, that in head/. A head
// stands there only when all blocks of its edition do, so nobody looks for them again.
func (p *Publisher) PublishHead(ctx context.Context, s transport.Source) (sent int64, err error) {
	e, err := readEdition(s)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	err = p.run(ctx, fmt.Sprintf("head of edition %d", e.head.Edition), func() error {
		old, err := p.stands(ctx, e.head.Channel)
		switch {
		case err != nil:
			return err
		case old == nil || !old.Root.Equals(e.head.Root):
			return fmt.Errorf("another edition is there: %w", transport.ErrNotFound)
		case old.Newer(e.head):
			return nil
		}
		sent = int64(len(e.opening))
		return p.store.Put(ctx, headDir+s.Channel.String(), e.opening)
	})
	return sent, err
}

// stands is the head that is there, nil if there is none that verifies. It may be of
// newer root notes than an edition that is to come, or of older ones.
func (p *Publisher) stands(ctx context.Context, ch channel.ID) (*channel.Head, error) {
	intro, err := p.opening(ctx, ch)
	switch {
	case errors.Is(err, transport.ErrNotFound), damaged(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	roots, err := channel.ParseRoots(ch, intro.RootNotes)
	if err != nil {
		return nil, nil //nolint:nilerr // as good as none
	}
	head, err := roots.Head(intro.Head)
	if err != nil {
		return nil, nil //nolint:nilerr // the same
	}
	return head, nil
}

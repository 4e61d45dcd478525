package publisher

import (
	"context"
	"fmt"

	"tamizdat/transport"
)

// pushHead brings a target the newest edition's head alone, of which it holds an earlier
// one, or one that fewer witnesses have seen: after a heartbeat, say. ErrNotFound: it needs
// the whole edition. Folders do: of the files in them each is whole by itself, whoever
// carries it on.
func (p *Publisher) pushHead(ctx context.Context, t Target) (sent int64, err error) {
	to, ok := t.Publisher.(transport.HeadTaker)
	if !ok {
		return 0, transport.ErrNotFound
	}
	n := p.Size() - 1
	f, size, err := p.Source(n)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = retry(ctx, func() error {
		more, err := to.PublishHead(ctx, transport.Source{Channel: p.Channel(), Edition: n, CAR: f, Size: size})
		sent += more
		return err
	})
	if err != nil {
		return sent, fmt.Errorf("head of edition %d: %w", n, err)
	}
	return sent, nil
}

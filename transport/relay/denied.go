package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

var _ transport.Denier = (*Publisher)(nil)

// Pin implements transport.Denier.
func (p *Publisher) Pin() channel.Pin { return p.target.Pin }

// PublishDenied implements transport.Denier: PUT /denied/CHANNEL under an intake
// prefix. The answer's HeaderOffset is the length of the list that the relay
// holds then.
func (p *Publisher) PublishDenied(ctx context.Context, ch channel.ID, list []byte) error {
	if len(list) == 0 || len(list) > channel.MaxDenied {
		return fmt.Errorf("%w: a list of %d bytes", transport.ErrRefused, len(list))
	}
	body := io.NewSectionReader(bytes.NewReader(list), 0, int64(len(list)))
	st, err := p.send(ctx, http.MethodPut, p.intakePath("denied", ch), body, http.Header{"Content-Type": {"text/plain"}})
	if err == nil && (!st.complete || st.offset <= 0) {
		err = errors.New("relay: it did not say that it holds the list")
	}
	return err
}

package relay

import (
	"errors"
	"net/http"
	"sync"

	"tamizdat/transport"
)

// either is QUIC, or TCP where that does not connect: for those who speak to a
// relay from a server, one connection after the other and no race.
type either struct {
	mu    sync.Mutex
	conns []conn // the first one is used
}

func newEither(network transport.Network, to peer) *either {
	return &either{conns: []conn{newQUIC(network, to), newTCP(network, to)}}
}

// Close ends all connections.
func (e *either) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, c := range e.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// RoundTrip sends over the first connection that gets through; it stays first.
func (e *either) RoundTrip(req *http.Request) (*http.Response, error) {
	e.mu.Lock()
	conns := append([]conn(nil), e.conns...)
	e.mu.Unlock()
	var errs []error
	for _, c := range conns {
		if len(errs) > 0 && req.GetBody != nil {
			req = req.Clone(req.Context())
			req.Body, _ = req.GetBody()
		}
		resp, err := c.RoundTrip(req)
		if err == nil {
			e.prefer(c)
			return resp, nil
		}
		errs = append(errs, err)
		if req.Context().Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (e *either) prefer(c conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.conns {
		if e.conns[i] == c {
			e.conns[0], e.conns[i] = e.conns[i], e.conns[0]
		}
	}
}

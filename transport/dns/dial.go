package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tamizdat/transport"
)

const (
	// firstCooling is how long a resolver is left alone that could not be reached;
	// it doubles each time, up to maxCooling.
	firstCooling = time.Second
	maxCooling   = 5 * time.Minute
)

// dial is a link being opened. It does not end with the query that wanted it,
// since all others wait for the same one.
type dial struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when link and err are set
	link   *link
	err    error
}

// open returns the shared link, opening it if need be. Where that failed a moment
// ago it fails again at once, for the same reason.
func (r *resolver) open(ctx context.Context, stream bool) (*link, error) {
	i := 0
	if stream {
		i = 1
	}
	r.mu.Lock()
	if l := r.links[i]; l != nil && l.alive() {
		r.mu.Unlock()
		return l, nil
	}
	d := r.dials[i]
	if d == nil {
		if r.addr.stream() && time.Now().Before(r.coolUntil) {
			r.mu.Unlock()
			return nil, r.why
		}
		life, cancel := context.WithTimeout(context.Background(), maxTimeout)
		d = &dial{cancel: cancel, done: make(chan struct{})}
		r.dials[i] = d
		go r.dial(life, d, i, !time.Now().Before(r.tcpOnly))
	}
	r.mu.Unlock()
	select {
	case <-d.done:
		return d.link, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *resolver) dial(life context.Context, d *dial, i int, quick bool) {
	defer close(d.done)
	defer d.cancel()
	if r.addr.Way == HTTPS {
		d.link, d.err = newWebLink(life, r.nw, r.addr, r.trust, quick)
	} else {
		d.link, d.err = newLink(life, r.nw, r.addr, r.trust, i == 1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials[i] != d { // closed meanwhile
		if d.link != nil {
			go d.link.fail(errLinkDown)
			d.link, d.err = nil, errLinkDown
		}
		return
	}
	r.dials[i] = nil
	if d.err == nil {
		r.links[i] = d.link
	} else if r.addr.stream() {
		r.cools(d.err)
	}
}

// cools leaves the resolver alone for a while. It is called with the lock held.
func (r *resolver) cools(why error) {
	if now := time.Now(); !now.Before(r.coolUntil) {
		r.coolUntil = now.Add(min(firstCooling<<min(r.vain, 10), maxCooling))
		r.vain++
		r.standing.cools(r.coolUntil)
	}
	r.why = why
}

// broke records that a connection ended while somebody waited for it. Servers end
// those that they find old or idle: the next one is opened at once. One that never
// brought anything is as good as one that could not be opened.
func (r *resolver) broke(l *link, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut()
	if r.links[1] != l {
		return // somebody else has seen to it
	}
	r.links[1] = nil
	w, web := l.carry.(*web)
	switch {
	case web && w.over == overHTTP3 && !l.worked():
		r.tcpOnly = time.Now().Add(smallFor)
	case !l.worked() || errors.Is(why, errWeb) || errors.Is(why, errStuck) || errors.Is(why, errFlood):
		r.cools(why)
	}
}

// coolFor is how long the resolver is still to be left alone; not above 0 if it
// need not be.
func (r *resolver) coolFor() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(r.coolUntil)
}

// isCool reports whether the resolver is left alone.
func (r *resolver) isCool() bool { return r.coolFor() > 0 }

// warm waits until the resolver may be asked again, if that is soon; if not, the
// error says why not.
func (r *resolver) warm(ctx context.Context) error {
	left := r.coolFor()
	if left <= 0 {
		return nil
	}
	if left > maxTimeout {
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Errorf("%w: %w", errSilent, r.why)
	}
	select {
	case <-time.After(left):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// allCool is why no resolver may be asked now, nil if one may.
func (c *Client) allCool() error {
	var why error
	for _, r := range c.resolvers {
		if !r.isCool() {
			return nil
		}
		r.mu.Lock()
		why = r.why
		r.mu.Unlock()
	}
	return why
}

// hopeless reports whether another try within one query would bring nothing else.
func hopeless(err error) bool {
	return errors.Is(err, transport.ErrUnsupported) || errors.Is(err, transport.ErrBlocked)
}

// close closes the sockets; the next query opens new ones.
func (r *resolver) close() {
	r.mu.Lock()
	links, dials := r.links, r.dials
	r.links, r.dials = [2]*link{}, [2]*dial{}
	r.mu.Unlock()
	for _, d := range dials {
		if d != nil {
			d.cancel()
		}
	}
	for _, l := range links {
		if l != nil {
			l.fail(errLinkDown)
		}
	}
}

package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// maxNewerRoots bounds how many root notes are fetched to check one head.
const maxNewerRoots = 32

// maxHeld bounds the heads that are kept until they can be judged: who forges more of
// them, before the true one comes, crowds it out.
const maxHeld = 64

// channelState is what the client remembers of a channel to tell heads from
// forgeries early. The engine checks again, with its own memory.
// oldHead is how old the newest head may be before a better one is waited for: a
// channel publishes every day, mostly.
const oldHead = 26 * time.Hour

type channelState struct {
	mu    sync.Mutex
	roots *channel.Roots
}

func (c *Client) state(ch channel.ID) *channelState {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.channels[ch]
	if st == nil {
		if len(c.channels) >= maxChannels {
			clear(c.channels) // only costs fetching root notes again
		}
		st = &channelState{}
		c.channels[ch] = st
	}
	return st
}

func (st *channelState) get() *channel.Roots {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.roots
}

// learn adds a root note. It reports whether the note, as far as can be told,
// is what was asked for.
func (st *channelState) learn(ch channel.ID, version uint64, note []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case version == 1:
		roots, err := channel.ParseRoots(ch, [][]byte{note})
		if err != nil {
			return false
		}
		if st.roots == nil {
			st.roots = roots
		}
	case st.roots != nil && st.roots.Version() == version-1:
		roots, err := st.roots.Extend(note)
		if err != nil {
			return false
		}
		st.roots = roots
	}
	return true
}

// RootNote implements transport.Heads.
func (c *Client) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	c.enter()
	defer c.leave()
	return c.rootNote(ctx, ch, version)
}

func (c *Client) rootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	if version < 1 {
		return nil, fmt.Errorf("dns: root note 0: %w", transport.ErrNotFound)
	}
	st := c.state(ch)
	if roots := st.get(); roots != nil && version <= roots.Version() {
		return roots.Notes()[version-1], nil
	}
	size := func(n int) bool { return n <= channel.MaxRootNote }
	data, err := c.named(ctx, ch.RootLabel(version), false, size, func(data []byte) bool {
		return st.learn(ch, version, data)
	})
	if err != nil {
		return nil, fmt.Errorf("root note: %w", err)
	}
	return data, nil
}

// Head implements transport.Heads. DNS has no long poll: with have > 0 it asks
// past the resolver's cache and returns at once.
func (c *Client) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	c.enter()
	defer c.leave()
	h, raw, err := c.head(ctx, ch, have, have > 0)
	if err != nil {
		return nil, err
	}
	if h != nil && have > 0 && h.Size <= have && h.Generation == 0 {
		return nil, transport.ErrNoNewer
	}
	return raw, nil
}

// head fetches the head, past the resolver's cache if fresh, and root note 1 at the same time if the client has
// none to check it with. The result is nil with the raw bytes if the head could
// not be checked since a newer root note is needed. What can't be checked at all
// is not handed on: what a resolver spoils is not the zone's lie.
func (c *Client) head(ctx context.Context, ch channel.ID, have uint64, fresh bool) (*channel.Head, []byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	st := c.state(ch)
	var rooted chan struct{} // closed when there is nothing to wait for any more
	if st.get() == nil {
		rooted = make(chan struct{})
		wg.Go(func() {
			defer close(rooted)
			if _, err := c.rootNote(ctx, ch, 1); err != nil && ctx.Err() == nil {
				c.log.Debug("dns: no root note to check the head with", "err", err)
			}
		})
	}
	var held candidates
	check := func(raw []byte) verdict {
		roots := st.get()
		if roots == nil {
			held.add(raw)
			return hold
		}
		h, err := roots.Head(raw)
		switch {
		case err == nil && h.Size > have && time.Since(h.Time) < oldHead:
			return take
		case err == nil, errors.Is(err, channel.ErrOldRoots), errors.Is(err, channel.ErrNewerRoots):
			// It may be true, and yet old: a resolver's cache, or a forger who answers
			// first with what the zone said last week.
			held.add(raw)
			return hold
		}
		return drop
	}
	better := func(a, b []byte) bool {
		roots := st.get()
		if roots == nil {
			return false
		}
		x, err := roots.Head(a)
		if err != nil {
			return false
		}
		y, err := roots.Head(b)
		return err != nil || x.Size > y.Size || x.Size == y.Size && x.Time.After(y.Time)
	}
	var raw []byte
	err := c.bothClasses(func(class record.Class) (err error) {
		name := c.fresh(ch.Label(), fresh)
		if class == record.Large {
			raw, err = c.ask(ctx, query{name: name, class: class, tries: namedTries, check: check, better: better, recheck: rooted})
			if err != nil {
				return err
			}
			// What was only held may be spoiled: the root note, which comes in
			// either class, tells.
			if err := settle(ctx, rooted); err != nil {
				return err
			}
		} else if raw, err = c.headParts(ctx, name, check, rooted); err != nil {
			return err
		}
		if check(raw) != take {
			raw = c.best(ctx, ch, raw, held.all(), better)
		}
		if check(raw) == drop {
			err = errSpoiled
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("head: %w", err)
	}
	roots := st.get()
	if roots == nil {
		if _, err := c.rootNote(ctx, ch, 1); err != nil {
			return nil, nil, fmt.Errorf("root note to check the head with: %w", err)
		}
		roots = st.get()
	}
	h, err := roots.Head(raw)
	if err != nil && !errors.Is(err, channel.ErrNewerRoots) && !errors.Is(err, channel.ErrOldRoots) {
		return nil, nil, fmt.Errorf("head: %w", errSpoiled)
	}
	if err != nil {
		return nil, raw, nil
	}
	return h, raw, nil
}

// best is the best of several heads that were held, once all can be judged: one that the
// known root notes vouch for may be what the zone said before the keys were replaced,
// and one that needs a newer root note may be forged.
func (c *Client) best(ctx context.Context, ch channel.ID, raw []byte, held [][]byte, better func(a, b []byte) bool) []byte {
	if len(held) < 2 {
		return raw
	}
	st := c.state(ch)
	for range maxNewerRoots {
		roots := st.get()
		if roots == nil || !slices.ContainsFunc(held, func(raw []byte) bool {
			_, err := roots.Head(raw)
			return errors.Is(err, channel.ErrNewerRoots)
		}) {
			break
		}
		if _, err := c.rootNote(ctx, ch, roots.Version()+1); err != nil {
			break // anybody can claim that there is one
		}
	}
	for _, h := range held {
		if better(h, raw) {
			raw = h
		}
	}
	return raw
}

// candidates are heads that were held, each once.
type candidates struct {
	mu    sync.Mutex
	heads [][]byte
}

func (s *candidates) add(raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heads) < maxHeld && !slices.ContainsFunc(s.heads, func(h []byte) bool { return bytes.Equal(h, raw) }) {
		s.heads = append(s.heads, bytes.Clone(raw))
	}
}

func (s *candidates) all() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heads)
}

// settle waits until there is nothing more to learn about root notes.
func settle(ctx context.Context, rooted <-chan struct{}) error {
	if rooted == nil {
		return nil
	}
	select {
	case <-rooted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

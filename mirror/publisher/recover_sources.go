package publisher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
	"tamizdat/transport/static"
)

// What is recovered has to be all that was signed: going on from less would sign the
// same numbers again. So of what the targets hold the furthest counts, and where it can't
// be had whole nothing is recovered; and what any of them shows has to agree with it.

// headTime bounds how long one target may take to say what its newest head is.
const headTime = time.Minute

// readMirror opens a static mirror for reading: by its store, or if that fails (a password
// that is not in the backup, say) the way its readers go.
func (p *Publisher) readMirror(ctx context.Context, network transport.Network, t TargetConfig) (*sourceOf, error) {
	store, err := p.mirrorStore(network, t)
	if err == nil {
		r := static.NewStoreReader(store)
		within, cancel := context.WithTimeout(ctx, headTime)
		_, err = r.Head(within, p.Channel(), 0)
		cancel()
		if err == nil {
			return &sourceOf{r, r, r.Close}, nil
		}
		err = errors.Join(err, r.Close())
	}
	if t.URL == "" {
		return nil, err
	}
	rt := gateway.NewTransport(ctx, network, gateway.Trust{})
	c, err := gateway.New(t.URL, rt, gateway.Options{Static: true})
	if err != nil {
		return nil, err
	}
	path := c.Path()
	return &sourceOf{path.Heads, path.Blocks, func() error { rt.CloseIdleConnections(); return nil }}, nil
}

// furthest verifies what the one of them holds that holds the most; where it is not whole
// there, another one that shows the same. The error wraps ErrNotBehind if none holds more
// than this folder.
func (p *Publisher) furthest(ctx context.Context, all []*candidate) (*Found, error) {
	slices.SortStableFunc(all, func(a, b *candidate) int {
		switch {
		case a.head.Newer(b.head):
			return -1
		case b.head.Newer(a.head):
			return 1
		}
		return 0
	})
	most := slices.IndexFunc(all, p.behind)
	if most < 0 {
		return nil, ErrNotBehind
	}
	var failed []error
	for i, c := range all {
		if !c.shows(all[most]) {
			continue
		}
		f, err := p.verifyOne(ctx, c)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.name, err))
			continue
		}
		for j, other := range all {
			switch {
			case i == j:
			case !f.agrees(p, other.head):
				return nil, p.contradicts(c, other)
			case other.shows(c):
				f.Also = append(f.Also, other.name)
			}
		}
		return f, nil
	}
	return nil, errors.Join(failed...)
}

func (p *Publisher) verifyOne(ctx context.Context, c *candidate) (*Found, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	return p.verify(ctx, c)
}

// shows reports whether two targets show the same log and the same keys.
func (c *candidate) shows(o *candidate) bool {
	return c.head.Generation == o.head.Generation && c.head.Size == o.head.Size && c.head.Tree == o.head.Tree && c.roots.Version() == o.roots.Version()
}

// agrees reports whether a checked head is of the log that was found, or of what a
// generation since has left out.
func (f *Found) agrees(p *Publisher, head *channel.Head) bool {
	leaves := p.history(f.common).Leaves()
	for _, e := range f.editions {
		leaves = append(leaves, e.hash)
	}
	if head.Size > f.roots.Kept(head.Generation) {
		return true
	}
	return head.Size <= uint64(len(leaves)) && channel.TreeHash(slices.Values(leaves[:head.Size])) == head.Tree
}

// contradiction says which targets show different histories. It is an ErrOtherHistory.
type contradiction string

func (c contradiction) Error() string { return string(c) }

// Is implements errors.Is.
func (contradiction) Is(err error) bool { return err == ErrOtherHistory }

// contradicts is what is said of a target that does not agree with what was found.
func (p *Publisher) contradicts(found, other *candidate) error {
	if p.behind(other) {
		return contradiction(fmt.Sprintf("%s: it holds another history than %s; name the targets to go by, without one of the two", other.name, found.name))
	}
	return contradiction(fmt.Sprintf("%s: it holds another history than %s and this folder, which agree: if these are right there is nothing to recover, and %s is to be emptied and pushed to anew; else name the targets to go by", found.name, other.name, found.name))
}

// beyond looks at the targets that only show heads, zones that is, and says which of them
// shows more than was found (nil: than this folder has), or something else. unread are
// those that did not say.
func (p *Publisher) beyond(ctx context.Context, network transport.Network, f *Found, names []string) (unread []error, err error) {
	if f == nil {
		f = &Found{roots: p.roots, common: p.Size()}
	}
	for _, t := range p.cfg.Targets {
		if t.DNS == "" || len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		raw, err := p.headIn(ctx, network, t)
		if err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", t.Name, err))
			continue
		}
		head, err := f.roots.Head(raw)
		known := p.Size()
		if f.head != nil {
			known = f.head.Size
		}
		switch {
		case errors.Is(err, channel.ErrNewerRoots):
			if err := p.newerHead(ctx, p.notesOf(network, t), raw); !elsewhere(err) {
				unread = append(unread, fmt.Errorf("%s: %w", t.Name, err))
				continue
			}
			return unread, fmt.Errorf("%s: it shows an edition under newer root notes than %w", t.Name, errBeyond)
		case err != nil: // old, or of nobody
		case head.Size > known:
			return unread, fmt.Errorf("%s: it shows edition %d, which is later than %w", t.Name, head.Edition, errBeyond)
		case !f.agrees(p, head):
			return unread, contradiction(t.Name + ": it shows another history than this one; name the targets to go by, without it")
		}
	}
	return unread, nil
}

var errBeyond = errors.New("all that can be read back, and packing would give its number to another edition; recover when more targets can be reached, or if nothing else holds it leave it out for good with a new log key: mirror-publish root rotate --new-log")

// headIn is the head that a target shows.
func (p *Publisher) headIn(ctx context.Context, network transport.Network, t TargetConfig) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	pub, err := p.open(network, t)
	if err != nil {
		return nil, err
	}
	if c, ok := pub.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	return pub.Current(ctx, p.Channel())
}

package dns

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// recordTries is how often one record is asked for. On a line that loses 60 % one
// way, all of a hundred records come with a probability of 80 %; what came is
// kept for when the block is asked for again.
const recordTries = 12

// walker walks trees of one class. Every record is checked against its name and
// against the shape that follows from the record above it.
type walker struct {
	c     *Client
	class record.Class
	got   func(n int) // hears of payload bytes that came; may be called at once
	once  bool        // bytes are dear: see query
	half  *half       // what has come of the piece that is fetched; nil above pieces
}

// each does n things at once. One that fails ends the others, unless all that is
// wrong is that nobody answered: then they may be luckier, and the next attempt
// has less to do.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	for i := range n {
		g.Go(func() error {
			err := do(ctx, i)
			if err != nil && !errors.Is(err, errSilent) {
				cancel()
			}
			return err
		})
	}
	return g.Wait()
}

// record fetches and parses one record of the walker's class.
func (w *walker) record(ctx context.Context, name record.Name) (record.Record, error) {
	rec, err := w.c.cache.get(ctx, name, func() ([]byte, error) {
		rec, err := w.c.ask(ctx, query{
			name: name.Label(), class: w.class, tries: recordTries, once: w.once,
			check: func(rec []byte) verdict {
				if record.NameOf(rec) == name {
					return take
				}
				return drop
			},
		})
		if r, bad := record.Parse(rec); err == nil && bad == nil && r.Kind == record.Leaf {
			w.got(len(r.Payload))
		}
		if err == nil && w.half != nil {
			w.half.add(rec)
		}
		return rec, err
	})
	if err != nil {
		return record.Record{}, err
	}
	r, err := record.Parse(rec)
	if err == nil && r.Class != w.class {
		err = fmt.Errorf("%w: of another class", record.ErrBad)
	}
	return r, err
}

// pieceAt fetches the piece under a name.
func (w *walker) pieceAt(ctx context.Context, name record.Name) ([]byte, error) {
	r, err := w.record(ctx, name)
	if err != nil {
		return nil, err
	}
	return w.piece(ctx, &r)
}

// piece fetches all that lies under the top record of a piece.
func (w *walker) piece(ctx context.Context, top *record.Record) ([]byte, error) {
	switch top.Kind {
	case record.Leaf:
		return top.Payload, nil
	case record.Piece:
		dst := make([]byte, top.Size) // Parse bounds it
		err := w.kept(top.Names[0], func(w *walker) error { return w.children(ctx, top, dst) })
		return dst, err
	default:
		return nil, fmt.Errorf("%w: not a piece", record.ErrBad)
	}
}

// kept does the work on the piece whose first child is named so, going on with what
// an earlier run has left of it.
func (w *walker) kept(first record.Name, do func(*walker) error) error {
	of := *w
	of.half = w.c.halfOf(first)
	err := do(&of)
	of.half.end(err == nil)
	return err
}

func (w *walker) children(ctx context.Context, r *record.Record, dst []byte) error {
	return each(ctx, len(r.Names), func(ctx context.Context, i int) error {
		off, n := r.Stretch(i)
		return w.fill(ctx, r.Names[i], dst[off:off+n])
	})
}

// fill fetches what lies under a name, whose size is known.
func (w *walker) fill(ctx context.Context, name record.Name, dst []byte) error {
	r, err := w.record(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case r.Kind == record.Leaf && len(r.Payload) == len(dst):
		copy(dst, r.Payload)
		return nil
	case r.Kind == record.Piece && r.Size == len(dst):
		return w.children(ctx, &r, dst)
	}
	return fmt.Errorf("%w: not the size that the index says", record.ErrBad)
}

// pieceList is the tree of several pieces, by its top record.
type pieceList struct {
	w     *walker
	top   record.Record
	count int
}

func (w *walker) list(ctx context.Context, name record.Name) (*pieceList, error) {
	top, err := w.record(ctx, name)
	if err != nil {
		return nil, err
	}
	l := &pieceList{w: w, top: top, count: 1}
	if top.Kind == record.List || top.Kind == record.ShortList {
		l.count = top.Count
	}
	return l, nil
}

// piece fetches piece i.
func (l *pieceList) piece(ctx context.Context, i int) ([]byte, error) {
	if i < 0 || i >= l.count {
		return nil, fmt.Errorf("dns: piece outside the list: %w", transport.ErrNotFound)
	}
	r, count := l.top, l.count
	for count > 1 {
		switch r.Kind {
		case record.ShortList:
			return l.short(ctx, &r, i)
		case record.List:
		default:
			return nil, fmt.Errorf("%w: not a list", record.ErrBad)
		}
		var child record.Name
		child, i, count = r.Step(i) // fewer at each step, so this ends
		if count == 1 {
			return l.w.pieceAt(ctx, child)
		}
		var err error
		if r, err = l.w.record(ctx, child); err != nil {
			return nil, err
		}
		if r.Count != count {
			return nil, fmt.Errorf("%w: not the count that the list above says", record.ErrBad)
		}
	}
	return l.w.piece(ctx, &r)
}

// short fetches a piece whose leaves are named by a short list.
func (l *pieceList) short(ctx context.Context, r *record.Record, i int) ([]byte, error) {
	dst := make([]byte, r.Sizes[i]) // Parse bounds it
	payload, leaves := r.Class.Payload(), r.LeavesOf(i)
	err := l.w.kept(leaves[0], func(w *walker) error {
		return each(ctx, len(leaves), func(ctx context.Context, k int) error {
			return w.fill(ctx, leaves[k], dst[k*payload:min(len(dst), (k+1)*payload)])
		})
	})
	return dst, err
}

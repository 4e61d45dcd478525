package dns

import (
	"context"
	"errors"
	"sync"
	"time"

	"tamizdat/bundle/record"
)

const (
	// namedTries is how often one of the few records by name is asked for: a line
	// that loses 60 % one way answers at least once with a probability of 98 %.
	namedTries = 8
	// maxForged is how often such a record is asked for if all that comes is forged.
	maxForged = 4
	// maxTops is how many answers to one such question are followed to their end: who
	// forges more of them, before the true one comes, crowds it out.
	maxTops = 64
)

// naming is the search for the piece whose top record stands under a label: anybody can
// forge such a record, a new one each time, but what is under it has to be there and to
// make sense. So all that are heard are followed, and the first one that leads to
// something good is it.
type naming struct {
	c    *Client
	fits func(size int) bool    // whether such a piece can be so large
	ok   func(data []byte) bool // whether this is one, as far as can be told

	mu    sync.Mutex
	round int
	heard map[record.Name]int // tops, by the round that they were heard in
}

// named fetches the piece under a label, past the resolver's cache if fresh.
func (c *Client) named(ctx context.Context, label string, fresh bool, fits func(size int) bool, ok func(data []byte) bool) ([]byte, error) {
	var data []byte
	err := c.bothClasses(func(class record.Class) (err error) {
		l := label
		if class == record.Small {
			l = smallLabel(label)
		}
		n := &naming{c: c, fits: fits, ok: ok, heard: map[record.Name]int{}}
		for i := range maxForged {
			data, err = n.ask(ctx, query{name: c.fresh(l, fresh || i > 0), class: class, tries: namedTries})
			if err == nil || ctx.Err() != nil || !errors.Is(err, errForged) {
				return err
			}
		}
		return errSpoiled
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// errForged: something came, but nothing good. It is worth asking again.
var errForged = errors.New("forged answers only")

// ask asks q once, and follows what comes until something is good, or nothing more can
// be expected.
func (n *naming) ask(ctx context.Context, q query) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	n.mu.Lock()
	n.round++
	round := n.round
	n.mu.Unlock()

	tops := make(chan record.Record, maxTops)
	q.stay, q.check = ctx, func(rec []byte) verdict {
		top, ok := n.top(rec, q.class)
		switch {
		case !ok || !n.hear(rec, round):
			return drop
		case top.Kind == record.Leaf && !n.ok(top.Payload):
			return drop
		}
		select {
		case tops <- top:
		default:
		}
		if top.Kind == record.Leaf {
			return take
		}
		return maybe
	}
	rec, err := n.c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	first, err := record.Parse(rec)
	if err != nil {
		return nil, err // can't be: check parsed it
	}

	type end struct {
		of   record.Name
		data []byte
		err  error
	}
	ends := make(chan end)
	w := &walker{c: n.c, class: q.class, got: func(int) {}}
	followed, under := map[record.Name]bool{}, 0
	follow := func(top record.Record) {
		name := record.NameOf(top.Append(nil))
		if followed[name] || len(followed) >= maxTops {
			return
		}
		one := len(followed) > 0 && top.Kind == record.Piece
		followed[name] = true
		under++
		wg.Go(func() {
			e := end{of: name}
			if one { // one of them at least is forged: its first leaf tells
				_, e.err = w.record(ctx, top.Names[0])
			}
			if e.err == nil {
				e.data, e.err = w.piece(ctx, &top)
			}
			select {
			case ends <- e:
			case <-ctx.Done():
			}
		})
	}
	follow(first)
	began := time.Now()
	var silent error // of all that were followed
	lies := 0
	for {
		var over <-chan time.Time
		if under == 0 {
			left := n.c.patience() - time.Since(began)
			if left <= 0 || lies == 0 && len(followed) == 1 {
				break
			}
			over = time.After(left)
		}
		select {
		case top := <-tops:
			follow(top)
		case e := <-ends:
			under--
			switch {
			case e.err == nil && n.ok(e.data):
				return e.data, nil
			case e.err != nil && (otherClass(e.err) || errors.Is(e.err, errUnsent)):
				silent = e.err
				n.forget(e.of)
			default:
				lies++
			}
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if lies == 0 && silent != nil {
		return nil, silent
	}
	return nil, errForged
}

// top parses a record that may be the top of such a piece.
func (n *naming) top(rec []byte, class record.Class) (record.Record, bool) {
	r, err := record.Parse(rec)
	if err != nil || r.Class != class {
		return r, false
	}
	switch r.Kind {
	case record.Leaf:
		return r, n.fits(len(r.Payload))
	case record.Piece:
		return r, n.fits(r.Size)
	default:
		return r, false
	}
}

// hear notes a top that was heard in a round. It reports whether it is to be followed:
// not if that was done in an earlier one. A check may still run when its round is over.
func (n *naming) hear(rec []byte, round int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := record.NameOf(rec)
	at, again := n.heard[name]
	if again || n.round != round {
		return again && at == round
	}
	if len(n.heard) >= maxForged*maxTops {
		return false
	}
	n.heard[name] = round
	return true
}

// forget lets a top be followed again of which nothing was heard.
func (n *naming) forget(name record.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.heard, name)
}

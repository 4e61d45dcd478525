package dns

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

const (
	// maxAlike bounds the records that are kept for one part of what claims to be one
	// head, maxPartHeads the heads.
	maxAlike     = 4
	maxPartHeads = 64
)

// headParts fetches a head of the Small class: three parts at once, which is
// all that heads have today, and a fourth if there is one.
func (c *Client) headParts(ctx context.Context, name string, check func([]byte) verdict, rooted <-chan struct{}) ([]byte, error) {
	var err error
	for range maxForged {
		var raw []byte
		raw, err = c.joinParts(ctx, name, func(raw []byte) (verdict, error) {
			if err := settle(ctx, rooted); err != nil {
				return drop, err
			}
			return check(raw), nil
		})
		if err == nil || ctx.Err() != nil || errors.Is(err, transport.ErrNotFound) || errors.Is(err, errSilent) || errors.Is(err, errUnsent) {
			return raw, err
		}
		// Parts of two heads, or forged ones: past the cache this time.
		name = c.fresh(name[strings.LastIndexByte(name, '.')+1:], true)
	}
	return nil, err
}

// joinParts fetches parts and puts together those that may belong together, until judge
// takes what comes of it: whoever forges parts, new ones each time, keeps nobody from
// hearing the true ones. What is held is enough where nothing was forged.
func (c *Client) joinParts(ctx context.Context, name string, judge func(raw []byte) (verdict, error)) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	heard := make(chan record.Record, maxTops)
	type end struct {
		i   int
		rec []byte
		err error
	}
	ends := make(chan end, record.MaxParts)
	get := func(i int) {
		wg.Go(func() {
			rec, err := c.ask(ctx, query{
				name: partLabel(name, i), class: record.Small, tries: namedTries, stay: ctx,
				check: func(rec []byte) verdict {
					r, err := record.Parse(rec)
					if err != nil || r.Kind != record.Part {
						return drop
					}
					if k, _ := r.PartIndex(); k != i {
						return drop
					}
					select {
					case heard <- r:
					default:
					}
					return maybe
				},
			})
			ends <- end{i, rec, err}
		})
	}
	asked, left := record.MaxParts-1, record.MaxParts-1
	for i := range asked {
		get(i)
	}
	var sets partSets
	var held []byte
	var failed [record.MaxParts]error
	var patience <-chan time.Time
	put := func(r record.Record) (raw []byte, err error) {
		if _, n := r.PartIndex(); n > asked {
			asked++
			left++
			get(asked - 1)
		}
		for _, raw := range sets.add(r) {
			v, err := judge(raw)
			switch {
			case err != nil:
				return nil, err
			case v == take || v == hold && !sets.forged:
				return raw, nil
			case v == hold && held == nil:
				held = raw
			}
			if patience == nil {
				patience = time.After(c.patience())
			}
		}
		return nil, nil
	}
	for {
		for i, err := range failed {
			if err != nil && !sets.without(i) {
				return nil, err
			}
		}
		select {
		case r := <-heard:
			if raw, err := put(r); raw != nil || err != nil {
				return raw, err
			}
		case e := <-ends:
			if left--; e.err != nil {
				failed[e.i] = e.err
			} else if r, err := record.Parse(e.rec); err == nil && r.Kind == record.Part {
				if raw, err := put(r); raw != nil || err != nil {
					return raw, err
				}
			}
			if left == 0 && patience == nil {
				patience = time.After(c.patience())
			}
		case <-patience:
			if held != nil {
				return held, nil
			}
			return nil, errSpoiled
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// partSets are parts that were heard, by the head that they claim to be of.
type partSets struct {
	by     map[partSet]*[record.MaxParts][]record.Record
	forged bool // there are parts of several heads, or several of one
}

type partSet struct {
	check [4]byte
	n     int
}

// add takes a part, and returns all that it completes.
func (s *partSets) add(r record.Record) (whole [][]byte) {
	i, n := r.PartIndex()
	key := partSet{r.Check, n}
	parts := s.by[key]
	if parts == nil {
		if len(s.by) >= maxPartHeads {
			return nil
		}
		if s.by == nil {
			s.by = map[partSet]*[record.MaxParts][]record.Record{}
		}
		parts = new([record.MaxParts][]record.Record)
		s.by[key] = parts
	}
	if len(parts[i]) >= maxAlike || slices.ContainsFunc(parts[i], func(o record.Record) bool { return bytes.Equal(o.Payload, r.Payload) }) {
		return nil
	}
	parts[i] = append(parts[i], r)
	s.forged = s.forged || len(s.by) > 1 || len(parts[i]) > 1
	chosen := make([]record.Record, n)
	var choose func(k int)
	choose = func(k int) {
		switch k {
		case n:
			if raw, err := record.Join(chosen); err == nil {
				whole = append(whole, raw)
			}
		case i:
			chosen[k] = r
			choose(k + 1)
		default:
			for _, o := range parts[k] {
				chosen[k] = o
				choose(k + 1)
			}
		}
	}
	choose(0)
	return whole
}

// without reports whether a head may do without part i, as far as was heard.
func (s *partSets) without(i int) bool {
	if i == 0 {
		return false
	}
	for key := range s.by {
		if key.n <= i {
			return true
		}
	}
	return len(s.by) == 0
}

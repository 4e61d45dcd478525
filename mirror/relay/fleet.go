package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// A fleet is several relays behind one name that keep their editions in one
// bucket. None is told of what another has stored: each looks at the listing
// now and then, and wakes its readers when there is a new head in it.

// defaultPoll is how often a relay of a fleet looks.
const defaultPoll = 5 * time.Second

// follow looks at the listing every so often until ctx ends.
func (s *Store) follow(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.refresh(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Warn("the bucket can't be listed; what is here is served on", "err", err)
		}
		failing = err != nil
	}
}

// catchUp is refresh for whoever is about to store something: it has to go on
// from the newest edition of the whole fleet.
func (s *Store) catchUp(ctx context.Context) {
	if !s.kept.shared() {
		return
	}
	if err := s.refresh(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("the bucket can't be listed", "err", err)
	}
}

// refresh takes over what other relays have stored and removed since. An
// edition that is damaged is left out and looked at again when it has changed.
func (s *Store) refresh(ctx context.Context) error {
	// One at a time, and what is stored here meanwhile is not in the listing.
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	before := s.shown()
	objects, err := s.kept.list(ctx)
	if err != nil {
		return err
	}
	listed := byChannel(objects)
	for ch := range before {
		if _, ok := listed[ch]; !ok {
			listed[ch] = nil // all of it is gone
		}
	}
	var errs []error
	for ch, files := range listed {
		if err := s.refreshChannel(ctx, ch, files, before[ch]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// shown are the editions of all channels by path.
func (s *Store) shown() map[channel.ID]map[string]*edition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[channel.ID]map[string]*edition{}
	for ch, sh := range s.shelves {
		out[ch] = map[string]*edition{}
		for _, e := range sh.editions {
			out[ch][e.path] = e
		}
	}
	return out
}

func (s *Store) refreshChannel(ctx context.Context, ch channel.ID, files []object, before map[string]*edition) error {
	there := map[string]bool{}
	var fresh []*edition
	var record, list, notes object
	var errs []error
	for _, o := range files {
		path := s.kept.at(ch, o.file)
		there[path] = true
		switch o.file {
		case ipnsFile:
			record = o
		case deniedFile:
			list = o
		case notesFile:
			notes = o
		}
	}
	if err := s.refreshChain(ctx, ch, notes); err != nil {
		return err // without it no edition can be judged
	}
	for _, o := range files {
		path := s.kept.at(ch, o.file)
		if !isEdition(o.file) || before[path] != nil || s.damaged[path] == o.tag && o.tag != "" {
			continue
		}
		e, err := s.loadEdition(ctx, o)
		switch {
		case err == nil && len(s.along(s.chain(ch), []*edition{e})) == 0:
			s.damaged[path] = o.tag // it is to nobody's use while that chain counts
		case err == nil:
			fresh = append(fresh, e)
			delete(s.damaged, path)
		case errors.Is(err, errBad):
			s.log.Error("an edition in the bucket is damaged", "file", o.file, "err", err)
			s.damaged[path] = o.tag
		default: // gone again, or the store fails: the next look tells
			errs = append(errs, fmt.Errorf("%s: %w", o.file, err))
		}
	}
	s.merge(ch, fresh, func(e *edition) bool { return before[e.path] == e && !there[e.path] })
	if len(files) == 0 {
		s.beginAnew(ch)
	}
	errs = append(errs, s.refreshIPNS(ctx, ch, record), s.refreshDenied(ctx, ch, list))
	return errors.Join(errs...)
}

// merge puts fresh editions on a channel's shelf, takes off those that are
// gone, and wakes whoever waits if there is a new head.
func (s *Store) merge(ch channel.ID, fresh []*edition, gone func(*edition) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelf(ch)
	var head *edition
	if n := len(sh.editions); n > 0 {
		head = sh.editions[n-1]
	}
	have := map[string]bool{}
	var now []*edition
	for _, e := range append(append([]*edition{}, sh.editions...), fresh...) {
		if !gone(e) && !have[e.path] && sh.chain.forks(e.chain) == 0 { // have: stored here while it was loaded
			have[e.path] = true
			now = append(now, e)
		}
	}
	// What was replaced is here for a moment beside what replaces it; whoever has
	// stored that removes it.
	one, _ := standing(now)
	sh.editions = one
	for _, e := range one {
		sh.chain = sh.chain.with(e.chain)
	}
	if n := len(one); n > 0 && (head == nil || !one[n-1].headCID.Equals(head.headCID)) {
		close(sh.wake)
		sh.wake = make(chan struct{})
	}
}

// refreshIPNS takes over a channel's IPNS record if another relay has stored a
// newer one.
func (s *Store) refreshIPNS(ctx context.Context, ch channel.ID, o object) error {
	newest, _ := s.newest(ch)
	if o.file == "" || newest == nil || s.records[ch] == o.tag {
		return nil
	}
	raw, err := s.kept.load(ctx, s.kept.at(ch, ipnsFile), transport.MaxRecord)
	if err != nil {
		return fmt.Errorf("ipns record: %w", err)
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	r, err := checkIPNS(newest.roots, raw)
	if err != nil {
		s.log.Warn("ipns record in the bucket is not used", "err", err)
	} else if r.replaces(s.ipns(ch)) {
		s.setIPNS(ch, r)
	}
	s.records[ch] = o.tag
	return nil
}

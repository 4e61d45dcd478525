package relay

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	wire "tamizdat/transport/relay"
)

// slots are the places for requests at the site behind. Slow bodies, slow readers and
// silent WebSockets hold them for as long as they like while there are some left. When
// all are taken, who has many gives one up for who comes with few, and then who has
// been there for long for anybody.
type slots struct {
	all, each int

	mu    sync.Mutex
	taken int
	of    map[netip.Prefix][]*slot // the oldest first
}

type slot struct {
	from netip.Prefix
	at   time.Time
	end  func()
}

const (
	// slotsAhead is how many more one visitor may have than another who finds none: more
	// than a browser asks for at once.
	slotsAhead = 16
	// slotTime is for how long nobody who has few is sent away.
	slotTime = time.Minute
)

func newSlots(all, each int) *slots {
	return &slots{all: all, each: each, of: map[netip.Prefix][]*slot{}}
}

// visitorOf is whom a request's slot counts for: an address, or a /48 of IPv6, the most
// that providers give a customer.
func visitorOf(remote string) netip.Prefix {
	p := wire.Origin(remote)
	if p.Addr().Is6() {
		p, _ = p.Addr().Prefix(48) // it has that many
	}
	return p
}

// enter takes a slot, ok false if there is none. end is called, once at most and not
// after leave, if it has to be given up; it must not block.
func (s *slots) enter(from netip.Prefix, end func()) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.of[from]) >= s.each {
		return nil, false
	}
	if s.taken >= s.all {
		v := s.victim(from)
		if v == nil {
			return nil, false
		}
		v.end()
		s.drop(v)
	}
	mine := &slot{from, time.Now(), end}
	s.taken++
	s.of[from] = append(s.of[from], mine)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(mine)
	}, true
}

// drop gives a slot back, if that was not done before; s.mu is held.
func (s *slots) drop(gone *slot) {
	i := slices.Index(s.of[gone.from], gone)
	if i < 0 {
		return
	}
	s.taken--
	if s.of[gone.from] = slices.Delete(s.of[gone.from], i, i+1); len(s.of[gone.from]) == 0 {
		delete(s.of, gone.from)
	}
}

// victim is who goes for a newcomer, nil if nobody does; s.mu is held.
func (s *slots) victim(from netip.Prefix) *slot {
	var first *slot // of him who has most
	var oldest *slot
	for _, held := range s.of {
		if first == nil || len(held) > len(s.of[first.from]) {
			first = held[0]
		}
		if oldest == nil || held[0].at.Before(oldest.at) {
			oldest = held[0]
		}
	}
	switch {
	case first != nil && len(s.of[first.from]) > len(s.of[from])+slotsAhead:
		return first
	case oldest != nil && time.Since(oldest.at) >= slotTime:
		return oldest
	}
	return nil
}

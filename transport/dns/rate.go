package dns

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

const (
	// defaultRate is how many answers a second go over UDP to one network that has
	// not shown a cookie: what Knot DNS lets a /24 have.
	defaultRate = 200
	// rateBurst is how many seconds' worth may go at once.
	rateBurst = 5
	// rateBuckets is how many networks are told apart, at about 100 bytes each.
	rateBuckets = 1 << 14
)

// rates limits what is sent to networks by UDP, where anybody can ask in another's
// name. What counts is the network alone, not what was asked for (BIND counts
// by name): a zone of thousands of full records would be thousands of allowances.
// Networks share buckets by a secret hash instead of having a list of their own,
// so that nobody can grow the table, or push a network out of it, by inventing
// addresses.
type rates struct {
	seed    maphash.Seed
	buckets []*rate.Limiter
}

// newRates allows so many a second; nil, which allows everything, if negative.
func newRates(perSecond int) *rates {
	if perSecond < 0 {
		return nil
	}
	if perSecond == 0 {
		perSecond = defaultRate
	}
	r := &rates{seed: maphash.MakeSeed(), buckets: make([]*rate.Limiter, rateBuckets)}
	for i := range r.buckets {
		r.buckets[i] = rate.NewLimiter(rate.Limit(perSecond), rateBurst*perSecond)
	}
	return r
}

// allow reports whether one more answer may go to an address. This machine's own
// can't be pretended from outside.
func (r *rates) allow(addr netip.Addr) bool {
	if r == nil || addr.IsLoopback() {
		return true
	}
	return r.buckets[maphash.Comparable(r.seed, networkOf(addr))%rateBuckets].Allow()
}

// networkOf is what one party is taken to own: a /24, or a /56 of IPv6.
func networkOf(addr netip.Addr) netip.Prefix {
	bits := 56
	if addr = addr.Unmap(); addr.Is4() {
		bits = 24
	}
	p, _ := addr.WithZone("").Prefix(bits) // it fails for an invalid address only, for which there is none
	return p
}

// places counts the connections of each network.
type places struct {
	limit int

	mu    sync.Mutex
	taken map[netip.Prefix]int
}

// enter takes a place, if there is one.
func (p *places) enter(addr netip.Addr) (leave func(), ok bool) {
	key := networkOf(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[key] >= p.limit {
		return nil, false
	}
	p.taken[key]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.taken[key]--; p.taken[key] == 0 {
			delete(p.taken, key)
		}
	}, true
}

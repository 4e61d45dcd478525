package relay

import "sync"

// Places are so many, for all together and for each of whom a key stands for. They
// are counted in memory, and of whoever has none nothing is remembered.
type Places[K comparable] struct {
	all, each int

	mu    sync.Mutex
	taken int
	of    map[K]int
}

// NewPlaces makes them; a negative number is no limit.
func NewPlaces[K comparable](all, each int) *Places[K] {
	return &Places[K]{all: all, each: each, of: map[K]int{}}
}

// Enter takes a place for the key, ok false if there is none. leave gives it back
// and may be called more than once.
func (p *Places[K]) Enter(key K) (leave func(), ok bool) {
	over := func(n, limit int) bool { return limit >= 0 && n >= limit }
	p.mu.Lock()
	defer p.mu.Unlock()
	if over(p.taken, p.all) || over(p.of[key], p.each) {
		return nil, false
	}
	p.taken++
	p.of[key]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if p.of[key]--; p.of[key] == 0 {
			delete(p.of, key)
		}
	}), true
}

// Of is how many places the key has.
func (p *Places[K]) Of(key K) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[key]
}

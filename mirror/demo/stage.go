package demo

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tamizdat/internal/censor"
)

// Stage is what stands between a reader and the world: first the switches, then
// the censor, whose last middlebox is the line. What any of them stops is stopped.
type Stage struct {
	*Switches
	world  *World
	censor *censor.Censor
	clock  atomic.Int64 // how far the reader's clock is ahead
	// kinds is what Switches know, for the trace: it may not wait for their lock.
	kinds map[string]string

	mu   sync.Mutex
	done map[string]map[censor.Action]int // by kind of path
}

// Stage returns one on which nothing is done yet. Faults are drawn from seed.
func (w *World) Stage(seed uint64) *Stage {
	s := &Stage{world: w, done: map[string]map[censor.Action]int{}}
	s.censor = censor.New(w.network, w.Map(), censor.Scenario{}, seed, s.trace)
	s.Switches = w.switches(s.censor)
	s.kinds = maps.Clone(s.Switches.kinds)
	return s
}

// Play lets the censor do what a scenario says, from now on and to what is open
// already. The servers at the far end lie as it says to all readers of the world. One call at a time.
func (s *Stage) Play(what censor.Scenario) {
	s.clock.Store(int64(what.Clock))
	s.world.liars.set(what.Far)
	what.Rules = append(slices.Clone(what.Rules), what.Line.Rule())
	s.censor.Set(what)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.done)
}

// Now is the time on the reader's device.
func (s *Stage) Now() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) }

// Done counts what the middleboxes have done to one kind of path since the last
// Play.
func (s *Stage) Done(kind string) map[censor.Action]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.done[kind])
}

func (s *Stage) trace(e censor.Event) {
	if e.Rule == (censor.Line{}).Rule().Name() {
		return // nobody's doing
	}
	kind := s.kinds[e.Proto+" "+e.To.String()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done[kind] == nil {
		s.done[kind] = map[censor.Action]int{}
	}
	s.done[kind][e.Action]++
}

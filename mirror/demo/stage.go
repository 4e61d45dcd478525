package demo

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"tamizdat/internal/censor"
)

// Stage is what stands between a reader and the world: first the switches, then
// the censor, then the line. What any of them stops is stopped.
type Stage struct {
	*Switches
	world  *World
	censor *censor.Censor
	line   *line
	clock  atomic.Int64 // how far the reader's clock is ahead

	mu   sync.Mutex
	done map[censor.Action]int
}

// Stage returns one on which nothing is done yet. Faults are drawn from seed.
func (w *World) Stage(seed uint64) *Stage {
	s := &Stage{world: w, line: newLine(w.network, seed), done: map[censor.Action]int{}}
	s.censor = censor.New(s.line, w.Map(), censor.Scenario{}, seed, s.trace)
	s.Switches = w.switches(s.censor)
	return s
}

// Play lets the censor do what a scenario says, from now on and to what is open
// already. The servers at the far end lie as it says to all readers of the world. One call at a time.
func (s *Stage) Play(what censor.Scenario) {
	s.clock.Store(int64(what.Clock))
	s.world.liars.set(what.Far)
	s.line.Set(what.Line)
	s.censor.Set(what)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.done)
}

// Now is the time on the reader's device.
func (s *Stage) Now() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) }

// Done counts what the middleboxes have done since the last Play.
func (s *Stage) Done() map[censor.Action]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.done)
}

func (s *Stage) trace(e censor.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[e.Action]++
}

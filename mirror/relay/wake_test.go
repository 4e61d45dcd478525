package relay

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Readers who wait for a head hear of it one after the other, within a millisecond
// for each of them; a relay that follows hears at once.
func TestWakingIsSpread(t *testing.T) {
	const readers = 1000
	p := newPress(t, "waking")
	first, second := p.edition(t, 0), p.edition(t, 0)
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, p, first, "")
		newer := func(e *edition) bool { return e.head.Size > 1 }
		heard, relay := make(chan time.Time, readers), make(chan time.Time, 1)
		wait := func(atOnce bool, heard chan<- time.Time) {
			if e := w.node.handler.await(t.Context(), p.ch, [8]byte{}, newer, time.Minute, atOnce); !newer(e) {
				t.Error("it heard nothing")
			}
			heard <- time.Now()
		}
		for range readers {
			go wait(false, heard)
		}
		synctest.Wait()
		go wait(true, relay) // the last one: as a reader it might wait a second
		synctest.Wait()
		w.push(w.node, second)
		at := <-relay
		var after []time.Duration
		for range readers {
			after = append(after, (<-heard).Sub(at))
		}
		slices.Sort(after)
		if early := after[0]; early < 0 {
			t.Errorf("a reader heard %v before the relay", -early)
		}
		// Who came nth waits up to n milliseconds: a quarter of a second is the middle.
		if half, last := after[readers/2], after[readers-1]; half < 100*time.Millisecond || half > 400*time.Millisecond || last > readers*pollSpread {
			t.Errorf("half have heard after %v, all after %v", half, last)
		}
	})
}

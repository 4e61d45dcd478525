//go:build lab

package censorlab

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"tamizdat/internal/censor"
)

var (
	soakReaders = flag.Int("readers", 12, "readers of the soak; the whole one has 200")
	soakDays    = flag.Int("days", 2, "how long the soak lasts, in simulated days; the whole one 7")
	soakSeed    = flag.Uint64("seed", 1, "the soak's seed; 0 takes a new one")
)

const (
	// An edition an hour.
	soakEdition = time.Hour
	// A reader opens the program so often.
	soakSync = 24 * time.Hour
	// A relay dies, and another takes its place, at a new address.
	soakRelay = 16 * time.Hour
	// What the dishonest servers do changes this often.
	soakLies = 5 * time.Hour
)

// TestSoak is a week in the life of 200 readers (with -readers 200 -days 7), each in a scenario that
// changes every few minutes, of a publisher with an edition an hour, and of
// relays that die and are replaced. Nobody may ever be shown something that was
// not published, go back, or be left behind when a way was open.
//
// A reader opens the program about once a day and closes it again: what was
// connected is not, then. Each sync begins in a scenario of its own and, while
// it lasts, meets another one every few minutes. If it was over before that, a
// way was open, and nothing is missing that the lab says is "not yet", it must
// have brought what was out when it began: that is each scenario's bound.
func TestSoak(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // hundreds of libraries lie in memory
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	readers := *soakReaders
	if raced {
		readers = min(readers, 4)
	}
	t.Logf("seed %d", seed)
	prime(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		ctx, end := context.WithTimeout(t.Context(), time.Duration(*soakDays)*24*time.Hour)
		defer end()
		s := &soak{t: t, w: w, seed: seed}
		for _, sc := range censor.Scenarios() {
			// Lies of servers are everybody's, see lies.
			if sc.Pairs && len(sc.Far.Relay)+len(sc.Far.Peer) == 0 {
				s.scenarios = append(s.scenarios, sc)
			}
		}
		var done errgroup.Group
		done.Go(func() error { return s.publish(ctx) })
		done.Go(func() error { return s.replace(ctx) })
		done.Go(func() error { return s.lies(ctx) })
		for i := range readers {
			done.Go(func() error { return s.reader(ctx, i) })
		}
		if err := done.Wait(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		t.Logf("%d editions, %d syncs, %d of them with the newest edition, %d in vain, %d readers offline at the end",
			w.pub.Size(), s.syncs, s.newest, s.vain, s.behind)
		if s.newest == 0 {
			t.Error("nobody ever had the newest edition")
		}
	})
}

// soak is what all of it has in common. Goroutines of a bubble run one at a time
// only if one processor does: the counters are guarded.
type soak struct {
	t         *testing.T
	w         *World
	seed      uint64
	scenarios []censor.Scenario

	mu                          sync.Mutex
	syncs, newest, vain, behind int
}

// publish packs an edition an hour.
func (s *soak) publish(ctx context.Context) error {
	for n := editions; ; n++ {
		if !pause(ctx, soakEdition) {
			return nil
		}
		news := slices.Clone(News(n, time.Now()))[:2]
		if n%6 != 0 {
			for i := range news {
				news[i].Images = nil
			}
		}
		// That the dead relay of the day does not answer is no obstacle.
		if err := s.w.Publish(ctx, news, "b"); err != nil && ctx.Err() == nil {
			return fmt.Errorf("edition %d: %w", n, err)
		}
	}
}

// replace lets relay B die and another one take its place.
func (s *soak) replace(ctx context.Context) error {
	for n := 1; pause(ctx, soakRelay); n++ {
		if err := s.w.ReplaceRelay(ctx, n); err != nil && ctx.Err() == nil {
			return fmt.Errorf("relay %d: %w", n, err)
		}
	}
	return nil
}

// lies makes relay B, peer and gateway dishonest in another way from time to time.
func (s *soak) lies(ctx context.Context) error {
	for n := uint64(0); pause(ctx, soakLies); n++ {
		var f censor.Far
		for _, name := range []string{"evil-relay", "evil-peer"} {
			sc, _ := censor.Lookup(name)
			if n%3 != 2 {
				f.Relay = append(f.Relay, sc.Far.Relay...)
			}
			if n%3 != 0 {
				f.Peer = append(f.Peer, sc.Far.Peer...)
			}
		}
		if err := s.w.evil.set(f, n); err != nil {
			return err
		}
	}
	return nil
}

// reader lives for the whole time.
func (s *soak) reader(ctx context.Context, i int) error {
	luck := rand.New(rand.NewPCG(s.seed, uint64(i)))
	any := func() censor.Scenario { return s.scenarios[luck.IntN(len(s.scenarios))] }
	sc := any()
	rd, err := s.w.NewReader(ctx, sc, Reading{Seed: luck.Uint64(), Limit: 30 * time.Minute, TextOnly: i%4 != 0, Brief: true})
	if err != nil {
		return err
	}
	defer rd.Close()
	size, last := uint64(0), time.Time{}
	for pause(ctx, time.Duration(luck.Int64N(int64(2*soakSync)))) {
		sc = any()
		rd.Set(sc)
		// What was out when the sync began must be in when it ends.
		before := s.w.Size()
		stop := s.changing(ctx, rd, luck.Uint64())
		o, err := rd.Sync(ctx)
		changed := stop()
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("reader %d, %s: %w", i, sc.Name, err)
		}
		s.mu.Lock()
		s.syncs++
		if o.Size >= before {
			s.newest++
		} else if o.Size == size {
			s.vain++
		}
		s.mu.Unlock()
		if o.Size < size {
			return fmt.Errorf("reader %d, %s: went back from %d editions to %d", i, sc.Name, size, o.Size)
		}
		open := len(sc.Open) > 0 && sc.NotYet == ""
		if open && !changed && o.Size < before {
			return fmt.Errorf("reader %d, %s: has %d of %d editions, last synced at %v (%v)", i, sc.Name, o.Size, before, last, o.Err)
		}
		size, last = o.Size, time.Now()
		if err := rd.Restart(); err != nil {
			return err
		}
	}
	if size < s.w.Size()-24 {
		s.mu.Lock()
		s.behind++
		s.mu.Unlock()
	}
	return nil
}

// changing puts the reader into other scenarios while he syncs, every few
// minutes. What it returns ends that and tells whether it happened.
func (s *soak) changing(ctx context.Context, rd *Reader, seed uint64) (stop func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan bool, 1)
	luck := rand.New(rand.NewPCG(s.seed, seed))
	go func() {
		changed := false
		for pause(ctx, 2*time.Minute+time.Duration(luck.Int64N(int64(5*time.Minute)))) {
			rd.Set(s.scenarios[luck.IntN(len(s.scenarios))])
			changed = true
		}
		ended <- changed
	}()
	return func() bool { cancel(); return <-ended }
}

// pause waits; false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

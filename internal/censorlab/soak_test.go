package censorlab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"tamizdat/internal/censor"
	engine "tamizdat/mirror/sync"
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

// owed is what a scenario with an open way owes a reader who opens the program in
// it, if it lasts that long: so soon he has the headlines that were out, so soon all
// texts, and pictures if he wants them and a way carries them. It is about three
// times what was seen, since servers lie, relays die and others read meanwhile.
func owed(s censor.Scenario) (headlines, all time.Duration) {
	wide := slices.ContainsFunc(Declared(s), wide)
	switch {
	case s.Name == "dns-hostile":
		return 30 * time.Second, 5 * time.Minute
	case !wide:
		return 4 * time.Second, 5 * time.Minute // pictures are waited for
	case lossy(s):
		// QUIC and TCP wait twice as long after each loss in a row: where six of ten
		// packets are lost, one sync in some hundreds meets five of them on every way.
		return 30 * time.Second, 90 * time.Second
	}
	return 4 * time.Second, 30 * time.Second
}

// TestSoak is a week in the life of 200 readers (with -readers 200 -days 7), each in a scenario that
// changes every few minutes, of a publisher with an edition an hour, and of
// relays that die and are replaced. Nobody may ever be shown something that was
// not published, go back, or be left behind when a way was open.
//
// A reader opens the program about once a day and closes it again: what was
// connected is not, then. The scenario of the time goes on for some minutes more,
// or seconds, and others follow while the sync lasts. If a way was open, nothing
// is missing that the lab says is "not yet", and the scenario lasted as long as it
// takes (see owed) or as the sync did, then the sync must have brought what was out
// when it began, in that time.
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
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		ctx, end := context.WithTimeout(t.Context(), time.Duration(*soakDays)*24*time.Hour)
		defer end()
		s := &soak{t: t, w: w, seed: seed, longest: map[string]*longest{}}
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
		for _, name := range slices.Sorted(maps.Keys(s.longest)) {
			l := s.longest[name]
			t.Logf("%-20s %4d syncs; at most %7.3f s to headlines, %7.3f s to texts, %7.3f s in all",
				name, l.syncs, l.headlines.Seconds(), l.text.Seconds(), l.all.Seconds())
		}
		t.Logf("%d editions, %d syncs, %d of them with the newest edition, %d in vain, %d during which the scenario changed, %d readers behind at the end",
			w.pub.Size(), s.syncs, s.newest, s.vain, s.changed, s.behind)
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

	mu                                   sync.Mutex
	syncs, newest, vain, changed, behind int
	longest                              map[string]*longest
}

// longest is how long it took at most in one scenario that leaves a way open, of
// syncs during which it did not change.
type longest struct {
	syncs                int
	headlines, text, all time.Duration
}

// publish packs an edition an hour.
func (s *soak) publish(ctx context.Context) error {
	for n := editions; ; n++ {
		if sleep(ctx, soakEdition) != nil {
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
	for n := 1; sleep(ctx, soakRelay) == nil; n++ {
		if err := s.w.ReplaceRelay(ctx, n); err != nil && ctx.Err() == nil {
			return fmt.Errorf("relay %d: %w", n, err)
		}
	}
	return nil
}

// lies makes relay B, peer and gateway dishonest in another way from time to time.
func (s *soak) lies(ctx context.Context) error {
	for n := uint64(0); sleep(ctx, soakLies) == nil; n++ {
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
	var trace atomic.Pointer[Trace]
	trace.Store(&Trace{})
	rd, err := s.w.NewReader(ctx, any(), Reading{
		Seed: luck.Uint64(), Limit: 30 * time.Minute, TextOnly: i%4 != 0, Brief: true,
		Trace: func(e censor.Event) { trace.Load().Add(e) },
	})
	if err != nil {
		return err
	}
	defer rd.Close()
	size, last := uint64(0), time.Time{}
	for sleep(ctx, time.Duration(luck.Int64N(int64(2*soakSync)))) == nil {
		v := visit{sc: any(), size: size, before: s.w.Size(), began: time.Now()}
		trace.Store(&Trace{})
		rd.Set(v.sc)
		stop := s.changing(ctx, rd, luck.Uint64())
		o, err := rd.Sync(ctx)
		v.changed = stop()
		v.took = time.Since(v.began)
		if ctx.Err() != nil {
			break
		}
		s.count(v, o)
		if err = errors.Join(err, v.judge(o)); err != nil {
			s.t.Errorf("seed %d: reader %d in %s, who had synced at %v, and now at %v for %v (%v), lies of the time: %q: %v\n%s%s",
				s.seed, i, v.sc.Name, last, v.began, v.took, o.Err, o.Lies, err, told(ctx, rd), trace.Load().String(v.began))
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

// visit is one opening of the program: in which scenario, what was held and what
// was out when it began, how long it took, and after what time the scenario
// changed first, 0 if it did not.
type visit struct {
	sc            censor.Scenario
	size, before  uint64
	began         time.Time
	took, changed time.Duration
}

// open: somebody could be reached when the program was opened.
func (v visit) open() bool { return len(v.sc.Open) > 0 && v.sc.NotYet == "" }

// lasted reports whether the scenario stayed for so long, or to the end.
func (v visit) lasted(d time.Duration) bool { return v.changed == 0 || v.changed >= d }

// judge is what is wrong with what a sync brought.
func (v visit) judge(o Outcome) error {
	headlines, all := owed(v.sc)
	switch {
	case o.Size < v.size:
		return fmt.Errorf("went back from %d editions to %d", v.size, o.Size)
	case !v.open() || !v.lasted(headlines):
		return nil
	case o.Size < v.before:
		return fmt.Errorf("has %d of the %d editions that were out", o.Size, v.before)
	case o.Unreached:
		return errors.New("reached nobody")
	case o.Headlines == 0 || o.Headlines > headlines:
		return fmt.Errorf("had the headlines after %v", o.Headlines)
	case !v.lasted(all):
		return nil
	case o.Text == 0 || o.Text > all || v.took > all || o.Err != nil:
		return fmt.Errorf("had the texts after %v, and all after %v", o.Text, v.took)
	}
	return nil
}

func (s *soak) count(v visit, o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncs++
	switch {
	case o.Size >= v.before:
		s.newest++
	case o.Size == v.size:
		s.vain++
	}
	if v.changed > 0 {
		s.changed++
		return
	}
	if !v.open() {
		return
	}
	l := s.longest[v.sc.Name]
	if l == nil {
		l = &longest{}
		s.longest[v.sc.Name] = l
	}
	l.syncs++
	l.headlines, l.text, l.all = max(l.headlines, o.Headlines), max(l.text, o.Text), max(l.all, v.took)
}

// told is what each way said last, for whoever looks into a failure.
func told(ctx context.Context, rd *Reader) string {
	reports, err := engine.Reports(context.WithoutCancel(ctx), rd.Lib, rd.ch)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, r := range reports {
		fmt.Fprintf(&b, "\t%s: %s %s, head %d, seen %v, at %v\n", r.Name, r.State, r.Error, r.Head, r.Seen, r.At)
	}
	return b.String()
}

// changing puts the reader into other scenarios while he syncs, every few
// minutes: the one that he found when he began may end at any time. What it
// returns ends that and tells after what time the first change came, 0 for none.
func (s *soak) changing(ctx context.Context, rd *Reader, seed uint64) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan time.Duration, 1)
	luck := rand.New(rand.NewPCG(s.seed, seed))
	lasts := func() time.Duration { return 2*time.Minute + time.Duration(luck.Int64N(int64(5*time.Minute))) }
	began := time.Now()
	go func() {
		first := time.Duration(0)
		for left := time.Duration(luck.Int64N(int64(lasts()))); sleep(ctx, left) == nil; left = lasts() {
			rd.Set(s.scenarios[luck.IntN(len(s.scenarios))])
			if first == 0 {
				first = max(time.Since(began), 1)
			}
		}
		ended <- first
	}()
	return func() time.Duration { cancel(); return <-ended }
}

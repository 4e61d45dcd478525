package sync_test

import (
	"slices"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// verdict is what the page would say now.
func (r *reader) verdict() sync.Verdict {
	r.t.Helper()
	reports, err := sync.Reports(r.t.Context(), r.lib, r.c.ID())
	if err != nil {
		r.t.Fatal(err)
	}
	return sync.Judge(r.view(), reports, whole(r.view(), nil), time.Now()).Verdict
}

// TestNobodySoFar: who is cut off hears of it after seconds, as an event and in
// the judgement, while the sync still tries; when somebody answers late it is
// taken back at once.
func TestNobodySoFar(t *testing.T) {
	const soon = 10 * time.Second
	c := published(t, 2)
	for name, test := range map[string]struct {
		rtt    time.Duration // an answer takes two, 0 for none
		new    bool          // the reader has nothing so far
		events int
	}{
		"nobody":           {0, false, 1},
		"nobody, ever":     {0, true, 1},
		"late":             {6 * time.Second, false, 1},
		"late, ever":       {6 * time.Second, true, 1},
		"slow but in time": {3 * time.Second, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := newRoad(t, 20*time.Millisecond, 0, c.Editions()[:1]...)
				r := newReader(t, c, first.path("relay 192.0.2.1:443 quic", transport.KindQUIC))
				if !test.new {
					r.sync()
					time.Sleep(time.Hour)
				}
				slow := newRoad(t, test.rtt, 2000, c.Editions()...)
				p := slow.path("relay 192.0.2.1:443 quic", transport.KindQUIC)
				if test.rtt == 0 {
					p = transporttest.Silent(p)
				}
				var mu gosync.Mutex
				var events []time.Duration
				answered := false
				told := func() ([]time.Duration, bool) {
					mu.Lock()
					defer mu.Unlock()
					return slices.Clone(events), answered
				}
				r.e.Progress = func(p sync.Progress) {
					mu.Lock()
					defer mu.Unlock()
					switch p.Event {
					case sync.EventNobody:
						events = append(events, p.At)
					case sync.EventAnswered:
						answered = true
					}
				}
				start := time.Now()
				done := make(chan *sync.Result)
				go func() {
					res, _ := r.over(p, transporttest.Silent(newRoad(t, 0, 0).path("relay 192.0.2.2:443 quic", transport.KindQUIC))).e.Sync(t.Context(), c.ID())
					done <- res
				}()
				time.Sleep(soon)
				if at, _ := told(); len(at) != test.events || test.events > 0 && at[0] > soon {
					t.Errorf("told at %v", at)
				}
				if v := r.verdict(); (v == sync.VerdictUnreached) != (test.events > 0) {
					t.Errorf("after %s it says %q", soon, v)
				}
				if test.rtt == 6*time.Second {
					time.Sleep(3 * time.Second)
					if v := r.verdict(); v == sync.VerdictUnreached {
						t.Errorf("somebody has answered, and it says %q", v)
					}
					if _, ok := told(); !ok {
						t.Error("nobody has answered")
					}
				}
				res := <-done
				if took := time.Since(start); took < 20*time.Second && test.events > 0 {
					t.Errorf("the sync gave up after %s", took)
				}
				if at, _ := told(); len(at) != test.events {
					t.Errorf("told at %v", at)
				}
				reports, err := sync.Reports(t.Context(), r.lib, c.ID())
				if err != nil {
					t.Fatal(err)
				}
				before := 0
				if !test.new {
					before = first.partial
				}
				for _, p := range reports {
					if p.Name == "relay 192.0.2.1:443 quic" && test.rtt > 0 && p.Bytes < report(t, res, p.Name).Bytes ||
						p.Bytes > report(t, res, p.Name).Bytes+int64(before) {
						t.Errorf("%s brought %d bytes, it says %d", p.Name, report(t, res, p.Name).Bytes, p.Bytes)
					}
				}
			})
		})
	}
}

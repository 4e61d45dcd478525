package censorlab

import (
	"errors"
	"slices"
	"testing"
	"time"

	"tamizdat/internal/censor"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// lookup finds a scenario that has to be there.
func find(t *testing.T, name string) censor.Scenario {
	t.Helper()
	s, ok := censor.Lookup(name)
	if !ok {
		t.Fatalf("no scenario %s", name)
	}
	return s
}

// What a scenario needs is what it says it leaves open: each of these ways
// brings the news alone, and without all of them nothing comes.
func TestScenariosNeedTheirWays(t *testing.T) {
	singles, _ := rowed()
	inWorlds(t, len(singles), func(t *testing.T, w *World, i int) {
		s := singles[i]
		for _, way := range Declared(s) {
			var o Outcome
			for seed := uint64(0); seed < 5 && o.Headlines == 0; seed++ { // a bad line has bad days
				o = read(t, w, s, Reading{Seed: seed, Only: []string{way}, TextOnly: true, Until: "headlines"})
			}
			if o.Headlines == 0 && s.NotYet == "" {
				t.Errorf("%s: nothing came over %s alone: %v", s.Name, way, o.Err)
			}
		}
		if len(Declared(s)) == len(Ways) {
			return
		}
		for i, r := range s.Rules {
			if _, ok := r.(censor.DropRelays); ok { // what it will have found in the end
				s.Rules = slices.Clone(s.Rules)
				s.Rules[i] = censor.DropRelays{Every: 1}
			}
		}
		// Of connections that freeze each carries a little: a small text, but no picture.
		o := read(t, w, s, Reading{Without: Declared(s), Limit: 5 * time.Minute})
		if o.Newest && o.Text > 0 && (o.Images > 0 || !s.Freezes()) {
			t.Errorf("%s: with %v switched off the news came all the same, over %s", s.Name, Declared(s), o.By["headlines"])
		}
	})
}

func TestOffline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		rd, err := w.NewReader(t.Context(), find(t, "open"), Reading{})
		if err != nil {
			t.Fatal(err)
		}
		defer rd.Close()
		sync := func() Outcome {
			t.Helper()
			o, err := rd.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		if o := sync(); !o.Newest {
			t.Fatalf("the first sync brought nothing: %v", o.Err)
		}
		if err := w.Publish(t.Context(), News(editions, time.Now())); err != nil {
			t.Fatal(err)
		}
		rd.Set(find(t, "offline"))
		time.Sleep(10 * time.Minute)
		start, told := time.Now(), time.Duration(0)
		rd.Progress = func(p newsync.Progress) {
			if p.Event == newsync.EventNobody {
				told = time.Since(start)
			}
		}
		// Sync verifies that what was there can still be read.
		o := sync()
		if rd.Progress = nil; told == 0 || told > 10*time.Second {
			t.Errorf("people heard after %v that nobody has answered so far", told)
		}
		if !errors.Is(o.Err, newsync.ErrNoPath) || o.Newest || o.Size != editions {
			t.Errorf("offline: %d editions, newest %v, %v", o.Size, o.Newest, o.Err)
		}
		if took := time.Since(start); took > 125*time.Second {
			t.Errorf("it took %v to say that nobody answers", took)
		}
		stick, err := w.Stick()
		if err != nil {
			t.Fatal(err)
		}
		rd.Extra = []transport.Path{stick}
		if o := sync(); !o.Newest || o.By["text"] != transport.KindFile || o.By["images"] != transport.KindFile {
			t.Errorf("a stick did not bring everything: %+v", o)
		}
	})
}

// A reader who comes back asks in the first packet.
func TestReturning(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		var cold, back []time.Duration
		n := *seeds
		if raced {
			n = 3
		}
		for seed := range uint64(n) {
			rd, err := w.NewReader(t.Context(), find(t, "open"), Reading{Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			o, err := rd.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			cold = append(cold, o.Headlines)
			time.Sleep(10 * time.Minute) // all connections have been closed for being idle
			if err := w.Publish(t.Context(), News(editions+int(seed), time.Now())); err != nil {
				t.Fatal(err)
			}
			if o, err = rd.Sync(t.Context()); err != nil || !o.Newest {
				t.Fatalf("came back for nothing: %v, %v", err, o.Err)
			}
			back = append(back, o.Headlines)
			if err := rd.Close(); err != nil {
				t.Error(err)
			}
		}
		c, b := median(cold), median(back)
		t.Logf("headlines after %.1f round trips cold, %.1f returning", c, b)
		if c > 2.1 {
			t.Errorf("cold: %.1f round trips", c)
		}
		if b > 1.1 {
			t.Errorf("returning: %.1f round trips", b)
		}
	})
}

// A resolver that keeps answers for an hour must not keep the news.
func TestFreshHeadThroughOldCache(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		rd, err := w.NewReader(t.Context(), find(t, "dns-ttl"), Reading{})
		if err != nil {
			t.Fatal(err)
		}
		defer rd.Close()
		for n := range 3 {
			o, err := rd.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !o.Newest {
				t.Fatalf("sync %d: %d editions of %d: %v", n, o.Size, w.Size(), o.Err)
			}
			if err := w.Publish(t.Context(), News(editions+n, time.Now())); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// Whoever shows another history is caught, and the proof is kept; the true news
// arrives all the same.
func TestForkIsKept(t *testing.T) {
	for _, far := range []censor.Far{{Relay: []censor.Evil{censor.EvilFork}}} {
		inWorld(t, func(t *testing.T, w *World) {
			s := find(t, "open")
			s.Far = far
			o, err := w.Read(t.Context(), s, Reading{})
			if err != nil || !o.Newest || o.Text == 0 {
				t.Fatalf("%v, %+v", err, o)
			}
			if !o.Fork {
				t.Error("no fork was noticed")
			}
			// With nobody to contradict that relay there is no proof, and its history is shown.
			m := measure{ways: overQUIC, off: []handicap{onlyOther}}
			if o, err := m.read(t, w, s, 0, false); !errors.Is(err, ErrFalse) || o.Fork {
				t.Errorf("with that relay alone: fork %t, %v", o.Fork, err)
			}
		})
	}
}

// A reader for whom all quiet ways are stuck in the past never goes back, and gets
// the news over the one that is left: whatever served him well before, that these
// say "nothing newer" is no reason not to ask.
func TestNeverBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		rd, err := w.NewReader(t.Context(), find(t, "open"), Reading{Without: []string{WayCDN}})
		if err != nil {
			t.Fatal(err)
		}
		defer rd.Close()
		o, err := rd.Sync(t.Context())
		if err != nil || !o.Newest {
			t.Fatal(err, o.Err)
		}
		s := find(t, "open")
		s.Rules = append(s.Rules, censor.DropRelays{Every: time.Hour}, censor.DropAll{To: censor.PublicIPFS})
		s.Far = censor.Far{Relay: []censor.Evil{censor.EvilOld}, Peer: []censor.Evil{censor.EvilOld}}
		if err := w.evil.set(s.Far, 0); err != nil {
			t.Fatal(err)
		}
		rd.Set(s)
		if err := rd.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := w.Publish(t.Context(), News(editions, time.Now()), "b"); err != nil { // relay B acts as if it had not heard
			t.Fatal(err)
		}
		again, err := rd.Sync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if again.Size < o.Size {
			t.Errorf("went back from %d to %d", o.Size, again.Size)
		}
		if !again.Newest || again.By["head"] != transport.KindDNS {
			t.Errorf("DNS was open: %d editions of %d, over %q: %v", again.Size, w.Size(), again.By["head"], again.Err)
		}
	})
}

// What keeps a reader from going back is that he remembers which head he held: in the
// same place, before the same relay that is stuck in the past, one who has forgotten
// it, and nothing else, does.
func TestForgetfulGoesBack(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *World) {
			rd, err := w.NewReader(t.Context(), find(t, "open"), Reading{Only: overQUIC})
			if err != nil {
				t.Fatal(err)
			}
			defer rd.Close()
			invited, err := rd.Lib.State(t.Context(), rd.ch)
			if err != nil {
				t.Fatal(err)
			}
			o, err := rd.Sync(t.Context())
			if err != nil || !o.Newest {
				t.Fatal(err, o.Err)
			}
			s := find(t, "open")
			s.Rules = append(s.Rules, censor.DropRelays{Every: time.Hour}) // relay B is left
			s.Far = censor.Far{Relay: []censor.Evil{censor.EvilOld}}
			if err := w.evil.set(s.Far, 0); err != nil {
				t.Fatal(err)
			}
			rd.Set(s)
			if err := rd.Restart(); err != nil {
				t.Fatal(err)
			}
			if forgets {
				if err := rd.Lib.SetState(t.Context(), rd.ch, invited); err != nil {
					t.Fatal(err)
				}
			}
			again, err := rd.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if back := again.Size > 0 && again.Size < o.Size; back != forgets {
				t.Errorf("forgets %t: held %d editions, then %d: %v", forgets, o.Size, again.Size, again.Err)
			}
		})
	}
}

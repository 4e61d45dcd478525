package publisher

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// TestHeartbeatAsksThoseAside: a heartbeat to one target loses no quorum, since all
// witnesses are asked, and nothing is pushed to the others.
func TestHeartbeatAsksThoseAside(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b, c := newWatcher(t, p, "a"), newWatcher(t, p, "b"), newWatcher(t, p, "c")
	named(t, p, 2, a, b, c)
	packStory(t, p, 1)
	synctest.Test(t, func(t *testing.T) {
		p.Push(t.Context(), targetsOf(a, b, c), nil)
		seenBy(t, p, channel.Witnessed{Seen: 3, Of: 3, Quorum: 2})
		old, err := p.headOf(0)
		if err != nil {
			t.Fatal(err)
		}
		at := old.Time.Add(time.Hour)
		if err := p.Heartbeat(t.Context(), targetsOf(a), at); !errors.Is(err, errUnseenBeat) {
			t.Fatalf("one of two: %v", err)
		}
		to := targetsOf(a, b, c)
		to[1].Aside, to[2].Aside, to[2].Witness = true, true, true
		c.down = true
		if err := p.Heartbeat(t.Context(), to, at); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(b.Dir); err != nil {
			t.Fatal(err)
		}
		for i, r := range p.Push(t.Context(), to, nil) {
			if r.Err != nil || (r.Editions > 0) != (i == 0) {
				t.Errorf("%s: %d editions, %v", r.Target, r.Editions, r.Err)
			}
		}
		holdsSeen(t, p, a, 2)
		if _, err := os.Stat(b.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Error("an edition went to a target that was not named")
		}
		// What it says of another history is told all the same.
		b.refuses = transport.ErrRefused
		if err := p.Heartbeat(t.Context(), to[:1], at.Add(time.Hour)); err == nil {
			t.Fatal("a quorum is lost")
		}
		if r := p.Push(t.Context(), to, nil); r[0].Err != nil || !errors.Is(r[1].Err, transport.ErrRefused) || r[2].Err != nil {
			t.Errorf("%+v", r)
		}
	})
}

// TestAside: relays and witnesses that were not named, and only if there are witnesses.
func TestAside(t *testing.T) {
	p, err := withTargets(t, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AddWitness("w", "https://witness.example"); err != nil {
		t.Fatal(err)
	}
	if err := p.AddMirror(TargetConfig{Name: "www", Mirror: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	first := p.cfg.Targets[0].Name
	aside := func() (names []string) {
		t.Helper()
		to, err := p.Targets(&netreal.Network{}, first)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range p.Aside(&netreal.Network{}, to) {
			if names = append(names, o.Name); !o.Aside || o.Witness != (o.Name == "w") {
				t.Errorf("%+v", o)
			}
		}
		return names
	}
	if got := aside(); got != nil {
		t.Errorf("the channel has no witnesses: %v", got)
	}
	named(t, p, 1, newWatcher(t, p, "a"))
	if got, want := aside(), []string{p.cfg.Targets[1].Name, "w"}; !slices.Equal(got, want) {
		t.Errorf("%v instead of %v", got, want)
	}
}

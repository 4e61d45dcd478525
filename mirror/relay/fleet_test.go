package relay

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tamizdat/internal/netreal"
)

// TestFleetStores: what one store of a fleet takes, replaces or drops, another
// one shows after a look at the listing.
func TestFleetStores(t *testing.T) {
	for _, name := range []string{"memory", "s3"} {
		t.Run(name, func(t *testing.T) {
			again := backends[name](t)
			p := newPress(t, "fleet")
			first, second, third := p.edition(t, 300_000), p.edition(t, 300_000), p.edition(t, 300_000)
			room := Limits{Channel: int64(len(first.car))*2 + 50_000}
			a, b := storeOn(t, again(), room), storeOn(t, again(), room)
			refresh := func(s *Store) {
				t.Helper()
				if err := s.refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			numbers := func(s *Store) (out []uint64) {
				for _, e := range s.snapshot(p.ch) {
					out = append(out, e.head.Edition)
				}
				return out
			}
			if err := store(t, a, first); err != nil {
				t.Fatal(err)
			}
			// Whoever waits at the other one is woken.
			_, wake := b.newest(p.ch)
			refresh(b)
			select {
			case <-wake:
			default:
				t.Error("nobody was woken")
			}
			whole(t, b, first)
			_, wake = b.newest(p.ch)
			refresh(b)
			select {
			case <-wake:
				t.Error("woken by nothing new")
			default:
			}
			// The next edition comes to the other one, who need not have looked.
			if err := store(t, b, second); err != nil {
				t.Fatal(err)
			}
			if err := store(t, a, second); err != nil {
				t.Errorf("the same to the first one: %v", err)
			}
			if err := store(t, a, third); err != nil { // the first edition has to go
				t.Fatal(err)
			}
			refresh(b)
			if got := numbers(b); !slices.Equal(got, []uint64{2, 1}) {
				t.Errorf("the other one has editions %v", got)
			}
			whole(t, b, third)
			// Signed again: one of that number is left.
			beat := p.sign(t, third.packed, channelEdge(p, 2), third.head.Time.Add(time.Hour))
			if err := store(t, b, beat); err != nil {
				t.Fatal(err)
			}
			refresh(a)
			if h, _ := a.Head(p.ch); !h.Time.Equal(beat.head.Time) || !slices.Equal(numbers(a), []uint64{2, 1}) {
				t.Errorf("head of %v, editions %v", h.Time, numbers(a))
			}
			// A fork is refused by whoever gets it.
			q := newPress(t, "fleet")
			q.edition(t, 10)
			q.edition(t, 20)
			if err := store(t, a, q.edition(t, 30)); !errors.Is(err, errBad) {
				t.Errorf("a fork: %v", err)
			}
			// What is damaged in the bucket is not taken over, and what is there stays.
			kept := again()
			bad := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(bad, noise(5, 5000), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := kept.take(t.Context(), kept.at(p.ch, "000000000009-9.car"), bad); err != nil {
				t.Fatal(err)
			}
			refresh(a)
			refresh(a)
			if got := numbers(a); !slices.Equal(got, []uint64{2, 1}) {
				t.Errorf("after a damaged object: editions %v", got)
			}
			// All gone.
			objects, err := kept.list(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if err := kept.remove(t.Context(), kept.at(o.ch, o.file)); err != nil {
					t.Fatal(err)
				}
			}
			refresh(a)
			if h, _ := a.Head(p.ch); h != nil {
				t.Error("an emptied bucket still has a head")
			}
		})
	}
}

// TestFleet is two relays on one bucket with one set of secrets: what is pushed
// to one is read from the other, whose readers wake; and a relay that is started
// again on an empty folder but for its secrets has all of it.
func TestFleet(t *testing.T) {
	c, _ := onS3(t)
	p := newPress(t, "fleet of relays")
	secrets := t.TempDir()
	a := start(t, Config{Dir: secrets, S3: &c, S3Poll: 50 * time.Millisecond})
	target(t, a, p.ch)
	copied := func() string {
		dir := t.TempDir()
		files, err := os.ReadDir(secrets)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.Name() == lockName || f.IsDir() {
				continue
			}
			text, err := os.ReadFile(filepath.Join(secrets, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f.Name()), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	b := start(t, Config{Dir: copied(), S3: &c, S3Poll: 50 * time.Millisecond})
	if a.Pin() != b.Pin() {
		t.Fatal("the relays have different keys")
	}
	read := func(r *Relay, s *sheet) {
		t.Helper()
		path := paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(p.batch))[0]
		raw, err := path.Heads.Head(t.Context(), p.ch, s.head.Size-1) // waits until it is there
		if err != nil {
			t.Fatal(err)
		}
		if h, err := p.roots.Head(raw); err != nil || h.Edition != s.head.Edition {
			t.Fatalf("another head: %v", err)
		}
		checkBlocks(t, path, p, s)
	}
	first := p.edition(t, 300_000)
	push(t, a, first)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Store().Wait(ctx, p.ch, 0); err != nil { // a reader who has nothing doesn't wait
		t.Fatal(err)
	}
	read(b, first)
	second := p.edition(t, 300_000)
	woken := make(chan error, 1)
	go func() { woken <- b.Store().Wait(ctx, p.ch, 1) }()
	push(t, a, second)
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	read(b, second)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	third := p.edition(t, 10)
	push(t, b, third)
	again := start(t, Config{Dir: copied(), S3: &c})
	read(again, third)
	if got := len(again.store.snapshot(p.ch)); got != 3 {
		t.Errorf("%d editions after a start on an empty folder", got)
	}
	if _, err := os.Stat(filepath.Join(again.cfg.Dir, "editions")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a relay on a bucket has a folder of editions: %v", err)
	}
}

package relay

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// noMore is what a head takes with root notes, CAR header and all: far less than what
// follows it.
const noMore = 4096

// TestHeadAlone: of an edition that the relay holds under another head only that head is
// sent, and all of it is there afterwards, under the new one.
func TestHeadAlone(t *testing.T) {
	p := newPress(t, "head alone")
	edge := p.tree.Edge()
	s := p.edition(t, 1_900_000)
	beat := p.sign(t, s.packed, edge, s.head.Time.Add(24*time.Hour))
	later := p.sign(t, s.packed, edge, time.Unix(17_000_000_000, 0)) // longer by a digit
	if len(later.car) == len(s.car) {
		t.Fatal("all heads are of one length: nothing is tested")
	}
	for _, way := range []*only{{udp: true}, {tcp: true}} {
		r := start(t, Config{})
		pub := pusher(t, way, target(t, r, p.ch))
		if _, err := pub.PublishHead(t.Context(), s.source()); !errors.Is(err, transport.ErrNotFound) {
			t.Fatalf("nothing is there: %v", err)
		}
		first := int64(-1)
		if err := pub.Publish(t.Context(), s.source(), func(held, _ int64) {
			if first < 0 {
				first = held
			}
		}); err != nil || first <= 0 || first > noMore {
			t.Fatalf("the upload went on at byte %d: %v", first, err)
		}
		for _, b := range []*sheet{beat, later} {
			sent, err := pub.PublishHead(t.Context(), b.source())
			if err != nil || sent <= 0 || sent > noMore {
				t.Fatalf("%d bytes: %v", sent, err)
			}
			if h, _ := r.store.Head(p.ch); !h.Time.Equal(b.head.Time) || len(r.store.snapshot(p.ch)) != 1 {
				t.Fatalf("a head of %v is held, of %d editions", h.Time, len(r.store.snapshot(p.ch)))
			}
			if sent, err := pub.PublishHead(t.Context(), b.source()); sent != 0 || err != nil {
				t.Errorf("once more: %d bytes, %v", sent, err)
			}
		}
		if _, err := pub.PublishHead(t.Context(), beat.source()); !errors.Is(err, transport.ErrRefused) {
			t.Errorf("an older head: %v", err)
		}
		e, _ := r.store.newest(p.ch)
		if raw, err := os.ReadFile(e.path); err != nil || !bytes.Equal(raw, later.car) {
			t.Errorf("what is stored is not the edition as it was made: %v", err)
		}
		// Also for a relay that begins anew.
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = start(t, Config{Dir: r.cfg.Dir})
		checkBlocks(t, paths(t, &only{tcp: true}, target(t, r, p.ch).Relay(p.batch))[1], p, later)
	}
}

// TestHeadAloneNeedsTheRest: where what is held has rotted, or is of another edition, the
// upload waits for the rest, and then all is well again.
func TestHeadAloneNeedsTheRest(t *testing.T) {
	p := newPress(t, "the rest")
	edge := p.tree.Edge()
	s := p.edition(t, 400_000)
	beat := p.sign(t, s.packed, edge, s.head.Time.Add(24*time.Hour))
	last := s.packed.Blocks[len(s.packed.Blocks)-1].Data
	for name, spoil := range map[string]func(car []byte) []byte{
		"rotten":  func(car []byte) []byte { car[bytes.Index(car, last)] ^= 1; return car },
		"shorter": func(car []byte) []byte { return car[:len(car)-1] },
		"gone":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, Config{})
			push(t, r, s)
			e, _ := r.store.newest(p.ch)
			raw, err := os.ReadFile(e.path)
			if err == nil && spoil != nil {
				err = os.WriteFile(e.path, spoil(raw), 0o600)
			} else if err == nil {
				err = os.Remove(e.path)
			}
			if err != nil {
				t.Fatal(err)
			}
			pub := pusher(t, &netreal.Network{}, target(t, r, p.ch))
			if _, err := pub.PublishHead(t.Context(), beat.source()); err == nil || errors.Is(err, transport.ErrRefused) {
				t.Fatalf("%v", err)
			}
			if h, _ := r.store.Head(p.ch); !h.Time.Equal(s.head.Time) {
				t.Error("a head is shown without its edition")
			}
			if _, err := pub.PublishHead(t.Context(), beat.source()); !errors.Is(err, transport.ErrNotFound) {
				t.Errorf("asked again: %v", err)
			}
			if err := pub.Publish(t.Context(), beat.source(), nil); err != nil {
				t.Fatal(err)
			}
			checkBlocks(t, paths(t, &only{tcp: true}, target(t, r, p.ch).Relay(p.batch))[1], p, beat)
		})
	}
}

// TestSeenHeadAlone: the same for a head that more witnesses have seen.
func TestSeenHeadAlone(t *testing.T) {
	p := newPress(t, "seen alone")
	w, key := channel.NewWitness(noise(3, 32), channel.ID{3})
	note := &channel.RootNote{
		Version: 1, Threshold: 1, RootKeys: p.roots.Last().RootKeys, Log: p.roots.Last().Log, IPNS: p.roots.IPNSKey(),
		Witnesses: []channel.Witness{w}, Quorum: 1,
	}
	signed, err := note.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	p.notes, p.ch = [][]byte{signed}, channel.IDOf(note.Text())
	if p.roots, err = channel.ParseRoots(p.ch, p.notes); err != nil {
		t.Fatal(err)
	}
	s := p.edition(t, 400_000)
	c, err := p.roots.Checkpoint(s.head.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	line, _ := c.Cosign(w.Name, key, s.head.Time)
	seen := *s
	seen.head = p.roots.Cosigned(s.head, line)
	seen.car = seen.marshal(t, s.packed.Blocks)
	r := start(t, Config{})
	push(t, r, s)
	sent, err := pusher(t, &netreal.Network{}, target(t, r, p.ch)).PublishHead(t.Context(), seen.source())
	if err != nil || sent > noMore {
		t.Fatalf("%d bytes: %v", sent, err)
	}
	if e, _ := r.store.newest(p.ch); e.seen != 1 || e.size != int64(len(seen.car)) {
		t.Errorf("a head is held that %d have seen, of %d bytes", e.seen, e.size)
	}
}

// TestFollowersTakeHeadsAlone: who pulls from another relay reads no more of a heartbeat
// than the beginning.
func TestFollowersTakeHeadsAlone(t *testing.T) {
	p := newPress(t, "followed heads")
	edge := p.tree.Edge()
	s := p.edition(t, 1_900_000)
	beat := p.sign(t, s.packed, edge, s.head.Time.Add(time.Hour))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.relay(1, Config{})
		b := w.relay(2, Config{Pull: []wire.Pull{a.line(t, p.ch)}})
		target(t, b.Relay, p.ch)
		has := func(s *sheet) func() bool {
			return func() bool { h, _ := b.Store().Head(p.ch); return h != nil && h.Time.Equal(s.head.Time) }
		}
		w.push(a, s)
		w.until("the edition", has(s))
		_, _, before := a.seen.get()
		w.push(a, beat)
		w.until("the heartbeat", has(beat))
		_, _, after := a.seen.get()
		t.Logf("%d bytes were sent for a head", after-before)
		if after-before > 1_000_000 {
			t.Errorf("%d of %d bytes were sent for a head", after-before, len(beat.car))
		}
		for _, blk := range s.packed.Blocks {
			if got, err := b.Store().Block(p.ch, blk.CID); err != nil || bundle.CheckBlock(blk.CID, got) != nil {
				t.Errorf("block %s: %v", blk.CID, err)
			}
		}
	})
}

// TestHeadAloneOnBackends: wherever editions lie, an upload that ends behind its head is
// completed from there.
func TestHeadAloneOnBackends(t *testing.T) {
	for name, mk := range backends {
		t.Run(name, func(t *testing.T) {
			again := mk(t)
			p := newPress(t, "head on backends")
			edge := p.tree.Edge()
			sh := p.edition(t, 700_000)
			beat := p.sign(t, sh.packed, edge, sh.head.Time.Add(time.Hour))
			s := storeOn(t, again(), Limits{})
			if err := store(t, s, sh); err != nil {
				t.Fatal(err)
			}
			r, err := car.NewReader(bytes.NewReader(beat.car))
			if err == nil {
				_, err = r.Intro()
			}
			if err != nil {
				t.Fatal(err)
			}
			u, err := s.open(t.Context(), p.ch, bundle.RawCID(beat.head.Text()), func() {})
			if err != nil {
				t.Fatal(err)
			}
			defer u.unlock()
			total := int64(len(beat.car))
			held, done, err := u.append(0, total, bytes.NewReader(beat.car[:r.End()]))
			if err != nil || !done || held != total {
				t.Fatalf("%d bytes, done %v: %v", held, done, err)
			}
			for _, s := range []*Store{s, storeOn(t, again(), Limits{})} {
				if h, _ := s.Head(p.ch); !h.Time.Equal(beat.head.Time) || len(s.snapshot(p.ch)) != 1 {
					t.Errorf("a head of %v, %d editions", h.Time, len(s.snapshot(p.ch)))
				}
				whole(t, s, beat)
			}
		})
	}
}

package relay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
	"tamizdat/transport/pkarr"
)

// packet signs the packet of a sheet.
func (p *press) packet(t *testing.T, s *sheet, seq int64) []byte {
	t.Helper()
	i, err := pkarr.Sign(p.ipns, s.head, time.UnixMicro(seq))
	if err != nil {
		t.Fatal(err)
	}
	return i.Bytes()
}

// What a publisher pushes is found on the DHT by who knows the key, the newest after a
// restart as well.
func TestPacketIsPosted(t *testing.T) {
	nodes := testservers.Swarm(t, 10)
	dir := t.TempDir()
	p := newPress(t, "posted")
	r := start(t, Config{Dir: dir})
	if err := r.PostPackets(nodes[:1]); err != nil {
		t.Fatal(err)
	}
	if err := r.PostPackets(nodes[:1]); err == nil {
		t.Error("twice")
	}
	c, err := pkarr.New(pkarr.Config{Network: &netreal.Network{}, Nodes: nodes[5:6]})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := func(seq int64) {
		t.Helper()
		for {
			i, err := c.Get(ctx, public(p.ipns))
			if err == nil && i.Seq >= seq {
				return
			}
			if err != nil && !errors.Is(err, transport.ErrNotFound) {
				t.Fatal(err)
			}
		}
	}
	for _, seq := range []int64{1000, 2000} {
		s := p.edition(t, 0)
		push(t, r, s)
		if err := pusher(t, r.cfg.Network, target(t, r, p.ch)).PostPacket(ctx, p.ch, p.packet(t, s, seq)); err != nil {
			t.Fatal(err)
		}
		found(seq)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	others := testservers.Swarm(t, 10) // that have never heard of it
	if c, err = pkarr.New(pkarr.Config{Network: &netreal.Network{}, Nodes: others[5:6]}); err != nil {
		t.Fatal(err)
	}
	if err := start(t, Config{Dir: dir}).PostPackets(others[:1]); err != nil {
		t.Fatal(err)
	}
	found(2000)
}

// Packets are taken like IPNS records: only good ones, of editions that are held, and none
// that goes back; and they are kept.
func TestPacketIsChecked(t *testing.T) {
	p, other := newPress(t, "checked"), newPress(t, "other")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	pub := pusher(t, r.cfg.Network, target(t, r, p.ch))
	first := p.edition(t, 0)
	refused := func(what string, raw []byte) {
		t.Helper()
		if err := pub.PostPacket(t.Context(), p.ch, raw); !errors.Is(err, transport.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("no edition yet", p.packet(t, first, 5))
	push(t, r, first)
	good := p.packet(t, first, 5)
	for range 2 {
		if err := pub.PostPacket(t.Context(), p.ch, good); err != nil {
			t.Fatal(err)
		}
	}
	second := p.edition(t, 0)
	foreign := other.edition(t, 0)
	theirs, err := pkarr.Sign(p.ipns, foreign.head, time.UnixMicro(9))
	if err != nil {
		t.Fatal(err)
	}
	refused("an edition that is not held", p.packet(t, second, 6))
	refused("another channel's head", theirs.Bytes())
	refused("another key", other.packet(t, first, 6))
	refused("nothing", nil)
	refused("noise", noise(1, 900))
	refused("too large", noise(1, transport.MaxPacket+1))
	push(t, r, second)
	newer := p.packet(t, second, 6)
	if err := pub.PostPacket(t.Context(), p.ch, newer); err != nil {
		t.Fatal(err)
	}
	if err := pub.PostPacket(t.Context(), p.ch, good); err != nil || !bytes.Equal(r.store.packet(p.ch).raw, newer) {
		t.Errorf("an older one: %v", err)
	}
	refused("an older edition under a higher number", p.packet(t, first, 7))
	r.Close()
	r = start(t, Config{Dir: dir})
	if held := r.store.packet(p.ch); held == nil || !bytes.Equal(held.raw, newer) {
		t.Error("gone with a restart")
	}
	r.Close()
	file := filepath.Join(dir, "editions", p.ch.String(), packetFile)
	if err := os.WriteFile(file, newer[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, Config{Dir: dir})
	if r.store.packet(p.ch) != nil {
		t.Error("a damaged one is used")
	}
	pub = pusher(t, r.cfg.Network, target(t, r, p.ch))
	if err := pub.PostPacket(t.Context(), p.ch, newer); err != nil || r.store.packet(p.ch) == nil {
		t.Errorf("after that: %v", err)
	}
}

// TestPacketOfTheNewGeneration: with a thief's editions goes their packet, also for a
// restart, and that of the repaired log is taken, though it states fewer editions.
func TestPacketOfTheNewGeneration(t *testing.T) {
	r, p, thief, _ := robbed(t, "packets")
	stolen := thief.edition(t, 14)
	push(t, r, stolen)
	old := thief.packet(t, stolen, 5)
	post := func(raw []byte) error {
		t.Helper()
		return pusher(t, r.cfg.Network, target(t, r, p.ch)).PostPacket(t.Context(), p.ch, raw)
	}
	if err := post(old); err != nil {
		t.Fatal(err)
	}
	held := r.store.packet(p.ch)
	p.rekey(t)
	next := p.edition(t, 0)
	push(t, r, next)
	if r.store.packet(p.ch) != nil {
		t.Error("the withdrawn packet is still put")
	}
	r.Close()
	r = start(t, Config{Dir: r.cfg.Dir})
	if r.store.packet(p.ch) != nil {
		t.Error("the withdrawn packet is put after a restart")
	}
	r.store.mu.Lock()
	r.store.shelf(p.ch).packet = held // as of one that was under way when the edition came
	r.store.mu.Unlock()
	good := p.packet(t, next, 6)
	if err := post(good); err != nil {
		t.Errorf("the repaired log's: %v", err)
	}
	if err := post(old); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("the withdrawn one again: %v", err)
	}
	if held := r.store.packet(p.ch); held == nil || !bytes.Equal(held.raw, good) {
		t.Error("the repaired log's packet is not held")
	}
}

package ipfs

import (
	"bytes"
	"testing"

	"tamizdat/transport"
)

// Three nodes of a private DHT: what one was given, a reader that knows only
// another finds, record and blocks.
func TestDHT(t *testing.T) {
	e := newEdition(t)
	middle := newNode(t, Config{Network: new(loopback), Listen: bothListen, Blocks: newMemStore(), DHT: DHTServer})
	holder := newNode(t, Config{
		Network: new(loopback), Listen: bothListen, Blocks: e.store, DHT: DHTServer, Peers: middle.Addrs(),
	})
	waitFor(t, func() bool { return holder.dht.RoutingTable().Size() > 0 })
	if err := holder.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	reader := newNode(t, Config{Network: new(loopback), DHT: DHTClient, Peers: middle.Addrs()})
	p, err := reader.Path("", e.ipnsPub, nil)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		raw, err := p.Heads.Head(t.Context(), [32]byte{}, 0)
		return err == nil && bytes.Equal(raw, e.compact)
	})
	req := wantsOf(e.layer)
	req.Edition = transport.Edition{Root: e.root}
	waitFor(t, func() bool {
		got, err := collect(t.Context(), t, p.Blocks, req)
		return err == nil && len(got) == len(e.layer)
	})
	// The small files, too: only the DHT knows who holds their edition.
	if b, err := p.Heads.RootNote(t.Context(), [32]byte{}, 1); err != nil || !bytes.Equal(b, e.note) {
		t.Errorf("root note: %d bytes, %v", len(b), err)
	}
	if b, err := p.Heads.Grant(t.Context(), [32]byte{}, grantName); err != nil || !bytes.Equal(b, e.grant) {
		t.Errorf("grant: %d bytes, %v", len(b), err)
	}
	// A later record replaces the first in the DHT, too.
	if err := holder.SetRecord(e.name, e.later); err != nil {
		t.Fatal(err)
	}
	want := compactOf(t, e, e.later)
	fresh := newNode(t, Config{Network: new(loopback)})
	waitFor(t, func() bool {
		raw, err := headsOf(t, fresh, e, middle.Addrs()).Head(t.Context(), [32]byte{}, 0)
		return err == nil && bytes.Equal(raw, want)
	})
}

// A record that was set before the DHT could be reached is put there as soon as
// it can: what a relay does at each start.
func TestDHTLateStart(t *testing.T) {
	e := newEdition(t)
	middle := newNode(t, Config{Network: new(loopback), Listen: bothListen, Blocks: newMemStore(), DHT: DHTServer})
	cut := new(loopback)
	cut.noTCP.Store(true)
	holder := newNode(t, Config{
		Network: cut, Listen: only(bothListen, "quic"), Blocks: e.store, DHT: DHTServer, Peers: only(middle.Addrs(), "/tcp/"),
	})
	if err := holder.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return cut.dials.Load() > 0 })
	cut.noTCP.Store(false)
	reader := newNode(t, Config{Network: new(loopback)})
	h := headsOf(t, reader, e, middle.Addrs())
	waitFor(t, func() bool {
		raw, err := h.Head(t.Context(), [32]byte{}, 0)
		return err == nil && bytes.Equal(raw, e.compact)
	})
}

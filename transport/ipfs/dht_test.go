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

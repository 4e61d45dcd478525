package relay

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
)

var loopbackIPFS = []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}

func serveIPFS(t *testing.T, r *Relay, cfg IPFSConfig) *ipfs.Node {
	t.Helper()
	if len(cfg.Listen) == 0 {
		cfg.Listen = loopbackIPFS
	}
	n, err := r.ServeIPFS(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ipfsPath is a reader's path to the node over those of its addresses that
// hold part.
func ipfsPath(t *testing.T, n *ipfs.Node, p *press, part string) transport.Path {
	t.Helper()
	var peers []string
	for _, a := range n.Addrs() {
		if strings.Contains(a, part) {
			peers = append(peers, a)
		}
	}
	reader, err := ipfs.New(t.Context(), ipfs.Config{Network: &netreal.Network{}, Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	path, err := reader.Path(part, public(p.ipns), nil)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadersOverIPFS(t *testing.T) {
	p := newPress(t, "swarm")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	first := p.edition(t, 200_000)
	node := serveIPFS(t, r, IPFSConfig{})
	paths := []transport.Path{ipfsPath(t, node, p, "/quic-v1"), ipfsPath(t, node, p, "/tcp/")}
	for _, path := range paths {
		if _, err := path.Heads.Head(t.Context(), p.ch, 0); err == nil {
			t.Errorf("%s: a head out of nothing", path.Name)
		}
	}
	push(t, r, first) // also: the channel is carried only from here on
	pub := pusher(t, r.cfg.Network, target(t, r, p.ch))
	if err := pub.PublishRecord(t.Context(), p.ch, p.record(t, first, 1)); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		checkIPFS(t, path, p, first)
	}
	// A later edition is there at once.
	second := p.edition(t, 70_000)
	push(t, r, second)
	if err := pub.PublishRecord(t.Context(), p.ch, p.record(t, second, 2)); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		checkIPFS(t, path, p, second)
	}
	// And after a restart, under the same peer ID.
	id := node.ID()
	r.Close()
	if err := node.SetRecord(p.name(t), p.record(t, second, 3)); !errors.Is(err, ipfs.ErrClosed) {
		t.Errorf("the node outlived its relay: %v", err)
	}
	r = start(t, Config{Dir: dir})
	if peers, err := r.Peers(); err != nil || peers != nil {
		t.Errorf("no node yet, but %v, %v", peers, err)
	}
	node = serveIPFS(t, r, IPFSConfig{})
	if node.ID() != id {
		t.Error("another peer ID after a restart")
	}
	checkIPFS(t, ipfsPath(t, node, p, "/quic-v1"), p, second)
	if _, err := r.ServeIPFS(t.Context(), IPFSConfig{Listen: loopbackIPFS}); err == nil {
		t.Error("two nodes on one relay")
	}
	if info, err := os.Stat(filepath.Join(dir, ipfsKeyFile)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
}

// checkIPFS reads all of an edition, as a reader would who knows the channel only.
func checkIPFS(t *testing.T, path transport.Path, p *press, s *sheet) {
	t.Helper()
	raw, err := path.Heads.Head(t.Context(), p.ch, 0)
	if err != nil {
		t.Fatalf("%s: %v", path.Name, err)
	}
	h, err := p.roots.Head(raw)
	if err != nil || h.Leaf.Hash() != s.head.Leaf.Hash() {
		t.Fatalf("%s: another head, %v", path.Name, err)
	}
	if n, err := path.Heads.RootNote(t.Context(), p.ch, 1); err != nil || !bytes.Equal(n, p.notes[0]) {
		t.Errorf("%s: root note: %v", path.Name, err)
	}
	if g, err := path.Heads.Grant(t.Context(), p.ch, p.batch.GrantName(p.ch)); err != nil || !bytes.Equal(g, noise(99, 4096)) {
		t.Errorf("%s: grant: %v", path.Name, err)
	}
	checkBlocks(t, path, p, s)
}

func TestIPFSServesCarriedChannelsOnly(t *testing.T) {
	p, other := newPress(t, "carried"), newPress(t, "dropped")
	r := start(t, Config{})
	node := serveIPFS(t, r, IPFSConfig{})
	sp, so := p.edition(t, 0), other.edition(t, 0)
	push(t, r, sp)
	push(t, r, so)
	if err := os.WriteFile(filepath.Join(r.cfg.Dir, carriedFile), []byte(p.ch.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := ipfsPath(t, node, p, "/tcp/")
	for want, there := range map[*sheet]bool{sp: true, so: false} {
		c := want.head.Root
		got := 0
		for _, err := range path.Blocks.Fetch(t.Context(), transport.Request{Wants: []transport.Want{{CID: c}}}) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if (got == 1) != there {
			t.Errorf("carried %v, got %d blocks", there, got)
		}
	}
}

// A block that rotted in one file is served from another that holds it as well,
// and by none in silence.
func TestRottenBlocks(t *testing.T) {
	p := newPress(t, "rotten")
	r := start(t, Config{})
	push(t, r, p.edition(t, 0))
	push(t, r, p.edition(t, 0))
	es := r.store.snapshot(p.ch)
	note := es[0].notes[0] // both hold the root note
	flip(t, es[0].path, es[0].index[note.KeyString()].off+10)
	b := &carriedBlocks{r.store, r.carried, nil, r.cfg.Log}
	if data, err := b.Get(t.Context(), note); err != nil || !bytes.Equal(data, p.notes[0]) {
		t.Errorf("the other copy: %v", err)
	}
	flip(t, es[1].path, es[1].index[note.KeyString()].off+10)
	if _, err := b.Get(t.Context(), note); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("both rotten: %v", err)
	}
	if n, err := b.Size(t.Context(), note); err != nil || n != len(p.notes[0]) {
		t.Errorf("size: %d, %v", n, err)
	}
	if _, err := b.Size(t.Context(), bundle.RawCID([]byte("nowhere"))); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("size of nothing: %v", err)
	}
}

func TestPeersForPublishers(t *testing.T) {
	const id = "/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay"
	listening := []string{
		"/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/udp/4001/quic-v1", "/ip4/10.0.0.5/tcp/4001",
		"/ip6/2606:4700::1/udp/4001/quic-v1", "/ip4/10.0.0.5/udp/4001/quic-v1", "/ip6/::1/tcp/4001",
	}
	for _, c := range []struct {
		host string
		take []string // of listening, all if nil
		want []string
	}{
		{"", nil, []string{"/ip6/2606:4700::1/udp/4001/quic-v1"}},
		{"", listening[4:], []string{"/ip4/10.0.0.5/udp/4001/quic-v1"}},
		{"", listening[:2], []string{"/ip4/127.0.0.1/udp/4001/quic-v1", "/ip4/127.0.0.1/tcp/4001"}},
		{"192.0.2.7", nil, []string{"/ip4/192.0.2.7/udp/4001/quic-v1", "/ip4/192.0.2.7/tcp/4001"}},
		{"192.0.2.7:8443", nil, []string{"/ip4/192.0.2.7/udp/4001/quic-v1", "/ip4/192.0.2.7/tcp/4001"}},
		{"[2001:db8::7]:8443", nil, []string{"/ip6/2001:db8::7/udp/4001/quic-v1", "/ip6/2001:db8::7/tcp/4001"}},
		{"relay.example.org", nil, []string{"/dns/relay.example.org/udp/4001/quic-v1", "/dns/relay.example.org/tcp/4001"}},
	} {
		if c.take == nil {
			c.take = listening
		}
		r, err := New(Config{Dir: t.TempDir(), Network: &netreal.Network{}, Host: c.host})
		if err != nil {
			t.Fatal(err)
		}
		var text string
		for _, a := range c.take {
			text += a + id + "\n"
		}
		if err := os.WriteFile(filepath.Join(r.cfg.Dir, ipfsAddressFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range c.want {
			c.want[i] += id
		}
		if got, err := r.Peers(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("host %q:\n%q, %v, want\n%q", c.host, got, err, c.want)
		}
	}
}

func TestIPFSThatCannotListen(t *testing.T) {
	r := start(t, Config{})
	if _, err := r.ServeIPFS(t.Context(), IPFSConfig{Listen: []string{"127.0.0.1:4001"}}); err == nil {
		t.Error("an address that is no multiaddr")
	}
	if _, err := os.Stat(filepath.Join(r.cfg.Dir, ipfsAddressFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it says where it listens: %v", err)
	}
	serveIPFS(t, r, IPFSConfig{}) // after a failure it may be tried again
	idle, err := New(Config{Dir: t.TempDir(), Network: &netreal.Network{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idle.ServeIPFS(t.Context(), IPFSConfig{}); err == nil {
		t.Error("before Start")
	}
}

// Through a DHT a reader finds a channel by its IPNS name alone.
func TestRelayInADHT(t *testing.T) {
	hub, err := ipfs.New(t.Context(), ipfs.Config{Network: &netreal.Network{}, Listen: loopbackIPFS, DHT: ipfs.DHTServer, Blocks: &carriedBlocks{carried: &carried{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hub.Close() })
	p := newPress(t, "found")
	s := p.edition(t, 0)
	r := start(t, Config{})
	push(t, r, s)
	serveIPFS(t, r, IPFSConfig{DHT: hub.Addrs()})
	pub := pusher(t, r.cfg.Network, target(t, r, p.ch))
	reader, err := ipfs.New(t.Context(), ipfs.Config{Network: &netreal.Network{}, DHT: ipfs.DHTClient, Peers: hub.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	path, err := reader.Path("", public(p.ipns), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Joining takes a moment, which no call waits for.
	for seq := uint64(1); ; seq++ {
		if err := pub.PublishRecord(t.Context(), p.ch, p.record(t, s, seq)); err != nil {
			t.Fatal(err)
		}
		if _, err := path.Heads.Head(t.Context(), p.ch, 0); err == nil {
			break
		}
	}
	// The relay announces itself as a provider behind the record.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	root := transport.Request{
		Edition: transport.Edition{Channel: p.ch, Root: s.head.Root}, Wants: []transport.Want{{CID: s.head.Root}},
	}
	for found := false; !found; {
		if ctx.Err() != nil {
			t.Fatal("nobody provides the edition")
		}
		for _, err := range path.Blocks.Fetch(ctx, root) {
			found = err == nil
		}
	}
	checkBlocks(t, path, p, s)
}

package ipfs

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/transport"
)

func TestExchange(t *testing.T) {
	e := newEdition(t)
	for _, kind := range []string{"quic-v1", "/tcp/"} {
		t.Run(strings.Trim(kind, "/"), func(t *testing.T) {
			sn, rn := new(loopback), new(loopback)
			srv := server(t, sn, e.store)
			reader := newNode(t, Config{Network: rn, Peers: only(srv.Addrs(), kind)})
			p, err := reader.Path("one", e.ipnsPub, nil)
			if err != nil {
				t.Fatal(err)
			}
			bytesSeen := 0
			req := wantsOf(append([]cid.Cid{e.root}, e.layer...))
			req.Got = func(_, n int) { bytesSeen += n }
			got, err := collect(t.Context(), t, p.Blocks, req)
			if err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, c := range append([]cid.Cid{e.root}, e.layer...) {
				if !bytes.Equal(got[c], e.store.blocks[c]) {
					t.Errorf("block %s: got %d bytes", c, len(got[c]))
				}
				total += len(e.store.blocks[c])
			}
			if bytesSeen != total {
				t.Errorf("Got heard of %d bytes of %d", bytesSeen, total)
			}
			if rn.listens.Load() != 0 {
				t.Error("a reader's node listened on TCP")
			}
			if udp, tcp := rn.packets.Load(), rn.dials.Load(); (kind == "quic-v1") != (udp > 0) || (kind == "quic-v1") != (tcp == 0) {
				t.Errorf("reader opened %d UDP sockets and dialled TCP %d times", udp, tcp)
			}
			if a := reader.Addrs(); len(a) != 0 {
				t.Errorf("a reader's node announces %d addresses", len(a))
			}
		})
	}
}

// Everything a node does goes through its Network: no other UDP or TCP socket
// of the process appears while two nodes work.
func TestNoSocketOutsideNetwork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc to list the process's sockets")
	}
	before := internetSockets(t)
	e := newEdition(t)
	l := new(loopback)
	srv := server(t, l, e.store)
	if err := srv.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"quic-v1", "/tcp/"} {
		reader := newNode(t, Config{Network: l, Peers: only(srv.Addrs(), kind)})
		p, err := reader.Path("", e.ipnsPub, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Heads.RootNote(t.Context(), [32]byte{}, 1); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for ino, what := range internetSockets(t) {
		if _, old := before[ino]; old {
			continue
		}
		l.mu.Lock()
		ok := l.inodes[ino]
		l.mu.Unlock()
		// An accepted connection has its listener's local address, not its inode.
		if !ok && !strings.HasPrefix(what, "tcp 0100007F:") {
			t.Errorf("socket opened outside the Network: %s", what)
		}
		if ok {
			seen++
		}
	}
	if seen < 4 { // two listeners, a reader's UDP socket, a reader's TCP connection
		t.Errorf("the Network's own sockets were not recognised: %d", seen)
	}
}

func TestRefusedUDPFallsBackToTCP(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	rn := new(loopback)
	rn.noUDP.Store(true)
	reader := newNode(t, Config{Network: rn, Peers: srv.Addrs()})
	p, err := reader.Path("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := collect(t.Context(), t, p.Blocks, wantsOf(e.layer[:3]))
	if err != nil || len(got) != 3 {
		t.Fatalf("%d blocks, %v", len(got), err)
	}
	if rn.dials.Load() == 0 {
		t.Error("TCP was not dialled")
	}
}

func TestRefusedEverything(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	rn := new(loopback)
	rn.noUDP.Store(true)
	rn.noTCP.Store(true)
	reader := newNode(t, Config{Network: rn, Peers: srv.Addrs()})
	p, err := reader.Path("", e.ipnsPub, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, transport.ErrBlocked) || !errors.Is(err, transport.ErrUnsupported) {
			t.Errorf("%s: error does not carry the Network's: %v", what, err)
		}
		if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: error names an address: %v", what, err)
		}
	}
	got, err := collect(t.Context(), t, p.Blocks, wantsOf(e.layer[:1]))
	if len(got) != 0 {
		t.Error("a block came through")
	}
	check("fetch", err)
	_, err = p.Heads.Head(t.Context(), [32]byte{}, 0)
	check("head", err)

	// Opened again, the path works at once: no memory of failed dials.
	rn.noTCP.Store(false)
	if got, err := collect(t.Context(), t, p.Blocks, wantsOf(e.layer[:1])); err != nil || len(got) != 1 {
		t.Errorf("after the block was lifted: %d blocks, %v", len(got), err)
	}
}

func TestListenRefused(t *testing.T) {
	l := new(loopback)
	l.noUDP.Store(true)
	n := newNode(t, Config{Network: l, Listen: bothListen})
	if a := n.Addrs(); len(a) != 1 || !strings.Contains(a[0], "/tcp/") {
		t.Errorf("addresses without UDP: %d", len(a))
	}
	l.noTCP.Store(true)
	if n, err := New(t.Context(), Config{Network: l, Listen: bothListen}); err == nil {
		n.Close()
		t.Error("a node that can listen nowhere started")
	}
}

func TestDNSPeer(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	rn := new(loopback)
	addr := strings.Replace(only(srv.Addrs(), "/tcp/")[0], "/ip4/127.0.0.1", "/dns4/peer.test", 1)
	reader := newNode(t, Config{Network: rn, Peers: []string{addr}})
	p, err := reader.Path("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := collect(t.Context(), t, p.Blocks, wantsOf(e.layer[:1])); err != nil || len(got) != 1 {
		t.Fatalf("%d blocks, %v", len(got), err)
	}
	if rn.lookups.Load() == 0 {
		t.Error("the name was not resolved through the Network")
	}
}

func TestConfigErrors(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no network": {},
		"listen":     {Network: new(loopback), Listen: []string{"127.0.0.1:4001"}},
		"peer":       {Network: new(loopback), Peers: []string{"/ip4/127.0.0.1/tcp/1"}},
		"key":        {Network: new(loopback), Key: make([]byte, 32)},
	} {
		if n, err := New(t.Context(), cfg); err == nil {
			n.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCloseEndsFetch(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), silent{e.store})
	reader := newNode(t, Config{Network: new(loopback), Peers: srv.Addrs()})
	p, err := reader.Path("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := collect(t.Context(), t, p.Blocks, wantsOf(e.layer[:1]))
		done <- err
	}()
	for reader.Connections() == 0 {
		time.Sleep(time.Millisecond)
	}
	reader.Close()
	if err := <-done; err == nil {
		t.Error("a fetch outlived its node without an error")
	}
}

// silent is a Store that has everything and hands out nothing.
type silent struct{ *memStore }

func (silent) Get(ctx context.Context, _ cid.Cid) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

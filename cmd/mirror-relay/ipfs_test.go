package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/mirror/publisher"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
)

// peersIn finds the peers line in what a command said.
func peersIn(t *testing.T, said string) []string {
	t.Helper()
	var c publisher.Config
	for _, line := range strings.Split(said, "\n") {
		if strings.HasPrefix(line, "peers = ") {
			if _, err := toml.Decode(line, &c); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
	}
	return c.Peers
}

func onlyWith(addrs []string, part string) (out []string) {
	for _, a := range addrs {
		if strings.Contains(a, part) {
			out = append(out, a)
		}
	}
	return out
}

// A publisher pushes to a relay, and a reader who knows nothing but the invite's
// IPNS key and the relay's peer line reads over IPFS.
func TestFromPublisherToReaderOverIPFS(t *testing.T) {
	listen := "/ip4/127.0.0.1/udp/0/quic-v1,/ip4/127.0.0.1/tcp/0"
	dir := t.TempDir()
	args := []string{"--dir", dir, "run", "--listen", "127.0.0.1:0", "--ipfs", "--ipfs-listen", listen}
	log, stop := up(t, args...)
	peers := peersIn(t, log.all.String())
	if len(peers) != 2 || !strings.Contains(peers[0], "/quic-v1/p2p/") || !strings.Contains(peers[1], "/tcp/") {
		t.Fatalf("peers %q in %s", peers, log.all.String())
	}

	p, err := publisher.Init(filepath.Join(t.TempDir(), "channel"), "Harbour", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var line, errs bytes.Buffer
	if code := run(t.Context(), []string{"--dir", dir, "address", p.Channel().String()}, &netreal.Network{}, &line, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if len(peersIn(t, errs.String())) != 2 || strings.Contains(line.String(), "peers") {
		t.Errorf("address said %q and %q", line.String(), errs.String())
	}
	if err := p.AddTarget("relay", line.String()); err != nil {
		t.Fatal(err)
	}
	article := bundle.Article{
		ID: "00000000000000aa", Title: "The ferry is late", Lead: "By an hour.", Body: "<p>Fog over the strait.</p>",
		Lang: "en", Dir: "ltr", Date: time.Unix(1_750_000_000, 0).UTC(),
		Images: []bundle.Image{{Type: "image/webp", Alt: "fog", Width: 2, Height: 2, Data: bytes.Repeat([]byte("grey"), 30_000)}},
	}
	if _, err := p.Pack([]bundle.Article{article}, time.Now()); err != nil {
		t.Fatal(err)
	}
	targets, err := p.Targets(&netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Push(t.Context(), targets, nil)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	invite, err := p.Invite("friends")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"/quic-v1", "/tcp/"} {
		readAll(t, p, invite, onlyWith(peers, way))
	}

	// The relay restarts: same peer ID, and the record is still there.
	if code := stop(); code != 0 {
		t.Fatalf("ended with %d: %s", code, log.all.String())
	}
	log, stop = up(t, args...)
	again := peersIn(t, log.all.String())
	if len(again) != 2 || again[0][strings.Index(again[0], "/p2p/"):] != peers[0][strings.Index(peers[0], "/p2p/"):] {
		t.Errorf("another peer after a restart: %q, was %q", again, peers)
	}
	readAll(t, p, invite, again)
	if code := stop(); code != 0 {
		t.Fatalf("ended with %d: %s", code, log.all.String())
	}

	// Without the flag there is no node and no line.
	log, stop = up(t, "--dir", dir, "run", "--listen", "127.0.0.1:0")
	defer stop()
	line.Reset()
	errs.Reset()
	if code := run(t.Context(), []string{"--dir", dir, "address", p.Channel().String()}, &netreal.Network{}, &line, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if strings.Contains(log.all.String()+errs.String(), "peers") {
		t.Errorf("peers of a relay without a node: %s", errs.String())
	}
}

// readAll does what a reader does: head, root note, grant, and every block of
// every layer, over nothing but peers.
func readAll(t *testing.T, p *publisher.Publisher, invite *channel.Invite, peers []string) {
	t.Helper()
	ctx := t.Context()
	n, err := ipfs.New(ctx, ipfs.Config{Network: &netreal.Network{}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	path, err := n.Path("", invite.IPNS, peers)
	if err != nil {
		t.Fatal(err)
	}
	note, err := path.Heads.RootNote(ctx, invite.Channel, 1)
	if err != nil {
		t.Fatalf("root note over %q: %v", peers, err)
	}
	roots, err := channel.ParseRoots(invite.Channel, [][]byte{note})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := path.Heads.Head(ctx, invite.Channel, 0)
	if err != nil {
		t.Fatal(err)
	}
	head, err := roots.Head(raw)
	if err != nil || head.Size != p.Size() {
		t.Fatalf("head: %v", err)
	}
	file, err := path.Heads.Grant(ctx, invite.Channel, invite.Seed.GrantName(invite.Channel))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roots.OpenGrant(file, invite.Seed); err != nil {
		t.Fatal(err)
	}
	fetch := func(wants ...bundle.Want) (out [][]byte) {
		t.Helper()
		got := map[string][]byte{}
		r := transport.Request{Edition: transport.Edition{Channel: invite.Channel, Root: head.Root}, Wants: wants}
		for b, err := range path.Blocks.Fetch(ctx, r) {
			if err != nil {
				t.Fatal(err)
			}
			if err := bundle.CheckBlock(b.CID, b.Data); err != nil {
				t.Fatal(err)
			}
			got[b.CID.KeyString()] = b.Data
		}
		for _, w := range wants {
			if got[w.CID.KeyString()] == nil {
				t.Fatalf("block %s of %s did not come", w.CID, w.Layer)
			}
			out = append(out, got[w.CID.KeyString()])
		}
		return out
	}
	d, err := bundle.ParseDirectory(head.Root, fetch(bundle.Want{CID: head.Root})[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerMedia} {
		c := d.Layers[layer]
		block := fetch(bundle.Want{CID: c, Layer: layer})[0]
		if c.Type() == cid.Raw { // a file of one chunk
			continue
		}
		leaves, err := bundle.ParseFile(c, block, 0)
		if err != nil || len(leaves) == 0 {
			t.Fatalf("%s: %d leaves, %v", layer, len(leaves), err)
		}
		var wants []bundle.Want
		for _, l := range leaves {
			wants = append(wants, bundle.Want{CID: l.CID, Layer: layer})
		}
		fetch(wants...)
	}
}

func TestIPFSPortInUse(t *testing.T) {
	log, stop := up(t, "--dir", t.TempDir(), "run", "--listen", "127.0.0.1:0", "--ipfs", "--ipfs-listen", "/ip4/127.0.0.1/tcp/0")
	defer stop()
	addr := peersIn(t, log.all.String())[0]
	addr = addr[:strings.Index(addr, "/p2p/")]
	for listen, code := range map[string]int{addr: 1, "127.0.0.1:4001": 1} {
		var errs bytes.Buffer
		dir := t.TempDir()
		if got := run(t.Context(), []string{"--dir", dir, "run", "--listen", "127.0.0.1:0", "--ipfs", "--ipfs-listen", listen}, &netreal.Network{}, io.Discard, &errs); got != code || !strings.Contains(errs.String(), "--ipfs-listen") {
			t.Errorf("%s: code %d, %s", listen, got, errs.String())
		}
		if _, err := os.Stat(filepath.Join(dir, "ipfs.listening")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it says it listens: %v", listen, err)
		}
	}
}

package dns

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// loopback is the plainest transport.Network.
type loopback struct {
	noTCP atomic.Bool
	tcp   atomic.Int64 // connections dialled
}

var _ transport.Network = (*loopback)(nil)

func (n *loopback) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "tcp" {
		n.tcp.Add(1)
		if n.noTCP.Load() {
			return nil, transport.ErrBlocked
		}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (n *loopback) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

func (n *loopback) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

func (n *loopback) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	return []netip.Addr{a}, err
}

func random(seed string, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(b)
	return b
}

const testZone = "news.test"

// world is one channel with an edition and a server that carries it.
type world struct {
	t     testing.TB
	nw    *loopback
	keys  [3]ed25519.PrivateKey // root, log, ipns
	ch    channel.ID
	note  []byte
	newer map[uint64]Piece // root notes after the first
	head  *channel.Head
	e     *Edition
	grant string
	store *Memory
	addr  string // of the server
	// asked counts queries by first label's kind.
	stats *countingStore
}

type countingStore struct {
	Store
	records, named atomic.Int64
	gone           atomic.Bool // nothing is found any more
}

func (s *countingStore) Record(ctx context.Context, name record.Name) ([]byte, error) {
	if s.gone.Load() {
		return nil, errors.New("the disk is gone")
	}
	rec, err := s.Store.Record(ctx, name)
	if err == nil {
		s.records.Add(1)
	}
	return rec, err
}

func (s *countingStore) Named(ctx context.Context, label string) ([]byte, error) {
	rec, err := s.Store.Named(ctx, label)
	if err == nil {
		s.named.Add(1)
	}
	return rec, err
}

func pieces(blocks ...[]byte) []Piece {
	var out []Piece
	for _, b := range blocks {
		out = append(out, Piece{Data: b})
	}
	return out
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, nw: &loopback{}, store: NewMemory(64 << 20)}
	for i := range w.keys {
		w.keys[i] = ed25519.NewKeyFromSeed(random(fmt.Sprint("key", i), 32))
	}
	pub := func(i int) ed25519.PublicKey { return w.keys[i].Public().(ed25519.PublicKey) }
	root := &channel.RootNote{Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{pub(0)}, Log: channel.LogKey{Key: pub(1)}, IPNS: pub(2)}
	w.ch = channel.IDOf(root.Text())
	var err error
	if w.note, err = root.Sign(w.keys[0]); err != nil {
		t.Fatal(err)
	}
	w.grant = record.NameOf([]byte("a grant")).Label()
	// Front as it most often is: a directory of one kilobyte, one block.
	w.publish(0, random("directory", 900), random("front", 16384))
	return w
}

// rotate replaces the root key, from the next edition on.
func (w *world) rotate() {
	w.t.Helper()
	first := w.roots().Last()
	next := ed25519.NewKeyFromSeed(random("next root", 32))
	n := *first
	n.Version, n.Channel, n.Previous = 2, w.ch, first.Hash()
	n.RootKeys = []ed25519.PublicKey{next.Public().(ed25519.PublicKey)}
	note, err := n.Sign(w.keys[0], next)
	if err != nil {
		w.t.Fatal(err)
	}
	w.newer = map[uint64]Piece{2: {Data: note}}
}

// publish makes an edition and puts it into the store.
func (w *world) publish(edition uint64, front ...[]byte) {
	w.t.Helper()
	root, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}.Sum(front[0])
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := channel.Leaf{Channel: w.ch, Edition: edition, RootVersion: uint64(1 + len(w.newer)), Root: root, Front: record.NamesOf(front...), Date: time.Unix(1e9, 0).UTC()}
	path := make([]channel.Hash, 0)
	for n := edition; n > 0; n &= n - 1 {
		path = append(path, channel.Hash(random(fmt.Sprint("edge", n), 32)))
	}
	if w.head, err = channel.SignHead(leaf, path, 0, time.Unix(1e9, 0), w.keys[1]); err != nil {
		w.t.Fatal(err)
	}
	w.e = &Edition{
		Channel: w.ch, Head: w.head.Compact(), IPNS: w.roots().IPNSName(),
		RootNotes: map[uint64]Piece{1: {Data: w.note}},
		Grants:    map[string]Piece{w.grant: {Data: random("grant", channel.GrantSmall)}},
		Front:     pieces(front...),
		// A node, then blocks cut as age's chunks are.
		Text: pieces(random("text node", 200), random("text 0", firstBlock), random("text 1", nextBlock), random("text 2", 777)),
		Log:  pieces(random("log", 64)),
	}
	maps.Copy(w.e.RootNotes, w.newer)
	if err := w.store.PutEdition(w.e); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) roots() *channel.Roots {
	w.t.Helper()
	roots, err := channel.ParseRoots(w.ch, [][]byte{w.note})
	if err != nil {
		w.t.Fatal(err)
	}
	return roots
}

// serve starts the server, for the test's length.
func (w *world) serve() *world {
	w.t.Helper()
	w.stats = &countingStore{Store: w.store}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: w.stats})
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr = start(w.t, w.nw, srv)
	return w
}

func start(t testing.TB, nw transport.Network, srv *Server) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pc, ln, err := Listen(ctx, nw, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, pc, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return pc.LocalAddr().String()
}

func (w *world) client(resolvers ...string) *Client {
	w.t.Helper()
	if len(resolvers) == 0 {
		resolvers = []string{w.addr}
	}
	c, err := NewClient(ClientConfig{Network: w.nw, Zone: testZone, Resolvers: resolvers, Hurry: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		c.probes.Wait()
		for _, r := range c.resolvers {
			if r.links != [2]*link{} || r.dials != [2]*dial{} {
				w.t.Error("a socket is still open")
			}
		}
	})
	return c
}

func (w *world) edition() transport.Edition {
	return transport.Edition{Channel: w.ch, Number: w.head.Edition, Root: w.head.Root, Names: w.e.Names()}
}

func wantOf(layer string, data []byte, node bool, offset int64) transport.Want {
	c := bundle.RawCID(data)
	if node {
		c = cid.NewCidV1(cid.DagProtobuf, c.Hash())
	}
	return transport.Want{CID: c, Layer: layer, Node: node, Offset: offset, Size: len(data)}
}

// allWants are all blocks of the edition.
func (w *world) allWants() ([]transport.Want, map[cid.Cid][]byte) {
	var wants []transport.Want
	blocks := map[cid.Cid][]byte{}
	add := func(layer string, data []byte, node bool, off int64) {
		want := wantOf(layer, data, node, off)
		wants = append(wants, want)
		blocks[want.CID] = data
	}
	add(bundle.LayerDirectory, w.e.Front[0].Data, true, 0)
	add(bundle.LayerFront, w.e.Front[1].Data, false, 0)
	add(bundle.LayerText, w.e.Text[0].Data, true, 0)
	add(bundle.LayerText, w.e.Text[1].Data, false, 0)
	add(bundle.LayerText, w.e.Text[2].Data, false, firstBlock)
	add(bundle.LayerText, w.e.Text[3].Data, false, firstBlock+nextBlock)
	add(bundle.LayerLog, w.e.Log[0].Data, false, 0)
	return wants, blocks
}

// fetchAll fetches and compares everything.
func (w *world) fetchAll(ctx context.Context, c *Client) {
	w.t.Helper()
	wants, blocks := w.allWants()
	got := make([]int, len(wants))
	req := transport.Request{Edition: w.edition(), Wants: wants, Got: func(i, n int) { got[i] += n }}
	for b, err := range c.Fetch(ctx, req) {
		if err != nil {
			w.t.Fatal(err)
		}
		if !bytes.Equal(b.Data, blocks[b.CID]) {
			w.t.Errorf("block of %d bytes is not the one asked for", len(b.Data))
		}
		delete(blocks, b.CID)
	}
	if len(blocks) > 0 {
		w.t.Errorf("%d blocks did not come", len(blocks))
	}
	for i, n := range got {
		if n < wants[i].Size {
			w.t.Errorf("Got heard of %d bytes of %d", n, wants[i].Size)
		}
	}
}

// heads asks for the three things of transport.Heads and compares.
func (w *world) heads(ctx context.Context, c *Client) {
	w.t.Helper()
	if raw, err := c.Head(ctx, w.ch, 0); err != nil || !bytes.Equal(raw, w.head.Compact()) {
		w.t.Errorf("head: %d bytes, %v", len(raw), err)
	}
	if raw, err := c.RootNote(ctx, w.ch, 1); err != nil || !bytes.Equal(raw, w.note) {
		w.t.Errorf("root note: %d bytes, %v", len(raw), err)
	}
	if raw, err := c.Grant(ctx, w.ch, w.grant); err != nil || !bytes.Equal(raw, w.e.Grants[w.grant].Data) {
		w.t.Errorf("grant: %d bytes, %v", len(raw), err)
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

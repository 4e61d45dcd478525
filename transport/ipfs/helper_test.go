package ipfs

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// loopback is a Network over package net that counts what it opens, knows the
// inodes of its sockets, and refuses what it is told to.
type loopback struct {
	noUDP, noTCP     atomic.Bool
	dials, listens   atomic.Int32
	packets, lookups atomic.Int32

	mu     sync.Mutex
	inodes map[uint64]bool
}

var _ transport.Network = (*loopback)(nil)

func (l *loopback) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.dials.Add(1)
	if l.noTCP.Load() {
		return nil, fmt.Errorf("dial %s: %w", network, transport.ErrBlocked)
	}
	c, err := (&net.Dialer{Control: l.note}).DialContext(ctx, network, address)
	return c, err
}

func (l *loopback) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	l.listens.Add(1)
	if l.noTCP.Load() {
		return nil, transport.ErrUnsupported
	}
	return (&net.ListenConfig{Control: l.note}).Listen(ctx, network, address)
}

func (l *loopback) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	l.packets.Add(1)
	if l.noUDP.Load() {
		return nil, transport.ErrUnsupported
	}
	return (&net.ListenConfig{Control: l.note}).ListenPacket(ctx, network, address)
}

func (l *loopback) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	l.lookups.Add(1)
	if host == "peer.test" {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	return nil, transport.ErrNotFound
}

func (l *loopback) note(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.inodes == nil {
			l.inodes = make(map[uint64]bool)
		}
		l.inodes[inodeOf(fd)] = true
	})
}

// memStore is a Store in memory that counts what it was asked for.
type memStore struct {
	mu     sync.Mutex
	blocks map[cid.Cid][]byte
	gets   map[cid.Cid]int
}

func newMemStore() *memStore {
	return &memStore{blocks: make(map[cid.Cid][]byte), gets: make(map[cid.Cid]int)}
}

func (m *memStore) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets[c]++
	b, ok := m.blocks[c]
	if !ok {
		return nil, transport.ErrNotFound
	}
	return b, nil
}

func (m *memStore) Size(_ context.Context, c cid.Cid) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blocks[c]
	if !ok {
		return 0, transport.ErrNotFound
	}
	return len(b), nil
}

func (m *memStore) put(c cid.Cid, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocks[c] = b
}

func rawCID(t testing.TB, b []byte) cid.Cid {
	t.Helper()
	h, err := multihash.Sum(b, multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, h)
}

// raw stores n random bytes as one block.
func (m *memStore) raw(t testing.TB, n int) cid.Cid {
	t.Helper()
	b := make([]byte, n)
	rand.Read(b)
	c := rawCID(t, b)
	m.put(c, b)
	return c
}

// folder stores a UnixFS folder.
func (m *memStore) folder(t testing.TB, entries map[string]cid.Cid) cid.Cid {
	t.Helper()
	n := merkledag.NodeWithData(unixfs.FolderPBData())
	n.SetCidBuilder(merkledag.V1CidPrefix())
	for name, c := range entries {
		if err := n.AddRawLink(name, &format.Link{Cid: c}); err != nil {
			t.Fatal(err)
		}
	}
	m.put(n.Cid(), n.RawData())
	return n.Cid()
}

// edition is a small edition-like directory: one layer, a root note and a grant.
type edition struct {
	generation             uint64 // of the log
	root                   cid.Cid
	layer                  []cid.Cid
	note, grant            []byte
	store                  *memStore
	ipnsPub                ed25519.PublicKey
	ipnsKey, logKey        ed25519.PrivateKey
	record, compact, later []byte
	name                   string
}

const grantName = "abcdefghijklmnopqrstuvwxyz"

func newEdition(t testing.TB) *edition {
	t.Helper()
	e := &edition{store: newMemStore()}
	for range 40 {
		e.layer = append(e.layer, e.store.raw(t, 65_552))
	}
	noteCID, grantCID := e.store.raw(t, 700), e.store.raw(t, 4096)
	e.note, e.grant = e.store.blocks[noteCID], e.store.blocks[grantCID]
	e.root = e.store.folder(t, map[string]cid.Cid{
		"root":   e.store.folder(t, map[string]cid.Cid{"1": noteCID}),
		"grants": e.store.folder(t, map[string]cid.Cid{grantName: grantCID}),
	})
	var err error
	if e.ipnsPub, e.ipnsKey, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	if _, e.logKey, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	if e.name, err = Name(e.ipnsPub); err != nil {
		t.Fatal(err)
	}
	h := e.head(t, 1_700_000_000)
	e.compact = h.Compact()
	if e.record, err = Record(e.ipnsKey, h, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	if e.later, err = Record(e.ipnsKey, e.head(t, 1_700_003_600), 2, time.Hour); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *edition) head(t testing.TB, at int64) *channel.Head { return e.headAt(t, 0, at) }

func (e *edition) headAt(t testing.TB, number uint64, at int64) *channel.Head {
	t.Helper()
	leaf := channel.Leaf{
		Channel: channel.ID{1}, Edition: number, RootVersion: 1, Root: e.root,
		Front: record.Names{}, Date: time.Unix(1_700_000_000, 0),
	}
	edge := make([]channel.Hash, bits.OnesCount64(number))
	h, err := channel.SignHead(leaf, edge, e.generation, time.Unix(at, 0), e.logKey)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

var bothListen = []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}

// server starts a node that serves store on loopback over QUIC and TCP.
func server(t testing.TB, l *loopback, s Store) *Node {
	t.Helper()
	return newNode(t, Config{Network: l, Listen: bothListen, Blocks: s})
}

// only keeps the addresses that hold part.
func only(addrs []string, part string) []string {
	var out []string
	for _, a := range addrs {
		if strings.Contains(a, part) {
			out = append(out, a)
		}
	}
	return out
}

func wantsOf(cs []cid.Cid) transport.Request {
	var r transport.Request
	for _, c := range cs {
		r.Wants = append(r.Wants, transport.Want{CID: c, Layer: "text"})
	}
	return r
}

// collect runs a fetch to its end.
func collect(ctx context.Context, t testing.TB, b transport.Blocks, r transport.Request) (map[cid.Cid][]byte, error) {
	t.Helper()
	got := make(map[cid.Cid][]byte)
	var last error
	for blk, err := range b.Fetch(ctx, r) {
		if err != nil {
			last = err
			continue
		}
		if _, twice := got[blk.CID]; twice {
			t.Errorf("block %s yielded twice", blk.CID)
		}
		got[blk.CID] = blk.Data
	}
	return got, last
}

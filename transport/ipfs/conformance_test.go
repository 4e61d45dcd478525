package ipfs_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
	"tamizdat/transport/transporttest"
)

// blocks is an ipfs.Store over a map.
type blocks map[cid.Cid][]byte

func (m blocks) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	if b, ok := m[c]; ok {
		return b, nil
	}
	return nil, transport.ErrNotFound
}

func (m blocks) Size(ctx context.Context, c cid.Cid) (int, error) {
	b, err := m.Get(ctx, c)
	return len(b), err
}

// A reader's node against one that serves, over QUIC and over TCP.
func TestConformance(t *testing.T) {
	real := &netreal.Network{}
	for kind, listen := range map[string]string{"quic": "/ip4/127.0.0.1/udp/0/quic-v1", "tcp": "/ip4/127.0.0.1/tcp/0"} {
		t.Run(kind, func(t *testing.T) {
			transporttest.Run(t, real, func(t *testing.T, w *transporttest.World) transporttest.Subject {
				store := blocks{}
				for _, e := range w.Channel.Editions() {
					for c, b := range e.Blocks() {
						store[c] = b
					}
				}
				node := func(cfg ipfs.Config) *ipfs.Node {
					n, err := ipfs.New(t.Context(), cfg)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := n.Close(); err != nil {
							t.Error(err)
						}
					})
					return n
				}
				server := node(ipfs.Config{Network: real, Listen: []string{listen}, Blocks: store})
				key := w.Channel.IPNSKey()
				name, err := ipfs.Name(w.Channel.Roots().IPNSKey())
				if err != nil {
					t.Fatal(err)
				}
				rec, err := ipfs.Record(key, w.Newest.Head, w.Newest.Head.Size, time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				if err := server.SetRecord(name, rec); err != nil {
					t.Fatal(err)
				}
				reader := node(ipfs.Config{Network: w.Network})
				p, err := reader.Path(strings.ToUpper(kind), w.Channel.Roots().IPNSKey(), server.Addrs())
				if err != nil {
					t.Fatal(err)
				}
				return transporttest.Subject{Paths: []transport.Path{p}, Old: true, OneChannel: true}
			})
		})
	}
}

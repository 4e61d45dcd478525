package paths_test

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/paths"
	"tamizdat/transport"
)

// closed is a Network that opens nothing.
type closed struct{}

func (closed) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, transport.ErrUnsupported
}

func (closed) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, transport.ErrUnsupported
}

func (closed) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, transport.ErrUnsupported
}

func (closed) Resolve(context.Context, string) ([]netip.Addr, error) {
	return nil, transport.ErrUnsupported
}

// Two channels may be had from the same peers, and one channel from several
// sets of them: each such path has a name of its own, and keeps it.
func TestIPFSNames(t *testing.T) {
	s := paths.New(paths.Config{Network: closed{}})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	one := []string{"/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"}
	two := []string{"/ip4/192.0.2.2/udp/4001/quic-v1/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"}
	key := func(b byte) ed25519.PublicKey {
		return ed25519.NewKeyFromSeed(append([]byte{b}, make([]byte, 31)...)).Public().(ed25519.PublicKey)
	}
	seen := map[string]string{}
	for range 2 { // the second time nothing is made anew
		for what, ask := range map[string]struct {
			key   ed25519.PublicKey
			peers []string
		}{
			"first": {key(1), one}, "same peers": {key(2), one}, "other peers": {key(1), two}, "more peers": {key(1), append(one[:1:1], two...)},
		} {
			ps := s.Paths(channel.ID{}, ask.key, channel.Places{Peers: ask.peers})
			if len(ps) != 1 {
				t.Fatalf("%s: %d paths", what, len(ps))
			}
			if other, ok := seen[ps[0].Name]; ok && other != what {
				t.Errorf("%s and %s have the name %q", what, other, ps[0].Name)
			}
			seen[ps[0].Name] = what
			if !strings.HasPrefix(ps[0].Name, "ipfs peer ") || len(ps[0].Name) > len("ipfs peer 123456 99") {
				t.Errorf("%s: name %q", what, ps[0].Name)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d names for four paths", len(seen))
	}
	if ps := s.Paths(channel.ID{}, key(1), channel.Places{Peers: []string{"nonsense"}}); len(ps) != 0 {
		t.Errorf("a malformed place made %d paths", len(ps))
	}
}

// BitTorrent's DHT is asked only if somebody says so, and each channel's path there has a
// name of its own.
func TestDHTIsOff(t *testing.T) {
	key := func(b byte) ed25519.PublicKey {
		return ed25519.NewKeyFromSeed(append([]byte{b}, make([]byte, 31)...)).Public().(ed25519.PublicKey)
	}
	off := paths.New(paths.Config{Network: closed{}})
	defer off.Close()
	if ps := off.Paths(channel.ID{}, key(1), channel.Places{}); len(ps) != 0 {
		t.Errorf("%+v", ps)
	}
	on := paths.New(paths.Config{Network: closed{}, BitTorrent: []string{"192.0.2.1:6881"}})
	defer on.Close()
	one, again, other := on.Paths(channel.ID{}, key(1), channel.Places{}), on.Paths(channel.ID{}, key(1), channel.Places{}), on.Paths(channel.ID{}, key(2), channel.Places{})
	if len(one) != 1 || len(other) != 1 || one[0].Name == other[0].Name || again[0].Name != one[0].Name || one[0].Blocks != nil {
		t.Errorf("%+v, %+v", one, other)
	}
	if ps := on.Paths(channel.ID{}, nil, channel.Places{}); len(ps) != 0 {
		t.Errorf("without a key: %+v", ps)
	}
}

package ipfs

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	p2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"

	"tamizdat/internal/simnet"
	"tamizdat/transport"
)

// largest notes the largest datagram that is sent.
type largest struct {
	transport.Network
	size *atomic.Int64
}

type measured struct {
	net.PacketConn
	size *atomic.Int64
}

func (l largest) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	c, err := l.Network.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return measured{c, l.size}, nil
}

func (m measured) WriteTo(b []byte, to net.Addr) (int, error) {
	for old := m.size.Load(); int64(len(b)) > old && !m.size.CompareAndSwap(old, int64(len(b))); old = m.size.Load() {
	}
	return m.PacketConn.WriteTo(b, to)
}

// TestSmallMTU: behind an MTU of 1280 without ICMP blocks come over QUIC from a
// node that listens on all addresses, as a relay does.
func TestSmallMTU(t *testing.T) {
	e := newEdition(t)
	synctest.Test(t, func(t *testing.T) {
		sim := simnet.New(1)
		defer sim.Close()
		var sent atomic.Int64
		there, here := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
		srv, err := New(t.Context(), Config{
			Network: largest{sim.Host("server", simnet.Link{Delay: 20 * time.Millisecond}, there), &sent},
			Listen:  []string{"/ip4/0.0.0.0/udp/4001/quic-v1"}, Blocks: e.store,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		reader, err := New(t.Context(), Config{Network: largest{sim.Host("reader", simnet.Link{Delay: 5 * time.Millisecond, MTU: 1280}, here), &sent}})
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		p, err := reader.Path("", nil, []string{"/ip4/192.0.2.1/udp/4001/quic-v1/p2p/" + srv.ID()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if got, err := collect(ctx, t, p.Blocks, wantsOf(e.layer[:3])); err != nil || len(got) != 3 {
			t.Errorf("%d blocks, %v", len(got), err)
		}
		if sent.Load() == 0 {
			t.Error("no datagram was seen")
		}
	})
}

// future is libp2p's template for a certificate that begins in so much time.
func future(t *testing.T, in time.Duration) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(in), NotAfter: time.Now().Add(in + 1000*time.Hour)}
}

const threeYears = 3 * 365 * 24 * time.Hour

// TestPeerOfAnotherTime: to a reader whose clock is years behind, a peer's
// certificate has not begun yet; to one whose clock is ahead, it may have ended.
// It is connected to all the same, and to nobody else.
func TestPeerOfAnotherTime(t *testing.T) {
	for name, in := range map[string]time.Duration{"behind": threeYears, "ahead": -threeYears, "right": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			h, err := libp2p.New(libp2p.NoTransports, libp2p.DisableRelay(), libp2p.DisableMetrics(),
				libp2p.Transport(libp2pquic.NewTransport, libp2pquic.WithTLSIdentityOption(p2ptls.WithCertTemplate(future(t, in)))),
				libp2p.ListenAddrs(ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Close() })
			reader := newNode(t, Config{Network: new(loopback)})
			info := host.InfoFromHost(h)
			if err := reader.connect(t.Context(), *info); err != nil {
				t.Errorf("the peer itself: %v", err)
			}
			if err := reader.connect(t.Context(), peer.AddrInfo{ID: "somebody else", Addrs: info.Addrs}); err == nil {
				t.Error("somebody else's place is taken")
			}
		})
	}
}

func TestRedatedProvesTheSame(t *testing.T) {
	identity := func(tmpl *x509.Certificate) (*p2ptls.Identity, peer.ID) {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := p2ptls.NewIdentity(key, p2ptls.WithCertTemplate(tmpl))
		if err != nil {
			t.Fatal(err)
		}
		p, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return id, p
	}
	server, id := identity(future(t, threeYears))
	reader, _ := identity(future(t, -time.Hour))
	conf, _ := server.ConfigForPeer("")
	der := conf.Certificates[0].Certificate
	check := func(raw [][]byte, want peer.ID) error {
		conf, keys := reader.ConfigForPeer(want)
		if err := timeless(conf).VerifyPeerCertificate(raw, nil); err != nil {
			return err
		}
		if k := <-keys; !want.MatchesPublicKey(k) {
			t.Error("the key is another one")
		}
		return nil
	}
	if err := check(der, id); err != nil {
		t.Errorf("a certificate of the future: %v", err)
	}
	plain, _ := reader.ConfigForPeer(id)
	if plain.VerifyPeerCertificate(der, nil) == nil {
		t.Error("libp2p itself takes it by now: redated is not needed any more")
	}
	if check(der, "somebody else") == nil {
		t.Error("the certificate of another peer is taken")
	}
	if check([][]byte{der[0], der[0]}, id) == nil || check(nil, id) == nil || check([][]byte{nil}, id) == nil {
		t.Error("two certificates, or none, are taken")
	}
	for i := range der[0] {
		bad := [][]byte{append([]byte(nil), der[0]...)}
		bad[0][i] ^= 1
		if check(bad, id) == nil {
			t.Fatalf("byte %d of %d changed, and it is taken", i, len(der[0]))
		}
	}
}

// TestReadersCertificate: that of a reader whose clock is years ahead has begun
// in everybody's time; that of a node that listens looks like everybody's.
func TestReadersCertificate(t *testing.T) {
	cert, err := oldCertificate()
	if err != nil {
		t.Fatal(err)
	}
	if now := time.Now(); cert.NotBefore.After(now.Add(-threeYears)) || cert.NotAfter.Before(now.Add(threeYears)) {
		t.Errorf("from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	for name, test := range map[string]struct {
		listen []string
		years  float64
	}{
		"a reader": {nil, 20}, "a relay": {[]string{"/ip4/127.0.0.1/udp/0/quic-v1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			// The other side sees the certificate of whoever dials it.
			seen := make(chan *x509.Certificate, 1)
			other := newNode(t, Config{Network: new(loopback), Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
			other.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
				var q *quic.Conn
				if !c.As(&q) {
					seen <- nil
					return
				}
				seen <- q.ConnectionState().TLS.PeerCertificates[0]
			}})
			node := newNode(t, Config{Network: new(loopback), Listen: test.listen})
			peers, err := parsePeers(other.Addrs())
			if err != nil {
				t.Fatal(err)
			}
			if err := node.connect(t.Context(), peers[0]); err != nil {
				t.Fatal(err)
			}
			c := <-seen
			if c == nil {
				t.Fatal("no certificate was seen")
			}
			if age := time.Since(c.NotBefore).Hours() / 24 / 365; age < test.years-0.5 || age > test.years+0.5 {
				t.Errorf("it began %.1f years ago", age)
			}
		})
	}
}

func TestNoiseComesFirst(t *testing.T) {
	srv := newNode(t, Config{Network: new(loopback), Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	reader := newNode(t, Config{Network: new(loopback)})
	peers, err := parsePeers(srv.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.connect(t.Context(), peers[0]); err != nil {
		t.Fatal(err)
	}
	for _, c := range reader.host.Network().Conns() {
		if s := string(c.ConnState().Security); !strings.Contains(s, "noise") {
			t.Errorf("TCP is secured by %q, which holds the clock against a peer", s)
		}
	}
}

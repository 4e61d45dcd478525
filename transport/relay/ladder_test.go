package relay

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// sieve drops what a reader sends, as a censor would, and counts it.
type sieve struct {
	transport.Network
	mu    sync.Mutex
	drop  func(to netip.AddrPort, b []byte) bool
	drops int
}

func (s *sieve) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	pc, err := s.Network.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &sieved{pc, s}, nil
}

func (s *sieve) set(drop func(to netip.AddrPort, b []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop, s.drops = drop, 0
}

func (s *sieve) stops(to netip.AddrPort, b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop == nil || !s.drop(to, b) {
		return false
	}
	s.drops++
	return true
}

func (s *sieve) dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drops
}

type sieved struct {
	net.PacketConn
	s *sieve
}

func (p *sieved) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.s.stops(to.(*net.UDPAddr).AddrPort(), b) {
		return len(b), nil
	}
	return p.PacketConn.WriteTo(b, to)
}

// isVersion finds long headers of one version.
func isVersion(v quic.Version) func(netip.AddrPort, []byte) bool {
	return func(_ netip.AddrPort, b []byte) bool {
		return len(b) > 5 && b[0]&0x80 != 0 && binary.BigEndian.Uint32(b[1:]) == uint32(v)
	}
}

func isPort(p uint16) func(netip.AddrPort, []byte) bool {
	return func(to netip.AddrPort, _ []byte) bool { return to.Port() == p }
}

func anyOf(a, b func(netip.AddrPort, []byte) bool) func(netip.AddrPort, []byte) bool {
	return func(to netip.AddrPort, p []byte) bool { return a(to, p) || b(to, p) }
}

// What one rung is stopped by, the next one passes; and on that network the next
// connection begins with it, also in another run of the program. With a ticket the
// first rung looks alive: the request that waits on it is sent again.
func TestLadder(t *testing.T) {
	const high = 61001
	for name, c := range map[string]struct {
		drop  func(netip.AddrPort, []byte) bool
		want  rung
		turns int // how many rungs before it
	}{
		"version 1 dropped":      {isVersion(quic.Version1), rung{quic.Version2, 443, false}, 1},
		"port dropped":           {isPort(443), rung{quic.Version1, high, false}, 2},
		"both versions and port": {anyOf(isVersion(quic.Version2), isPort(443)), rung{quic.Version1, high, false}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, store := newOpened(t, 8<<10), &kept{}
				other, err := Listen(t.Context(), o.air.at(relayAt), relayAt+":61001", &tls.Config{Certificates: []tls.Certificate{o.cert}}, o, nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { other.Close() })
				where := "home"
				net := &sieve{Network: o.air.at("198.51.100.1")}
				client := func() *Client {
					c, err := New(Config{
						Network: net, Sessions: store, Where: func() string { return where },
						Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(o.cert.Leaf)},
					})
					if err != nil {
						t.Fatal(err)
					}
					c.Know([]uint16{high}, nil)
					return c
				}
				late := float64(stagger) / float64(roundTrip) * float64(c.turns)
				first := client()
				if took := o.open(first); took > 2.1 {
					t.Fatalf("open: %.2f round trips", took)
				}
				time.Sleep(time.Second)
				first.Close()

				net.set(c.drop)
				second := client()
				if took := o.open(second); took > late+2.1 {
					t.Errorf("blocked: %.2f round trips", took)
				}
				if net.dropped() == 0 {
					t.Error("nothing was dropped: this tests nothing")
				}
				if got := second.conns[0].(*quicConn).worked.last(); got != c.want {
					t.Errorf("%+v worked", got)
				}
				time.Sleep(time.Second)
				second.Close()

				third := client()
				if took := o.open(third); took > 2.1 {
					t.Errorf("in the next run: %.2f round trips", took)
				}
				time.Sleep(time.Second)
				third.Close()

				// Elsewhere nothing is known of that.
				where = "work"
				net.set(nil)
				fourth := client()
				if got := fourth.conns[0].(*quicConn).worked.last(); got != (rung{}) {
					t.Errorf("%+v is remembered of another network", got)
				}
				if took := o.open(fourth); took > 2.1 {
					t.Errorf("elsewhere: %.2f round trips", took)
				}
				fourth.Close()
			})
		})
	}
}

// When nothing gets through, that is said once all ways have had their time, and
// nothing is left behind.
func TestLadderToNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpened(t, 8<<10)
		net := &sieve{Network: o.air.at("198.51.100.1")}
		net.set(func(netip.AddrPort, []byte) bool { return true })
		c, err := New(Config{Network: net, Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(o.cert.Leaf)}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		if _, err := c.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0); err == nil {
			t.Error("an answer from nobody")
		}
		if took := time.Since(start); took > handshakeTimeout {
			t.Errorf("it took %v", took)
		}
		// The next tries cost less, and find what has opened meanwhile.
		all := net.dropped()
		if _, err := c.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0); err == nil {
			t.Error("an answer from nobody")
		}
		if n := net.dropped() - all; n == 0 || n >= all {
			t.Errorf("%d packets at first, %d at the next try", all, n)
		}
		net.set(isVersion(quic.Version1))
		if _, err := c.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0); err != nil {
			if _, err = c.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRememberedBytes(t *testing.T) {
	at := time.Unix(1_700_000_000/3600*3600, 0)
	for _, r := range []rung{{quic.Version1, 443, true}, {quic.Version2, 61001, false}, {tcpVersion, 8443, true}} {
		if got := parseRemembered(remembered{r, at}.bytes()); got.rung != r || !got.at.Equal(at) {
			t.Errorf("%+v reads back as %+v", r, got)
		}
	}
	for _, b := range [][]byte{nil, {1, 2, 3}, {3, 1, 1, 1, 0, 0, 0, 0}, {1, 2, 3, 4, 5}} {
		if got := parseRemembered(b); got.rung != (rung{}) {
			t.Errorf("%v reads as %+v", b, got)
		}
	}
}

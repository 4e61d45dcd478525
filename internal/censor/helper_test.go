package censor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"tamizdat/internal/simnet"
)

var (
	readerAddr   = netip.MustParseAddr("10.0.0.1")
	relayAddr    = netip.MustParseAddr("198.51.100.1")
	otherAddr    = netip.MustParseAddr("198.51.100.2")
	cdnAddr      = netip.MustParseAddr("203.0.113.1")
	resolverAddr = netip.MustParseAddr("192.0.2.53")
	dohAddr      = netip.MustParseAddr("192.0.2.80")
	ipfsAddr     = netip.MustParseAddr("192.0.2.90")

	relayTo    = netip.AddrPortFrom(relayAddr, 443)
	otherTo    = netip.AddrPortFrom(otherAddr, 443)
	resolverTo = netip.AddrPortFrom(resolverAddr, 53)
)

const (
	listedName = "listed.example"
	freeName   = "free.example"
	newsZone   = "n.example"
	rtt        = 100 * time.Millisecond
	// patience is how long a test waits, on the fake clock, for what never comes.
	patience = 5 * time.Second
)

func testMap() Map {
	return Map{
		Relays: []netip.AddrPort{relayTo, otherTo}, Names: []string{listedName}, Zones: []string{newsZone},
		Resolvers: []netip.AddrPort{resolverTo}, DoH: []netip.Addr{dohAddr}, IPFS: []netip.Addr{ipfsAddr},
		Allowed: []netip.Addr{cdnAddr},
	}
}

// world is a simulated net with a server at each of the addresses.
type world struct {
	t       *testing.T
	net     *simnet.Net
	servers map[netip.Addr]*simnet.Host
	c       *Censor

	closers []func()

	mu     sync.Mutex
	events []Event
}

// scene runs f in a bubble, with the named scenario between reader and servers.
func scene(t *testing.T, name string, f func(w *world)) {
	t.Helper()
	s, ok := Lookup(name)
	if !ok {
		t.Fatalf("no scenario %q", name)
	}
	sceneOf(t, s, 1, f)
}

func sceneOf(t *testing.T, s Scenario, seed uint64, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(seed)
		link := simnet.Link{Delay: rtt / 4}
		w := &world{t: t, net: n, servers: map[netip.Addr]*simnet.Host{}}
		defer func() {
			for _, shut := range w.closers {
				shut()
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}()
		for _, a := range []netip.Addr{relayAddr, otherAddr, cdnAddr, resolverAddr, dohAddr, ipfsAddr} {
			w.servers[a] = n.Host(a.String(), link, a)
		}
		reader := n.Host("reader", link, readerAddr)
		w.c = New(reader, testMap(), s, seed, func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		})
		f(w)
	})
}

// did counts what the censor did of that action.
func (w *world) did(a Action) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Action == a {
			n++
		}
	}
	return n
}

// soon is a context that ends after patience.
func (w *world) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.closers = append(w.closers, cancel)
	return ctx
}

// echoUDP answers every datagram to an address with itself.
func (w *world) echoUDP(at netip.AddrPort) {
	w.t.Helper()
	w.serveUDP(at, func(b []byte) []byte { return b })
}

func (w *world) serveUDP(at netip.AddrPort, answer func([]byte) []byte) {
	w.t.Helper()
	pc, err := w.servers[at.Addr()].ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if b := answer(append([]byte(nil), buf[:n]...)); b != nil {
				_, _ = pc.WriteTo(b, from)
			}
		}
	}()
}

// serveTCP runs f for every connection to an address.
func (w *world) serveTCP(at netip.AddrPort, f func(c net.Conn)) {
	w.t.Helper()
	ln, err := w.servers[at.Addr()].Listen(context.Background(), "tcp", at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// ask sends one datagram and returns what comes back first.
func (w *world) ask(to netip.AddrPort, b []byte) ([]byte, error) {
	w.t.Helper()
	c, err := w.c.Dial(w.soon(), "udp", to.String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	return exchange(c, b)
}

func exchange(c net.Conn, b []byte) ([]byte, error) {
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	return buf[:n], err
}

// say sends b over a new TCP connection and reads as much back.
func (w *world) say(to netip.AddrPort, b []byte) (int, error) {
	w.t.Helper()
	c, err := w.c.Dial(w.soon(), "tcp", to.String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		return 0, err
	}
	return io.ReadFull(c, make([]byte, len(b)))
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// serverTLS returns a server's configuration; make it inside the bubble, whose
// clock starts in 2000.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{listedName, freeName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"test"},
	}
}

// serveQUIC takes handshakes at an address.
func (w *world) serveQUIC(at netip.AddrPort) {
	w.t.Helper()
	pc, err := w.servers[at.Addr()].ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	tr := &quic.Transport{Conn: pc}
	ln, err := tr.Listen(serverTLS(w.t), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		for {
			if _, err := ln.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
	w.closers = append(w.closers, func() { _, _, _ = ln.Close(), tr.Close(), pc.Close() })
}

// shakeQUIC makes a handshake from the given local port (0: any).
func (w *world) shakeQUIC(to netip.AddrPort, port uint16, version quic.Version, name string) error {
	w.t.Helper()
	pc, err := w.c.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
	if err != nil {
		w.t.Fatal(err)
	}
	tr := &quic.Transport{Conn: pc}
	defer func() { _, _ = tr.Close(), pc.Close() }()
	c, err := tr.Dial(w.soon(), net.UDPAddrFromAddrPort(to), clientTLS(name), &quic.Config{
		Versions: []quic.Version{version}, InitialPacketSize: 1200,
	})
	if err != nil {
		return err
	}
	return c.CloseWithError(0, "")
}

func clientTLS(name string) *tls.Config {
	return &tls.Config{ServerName: name, NextProtos: []string{"test"}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}

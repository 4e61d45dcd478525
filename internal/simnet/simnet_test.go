package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/transport"
)

var _ transport.Network = (*Host)(nil)

var (
	addrA  = netip.MustParseAddr("192.0.2.1")
	addrB  = netip.MustParseAddr("198.51.100.1")
	addrA6 = netip.MustParseAddr("2001:db8::a")
	addrB6 = netip.MustParseAddr("2001:db8::b")
)

// rtt is the round trip between the hosts of these tests.
const rtt = 100 * time.Millisecond

// two runs f in a bubble with two hosts; la and lb get a quarter of rtt as delay.
func two(t *testing.T, seed uint64, la, lb Link, f func(t *testing.T, n *Net, a, b *Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(seed)
		defer n.Close()
		la.Delay, lb.Delay = rtt/4, rtt/4
		f(t, n, n.Host("a", la, addrA, addrA6), n.Host("b", lb, addrB, addrB6))
	})
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// took fails unless it is want after start.
func took(t *testing.T, what string, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

func listenUDP(t *testing.T, h *Host, address string) net.PacketConn {
	t.Helper()
	return must[net.PacketConn](t)(h.ListenPacket(t.Context(), "udp", address))
}

func dial(t *testing.T, h *Host, network, address string) net.Conn {
	t.Helper()
	return must[net.Conn](t)(h.Dial(t.Context(), network, address))
}

// echo answers datagrams until the socket is closed.
func echo(pc net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		k, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo(buf[:k], from)
	}
}

// serve hands each connection to port 80 to do.
func serve(t *testing.T, h *Host, do func(net.Conn)) net.Listener {
	t.Helper()
	ln := must[net.Listener](t)(h.Listen(t.Context(), "tcp", ":80"))
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go do(c)
		}
	}()
	return ln
}

// answer sends size bytes for each byte that comes.
func answer(size int) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		for b := []byte{0}; ; {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write(make([]byte, size)); err != nil {
				return
			}
		}
	}
}

// ask has the other end send size bytes and reads them.
func ask(t *testing.T, c net.Conn, size int) {
	t.Helper()
	must[int](t)(c.Write([]byte{1}))
	must[int64](t)(io.CopyN(io.Discard, c, int64(size)))
}

// fetch is a connection of its own for one answer.
func fetch(t *testing.T, h *Host, size int) {
	t.Helper()
	c := dial(t, h, "tcp", addrB.String()+":80")
	ask(t, c, size)
	check(t, c.Close())
}

// record keeps the net's events as lines.
func record(n *Net) *[]string {
	var lines []string
	start := time.Now()
	n.Trace(func(e Event) {
		lines = append(lines, fmt.Sprintf("%v %s %s %v>%v %d", e.At.Sub(start), e.Kind, e.Proto, e.From, e.To, e.Size))
	})
	return &lines
}

func count(lines []string, part string) int {
	k := 0
	for _, l := range lines {
		if strings.Contains(l, part) {
			k++
		}
	}
	return k
}

func TestResolve(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		n.Name("Relay.example.", addrB, addrB6)
		for in, want := range map[string][]netip.Addr{
			"relay.EXAMPLE":     {addrB, addrB6},
			"192.0.2.77":        {netip.MustParseAddr("192.0.2.77")},
			"::ffff:192.0.2.77": {netip.MustParseAddr("192.0.2.77")},
		} {
			if got, err := a.Resolve(t.Context(), in); err != nil || !slices.Equal(got, want) {
				t.Errorf("Resolve(%q) = %v, %v", in, got, err)
			}
		}
		n.Name("relay.example")
		var dnsErr *net.DNSError
		if _, err := a.Resolve(t.Context(), "relay.example"); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
			t.Errorf("a forgotten name: %v", err)
		}
		if _, err := a.Dial(t.Context(), "tcp", "relay.example:80"); !errors.As(err, &dnsErr) {
			t.Errorf("dialling it: %v", err)
		}
	})
}

func TestAddressesAndPorts(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		ctx := t.Context()
		for _, c := range []struct{ network, address, local string }{
			{"udp", ":0", "[::]:49152"},
			{"udp", "0.0.0.0:0", "[::]:49153"}, // as package net has it on every OS with both families
			{"udp4", "0.0.0.0:0", "0.0.0.0:49154"},
			{"udp", "192.0.2.1:0", "192.0.2.1:49155"},
			{"udp6", "[2001:db8::a]:7", "[2001:db8::a]:7"},
			{"udp", "127.0.0.1:8", "127.0.0.1:8"},
		} {
			pc := must[net.PacketConn](t)(a.ListenPacket(ctx, c.network, c.address))
			if pc.LocalAddr().String() != c.local {
				t.Errorf("%s %s listens on %v, want %s", c.network, c.address, pc.LocalAddr(), c.local)
			}
		}
		for _, c := range []struct {
			network, address string
			want             error
		}{
			{"udp", ":7", syscall.EADDRINUSE},
			{"udp4", ":7", nil}, // the other family
			{"udp4", "127.0.0.1:8", syscall.EADDRINUSE},
			{"udp", "198.51.100.1:9", syscall.EADDRNOTAVAIL},
			{"tcp", ":9", ErrUnsupported},
			{"ip4", ":9", ErrUnsupported},
		} {
			if _, err := a.ListenPacket(ctx, c.network, c.address); !errors.Is(err, c.want) {
				t.Errorf("%s %s: %v, want %v", c.network, c.address, err, c.want)
			}
		}
		ln := must[net.Listener](t)(a.Listen(ctx, "tcp", "192.0.2.1:0"))
		if ln.Addr().String() != "192.0.2.1:49152" {
			t.Errorf("the first stream port is %v", ln.Addr())
		}
		check(t, ln.Close())
		must[net.Listener](t)(a.Listen(ctx, "tcp", "192.0.2.1:49152")) // the port is free again
	})
}

func TestLoopback(t *testing.T) {
	two(t, 1, Link{LossUp: 1}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		start := time.Now()
		serve(t, a, answer(1_000_000))
		for _, to := range []string{"127.0.0.1:80", "[::1]:80", "192.0.2.1:80"} {
			c := dial(t, a, "tcp", to)
			ask(t, c, 1_000_000)
			if c.LocalAddr().(*net.TCPAddr).IP.String() != c.RemoteAddr().(*net.TCPAddr).IP.String() {
				t.Errorf("%v speaks to %v", c.LocalAddr(), c.RemoteAddr())
			}
			check(t, c.Close())
		}
		took(t, "a host to itself", start, 0)
		if _, err := b.Dial(t.Context(), "tcp", "127.0.0.1:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("another host's loopback: %v", err)
		}
	})
}

func TestUDPRoundTrip(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		go echo(listenUDP(t, b, ":53"))
		for _, addr := range []netip.Addr{addrB, addrB6} {
			to := netip.AddrPortFrom(addr, 53).String()
			start := time.Now()
			c := dial(t, a, "udp", to)
			must[int](t)(c.Write([]byte("ping")))
			buf := make([]byte, 10)
			k, from, err := c.(net.PacketConn).ReadFrom(buf)
			check(t, err)
			if string(buf[:k]) != "ping" || from.String() != to {
				t.Errorf("%q from %v", buf[:k], from)
			}
			took(t, "a round trip", start, rtt)
		}
		c := dial(t, a, "udp", "198.51.100.1:53")
		listenUDP(t, b, ":54").WriteTo([]byte("forged"), c.LocalAddr())
		check(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a dialled socket heard another sender: %v", err)
		}
	})
}

// Timers of one instant fire in any order; datagrams must not.
// A host that moves goes on from its new address; what is sent to the old one is
// lost, and answers find the way.
func TestMove(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		ctx := t.Context()
		pa := must[net.PacketConn](t)(a.ListenPacket(ctx, "udp", "0.0.0.0:0"))
		pb := must[net.PacketConn](t)(b.ListenPacket(ctx, "udp", "0.0.0.0:53"))
		buf := make([]byte, 100)
		ask := func() net.Addr {
			t.Helper()
			must[int](t)(pa.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrB, 53))))
			_, from, err := pb.ReadFrom(buf)
			check(t, err)
			return from
		}
		before := ask()
		elsewhere := netip.MustParseAddr("203.0.113.9")
		n.Move(a, elsewhere)
		after := ask()
		if got := after.(*net.UDPAddr).AddrPort(); got.Addr() != elsewhere || got.Port() != before.(*net.UDPAddr).AddrPort().Port() {
			t.Errorf("it came from %v, and from %v before", after, before)
		}
		must[int](t)(pb.WriteTo([]byte("to the old one"), before))
		must[int](t)(pb.WriteTo([]byte("to the new one"), after))
		k, _, err := pa.ReadFrom(buf)
		check(t, err)
		if string(buf[:k]) != "to the new one" {
			t.Errorf("%q came", buf[:k])
		}
	})
}

func TestBurstsStayInOrder(t *testing.T) {
	for _, link := range []Link{{}, {Up: 1_000_000, Down: 1_000_000}} {
		two(t, 1, link, link, func(t *testing.T, n *Net, a, b *Host) {
			pb := listenUDP(t, b, ":53")
			c := dial(t, a, "udp", "198.51.100.1:53")
			const bursts, each = 20, 50
			go func() {
				for i := range bursts * each {
					_, _ = c.Write([]byte{byte(i >> 8), byte(i)})
					switch i {
					case 5 * each: // a way that becomes shorter, and wide
						link.Delay = rtt / 8
						b.SetLink(link)
					case 10 * each:
						b.SetLink(Link{})
					}
					if i%each == each-1 {
						time.Sleep(time.Millisecond)
					}
				}
			}()
			for i := range bursts * each {
				buf := make([]byte, 2)
				_, _, err := pb.ReadFrom(buf)
				check(t, err)
				if got := int(buf[0])<<8 | int(buf[1]); got != i {
					t.Fatalf("number %d came as number %d", got, i)
				}
			}
		})
	}
}

func TestMTU(t *testing.T) {
	two(t, 1, Link{MTU: 1280}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		go echo(listenUDP(t, b, ":53"))
		trace := record(n)
		for _, c := range []struct {
			to   netip.Addr
			size int
			fits bool
		}{{addrB, 1252, true}, {addrB, 1253, false}, {addrB6, 1232, true}, {addrB6, 1233, false}} {
			conn := dial(t, a, "udp", netip.AddrPortFrom(c.to, 53).String())
			must[int](t)(conn.Write(make([]byte, c.size)))
			check(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
			k, err := conn.Read(make([]byte, 2000))
			if (err == nil) != c.fits || c.fits && k != c.size {
				t.Errorf("%d bytes to %v: %d, %v", c.size, c.to, k, err)
			}
		}
		if k := count(*trace, KindDropMTU); k != 2 {
			t.Errorf("%d were dropped as too large", k)
		}
		serve(t, b, answer(12_400))
		start := time.Now()
		fetch(t, a, 12_400) // ten segments of 1240 bytes
		took(t, "an initial window of small segments", start, 2*rtt)
		if k := count(*trace, " 1280"); k != 14 { // with the two datagrams that fit, both ways
			t.Errorf("%d packets are as large as the MTU", k)
		}
	})
}

func TestQueue(t *testing.T) {
	two(t, 1, Link{Up: 10_000, Queue: 10_000}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		pb := listenUDP(t, b, ":53")
		c := dial(t, a, "udp", "198.51.100.1:53")
		trace := record(n)
		start := time.Now()
		for range 20 {
			must[int](t)(c.Write(make([]byte, 972))) // 1000 with headers
		}
		if k := count(*trace, KindDropQueue); k != 10 {
			t.Errorf("%d of 20 found no room where 10 have it", k)
		}
		for i := range 10 {
			_, _, err := pb.ReadFrom(make([]byte, 1000))
			check(t, err)
			took(t, fmt.Sprintf("datagram %d", i), start, rtt/2+time.Duration(i+1)*100*time.Millisecond)
		}
	})
}

// TCP and UDP wait for the same link.
func TestSharedLink(t *testing.T) {
	two(t, 1, Link{Down: 125_000}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(100_000))
		pa := listenUDP(t, a, ":53")
		c := dial(t, a, "tcp", "198.51.100.1:80")
		must[int](t)(c.Write([]byte{1}))
		time.Sleep(rtt)
		start := time.Now() // now 14,600 bytes and headers begin to come in
		must[int](t)(listenUDP(t, b, ":53").WriteTo([]byte{1}, &net.UDPAddr{IP: addrA.AsSlice(), Port: 53}))
		_, _, err := pa.ReadFrom(make([]byte, 1))
		check(t, err)
		if d := time.Since(start); d < rtt/2+50*time.Millisecond {
			t.Errorf("a datagram took %v past a busy link", d)
		}
	})
}

func TestDown(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(1000))
		go echo(listenUDP(t, b, ":53"))
		c, u := dial(t, a, "tcp", "198.51.100.1:80"), dial(t, a, "udp", "198.51.100.1:53")
		time.Sleep(rtt)
		young := dial(t, a, "tcp", "198.51.100.1:80")
		b.SetDown(true)
		must[int](t)(c.Write([]byte{1}))
		must[int](t)(young.Write([]byte{1}))
		must[int](t)(u.Write([]byte{1}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := a.Dial(ctx, "tcp", "198.51.100.1:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dialling a dead host: %v", err)
		}
		took(t, "dialling a dead host", start, 5*time.Second)
		for _, c := range []net.Conn{c, u} {
			check(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
			if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading from a dead host: %v", err)
			}
		}
		b.SetDown(false)
		check(t, c.SetReadDeadline(time.Time{}))
		must[int64](t)(io.CopyN(io.Discard, c, 1000)) // TCP goes on by itself
		must[int](t)(u.Write([]byte{1}))
		check(t, u.SetReadDeadline(time.Now().Add(rtt)))
		if _, err := u.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) { // at rtt sharp: too late
			check(t, err)
		}
		// The server never heard the end of this one's handshake.
		if _, err := young.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection that a dead host has forgotten: %v", err)
		}

		n.Remove(b)
		start = time.Now()
		if _, err := a.Dial(t.Context(), "tcp", "198.51.100.1:80"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("dialling nobody: %v", err)
		}
		took(t, "giving up", start, 127*time.Second)
		b = n.Host("b again", Link{Delay: rtt / 4}, addrB)
		serve(t, b, answer(10))
		fetch(t, a, 10)
	})
}

func TestSetLinkOfOpenFlows(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(100_000))
		c := dial(t, a, "tcp", "198.51.100.1:80")
		ask(t, c, 100_000)
		a.SetLink(Link{Delay: rtt/4 + rtt/2})
		start := time.Now()
		ask(t, c, 1)
		took(t, "a round trip over a longer way", start, 2*rtt)
		must[int64](t)(io.CopyN(io.Discard, c, 99_999))

		a.SetLink(Link{Delay: rtt / 4, Down: 10_000})
		start = time.Now()
		ask(t, c, 100_000)
		if d := time.Since(start); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("100 kB at 10 kB/s took %v", d)
		}
		a.SetLink(Link{Delay: rtt / 4, MTU: 600})
		trace := record(n)
		ask(t, c, 100_000)
		if count(*trace, " 600") < 150 || count(*trace, " 1500") > 0 {
			t.Error("segments are not cut to a smaller MTU")
		}
	})
}

// A net in which nothing moves has no timer, whatever deadlines were set.
func TestIdleNetHasNoTimer(t *testing.T) {
	two(t, 1, Link{LossDown: 0.1}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(100_000))
		for range 10 {
			fetch(t, a, 100_000)
		}
		c := dial(t, a, "tcp", "198.51.100.1:80")
		ask(t, c, 100_000)
		check(t, c.SetDeadline(time.Now().Add(time.Hour)))
		check(t, listenUDP(t, a, ":0").SetDeadline(time.Now().Add(time.Hour)))
		time.Sleep(30 * time.Minute)
		n.mu.Lock()
		if n.armed || len(n.heap) > 0 {
			t.Errorf("%d events are left, timer %v", len(n.heap), n.armed)
		}
		n.mu.Unlock()
		check(t, c.Close())
		time.Sleep(time.Minute)
		n.mu.Lock()
		defer n.mu.Unlock()
		if k := len(a.conns) + len(b.conns); k > 0 {
			t.Errorf("%d ends of closed connections are kept", k)
		}
		if len(a.ports) != 1 { // the datagram socket's
			t.Errorf("%d ports are taken", len(a.ports))
		}
	})
}

// The bubble ends, and nobody is left waiting, when only the net is closed.
func TestNetCloseEndsAll(t *testing.T) {
	woken := make([]error, 0, 6)
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		link := Link{Delay: rtt / 4, Up: 100_000, LossUp: 0.2}
		a, b := n.Host("a", link, addrA), n.Host("b", link, addrB)
		serve(t, b, func(c net.Conn) {})
		c := dial(t, a, "tcp", "198.51.100.1:80")
		pc, ln := listenUDP(t, a, ":0"), must[net.Listener](t)(a.Listen(t.Context(), "tcp", ":0"))
		results := make(chan error)
		go func() { _, err := c.Read(make([]byte, 1)); results <- err }()
		go func() { _, err := io.Copy(c, endless{}); results <- err }()
		go func() { _, _, err := pc.ReadFrom(make([]byte, 1)); results <- err }()
		go func() { _, err := ln.Accept(); results <- err }()
		go func() { _, err := a.Dial(t.Context(), "tcp", "203.0.113.1:80"); results <- err }()
		time.Sleep(10 * time.Second)
		start := time.Now()
		check(t, n.Close())
		check(t, n.Close())
		for range 5 {
			woken = append(woken, <-results)
		}
		took(t, "closing", start, 0)
		_, err := a.Dial(t.Context(), "udp", "198.51.100.1:80")
		woken = append(woken, err)
	})
	for _, err := range woken {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("woken with %v", err)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

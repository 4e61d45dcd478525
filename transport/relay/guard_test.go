package relay

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
)

func TestOrigin(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:443": "192.0.2.7/32", "[::ffff:192.0.2.7]:1": "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:9": "2001:db8:1:2::/64", "[fe80::1%eth0]:9": "fe80::/64", "relay:9": "invalid Prefix", "": "invalid Prefix",
	} {
		if got := Origin(remote).String(); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}

func TestGuardCounts(t *testing.T) {
	g := NewGuard(Limits{Conns: 5, ConnsPerAddr: 2}).quic
	at := func(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	var leave []func()
	enter := func(s string, want bool) {
		t.Helper()
		l, ok := g.enter(at(s))
		if ok != want {
			t.Fatalf("%s: %t", s, ok)
		}
		if ok {
			leave = append(leave, l)
		}
	}
	enter("[2001:db8::1]:1", true)
	enter("[2001:db8::2]:1", true)
	enter("[2001:db8::3]:1", false) // the same /64
	enter("192.0.2.1:1", true)
	enter("192.0.2.1:2", true)
	enter("192.0.2.1:3", false)
	enter("192.0.2.2:1", true)
	enter("192.0.2.3:1", false) // five in all
	leave[0]()
	leave[0]() // twice is once
	enter("192.0.2.3:1", true)
	enter("192.0.2.4:1", false)
	for _, l := range leave {
		l()
	}
	if g.places.taken != 0 || len(g.places.of) != 0 {
		t.Errorf("%d connections, %d addresses remembered when all have left", g.places.taken, len(g.places.of))
	}
	free := NewGuard(Limits{Conns: -1, ConnsPerAddr: -1, Unverified: -1}).quic
	for range 30_000 {
		if _, ok := free.enter(at("192.0.2.1:1")); !ok {
			t.Fatal("limited without a limit")
		}
	}
}

// Who has a /56 or a /48 of IPv6 is one customer, and leaves room for others; nobody
// can use up with forged addresses what he may have.
func TestGuardCountsNetworks(t *testing.T) {
	at := func(s string, more ...any) net.Addr {
		return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(fmt.Sprintf(s, more...)))
	}
	g := NewGuard(Limits{Conns: 20_000, Unverified: -1}).quic
	var leave []func()
	enter := func(from net.Addr) bool {
		l, ok := g.enter(from)
		if ok {
			leave = append(leave, l)
		}
		return ok
	}
	for i := range 256 { // each /64 of a /56
		for range 10 {
			enter(at("[2001:db8:0:%x::1]:1", i))
		}
	}
	if len(leave) != 2_000 {
		t.Errorf("%d connections of one /56", len(leave))
	}
	for i := range 1 << 13 { // many of a /48
		enter(at("[2001:db8:0:%x::1]:1", i<<3))
	}
	if len(leave) != 4_000 {
		t.Errorf("%d connections of one /48", len(leave))
	}
	if !enter(at("[2001:db8:1::1]:1")) || !enter(at("192.0.2.1:1")) {
		t.Error("no room for others")
	}
	for _, l := range leave {
		l()
		l()
	}
	for i, p := range append(g.wide, g.places) {
		if p.taken != 0 || len(p.of) != 0 {
			t.Errorf("%d: %d connections, %d networks remembered when all have left", i, p.taken, len(p.of))
		}
	}
	for _, from := range []string{"[2001:db8:0:%x::1]:1", "[2001:db8:0:%x00::1]:1"} {
		n := 0
		for ; n < 100 && !g.mustVerify(at(from, n+1)); n++ {
			enter(at(from, n+1))
		}
		if n != 32 { // the second has those of the first as well, of 64
			t.Errorf("%s: %d connections before anybody has shown an address", from, n)
		}
	}
}

// A server has as many places as its memory has room for, and they are shared out
// so that half of them stay for others, and most for who shows his address.
func TestLimitsFollowMemory(t *testing.T) {
	for _, c := range []struct {
		set    Limits
		memory int64
		want   Limits
	}{
		{Limits{}, 0, Limits{20_000, 1_000, 500}},
		{Limits{}, 64 << 30, Limits{20_000, 1_000, 500}},
		{Limits{}, 1 << 30, Limits{2_621, 327, 65}},
		{Limits{}, 512 << 20, Limits{1_310, 163, 32}},
		{Limits{}, 64 << 20, Limits{500, 64, 12}},
		{Limits{Conns: 20_000}, 1 << 30, Limits{20_000, 1_000, 500}},
		{Limits{Conns: -1, ConnsPerAddr: -1}, 1 << 30, Limits{-1, -1, 500}},
		{Limits{ConnsPerAddr: 2_000, Unverified: 7}, 1 << 30, Limits{2_621, 2_000, 7}},
		{Limits{Conns: 3}, 0, Limits{3, 64, 1}},
	} {
		if got := c.set.withDefaults(c.memory); got != c.want {
			t.Errorf("%+v with %d MiB: %+v", c.set, c.memory>>20, got)
		}
	}
}

func TestMemory(t *testing.T) {
	machine := func(more ...string) fstest.MapFS {
		m := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal:        2000 kB\nMemFree:          1 kB\n")}}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = &fstest.MapFile{Data: []byte(more[i+1])}
		}
		return m
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"nobody says":       {fstest.MapFS{}, 0},
		"the machine":       {machine(), 2000 << 10},
		"nonsense":          {machine("proc/meminfo", "MemTotal: -1 kB\nMemTotal: x kB\nMemTotal:\n", "proc/self/cgroup", "0\n\n0::\n"), 0},
		"no limit":          {machine("proc/self/cgroup", "0::/a.slice/b\n", "sys/fs/cgroup/a.slice/b/memory.max", "max\n"), 2000 << 10},
		"a service":         {machine("proc/self/cgroup", "0::/a.slice/b\n", "sys/fs/cgroup/a.slice/b/memory.max", "1000000\n"), 1_000_000},
		"what it is in":     {machine("proc/self/cgroup", "0::/a.slice/b\n", "sys/fs/cgroup/a.slice/b/memory.max", "max\n", "sys/fs/cgroup/a.slice/memory.max", "900000\n"), 900_000},
		"a container":       {machine("proc/self/cgroup", "0::/../x\n", "sys/fs/cgroup/memory.max", "800000\n"), 800_000},
		"version 1":         {machine("proc/self/cgroup", "5:cpu:/z\n4:memory:/z\n0::/\n", "sys/fs/cgroup/memory/z/memory.limit_in_bytes", "700000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), 700_000},
		"more than is here": {machine("proc/self/cgroup", "0::/\n", "sys/fs/cgroup/memory.max", "99999999999\n"), 2000 << 10},
	} {
		if got := memoryOf(c.files); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// limited runs a server on loopback that says hello.
func limited(t *testing.T, limits Limits) (*Server, tls.Certificate) {
	t.Helper()
	return guardedBy(t, NewGuard(limits))
}

func guardedBy(t *testing.T, guard *Guard) (*Server, tls.Certificate) {
	t.Helper()
	cert := certificate(t)
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	s, err := ListenWithin(t.Context(), &netreal.Network{}, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, hello, nil, guard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, cert
}

// visit asks over one of our client's connections, and keeps it open until the
// end of the test.
func visit(t *testing.T, s *Server, cert tls.Certificate, kind int) error {
	t.Helper()
	at := netip.MustParseAddrPort(s.Addr().String())
	to := peer{host: at.Addr().String(), port: at.Port(), pin: channel.PinOf(cert.Leaf)}
	c := []conn{newQUIC(&netreal.Network{}, to), newTCP(&netreal.Network{}, to)}[kind]
	t.Cleanup(func() { c.Close() })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Addr().String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	return nil
}

func TestConnectionsAreLimited(t *testing.T) {
	for kind, name := range []string{"quic", "tcp"} {
		t.Run(name, func(t *testing.T) {
			for what, limits := range map[string]Limits{"of an address": {ConnsPerAddr: 3}, "in all": {Conns: 3}} {
				s, cert := limited(t, limits)
				for i := range 5 {
					err := visit(t, s, cert, kind)
					if ok := err == nil; ok != (i < 3) {
						t.Errorf("%s: connection %d: %v", what, i+1, err)
					}
				}
			}
		})
	}
}

// What a server may hold is for all its listeners together.
func TestListenersShareLimits(t *testing.T) {
	for kind, name := range []string{"quic", "tcp"} {
		guard := NewGuard(Limits{ConnsPerAddr: 3})
		for i := range 5 {
			s, cert := guardedBy(t, guard)
			if ok := visit(t, s, cert, kind) == nil; ok != (i < 3) {
				t.Errorf("%s: connection %d: %t", name, i+1, ok)
			}
		}
	}
}

// oneShot sends the first datagram and then no more, and counts what comes.
type oneShot struct {
	net.PacketConn
	sent, got, packets atomic.Int64
}

func (o *oneShot) WriteTo(b []byte, to net.Addr) (int, error) {
	if o.packets.Add(1) > 1 {
		return len(b), nil
	}
	o.sent.Add(int64(len(b)))
	return o.PacketConn.WriteTo(b, to)
}

func (o *oneShot) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := o.PacketConn.ReadFrom(b)
	o.got.Add(int64(n))
	return n, from, err
}

// Whoever forges an address can't have the relay send there more than three
// times what he sends himself (RFC 9000, section 8.1), however long he waits:
// not with a full ClientHello, not with part of one.
func TestAmplification(t *testing.T) {
	for name, curves := range map[string][]tls.CurveID{
		"whole ClientHello": {tls.X25519}, // fits into one datagram
		"part of one":       {tls.X25519MLKEM768},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOpened(t, 16<<10)
				pc, err := o.air.at("198.51.100.7").ListenPacket(t.Context(), "udp", "0.0.0.0:0")
				if err != nil {
					t.Fatal(err)
				}
				shot := &oneShot{PacketConn: pc}
				tr := &quic.Transport{Conn: shot}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				_, err = tr.Dial(ctx, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(relayAt+":443")),
					&tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}, ServerName: "x", CurvePreferences: curves},
					&quic.Config{InitialPacketSize: minPacket, HandshakeIdleTimeout: time.Minute})
				if known := err == nil; known != (len(curves) == 1 && curves[0] == tls.X25519) {
					t.Errorf("the client's handshake: %v", err)
				}
				time.Sleep(time.Minute)
				sent, got := shot.sent.Load(), shot.got.Load()
				t.Logf("%d bytes sent, %d came back", sent, got)
				if got == 0 || got > 3*sent {
					t.Errorf("%d bytes sent, %d came back", sent, got)
				}
				tr.Close()
				pc.Close()
			})
		})
	}
}

// retries counts Retry packets that come from the server.
type retries struct {
	netreal.Network
	n atomic.Int64
}

func (r *retries) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	pc, err := r.Network.ListenPacket(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &retryConn{PacketConn: pc, r: r}, nil
}

type retryConn struct {
	net.PacketConn
	r    *retries
	once sync.Once // each packet of a first flight is answered
}

func (c *retryConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if n > 5 && b[0]&0xf0 == 0xf0 && b[4] == 1 { // long header, type 3, version 1
		c.once.Do(func() { c.r.n.Add(1) })
	}
	return n, from, err
}

func TestUnknownAddressesAreVerifiedUnderLoad(t *testing.T) {
	for what, c := range map[string]struct {
		limits Limits
		min    int64
		max    int64
	}{
		"more in a second than may be": {Limits{Unverified: 3}, 30, 57},
		"many of one address":          {Limits{Unverified: -1}, 60 - unverifiedPerAddr, 60 - unverifiedPerAddr},
	} {
		s, cert := limited(t, c.limits)
		at := netip.MustParseAddrPort(s.Addr().String())
		nw := &retries{}
		for range 60 {
			q := newQUIC(nw, peer{host: at.Addr().String(), port: at.Port(), pin: channel.PinOf(cert.Leaf)})
			t.Cleanup(func() { q.Close() })
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Addr().String()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := q.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			resp.Body.Close()
		}
		if n := nw.n.Load(); n < c.min || n > c.max {
			t.Errorf("%s: %d of 60 connections were verified first", what, n)
		}
	}
}

// hellos are first packets of that many handshakes, each with a whole ClientHello.
func hellos(t *testing.T, n int) [][]byte {
	t.Helper()
	listen := func() net.PacketConn {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return pc
	}
	pc, sink := listen(), listen()
	defer pc.Close()
	defer sink.Close()
	tr := &quic.Transport{Conn: pc}
	defer tr.Close()
	out := map[string][]byte{} // by the connection's name
	for len(out) < n {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = tr.Dial(ctx, sink.LocalAddr(), &tls.Config{
				InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}, ServerName: "x",
				CurvePreferences: []tls.CurveID{tls.X25519}, // or it takes two packets
			}, &quic.Config{InitialPacketSize: minPacket})
		}()
		for before := len(out); len(out) == before; { // what an earlier one says at its end has its name
			b := make([]byte, 2*minPacket)
			k, _, err := sink.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			if name := string(b[6 : 6+b[5]]); out[name] == nil {
				out[name] = b[:k]
			}
		}
		cancel()
		<-done
	}
	return slices.Collect(maps.Values(out))
}

// A flood of Initials that are none, and of such as begin a handshake and never
// go on, neither stops a relay nor makes it grow.
func TestJunkInitials(t *testing.T) {
	const every = 125 // of a sender's 12,500 packets one is a ClientHello
	begin := hellos(t, 4*12_500/every)
	s, cert := limited(t, Limits{})
	if err := visit(t, s, cert, 0); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	var wg, answers sync.WaitGroup
	t.Cleanup(answers.Wait)
	var begun, retried atomic.Int64
	for sender := range 4 {
		wg.Go(func() {
			c, err := net.Dial("udp", s.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			answers.Go(func() {
				b := make([]byte, 2*minPacket)
				for {
					n, err := c.Read(b)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					switch { // of version 1; what a Retry answers to is not held
					case n < 5 || b[4] != 1:
					case b[0]&0xf0 == 0xc0:
						begun.Add(1)
					case b[0]&0xf0 == 0xf0:
						retried.Add(1)
					}
				}
			})
			packet := make([]byte, 1200)
			for i := range 12_500 {
				if i%every == every-1 {
					_, _ = c.Write(begin[sender*12_500/every+i/every])
					continue
				}
				rand.Read(packet)
				switch i % 4 {
				case 0, 1: // an Initial that does not decrypt
					copy(packet, []byte{0xc3, 0, 0, 0, 1, 8})
					packet[14], packet[23], packet[24], packet[25] = 8, 0, 0x44, 0x98
				case 2: // a version that nobody has
					copy(packet, []byte{0xc3, 0x1a, 0x2a, 0x3a, 0x4a, 8})
				}
				_, _ = c.Write(packet) // lost ones are lost
			}
		})
	}
	wg.Wait()
	for _, kind := range []int{0, 1} {
		if err := visit(t, s, cert, kind); err != nil {
			t.Errorf("a reader after the flood: %v", err)
		}
	}
	if begun.Load() == 0 || retried.Load() == 0 {
		t.Errorf("%d packets of handshakes came back, %d of those that were told to begin again: this tests nothing", begun.Load(), retried.Load())
	}
	// A handshake that was begun costs a goroutine or two for five seconds; no
	// more of them may be under way than may begin without showing an address.
	if grown := runtime.NumGoroutine() - before; grown > 4*unverifiedPerAddr+100 {
		t.Errorf("%d goroutines more than before", grown)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 200<<20 {
		t.Errorf("%d MB in use", m.HeapAlloc>>20)
	}
}

// Half-open handshakes end by themselves, and are no longer counted.
func TestHalfOpenHandshakesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpened(t, 4<<10)
		o.server.Close()
		cert := o.cert
		s, err := ListenWithin(t.Context(), o.air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, o, nil, NewGuard(Limits{ConnsPerAddr: 10, Unverified: -1}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		host := o.air.at("198.51.100.8")
		try := func() {
			pc, err := host.ListenPacket(t.Context(), "udp", "0.0.0.0:0")
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			tr := &quic.Transport{Conn: &oneShot{PacketConn: pc}}
			defer tr.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, _ = tr.Dial(ctx, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(relayAt+":443")),
				&tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}, ServerName: "x"}, &quic.Config{InitialPacketSize: minPacket})
		}
		for range 10 {
			try()
		}
		client := o.client("198.51.100.8", nil)
		ask := func() error {
			_, err := client.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0)
			return err
		}
		var refused *quic.TransportError
		if err := ask(); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
			t.Errorf("the eleventh connection: %v", err)
		}
		time.Sleep(30 * time.Second)
		if err := ask(); err != nil {
			t.Errorf("when the others have timed out: %v", err)
		}
	})
}

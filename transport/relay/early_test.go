package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// opened is a relay on the air whose opening answers have so many bytes.
type opened struct {
	t        *testing.T
	air      *air
	cert     tls.Certificate
	size     int
	server   *Server
	early    atomic.Int64 // requests that were in early data
	padded   atomic.Int64 // requests with padding
	requests atomic.Int64
	status   atomic.Int64 // of answers in early data, 0 for 200
}

const relayAt = "192.0.2.1"

func newOpened(t *testing.T, size int) *opened {
	o := &opened{t: t, air: newAir(t), cert: certificate(t), size: size}
	o.start()
	return o
}

func (o *opened) start() {
	s, err := Listen(o.t.Context(), o.air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{o.cert}}, o, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	o.server = s
	o.t.Cleanup(func() { s.Close() })
}

func (o *opened) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	if r.Header.Get(paddingField) != "" {
		o.padded.Add(1)
	}
	if !r.TLS.HandshakeComplete {
		o.early.Add(1)
		if code := int(o.status.Load()); code != 0 {
			w.WriteHeader(code)
			return
		}
	}
	head := []byte("a head")
	roots := []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}
	front := make([]byte, o.size-len(opening(o.t, roots, head, nil)))
	_, _ = w.Write(opening(o.t, roots, head, front))
}

// client of the relay at one address.
func (o *opened) client(ip string, sessions Sessions) *Client {
	o.t.Helper()
	c, err := New(Config{Network: o.air.at(ip), Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(o.cert.Leaf)}, Sessions: sessions})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { c.Close() })
	return c
}

// open asks for an opening and returns how many round trips it took.
func (o *opened) open(c *Client) float64 {
	o.t.Helper()
	start := time.Now()
	var got int
	for p, err := range c.Paths()[0].Heads.(transport.Opener).Open(o.t.Context(), transport.Ask{}) {
		if err != nil {
			o.t.Fatal(err)
		}
		got += len(p.Data)
	}
	took := float64(time.Since(start)) / float64(roundTrip)
	if got < o.size-200 {
		o.t.Fatalf("got %d bytes of %d", got, o.size)
	}
	return took
}

// hangUp ends the client's connection as a restart of the program would, but
// keeps what it has learned.
func (o *opened) hangUp(c *Client) {
	time.Sleep(time.Second) // tickets and tokens come behind the answer
	q := c.conns[0].(*quicConn)
	q.mu.Lock()
	l := q.cur
	q.mu.Unlock()
	_ = l.conn.CloseWithError(0, "")
	time.Sleep(time.Second)
}

func TestRoundTrips(t *testing.T) {
	for _, c := range []struct {
		size                         int
		cold, returning, fromAnother float64 // limits
	}{{4 << 10, 2.1, 1.1, 1.1}, {16 << 10, 2.1, 1.1, 1.1}, {18 << 10, 2.1, 1.2, 2.1}, {32 << 10, 2.3, 1.4, 2.1}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOpened(t, c.size)
				client := o.client("198.51.100.1", nil)
				cold := o.open(client)
				again := o.open(client)
				o.hangUp(client)
				returning := o.open(client)
				o.hangUp(client)
				client.conns[0].(*quicConn).network = o.air.at("203.0.113.9") // its token is worth nothing there
				moved := o.open(client)
				t.Logf("%d bytes: cold %.2f, on the same connection %.2f, returning %.2f, from another address %.2f", c.size, cold, again, returning, moved)
				for what, v := range map[string][2]float64{"cold": {cold, c.cold}, "returning": {returning, c.returning}, "moved": {moved, c.fromAnother}, "again": {again, 1.25}} {
					if v[0] > v[1] {
						t.Errorf("%s: %.2f round trips, at most %.2f", what, v[0], v[1])
					}
				}
				if n := o.early.Load(); n != 2 {
					t.Errorf("%d requests came in early data", n)
				}
				if n := o.padded.Load(); n != 2 {
					t.Errorf("%d requests were padded", n)
				}
			})
		})
	}
}

// kept is a store of sessions as a library has one.
type kept struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (k *kept) Load(key string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Clone(k.m[key])
}

func (k *kept) Store(key string, v []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil {
		k.m = map[string][]byte{}
	}
	if k.m[key] = bytes.Clone(v); len(v) == 0 {
		delete(k.m, key)
	}
}

// change lets f spoil what is kept.
func (k *kept) change(f func(b []byte) []byte) (entries int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, v := range k.m {
		k.m[key] = f(v)
	}
	return len(k.m)
}

// A second run of the program, with what the first one stored: the first
// flight brings the front page, on a relay that was restarted too.
func TestSessionsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, store := newOpened(t, 16<<10), &kept{}
		for run, want := range []float64{2.1, 1.1, 1.1} {
			c := o.client("198.51.100.1", store)
			if got := o.open(c); got > want {
				t.Errorf("run %d: %.2f round trips, at most %.2f", run, got, want)
			}
			time.Sleep(time.Second)
			c.Close()
			if n := store.change(func(b []byte) []byte {
				if len(b) > 4<<10 || bytes.Contains(b, []byte(relayAt)) {
					t.Errorf("%d bytes are kept", len(b))
				}
				return b
			}); n != 1 {
				t.Errorf("run %d: %d entries are kept", run, n)
			}
			if run == 1 {
				if err := o.server.Close(); err != nil {
					t.Error(err)
				}
				o.start()
			}
		}
		if n := o.early.Load(); n != 2 {
			t.Errorf("%d early requests", n)
		}
		other, err := New(Config{Network: o.air.at("198.51.100.1"), Sessions: store, Relay: channel.Relay{
			Host: relayAt, Port: 443, Pin: channel.PinOf(o.cert.Leaf), Prefix: channel.Prefix{1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		o.open(other) // another batch: it does not show that it is the same reader
		if n := o.early.Load(); n != 2 {
			t.Error("a session of one batch was resumed for another")
		}
	})
}

// What is spoilt costs round trips and nothing else; a request that was
// refused as early data is sent again.
func TestEarlyDataRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(b []byte) []byte
		status int
		most   float64
		early  int64
	}{
		"ticket unknown":    {func(b []byte) []byte { b[20] ^= 1; return b }, 0, 3.1, 0}, // one to be refused
		"state unreadable":  {func(b []byte) []byte { return b[:len(b)-1] }, 0, 2.1, 0},
		"nonsense":          {func([]byte) []byte { return []byte("nonsense") }, 0, 2.1, 0},
		"lengths too large": {func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 100) }, 0, 2.1, 0},
		"too early":         {func(b []byte) []byte { return b }, http.StatusTooEarly, 2.1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, store := newOpened(t, 8<<10), &kept{}
				first := o.client("198.51.100.1", store)
				o.open(first)
				time.Sleep(time.Second)
				first.Close()
				if store.change(c.spoil) != 1 {
					t.Fatal("nothing kept")
				}
				o.status.Store(int64(c.status))
				again := o.client("198.51.100.1", store)
				if got := o.open(again); got > c.most {
					t.Errorf("%.2f round trips, at most %.2f", got, c.most)
				}
				if n := o.early.Load(); n != c.early {
					t.Errorf("%d early requests", n)
				}
				if got := o.open(again); got > 1.1 {
					t.Errorf("the next request: %.2f round trips", got)
				}
			})
		})
	}
}

// Requests that are not repeatable wait for the handshake, whatever becomes of
// the early data that the connection was ready for.
func TestPlainRequestFirst(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"ticket known":   func(b []byte) []byte { return b },
		"ticket unknown": func(b []byte) []byte { b[20] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, store := newOpened(t, 8<<10), &kept{}
				first := o.client("198.51.100.1", store)
				o.open(first)
				time.Sleep(time.Second)
				first.Close()
				store.change(spoil)
				again := o.client("198.51.100.1", store)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+relayAt+"/x", strings.NewReader("body"))
						if err != nil {
							t.Error(err)
							return
						}
						resp, err := again.conns[0].RoundTrip(req)
						if err != nil {
							t.Error(err)
							return
						}
						resp.Body.Close()
					})
				}
				wg.Wait()
				if n := o.early.Load() + o.padded.Load(); n != 0 {
					t.Errorf("%d requests that may not be early", n)
				}
			})
		})
	}
}

// A censor who records a reader's first flight and sends it once more gets GETs
// answered, to whom he can't read; nothing else is done.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, net := certificate(t), newAir(t)
		var gets, posts, wrong atomic.Int64
		start := time.Now()
		s, err := Listen(t.Context(), net.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				gets.Add(1)
				return
			}
			posts.Add(1)
			if time.Since(start) < roundTrip*3/2 {
				wrong.Add(1)
			}
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		c, err := New(Config{Network: net.at("198.51.100.1"), Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		q := c.conns[0].(*quicConn)
		ask := func() *http.Request {
			req, err := http.NewRequestWithContext(repeatable(t.Context()), http.MethodGet, "https://"+relayAt+"/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			return req
		}
		if resp, err := q.RoundTrip(ask()); err != nil {
			t.Fatal(err)
		} else {
			resp.Body.Close()
		}
		time.Sleep(time.Second)
		_ = q.cur.conn.CloseWithError(0, "")
		time.Sleep(time.Second)

		tape := &tape{}
		q.network = &taped{Network: net.at("198.51.100.1"), tape: tape}
		start = time.Now()
		l, _, err := q.line(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		post, err := l.h3.OpenRequestStream(t.Context()) // what no client of ours does
		if err != nil {
			t.Fatal(err)
		}
		req := ask()
		req.Method = http.MethodPost
		if err := post.SendRequestHeader(req); err != nil {
			t.Fatal(err)
		}
		if err := post.Close(); err != nil {
			t.Fatal(err)
		}
		resp, err := q.RoundTrip(ask())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took > roundTrip*11/10 {
			t.Errorf("the GET took %v: it was no early data", took)
		}
		time.Sleep(time.Second)
		if g, p := gets.Load(), posts.Load(); g != 2 || p != 1 || wrong.Load() != 0 {
			t.Fatalf("%d GETs, %d POSTs, %d of them before the handshake was done", g, p, wrong.Load())
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the relay forgets the connection

		pc, err := net.at("203.0.113.66").ListenPacket(t.Context(), "udp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		tape.play(pc)
		time.Sleep(time.Minute)
		if gets.Load() != 3 {
			t.Error("the replayed flight opened no connection: this tests nothing")
		}
		if posts.Load() != 1 {
			t.Error("a POST was replayed")
		}
	})
}

// tape records what one host sends in its first flight.
type tape struct {
	mu    sync.Mutex
	until time.Time
	sent  [][]byte
	to    net.Addr
}

func (p *tape) play(pc net.PacketConn) {
	for _, d := range p.sent {
		_, _ = pc.WriteTo(d, p.to)
	}
}

type taped struct {
	transport.Network
	tape *tape
}

func (n *taped) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	pc, err := n.Network.ListenPacket(ctx, network, addr)
	n.tape.until = time.Now().Add(roundTrip / 2)
	return &tapedConn{pc, n.tape}, err
}

type tapedConn struct {
	net.PacketConn
	tape *tape
}

func (c *tapedConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.tape.mu.Lock()
	if time.Now().Before(c.tape.until) {
		c.tape.sent, c.tape.to = append(c.tape.sent, bytes.Clone(b)), to
	}
	c.tape.mu.Unlock()
	return c.PacketConn.WriteTo(b, to)
}

func TestTicketsAreUsedOnce(t *testing.T) {
	ts := newTickets(nil, "quic", channel.Relay{})
	for range 5 {
		ts.Put("", new(tls.ClientSessionState))
	}
	ts.Put("", nil)
	for i := range 5 {
		if _, ok := ts.Get(""); ok != (i < maxTickets) {
			t.Errorf("session %d: %v", i, ok)
		}
	}
}

// A relay behind a CDN's name: who resumes a session has the certificate held
// against his own authorities and clock again, before anything is sent early.
func TestEarlyDataIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, store := newOpened(t, 8<<10), &kept{}
		o.server.Close()
		o.cert = certificate(t, "cdn.example")
		o.start()
		roots := x509.NewCertPool()
		roots.AddCert(o.cert.Leaf)
		at := o.air.at("198.51.100.1")
		o.air.Name("cdn.example", netip.MustParseAddr(relayAt))
		years := func() time.Time { return time.Now().AddDate(3, 0, 0) }
		for i, c := range []struct {
			trust gateway.Trust
			most  float64 // 0: refused
		}{
			{gateway.Trust{Roots: roots}, 2.1},
			{gateway.Trust{Roots: roots}, 1.1},
			{gateway.Trust{Roots: x509.NewCertPool()}, 0},
			{gateway.Trust{Roots: roots}, 2.1},
			{gateway.Trust{Roots: roots, Now: years}, 0},
		} {
			client, err := New(Config{Network: at, Sessions: store, Trust: c.trust, Relay: channel.Relay{Host: "cdn.example", Port: 443}})
			if err != nil {
				t.Fatal(err)
			}
			before := o.requests.Load()
			if c.most > 0 {
				if took := o.open(client); took > c.most {
					t.Errorf("%d: %.2f round trips, at most %.2f", i, took, c.most)
				}
			} else if _, err := client.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0); err == nil || o.requests.Load() != before {
				t.Errorf("%d: %v, %d requests", i, err, o.requests.Load()-before)
			}
			time.Sleep(time.Second)
			client.Close()
		}
	})
}

// With early data an address that is dead looks alive until the next one has had
// its turn: the one that answered last is tried first.
func TestLivingAddressFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpened(t, 8<<10)
		at := o.air.at("198.51.100.1")
		dead := netip.MustParseAddr("192.0.2.99")
		o.air.Name("relay.example", dead, netip.MustParseAddr(relayAt))
		client, err := New(Config{Network: at, Relay: channel.Relay{Host: "relay.example", Port: 443, Pin: channel.PinOf(o.cert.Leaf)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		if took := o.open(client); took < 4 {
			t.Fatalf("%.2f round trips: nothing was dead", took)
		}
		o.hangUp(client)
		if took := o.open(client); took > 1.1 {
			t.Errorf("returning: %.2f round trips", took)
		}
		o.hangUp(client)
		o.air.Name("relay.example", dead) // it moved away
		if _, err := client.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0); err == nil {
			t.Error("an answer from nobody")
		}
		o.air.Name("relay.example", dead, netip.MustParseAddr(relayAt))
		if took := o.open(client); took > 2.1 {
			t.Errorf("back again: %.2f round trips", took)
		}
	})
}

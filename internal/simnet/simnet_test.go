package simnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"tamizdat/transport"
)

var _ transport.Network = (*Host)(nil)

var (
	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
)

const rtt = 100 * time.Millisecond

// pair runs f in a bubble with two hosts, one round trip apart; a's link is given.
func pair(t *testing.T, link Link, f func(t *testing.T, n *Net, a, b *Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		if link.Delay == 0 {
			link.Delay = rtt / 4
		}
		f(t, n, n.Host("a", link, addrA), n.Host("b", Link{Delay: rtt / 4}, addrB))
	})
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// within fails unless the time since start is about want.
func took(t *testing.T, what string, start time.Time, want, slack time.Duration) {
	t.Helper()
	if got := time.Since(start); got < want-slack || got > want+slack {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

func TestUDPRoundTrip(t *testing.T) {
	pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		pb := must[net.PacketConn](t)(b.ListenPacket(t.Context(), "udp", "0.0.0.0:53"))
		go echo(pb)
		c := must[net.Conn](t)(a.Dial(t.Context(), "udp", "10.0.0.2:53"))
		start := time.Now()
		must[int](t)(c.Write([]byte("ping")))
		buf := make([]byte, 10)
		if k := must[int](t)(c.Read(buf)); string(buf[:k]) != "ping" {
			t.Errorf("got %q", buf[:k])
		}
		took(t, "a round trip", start, rtt, 0)
		check(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read past the deadline: %v", err)
		}
	})
}

func echo(pc net.PacketConn) {
	buf := make([]byte, 2000)
	for {
		k, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo(buf[:k], from)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve accepts connections and hands each to do.
func serve(t *testing.T, h *Host, do func(net.Conn)) {
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
}

// answer sends size bytes for each byte that comes.
func answer(size int) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write(make([]byte, size)); err != nil {
				return
			}
		}
	}
}

// fetch dials, asks, and reads size bytes.
func fetch(t *testing.T, h *Host, size int) error {
	t.Helper()
	c, err := h.Dial(t.Context(), "tcp", "10.0.0.2:80")
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, size))
	return err
}

func TestTCPWindows(t *testing.T) {
	const mss = 1460
	for _, x := range []struct {
		size int
		want time.Duration
	}{
		{1, 2 * rtt},
		{10 * mss, 2 * rtt},   // the initial window
		{10*mss + 1, 3 * rtt}, // and a byte more
		{30 * mss, 3 * rtt},   // doubled
		{30*mss + 1, 4 * rtt},
	} {
		pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
			serve(t, b, answer(x.size))
			start := time.Now()
			check(t, fetch(t, a, x.size))
			took(t, "a fetch", start, x.want, 0)
		})
	}
}

func TestRate(t *testing.T) {
	pair(t, Link{Down: 125_000}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(1_000_000))
		start := time.Now()
		check(t, fetch(t, a, 1_000_000))
		took(t, "a megabyte at a megabit", start, 8*time.Second, 1500*time.Millisecond)
	})
}

func TestLoss(t *testing.T) {
	run := func(seed uint64, loss float64) (arrived int, fetched time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			n := New(seed)
			defer n.Close()
			a := n.Host("a", Link{Delay: rtt / 4, LossDown: loss}, addrA)
			b := n.Host("b", Link{Delay: rtt / 4}, addrB)
			pc := must[net.PacketConn](t)(a.ListenPacket(t.Context(), "udp", ":9"))
			sender := must[net.PacketConn](t)(b.ListenPacket(t.Context(), "udp", ":9"))
			for range 1000 {
				must[int](t)(sender.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrA, 9))))
			}
			check(t, pc.SetReadDeadline(time.Now().Add(time.Second)))
			for buf := make([]byte, 10); ; arrived++ {
				if _, _, err := pc.ReadFrom(buf); err != nil {
					break
				}
			}
			serve(t, b, answer(1_000_000))
			start := time.Now()
			check(t, fetch(t, a, 1_000_000))
			fetched = time.Since(start)
		})
		return arrived, fetched
	}
	_, clean := run(1, 0)
	n1, t1 := run(1, 0.05)
	n2, t2 := run(1, 0.05)
	if n1 != n2 || t1 != t2 {
		t.Errorf("the same seed: %d and %d datagrams, %v and %v", n1, n2, t1, t2)
	}
	if math.Abs(float64(n1)-950) > 35 {
		t.Errorf("%d of 1000 arrived at 5 %% loss", n1)
	}
	if t1 < 3*clean {
		t.Errorf("a megabyte took %v at 5 %% loss and %v without: losses cost TCP more", t1, clean)
	}
	if n3, _ := run(2, 0.05); n3 == n1 {
		t.Error("another seed has the same luck")
	}
}

func TestMTU(t *testing.T) {
	pair(t, Link{MTU: 1280}, func(t *testing.T, n *Net, a, b *Host) {
		go echo(must[net.PacketConn](t)(b.ListenPacket(t.Context(), "udp", ":53")))
		c := must[net.Conn](t)(a.Dial(t.Context(), "udp", "10.0.0.2:53"))
		for size, fits := range map[int]bool{1252: true, 1253: false} {
			must[int](t)(c.Write(make([]byte, size)))
			check(t, c.SetReadDeadline(time.Now().Add(time.Second)))
			_, err := c.Read(make([]byte, 2000))
			if (err == nil) != fits {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		serve(t, b, answer(12_400)) // ten segments of 1240 bytes
		start := time.Now()
		check(t, fetch(t, a, 12_400))
		took(t, "ten small segments", start, 2*rtt, 0)
	})
}

func TestRefusedResetFrozenDown(t *testing.T) {
	pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		start := time.Now()
		_, err := a.Dial(t.Context(), "tcp", "10.0.0.2:80")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		took(t, "a refusal", start, rtt, 0)

		serve(t, b, answer(10))
		c := must[net.Conn](t)(a.Dial(t.Context(), "tcp", "10.0.0.2:80"))
		time.AfterFunc(time.Second, c.(interface{ Reset() }).Reset)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after a reset: %v", err)
		}

		c = must[net.Conn](t)(a.Dial(t.Context(), "tcp", "10.0.0.2:80"))
		c.(interface{ Freeze() }).Freeze()
		must[int](t)(c.Write([]byte{1}))
		check(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("frozen: %v", err)
		}

		b.SetDown(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, "tcp", "10.0.0.2:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a dead host: %v", err)
		}
		b.SetDown(false)
		check(t, fetch(t, a, 10))
	})
}

func TestCloseWakes(t *testing.T) {
	pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, func(net.Conn) {})
		c := must[net.Conn](t)(a.Dial(t.Context(), "tcp", "10.0.0.2:80"))
		pc := must[net.PacketConn](t)(a.ListenPacket(t.Context(), "udp", ":0"))
		ln := must[net.Listener](t)(a.Listen(t.Context(), "tcp", ":0"))
		woken := make(chan error)
		go func() { _, err := c.Read(make([]byte, 1)); woken <- err }()
		go func() { _, _, err := pc.ReadFrom(make([]byte, 1)); woken <- err }()
		go func() { _, err := ln.Accept(); woken <- err }()
		go func() { // nobody reads at the other end: it blocks when all buffers are full
			for {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					woken <- err
					return
				}
			}
		}()
		time.Sleep(time.Minute)
		start := time.Now()
		for _, x := range []io.Closer{c, pc, ln} {
			check(t, x.Close())
		}
		for range 4 {
			if err := <-woken; !errors.Is(err, net.ErrClosed) {
				t.Errorf("woken with %v", err)
			}
		}
		took(t, "waking", start, 0, 0)
	})
}

func TestEOF(t *testing.T) {
	pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		got := make(chan string)
		serve(t, b, func(c net.Conn) {
			all, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			got <- string(all)
		})
		c := must[net.Conn](t)(a.Dial(t.Context(), "tcp", "10.0.0.2:80"))
		text := strings.Repeat("all that was written ", 10_000)
		must[int](t)(c.Write([]byte(text)))
		check(t, c.Close())
		if <-got != text {
			t.Error("what was written before Close did not arrive whole")
		}
	})
}

// A net on which nothing is under way must not keep the clock: else every
// simulation would have to know when its net is idle.
func TestIdle(t *testing.T) {
	pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(100_000))
		check(t, fetch(t, a, 100_000))
		time.Sleep(time.Hour) // SYN timers
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.queue) > 0 {
			t.Errorf("%d events are still under way", len(n.queue))
		}
	})
}

// website returns a certificate made inside the bubble.
func website(t *testing.T) *tls.Config {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"b.example"}}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"test"}}
}

func TestQUIC(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		pair(t, Link{LossUp: loss, LossDown: loss}, func(t *testing.T, n *Net, a, b *Host) {
			n.Name("b.example", addrB)
			const size = 300_000
			server := &quic.Transport{Conn: must[net.PacketConn](t)(b.ListenPacket(t.Context(), "udp", ":443"))}
			ln := must[*quic.Listener](t)(server.Listen(website(t), nil))
			go func() {
				c, err := ln.Accept(t.Context())
				if err != nil {
					return
				}
				s, err := c.AcceptStream(t.Context())
				if err != nil {
					return
				}
				_, _ = s.Write(make([]byte, size))
				_ = s.Close()
			}()
			client := &quic.Transport{Conn: must[net.PacketConn](t)(a.ListenPacket(t.Context(), "udp", ":0"))}
			start := time.Now()
			c := must[*quic.Conn](t)(client.Dial(t.Context(), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrB, 443)),
				&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"test"}}, nil))
			if loss == 0 {
				took(t, "a handshake", start, rtt, rtt/10)
			}
			s := must[*quic.Stream](t)(c.OpenStreamSync(t.Context()))
			must[int](t)(s.Write([]byte("x")))
			if got := must[[]byte](t)(io.ReadAll(s)); len(got) != size {
				t.Errorf("%d bytes", len(got))
			}
			check(t, c.CloseWithError(0, ""))
			check(t, client.Close())
			check(t, client.Conn.Close())
			check(t, ln.Close())
			check(t, server.Close())
			check(t, server.Conn.Close())
		})
	}
}

func TestHTTP2(t *testing.T) {
	pair(t, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		n.Name("b.example", addrB)
		ln := must[net.Listener](t)(b.Listen(t.Context(), "tcp", ":443"))
		cfg := website(t)
		cfg.NextProtos = nil
		srv := &http.Server{TLSConfig: cfg, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto)
		})}
		go func() { _ = srv.ServeTLS(ln, "", "") }()
		rt := &http.Transport{DialContext: a.Dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
		start := time.Now()
		resp := must[*http.Response](t)((&http.Client{Transport: rt}).Get("https://b.example/"))
		if body := must[[]byte](t)(io.ReadAll(resp.Body)); string(body) != "HTTP/2.0" {
			t.Errorf("spoke %s", body)
		}
		check(t, resp.Body.Close())
		took(t, "TCP, TLS 1.3 and a request", start, 3*rtt, rtt/10)
		rt.CloseIdleConnections()
		check(t, srv.Close())
		// The bubble ends with connections open on neither side.
	})
}

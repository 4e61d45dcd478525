package censor

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"tamizdat/internal/netreal"
	"tamizdat/internal/simnet"
)

// TestLive runs the decorator over real sockets of loopback: QUIC and TCP pass
// through an open censor unharmed, waiting readers are woken by Close, and no
// goroutine of ours stays.
func TestLive(t *testing.T) {
	ctx := t.Context()
	real := &netreal.Network{}
	ln, err := real.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); echo(c) }()
		}
	}()
	pc, err := real.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &quic.Transport{Conn: pc}
	ql, err := server.Listen(serverTLS(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _, _ = ql.Close(), server.Close(), pc.Close() }()
	go func() {
		for {
			c, err := ql.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				s, err := c.AcceptStream(context.Background())
				if err == nil {
					_, _ = io.Copy(s, s)
					_ = s.Close()
				}
			}()
		}
	}()

	c := New(real, Map{}, Scenario{}, 1, nil)
	data := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	same := func(what string, w io.WriteCloser, r io.Reader) {
		go func() {
			_, _ = w.Write(data)
			if h, ok := w.(interface{ CloseWrite() error }); ok {
				_ = h.CloseWrite()
				return
			}
			_ = w.Close()
		}()
		sum := sha256.New()
		if n, err := io.Copy(sum, r); err != nil || n != int64(len(data)) || [32]byte(sum.Sum(nil)) != sha256.Sum256(data) {
			t.Errorf("%s: %d bytes came back, %v", what, n, err)
		}
	}
	tcp, err := c.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	same("tcp", tcp, tcp)
	_ = tcp.Close()

	upc, err := c.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: upc}
	q, err := tr.Dial(ctx, pc.LocalAddr(), clientTLS(freeName), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same("quic", s, s)
	_ = q.CloseWithError(0, "")
	_, _ = tr.Close(), upc.Close()

	// Blocked while it waits, and then closed.
	blocked, err := c.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Set(Scenario{Rules: []Rule{DropAll{To: Everything}}})
	woken := make(chan error)
	go func() {
		_, _ = blocked.Write([]byte("x"))
		_, err := blocked.Read(make([]byte, 1))
		woken <- err
	}()
	_ = blocked.Close()
	if err := <-woken; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of a closed connection: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Dial(canceled, "tcp", ln.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("dial under a drop: %v", err)
	}
	for range 1000 { // they end by themselves once their sockets are closed
		if !strings.Contains(stacks(), "censor.(*") {
			return
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	t.Errorf("goroutines stay:\n%s", stacks())
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// TestLine plays lines over sockets without any of their own.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		defer n.Close()
		server := n.Host("server", simnet.Link{}, relayAddr)
		reader := n.Host("reader", simnet.Link{}, readerAddr)
		w := &world{t: t, servers: map[netip.Addr]*simnet.Host{relayAddr: server}}
		w.echoUDP(relayTo)
		w.serveTCP(relayTo, echo)
		wrap := func(l Line) *Censor { return New(reader, Map{}, Scenario{Rules: []Rule{l.Rule()}}, 1, nil) }
		flood := func(l Line, size int) (came int, took time.Duration) {
			c, err := wrap(l).Dial(t.Context(), "udp", relayTo.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			for range 1000 {
				_, _ = c.Write(make([]byte, size))
			}
			_ = c.SetReadDeadline(start.Add(patience))
			for {
				if _, err := c.Read(make([]byte, 2000)); err != nil {
					return came, took
				}
				came, took = came+1, time.Since(start)
			}
		}
		if came, took := flood(Line{RTT: rtt}, 100); came != 1000 || took < rtt || took > 2*rtt {
			t.Errorf("a long line: %d came in %v", came, took)
		}
		if came, _ := flood(Line{LossUp: 0.6}, 100); came < 350 || came > 450 {
			t.Errorf("60 %% loss: %d of 1000 came", came)
		}
		if came, _ := flood(Line{MTU: 1280}, 1252); came != 1000 {
			t.Errorf("packets of the MTU: %d of 1000 came", came)
		}
		if came, _ := flood(Line{MTU: 1280}, 1253); came != 0 {
			t.Errorf("packets over the MTU: %d came", came)
		}
		stream := func(l Line, size int) time.Duration {
			c, err := wrap(l).Dial(t.Context(), "tcp", relayTo.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			go func() { _, _ = c.Write(make([]byte, size)) }()
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		if d := stream(Line{Down: 10_000}, 100_000); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("100,000 bytes at 10,000 a second: %v", d)
		}
		if d := stream(Line{LossDown: 0.05, RTT: rtt}, 100_000); d < 3*rtt || d > 20*rtt {
			t.Errorf("5 %% loss: %v", d)
		}
		if d := stream(Line{}, 100_000); d > 5*rtt {
			t.Errorf("no line: %v", d)
		}

		// It changes under what is open: datagrams and streams go on, as the new one
		// has it.
		c := wrap(Line{})
		set := func(l Line) { c.Set(Scenario{Rules: []Rule{l.Rule()}}) }
		udp, err := c.Dial(t.Context(), "udp", relayTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		tcp, err := c.Dial(t.Context(), "tcp", relayTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		echoed := func(conn net.Conn, size int) (took time.Duration, ok bool) {
			start := time.Now()
			_ = conn.SetDeadline(start.Add(patience))
			if _, err := conn.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			_, err := io.ReadFull(conn, make([]byte, size))
			return time.Since(start), err == nil
		}
		for _, step := range []struct {
			l     Line
			large bool // whether a datagram of 1,253 bytes comes through
			rtt   time.Duration
		}{{Line{}, true, 0}, {Line{MTU: 1280}, false, 0}, {Line{RTT: rtt}, true, rtt}, {Line{}, true, 0}} {
			set(step.l)
			if _, ok := echoed(udp, 1253); ok != step.large {
				t.Errorf("line %+v: a large datagram came through: %v", step.l, ok)
			}
			for _, conn := range []net.Conn{udp, tcp} {
				if took, ok := echoed(conn, 1000); !ok || took < step.rtt || step.rtt == 0 && took >= rtt {
					t.Errorf("line %+v: %T echoes %v after %v", step.l, conn, ok, took)
				}
			}
		}
	})
}

// TestSameSeed sees that faults follow from the seed.
func TestSameSeed(t *testing.T) {
	run := func(seed uint64) (lost string) {
		s := Scenario{Rules: []Rule{Throttle{Rate: 10_000, Burst: 1000, Lose: 0.5, To: Everything}}}
		sceneOf(t, s, seed, func(w *world) {
			c, err := w.c.Dial(w.soon(), "udp", relayTo.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 60 {
				before := w.did(Drop)
				_, _ = c.Write(make([]byte, 300))
				lost += string(rune('0' + w.did(Drop) - before))
			}
		})
		return lost
	}
	one, again, other := run(1), run(1), run(2)
	if one != again || one == other || !strings.Contains(one, "1") {
		t.Errorf("drops by seed:\n%s\n%s\n%s", one, again, other)
	}
}

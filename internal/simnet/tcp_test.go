package simnet

import (
	"bytes"
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
)

const mss = 1460

func TestTCPWindows(t *testing.T) {
	for _, c := range []struct {
		size   int
		flight int // round trips after the handshake
	}{
		{1, 1}, {10 * mss, 1}, {10*mss + 1, 2}, {30 * mss, 2}, {30*mss + 1, 3}, {70 * mss, 3}, {70*mss + 1, 4}, {150 * mss, 4},
	} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
				serve(t, b, answer(c.size))
				start := time.Now()
				conn := dial(t, a, "tcp", "198.51.100.1:80")
				took(t, "dialling", start, rtt)
				start = time.Now()
				ask(t, conn, c.size)
				took(t, "an answer", start, time.Duration(c.flight)*rtt)
			})
		})
	}
}

// A window that was opened once serves the next request, unless the connection
// has rested, and one that is not used does not open.
func TestTCPWindowLater(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(30*mss))
		c := dial(t, a, "tcp", "198.51.100.1:80")
		ask(t, c, 30*mss)
		start := time.Now()
		ask(t, c, 30*mss)
		took(t, "a warm answer", start, rtt)
		time.Sleep(time.Minute)
		start = time.Now()
		ask(t, c, 30*mss)
		took(t, "an answer after a rest", start, 2*rtt)
	})
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, func(c net.Conn) {
			for asked := []byte{0}; ; {
				if _, err := c.Read(asked); err != nil {
					return
				}
				_, _ = c.Write(make([]byte, int(asked[0])*mss))
			}
		})
		c := dial(t, a, "tcp", "198.51.100.1:80")
		var start time.Time
		for i := range 51 {
			segments := 1
			if i == 50 {
				segments = 40
			}
			start = time.Now()
			must[int](t)(c.Write([]byte{byte(segments)}))
			must[int64](t)(io.CopyN(io.Discard, c, int64(segments*mss)))
		}
		took(t, "40 segments after 50 times one", start, 3*rtt)
	})
}

func TestRate(t *testing.T) {
	for _, link := range []Link{{Down: 125_000}, {Up: 125_000}} {
		two(t, 1, link, Link{}, func(t *testing.T, n *Net, a, b *Host) {
			from, to, addr := a, b, addrB
			if link.Down > 0 {
				from, to, addr = b, a, addrA
			}
			got := make(chan time.Time)
			serve(t, to, func(c net.Conn) {
				_, _ = io.Copy(io.Discard, c)
				got <- time.Now()
			})
			start := time.Now()
			c := dial(t, from, "tcp", addr.String()+":80")
			must[int](t)(c.Write(make([]byte, 1_000_000)))
			check(t, c.Close())
			if d := (<-got).Sub(start); d < 8*time.Second || d > 9*time.Second {
				t.Errorf("a megabyte at 125 kB/s took %v", d)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		trace := record(n)
		start := time.Now()
		_, err := a.Dial(t.Context(), "tcp", "198.51.100.1:80")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		took(t, "a refusal", start, rtt)
		if count(*trace, KindRefused) != 1 {
			t.Errorf("trace: %v", *trace)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Dial(ctx, "tcp", "198.51.100.1:80"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		// Names with a dead address first: each has its share of the time.
		serve(t, b, answer(1))
		n.Name("b.example", addrA6.Next().Next(), addrB)
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start = time.Now()
		if _, err := a.Dial(ctx, "tcp", "b.example:80"); err != nil {
			t.Error(err)
		}
		took(t, "dialling the second address", start, 10*time.Second+rtt)
	})
}

func TestCancelledDial(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		got := make(chan error, 1)
		serve(t, b, func(c net.Conn) { _, err := c.Read([]byte{0}); got <- err })
		ctx, cancel := context.WithTimeout(t.Context(), rtt*3/4) // the SYN is there, the answer is not
		defer cancel()
		if _, err := a.Dial(ctx, "tcp", "198.51.100.1:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(a.conns)+len(b.conns)+len(a.ports)+len(got) != 0 {
			t.Error("a cancelled connection is kept")
		}
	})
}

func TestReset(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		errs, accepted := make(chan error, 1), make(chan net.Conn, 2)
		serve(t, b, func(c net.Conn) {
			accepted <- c
			_, err := c.Read([]byte{0})
			errs <- err
		})
		c := dial(t, a, "tcp", "198.51.100.1:80")
		time.Sleep(rtt)
		start := time.Now()
		go c.(interface{ Reset() }).Reset()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("here: %v", err)
		}
		if _, err := c.Write([]byte{1}); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("writing: %v", err)
		}
		took(t, "a reset here", start, 0)
		if err := <-errs; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("there: %v", err)
		}
		took(t, "a reset there", start, rtt/2)
		check(t, c.Close())

		// Closing with something unread, and writing to who has closed.
		c = dial(t, a, "tcp", "198.51.100.1:80")
		must[int](t)(c.Write([]byte{1, 2}))
		<-accepted // the first connection
		check(t, <-errs)
		check(t, (<-accepted).Close()) // one byte was read, one was not
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("closed with something unread: %v", err)
		}
	})
}

// Who writes to somebody who has closed must not wait for ever.
func TestWriteToClosed(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, func(c net.Conn) { _ = c.Close() })
		c := dial(t, a, "tcp", "198.51.100.1:80")
		if _, err := c.Read([]byte{0}); err != io.EOF {
			t.Errorf("the end: %v", err)
		}
		if _, err := io.Copy(c, endless{}); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("writing on: %v", err)
		}
	})
}

func TestFreeze(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		accepted := make(chan net.Conn)
		serve(t, b, func(c net.Conn) { accepted <- c })
		c := dial(t, a, "tcp", "198.51.100.1:80")
		must[int](t)(c.Write([]byte("before")))
		there := <-accepted
		must[int](t)(there.Write([]byte("under way")))
		c.(interface{ Freeze() }).Freeze()
		must[int](t)(c.Write([]byte("after")))
		for _, c := range []net.Conn{c, there} {
			check(t, c.SetReadDeadline(time.Now().Add(24*time.Hour)))
			got, err := io.ReadAll(c)
			if !errors.Is(err, os.ErrDeadlineExceeded) || string(got) != strings.Repeat("before", len(got)/6) {
				t.Errorf("frozen: %q, %v", got, err)
			}
		}
		n.mu.Lock()
		if len(n.heap) > 0 {
			t.Error("a frozen connection keeps the clock busy")
		}
		n.mu.Unlock()
		check(t, c.SetWriteDeadline(time.Now().Add(time.Hour)))
		if k, err := io.Copy(c, endless{}); !errors.Is(err, os.ErrDeadlineExceeded) || k > sendBuffer {
			t.Errorf("the buffer takes %d bytes, %v", k, err)
		}
		check(t, c.Close())
	})
}

// A writer waits for a reader, within the buffers of both ends, and goes on when
// there is room.
func TestBackpressure(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		accepted := make(chan net.Conn)
		serve(t, b, func(c net.Conn) { accepted <- c })
		c := dial(t, a, "tcp", "198.51.100.1:80")
		there := <-accepted
		check(t, c.SetWriteDeadline(time.Now().Add(time.Hour)))
		k, err := c.Write(make([]byte, 32<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || k > sendBuffer+receiveWindow || k < receiveWindow {
			t.Fatalf("%d bytes are buffered, %v", k, err)
		}
		// A farewell still finds room, without the clock; not for ever, though.
		check(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		start := time.Now()
		must[int](t)(c.Write(make([]byte, 24)))
		took(t, "a farewell", start, 0)
		extra := 24
		for err = nil; err == nil && extra < sendBuffer; {
			var n int
			n, err = c.Write(make([]byte, smallWrite))
			extra += n
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || extra > sendSlack {
			t.Errorf("small writes had room for %d bytes more, %v", extra, err)
		}
		k += extra
		check(t, c.SetWriteDeadline(time.Time{}))
		const more = 20 << 20
		go func() {
			_, _ = c.Write(make([]byte, more))
			_ = c.Close()
		}()
		if got, err := io.Copy(io.Discard, there); err != nil || got != int64(k+more) {
			t.Errorf("%d of %d bytes, %v", got, k+more, err)
		}
	})
}

func TestCloseWakesAtOnce(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, func(net.Conn) {})
		c := dial(t, a, "tcp", "198.51.100.1:80")
		pc, ln := listenUDP(t, a, ":0"), must[net.Listener](t)(a.Listen(t.Context(), "tcp", ":0"))
		woken := make(chan error)
		go func() { _, err := c.Read(make([]byte, 1)); woken <- err }()
		go func() { _, _, err := pc.ReadFrom(make([]byte, 1)); woken <- err }()
		go func() { _, err := ln.Accept(); woken <- err }()
		go func() { _, err := io.Copy(c, endless{}); woken <- err }()
		time.Sleep(time.Minute)
		start := time.Now()
		for _, x := range []io.Closer{c, pc, ln} {
			check(t, x.Close())
			if err := x.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed twice: %v", err)
			}
		}
		for range 4 {
			if err := <-woken; !errors.Is(err, net.ErrClosed) {
				t.Errorf("woken with %v", err)
			}
		}
		took(t, "waking", start, 0)
	})
}

func TestDeadlines(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(4))
		c := dial(t, a, "tcp", "198.51.100.1:80")
		pc := listenUDP(t, a, ":0").(net.Conn)
		for _, c := range []net.Conn{c, pc} {
			read := func() error { _, err := c.Read(make([]byte, 1)); return err }
			start := time.Now()
			check(t, c.SetReadDeadline(start.Add(time.Second)))
			err := read()
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("past the deadline: %v", err)
			}
			took(t, "a deadline", start, time.Second)
			check(t, c.SetReadDeadline(time.Time{}))
			time.AfterFunc(time.Second, func() { _ = c.SetReadDeadline(time.Now().Add(time.Second)) })
			_ = read()
			took(t, "a deadline set while reading", start, 3*time.Second)
			check(t, c.SetReadDeadline(time.Now().Add(time.Second)))
			time.AfterFunc(time.Second/2, func() { _ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) })
			_ = read()
			took(t, "a deadline moved while reading", start, 8*time.Second+time.Second/2)
			check(t, c.SetDeadline(time.Unix(1, 0)))
			if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("long past: %v", err)
			}
			if _, err := c.Write([]byte{1}); c != pc && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("writing long past: %v", err)
			}
			check(t, c.SetDeadline(time.Time{}))
		}
		ask(t, c, 4) // the deadline is gone and nothing was harmed
	})
}

// Writes of several goroutines don't mix.
func TestWritesDontMix(t *testing.T) {
	two(t, 1, Link{Up: 1_000_000}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		const each, size = 4, 700_000
		got := make(chan []byte)
		serve(t, b, func(c net.Conn) {
			all, _ := io.ReadAll(c)
			got <- all
		})
		c := dial(t, a, "tcp", "198.51.100.1:80")
		done := make(chan error)
		for i := range each {
			go func() { _, err := c.Write(bytes.Repeat([]byte{byte(i)}, size)); done <- err }()
		}
		for range each {
			check(t, <-done)
		}
		check(t, c.Close())
		all := <-got
		if len(all) != each*size {
			t.Fatalf("%d bytes", len(all))
		}
		for part := range slices.Chunk(all, size) {
			if k := bytes.Count(part, part[:1]); k != size {
				t.Fatalf("%d of %d bytes of one Write lie together", k, size)
			}
		}
	})
}

func TestHalfClose(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, func(c net.Conn) {
			all, _ := io.ReadAll(c)
			_, _ = c.Write(bytes.ToUpper(all))
			_ = c.Close()
		})
		c := dial(t, a, "tcp", "198.51.100.1:80")
		text := strings.Repeat("all that was written ", 10_000)
		must[int](t)(io.WriteString(c, text))
		check(t, c.(interface{ CloseWrite() error }).CloseWrite())
		if _, err := c.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("writing behind the end: %v", err)
		}
		if got := must[[]byte](t)(io.ReadAll(c)); string(got) != strings.ToUpper(text) {
			t.Errorf("%d bytes came back of %d", len(got), len(text))
		}
	})
}

func TestManyShortConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		b := n.Host("b", Link{Delay: rtt / 4}, addrB)
		ln := serve(t, b, answer(3000))
		const each = 2000
		done := make(chan struct{})
		for i := range 4 {
			a := n.Host("a", Link{Delay: rtt / 4}, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
			go func() {
				defer func() { done <- struct{}{} }()
				for range each {
					fetch(t, a, 3000)
				}
			}()
		}
		start := time.Now()
		for range 4 {
			<-done
		}
		took(t, "one after the other", start, each*2*rtt)
		check(t, ln.Close())
		time.Sleep(time.Second)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(b.conns) > 0 || len(b.ports) > 0 {
			t.Errorf("%d ends and %d ports are kept", len(b.conns), len(b.ports))
		}
	})
}

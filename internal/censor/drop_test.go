package censor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestReach sees which destinations each scenario leaves, over UDP and TCP.
func TestReach(t *testing.T) {
	to := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	type where struct {
		proto string
		to    netip.AddrPort
	}
	all := []where{
		{UDP, relayTo},
		{TCP, relayTo},
		{UDP, otherTo},
		{TCP, to(cdnAddr, 443)},
		{UDP, resolverTo},
		{TCP, resolverTo},
		{TCP, to(dohAddr, 443)},
		{UDP, to(dohAddr, 53)},
		{TCP, to(ipfsAddr, 443)},
		{UDP, to(ipfsAddr, 4001)},
	}
	for name, blocked := range map[string][]where{
		"open":       {},
		"udp-drop":   {all[0], all[2], all[9]},
		"dns-only":   {all[0], all[1], all[2], all[3], all[6], all[7], all[8], all[9]},
		"dns-ttl":    {all[0], all[1], all[2], all[3], all[6], all[7], all[8], all[9]},
		"doh-block":  {all[6]}, // plain DNS to the same host passes
		"ipfs-block": {all[8], all[9]},
		"allowlist":  {all[0], all[1], all[2], all[6], all[7], all[8], all[9]},
		"offline":    all,
		"ip-block":   {all[0], all[1]},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, name, func(w *world) {
				for _, d := range all {
					if d.proto == UDP {
						w.echoUDP(d.to)
					} else {
						w.serveTCP(d.to, echo)
					}
				}
				text := []byte("\x00\x05hello") // over TCP a whole DNS frame, so that no resolver waits for more
				for _, d := range all {
					var err error
					if d.proto == UDP {
						_, err = w.ask(d.to, text)
					} else {
						_, err = w.say(d.to, text)
					}
					want := false
					for _, b := range blocked {
						want = want || b == d
					}
					if want != isTimeout(err) || !want && err != nil {
						t.Errorf("%s %v: %v, blocked: %v", d.proto, d.to, err, want)
					}
				}
				if (w.did(Drop) > 0) != (len(blocked) > 0) {
					t.Errorf("%d drops in the trace", w.did(Drop))
				}
			})
		})
	}
}

func TestResetAll(t *testing.T) {
	sceneOf(t, Scenario{Rules: []Rule{ResetAll{To: Port(443)}}}, 1, func(w *world) {
		w.serveTCP(relayTo, echo)
		if _, err := w.say(relayTo, []byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused connection: %v", err)
		}
	})
}

func TestDropRelaysOneByOne(t *testing.T) {
	scene(t, "ip-block", func(w *world) {
		w.echoUDP(otherTo)
		w.echoUDP(netip.AddrPortFrom(cdnAddr, 443))
		ask := func(to netip.AddrPort) error { _, err := w.ask(to, []byte("x")); return err }
		time.Sleep(time.Hour) // nothing is in use: nothing is found
		if err := ask(otherTo); err != nil {
			t.Fatalf("the second relay at first: %v", err)
		}
		time.Sleep(4 * time.Second)
		if err := ask(otherTo); !isTimeout(err) {
			t.Errorf("the second relay after some use: %v", err)
		}
		if err := ask(netip.AddrPortFrom(cdnAddr, 443)); err != nil {
			t.Errorf("who is not known as a relay: %v", err)
		}
		time.Sleep(24 * time.Hour)
		if err := ask(otherTo); !isTimeout(err) {
			t.Errorf("the second relay a day later: %v", err)
		}
	})
}

func TestFreezeAfter16K(t *testing.T) {
	const limit = 16 << 10
	scene(t, "tcp-freeze-16k", func(w *world) {
		flood := func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 100))
			_, _ = c.Write(make([]byte, 1<<20))
			_, _ = io.Copy(io.Discard, c)
		}
		w.serveTCP(relayTo, flood)
		w.serveTCP(resolverTo, flood)
		download := func(to netip.AddrPort, want int) (int, error) {
			c, err := w.c.Dial(w.soon(), "tcp", to.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			return io.ReadFull(c, make([]byte, want))
		}
		if n, err := download(relayTo, limit); n != limit-100 || !isTimeout(err) {
			t.Errorf("foreign host: %d bytes, %v; want %d and a timeout", n, err, limit-100)
		}
		if n, err := download(relayTo, 10_000); err != nil {
			t.Errorf("small connection: %d bytes, %v", n, err)
		}
		if n, err := download(resolverTo, 200_000); err != nil {
			t.Errorf("resolver: %d bytes, %v", n, err)
		}
		// The other way: what is written goes nowhere, as long as a send buffer
		// takes it, and Close ends the wait.
		c, err := w.c.Dial(w.soon(), "tcp", relayTo.String())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			n, err := c.Write(make([]byte, 1<<20))
			if n < limit || n > limit+swallowBytes+2*pieceBytes {
				t.Errorf("%d bytes written into nothing", n)
			}
			done <- err
		}()
		time.Sleep(time.Hour)
		start := time.Now()
		_ = c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("write after %v: %v", time.Since(start), err)
		}
	})
}

func TestThrottle(t *testing.T) {
	scene(t, "throttle", func(w *world) {
		const size = 100_000
		w.serveTCP(relayTo, func(c net.Conn) {
			_, _ = c.Write(make([]byte, size))
			_, _ = io.Copy(io.Discard, c)
		})
		c, err := w.c.Dial(w.soon(), "tcp", relayTo.String())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 5*time.Second || d > 7*time.Second { // (100,000 - 8,000) / 16,000
			t.Errorf("%d bytes in %v", size, d)
		}
		_ = c.Close()

		// Datagrams: what is over is late or lost, what is under is neither.
		w.serveUDP(otherTo, func(b []byte) []byte { return b[:1] })
		u, err := w.c.Dial(w.soon(), "udp", otherTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		got := 0
		for range 7 {
			_, _ = u.Write(make([]byte, 1000))
		}
		count := func() {
			_ = u.SetReadDeadline(time.Now().Add(patience))
			for {
				if _, err := u.Read(make([]byte, 10)); err != nil {
					return
				}
				got++
			}
		}
		if count(); got != 7 {
			t.Errorf("%d of 7 datagrams under the rate", got)
		}
		got = 0
		for range 200 {
			_, _ = u.Write(make([]byte, 1000))
			time.Sleep(50 * time.Millisecond) // 20 kB/s for 10 s: 160 fit
		}
		if count(); got < 130 || got > 185 {
			t.Errorf("%d of 200 datagrams at 1.25 times the rate", got)
		}
	})
}

func TestRandomBytes(t *testing.T) {
	noise := make([]byte, 600)
	for i := range noise { // a fixed byte sequence of about 4 one-bits a byte, little of it text
		noise[i] = byte(i*i*31 + i*7 + i>>3)
	}
	if !looksRandom(noise) {
		t.Fatal("noise does not look random")
	}
	scene(t, "random-bytes", func(w *world) {
		w.serveTCP(relayTo, echo)
		if _, err := w.say(relayTo, noise); !isTimeout(err) {
			t.Errorf("noise: %v", err)
		}
		for name, b := range map[string][]byte{
			"libp2p": append([]byte("\x13/multistream/1.0.0\n\x07/noise\n"), 0),
			"http":   append([]byte("GET / HTTP/1.1\r\n"), noise...),
			"tls":    append([]byte{22, 3, 1, 2, 0, 1}, noise...),
			"ssh":    append([]byte("SSH-2.0-x\r\n"), noise...),
			"zeros":  append(make([]byte, 600), noise...),
		} {
			if _, err := w.say(relayTo, b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestSet changes the rules under open flows.
func TestSet(t *testing.T) {
	scene(t, "open", func(w *world) {
		w.serveTCP(relayTo, echo)
		w.echoUDP(otherTo)
		dial := func(proto string, to netip.AddrPort) net.Conn {
			c, err := w.c.Dial(w.soon(), proto, to.String())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		frozen, reset, u := dial("tcp", relayTo), dial("tcp", relayTo), dial("udp", otherTo)
		defer func() { _, _, _ = frozen.Close(), reset.Close(), u.Close() }()
		for _, c := range []net.Conn{frozen, reset, u} {
			if b, err := exchange(c, []byte("hello")); err != nil || !bytes.Equal(b, []byte("hello")) {
				t.Fatalf("open: %q, %v", b, err)
			}
		}
		// A reader that waits is reset, and not only when something comes.
		failed := make(chan error)
		go func() {
			_ = reset.SetReadDeadline(time.Time{})
			_, err := reset.Read(make([]byte, 1))
			failed <- err
		}()
		w.c.Set(Scenario{Rules: []Rule{ResetAll{To: Port(443)}}})
		if err := <-failed; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("open connection under a reset: %v", err)
		}
		if _, err := frozen.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other one: %v", err)
		}
		w.c.Set(Scenario{})
		frozen = dial("tcp", relayTo)
		offline, _ := Lookup("offline")
		w.c.Set(offline)
		for _, c := range []net.Conn{frozen, u} {
			if _, err := exchange(c, []byte("hello")); !isTimeout(err) {
				t.Errorf("open flow under offline: %v", err)
			}
		}
		w.c.Set(Scenario{})
		if _, err := exchange(frozen, []byte("hello")); !isTimeout(err) {
			t.Errorf("frozen connection, rules lifted: %v", err)
		}
		if _, err := exchange(u, []byte("hello")); err != nil {
			t.Errorf("datagrams, rules lifted: %v", err)
		}
	})
}

func TestBytesAndClose(t *testing.T) {
	scene(t, "open", func(w *world) {
		w.echoUDP(otherTo)
		if _, err := w.ask(otherTo, make([]byte, 321)); err != nil {
			t.Fatal(err)
		}
		if up, down := w.c.Bytes(); up != 321 || down != 321 {
			t.Errorf("bytes: %d up, %d down", up, down)
		}
		pc, err := w.c.ListenPacket(context.Background(), "udp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, _, err := pc.ReadFrom(make([]byte, 1))
			done <- err
		}()
		start := time.Now()
		_ = pc.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("read after close: %v", err)
		}
	})
}

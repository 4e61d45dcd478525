package censor

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// TestPairBites runs two scenarios at once: both bite, and what neither stops
// passes.
func TestPairBites(t *testing.T) {
	scene(t, "quic-v1-drop+tls-sni-rst", func(w *world) {
		w.serveQUIC(relayTo)
		w.serveTLS(relayTo)
		if err := w.shakeQUIC(relayTo, 0, quic.Version1, freeName); err == nil {
			t.Error("QUIC v1 passed")
		}
		if err := w.shakeTLS(relayTo, listedName, nil); err == nil {
			t.Error("the listed name passed")
		}
		if err := w.shakeTLS(relayTo, freeName, nil); err != nil {
			t.Errorf("TLS with another name: %v", err)
		}
	})
}

// TestChain sees that each middlebox is shown what the one before let through,
// and that the shortest of two freezes counts.
func TestChain(t *testing.T) {
	s := Scenario{Rules: []Rule{
		FreezeAfter{Bytes: 20_000, To: Everything}, FreezeAfter{Bytes: 12_000, To: Everything},
	}}
	sceneOf(t, s, 1, func(w *world) {
		w.serveTCP(relayTo, func(c net.Conn) {
			_, _ = c.Write(make([]byte, 100_000))
			_, _ = io.Copy(io.Discard, c)
		})
		c, err := w.c.Dial(w.soon(), "tcp", relayTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.ReadFull(c, make([]byte, 100_000)); n != 12_000 || !isTimeout(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// TestNames dials a name with two addresses, the first of them blocked.
func TestNames(t *testing.T) {
	scene(t, "ip-block", func(w *world) {
		w.net.Name(freeName, relayAddr, cdnAddr)
		w.serveTCP(netip.AddrPortFrom(cdnAddr, 443), echo)
		start := time.Now()
		c, err := w.c.Dial(w.soon(), "tcp", net.JoinHostPort(freeName, "443"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if d := time.Since(start); d < patience/2 || d > patience/2+2*rtt {
			t.Errorf("connected after %v", d)
		}
		for _, bad := range []string{"", "no-port", "127.0.0.1:x", "127.0.0.1:70000", "no.such.name:443"} {
			if c, err := w.c.Dial(w.soon(), "tcp", bad); err == nil {
				t.Errorf("dialled %q", bad)
				_ = c.Close()
			}
		}
	})
}

// TestListen sees that who dials the reader meets the same middleboxes.
func TestListen(t *testing.T) {
	s := Scenario{Rules: []Rule{DropAll{To: Not(Allowed)}}}
	sceneOf(t, s, 1, func(w *world) {
		at := netip.AddrPortFrom(readerAddr, 4001)
		ln, err := w.c.Listen(context.Background(), "tcp", at.String())
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
		try := func(from netip.Addr) error {
			c, err := w.servers[from].Dial(w.soon(), "tcp", at.String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = exchange(c, []byte("hello"))
			return err
		}
		if err := try(cdnAddr); err != nil {
			t.Errorf("who is allowed: %v", err)
		}
		if err := try(otherAddr); err == nil {
			t.Error("who is not allowed came in")
		}
	})
}

// TestSetWhileBusy changes the rules all the time under flows that carry data:
// streams that nothing stops arrive whole.
func TestSetWhileBusy(t *testing.T) {
	scene(t, "open", func(w *world) {
		w.serveTCP(otherTo, echo)
		w.echoUDP(otherTo)
		var all sync.WaitGroup
		for n := range 4 {
			c, err := w.c.Dial(w.soon(), "tcp", otherTo.String())
			if err != nil {
				t.Fatal(err)
			}
			u, err := w.c.Dial(w.soon(), "udp", otherTo.String())
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat([]byte{byte(n), 1, 2, 3, 4, 5, 6}, 30_000)
			all.Go(func() { _, _ = c.Write(data) })
			all.Go(func() {
				defer c.Close()
				got := make([]byte, len(data))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("stream %d: %v", n, err)
				}
			})
			all.Go(func() {
				defer u.Close()
				for range 100 {
					_, _ = u.Write(data[:500])
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for range 5 {
			for _, name := range []string{
				"throttle", "quic-sni", "dns-hostile", "tls-sni-rst", "udp-drop", "ech-drop", "random-bytes", "evil-resolver", "open",
			} {
				s, _ := Lookup(name)
				if name == "dns-hostile" {
					s.Rules = s.Rules[1:] // all but what would freeze the streams
				}
				w.c.Set(s)
				time.Sleep(20 * time.Millisecond)
			}
		}
		all.Wait()
	})
}

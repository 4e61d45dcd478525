package relay

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// floodSize is how many bad requests a flood has.
const floodSize = 50_000

// flooded runs a relay before, during and after a flood, and checks that it serves
// its readers and has not grown. Each of eight clients sends its share.
func flooded(t *testing.T, send func(t *testing.T, r *Relay, paths []string, share int)) {
	t.Helper()
	p := newPress(t, "flooded")
	r := start(t, Config{Throttle: Throttle{PerAddress: 2000}})
	s := p.edition(t, 0)
	push(t, r, s)
	tg := target(t, r, p.ch)
	prefix := tg.Relay(p.batch).Prefix.Path()
	almost := "/" + prefix[:31] + "_"
	paths := []string{"/nothing", almost + "/head/" + p.ch.String(), "/" + prefix + "/ipfs/nothing", "/%2e%2e/" + strings.Repeat("x", 500)}
	const clients = 8
	send(t, r, paths, 10) // what is made once
	goroutines, before := runtime.NumGoroutine(), inUse()
	done := make(chan struct{}, clients)
	for range clients {
		go func() {
			defer func() { done <- struct{}{} }()
			send(t, r, paths, floodSize/clients)
		}()
	}
	for range clients {
		<-done
	}
	settled(t, goroutines+50)
	if grown := inUse() - before; grown > 16<<20 { // for half a minute, 200 bytes a request over HTTP/3
		t.Errorf("%d kB more in use than before", grown>>10)
	}
	// Behind the same address a reader is served as soon as it may ask again.
	for _, path := range pathsOf(t, r, p) {
		for {
			_, err := path.Heads.Head(t.Context(), p.ch, 0)
			if err == nil {
				break
			}
			if !strings.Contains(err.Error(), "429") {
				t.Fatalf("a reader over %s: %v", path.Kind, err)
			}
		}
	}
}

func TestFloodOverHTTP2(t *testing.T) {
	var answered, refused atomic.Int64
	flooded(t, func(t *testing.T, r *Relay, paths []string, share int) {
		c := dialH2(t, &netreal.Network{}, r.Addr().String())
		defer c.NetConn().Close()
		ends := c.watch()
		open := 0
		wait := func(n int) bool {
			for ; open > n; open-- {
				reset, ok := <-ends
				switch {
				case !ok:
					t.Error("the connection ended")
					return false
				case reset:
					refused.Add(1)
				default:
					answered.Add(1)
				}
			}
			return true
		}
		for i := range share {
			if !wait(99) {
				return
			}
			c.mu.Lock()
			method := []string{"GET", "BREW", "POST"}[i%3]
			_, err := c.open(true, method, paths[i%len(paths)])
			c.mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			open++
		}
		wait(0)
	})
	if n := answered.Load() + refused.Load(); n < floodSize {
		t.Errorf("%d requests ended", n)
	}
	t.Logf("%d answered, %d reset", answered.Load(), refused.Load())
}

func TestFloodOverHTTP3(t *testing.T) {
	var answered, refused atomic.Int64
	flooded(t, func(t *testing.T, r *Relay, paths []string, share int) {
		c := dialH3(t, &netreal.Network{}, r.Addr().String(), nil)
		defer func() { _ = c.CloseWithError(0, "") }()
		slots := make(chan struct{}, 100)
		for i := range share {
			slots <- struct{}{}
			method := []string{"GET", "BREW", "POST"}[i%3]
			str, err := c.open(t.Context(), method, paths[i%len(paths)])
			if err != nil {
				t.Error(err)
				return
			}
			_ = str.Close()
			go func() {
				defer func() { <-slots }()
				_, err := io.Copy(io.Discard, str)
				var reset *quic.StreamError
				switch {
				case err == nil:
					answered.Add(1)
				case errors.As(err, &reset):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}()
		}
		for range cap(slots) {
			slots <- struct{}{}
		}
	})
	if n := answered.Load() + refused.Load(); n < floodSize {
		t.Errorf("%d requests ended", n)
	}
	t.Logf("%d answered, %d reset", answered.Load(), refused.Load())
}

// Requests that are given up at once cost no more than those that are not,
// however many there are: neither when the client resets them, nor when it has
// the relay do so by a frame that it must not send (CVE-2025-8671).
func TestResetsOverHTTP2(t *testing.T) {
	for name, give := range map[string]func(c *h2Raw, id uint32) error{
		"the client's": func(c *h2Raw, id uint32) error { return c.WriteRSTStream(id, http2.ErrCodeCancel) },
		"the relay's": func(c *h2Raw, id uint32) error {
			_, err := c.Conn.Write([]byte{0, 0, 4, 8, 0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), 0, 0, 0, 0}) // a window larger by nothing
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			resets(t, func(r *Relay, path string, most func()) error {
				c := dialH2(t, &netreal.Network{}, r.Addr().String())
				defer c.NetConn().Close()
				c.watch()
				for range 20_000 {
					c.mu.Lock()
					id, err := c.open(true, "GET", path)
					if err == nil {
						err = give(c, id)
					}
					c.mu.Unlock()
					if err != nil {
						return err
					}
					most()
				}
				return nil
			})
		})
	}
}

// The same over HTTP/3: streams that are opened and at once neither read nor
// written any more (RFC 9000, section 3.5).
func TestResetsOverHTTP3(t *testing.T) {
	cancel := quic.StreamErrorCode(http3.ErrCodeRequestCanceled)
	for name, give := range map[string]func(s *quic.Stream){
		"STOP_SENDING":  func(s *quic.Stream) { _ = s.Close(); s.CancelRead(cancel) },
		"both":          func(s *quic.Stream) { s.CancelRead(cancel); s.CancelWrite(cancel) },
		"half a header": func(s *quic.Stream) { s.CancelWrite(cancel); s.CancelRead(cancel) },
	} {
		t.Run(name, func(t *testing.T) {
			resets(t, func(r *Relay, path string, most func()) error {
				c := dialH3(t, &netreal.Network{}, r.Addr().String(), nil)
				defer func() { _ = c.CloseWithError(0, "") }()
				header := h3Header("GET", path)
				if name == "half a header" {
					header = header[:len(header)/2]
				}
				for range 20_000 {
					str, err := c.OpenStreamSync(t.Context())
					if err != nil {
						return err
					}
					if _, err := str.Write(header); err != nil {
						return err
					}
					give(str)
					most()
				}
				return nil
			})
		})
	}
}

// resets checks that a flood of requests that are given up has a relay do little at
// a time, and leaves nothing behind.
func resets(t *testing.T, flood func(r *Relay, path string, most func()) error) {
	t.Helper()
	p := newPress(t, "resets")
	r := start(t, Config{Throttle: Throttle{PerAddress: -1, PerBatch: -1}})
	push(t, r, p.edition(t, 0))
	before, used := runtime.NumGoroutine(), inUse()
	most := 0
	err := flood(r, "/"+target(t, r, p.ch).Relay(p.batch).Prefix.Path()+"/head/"+p.ch.String()+"?have=1&wait=60", func() { most = max(most, runtime.NumGoroutine()-before) })
	t.Logf("at most %d goroutines more; it ended with %v", most, err)
	if most > 1200 {
		t.Errorf("%d goroutines more than before", most)
	}
	waiting(t, r, 0)
	settled(t, before+50)
	if grown := inUse() - used; grown > 8<<20 {
		t.Errorf("%d kB more in use than before", grown>>10)
	}
	for _, path := range pathsOf(t, r, p) {
		if _, err := path.Heads.Head(context.WithoutCancel(t.Context()), p.ch, 0); err != nil {
			t.Errorf("a reader over %s: %v", path.Kind, err)
		}
	}
}

// pathsOf are a reader's ways to r.
func pathsOf(t *testing.T, r *Relay, p *press) []transport.Path {
	t.Helper()
	return paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(p.batch))
}

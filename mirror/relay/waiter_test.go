package relay

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"

	"tamizdat/internal/netreal"
)

// poll is the path of a request that waits for the channel's second edition.
func (w *slowWorld) poll(p *press) string {
	return w.gateway + "/head/" + p.ch.String() + "?have=1&wait=60"
}

// Whoever goes while he waits for a head is forgotten at once, whichever way he
// goes, and leaves nothing behind.
func TestWaitersGoWithTheirReaders(t *testing.T) {
	p := newPress(t, "waiters")
	s := p.edition(t, 0)
	const n = 20
	type goes struct {
		// come begins n polls and returns how they end.
		come func(t *testing.T, w *slowWorld) (leave func())
	}
	each := func(f func(t *testing.T, w *slowWorld) func()) func(*testing.T, *slowWorld) func() {
		return func(t *testing.T, w *slowWorld) func() {
			var all []func()
			for range n {
				all = append(all, f(t, w))
			}
			return func() {
				for _, leave := range all {
					leave()
				}
			}
		}
	}
	h1 := func(more string) func(*testing.T, *slowWorld) func() {
		return each(func(t *testing.T, w *slowWorld) func() {
			c := secure(t, w.host, w.at(), "http/1.1")
			if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s", w.poll(p), more); err != nil {
				t.Fatal(err)
			}
			return func() { c.NetConn().Close() }
		})
	}
	h2 := func(leave func(c *h2Raw, streams []uint32)) func(*testing.T, *slowWorld) func() {
		return func(t *testing.T, w *slowWorld) func() {
			c := dialH2(t, w.host, w.at())
			c.watch()
			var streams []uint32
			for range n {
				c.mu.Lock()
				id, err := c.open(true, "GET", w.poll(p))
				c.mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				streams = append(streams, id)
			}
			return func() { leave(c, streams) }
		}
	}
	h3 := func(leave func(c *h3Raw, streams []*quic.Stream)) func(*testing.T, *slowWorld) func() {
		return func(t *testing.T, w *slowWorld) func() {
			c := dialH3(t, w.host, w.at(), awake(quic.Config{}))
			var streams []*quic.Stream
			for range n {
				str, err := c.open(t.Context(), "GET", w.poll(p))
				if err != nil {
					t.Fatal(err)
				}
				_ = str.Close()
				streams = append(streams, str)
			}
			return func() { leave(c, streams) }
		}
	}
	for name, c := range map[string]goes{
		"h1: closes":                      {come: h1("\r\n")},
		"h1: closes, half a request more": {come: h1("\r\nGET / HT")},
		"h2: closes":                      {come: h2(func(c *h2Raw, _ []uint32) { c.NetConn().Close() })},
		"h2: resets": {come: h2(func(c *h2Raw, streams []uint32) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, id := range streams {
				_ = c.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		})},
		"h3: closes": {come: h3(func(c *h3Raw, _ []*quic.Stream) { _ = c.CloseWithError(0, "") })},
		"h3: stops reading": {come: h3(func(_ *h3Raw, streams []*quic.Stream) {
			for _, s := range streams {
				s.CancelRead(0x10c)
			}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newSlowWorld(t, p, s, "")
				leave := c.come(t, w)
				time.Sleep(time.Second)
				if got := w.node.handler.polls.n.Load(); got != n {
					t.Fatalf("%d wait, not %d", got, n)
				}
				leave()
				time.Sleep(time.Second)
				if got := w.node.handler.polls.n.Load(); got > 0 {
					t.Errorf("%d still wait", got)
				}
				if got := w.running.Load(); got > 0 {
					t.Errorf("%d requests are still being answered", got)
				}
			})
		})
	}
}

// Who sends a body along with a poll has the relay hold none of it.
func TestWaitersHoldNoBodies(t *testing.T) {
	p := newPress(t, "bodies")
	s := p.edition(t, 0)
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, p, s, "")
		for _, more := range []string{"Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"} {
			c := secure(t, w.host, w.at(), "http/1.1")
			if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s", w.poll(p), more); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("h1: %v, %v", resp, err)
			}
			c.Close()
		}

		// Each stream may bring 256 KiB, and all of a connection 1 MiB that is not read.
		two := dialH2(t, w.host, w.at())
		ends := two.watch()
		for range 20 {
			two.mu.Lock()
			id, err := two.open(false, "GET", w.poll(p))
			for range 16 {
				err = errors.Join(err, two.WriteData(id, false, make([]byte, 16<<10)))
			}
			two.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		select {
		case reset, open := <-ends:
			t.Errorf("h2: a poll ended: reset %t, the connection with it %t", reset, !open)
		default:
		}
		if got := w.node.handler.polls.n.Load(); got != 20 {
			t.Errorf("h2: %d wait", got)
		}
		two.NetConn().Close()

		three := dialH3(t, w.host, w.at(), awake(quic.Config{}))
		str, err := three.open(t.Context(), "GET", w.poll(p))
		if err != nil {
			t.Fatal(err)
		}
		_ = str.SetWriteDeadline(time.Now().Add(10 * time.Second))
		var stopped *quic.StreamError
		if _, err := str.Write(h3Frame(0, make([]byte, 1<<20))); !errors.As(err, &stopped) {
			t.Errorf("h3: the body went its way, or was kept: %v", err)
		}
		if got := w.node.handler.polls.n.Load(); got != 1 {
			t.Errorf("h3: %d wait", got)
		}
	})
}

// waiterBytes is what a reader who waits on a connection that others share may cost
// here, both ends together: stack, buffers, timers.
const waiterBytes = 48 << 10

// waiting returns when n polls wait.
func waiting(t *testing.T, r *Relay, n int64) {
	for r.handler.polls.n.Load() != n && t.Context().Err() == nil {
		runtime.Gosched() // the test's own deadline is the limit
	}
}

// inUse is how much memory is in use that garbage collection does not bring back.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // what a sync.Pool held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// stays is how much more is in use than before, when that is at most so much or
// has not become so for a while: what ends a connection goes on behind it.
func stays(before, most int64) int64 {
	left := inUse() - before
	for range 100 {
		if left <= most {
			break
		}
		time.Sleep(50 * time.Millisecond)
		left = inUse() - before
	}
	return left
}

// What a waiting reader costs is bounded, and given back when he goes.
func TestMemoryOfWaiters(t *testing.T) {
	most := int64(waiterBytes)
	if raceDetector { // it has memory of its own for each goroutine
		most *= 3
	}
	p := newPress(t, "memory")
	r := start(t, Config{})
	push(t, r, p.edition(t, 0))
	path := "/" + target(t, r, p.ch).Relay(p.batch).Prefix.Path() + "/head/" + p.ch.String() + "?have=1&wait=60"
	const conns, each = 10, 125
	for name, come := range map[string]func() (ask, leave func()){
		"h2": func() (ask, leave func()) {
			c := dialH2(t, &netreal.Network{}, r.Addr().String())
			c.watch()
			return func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				if _, err := c.open(true, "GET", path); err != nil {
					t.Error(err)
				}
			}, func() { c.NetConn().Close() }
		},
		"h3": func() (ask, leave func()) {
			c := dialH3(t, &loopback{}, r.Addr().String(), awake(quic.Config{}))
			return func() {
				str, err := c.open(t.Context(), "GET", path)
				if err != nil {
					t.Error(err)
					return
				}
				_ = str.Close()
			}, func() { _ = c.CloseWithError(0, "") }
		},
	} {
		goroutines, empty := runtime.NumGoroutine(), inUse()
		var asks, leaves []func()
		for range conns {
			ask, leave := come()
			asks, leaves = append(asks, ask), append(leaves, leave)
		}
		before := inUse()
		for range each {
			for _, ask := range asks {
				ask()
			}
		}
		waiting(t, r, conns*each)
		a := (inUse() - before) / (conns * each)
		t.Logf("%s: %d bytes a waiter", name, a)
		if a > most {
			t.Errorf("%s: %d bytes a waiter, at most %d", name, a, most)
		}
		for _, leave := range leaves {
			leave()
		}
		asks, leaves = nil, nil // the clients' ends are not what is measured here
		waiting(t, r, 0)
		settled(t, goroutines+50)
		if left := stays(empty, conns*each*most/10); left > conns*each*most/10 {
			t.Errorf("%s: %d bytes are left behind", name, left)
		}
	}
}

// A connection that has ended leaves next to nothing behind: who opens and closes them all
// day does not make a relay grow.
func TestEndedConnectionsLeaveNothing(t *testing.T) {
	p := newPress(t, "ended")
	r := start(t, Config{})
	push(t, r, p.edition(t, 0))
	path := "/" + target(t, r, p.ch).Relay(p.batch).Prefix.Path() + "/head/" + p.ch.String() + "?have=1&wait=60"
	const conns = 300
	// net/http starts a connection's idle timer over when its streams are cut off,
	// and so holds what little an HTTP/2 connection is for a while.
	most := map[string]int64{"h2": 20 << 10, "h3": 4 << 10}
	for name, visit := range map[string]func(t *testing.T){
		"h2": func(t *testing.T) {
			c := dialH2(t, &netreal.Network{}, r.Addr().String())
			c.watch()
			if _, err := c.open(true, "GET", path); err != nil {
				t.Fatal(err)
			}
			waiting(t, r, 1)
		},
		"h3": func(t *testing.T) {
			c := dialH3(t, &netreal.Network{}, r.Addr().String(), nil)
			str, err := c.open(t.Context(), "GET", path)
			if err != nil {
				t.Fatal(err)
			}
			_ = str.Close()
			waiting(t, r, 1)
		},
	} {
		goroutines := runtime.NumGoroutine()
		t.Run(name, visit) // what is kept for the next one
		before := inUse()
		for range conns {
			t.Run(name, visit) // which closes it at its end
			waiting(t, r, 0)
		}
		settled(t, goroutines+50)
		a := stays(before, conns*most[name]) / conns
		t.Logf("%s: %d bytes a connection", name, a)
		if a > most[name] {
			t.Errorf("%s: %d bytes are left of each connection, at most %d", name, a, most[name])
		}
	}
}

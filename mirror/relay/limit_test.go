package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/internal/simnet"
	wire "tamizdat/transport/relay"
)

func TestRatesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRates[netip.Prefix](2)
		one := netip.MustParsePrefix("192.0.2.1/32")
		for i := range 2*burst + 3 {
			if ok := r.allow(one); ok != (i < 2*burst) {
				t.Errorf("request %d: %t", i+1, ok)
			}
		}
		if !r.allow(netip.MustParsePrefix("192.0.2.2/32")) {
			t.Error("another address is limited too")
		}
		time.Sleep(time.Second)
		for i := range 3 {
			if ok := r.allow(one); ok != (i < 2) {
				t.Errorf("a second later, request %d: %t", i+1, ok)
			}
		}
		// Millions of addresses take no more room than some ten thousand, and who
		// asks all the time is not forgotten among them.
		var a [16]byte
		for i := range 3 * maxRates {
			a[0], a[1], a[2] = byte(i), byte(i>>8), byte(i>>16)
			r.allow(netip.PrefixFrom(netip.AddrFrom16(a), 64))
			if i%1000 == 0 && r.allow(one) {
				t.Fatal("forgotten")
			}
		}
		if n := len(r.young) + len(r.old); n > maxRates {
			t.Errorf("%d remembered", n)
		}
		if unlimited := newRates[int](-1); !unlimited.allow(1) {
			t.Error("limited without a limit")
		}
	})
}

// What a limited client is told is the same whatever it asks for, byte for byte.
func TestLimitedClientsLearnNothing(t *testing.T) {
	p := newPress(t, "limits")
	r := start(t, Config{Throttle: Throttle{PerAddress: 1}})
	tg := target(t, r, p.ch)
	good := "/" + tg.Relay(p.batch).Prefix.Path()
	bad := good[:len(good)-1] + "_"
	request := func(path string) string {
		return exchange(t, r.Addr().String(), "GET "+path+" HTTP/1.1\r\nHost: relay.example.org\r\nConnection: close\r\n\r\n")
	}
	for range burst {
		request("/")
	}
	want := request("/")
	if !strings.HasPrefix(want, "HTTP/1.1 429 ") {
		t.Fatalf("after a burst: %q", want)
	}
	for _, path := range []string{"/nothing", bad + "/head/" + p.ch.String(), good + "/head/" + p.ch.String(), good + "/ipfs/bafkqaaa?format=raw", "/" + tg.Intake.Mint([8]byte{}).Path() + "/intake/x/y"} {
		if got := request(path); got != want {
			t.Errorf("%s: %q instead of %q", path, got, want)
		}
	}
}

func TestBatchesAndPublishersAreLimited(t *testing.T) {
	p := newPress(t, "batches")
	r := start(t, Config{Throttle: Throttle{PerBatch: 1, PerIntake: 1}})
	tg := target(t, r, p.ch)
	ask := func(prefix string) int {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "https://relay.example.org/"+prefix, nil))
		return w.Code
	}
	last := map[string]int{}
	for range burst + 1 {
		last["batch"] = ask(tg.Mint.Mint([8]byte{1}).Path() + "/ipfs/bafkqaaa?format=raw")
		last["publisher"] = ask(tg.Intake.Mint([8]byte{2}).Path() + "/intake/x/y")
	}
	if last["batch"] != 429 || last["publisher"] != 429 {
		t.Errorf("%v", last)
	}
	if code := ask(tg.Mint.Mint([8]byte{3}).Path() + "/ipfs/bafkqaaa?format=raw"); code != 200 {
		t.Errorf("another batch: %d", code)
	}
	if code := ask("index.html"); code == 429 {
		t.Error("the website is limited by a batch")
	}
}

// good is a reader who has what he came for.
func good(t *testing.T, r *Relay, p *press, s *sheet) {
	t.Helper()
	for _, path := range paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(p.batch)) {
		if h, err := path.Heads.Head(t.Context(), p.ch, 0); err != nil || !bytes.Equal(h, s.head.Text()) {
			t.Errorf("%s: %v", path.Kind, err)
		}
	}
}

// settled checks that a relay has not grown.
func settled(t *testing.T, goroutines int) {
	t.Helper()
	// What ends by itself is given the time: the test's own deadline is the limit.
	for runtime.NumGoroutine() > goroutines && t.Context().Err() == nil {
		if deadline, ok := t.Deadline(); ok && time.Until(deadline) < 30*time.Second {
			t.Fatalf("%d goroutines, %d allowed", runtime.NumGoroutine(), goroutines)
		}
		runtime.Gosched()
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 200<<20 {
		t.Errorf("%d MB in use", m.HeapAlloc>>20)
	}
}

func TestFloodOfBadRequests(t *testing.T) {
	p := newPress(t, "flood")
	r := start(t, Config{Throttle: Throttle{PerAddress: 50}})
	s := p.edition(t, 0)
	push(t, r, s)
	good(t, r, p, s)
	before := runtime.NumGoroutine()
	tg := target(t, r, p.ch)
	almost := tg.Relay(p.batch).Prefix.Path()[:31] + "_"
	kinds := []string{
		"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", "GET /" + almost + "/head/%s HTTP/1.1\r\nHost: x\r\n\r\n",
		"BREW /%s HTTP/1.1\r\nHost: x\r\n\r\n", "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
	}
	var wg sync.WaitGroup
	codes := make([]map[int]int, 8)
	for worker := range codes {
		codes[worker] = map[int]int{}
		wg.Go(func() {
			c, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			in := bufio.NewReader(c)
			const batch = 25 // pipelined
			for i := range 50_000 / len(codes) / batch {
				var out strings.Builder
				for j := range batch {
					fmt.Fprintf(&out, kinds[j%len(kinds)], fmt.Sprint(worker, "-", i, "-", j))
				}
				if _, err := io.WriteString(c, strings.ReplaceAll(out.String(), " -", "-")); err != nil {
					t.Error(err)
					return
				}
				for range batch {
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					codes[worker][resp.StatusCode]++
				}
			}
		})
	}
	wg.Wait()
	sum := map[int]int{}
	for _, c := range codes {
		for code, n := range c {
			sum[code] += n
		}
	}
	t.Logf("answered with %v", sum)
	if sum[429] == 0 || sum[404] == 0 || sum[200] > 0 {
		t.Errorf("answered with %v", sum)
	}
	// A good reader behind the same address is served as soon as it may ask again.
	path := paths(t, &netreal.Network{}, tg.Relay(p.batch))[0]
	for {
		_, err := path.Heads.Head(t.Context(), p.ch, 0)
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "429") {
			t.Fatal(err)
		}
	}
	settled(t, before+50)
}

// RFC 9113 lets a client open a stream and reset it at once, as often as it
// likes; it may not make the relay work for each (CVE-2023-44487).
func TestRapidReset(t *testing.T) {
	p := newPress(t, "reset")
	r := start(t, Config{})
	s := p.edition(t, 0)
	push(t, r, s)
	good(t, r, p, s)
	before := runtime.NumGoroutine()
	c, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	prefix := target(t, r, p.ch).Relay(p.batch).Prefix.Path()
	most := 0
	for i := range 20_000 {
		block.Reset()
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/" + prefix + "/head/" + p.ch.String() + "?have=1&wait=60"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		id := uint32(2*i + 1)
		if err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
			break
		}
		if err = f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			break
		}
		most = max(most, runtime.NumGoroutine()-before)
	}
	t.Logf("at most %d goroutines more; the connection ended with %v", most, err)
	if most > 600 { // 128 streams, and some of each
		t.Errorf("%d goroutines more than before", most)
	}
	good(t, r, p, s)
	c.Close()
	settled(t, before+50)
}

// Whoever sends or reads by the byte is let go; nobody else waits for him.
func TestSlowClientsAreLetGo(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "index.html"), noise(1, 8_000_000), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newPress(t, "slow")
	s := p.edition(t, 1_000_000)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		doors := &watched{Host: w.net.Host("192.0.2.9", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("192.0.2.9"))}
		n := w.relay(9, Config{Decoy: folder, Network: doors})
		tg := target(t, n.Relay, p.ch)
		w.push(n, s)
		host := w.net.Host("slow", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("203.0.113.1"))
		dial := func() net.Conn {
			c, err := host.Dial(t.Context(), "tcp", n.ip+":443")
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		secure := func() net.Conn {
			c := tls.Client(dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err := c.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			return c
		}
		intake := "/" + tg.Intake.Mint([8]byte{}).Path() + "/intake/" + p.ch.String() + "/" + bundle.RawCID(noise(1, 9)).String()
		write := func(c net.Conn, s string) net.Conn {
			if _, err := io.WriteString(c, s); err != nil {
				t.Fatal(err)
			}
			return c
		}
		const byteBy = true
		for name, c := range map[string]struct {
			open func() net.Conn
			drip bool // a byte every few seconds, and what comes is read
			most time.Duration
		}{
			"says nothing":         {func() net.Conn { return dial() }, false, 11 * time.Second},
			"says hello by bytes":  {func() net.Conn { return dial() }, byteBy, 11 * time.Second},
			"nothing after hello":  {func() net.Conn { return secure() }, false, 11 * time.Second},
			"a header without end": {func() net.Conn { return write(secure(), "GET / HTTP/1.1\r\nHost: x\r\nX: ") }, byteBy, 11 * time.Second},
			"a body without end": {func() net.Conn {
				return write(secure(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
			}, byteBy, 40 * time.Second},
			"an upload without end": {func() net.Conn {
				return write(secure(), "PATCH "+intake+" HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nUpload-Length: 100000\r\nContent-Length: 100000\r\n\r\n")
			}, byteBy, 40 * time.Second},
			"says much, reads nothing": {func() net.Conn { return write(secure(), strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 50)) }, false, 40 * time.Second},
			"reads no page":            {func() net.Conn { return write(secure(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }, false, 40 * time.Second},
			"reads no edition": {func() net.Conn {
				return write(secure(), strings.Repeat("GET /"+tg.Relay(p.batch).Prefix.Path()+"/ipfs/"+s.head.Root.String()+"?format=car HTTP/1.1\r\nHost: x\r\n\r\n", 20))
			}, false, 40 * time.Second},
		} {
			conn := c.open()
			raw := conn
			if tc, ok := raw.(*tls.Conn); ok {
				raw = tc.NetConn()
			}
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			if c.drip {
				go func() { _, _ = io.Copy(io.Discard, conn); cancel() }()
			}
			for time.Since(began) < 10*time.Minute && ctx.Err() == nil {
				time.Sleep(3 * time.Second)
				if c.drip {
					if _, err := conn.Write([]byte("x")); err != nil {
						break
					}
				}
				if _, gone := doors.closed.Load(raw.LocalAddr().String()); gone {
					break
				}
			}
			if took := time.Since(began); took > c.most+9*time.Second {
				t.Errorf("%s: held for %v", name, took)
			}
			cancel()
			raw.Close()
		}
		for _, path := range paths(t, w.desk, tg.Relay(p.batch)) {
			if _, err := path.Heads.Head(t.Context(), p.ch, 0); err != nil {
				t.Errorf("a good reader over %s: %v", path.Kind, err)
			}
		}
	})
}

// watched notes which connections its listeners have closed, by where they came from.
type watched struct {
	*simnet.Host
	closed sync.Map
}

func (w *watched) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := w.Host.Listen(ctx, network, addr)
	return &watchedListener{l, w}, err
}

type watchedListener struct {
	net.Listener
	w *watched
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{c, l.w}, nil
}

type watchedConn struct {
	net.Conn
	w *watched
}

func (c *watchedConn) Close() error {
	c.w.closed.Store(c.RemoteAddr().String(), true)
	return c.Conn.Close()
}

// Whoever reads on when the handler has returned touches nothing of the request: a
// site behind over HTTP/2 that answers before it has the body lets that happen.
func TestBodyIsNotReadLate(t *testing.T) {
	var late io.Reader
	door := &turnstile{next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { late = r.Body }), places: wire.NewPlaces[netip.Prefix](-1, -1)}
	w := &endedWriter{ResponseRecorder: httptest.NewRecorder()}
	door.ServeHTTP(w, httptest.NewRequest("POST", "https://x/", strings.NewReader("body")))
	w.ended = true
	if n, err := late.Read(make([]byte, 4)); n != 0 || err == nil || w.touched {
		t.Errorf("%d bytes, %v, connection touched %t", n, err, w.touched)
	}
}

// endedWriter notices whoever comes too late.
type endedWriter struct {
	*httptest.ResponseRecorder
	ended, touched bool
}

func (w *endedWriter) SetReadDeadline(time.Time) error { w.touched = w.ended; return nil }

func (w *endedWriter) SetWriteDeadline(time.Time) error { return nil }

// Who reads nothing keeps what his answer was copied through: a short one is not
// copied through a large buffer.
func TestShortAnswersTakeLittle(t *testing.T) {
	var pool sync.Pool
	copied := func(size int64) int {
		w := &widest{ResponseWriter: httptest.NewRecorder()}
		s := &steady{w, &pool}
		src := io.LimitReader(noEnd{}, size)
		if n, err := io.Copy(s, src); n != size || err != nil {
			t.Fatalf("%d bytes of %d, %v", n, size, err)
		}
		return w.most
	}
	if n := copied(6000); n > 6000 {
		t.Errorf("6,000 bytes through a buffer of %d", n)
	}
	if n := copied(1 << 20); n != copyBytes {
		t.Errorf("a megabyte through a buffer of %d", n)
	}
}

// widest remembers the room behind the largest write.
type widest struct {
	http.ResponseWriter
	most int
}

func (w *widest) Write(b []byte) (int, error) {
	w.most = max(w.most, cap(b))
	return len(b), nil
}

type noEnd struct{}

func (noEnd) Read(b []byte) (int, error) { return len(b), nil }

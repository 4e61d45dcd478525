package dns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// front is an encrypted resolver on loopback: DoT, and DoH over the versions of
// HTTP that it is told to speak.
type front struct {
	t     *testing.T
	dot   string // "127.0.0.1:port"
	doh   string
	roots *x509.CertPool
	cert  *x509.Certificate

	hooks

	conns, queries atomic.Int64  // of DoT; of both
	changed        chan struct{} // told when a connection opens or ends
	mu             sync.Mutex
	protos         map[string]int
	sizes          map[int]int
	odd            []string // what should not have been asked like that
	open           int      // TCP connections
}

// hooks are what a test may set under the lock.
type hooks struct {
	answer func(req []byte) []byte
	// onDoT and onDoH, if not nil, take a connection and a request over.
	onDoT func(c net.Conn)
	onDoH http.HandlerFunc
}

func (f *front) now() hooks {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hooks
}

func (f *front) set(change func(h *hooks)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.hooks)
}

// newFront serves w's zone; it has HTTP/3 if h3 is set.
func newFront(t *testing.T, w *world, h3, h2 bool) *front {
	t.Helper()
	honest := w.honest()
	f := &front{t: t, protos: map[string]int{}, sizes: map[int]int{}, roots: x509.NewCertPool(), changed: make(chan struct{}, 1)}
	f.hooks.answer = func(req []byte) []byte { return honest(req, true)[0] }

	s := httptest.NewUnstartedServer(http.HandlerFunc(f.serveHTTP))
	s.EnableHTTP2 = h2
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			f.opens(1)
		case http.StateClosed:
			f.opens(-1)
		default: // it is the same connection still
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	f.cert, f.doh = s.Certificate(), s.Listener.Addr().String()
	f.roots.AddCert(f.cert)
	certs := s.TLS.Certificates

	if h3 {
		pc, err := net.ListenPacket("udp", f.doh)
		if err != nil {
			t.Fatal(err)
		}
		q := &http3.Server{Handler: http.HandlerFunc(f.serveHTTP), TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: certs})}
		done := make(chan struct{})
		go func() { defer close(done); _ = q.Serve(pc) }()
		t.Cleanup(func() { q.Close(); pc.Close(); <-done })
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certs})
	if err != nil {
		t.Fatal(err)
	}
	f.dot = ln.Addr().String()
	var wg sync.WaitGroup
	life, end := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				f.opens(1)
				defer f.opens(-1)
				defer c.Close()
				defer context.AfterFunc(life, func() { c.Close() })()
				f.conns.Add(1)
				if on := f.now().onDoT; on != nil {
					on(c)
					return
				}
				f.serveTLS(c, -1)
			})
		}
	})
	t.Cleanup(func() { end(); ln.Close(); wg.Wait() })
	return f
}

func (f *front) opens(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open += n
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// idle waits until no connection is open, and fails the test if one stays.
func (f *front) idle() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		f.mu.Lock()
		n := f.open
		f.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
			f.t.Errorf("%d connections stay open", n)
			return
		}
	}
}

// serveTLS answers so many questions, all if n is negative.
func (f *front) serveTLS(c net.Conn, n int) {
	buf := make([]byte, maxMessage)
	for ; n != 0; n-- {
		req, err := readFrame(c, buf)
		if err != nil {
			return
		}
		f.saw("DoT", req)
		if writeFrame(c, f.now().answer(req)) != nil {
			return
		}
	}
}

func (f *front) saw(proto string, req []byte) {
	f.queries.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.protos[proto]++
	f.sizes[len(req)]++
}

func (f *front) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if on := f.now().onDoH; on != nil {
		on(w, r)
		return
	}
	f.serveDoH(w, r)
}

func (f *front) serveDoH(w http.ResponseWriter, r *http.Request) {
	req, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
	if err != nil || len(req) < headerLen {
		return // who asked has had an answer meanwhile
	}
	f.saw(r.Proto, req)
	f.mu.Lock()
	for _, field := range []string{"User-Agent", "Cookie", "Accept-Encoding", "Accept-Language", "Referer"} {
		if v := r.Header.Get(field); v != "" {
			f.odd = append(f.odd, field+": "+v)
		}
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != dnsMessage || req[0]|req[1] != 0 {
		f.odd = append(f.odd, r.Method+" "+r.URL.String())
	}
	f.mu.Unlock()
	w.Header().Set("Content-Type", dnsMessage)
	w.Header().Set("Set-Cookie", "who=you")
	_, _ = w.Write(f.now().answer(req))
}

func (f *front) client(w *world, resolvers ...string) *Client {
	f.t.Helper()
	c, err := NewClient(ClientConfig{Network: w.nw, Zone: testZone, Resolvers: resolvers, Hurry: true, Trust: gateway.Trust{Roots: f.roots}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		c.probes.Wait()
		for _, r := range c.resolvers {
			if r.links != [2]*link{} || r.dials != [2]*dial{} {
				f.t.Error("a connection is still open")
			}
		}
		f.idle()
	})
	return c
}

// seen are copies of what was seen so far.
func (f *front) seen() (protos map[string]int, sizes map[int]int, odd []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.protos), maps.Clone(f.sizes), slices.Clone(f.odd)
}

func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }

func TestWays(t *testing.T) {
	pinned := func(f *front, name string, hash [32]byte) string {
		b := append([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(f.dot))}, f.dot...)
		b = append(append(b, 0x80|32), make([]byte, 32)...) // one that is no longer used, and
		b = append(append(b, 32), hash[:]...)
		return "sdns://" + base64.RawURLEncoding.EncodeToString(append(append(b, byte(len(name))), name...))
	}
	for _, c := range []struct {
		name   string
		h3, h2 bool
		to     func(f *front) string
		proto  string
	}{
		{"DoT to an address", false, true, func(f *front) string { return "tls://" + f.dot }, "DoT"},
		{"DoT, an address beside", false, true, func(f *front) string { return "tls://example.com:" + port(f.dot) + "@127.0.0.1" }, "DoT"},
		{"DoT, a name beside", false, true, func(f *front) string { return "tls://" + f.dot + "#example.com" }, "DoT"},
		{"DoT by stamp", false, true, func(f *front) string {
			return pinned(f, "example.com", sha256.Sum256(f.cert.RawTBSCertificate))
		}, "DoT"},
		{"DoH over HTTP/2", false, true, func(f *front) string { return "https://" + f.doh + "/dns-query" }, "HTTP/2.0"},
		{"DoH over HTTP/1.1", false, false, func(f *front) string { return "https://" + f.doh }, "HTTP/1.1"},
		{"DoH, an address beside", false, true, func(f *front) string { return "https://example.com:" + port(f.doh) + "/q@127.0.0.1" }, "HTTP/2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			f := newFront(t, w, c.h3, c.h2)
			cl := f.client(w, c.to(f))
			ctx := testContext(t)
			cl.enter() // one flight after the other over the same connection
			w.heads(ctx, cl)
			w.fetchAll(ctx, cl)
			cl.leave()
			protos, sizes, odd := f.seen()
			if protos[c.proto] == 0 || len(protos) != 1 {
				t.Errorf("asked over %v", protos)
			}
			if len(odd) > 0 {
				t.Errorf("asked oddly: %v", odd)
			}
			for size := range sizes {
				if size%paddedTo != 0 {
					t.Errorf("questions of %v bytes", sizes)
					break
				}
			}
			if c.proto == "DoT" && f.conns.Load() != 1 {
				t.Errorf("%d connections for %d questions", f.conns.Load(), f.queries.Load())
			}
		})
	}
	t.Run("another pin", func(t *testing.T) {
		w := newWorld(t)
		f := newFront(t, w, false, true)
		refused(t, w, f, pinned(f, "example.com", [32]byte{1}), "DNS stamp")
	})
}

// tcpless is a network on which no TCP connection can be made.
type tcpless struct{ loopback }

func (n *tcpless) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no way")
}

// HTTP/3 alone, and HTTP/3 that connects beside HTTP/2: whichever is ready first
// serves.
func TestHTTP3(t *testing.T) {
	w := newWorld(t)
	f := newFront(t, w, true, true)
	c, err := NewClient(ClientConfig{
		Network: &tcpless{}, Zone: testZone, Resolvers: []string{"https://" + f.doh}, Hurry: true, Trust: gateway.Trust{Roots: f.roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.heads(testContext(t), c)
	w.fetchAll(testContext(t), c)
	if protos, _, odd := f.seen(); protos["HTTP/3.0"] == 0 || len(protos) != 1 || len(odd) > 0 {
		t.Errorf("asked over %v, oddly: %v", protos, odd)
	}
	both := f.client(w, "https://"+f.doh)
	w.fetchAll(testContext(t), both)
}

// HTTP/3 that is let through as far as the handshake is not tried again at once.
func TestHTTP3Useless(t *testing.T) {
	w := newWorld(t)
	f := newFront(t, w, true, true)
	f.set(func(h *hooks) {
		h.onDoH = func(rw http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 3 {
				http.Error(rw, "no", http.StatusMisdirectedRequest)
				return
			}
			f.serveDoH(rw, r)
		}
	})
	w.fetchAll(testContext(t), f.client(w, "https://"+f.doh))
	if protos, _, _ := f.seen(); protos["HTTP/2.0"] == 0 {
		t.Errorf("asked over %v", protos)
	}
}

// refused asks for a head, and expects an error and no question at the server.
func refused(t *testing.T, w *world, f *front, to, why string) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	c := f.client(w, to)
	c.enter()
	defer c.leave()
	r := c.resolvers[0]
	if _, err := r.open(ctx, true); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %v", to, err)
	}
	if !r.isCool() {
		t.Errorf("%s is not left alone", to)
	}
	if n := f.queries.Load(); n > 0 {
		t.Errorf("%s was asked %d questions", to, n)
	}
}

// Nobody is asked anything who can't show the right certificate.
func TestWrongCertificate(t *testing.T) {
	w := newWorld(t)
	f := newFront(t, w, true, true)
	refused(t, w, f, "tls://other.test:"+port(f.dot)+"@127.0.0.1", "certificate")
	refused(t, w, f, "https://other.test:"+port(f.doh)+"/dns-query@127.0.0.1", "certificate")
	refused(t, w, f, "tls://"+f.dot+"#other.test", "certificate")
	f.roots = x509.NewCertPool()
	refused(t, w, f, "tls://"+f.dot, "certificate")
	refused(t, w, f, "https://"+f.doh, "certificate")
}

// Whatever a server does, what others bring comes, and is what was published.
func TestHostileWays(t *testing.T) {
	raw := func(do func(c net.Conn, req []byte)) func(f *hooks) {
		return func(f *hooks) {
			f.onDoT = func(c net.Conn) {
				buf := make([]byte, maxMessage)
				for {
					req, err := readFrame(c, buf)
					if err != nil {
						return
					}
					do(c, req)
				}
			}
		}
	}
	page := func(h http.HandlerFunc) func(f *hooks) { return func(f *hooks) { f.onDoH = h } }
	body := func(make func(req []byte) []byte) func(f *hooks) {
		return page(func(w http.ResponseWriter, r *http.Request) {
			req, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", dnsMessage)
			_, _ = w.Write(make(req))
		})
	}
	endless := func(write func([]byte) (int, error)) {
		junk := make([]byte, 1<<16)
		for {
			if _, err := write(junk); err != nil {
				return
			}
		}
	}
	for name, spoil := range map[string]func(f *hooks){
		"DoT garbage": raw(func(c net.Conn, req []byte) { _ = writeFrame(c, append(bytes.Clone(req[:2]), random("junk", 300)...)) }),
		"DoT huge":    raw(func(c net.Conn, _ []byte) { _, _ = c.Write(append([]byte{0xff, 0xff}, make([]byte, 0xffff)...)) }),
		"DoT endless": raw(func(c net.Conn, _ []byte) { endless(c.Write) }),
		"DoT frames without end": raw(func(c net.Conn, req []byte) {
			for writeFrame(c, append([]byte{req[0] ^ 1}, req[1:]...)) == nil {
			}
		}),
		"DoT half a frame": raw(func(c net.Conn, _ []byte) { _, _ = c.Write([]byte{4, 0, 1, 2, 3}) }),
		"DoT silence":      raw(func(net.Conn, []byte) {}),
		"DoT wrong id":     raw(func(c net.Conn, req []byte) { b := withTXT(req, []byte("x")); b[0] ^= 1; _ = writeFrame(c, b) }),
		"DoT wrong question": raw(func(c net.Conn, req []byte) {
			b := withTXT(req, []byte("x"))
			b[headerLen+3] ^= 1
			_ = writeFrame(c, b)
		}),
		"DoT forged":         raw(func(c net.Conn, req []byte) { _ = writeFrame(c, withTXT(req, []byte("\x00forged"))) }),
		"DoT closes at once": func(f *hooks) { f.onDoT = func(net.Conn) {} },
		"DoH garbage":        body(func([]byte) []byte { return random("junk", 300) }),
		"DoH empty":          body(func([]byte) []byte { return nil }),
		"DoH huge":           body(func([]byte) []byte { return make([]byte, 1<<20) }),
		"DoH endless": page(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", dnsMessage)
			endless(w.Write)
		}),
		"DoH silence":        page(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		"DoH wrong question": body(func(req []byte) []byte { b := withTXT(req, []byte("x")); b[headerLen+3] ^= 1; return b }),
		"DoH wrong id":       body(func(req []byte) []byte { b := withTXT(req, []byte("x")); b[0] ^= 1; return b }),
		"DoH forged":         body(func(req []byte) []byte { return withTXT(req, []byte("\x00forged")) }),
		"DoH NXDOMAIN":       body(func(req []byte) []byte { return withCode(req, 3) }),
		"DoH error page":     page(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<h1>no</h1>", http.StatusBadGateway) }),
		"DoH login page": page(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<h1>pay first</h1>")
		}),
		"DoH large header": page(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			bad, good := newFront(t, w, false, true), newFront(t, w, false, true)
			bad.set(spoil)
			bad.roots.AddCert(good.cert)
			to := "tls://" + bad.dot
			if strings.HasPrefix(name, "DoH") {
				to = "https://" + bad.doh
			}
			c := bad.client(w, to, "tls://"+good.dot)
			w.heads(testContext(t), c)
			w.fetchAll(testContext(t), c)
			if good.queries.Load() == 0 {
				t.Error("the good one was not asked")
			}
		})
	}
}

// A redirect is not followed: it could lead anywhere.
func TestRedirect(t *testing.T) {
	w := newWorld(t)
	f, other := newFront(t, w, false, true), newFront(t, w, false, true)
	f.roots.AddCert(other.cert)
	f.set(func(h *hooks) {
		h.onDoH = func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://"+other.doh+"/dns-query", http.StatusTemporaryRedirect)
		}
	})
	c := f.client(w, "https://"+f.doh, "tls://"+f.dot)
	w.fetchAll(testContext(t), c)
	if n := other.queries.Load(); n > 0 {
		t.Errorf("%d questions followed the redirect", n)
	}
	if !c.resolvers[0].isCool() && c.resolvers[0].vain == 0 {
		t.Error("the one that redirects is not left alone")
	}
}

// Servers end connections when they like; the next one is opened at once.
func TestServerCloses(t *testing.T) {
	w := newWorld(t)
	f := newFront(t, w, false, true)
	f.set(func(h *hooks) { h.onDoT = func(c net.Conn) { f.serveTLS(c, 3) } })
	w.heads(testContext(t), f.client(w, "tls://"+f.dot))
	if f.conns.Load() < 2 {
		t.Errorf("%d connections", f.conns.Load())
	}
}

// What goes through a resolver is the same whichever way it is asked: also that
// it spoils bytes, and Small records have to do.
func TestSmallOverTLS(t *testing.T) {
	w := newWorld(t)
	f := newFront(t, w, false, true)
	honest := f.answer
	f.set(func(h *hooks) {
		h.answer = func(req []byte) []byte {
			resp := honest(req)
			if resp[7] == 0 {
				return resp
			}
			txt := questionEnd(resp) + 10
			for i, end := txt+2, txt+2+int(binary.BigEndian.Uint16(resp[txt:])); i < end; i++ {
				for n := int(resp[i]); n > 0; n-- {
					if i++; resp[i] > 127 {
						resp[i] = '?'
					}
				}
			}
			return resp
		}
	})
	w.heads(testContext(t), f.client(w, "https://"+f.doh))
	if _, sizes, _ := f.seen(); len(sizes) != 1 {
		t.Errorf("questions of %v bytes", sizes)
	}
}

// closed is a network that refuses all, and counts.
type closed struct {
	loopback
	dials atomic.Int64
}

func (n *closed) Dial(context.Context, string, string) (net.Conn, error) {
	n.dials.Add(1)
	return nil, errors.New("connection refused")
}

func (n *closed) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, transport.ErrUnsupported
}

// A resolver that can't be reached is left alone for longer and longer.
func TestCooling(t *testing.T) {
	for _, to := range []string{"tcp://192.0.2.1", "tls://192.0.2.1", "https://192.0.2.1/dns-query"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			nw := &closed{}
			c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{to}, Hurry: true})
			if err != nil {
				t.Fatal(err)
			}
			for range 3600 {
				if _, err := c.Head(t.Context(), w.ch, 0); err == nil || !errors.Is(err, errSilent) {
					t.Fatalf("%s: %v", to, err)
				} else if !strings.Contains(err.Error(), "refused") {
					t.Fatalf("%s does not say why: %v", to, err)
				}
				time.Sleep(time.Second)
			}
			// 1, 2, 4 … 256 s, then every five minutes.
			if n := nw.dials.Load(); n < 12 || n > 30 {
				t.Errorf("%s: %d dials in an hour", to, n)
			}
		})
	}
}

// However it is asked, a resolver gets ten questions a second after a burst of 32.
func TestRateOverStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"tcp://192.0.2.1"}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w.fetchAll(t.Context(), c)
		took, asked := time.Since(began), nw.queries.Load()
		if least := time.Duration(asked-quietBurst-1) * time.Second / quietRate; asked < 2*quietBurst || took < least || took > 2*least {
			t.Errorf("%d questions in %v", asked, took)
		}
	})
}

// shutting is a network where every connection is closed as soon as it is open.
type shutting struct{ closed }

func (n *shutting) Dial(context.Context, string, string) (net.Conn, error) {
	n.dials.Add(1)
	near, far := net.Pipe()
	far.Close()
	return near, nil
}

// So is one that takes connections and ends them without an answer.
func TestCoolingOfClosers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &shutting{}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"tcp://192.0.2.1"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 3600 {
			if _, err := c.Head(t.Context(), w.ch, 0); !errors.Is(err, errSilent) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := nw.dials.Load(); n < 12 || n > 30 {
			t.Errorf("%d connections in an hour", n)
		}
	})
}

// freezing lets so many bytes of each connection through, then nothing, as some
// censors do.
type freezing struct {
	*fakeNet
	limit int
	conns atomic.Int64
}

func (n *freezing) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.fakeNet.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	n.conns.Add(1)
	return &frozen{Conn: c, left: n.limit}, nil
}

type frozen struct {
	net.Conn
	left int
}

func (c *frozen) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if c.left -= n; c.left >= 0 || err != nil {
			return n, err
		}
	}
}

func TestFrozenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &freezing{fakeNet: &fakeNet{rtt: 100 * time.Millisecond, answer: w.honest()}, limit: 16 << 10}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"tcp://192.0.2.1"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		w.heads(ctx, c)
		if nw.conns.Load() == 0 {
			t.Error("nothing was asked over TCP")
		}
		c.enter()
		w.fetchAll(ctx, c)
		c.leave()
		if nw.conns.Load() < 5 {
			t.Errorf("%d connections", nw.conns.Load())
		}
	})
}

func TestPadding(t *testing.T) {
	for n := range maxName {
		for _, class := range []record.Class{record.Small, record.Large} {
			msg := padQuery(appendQuery(nil, 7, strings.Repeat("a", n)+".test", class))
			if len(msg)%paddedTo != 0 || len(msg) > 2*paddedTo {
				t.Errorf("%d characters: %d bytes", n, len(msg))
			}
			if size := binary.BigEndian.Uint16(msg[len(msg)-int(optLen(msg))-2:]); int(size) != int(optLen(msg)) {
				t.Errorf("option of %d bytes", size)
			}
		}
	}
}

// optLen is the length of what stands behind the OPT record's length.
func optLen(msg []byte) uint16 {
	at := questionEnd(msg) + 1 + 2 + 2 + 4 // root, type, size, flags
	return binary.BigEndian.Uint16(msg[at:])
}

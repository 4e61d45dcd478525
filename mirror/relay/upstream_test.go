package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// behind runs a website with h in front of nothing but itself.
func behind(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func upstream(t *testing.T, url string, log io.Writer) *Upstream {
	t.Helper()
	u, err := NewUpstream(&netreal.Network{}, url, nil, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// listen serves a site as a relay's listener does.
func listen(t *testing.T, cert tls.Certificate, h http.Handler) *wire.Server {
	t.Helper()
	s, err := wire.Listen(t.Context(), &netreal.Network{}, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ownCert(t *testing.T) tls.Certificate {
	t.Helper()
	k, err := loadKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return k.cert
}

// A request reaches the site behind as it came, but for what is not its business.
func TestUpstreamHearsWhatWasAsked(t *testing.T) {
	var uri, host string
	var header http.Header
	var body []byte
	url := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uri, host, header = r.RequestURI, r.Host, r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Alt-Svc", `h3=":9"`)
		w.Header().Set("Server", "nginx")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}))
	s := listen(t, ownCert(t), upstream(t, url, io.Discard))
	for _, path := range []string{"/", "//double//slash", "/a/../b/./c", "/%2e%2e/%2Fx?q=%zz;a=b&c", "/" + strings.Repeat("A", 32) + "/head/x?", "*"} {
		answer := exchange(t, s.Addr().String(), "POST "+path+" HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: u\r\nX-Forwarded-For: 198.51.100.9\r\n"+
			"Forwarded: for=198.51.100.9\r\nX-Real-IP: 198.51.100.9\r\nCF-Connecting-IP: 198.51.100.9\r\nX-Forwarded-Proto: gopher\r\n"+
			"Connection: close, X-Mine\r\nX-Mine: 1\r\nProxy-Authorization: x\r\nTE: gzip\r\nAccept-Encoding: zstd\r\nContent-Length: 3\r\n\r\nabc")
		if uri != path || host != "www.example.org" || string(body) != "abc" {
			t.Errorf("%s: asked for %s of %s with %q", path, uri, host, body)
		}
		want := http.Header{
			"User-Agent": {"u"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"www.example.org"}, "Accept-Encoding": {"zstd"}, "Content-Length": {"3"},
		}
		if d := cmp.Diff(want, header); d != "" {
			t.Errorf("%s: %s", path, d)
		}
		want1 := "HTTP/1.1 418 I'm a teapot\r\nAlt-Svc: h3=\":-\"; ma=86400\r\nContent-Length: 15\r\nContent-Type: text/plain; charset=utf-8\r\n" +
			"Date: -\r\nServer: nginx\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: close\r\n\r\nshort and stout"
		if d := cmp.Diff(want1, answer); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
}

// A site elsewhere is asked for by its own name, over TLS, and what it says of
// itself is turned into what visitors see.
func TestUpstreamElsewhere(t *testing.T) {
	var host atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.Store(r.Host + " " + r.Proto)
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	nw := &named{Network: &netreal.Network{}, to: s.Listener.Addr().String()}
	u, err := NewUpstream(nw, "https://example.com", roots, slog.New(slog.DiscardHandler)) // httptest's certificate is for that name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	front := listen(t, ownCert(t), u)
	for to, want := range map[string]string{
		"https://example.com/a?b=c%23d": "/a?b=c#d", "https://EXAMPLE.com": "/", "https://example.com//evil.example/": "https://example.com//evil.example/",
		"https://other.example/": "https://other.example/", "http://example.com/": "http://example.com/", "/x": "/x",
	} {
		answer := exchange(t, front.Addr().String(), "GET /?to="+to+" HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%s became %s, want %s", to, got, want)
		}
		if host.Load() != "example.com HTTP/2.0" {
			t.Errorf("asked %v", host.Load())
		}
	}
}

// named leads every name to one address.
type named struct {
	transport.Network
	to string
}

func (n *named) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return n.Network.Dial(ctx, network, n.to)
}

// TestUpstreamGoesAway: a site behind that says farewell to a connection while a short
// request comes gets it over another one (RFC 9113, section 6.8).
func TestUpstreamGoesAway(t *testing.T) {
	cert := ownCert(t)
	for size, want := range map[int]int{1000: http.StatusOK, maxKept: http.StatusOK, maxKept + 1: http.StatusBadGateway} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{
				TLSConfig: &tls.Config{NextProtos: []string{"h2"}}, // it is told that it may
				Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }),
			}
			go func() { _ = server.Serve(&butFirst{Listener: ln, first: func(c net.Conn) { farewell(c, size) }}) }() // ends with Close
			t.Cleanup(func() { server.Close() })
			u := upstream(t, "https://"+ln.Addr().String(), t.Output())
			u.transport.TLSClientConfig.InsecureSkipVerify = true
			sent := string(noise(1, size))
			rec := httptest.NewRecorder()
			u.ServeHTTP(rec, httptest.NewRequest("POST", "https://www.example.org/", strings.NewReader(sent)))
			u.Close()
			if rec.Code != want || want == http.StatusOK && rec.Body.String() != sent {
				t.Errorf("%d, %d bytes came back, want %d", rec.Code, rec.Body.Len(), want)
			}
		})
	}
}

// butFirst is a listener whose first connection somebody else has.
type butFirst struct {
	net.Listener
	once  sync.Once
	first func(c net.Conn)
}

func (l *butFirst) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		took := false
		l.once.Do(func() {
			took = true
			go func() {
				defer c.Close()
				l.first(c)
			}()
		})
		if took {
			return l.Accept()
		}
	}
	return c, err
}

// farewell waits for so much of a request and says that it has not looked at it.
func farewell(c net.Conn, size int) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			if size -= len(data.Data()); size == 0 {
				_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
			}
		}
	}
}

// What the listener says of HTTP/3 survives an interim response.
func TestUpstreamInterimResponse(t *testing.T) {
	url := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "done")
	}))
	s := listen(t, ownCert(t), upstream(t, url, io.Discard))
	answer := exchange(t, s.Addr().String(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	hints, final, _ := strings.Cut(answer, "\r\n\r\n")
	if !strings.HasPrefix(hints, "HTTP/1.1 103 ") || !strings.HasPrefix(final, "HTTP/1.1 200 OK\r\nAlt-Svc: h3=") {
		t.Errorf("answer %q", answer)
	}
}

// A site that is not there is answered for, and the log says why and not for whom.
func TestUpstreamDead(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	var log bytes.Buffer
	s := listen(t, ownCert(t), upstream(t, "http://"+ln.Addr().String(), &log))
	for range 3 {
		answer := exchange(t, s.Addr().String(), "GET /secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 502 Bad Gateway\r\nAlt-Svc: h3=") || !strings.HasSuffix(answer, "\r\n\r\n502 Bad Gateway\n") {
			t.Errorf("answer %q", answer)
		}
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || strings.Contains(said, "secret") {
		t.Errorf("log: %s", said)
	}
}

type slowError struct{ error }

func (slowError) Timeout() bool   { return true }
func (slowError) Temporary() bool { return true }

func TestUpstreamSlowOrBusy(t *testing.T) {
	u := upstream(t, "http://127.0.0.1:1", io.Discard)
	w := httptest.NewRecorder()
	u.fail(w, httptest.NewRequest("GET", "/", nil), fmt.Errorf("wrapped: %w", slowError{errors.New("slow")}))
	if w.Code != http.StatusGatewayTimeout {
		t.Errorf("a slow site: %d", w.Code)
	}
	// One visitor takes a share, and all together what there is.
	ask := func(from string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		u.ServeHTTP(w, r)
		return w.Code
	}
	for range maxForwardedPerAddress {
		u.slots.enter(visitorOf("[2001:db8::1]:1"), func() {})
	}
	if code := ask("[2001:db8:0:1::1]:2"); code != http.StatusServiceUnavailable {
		t.Errorf("one visitor too busy: %d", code)
	}
	if code := ask("[2001:db8:1::1]:1"); code != http.StatusBadGateway {
		t.Errorf("another one: %d", code)
	}
	u.slots = newSlots(maxForwarded, maxForwardedPerAddress)
	for i := range maxForwarded {
		u.slots.enter(visitorOf(fmt.Sprintf("192.0.2.%d:1", i%200)), func() {})
	}
	if code := ask("198.51.100.1:1"); code != http.StatusServiceUnavailable {
		t.Errorf("a busy site: %d", code)
	}
	w = httptest.NewRecorder()
	u.ServeHTTP(w, httptest.NewRequest("CONNECT", "http://192.0.2.1:25/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: %d", w.Code)
	}
}

// A WebSocket passes, and ends with the relay.
func TestUpstreamWebSocket(t *testing.T) {
	gone := make(chan error, 1)
	url := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") == "" {
			t.Errorf("header %v", r.Header)
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		b := make([]byte, 4)
		if _, err := io.ReadFull(rw, b); err == nil {
			_, _ = c.Write(bytes.ToUpper(b))
		}
		_, err = rw.Read(b)
		gone <- err
	}))
	u := upstream(t, url, io.Discard)
	s := listen(t, ownCert(t), u)
	c, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\nping")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Alt-Svc") == "" {
		t.Fatalf("%v %v", resp, err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "PING" {
		t.Fatalf("%q %v", b, err)
	}
	u.Close()
	if err := <-gone; err == nil {
		t.Error("the site behind heard more")
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the visitor heard more")
	}
}

func TestUpstreamAddresses(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "https://www.example.org": true, "https://www.example.org/": true, "http://[::1]:80": true,
		"": false, "www.example.org": false, "ftp://x": false, "http://": false, "http://x/y": false, "http://x?y": false,
		"http://u:p@x": false, "http://x#y": false, "http://%zz": false, "unix:/run/x": false,
	} {
		u, err := NewUpstream(&netreal.Network{}, url, nil, slog.New(slog.DiscardHandler))
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", url, err)
		}
		if err == nil {
			u.Close()
		}
	}
}

// A relay whose website is elsewhere serves its readers, website or none.
func TestRelayBeforeADeadSite(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	p := newPress(t, "dead site")
	r := start(t, Config{Site: "http://" + ln.Addr().String()})
	push(t, r, p.edition(t, 0))
	for _, path := range paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(p.batch)) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := path.Heads.Head(ctx, p.ch, 0); err != nil {
			t.Errorf("%s: %v", path.Name, err)
		}
		cancel()
	}
	if answer := exchange(t, r.Addr().String(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 502 ") {
		t.Error(answer)
	}
}

// Behind a relay a site answers as it does alone, but for Alt-Svc, and for the
// order of its fields: they come sorted, as from every proxy of this kind.
func TestUpstreamAnswersAsItself(t *testing.T) {
	url := behind(t, siteOf(t, siteFolder(t)))
	r := start(t, Config{Site: url})
	altSvc := regexp.MustCompile("Alt-Svc: [^\r]*\r\n")
	for _, path := range []string{"/", "/index.html", "/style.css", "/sub", "/sub/", "/sub/page.html", "/nothing", "/%67arlic.html", "/a/../garlic.html", "//garlic.html", "/.hidden", "/x?y=%zz;z"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "BREW"} {
			for _, f := range []string{"X: 1", "Range: bytes=0-3", "If-None-Match: *", "If-Modified-Since: Fri, 31 Dec 2038 23:59:59 GMT", "Accept-Encoding: gzip"} {
				request := method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + f + "\r\n\r\n"
				want := plainly(t, strings.TrimPrefix(url, "http://"), request)
				got := exchange(t, r.Addr().String(), request)
				if !altSvc.MatchString(got) {
					t.Errorf("%q: no Alt-Svc", request)
				}
				if d := cmp.Diff(sorted(want), sorted(altSvc.ReplaceAllString(got, ""))); d != "" {
					t.Errorf("%q: %s", request, d)
				}
			}
		}
	}
}

// sorted is an answer with the fields of its head sorted.
func sorted(answer string) string {
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n\n" + body
}

// The site behind hears which requests came as early data: those that may be a
// repetition (RFC 8470, section 5.1). Others have waited, whatever the
// connection was like when they came.
func TestUpstreamHearsOfEarlyData(t *testing.T) {
	var heard string
	u := upstream(t, behind(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard = r.Header.Get("Early-Data") })), io.Discard)
	for _, c := range []struct {
		method   string
		complete bool
		want     string
	}{{"GET", false, "1"}, {"HEAD", false, "1"}, {"POST", false, ""}, {"GET", true, ""}, {"PUT", true, ""}} {
		r := httptest.NewRequest(c.method, "https://x/", nil)
		r.TLS = &tls.ConnectionState{HandshakeComplete: c.complete}
		u.ServeHTTP(httptest.NewRecorder(), r)
		if heard != c.want {
			t.Errorf("%s, handshake complete %t: Early-Data %q", c.method, c.complete, heard)
		}
	}
}

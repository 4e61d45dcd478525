package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/time/rate"

	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// upstreamWait is how long the site behind may take over its handshake, and
	// upstreamThink to begin an answer once it has the whole request.
	upstreamWait  = 10 * time.Second
	upstreamThink = time.Minute
	// upgradeIdle is how long a WebSocket may be silent.
	upgradeIdle = 10 * time.Minute
	// maxForwarded bounds the requests that are at the site behind at once,
	// WebSockets included, and maxForwardedPerAddress those of one visitor; see slots.
	maxForwarded           = 512
	maxForwardedPerAddress = maxForwarded / 4
	// maxUpstreamHeader bounds the header of its answers, in bytes.
	maxUpstreamHeader = 64 << 10
)

// Upstream is a website that another server has, shown as if it were here.
// Make one with NewUpstream.
//
// A request goes there with its path, query, body and header as they came, but
// for what belongs to one connection (RFC 9110, section 7.6.1) and for whatever
// names the visitor's address: that server keeps a log. It hears of the scheme
// and the name asked for in X-Forwarded-Proto and X-Forwarded-Host, and of early
// data in Early-Data (RFC 8470, section 5.1). WebSockets pass over HTTP/1.1.
//
// A site behind that can't be reached is answered for with 502, one that does
// not answer in time with 504, one that has too much to do with 503 (see slots), and
// who sends half a request with 400.
type Upstream struct {
	at        *url.URL
	keepHost  bool
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	slots     *slots
	complain  rate.Sometimes
	log       *slog.Logger
	life      context.Context
	end       context.CancelFunc
}

var _ http.Handler = (*Upstream)(nil)

// NewUpstream returns the site at rawURL, which is "http" or "https", a host and
// perhaps a port, and nothing else. Of a host that is a name the site is asked
// for by that name, as if visitors had gone there; a host that is an address, or
// localhost, is a server of the volunteer's own and hears the name that visitors
// asked for. Connections go through network; roots is nil for the system's
// authorities. log hears of a site that can't be reached, at most once a minute,
// and of no visitor. Close ends what is open.
func NewUpstream(network transport.Network, rawURL string, roots *x509.CertPool, log *slog.Logger) (*Upstream, error) {
	at, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("not a URL; like http://127.0.0.1:8080 or https://www.example.org")
	}
	if at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.User != nil ||
		strings.Trim(at.Path, "/") != "" || at.RawQuery != "" || at.ForceQuery || at.Fragment != "" {
		return nil, errors.New("only scheme and host; like http://127.0.0.1:8080 or https://www.example.org")
	}
	_, err = netip.ParseAddr(at.Hostname())
	u := &Upstream{
		at: at, keepHost: err == nil || at.Hostname() == "localhost",
		slots: newSlots(maxForwarded, maxForwardedPerAddress), complain: rate.Sometimes{Interval: time.Minute}, log: log,
	}
	u.life, u.end = context.WithCancel(context.Background())
	u.transport = &http.Transport{
		DialContext:     gateway.DialWithin(u.life, network),
		TLSClientConfig: &tls.Config{RootCAs: roots}, TLSHandshakeTimeout: upstreamWait, ForceAttemptHTTP2: true,
		DisableCompression: true, // what the visitor accepts is asked for, and handed on as it comes
		MaxConnsPerHost:    maxForwarded, MaxIdleConnsPerHost: 32, IdleConnTimeout: 90 * time.Second,
		ResponseHeaderTimeout: upstreamThink, MaxResponseHeaderBytes: maxUpstreamHeader,
	}
	u.proxy = &httputil.ReverseProxy{
		Rewrite: u.rewrite, Transport: u.transport, ModifyResponse: u.modify, ErrorHandler: u.fail,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // it would name visitors
	}
	return u, nil
}

// Close ends all connections to the site behind, and with them what hangs on
// them; from then on every answer is 502.
func (u *Upstream) Close() error {
	u.end()
	u.transport.CloseIdleConnections()
	return nil
}

// visit is what is remembered of a request while it is at the site behind.
type visit struct {
	// altSvc is what the listener says of other ways here. It has to survive an
	// interim response, after which httputil begins with an empty header.
	altSvc []string
	// broken means that the visitor sent half a body, or a malformed one, and ended that
	// his slot was needed.
	broken, ended atomic.Bool
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

// body is a visitor's, and remembers whose fault it was. As long as it is short it
// remembers all of itself: a server behind may close a connection while a request comes,
// to say that it has not looked at it (RFC 9113, section 6.8), and nginx does so after
// every thousandth. Then it goes there again over another.
type body struct {
	ctx   context.Context // the request's
	from  io.ReadCloser
	visit *visit

	mu   sync.Mutex // also held to read
	left int64      // of the length that was said, < 0 for none
	n    int64      // how much has come
	kept []byte     // all of that, or nil
	err  error      // behind it
}

// maxKept is how much of a body is kept, in bytes.
const maxKept = 32 << 10

// again returns the body from its beginning.
func (b *body) again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n > int64(len(b.kept)) {
		return nil, errTooLong
	}
	return &reading{of: b}, nil
}

var errTooLong = errors.New("the body was too long to be kept")

// reading is one time that a body is read. An earlier one may still wait for what is to
// come: the later one has that of it, too.
type reading struct {
	of *body
	at int64
}

func (r *reading) Read(p []byte) (n int, err error) {
	b := r.of
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { r.at += int64(n) }()
	switch {
	case b.ctx.Err() != nil: // nobody touches the body of a request that is over
		return 0, b.ctx.Err()
	case r.at < int64(len(b.kept)):
		return copy(p, b.kept[r.at:]), nil
	case r.at < b.n:
		return 0, errTooLong
	case b.err != nil:
		return 0, b.err
	}
	n, err = b.from.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if err != nil && err != io.EOF || err == io.EOF && b.left > 0 {
		b.visit.broken.Store(true)
	}
	if b.n == int64(len(b.kept)) && b.n+int64(n) <= maxKept {
		b.kept = append(b.kept, p[:n]...)
	} else {
		b.kept = nil
	}
	b.n, b.err = b.n+int64(n), err
	return n, err
}

// Close leaves the body to the server.
func (r *reading) Close() error { return nil }

// ServeHTTP implements http.Handler.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		// Handed on, it would make an open proxy of us.
		w.Header().Set("Allow", "GET, HEAD, POST, OPTIONS")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	if !httpguts.ValidHeaderFieldName(r.Method) { // a token, as those are
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	v := &visit{altSvc: w.Header()["Alt-Svc"]}
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), visitKey{}, v))
	defer cancel()
	sent := r.Body
	leave, ok := u.slots.enter(visitorOf(r.RemoteAddr), func() {
		v.ended.Store(true)
		cancel()
		if p, ok := sent.(*patient); ok {
			p.stop() // whoever reads it waits for the visitor
		}
	})
	if !ok {
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	defer leave()
	defer context.AfterFunc(u.life, cancel)() // a WebSocket outlives the server that it came to
	w.Header().Del("Alt-Svc")
	r = r.WithContext(ctx)
	if r.Body != nil {
		b := &body{ctx: ctx, from: r.Body, visit: v, left: r.ContentLength}
		r.Body, r.GetBody = &reading{of: b}, b.again
	}
	u.proxy.ServeHTTP(&upgradable{w, ctx}, r)
}

// upgradable is a visitor's side of a forwarded request. It lets a connection that
// became a WebSocket end when either side or the relay does, or nothing was said for
// upgradeIdle: the server that it came to has forgotten it.
type upgradable struct {
	http.ResponseWriter
	ctx context.Context
}

// Unwrap is for http.ResponseController.
func (w *upgradable) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the site's fields and no more: a Content-Type that it has not
// given the server would guess.
func (w *upgradable) WriteHeader(code int) {
	if _, ok := w.Header()["Content-Type"]; !ok && code >= http.StatusOK {
		w.Header()["Content-Type"] = nil
	}
	w.ResponseWriter.WriteHeader(code)
}

// Hijack implements http.Hijacker.
func (w *upgradable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(w.ctx, func() { c.Close() })
	return &upgraded{c, rw.Reader}, rw, nil
}

type upgraded struct {
	net.Conn
	read *bufio.Reader // what came right behind the request lies here
}

func (c *upgraded) Read(b []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(upgradeIdle))
	return c.read.Read(b)
}

func (c *upgraded) Write(b []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(upgradeIdle))
	return c.Conn.Write(b)
}

// CloseWrite is called when the site behind has said its last; nobody listens
// to the visitor any more.
func (c *upgraded) CloseWrite() error { return c.Close() }

// addressFields are what servers and CDNs call the visitor's address, besides
// Forwarded and X-Forwarded-For, which httputil takes out.
var addressFields = []string{
	"X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6",
	"Fastly-Client-Ip", "Fly-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For",
}

func (u *Upstream) rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme, pr.Out.URL.Host = u.at.Scheme, u.at.Host
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // httputil drops what it can't parse
	if !u.keepHost {
		pr.Out.Host = ""
	}
	// h2c would make a tunnel of the connection, past all that is bounded here.
	if !strings.EqualFold(pr.Out.Header.Get("Upgrade"), "websocket") {
		pr.Out.Header.Del("Upgrade")
		pr.Out.Header.Del("Connection")
		pr.Out.Header.Del("Http2-Settings")
	}
	for _, f := range addressFields {
		pr.Out.Header.Del(f)
	}
	if pr.In.Host != "" {
		pr.Out.Header.Set("X-Forwarded-Host", pr.In.Host)
	}
	pr.Out.Header.Set("X-Forwarded-Proto", "https")
	// Other methods have waited for the end of the handshake.
	if repeatable := pr.In.Method == http.MethodGet || pr.In.Method == http.MethodHead; repeatable && pr.In.TLS != nil && !pr.In.TLS.HandshakeComplete {
		pr.Out.Header.Set("Early-Data", "1")
	}
}

func (u *Upstream) modify(resp *http.Response) error {
	// What it says of its own ports is not true of ours.
	resp.Header.Del("Alt-Svc")
	if alt := visitOf(resp.Request.Context()).altSvc; len(alt) > 0 {
		resp.Header["Alt-Svc"] = alt
	}
	// Nor is its name, if visitors have come by another.
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil && !u.keepHost && to.Scheme == u.at.Scheme && strings.EqualFold(to.Host, u.at.Host) {
		to.Scheme, to.Host = "", ""
		if to.Path == "" {
			to.Path = "/"
		}
		if !strings.HasPrefix(to.Path, "//") { // without its host that would name another one
			resp.Header.Set("Location", to.String())
		}
	}
	return nil
}

// fail answers for a site that does not.
func (u *Upstream) fail(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r.Context())
	if len(v.altSvc) > 0 {
		w.Header()["Alt-Svc"] = v.altSvc
	}
	status := http.StatusBadGateway
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		status = http.StatusGatewayTimeout
	}
	if v.ended.Load() {
		status = http.StatusServiceUnavailable
	} else if v.broken.Load() {
		status = http.StatusBadRequest
	} else if r.Context().Err() == nil { // else it was the visitor who went
		u.complain.Do(func() { u.log.Warn("the website behind does not answer", "err", err) })
	}
	http.Error(w, fmt.Sprintf("%d %s", status, http.StatusText(status)), status)
}

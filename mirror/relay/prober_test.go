package relay

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/prober"
	wire "tamizdat/transport/relay"
)

// minProbes is the least that a comparison has to ask.
const minProbes = 300

// counted tells how much work a website was given.
type counted struct {
	http.Handler
	calls atomic.Int64
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.calls.Add(1)
	c.Handler.ServeHTTP(w, r)
}

// compared is a relay beside a plain website that differs in nothing else.
type compared struct {
	relay, plain   prober.Server
	atRelay, alone *counted
	paths          prober.Paths
}

// compareSites runs both. site makes the website twice, and plant may spoil the
// plain one.
func compareSites(t *testing.T, site func() http.Handler, plant func(http.Handler) http.Handler, cfg *tls.Config) *compared {
	t.Helper()
	p := newPress(t, "probed")
	revoked := channel.Seed{9}
	c := &compared{atRelay: &counted{Handler: site()}, alone: &counted{Handler: site()}}
	r := start(t, Config{website: c.atRelay})
	tg, foreign := target(t, r, p.ch), target(t, start(t, Config{}), p.ch)
	other := newPress(t, "another channel")
	push(t, r, p.edition(t, 0))
	if err := deny(t, r, p, p.denied(t, r, 1, revoked)); err != nil {
		t.Fatal(err)
	}
	c.atRelay.calls.Store(0)

	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.Certificates = []tls.Certificate{r.keys.cert}
	var serve http.Handler = c.alone
	if plant != nil {
		serve = plant(serve)
	}
	plain, err := wire.Listen(t.Context(), &netreal.Network{}, "127.0.0.1:0", cfg, serve, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	c.relay = prober.Server{Network: &netreal.Network{}, Addr: r.Addr().String()}
	c.plain = prober.Server{Network: &netreal.Network{}, Addr: plain.Addr().String()}

	rev := "/" + tg.Relay(revoked).Prefix.Path()
	near := []string{
		rev + "/head/" + p.ch.String(), rev, rev + "/ipfs/bafkqaaa?format=raw", // shut out
		"/" + channel.NewMintKey(r.keys.relay, other.ch).Mint([8]byte{1}).Path() + "/head/" + other.ch.String(), // right, of a channel that is not carried
	}
	for _, path := range probes(tg, foreign, p) {
		if strings.HasPrefix(path, "/") && !strings.ContainsAny(path, "\u0430") && path != "/%zz" && len(path) > 20 {
			near = append(near, path)
		}
	}
	c.paths = prober.Paths{
		Page: "/robots.txt", Near: near,
		Known: []string{"/", "/index.html", "/style.css", "/nothing", "/garlic.html?format=raw", "//", "/a/../garlic.html", "/%67arlic.html", "/.hidden", "/" + strings.Repeat("a/", 500)},
	}
	return c
}

func (c *compared) check(t *testing.T, turn int) {
	t.Helper()
	all := prober.Probes(c.paths)
	if raceDetector { // handshakes take ten times as long: each kind of site gets a third
		n := 0
		all = slices.DeleteFunc(all, func(prober.Probe) bool { n++; return n%3 != turn })
	}
	t.Logf("%d probes", len(all))
	if len(all) < minProbes {
		t.Errorf("%d probes, at least %d", len(all), minProbes)
	}
	var serial, rest []prober.Probe
	for _, p := range all {
		if strings.HasPrefix(p.Name, "h1: ") {
			serial = append(serial, p)
		} else {
			rest = append(rest, p)
		}
	}
	found := prober.Compare(t.Context(), c.relay, c.plain, serial)
	// What decides whose a request is adds nothing to what the website does. (Over
	// HTTP/2 and 3 it is chance how many of a connection's requests are begun when it fails.)
	if a, b := c.atRelay.calls.Load(), c.alone.calls.Load(); a == 0 || a != b {
		t.Errorf("the website did something %d times behind the relay, %d times alone", a, b)
	}
	for _, d := range append(found, prober.Compare(t.Context(), c.relay, c.plain, rest)...) {
		t.Errorf("%s\nrelay:\n%.2000s\nwebsite:\n%.2000s\n%s", d.Probe, d.A, d.B, cmp.Diff(d.B, d.A))
	}
}

// folder is a website of a volunteer's own.
func siteFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"index.html": "<h1>hello</h1>", "garlic.html": "garlic", "robots.txt": "User-agent: *\n", ".hidden": "no", "sub/page.html": "page", "style.css": strings.Repeat("a{}", 30_000),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func siteOf(t *testing.T, dir string) http.Handler {
	t.Helper()
	s, err := Site(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestProber looks for anything that tells a relay from the website that it
// shows.
func TestProber(t *testing.T) {
	dir := siteFolder(t)
	behindURL := behind(t, siteOf(t, dir))
	for turn, c := range []struct {
		name string
		site func() http.Handler
	}{
		{"built in", func() http.Handler { return siteOf(t, "") }},
		{"folder", func() http.Handler { return siteOf(t, dir) }},
		{"upstream", func() http.Handler { return upstream(t, behindURL, t.Output()) }},
	} {
		t.Run(c.name, func(t *testing.T) { compareSites(t, c.site, nil, nil).check(t, turn) })
	}
}

// TestProberFinds plants a difference and sees it found, for each way to look.
func TestProberFinds(t *testing.T) {
	when := func(cond func(r *http.Request) bool, do func(w http.ResponseWriter)) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if cond(r) {
					do(w)
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	over := func(major int) func(r *http.Request) bool {
		return func(r *http.Request) bool {
			return r.ProtoMajor == major && len(r.URL.Path) >= 33 && strings.Contains(r.URL.Path, "/head/")
		}
	}
	field := func(w http.ResponseWriter) { w.Header().Set("Vary", "Accept") }
	for name, c := range map[string]struct {
		plant func(http.Handler) http.Handler
		cfg   *tls.Config
		in    string // begins the names of probes that find it
	}{
		"a field over HTTP/1.1":    {when(over(1), field), nil, "h1: "},
		"a field over HTTP/2":      {when(over(2), field), nil, "h2: "},
		"a field over HTTP/3":      {when(over(3), field), nil, "h3: "},
		"a status over HTTP/3":     {when(over(3), func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotAcceptable) }), nil, "h3: "},
		"a connection not kept":    {when(func(r *http.Request) bool { return r.Method == "POST" }, func(w http.ResponseWriter) { w.Header().Set("Connection", "close") }), nil, "h1: "},
		"a byte more":              {when(func(r *http.Request) bool { return r.Method == "BREW" }, func(w http.ResponseWriter) { _, _ = w.Write([]byte(" ")) }), nil, "h1: "},
		"an answer that is cut":    {when(over(2), func(http.ResponseWriter) { panic(http.ErrAbortHandler) }), nil, "h2: "},
		"early data":               {when(func(r *http.Request) bool { return r.Method == "GET" && !r.TLS.HandshakeComplete }, field), nil, "early data: "},
		"another protocol":         {nil, &tls.Config{GetConfigForClient: sayYes(t, "acme-tls/1")}, "tls: "},
		"an older version refused": {nil, &tls.Config{MinVersion: tls.VersionTLS13}, "tls: "},
	} {
		t.Run(name, func(t *testing.T) {
			site := func() http.Handler { return siteOf(t, "") }
			two := compareSites(t, site, c.plant, c.cfg)
			two.paths.Near, two.paths.Known = two.paths.Near[:2], two.paths.Known[:1]
			var of []prober.Probe
			for _, p := range prober.Probes(two.paths) {
				if strings.HasPrefix(p.Name, c.in) {
					of = append(of, p)
				}
			}
			found := prober.Compare(t.Context(), two.relay, two.plain, of)
			if len(found) == 0 || len(found) == len(of) {
				t.Errorf("%d of %d probes found it", len(found), len(of))
			}
		})
	}
}

// sayYes agrees to a protocol that no relay speaks with strangers.
func sayYes(t *testing.T, proto string) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	cfg := &tls.Config{Certificates: []tls.Certificate{ownCert(t)}, NextProtos: []string{proto}}
	return func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == proto {
			return cfg, nil
		}
		return nil, nil
	}
}

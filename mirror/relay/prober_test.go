package relay

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	node           *Relay
	relay, plain   prober.Server
	atRelay, alone *counted
	paths          prober.Paths
}

// compareSites runs both. site makes the website twice, and plant may spoil the
// plain one.
func compareSites(t *testing.T, site func() http.Handler, plant func(http.Handler) http.Handler, cfg *tls.Config) *compared {
	t.Helper()
	return compareRelay(t, Config{}, site, plant, cfg)
}

// compareRelay is compareSites with a relay that has settings of its own, which a
// visitor should not notice.
func compareRelay(t *testing.T, conf Config, site func() http.Handler, plant func(http.Handler) http.Handler, cfg *tls.Config) *compared {
	t.Helper()
	p := newPress(t, "probed")
	revoked := channel.Seed{9}
	c := &compared{atRelay: &counted{Handler: site()}, alone: &counted{Handler: site()}}
	conf.website = c.atRelay
	r := start(t, conf)
	c.node = r
	another := start(t, Config{})
	tg, foreign := target(t, r, p.ch), target(t, another, p.ch)
	other := newPress(t, "another channel")
	push(t, r, p.edition(t, 0))
	if err := deny(t, r, p, p.denied(t, r, 1, revoked)); err != nil {
		t.Fatal(err)
	}
	c.atRelay.calls.Store(0)

	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.Certificates == nil {
		cfg.Certificates = []tls.Certificate{r.keys.cert}
	}
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
		Page: "/robots.txt", Near: near, Stale: staleECH(t, "www.example.org", "cloudflare-ech.com"),
		Other: &prober.Server{Network: &netreal.Network{}, Addr: another.Addr().String()},
		Known: []string{"/", "/index.html", "/style.css", "/nothing", "/garlic.html?format=raw", "//", "/a/../garlic.html", "/%67arlic.html", "/.hidden", "/" + strings.Repeat("a/", 500)},
	}
	return c
}

// staleECH are configurations of those names that no server here has the key of.
func staleECH(t *testing.T, names ...string) (out [][]byte) {
	t.Helper()
	for _, name := range names {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, list, err := wire.NewECH(name, key)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, list)
	}
	return out
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
// shows, served by the same listener; a website behind has the same proxy before it on
// both sides.
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

// TestProberOfSettings is TestProber for what a relay may be set to besides: whoever
// lacks what leads to it sees nothing of that either.
func TestProberOfSettings(t *testing.T) {
	site := func() http.Handler { return siteOf(t, "") }
	t.Run("another port", func(t *testing.T) {
		c := compareRelay(t, Config{Also: []string{"127.0.0.1:0"}}, site, nil, nil)
		c.relay.Addr = c.node.others[0].Addr().String()
		c.check(t, 0)
	})
	t.Run("ECH", func(t *testing.T) {
		const outer = "outer.example.net"
		c := compareRelay(t, Config{ECH: outer}, site, nil, nil)
		// Also one that only lacks the key: of the outer name, and of the number by which
		// keys are told apart.
		like := staleECH(t, outer)[0]
		like[echID] = c.node.ech[echID]
		c.paths.Stale = append(c.paths.Stale, like)
		c.check(t, 1)
		right, err := tls.Dial("tcp", c.relay.Addr, &tls.Config{InsecureSkipVerify: true, ServerName: "relay.example.org", EncryptedClientHelloConfigList: c.node.ech})
		if err != nil {
			t.Fatalf("with the right configuration: %v", err)
		}
		defer right.Close()
		if !right.ConnectionState().ECHAccepted {
			t.Error("with the right configuration: not accepted")
		}
	})
}

// TestProberOfCertified is TestProber for a relay with an authority's certificate and
// a port without TLS: both are as at a server that is no relay.
func TestProberOfCertified(t *testing.T) {
	a, dir := newAuthority(t, 90*24*time.Hour), t.TempDir()
	conf := Config{
		Dir: dir, Network: &netreal.Network{}, Redirect: fmt.Sprintf("127.0.0.1:%d", a.http), Listen: []string{"127.0.0.1:0"},
		ACME: ACME{Names: []string{prober.Host, "relay.example.org"}, Directory: a.url, Roots: a.roots},
	}
	first, log := startACME(t, conf)
	log.wait(t)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, acmeCertFile), filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	c := compareRelay(t, conf, func() http.Handler { return siteOf(t, "") }, nil, &tls.Config{Certificates: []tls.Certificate{cert}})
	c.check(t, 2)
	_, text, _ := net.SplitHostPort(c.relay.Addr)
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	opened := func(port uint16) *door {
		d, err := openDoor(t.Context(), conf.Network, "127.0.0.1:0", port, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	at := func(d *door) prober.Server {
		return prober.Server{Network: conf.Network, Addr: d.ln.Addr().String(), Plain: true}
	}
	c.paths.Known = append(c.paths.Known, "/.well-known/acme-challenge/", "/.well-known/acme-challenge/"+strings.Repeat("A", 43))
	plain := prober.PlainProbes(c.paths)
	for _, d := range prober.Compare(t.Context(), at(c.node.door), at(opened(uint16(port))), plain) {
		t.Errorf("without TLS: %s\nrelay:\n%.2000s\nwebsite:\n%.2000s", d.Probe, d.A, d.B)
	}
	t.Logf("%d probes without TLS", len(plain))
	// It does find a difference.
	if found := prober.Compare(t.Context(), at(c.node.door), at(opened(uint16(port)-1)), plain[:20]); len(found) == 0 {
		t.Error("another redirect is not found")
	}
}

// echID is where an ECHConfigList has its first key's config_id (RFC 9849, section 4).
const echID = 6

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
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ech, _, err := wire.NewECH("www.example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	ech.SendAsRetry = true
	for name, c := range map[string]struct {
		plant func(http.Handler) http.Handler
		cfg   *tls.Config
		in    string // begins the names of probes that find it
	}{
		"a hidden name offered":    {nil, &tls.Config{EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{ech}}, "ech: "},
		"no tickets":               {nil, &tls.Config{SessionTicketsDisabled: true}, "tickets: "},
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

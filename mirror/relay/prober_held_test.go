package relay

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tamizdat/bundle/channel"
	"tamizdat/internal/prober"
	"tamizdat/internal/simnet"
	wire "tamizdat/transport/relay"
)

// patientSites are a relay and the plain website behind a listener like its own, on a
// simulated net. before makes what stands between the two.
func patientSites(t *testing.T, p *press, s *sheet, folder string, behind bool, before func(site http.Handler) http.Handler) (relay, plain prober.Server, paths prober.Paths) {
	t.Helper()
	w := newWorld(t)
	host := func(name, ip string) *simnet.Host {
		return w.net.Host(name, simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr(ip))
	}
	site := func(*simnet.Host) http.Handler { return siteOf(t, folder) }
	if behind {
		ln, err := host("behind", "192.0.2.7").Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: siteOf(t, folder)}
		go func() { _ = server.Serve(ln) }() // ends with Close
		t.Cleanup(func() { server.Close() })
		site = func(from *simnet.Host) http.Handler {
			u, err := NewUpstream(from, "http://192.0.2.7", nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { u.Close() })
			return u
		}
	}
	at, alone := host("relay", "192.0.2.9"), host("website", "192.0.2.8")
	node, other, revoked := w.relay(9, Config{Network: at, website: site(at)}), newPress(t, "not carried"), channel.Seed{9}
	w.push(node, s)
	if err := deny(t, node.Relay, p, p.denied(t, node.Relay, 1, revoked)); err != nil {
		t.Fatal(err)
	}
	server, err := wire.Listen(t.Context(), alone, "192.0.2.8:443", &tls.Config{Certificates: []tls.Certificate{node.keys.cert}}, before(site(alone)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	tg := target(t, node.Relay, p.ch)
	valid, intake := tg.Relay(p.batch).Prefix, tg.Intake.Mint([8]byte{1})
	wrong := valid
	wrong[23] ^= 1
	intake[20] ^= 0x80
	censor := host("prober", "203.0.113.1")
	return prober.Server{Network: censor, Addr: "192.0.2.9:443"}, prober.Server{Network: censor, Addr: "192.0.2.8:443"}, prober.Paths{
		Page: "/robots.txt", Large: "/large.html", Near: []string{
			"/" + wrong.Path() + "/head/" + p.ch.String(),
			"//" + valid.Path() + "/head/" + p.ch.String(),
			"/" + intake.Path() + "/intake/" + p.ch.String() + "/x",
			"/" + tg.Relay(revoked).Prefix.Path() + "/head/" + p.ch.String(),
			"/" + channel.NewMintKey(node.keys.relay, other.ch).Mint([8]byte{1}).Path() + "/head/" + other.ch.String(),
		},
	}
}

// patientFolder is a website with a page that is more than what a connection holds.
func patientFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string][]byte{"robots.txt": []byte("User-agent: *\n"), "index.html": []byte("hello"), "large.html": noise(1, 8_000_000)} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// ordinary is a website with a relay's limits, which are no secret.
func ordinary(site http.Handler) http.Handler { return newTurnstile(site, Throttle{}, nil) }

// TestProberHeld is TestProber for a censor with all the time in the world: who says
// half of something, or takes nothing, is let go by a relay when its website would let
// him go, and as its website would.
func TestProberHeld(t *testing.T) {
	folder, p := patientFolder(t), newPress(t, "held")
	s := p.edition(t, 0)
	for name, behind := range map[string]bool{"folder": false, "upstream": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				relay, plain, paths := patientSites(t, p, s, folder, behind, ordinary)
				if raceDetector { // handshakes take ten times as long
					paths.Near = paths.Near[2:4]
				}
				probes := prober.Held(paths)
				t.Logf("%d probes", len(probes))
				for _, d := range prober.Compare(t.Context(), relay, plain, probes) {
					t.Errorf("%s\nrelay:\n%.2000s\nwebsite:\n%.2000s\n%s", d.Probe, d.A, d.B, cmp.Diff(d.B, d.A))
				}
			})
		})
	}
}

// TestProberHeldFinds plants a difference in how long somebody is waited for.
func TestProberHeldFinds(t *testing.T) {
	folder, p := patientFolder(t), newPress(t, "held")
	s := p.edition(t, 0)
	for name, c := range map[string]struct {
		before func(http.Handler) http.Handler
		by     []string // what begins the names of probes that find it
	}{
		"no limits": {func(site http.Handler) http.Handler { return site }, []string{"h1, half of POST", "h1, by bytes", "h1, untaken", "h2, untaken", "h3, untaken"}},
		"ten seconds more for a body near a secret": {func(site http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor == 1 && r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/intake/") {
					time.Sleep(10 * time.Second) // the limits are from then on
				}
				ordinary(site).ServeHTTP(w, r)
			})
		}, []string{"h1, half of POST"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				relay, plain, paths := patientSites(t, p, s, folder, false, c.before)
				paths.Near = paths.Near[2:3]
				found := make(map[string]bool)
				for _, d := range prober.Compare(t.Context(), relay, plain, prober.Held(paths)) {
					t.Logf("%s\nrelay:\n%.300s\nwebsite:\n%.300s", d.Probe, d.A, d.B)
					found[d.Probe] = true
				}
				for _, by := range c.by {
					ok := false
					for name := range found {
						ok = ok || strings.HasPrefix(name, `held: "`+by)
					}
					if !ok {
						t.Errorf("nothing that begins with %q found it", by)
					}
				}
			})
		})
	}
}

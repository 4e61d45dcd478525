package relay

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
)

// authority is a real ACME server, Let's Encrypt's pebble, that finds every name
// on loopback.
type authority struct {
	tls, http  int    // the ports on which it looks for proofs
	url, roots string // of its directory, and a file
}

func newAuthority(t *testing.T, validity time.Duration) *authority {
	t.Helper()
	program, err := exec.LookPath("pebble")
	if err != nil {
		msg := "no ACME server: put pebble into the PATH (GOBIN=/somewhere go -C internal/testservers/pebble install tool)"
		if os.Getenv("TAMIZDAT_CI") == "1" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	dir := t.TempDir()
	a := &authority{tls: freePort(t), http: freePort(t), roots: filepath.Join(dir, "roots.pem")}
	keyPEM, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err := selfSign(keyPEM) // for localhost
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	a.url = "https://localhost" + addr[len("127.0.0.1"):] + "/dir"
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": addr, "certificate": a.roots, "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": a.http, "tlsPort": a.tls, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "", "validityPeriod": int(validity.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"roots.pem": certPEM, "key.pem": keyPEM, "config.json": config} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", loopbackNames(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	said := newWaiter("ACME directory available")
	go func() { _, _ = io.Copy(said, out) }()
	said.wait(t)
	// It says so just before it listens.
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return a
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// loopbackNames is a resolver over TCP, as pebble likes it, for which every name
// is 127.0.0.1.
func loopbackNames(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return ln.Addr().String()
}

// waiter hears what a program says, line by line, and tells when a text was
// among it, or a warning.
type waiter struct {
	text  string
	lines chan string
}

func newWaiter(text string) *waiter { return &waiter{text: text, lines: make(chan string, 100)} }

// Write implements io.Writer.
func (w *waiter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.text) || strings.Contains(string(b), "level=WARN") {
		w.lines <- string(b)
	}
	return len(b), nil
}

func (w *waiter) wait(t *testing.T) {
	t.Helper()
	if line := <-w.lines; !strings.Contains(line, w.text) {
		t.Fatal(line)
	}
}

// shown is the certificate that a visitor sees.
func shown(t *testing.T, addr, name string) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// A certificate is obtained over each way of proof, kept over a restart and
// renewed, and the pin in invites is what it was before there was one.
func TestACME(t *testing.T) {
	for _, way := range []string{acme.ChallengeTypeTLSALPN01, acme.ChallengeTypeHTTP01} {
		t.Run(way, func(t *testing.T) {
			p := newPress(t, way)
			a := newAuthority(t, 90*24*time.Hour)
			dir := t.TempDir()
			cfg := Config{Dir: dir, Network: &netreal.Network{}, ACME: ACME{
				Names: []string{"relay.example.org", "www.example.org"}, Email: "me@example.org", Directory: a.url, Roots: a.roots,
			}}
			if way == acme.ChallengeTypeHTTP01 {
				// With the port that the authority looks at for the other proof closed.
				cfg.Redirect, cfg.Listen = fmt.Sprintf("127.0.0.1:%d", a.http), []string{"127.0.0.1:0"}
			} else {
				cfg.Listen = []string{fmt.Sprintf("127.0.0.1:%d", a.tls)}
			}

			// Before there is one.
			before, err := New(Config{Dir: dir, Network: cfg.Network})
			if err != nil {
				t.Fatal(err)
			}
			pin := before.Pin()

			r, log := startACME(t, cfg)
			log.wait(t)
			first := shown(t, r.Addr().String(), "relay.example.org")
			for _, name := range cfg.ACME.Names {
				if err := first.VerifyHostname(name); err != nil {
					t.Error(err)
				}
			}
			for _, name := range []string{"", "other.example"} { // a reader asks for an address
				if !shown(t, r.Addr().String(), name).Equal(first) {
					t.Errorf("another certificate for %q", name)
				}
			}
			if bytes.Equal(first.RawIssuer, first.RawSubject) {
				t.Error("it is self-signed")
			}
			if got := channel.PinOf(first); got != pin || r.Pin() != pin {
				t.Errorf("pin %s, was %s", got, pin)
			}
			push(t, r, p.edition(t, 0))
			relay := target(t, r, p.ch).Relay(p.batch)
			readHead(t, p, relay)
			onlyKnown(t, r.Addr().String())
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}

			// After a restart it is still there, and nobody is asked: the proofs could
			// not be found.
			r, _ = startACME(t, withListen(cfg, "127.0.0.1:0"))
			if !shown(t, r.Addr().String(), "relay.example.org").Equal(first) {
				t.Error("another certificate after a restart")
			}
			if r.certs.due(t.Context()) {
				t.Error("a new certificate is due on the first day")
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}

			// Two months later.
			later := cfg
			later.ACME.now = func() time.Time { return time.Now().Add(61 * 24 * time.Hour) }
			r, log = startACME(t, later)
			log.wait(t)
			second := shown(t, r.Addr().String(), "relay.example.org")
			if second.SerialNumber.Cmp(first.SerialNumber) == 0 || channel.PinOf(second) != pin {
				t.Errorf("renewed: serial %s then %s, pin %s then %s", first.SerialNumber, second.SerialNumber, pin, channel.PinOf(second))
			}
			relay.Port = target(t, r, p.ch).Port
			readHead(t, p, relay)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}

			// Another name, and it is due again.
			later = cfg
			later.ACME.Names = append(later.ACME.Names, "third.example.org")
			r, log = startACME(t, later)
			log.wait(t)
			third := shown(t, r.Addr().String(), "")
			if err := third.VerifyHostname("third.example.org"); err != nil || channel.PinOf(third) != pin {
				t.Errorf("%v, pin %s", err, channel.PinOf(third))
			}
		})
	}
}

func withListen(cfg Config, addr string) Config {
	cfg.Listen = []string{addr}
	return cfg
}

// startACME starts a relay; the waiter hears of certificates.
func startACME(t *testing.T, cfg Config) (*Relay, *waiter) {
	t.Helper()
	log := newWaiter("certificate obtained")
	cfg.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), nil))
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, log
}

func readHead(t *testing.T, p *press, relay channel.Relay) {
	t.Helper()
	for _, path := range paths(t, &netreal.Network{}, relay) {
		if _, err := path.Heads.Head(t.Context(), p.ch, 0); err != nil {
			t.Errorf("%s: %v", path.Name, err)
		}
	}
}

// onlyKnown checks that a relay speaks the authority's protocol with nobody else.
func onlyKnown(t *testing.T, addr string) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "relay.example.org", NextProtos: []string{"acme-tls/1"}})
	if err == nil {
		c.Close()
		t.Error("it speaks acme-tls/1")
	} else if !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("acme-tls/1: %v", err)
	}
}

// A directory that can't be reached changes nothing: the relay's own certificate
// serves, and the log says why.
func TestACMEUnreachable(t *testing.T) {
	log := newWaiter("no certificate yet")
	r, err := New(Config{
		Dir: t.TempDir(), Network: &netreal.Network{}, Listen: []string{"127.0.0.1:0"}, Log: slog.New(slog.NewTextHandler(log, nil)),
		ACME: ACME{Names: []string{"relay.example.org"}, Directory: fmt.Sprintf("https://127.0.0.1:%d/", freePort(t))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	log.wait(t)
	if got := channel.PinOf(shown(t, r.Addr().String(), "")); got != r.Pin() {
		t.Errorf("pin %s, want %s", got, r.Pin())
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestACMEFiles(t *testing.T) {
	own := ownCert(t)
	foreign := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ownCert(t).Certificate[0]})
	garbage := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	for name, c := range map[string]struct{ crt, roots, says string }{
		"other key":  {string(foreign), "", "not of the relay's key"},
		"empty":      {"", "", "no certificate"},
		"garbage":    {string(garbage), "", "remove it"},
		"no roots":   {"", "text", "PEM"},
		"gone roots": {"", "-", "acme_roots"},
	} {
		dir := t.TempDir()
		cfg := ACME{Names: []string{"x.example"}}
		if c.roots != "" {
			cfg.Roots = filepath.Join(dir, "roots")
			if c.roots != "-" {
				if err := os.WriteFile(cfg.Roots, []byte(c.roots), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		} else if err := os.WriteFile(filepath.Join(dir, acmeCertFile), []byte(c.crt), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := newCertificates(dir, own, cfg, &netreal.Network{}, false, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The authority's answers are bounded.
func TestACMEAnswerIsBounded(t *testing.T) {
	url := behind(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, 2*maxACMEAnswer)
	}))
	b := &bounded{http.Transport{DialContext: (&netreal.Network{}).Dial}}
	resp, err := (&http.Client{Transport: b}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n != maxACMEAnswer {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

package relay

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mholt/acmez/v3/acme"

	"tamizdat/internal/simnet"
)

// plainly sends raw bytes over TCP and returns the raw answer.
func plainly(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // an answer that does not end is a failure
	_, _ = io.WriteString(c, request)
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return varying.ReplaceAllString(string(answer), "$1$2-")
}

// Visitors without TLS are sent to the same thing with it, whatever they ask for.
func TestRedirect(t *testing.T) {
	p := newPress(t, "door")
	r := start(t, Config{Redirect: "127.0.0.1:0"})
	push(t, r, p.edition(t, 0))
	addr := r.door.ln.Addr().String()
	_, port, _ := net.SplitHostPort(r.Addr().String())
	www := "https://www.example.org:" + port
	secret := "/" + target(t, r, p.ch).Relay(p.batch).Prefix.Path() + "/head/" + p.ch.String()
	for path, to := range map[string]string{
		"/": www + "/", "/a%2fb//c?d=%zz&e": www + "/a%2fb//c?d=%zz&e", "//x": www + "//x",
		secret: www + secret, "/.well-known/acme-challenge/x": www + "/.well-known/acme-challenge/x",
	} {
		for _, host := range []string{"www.example.org", "www.example.org:80"} {
			want := "HTTP/1.1 301 Moved Permanently\r\nConnection: close\r\nContent-Type: text/html; charset=utf-8\r\nLocation: " + to +
				"\r\nDate: -\r\nContent-Length: " // and so on
			got := plainly(t, addr, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s", path, cmp.Diff(want, got))
			}
		}
	}
	for request, status := range map[string]string{
		"GET / HTTP/1.0\r\n\r\n":                               "400", // where to?
		"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n":            "400",
		"GET http://y/z HTTP/1.1\r\nHost: x\r\n\r\n":           "301",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                "301",
		"POST / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n":       "301",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": "400",
	} {
		if got := plainly(t, addr, request); !regexp.MustCompile(`^HTTP/1\.[01] ` + status).MatchString(got) {
			t.Errorf("%q: %q", request, got)
		}
	}
	busy, err := New(Config{Dir: t.TempDir(), Network: r.cfg.Network, Listen: []string{"127.0.0.1:0"}, Redirect: addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := busy.Start(t.Context()); !errors.Is(err, ErrRedirect) {
		t.Errorf("the port is taken: %v", err)
	}
}

// One address can't take all the places there are without TLS.
func TestRedirectIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.relay(9, Config{Redirect: "192.0.2.9:80"})
		ask := func(host *simnet.Host, request string) net.Conn {
			c, err := host.Dial(t.Context(), "tcp", "192.0.2.9:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_, _ = io.WriteString(c, request)
			return c
		}
		greedy := w.net.Host("greedy", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("203.0.113.1"))
		other := w.net.Host("other", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("203.0.113.2"))
		const whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		for range maxPlainPerAddr {
			ask(greedy, "GET / HTTP/1.1\r\n")
		}
		synctest.Wait()
		answers := func(host *simnet.Host) bool {
			b, _ := io.ReadAll(ask(host, whole))
			return strings.HasPrefix(string(b), "HTTP/1.1 301 ")
		}
		if answers(greedy) {
			t.Error("an address has more than its share")
		}
		if !answers(other) {
			t.Error("another one is refused")
		}
		time.Sleep(time.Minute) // the halves are let go
		if !answers(greedy) {
			t.Error("the share is not given back")
		}
	})
}

func TestRedirectNamesThePort(t *testing.T) {
	for _, c := range []struct {
		port     uint16
		host, to string
	}{
		{443, "x", "https://x/"}, {8443, "x:80", "https://x:8443/"}, {8443, "[2001:db8::1]", "https://[2001:db8::1]:8443/"}, {443, "[2001:db8::1]:80", "https://[2001:db8::1]/"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = c.host
		toHTTPS(c.port).ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != c.to {
			t.Errorf("%s, port %d: %s", c.host, c.port, got)
		}
	}
}

// Only while an authority looks for a proof is there one, and only that one.
func TestTokens(t *testing.T) {
	var none *tokens
	s := &tokens{}
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMovedPermanently) })
	c := acme.Challenge{Token: "tok", KeyAuthorization: "tok.thumb"}
	ask := func(s *tokens, method, path string) (int, string) {
		w := httptest.NewRecorder()
		s.before(next).ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}
	for range 2 {
		if code, _ := ask(s, "GET", c.HTTP01ResourcePath()); code != http.StatusMovedPermanently {
			t.Errorf("before: %d", code)
		}
		_ = s.Present(t.Context(), c)
		if code, body := ask(s, "GET", c.HTTP01ResourcePath()); code != http.StatusOK || body != "tok.thumb" {
			t.Errorf("meanwhile: %d %q", code, body)
		}
		for _, other := range []string{"/", c.HTTP01ResourcePath() + "/", c.HTTP01ResourcePath() + "x"} {
			if code, _ := ask(s, "GET", other); code != http.StatusMovedPermanently {
				t.Errorf("%s: %d", other, code)
			}
		}
		if code, _ := ask(s, "POST", c.HTTP01ResourcePath()); code != http.StatusMovedPermanently {
			t.Errorf("POST: %d", code)
		}
		_ = s.CleanUp(t.Context(), c)
	}
	if code, _ := ask(none, "GET", c.HTTP01ResourcePath()); code != http.StatusMovedPermanently {
		t.Errorf("without ACME: %d", code)
	}
}

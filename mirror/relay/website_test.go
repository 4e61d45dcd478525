package relay

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever asks for the website, over and over, takes its share of the month and not
// the readers'. It is shut then, on all paths alike, until the month is over.
func TestWebsiteHasAShareOfTheMonth(t *testing.T) {
	p := newPress(t, "share")
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "photo.jpg"), noise(1, 1_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	cfg := Config{Dir: t.TempDir(), Decoy: folder, Traffic: Traffic{PerMonth: 5_000_000}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	r := start(t, cfg)
	s := p.edition(t, 300_000)
	push(t, r, s)
	ask := func(method, path string) (*http.Response, int) {
		t.Helper()
		raw := exchange(t, r.Addr().String(), method+" "+path+" HTTP/1.1\r\nHost: relay.example.org\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body) // it may be cut off
		return resp, len(b)
	}
	got, cut := 0, false
	for range 10 {
		resp, n := ask("GET", "/photo.jpg")
		if resp.StatusCode == http.StatusOK {
			got += n
			cut = cut || n < 1_000_000
		}
	}
	if got < 2_000_000 || got > 2_500_000+copyBytes || !cut {
		t.Errorf("a stranger got %d bytes of a month of 5,000,000, an answer was broken off: %t", got, cut)
	}
	prefix := "/" + target(t, r, p.ch).Relay(p.batch).Prefix.Path()
	check := func(when string, site int) {
		t.Helper()
		for path, want := range map[string]int{
			prefix + "/ipfs/" + s.head.Root.String() + "?format=raw": http.StatusOK, prefix + "/head/" + p.ch.String(): http.StatusOK, "/photo.jpg": site,
		} {
			if resp, _ := ask("GET", path); resp.StatusCode != want {
				t.Errorf("%s, %.12s…: %d, want %d", when, path, resp.StatusCode, want)
			}
		}
	}
	shut := func() {
		t.Helper()
		first := ""
		for _, path := range []string{"/photo.jpg", "/none", "/" + strings.Repeat("A", 32) + "/head/x"} {
			for _, method := range []string{"GET", "HEAD", "BREW"} {
				resp, _ := ask(method, path)
				resp.Header.Del("Date")
				all := fmt.Sprint(resp.StatusCode, resp.Header)
				if first = cmp.Or(first, all); all != first {
					t.Errorf("%s %.12s: %s, elsewhere %s", method, path, all, first)
				}
			}
		}
	}
	check("its share is gone", http.StatusServiceUnavailable)
	shut()
	if err := r.ledger.save(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "its half") {
		t.Errorf("the volunteer is not told: %s", log.String())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	check("after a restart", http.StatusServiceUnavailable)
	r.ledger.month = "2026-01" // it was counted in another month than now
	if err := r.ledger.save(); err != nil {
		t.Fatal(err)
	}
	check("next month", http.StatusOK)
}

// What a version wrote that did not count the website is read, too.
func TestLedgerOfBefore(t *testing.T) {
	for text, want := range map[string][2]int64{"2026-11 7\n": {7, 0}, "2026-11 7 5\n": {7, 5}} {
		of, sent, site, err := parseTraffic(text)
		if of != "2026-11" || [2]int64{sent, site} != want || err != nil {
			t.Errorf("%q: %s %d %d %v", text, of, sent, site, err)
		}
	}
	for _, text := range []string{"", "2026-11", "2026-11 7 -5\n", "2026-11 7 x\n", "2026-11 7 5 3\n", "2026-11 -7 5\n"} {
		if _, _, _, err := parseTraffic(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// In whatever way an answer is written, it counts, and ends with the share.
func TestWebsiteCountsAllItSends(t *testing.T) {
	for name, send := range map[string]func(w http.ResponseWriter, b []byte) error{
		"written": func(w http.ResponseWriter, b []byte) error { _, err := w.Write(b); return err },
		"copied": func(w http.ResponseWriter, b []byte) error {
			_, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(b)})
			return err
		},
		"a part": func(w http.ResponseWriter, b []byte) error {
			_, err := io.CopyN(w, bytes.NewReader(b), int64(len(b)))
			return err
		},
		"a websocket": func(w http.ResponseWriter, b []byte) error {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, err = c.Write(b)
			}
			return err
		},
	} {
		l := &ledger{limit: siteShare * (answerHead + 5)}
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		w := l.website(&taken{httptest.NewRecorder(), here})
		if err := send(w, []byte("12345")); err != nil || l.site.Load() != answerHead+5 {
			t.Errorf("%s: %d bytes counted, %v", name, l.site.Load(), err)
		}
		if err := send(w, []byte("6")); !errors.Is(err, errShut) {
			t.Errorf("%s, more than the share: %v", name, err)
		}
		here.Close()
		there.Close()
	}
}

// taken is an answer whose connection can be taken over.
type taken struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w *taken) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, nil, nil }

package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
)

// visitor asks servers at some address for what is at another: the names in its
// requests are the same wherever they go.
type visitor struct {
	proto string
	rt    http.RoundTripper
}

func visitors(t *testing.T, addr string, protos ...string) (out []visitor) {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true}
	there := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	for _, proto := range protos {
		switch proto {
		case "http/1.1":
			tr := &http.Transport{TLSClientConfig: cfg.Clone(), DialContext: there, DisableCompression: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
			t.Cleanup(tr.CloseIdleConnections)
			out = append(out, visitor{proto, tr})
		case "h2":
			tr := &http.Transport{TLSClientConfig: cfg.Clone(), DialContext: there, DisableCompression: true, ForceAttemptHTTP2: true}
			t.Cleanup(tr.CloseIdleConnections)
			out = append(out, visitor{proto, tr})
		case "h3":
			tr := &http3.Transport{
				TLSClientConfig: cfg.Clone(), DisableCompression: true,
				Dial: func(ctx context.Context, _ string, cfg *tls.Config, qcfg *quic.Config) (*quic.Conn, error) {
					return quic.DialAddrEarly(ctx, addr, cfg, qcfg)
				},
			}
			t.Cleanup(func() { tr.Close() })
			out = append(out, visitor{proto, tr})
		}
	}
	return out
}

// ask renders an answer: what is the connection's own left out, and when, and the
// other ways in that a server announces, which are its listener's.
func (v visitor) ask(t *testing.T, method, base, path string, header http.Header, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // an answer that does not come is a failure
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	if path, query, ok := strings.Cut(path, "?"); ok {
		req.URL.Opaque, req.URL.RawQuery = "//"+req.URL.Host+path, query
	} else {
		req.URL.Opaque = "//" + req.URL.Host + path
	}
	req.Header = header.Clone()
	resp, err := v.rt.RoundTrip(req)
	if err != nil {
		return "no answer"
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "a broken answer"
	}
	for _, own := range []string{"Date", "Alt-Svc", "Connection", "Keep-Alive"} {
		resp.Header.Del(own)
	}
	length := resp.ContentLength
	if v.proto == "h3" {
		// Of short pages that it makes itself Debian's caddy gives the length over HTTP/2, by
		// which the relay asks it, and not over HTTP/3.
		resp.Header.Del("Content-Length")
		length = 0
	}
	var lines []string
	for k, values := range resp.Header {
		lines = append(lines, fmt.Sprintf("%s: %q", k, values))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d, %d bytes said\n%s\n%s", resp.StatusCode, length, strings.Join(lines, "\n"), text)
}

// boundary is nginx's, and Go's, which caddy uses.
var boundary = regexp.MustCompile(`\b([0-9]{20}|[0-9a-f]{60})\b`)

// TestProberOfOthersSites: in front of nginx and of caddy the relay answers as they
// do: status, body and all fields that the site sends. Handshakes, settings, reason phrases, the
// order and the case of fields and malformed requests are those of a proxy written in Go
// before them, and differ from what either does alone (docs/threats.md).
func TestProberOfOthersSites(t *testing.T) {
	dir, cert := siteFolder(t), testservers.NewCert(t)
	for name, c := range map[string]struct {
		run    func(t testing.TB, dir string, c testservers.Cert) testservers.Server
		protos []string
	}{
		"nginx": {testservers.NginxServer, []string{"http/1.1", "h2"}},
		"caddy": {testservers.Caddy, []string{"http/1.1", "h2", "h3"}},
	} {
		t.Run(name, func(t *testing.T) {
			site := c.run(t, dir, cert)
			behind, err := NewUpstream(&netreal.Network{}, site.URL, cert.Pool, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { behind.Close() })
			p, other := newPress(t, "before "+name), newPress(t, "not carried")
			r := start(t, Config{website: behind})
			push(t, r, p.edition(t, 0))
			tg := target(t, r, p.ch)
			if err := deny(t, r, p, p.denied(t, r, 1, channel.Seed{9})); err != nil {
				t.Fatal(err)
			}
			paths := []string{
				"/", "/index.html", "/garlic.html", "/garlic.html?x=1", "/sub/page.html", "/sub/", "/sub", "/nothing", "/style.css", "/.hidden", "/%67arlic.html", "/sub/../garlic.html", "//garlic.html",
				"/" + tg.Relay(channel.Seed{9}).Prefix.Path() + "/head/" + p.ch.String(), // revoked
			}
			for _, path := range probes(tg, target(t, start(t, Config{}), p.ch), p) {
				if u, err := url.Parse(path); err == nil && len(path) > 20 && u.EscapedPath() != "" && !strings.ContainsAny(path, "\u0430") {
					paths = append(paths, path)
				}
			}
			paths = append(paths, "/"+channel.NewMintKey(r.keys.relay, other.ch).Mint([8]byte{1}).Path()+"/head/"+other.ch.String())
			headers := []http.Header{
				{},
				{"Range": {"bytes=0-3"}},
				{"Range": {"bytes=900000-"}},
				{"Range": {"bytes=0-1,3-3"}},
				{"If-None-Match": {"*"}},
				{"If-Match": {`"x"`}},
				{"If-Modified-Since": {"Fri, 31 Dec 2038 23:59:59 GMT"}},
				{"If-Unmodified-Since": {"Thu, 01 Jan 1970 00:00:01 GMT"}},
				{"Accept-Encoding": {"gzip"}},
				{"Accept": {typeCAR}, "Upload-Offset": {"0"}, "Upload-Length": {"10"}},
			}
			addr := strings.TrimPrefix(site.URL, "https://")
			at, alone := visitors(t, r.Addr().String(), c.protos...), visitors(t, addr, c.protos...)
			asked := 0
			compare := func(i int, method, path string, h http.Header, body string) {
				t.Helper()
				asked++
				a, b := at[i].ask(t, method, site.URL, path, h, body), alone[i].ask(t, method, site.URL, path, h, body)
				if strings.Contains(h.Get("Range"), ",") { // what stands between the parts is drawn by lot, or counted
					a, b = boundary.ReplaceAllString(a, "-"), boundary.ReplaceAllString(b, "-")
				}
				if a != b {
					t.Errorf("%s %s over %s with %v:\n%s", method, path, at[i].proto, h, cmp.Diff(b, a))
				}
			}
			for i := range at {
				for _, path := range paths {
					for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
						body := ""
						if method == "POST" || method == "PUT" {
							body = "abc"
						}
						compare(i, method, path, http.Header{}, body)
					}
				}
				for _, h := range headers {
					for _, path := range []string{"/", "/garlic.html", "/style.css", "/nothing", paths[13]} {
						compare(i, "GET", path, h, "")
					}
				}
			}
			if asked < minProbes {
				t.Errorf("%d requests, at least %d", asked, minProbes)
			}
			t.Logf("%d requests", asked)
		})
	}
}

package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	wire "tamizdat/transport/relay"
)

// varying is what may differ between two answers of one website: the time, and
// the port it happens to listen on.
var varying = regexp.MustCompile(`(?m)^(Date: )[^\r\n]*|(h3=":)\d+`)

// exchange sends raw bytes over HTTP/1.1 and returns the raw answer.
func exchange(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // an answer that does not end is a failure
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c) // every request says Connection: close
	if err != nil {
		t.Fatal(err)
	}
	return varying.ReplaceAllString(string(answer), "$1$2-")
}

// probes are requests that a stranger could think of; none holds a valid
// prefix, though some come close.
func probes(tg, foreign wire.Target, p *press) []string {
	valid := tg.Relay(p.batch).Prefix.Path()
	flip := func(i int) string {
		b := []byte(valid)
		if b[i]++; b[i] > 'z' {
			b[i] = 'A'
		}
		return string(b)
	}
	intake := tg.Intake.Mint([8]byte{1}).Path()
	return []string{
		"/", "/index.html", "/style.css", "/nothing", "/robots.txt", "/?x=1", "/garlic.html?format=raw",
		"/" + flip(0), "/" + flip(12) + "/", "/" + flip(30) + "/head/" + p.ch.String(),
		"/" + foreign.Relay(p.batch).Prefix.Path() + "/ipfs/bafkqaaa?format=raw",
		"/" + channel.MintKey{}.Mint([8]byte{}).Path() + "/head/" + p.ch.String(),
		"/" + strings.Repeat("A", 32) + "/ipfs/x", "/" + valid[:31] + "/ipfs/x", "/" + valid + "A/ipfs/x",
		"//" + valid + "/head/" + p.ch.String(), "/./" + valid + "/head/" + p.ch.String(), "/x/../" + valid + "/ipfs/x",
		"/%" + fmt.Sprintf("%02x", valid[0]) + valid[1:] + "/head/" + p.ch.String(), "/" + valid + "%2fhead/" + p.ch.String(),
		"/" + intake[:31] + "~/intake/x", "/ipfs/bafkqaaa?format=raw", "/ipns/k51x?format=ipns-record", "/" + flip(20) + "/ipns/k51x?format=ipns-record",
		"/ipns/" + p.ch.String(), "/" + intake[:31] + "~/ipns/" + p.ch.String(), "/head/" + p.ch.String(), "/intake/x/y", "/%zz", "/\u0430",
	}
}

func TestStrangersSeeAWebsite(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"index.html": "<h1>hello</h1>", "garlic.html": "garlic", ".secret": "no", "sub/page.html": "page"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, decoy := range map[string]string{"built in": "", "folder": folder} {
		t.Run(name, func(t *testing.T) {
			p := newPress(t, "decoy")
			r := start(t, Config{Decoy: decoy})
			tg, foreign := target(t, r, p.ch), target(t, start(t, Config{}), p.ch)
			push(t, r, p.edition(t, 0))
			site, err := Site(decoy)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := wire.Listen(t.Context(), &netreal.Network{}, "127.0.0.1:0",
				&tls.Config{Certificates: []tls.Certificate{r.keys.cert}}, site, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			for _, path := range probes(tg, foreign, p) {
				for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "BREW"} {
					request := method + " " + path + " HTTP/1.1\r\nHost: relay.example.org\r\nConnection: close\r\n" +
						"Upload-Offset: 0\r\nUpload-Length: 10\r\nRange: bytes=0-3\r\nAccept: application/vnd.ipld.car\r\nContent-Length: 3\r\n\r\nabc"
					if a, b := exchange(t, r.Addr().String(), request), exchange(t, plain.Addr().String(), request); a != b {
						t.Errorf("%s %s\nrelay:\n%s\nwebsite:\n%s", method, path, a, b)
					}
				}
				a, b := overH3(t, r.Addr(), path), overH3(t, plain.Addr(), path)
				if a != b {
					t.Errorf("HTTP/3 %s\nrelay:\n%s\nwebsite:\n%s", path, a, b)
				}
			}
		})
	}
}

// overH3 renders an answer over HTTP/3, "" if the client itself refuses to ask.
func overH3(t *testing.T, addr net.Addr, path string) string {
	t.Helper()
	tr := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	defer tr.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr.String()+path, nil)
	if err != nil {
		return ""
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Date")
	var lines []string
	for k, v := range resp.Header {
		lines = append(lines, fmt.Sprint(k, v))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d\n%s\n%s", resp.StatusCode, strings.Join(lines, "\n"), body)
}

func TestDecoyHidesWhatWebsitesHide(t *testing.T) {
	r := start(t, Config{})
	answer := exchange(t, r.Addr().String(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !bytes.Contains(body, []byte("<title>")) || !strings.HasPrefix(resp.Header.Get("Alt-Svc"), `h3=`) {
		t.Errorf("front page: %s", answer)
	}
	for _, word := range []string{"relay", "tamizdat", "mirror", "gateway"} {
		if strings.Contains(strings.ToLower(answer), word) {
			t.Errorf("the website says %q", word)
		}
	}
	if got := exchange(t, r.Addr().String(), "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "404") || !strings.Contains(got, "weeded") {
		t.Errorf("missing page: %s", got)
	}
}

func TestOneChannelDoesNotReadAnother(t *testing.T) {
	a, b := newPress(t, "one"), newPress(t, "two")
	r := start(t, Config{})
	sa, sb := a.edition(t, 0), b.edition(t, 0)
	push(t, r, sa)
	push(t, r, sb)
	path := paths(t, &netreal.Network{}, target(t, r, a.ch).Relay(a.batch))[0]
	if _, err := path.Heads.Head(t.Context(), b.ch, 0); err == nil {
		t.Error("another channel's head")
	}
	if _, err := r.store.Block(a.ch, sb.head.Root); err == nil {
		t.Error("another channel's block")
	}
}

// Behind a forwarded port the website speaks of the one that visitors know, also
// where another server has it.
func TestForwardedPort(t *testing.T) {
	for _, site := range []string{"", behind(t, siteOf(t, ""))} {
		r := start(t, Config{Host: "relay.example.org:443", Site: site})
		visitor := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		resp, err := visitor.Get("https://" + r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header["Alt-Svc"]; !slices.Equal(got, []string{`h3=":443"; ma=86400`}) {
			t.Errorf("site %q: %q", site, got)
		}
	}
	for _, host := range []string{"http://relay.example.org", "relay.example.org:", "relay.example.org:0", "relay.example.org:65536"} {
		if _, err := New(Config{Dir: t.TempDir(), Network: &netreal.Network{}, Host: host}); err == nil || !strings.Contains(err.Error(), "port") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

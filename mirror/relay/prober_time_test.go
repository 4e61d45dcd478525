package relay

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	wire "tamizdat/transport/relay"
)

var timing = flag.Int("timing", 20, "how often TestProberTiming asks each thing of each server")

// TestProberTiming says whether a clock tells a relay that carries as many channels
// as may be from the website alone, and as a measure from the same website a second
// time: who asks all three in turn, over one connection each. It judges no time (see
// TestMatchCostsTheSame).
//
//	go test ./mirror/relay -run ProberTiming -v -args -timing 5000
func TestProberTiming(t *testing.T) {
	p, dir := newPress(t, "timed"), t.TempDir()
	if _, err := loadKeys(dir); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for i := range maxCarried - 1 {
		list.WriteString(channel.ID{byte(i), byte(i >> 8), 1}.String() + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, carriedFile), []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{Dir: dir, Throttle: Throttle{PerAddress: -1}}) // or it soon says that it is too much
	tg, revoked := target(t, r, p.ch), channel.Seed{9}
	push(t, r, p.edition(t, 0))
	if err := deny(t, r, p, p.denied(t, r, 1, revoked)); err != nil {
		t.Fatal(err)
	}
	servers := []string{r.Addr().String()}
	for range 2 {
		s, err := wire.Listen(t.Context(), &netreal.Network{}, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{r.keys.cert}}, siteOf(t, ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		servers = append(servers, s.Addr().String())
	}
	wrong := tg.Relay(p.batch).Prefix
	wrong[23] ^= 1
	noHint := wrong
	noHint[9] ^= 1
	out := "\n| asked for | relay | website | its twin | relay slower than website | twin slower than website |\n|---|--:|--:|--:|--:|--:|\n"
	for _, c := range []struct{ name, path string }{
		{"a page", "/robots.txt"},
		{"a page that is missing", "/nothing"},
		{"a prefix with a bit wrong", "/" + wrong.Path() + "/head/" + p.ch.String()},
		{"one that no channel has", "/" + noHint.Path() + "/head/" + p.ch.String()},
		{"one of a revoked batch", "/" + tg.Relay(revoked).Prefix.Path() + "/head/" + p.ch.String()},
	} {
		took := inTurn(t, servers, c.path)
		out += fmt.Sprintf("| %s | %.1f µs | %.1f µs | %.1f µs | %.1f %% | %.1f %% |\n",
			c.name, median(took[0]), median(took[1]), median(took[2]), 100*slower(took[0], took[1]), 100*slower(took[2], took[1]))
	}
	t.Log(out)
}

// inTurn asks each server for a path, in an order drawn anew each time, over
// HTTP/1.1, and returns the times in microseconds.
func inTurn(t *testing.T, servers []string, path string) [][]float64 {
	t.Helper()
	took := make([][]float64, len(servers))
	conns, readers := make([]*tls.Conn, len(servers)), make([]*bufio.Reader, len(servers))
	for i, addr := range servers {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i], readers[i] = c, bufio.NewReader(c)
	}
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
	for round := range *timing + *timing/10 {
		for _, i := range rand.Perm(len(servers)) {
			began := time.Now()
			if _, err := conns[i].Write(request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(readers[i], nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if want := map[bool]int{true: 200, false: 404}[path == "/robots.txt"]; err != nil || resp.StatusCode != want {
				t.Fatalf("%s: %s, %v", path, resp.Status, err)
			}
			if round >= *timing/10 { // the first ones fill caches
				took[i] = append(took[i], float64(time.Since(began))/1e3)
			}
		}
	}
	return took
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// slower is how likely one of a is more than one of b, both drawn by lot (the
// statistic of Mann and Whitney): a half if nothing tells them apart.
func slower(a, b []float64) float64 {
	b = slices.Sorted(slices.Values(b))
	var sum float64
	for _, x := range a {
		below, _ := slices.BinarySearch(b, x)
		upTo, _ := slices.BinarySearchFunc(b, x, func(e, x float64) int {
			if e <= x {
				return -1
			}
			return 1
		})
		sum += float64(below+upTo) / 2
	}
	return sum / float64(len(a)*len(b))
}

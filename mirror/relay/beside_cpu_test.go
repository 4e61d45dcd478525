package relay

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/internal/testservers"
	"tamizdat/transport/transporttest"
)

// What a server's processor does for each gigabyte that it serves: the relay's
// website and its blocks, beside Debian's caddy and nginx with the same files. One
// client for all, on loopback, in turn, as many rounds as -benchtime says. A
// server's time is that of its process, user and system together; the client's
// share of the machine is not in it.
//
//	go test -tags nodynamic ./mirror/relay -run xxx -bench CPUBeside -benchtime 5x -timeout 20m
var servedMB = flag.Int("served", 256, "megabytes that CPUBeside fetches from a server in a round")

// serving is one server, what is fetched from it, and how.
type serving struct {
	name string
	pid  int
	urls []string
	h3   bool
	cpu  []float64 // seconds a gigabyte
	rate []float64 // megabytes a second
}

func BenchmarkCPUBeside(b *testing.B) {
	b.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	if _, ok := cpuOf(b, os.Getpid()); !ok {
		b.Skip("no /proc here, so nobody says how long another process has computed")
	}
	site, files := writeSite(b)
	a, e := newAlbum(b, 32, siteEnv+"="+site)
	blocks, runs := writeBlocks(b, site, e), runsOf(a)
	cert := testservers.NewCert(b)
	caddy, nginx := testservers.Caddy(b, site, cert), testservers.NginxServer(b, site, cert)
	home := fmt.Sprintf("https://%s:%d", a.relay.Host, a.relay.Port)
	secret := home + "/" + a.relay.Prefix.Path()
	all := []*serving{
		{name: "website over HTTP/3: the relay", pid: a.pid, urls: below(home, files), h3: true},
		{name: "website over HTTP/3: caddy", pid: caddy.PID, urls: below(caddy.URL, files), h3: true},
		{name: "website over HTTP/2: the relay", pid: a.pid, urls: below(home, files)},
		{name: "website over HTTP/2: nginx", pid: nginx.PID, urls: below(nginx.URL, files)},
		{name: "website over HTTP/2: caddy", pid: caddy.PID, urls: below(caddy.URL, files)},
		{name: "blocks over HTTP/3: the relay", pid: a.pid, urls: below(secret, blocks), h3: true},
		{name: "blocks over HTTP/3: caddy, as files", pid: caddy.PID, urls: below(caddy.URL, blocks), h3: true},
		{name: "blocks over HTTP/2: the relay", pid: a.pid, urls: below(secret, blocks)},
		{name: "blocks over HTTP/2: nginx, as files", pid: nginx.PID, urls: below(nginx.URL, blocks)},
		{name: "runs over HTTP/3: the relay", pid: a.pid, urls: below(secret, runs), h3: true},
		{name: "runs over HTTP/2: the relay", pid: a.pid, urls: below(secret, runs)},
	}
	all = slices.DeleteFunc(all, func(s *serving) bool { return !strings.Contains(s.name, *bulkWay) })
	for b.Loop() {
		for _, s := range all {
			s.fetch(b)
		}
	}
	var out strings.Builder // in one: of a benchmark's lines only ten are printed
	for _, s := range all {
		fmt.Fprintf(&out, "\n%-38s %5.2f CPU s/GB  (%.2f to %.2f), at %4.0f MB/s", s.name, middleOf(s.cpu), slices.Min(s.cpu), slices.Max(s.cpu), middleOf(s.rate))
	}
	b.Log(out.String())
	b.ReportMetric(0, "ns/op") // of all together: it says nothing
}

func middleOf(f []float64) float64 { return slices.Sorted(slices.Values(f))[len(f)/2] }

// writeSite makes a website: pages, a style sheet and photographs, 11 MB in all.
func writeSite(b *testing.B) (dir string, paths []string) {
	b.Helper()
	dir = b.TempDir()
	sizes := map[string]int{"index.html": 14_000, "style.css": 24_000, "about.html": 9_000}
	for i := range 40 {
		sizes[fmt.Sprintf("photo-%02d.jpg", i)] = 20_000 + 13_000*i
	}
	for name, n := range sizes {
		if err := os.WriteFile(filepath.Join(dir, name), transporttest.Noise(uint64(n), n), 0o644); err != nil {
			b.Fatal(err)
		}
		path := "/" + name
		if name == "index.html" {
			path = "/"
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return dir, paths
}

// writeBlocks lays an edition's blocks into a website as a static mirror has them.
func writeBlocks(b *testing.B, dir string, e *transporttest.Edition) (paths []string) {
	b.Helper()
	if err := os.Mkdir(filepath.Join(dir, "ipfs"), 0o755); err != nil {
		b.Fatal(err)
	}
	for _, block := range e.Packed.Blocks {
		path := "/ipfs/" + block.CID.String()
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(path)), block.Data, 0o644); err != nil {
			b.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// runsOf are the same blocks in CARs of 4 MiB, as readers ask for them on fast lines.
func runsOf(a *album) (paths []string) {
	const run = 4 << 20
	file := a.wants[len(a.wants)-1].File
	for at := 0; at < int(a.size)-2*run; at += run {
		paths = append(paths, fmt.Sprintf("/ipfs/%s?format=car&dag-scope=entity&entity-bytes=%d:%d", file, at, at+run-1))
	}
	return paths
}

func below(base string, paths []string) (urls []string) {
	for _, p := range paths {
		urls = append(urls, base+p)
	}
	return urls
}

// clients is how many requests are under way at once.
const clients = 8

// fetch is one round: a new connection, and then one file after the other.
func (s *serving) fetch(b *testing.B) {
	b.Helper()
	rt := http.RoundTripper(&http.Transport{TLSClientConfig: anyCert.Clone(), ForceAttemptHTTP2: true})
	if s.h3 {
		t := &http3.Transport{TLSClientConfig: anyCert.Clone(), QUICConfig: &quic.Config{}}
		defer t.Close()
		rt = t
	} else {
		defer rt.(*http.Transport).CloseIdleConnections()
	}
	before, _ := cpuOf(b, s.pid)
	var got, next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			for got.Load() < int64(*servedMB)*1_000_000 && !b.Failed() {
				n, err := get(rt, s.urls[int(next.Add(1))%len(s.urls)], s.h3)
				if err != nil {
					b.Errorf("%s: %v", s.name, err)
					return
				}
				got.Add(n)
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	took := time.Since(start).Seconds()
	after, _ := cpuOf(b, s.pid)
	s.cpu = append(s.cpu, (after-before).Seconds()/float64(got.Load())*1e9)
	s.rate = append(s.rate, float64(got.Load())/took/1e6)
}

func get(rt http.RoundTripper, url string, h3 bool) (int64, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	if strings.Contains(url, "/ipfs/") && !strings.Contains(url, "?") {
		req.Header.Set("Accept", typeRaw)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if major := map[bool]int{false: 2, true: 3}[h3]; resp.StatusCode != http.StatusOK || resp.ProtoMajor != major {
		return 0, fmt.Errorf("%s over %s", resp.Status, resp.Proto)
	}
	return io.Copy(io.Discard, resp.Body)
}

// cpuOf is how long a process has computed, user and system; false where the system
// doesn't say. proc(5) counts in hundredths of a second.
func cpuOf(b testing.TB, pid int) (time.Duration, bool) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // past the command's name
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, false
	}
	var ticks time.Duration
	for _, field := range f[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, true
}

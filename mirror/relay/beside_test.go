package relay

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/mirror/reader"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
	"tamizdat/transport/transporttest"
)

// An edition of pictures from one relay to one reader, beside what else brings the
// same bytes: each server in a process of its own, on loopback, all in turn, as
// many rounds as -benchtime says. What is compared is printed at the end; nothing
// is judged.
//
//	go test -tags nodynamic ./mirror/relay -run xxx -bench BulkBeside -benchtime 7x -timeout 20m
//
// Kubo is compared where there is an ipfs in PATH (see testservers.HowKubo).
var (
	bulkMB  = flag.Int("megabytes", 128, "how large the edition is that BulkBeside fetches")
	bulkWay = flag.String("way", "", "compare only those whose names hold this, for a profile of one; CPUBeside too")
)

// anyCert is for clients that are not ours: each server has a key of its own making.
var anyCert = &tls.Config{InsecureSkipVerify: true}

// way is one of those compared: fetch stores all in an empty folder and returns how
// long that took.
type way struct {
	name  string
	fetch func(b *testing.B, dir string) time.Duration
	took  []time.Duration
}

func BenchmarkBulkBeside(b *testing.B) {
	b.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	a, _ := newAlbum(b, *bulkMB)
	bare, _ := startSelf(b, bareEnv+"="+a.car)
	ways := []*way{
		{name: "a bare quic-go handler, to a file, fsynced", fetch: func(b *testing.B, dir string) time.Duration { return a.bare(b, dir, bare) }},
		{name: "the relay's blocks, checked, to a file, fsynced", fetch: a.blocks},
		{name: "the reader's program, from its invite to all in the library", fetch: a.reader},
	}
	if _, err := exec.LookPath("ipfs"); err != nil {
		b.Log(testservers.HowKubo)
	} else {
		ways = append(ways, a.kubo(b)...)
	}
	ways = slices.DeleteFunc(ways, func(w *way) bool { return !strings.Contains(w.name, *bulkWay) })
	if len(ways) == 0 {
		b.Fatalf("nothing that is compared has %q in its name", *bulkWay)
	}
	for b.Loop() {
		for _, w := range ways {
			dir, err := os.MkdirTemp(b.TempDir(), "")
			if err != nil {
				b.Fatal(err)
			}
			w.took = append(w.took, w.fetch(b, dir))
			if err := os.RemoveAll(dir); err != nil { // before it is written for nothing
				b.Fatal(err)
			}
		}
	}
	best := middle(ways[0].took)
	for _, w := range ways {
		m := middle(w.took)
		b.Logf("%-62s %6.2f s  %6.1f MB/s  %.2f of the first", w.name, m.Seconds(), float64(a.size)/m.Seconds()/1e6, best.Seconds()/m.Seconds())
	}
	b.ReportMetric(0, "ns/op") // of all ways together: it says nothing
}

func middle(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// album is an edition that a relay holds, and its CAR as a file.
type album struct {
	pid    int // of the relay
	ch     channel.ID
	invite string
	relay  channel.Relay
	wants  []transport.Want
	root   string
	car    string
	size   int64
}

func newAlbum(b *testing.B, megabytes int, env ...string) (*album, *transporttest.Edition) {
	b.Helper()
	c := transporttest.NewChannel(b, "album")
	var articles []bundle.Article
	const size, each = 2_000_000, 16
	for i := range max(1, megabytes*1_000_000/(size*each)) {
		x := bundle.Article{
			ID: fmt.Sprintf("%016x", i), Title: fmt.Sprintf("The river, part %d", i), Lead: "Nothing but water.", Body: "<p>See for yourself.</p>",
			Lang: "en", Dir: "ltr", Date: transporttest.Start,
		}
		for j := range each {
			x.Images = append(x.Images, bundle.Image{Type: "image/webp", Alt: "water", Width: 4, Height: 3, Data: transporttest.Noise(uint64(i*each+j), size)})
		}
		articles = append(articles, x)
	}
	dir := b.TempDir()
	r, err := New(Config{Dir: dir, Network: &netreal.Network{}})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.carried.add(c.ID()); err != nil {
		b.Fatal(err)
	}
	tg, pid := startLoadRelay(b, dir, env...)
	e := c.Publish(articles...)
	a := &album{pid: pid, ch: c.ID(), relay: tg.Relay(c.Seed), wants: e.Wants(), root: e.Head.Root.String(), car: filepath.Join(b.TempDir(), "edition.car")}
	a.invite = c.Invite(channel.Places{Relays: []channel.Relay{a.relay}}).String()
	if err := pusher(b, &netreal.Network{}, tg).Publish(b.Context(), e.Source(), nil); err != nil {
		b.Fatal(err)
	}
	data := e.CAR()
	a.size = int64(len(data))
	if err := os.WriteFile(a.car, data, 0o600); err != nil {
		b.Fatal(err)
	}
	return a, e
}

// bareServer serves one file over HTTP/3 as quic-go's documentation has it, until
// its standard input ends.
func bareServer(file string) error {
	k, err := loadKeys(filepath.Dir(file))
	if err != nil {
		return err
	}
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	s := &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{k.cert}}),
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }),
	}
	go s.Serve(pc)
	fmt.Println(pc.LocalAddr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// bare fetches the CAR from bareServer in one request and stores it.
func (a *album) bare(b *testing.B, dir, addr string) time.Duration {
	start := time.Now()
	rt := &http3.Transport{TLSClientConfig: anyCert}
	defer rt.Close()
	resp, err := (&http.Client{Transport: rt}).Get("https://" + addr + "/")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(dir, "all"))
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(f, resp.Body)
	if err == nil {
		err = f.Sync()
	}
	took := time.Since(start)
	if f.Close(); err != nil || n != a.size {
		b.Fatalf("%d bytes instead of %d: %v", n, a.size, err)
	}
	return took
}

// blocks fetches the edition's blocks as the engine does, without the engine: the
// transport alone, each block checked, and all in a file.
func (a *album) blocks(b *testing.B, dir string) time.Duration {
	start := time.Now()
	c, err := wire.New(wire.Config{Network: &netreal.Network{}, Relay: a.relay})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	f, err := os.Create(filepath.Join(dir, "all"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	left := len(a.wants)
	for block, err := range c.Paths()[0].Blocks.Fetch(b.Context(), transport.Request{Wants: a.wants}) {
		if err == nil {
			err = bundle.CheckBlock(block.CID, block.Data)
		}
		if err == nil {
			_, err = f.Write(block.Data)
		}
		if err != nil {
			b.Fatal(err)
		}
		left--
	}
	if err := f.Sync(); err != nil || left != 0 {
		b.Fatalf("%d blocks are missing: %v", left, err)
	}
	return time.Since(start)
}

// reader is a new reader with an invite: the opening answer, all blocks, checked
// twice, in an encrypted library, durable, and each picture opened once.
func (a *album) reader(b *testing.B, dir string) time.Duration {
	r, err := reader.Open(b.Context(), reader.Config{Dir: dir, Network: &netreal.Network{}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if _, _, err := r.Add(b.Context(), a.invite); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	res, err := r.Sync(b.Context(), a.ch)
	took := time.Since(start)
	if err != nil || res.ImagesMissing || res.Bytes < a.size*9/10 {
		b.Fatalf("%+v, %v", res, err)
	}
	return took
}

// kubo are the ways from one Kubo to another, over QUIC and over TCP.
func (a *album) kubo(b *testing.B) (ways []*way) {
	for name, listen := range map[string]string{"QUIC": "/ip4/127.0.0.1/udp/0/quic-v1", "TCP": "/ip4/127.0.0.1/tcp/0"} {
		from := testservers.NewKubo(b, listen)
		from.Run("dag", "import", "--pin-roots=false", a.car)
		for _, command := range []string{"get", "pin"} {
			ways = append(ways, &way{name: "Kubo to Kubo over " + name + ", ipfs " + command, fetch: func(b *testing.B, dir string) time.Duration {
				to := testservers.NewKubo(b, listen)
				defer to.Close()
				to.Run("swarm", "connect", from.Addr)
				args := []string{"pin", "add", a.root}
				if command == "get" {
					args = []string{"get", "-o", filepath.Join(dir, "got"), a.root}
				}
				start := time.Now()
				to.Run(args...)
				return time.Since(start)
			}})
		}
	}
	slices.SortFunc(ways, func(x, y *way) int { return strings.Compare(x.name, y.name) })
	return ways
}

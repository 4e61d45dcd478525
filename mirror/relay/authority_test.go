package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport/dns"
)

// How fast the relay's name server answers, and what it takes of memory, beside
// Knot with the same zone: each a process of its own on loopback, the same load
// generator for both, one after the other.
//
//	go test ./mirror/relay -run Authority -v -timeout 20m -args -answers 1000000 -dnseditions 1000
var (
	authorityAnswers  = flag.Int("answers", 2_000, "how many answers the name servers' load generator fetches from each")
	authorityEditions = flag.Int("dnseditions", 3, "how many editions are in the name servers")
)

const authorityZone = "n.example"

// loadNameServer is what mirror-relay run --dns does. It says where it listens.
func loadNameServer(r *Relay, zone string) (stop func(), err error) {
	zones := []dns.Zone{{Name: zone}}
	records, err := r.Records(zones...)
	if err != nil {
		return nil, err
	}
	server, err := dns.NewServer(dns.ServerConfig{Zones: zones, Store: records})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	pc, ln, err := dns.Listen(ctx, &netreal.Network{}, "127.0.0.1:0")
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, pc, ln) }()
	fmt.Println(pc.LocalAddr())
	return func() {
		cancel()
		if err := errors.Join(<-done, records.Close()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

func TestAuthority(t *testing.T) {
	p := newPress(t, "authority")
	dir := t.TempDir()
	r, err := New(Config{Dir: dir, Network: &netreal.Network{}, Listen: []string{"127.0.0.1:0"}, Throttle: Throttle{PerAddress: -1, PerIntake: -1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.carried.add(p.ch), r.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	pub := pusher(t, &netreal.Network{}, target(t, r, p.ch))
	text := 0
	for i := range *authorityEditions {
		body := "<p>" + base64.StdEncoding.EncodeToString(noise(uint64(i), 12_000)) + "</p>"
		text += len(body)
		if err := pub.Publish(t.Context(), p.article(t, 0, body).source(), nil); err != nil {
			t.Fatal(err)
		}
	}
	zone, queries := authorityZoneFile(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, pid := startSelf(t, loadEnv+"="+emptied(t, dir, p), zoneEnv+"="+authorityZone)
	if bare := rss(t, pid); bare > 0 {
		t.Logf("the relay takes %d MB without editions", bare/1000)
	}
	env := []string{loadEnv + "=" + dir, zoneEnv + "=" + authorityZone}
	if *relayProfile != "" {
		env = append(env, profileEnv+"="+*relayProfile)
	}
	addr, pid := startSelf(t, env...)
	t.Logf("%d editions, %.1f MB of text, %d records, a zone file of %d MB", *authorityEditions, float64(text)/1e6, len(queries), len(zone)/1_000_000)
	t.Logf("with them it takes %d MB", rss(t, pid)/1000)
	load(t, "relay", addr, pid, queries)
	t.Logf("and %d MB after all that", rss(t, pid)/1000)

	knot := t.TempDir()
	if err := os.WriteFile(filepath.Join(knot, "zone"), zone, 0o600); err != nil {
		t.Fatal(err)
	}
	addr, pid = testservers.KnotWorkers(t, knot, "zone:\n  - domain: "+authorityZone+"\n    file: zone\n", 2)
	waitForZone(t, addr)
	t.Logf("knot takes %d MB with the same zone", rss(t, pid)/1000)
	load(t, "knot", addr, pid, queries)
}

// emptied is a folder of the same relay without editions.
func emptied(t *testing.T, dir string, p *press) string {
	t.Helper()
	out := t.TempDir()
	r, err := New(Config{Dir: out, Network: &netreal.Network{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.carried.add(p.ch); err != nil {
		t.Fatal(err)
	}
	return out
}

// authorityZoneFile writes the relay's zone as mirror-publish zone would, and a
// query for every record in it that stands under its hash.
func authorityZoneFile(t *testing.T, r *Relay) (zone []byte, queries [][]byte) {
	t.Helper()
	z := dns.Zone{Name: authorityZone}
	snap, err := openedRecords(t, r, z).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	var out bytes.Buffer
	err = dns.WriteZone(&out, z, func(yield func(dns.Entry, error) bool) {
		for e, err := range snap.Entries {
			if err == nil && !e.Named {
				q := new(mdns.Msg).SetQuestion(e.Label+"."+authorityZone+".", mdns.TypeTXT).SetEdns0(1232, false)
				raw, err := q.Pack()
				if err != nil {
					t.Fatal(err)
				}
				queries = append(queries, raw)
			}
			if !yield(e, err) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// Knot wants an address for a name server in the zone.
	return append(out.Bytes(), "ns A 127.0.0.1\n"...), queries
}

func waitForZone(t *testing.T, addr string) {
	t.Helper()
	q := new(mdns.Msg).SetQuestion(authorityZone+".", mdns.TypeSOA)
	for t.Context().Err() == nil {
		resp, err := mdns.Exchange(q, addr)
		if err == nil && len(resp.Answer) == 1 {
			return
		}
		pause(t.Context(), 50*time.Millisecond)
	}
}

const (
	loadSockets = 4
	loadWindow  = 64
	// loadTCP is how much is asked over one connection: the relay ends it after
	// 10,000 queries.
	loadTCP = 150 * loadWindow
)

// tally is what came of asking a name server.
type tally struct{ answered, octets, silent atomic.Int64 }

// take looks at one answer: with authority, whole, one record.
func (y *tally) take(t *testing.T, resp []byte) bool {
	if len(resp) < 12 || resp[3]&15 != 0 || resp[2]&0x86 != 0x84 || resp[7] != 1 {
		t.Errorf("answer %x", resp[:min(12, len(resp))])
		return false
	}
	y.answered.Add(1)
	y.octets.Add(int64(len(resp)))
	return true
}

// load asks a name server for so many answers over UDP and then over TCP, with
// several sockets and a window of queries on each, and says how that went.
func load(t *testing.T, name, addr string, pid int, queries [][]byte) {
	t.Helper()
	for _, by := range []struct {
		network string
		ask     func(t *testing.T, addr string, queries [][]byte, next, want int, y *tally)
	}{{"udp", loadUDP}, {"tcp", loadStream}} {
		var y tally
		var wg sync.WaitGroup
		before, _ := cpuOf(t, pid)
		began := time.Now()
		for i := range loadSockets {
			wg.Go(func() { by.ask(t, addr, queries, i, *authorityAnswers/loadSockets, &y) })
		}
		wg.Wait()
		took := time.Since(began)
		after, _ := cpuOf(t, pid)
		cpu, n := after-before, max(y.answered.Load(), 1)
		t.Logf("%s over %s: %d answers of %d bytes in %v, %.0f a second; %d times nothing came for 200 ms; %v of its processor time, %.2f µs an answer",
			name, by.network, n, y.octets.Load()/n, took.Round(time.Millisecond), float64(n)/took.Seconds(), y.silent.Load(), cpu, float64(cpu.Microseconds())/float64(n))
	}
}

// loadStream sends a window of queries at once and waits for all its answers.
func loadStream(t *testing.T, addr string, queries [][]byte, next, want int, y *tally) {
	var conn net.Conn
	var r *bufio.Reader
	var out []byte
	in := make([]byte, 1<<16)
	for got := 0; got < want; got += loadWindow {
		if got%loadTCP == 0 {
			if conn != nil {
				conn.Close()
			}
			var err error
			if conn, err = net.Dial("tcp", addr); err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r = bufio.NewReaderSize(conn, 1<<16)
		}
		out = out[:0]
		for range loadWindow {
			q := queries[next%len(queries)]
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(q))), q...)
			next += loadSockets
		}
		if _, err := conn.Write(out); err != nil {
			t.Error(err)
			return
		}
		for range loadWindow {
			if _, err := io.ReadFull(r, in[:2]); err != nil {
				t.Error(err)
				return
			}
			n := int(binary.BigEndian.Uint16(in))
			if _, err := io.ReadFull(r, in[:n]); err != nil {
				t.Error(err)
				return
			}
			if !y.take(t, in[:n]) {
				return
			}
		}
	}
}

// loadUDP keeps a window of queries under way.
func loadUDP(t *testing.T, addr string, queries [][]byte, next, want int, y *tally) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	conn := c.(*net.UDPConn)
	pc := ipv4.NewPacketConn(conn)
	in, out := make([]ipv4.Message, loadWindow), make([]ipv4.Message, loadWindow)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, 4096)}
		out[i].Buffers = [][]byte{make([]byte, 0, 512)}
	}
	due := loadWindow
	for got := 0; got < want; {
		for i := range due {
			q := append(out[i].Buffers[0][:0], queries[next%len(queries)]...)
			q[0], q[1] = byte(next>>8), byte(next)
			out[i].Buffers[0] = q
			next += loadSockets
		}
		for sent := 0; sent < due; {
			n, err := pc.WriteBatch(out[sent:due], 0)
			if err != nil {
				t.Error(err)
				return
			}
			sent += n
		}
		// Datagrams get lost on loopback, too, where buffers are full.
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := pc.ReadBatch(in, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			y.silent.Add(1)
			due = loadWindow
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range in[:n] {
			if !y.take(t, m.Buffers[0][:m.N]) {
				return
			}
		}
		got += n
		due = n
	}
}

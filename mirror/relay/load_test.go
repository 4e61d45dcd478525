package relay

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// The load generator: so many readers at once, each with a QUIC connection and a
// long poll of its own, at a relay in a process of its own, on loopback. It says
// what a reader costs and how arrivals and a new head go; it judges no time.
//
//	go test ./mirror/relay -run HeldReaders -v -timeout 20m -args -readers 10000
var (
	loadReaders  = flag.Int("readers", 40, "how many readers the load generator holds")
	loadArrivals = flag.Int("arrivals", 500, "how many of them come in a second")
)

// relayProfile is for where a goal is missed: what the relay's process was busy
// with, from its first request to its end.
var relayProfile = flag.String("relayprofile", "", "write a CPU profile of the relay's own process to this file")

// loadEnv has this test binary be a relay: its value is the data folder. siteEnv
// is the folder of its website then, zoneEnv a zone that it answers for,
// profileEnv the file for its CPU profile; bareEnv has it be bareServer.
const (
	loadEnv    = "TAMIZDAT_LOAD_RELAY"
	siteEnv    = "TAMIZDAT_LOAD_SITE"
	zoneEnv    = "TAMIZDAT_LOAD_ZONE"
	profileEnv = "TAMIZDAT_LOAD_PROFILE"
	bareEnv    = "TAMIZDAT_LOAD_BARE"
)

func TestMain(m *testing.M) {
	var err error
	switch dir, file := os.Getenv(loadEnv), os.Getenv(bareEnv); {
	case dir != "":
		err = profiled(func() error { return loadRelay(dir) })
	case file != "":
		err = bareServer(file)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func profiled(serve func() error) error {
	name := os.Getenv(profileEnv)
	if name == "" {
		return serve()
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	err = serve()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}

// loadRelay serves until its standard input ends, which it does with the parent.
func loadRelay(dir string) error {
	r, err := New(Config{
		Dir: dir, Network: &netreal.Network{}, Listen: []string{"127.0.0.1:0"}, Decoy: os.Getenv(siteEnv),
		Throttle: Throttle{PerAddress: -1, PerBatch: -1, AtOnce: -1, AtOncePerAddress: -1, PollsPerBatch: -1, Conns: wire.Limits{ConnsPerAddr: -1}},
	})
	if err != nil {
		return err
	}
	if err := r.Start(context.Background()); err != nil {
		return err
	}
	if zone := os.Getenv(zoneEnv); zone != "" {
		stop, err := loadNameServer(r, zone)
		if err != nil {
			return err
		}
		defer stop()
	}
	t, err := r.Target(r.Carried()[0])
	if err != nil {
		return err
	}
	fmt.Println(t)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return r.Close()
}

func TestHeldReaders(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	p := newPress(t, "load")
	first, second := p.edition(t, 20_000), p.edition(t, 20_000)
	dir := t.TempDir()
	r, err := New(Config{Dir: dir, Network: &netreal.Network{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.carried.add(p.ch); err != nil {
		t.Fatal(err)
	}
	tg, pid := startLoadRelay(t, dir)
	pub := pusher(t, &netreal.Network{}, tg)
	if err := pub.Publish(ctx, first.source(), nil); err != nil {
		t.Fatal(err)
	}
	empty := rss(t, pid)

	n := *loadReaders
	arrived, woken := make([]time.Duration, n), make([]time.Time, n)
	var wg sync.WaitGroup
	var held atomic.Int64
	begin := time.Now()
	for i := range n {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(*loadArrivals))
		pause(ctx, time.Until(due))
		wg.Go(func() {
			c, err := wire.New(wire.Config{Network: &loopback{last: i}, Relay: tg.Relay(p.batch), Wait: wire.MaxWait})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			heads := c.Paths()[0].Heads
			for _, err := range heads.(transport.Opener).Open(ctx, transport.Ask{Channel: p.ch, Grant: p.batch.GrantName(p.ch)}) {
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
			}
			arrived[i] = time.Since(due)
			held.Add(1)
			for {
				head, err := heads.Head(ctx, p.ch, 1)
				if errors.Is(err, transport.ErrNoNewer) {
					continue
				}
				if err != nil || string(head) != string(second.head.Text()) {
					t.Errorf("reader %d: %v", i, err)
				}
				woken[i] = time.Now()
				return
			}
		})
	}
	for int(held.Load()) < n && !t.Failed() {
		pause(ctx, 10*time.Millisecond)
	}
	pause(ctx, time.Second) // the last polls are on their way
	full := rss(t, pid)
	t.Logf("%d readers at %d/s: opened after p50 %v, p99 %v, max %v; all there after %v", n, *loadArrivals, quantile(arrived, 0.5), quantile(arrived, 0.99), quantile(arrived, 1), time.Since(begin).Round(time.Millisecond))
	if empty > 0 {
		t.Logf("the relay takes %d kB without readers, %d kB with: %d kB a reader", empty, full, (full-empty)/int64(n))
	}
	published := time.Now()
	if err := pub.Publish(ctx, second.source(), nil); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	var spread []time.Duration
	for _, at := range woken {
		spread = append(spread, at.Sub(published))
	}
	t.Logf("a new head woke them after p50 %v, p99 %v, max %v", quantile(spread, 0.5), quantile(spread, 0.99), quantile(spread, 1))
}

// loopback gives a reader an address of his own, where the system has all of
// 127.0.0.0/8.
type loopback struct {
	netreal.Network
	last int
}

func (l *loopback) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	pc, err := l.Network.ListenPacket(ctx, network, fmt.Sprintf("127.1.%d.%d:0", l.last>>8&0xff, l.last&0xff))
	if err != nil {
		return l.Network.ListenPacket(ctx, network, addr)
	}
	return pc, nil
}

func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))].Round(time.Millisecond)
}

// startLoadRelay starts the other process and returns its line and its ID.
func startLoadRelay(t testing.TB, dir string, env ...string) (wire.Target, int) {
	t.Helper()
	if *relayProfile != "" {
		env = append(env, profileEnv+"="+*relayProfile)
	}
	line, pid := startSelf(t, append(env, loadEnv+"="+dir)...)
	tg, err := wire.ParseTarget(line)
	if err != nil {
		t.Fatal(err)
	}
	return tg, pid
}

// startSelf starts this test binary as another process, which ends with the test,
// and returns the first line that it says.
func startSelf(t testing.TB, env ...string) (line string, pid int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said %q: %v", line, err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid
}

// rss is a process's resident memory in kB, 0 where the system does not say.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

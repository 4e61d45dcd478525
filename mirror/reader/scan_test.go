package reader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/simnet"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/transporttest"
)

// silent is a network on which nobody answers but those who are good, if there are
// any; it counts who else was asked.
type silent struct {
	transport.Network
	good func(addr string) bool // they are all the one at server
	at   *simnet.Host

	mu    sync.Mutex
	asked map[string]int
}

const server = "192.0.2.53:53"

func (n *silent) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.good != nil && n.good(addr) {
		return n.at.Dial(ctx, network, server)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[addr]++
	return transporttest.Mute(), nil
}

// inDNS is a channel with an edition.
func inDNS(t *testing.T) *transporttest.Channel {
	t.Helper()
	c := transporttest.NewChannel(t, "In DNS")
	c.Publish(transporttest.Articles(0)...)
	return c
}

// serve answers for n.example with the channel's editions.
func serve(t *testing.T, c *transporttest.Channel, at transport.Network) (stop func()) {
	t.Helper()
	store := dns.NewMemory(64 << 20)
	for _, e := range c.Editions() {
		ed, err := dns.ReadEdition(bytes.NewReader(e.CAR()), c.ID(), 16<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.PutEdition(ed); err != nil {
			t.Fatal(err)
		}
	}
	s, err := dns.NewServer(dns.ServerConfig{Zones: []dns.Zone{{Name: "n.example"}}, Store: store, Rate: -1})
	if err != nil {
		t.Fatal(err)
	}
	pc, ln, err := dns.Listen(t.Context(), at, server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, pc, ln) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What is found may be more than a note takes: the worst go, and the scan goes on.
func TestScanOfLongNames(t *testing.T) {
	r := inMemory(t, transporttest.NewChannel(t, "Kolokol"), nil)
	st := scanState{List: listHash(nil, "n.example", ""), Next: 999_999, Total: 1_000_000, Good: 999_999}
	for i := range 128 {
		st.Found = append(st.Found, dns.Facts{Resolver: fmt.Sprintf("https://%d.example/%s", i, strings.Repeat("<", 900)), OK: time.Now()})
	}
	if err := r.storeScan(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	got, err := r.scanState(t.Context(), st.List, st.Total)
	if err != nil || got.Next != st.Next || len(got.Found) == 0 || got.Found[0].Resolver != st.Found[0].Resolver {
		t.Errorf("at %d with %d found, %v", got.Next, len(got.Found), err)
	}
}

// A channel may have several zones, and the first of them be blocked.
func TestScanAllZones(t *testing.T) {
	c := inDNS(t)
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		defer net.Close()
		n := &silent{good: func(string) bool { return true }, at: net.Host("home", simnet.Link{}, netip.MustParseAddr("198.51.100.1"))}
		r := inMemory(t, transporttest.NewChannel(t, "Kolokol"), func(cfg *Config) { cfg.Network = n })
		if _, _, err := r.Add(t.Context(), c.Invite(channel.Places{Zones: []channel.Zone{{Name: "other.example"}, {Name: "n.example"}}}).String()); err != nil {
			t.Fatal(err)
		}
		defer serve(t, c, net.Host("names", simnet.Link{}, netip.MustParseAddr("192.0.2.53")))()
		res, err := r.Scan(t.Context(), c.ID(), []byte("10.0.0.1\n"), nil)
		if err != nil || res.Good != 1 || len(res.Found) != 1 {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// A scan that is stopped goes on where it was; wrong lines are named, and said
// twice is tried once.
func TestScanResumes(t *testing.T) {
	c2 := inDNS(t)
	synctest.Test(t, func(t *testing.T) {
		c := transporttest.NewChannel(t, "Kolokol")
		const total = 400
		address := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/256, i%256) }
		good := map[string]bool{}
		for i := range total {
			if i%10 > 6 {
				good[address(i)+":53"] = true
			}
		}
		net := simnet.New(1)
		defer net.Close()
		link := simnet.Link{Delay: 20 * time.Millisecond}
		n := &silent{
			asked: map[string]int{}, good: func(addr string) bool { return good[addr] },
			at: net.Host("home", link, netip.MustParseAddr("198.51.100.1")),
		}
		r := inMemory(t, c, func(cfg *Config) { cfg.Network = n })
		if _, err := r.Scan(t.Context(), c.ID(), nil, nil); !errors.Is(err, ErrNoZone) {
			t.Errorf("without a zone: %v", err)
		}
		defer serve(t, c2, net.Host("names", link, netip.MustParseAddr("192.0.2.53")))()
		if _, _, err := r.Add(t.Context(), c2.Invite(channel.Places{Zones: []channel.Zone{{Name: "n.example"}}}).String()); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		b.WriteString("\ufeff# a list\n\n")
		for i := range total {
			fmt.Fprintf(&b, "  %s \r\n", address(i))
		}
		b.WriteString("10.0.0.1\n10.0.0.1:53\nresolver of mine\nhttp://dns.example\n" + strings.Repeat("x", 5000) + "\n")
		list := []byte(b.String())
		last := 0
		run := func(d time.Duration) (ScanResult, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return r.Scan(ctx, c2.ID(), list, func(s ScanStep) {
				if s.Total != total || s.Good > s.Done || s.Done < last {
					t.Errorf("%+v", s)
				}
				last = s.Done
			})
		}
		first, err := run(10 * time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || first.Done < 100 || first.Done == total || first.Good < 20 {
			t.Errorf("%+v, %v", first.ScanStep, err)
		}
		if first.Wrong != 3 || len(first.Lines) != 3 || !strings.HasPrefix(first.Lines[0], "line 405: ") {
			t.Errorf("wrong: %d %q", first.Wrong, first.Lines)
		}
		last = 0
		second, err := run(time.Hour)
		if err != nil || second.Done != total || second.Resumed < first.Done-64 || second.Resumed > first.Done {
			t.Errorf("%+v, %v", second.ScanStep, err)
		}
		// Those that had ended out of turn are tried again, and count once.
		if second.Good != len(good) || len(second.Found) != len(good) {
			t.Errorf("%d good ones, %d found, of %d", second.Good, len(second.Found), len(good))
		}
		// Of those that were under way some are tried again, nobody else.
		again := 0
		for _, k := range n.asked {
			again += k - 1
		}
		if len(n.asked) != total-len(good) || again > 64+10 {
			t.Errorf("%d were tried, %d once more", len(n.asked), again)
		}
		last = 0
		if third, _ := run(time.Second); third.Resumed != 0 {
			t.Errorf("a list that was tried to its end goes on at %d", third.Resumed)
		}
		if err := r.ForgetResolvers(t.Context()); err != nil || len(r.Resolvers(t.Context())) != 0 {
			t.Errorf("%v", err)
		}
	})
}

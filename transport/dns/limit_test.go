package dns

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/record"
	"tamizdat/internal/testservers"
)

// faraway is a socket on loopback whose peers seem to come from elsewhere: this
// machine's own addresses are not limited.
type faraway struct {
	net.PacketConn
	full, cut, refused atomic.Int64
}

func (c *faraway) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if err != nil {
		return n, from, err
	}
	port := from.(*net.UDPAddr).AddrPort().Port()
	return n, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)), nil
}

func (c *faraway) WriteTo(b []byte, to net.Addr) (int, error) {
	switch {
	case b[3]&15 == 7: // the lower half of BADCOOKIE
		c.refused.Add(1)
	case b[2]&2 != 0:
		c.cut.Add(1)
	default:
		c.full.Add(1)
	}
	port := to.(*net.UDPAddr).AddrPort().Port()
	return c.PacketConn.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)))
}

// TestLimitedResolvers: other people's programs, from a network that has had its few
// answers, get every record all the same: with a cookie, or over TCP.
func TestLimitedResolvers(t *testing.T) {
	const zone = "n.example" // unbound has a test. of its own
	w := newWorld(t)
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: zone}}, Store: w.store, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range srv.rates.buckets {
		b.SetLimit(0) // however slow this machine is
	}
	ctx, cancel := context.WithCancel(context.Background())
	pc, ln, err := Listen(ctx, w.nw, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far, done := &faraway{PacketConn: pc}, make(chan error, 1)
	go func() { done <- srv.Serve(ctx, far, ln) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	addr := pc.LocalAddr().String()
	var labels []string
	for e, err := range w.e.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		if !e.Named && record.ClassOf(e.Data) == record.Large {
			labels = append(labels, e.Label)
		}
	}
	labels = labels[:40]

	t.Run("unbound, without cookies", func(t *testing.T) {
		resolver := testservers.StrictUnbound(t, addr, zone)
		for _, label := range labels {
			c := &mdns.Client{UDPSize: 4096, Timeout: time.Minute}
			resp, _, err := c.ExchangeContext(testContext(t), ask(label+"."+zone+".", mdns.TypeTXT, true), resolver)
			if err != nil || len(resp.Answer) != 1 || record.NameOf(txtBytes(t, resp.Answer[0])).Label() != label {
				t.Fatalf("%s: %v, %v", label, resp, err)
			}
		}
		if far.cut.Load() == 0 || far.refused.Load() > 0 {
			t.Errorf("%d answers, %d cut, %d without a cookie: nothing was limited", far.full.Load(), far.cut.Load(), far.refused.Load())
		}
	})
	for name, flag := range map[string]string{"dig, with cookies": "+cookie", "dig, without": "+nocookie"} {
		t.Run(name, func(t *testing.T) {
			dig, cut, refused := testservers.Dig(t), far.cut.Load(), far.refused.Load()
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			for _, label := range labels[:12] {
				out, err := exec.Command(dig, "@127.0.0.1", "-p", port, "+norec", flag, label+"."+zone, "TXT").CombinedOutput()
				if err != nil || !strings.Contains(string(out), "ANSWER: 1") {
					t.Fatalf("%s: %v\n%s", label, err, out)
				}
			}
			cut, refused = far.cut.Load()-cut, far.refused.Load()-refused
			if flag == "+cookie" && (refused == 0 || cut > 0) || flag == "+nocookie" && (cut == 0 || refused > 0) {
				t.Errorf("%d cut, %d told to come with a cookie", cut, refused)
			}
		})
	}
}

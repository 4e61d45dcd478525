package relay

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// The address that answered last is blocked. A ticket makes each address look
// alive at first; the request gets through all the same, as soon as the living one
// has had its turn, and the next one goes straight there.
func TestBlockedAddressIsLeft(t *testing.T) {
	for name, dead := range map[string][]netip.Addr{
		"one of two":     nil,
		"three of four":  {netip.MustParseAddr("192.0.2.98"), netip.MustParseAddr("192.0.2.99")},
		"first, by name": {netip.MustParseAddr("192.0.2.99")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOpened(t, 8<<10)
				second := netip.MustParseAddr("192.0.2.2")
				addrs := append([]netip.Addr{netip.MustParseAddr(relayAt)}, dead...)
				o.air.Name("relay.example", append(addrs, second)...)
				s, err := Listen(t.Context(), o.air.at("192.0.2.2"), "192.0.2.2:443", &tls.Config{Certificates: []tls.Certificate{o.cert}}, o, nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				client, err := New(Config{Network: o.air.at("198.51.100.1"), Relay: channel.Relay{Host: "relay.example", Port: 443, Pin: channel.PinOf(o.cert.Leaf)}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { client.Close() })
				o.open(client)
				o.hangUp(client)
				spare(client)
				if took := o.open(client); took > 1.1 {
					t.Fatalf("returning: %.2f round trips", took)
				}
				o.hangUp(client)
				spare(client)
				if err := o.server.Close(); err != nil { // its packets vanish from now on
					t.Fatal(err)
				}
				late := float64(stagger) / float64(roundTrip)
				if took := o.open(client); took > late*float64(maxWays)+3 {
					t.Errorf("blocked: %.2f round trips", took)
				}
				o.hangUp(client)
				spare(client)
				if took := o.open(client); took > 2.1 {
					t.Errorf("afterwards: %.2f round trips", took)
				}
			})
		})
	}
}

// spare gives the client a second ticket, as two connections would have left it.
func spare(c *Client) {
	ts := c.conns[0].(*quicConn).to.tickets
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.all) == 1 {
		ts.all = append(ts.all, ts.all[0])
	}
}

// A connection that went silent when it was up: the next dial doesn't trust a
// ticket, but asks the same address first.
func TestSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpened(t, 8<<10)
		o.air.Name("relay.example", netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr(relayAt))
		client, err := New(Config{Network: o.air.at("198.51.100.1"), Relay: channel.Relay{Host: "relay.example", Port: 443, Pin: channel.PinOf(o.cert.Leaf)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		o.open(client)
		time.Sleep(time.Second)
		o.air.at("198.51.100.1").SetDown(true)
		time.Sleep(2 * idleTimeout)
		o.air.at("198.51.100.1").SetDown(false)
		early := o.early.Load()
		if took := o.open(client); took > 2.1 || o.early.Load() != early {
			t.Errorf("%.2f round trips, %d early requests", took, o.early.Load()-early)
		}
	})
}

// What order makes of what was learned.
func TestAddressOrder(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	q := &quicConn{}
	check := func(what string, wait bool, want ...netip.Addr) {
		t.Helper()
		got := []netip.Addr{a, b, c}
		q.order(got)
		for i := range want {
			if got[i] != want[i] || q.doubts() != wait {
				t.Errorf("%s: %v, wait %v", what, got, q.doubts())
				return
			}
		}
	}
	check("nothing known", false, a, b, c)
	q.good = a
	q.failedAt(a)
	check("the good one failed", false, b, c, a)
	q.failedAt(b)
	check("another one too", false, c, a, b)
	q.failedAt(c)
	q.failedAt(a)
	check("all", false, b, c, a)
	q.judge(&line{err: transport.ErrNotFound}, nil)
	check("no connection was made", true, b, c, a)
	for i := range 100 {
		q.failedAt(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	if len(q.bad) > maxBad {
		t.Errorf("%d addresses are kept", len(q.bad))
	}
}

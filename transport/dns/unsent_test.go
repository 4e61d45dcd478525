package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// cutOff is a network on which nothing can be sent to some addresses, or to any.
type cutOff struct {
	fakeNet
	to  string      // to whom never
	all atomic.Bool // to nobody now
	// icmp: every other datagram finds out instead that the one before was refused.
	icmp bool
}

func (n *cutOff) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.all.Load() || n.to != "" && strings.HasPrefix(addr, n.to) {
		return nil, fmt.Errorf("dial %s: %w", network, syscall.ENETUNREACH)
	}
	c, err := n.fakeNet.Dial(ctx, network, addr)
	if u, ok := c.(*fakeUDP); ok {
		return &cutUDP{fakeUDP: u, net: n}, err
	}
	return c, err
}

type cutUDP struct {
	*fakeUDP
	net     *cutOff
	refused atomic.Bool
}

func (c *cutUDP) Write(b []byte) (int, error) {
	if c.net.all.Load() {
		return 0, syscall.ENETUNREACH
	}
	if c.net.icmp && c.refused.CompareAndSwap(true, false) {
		return 0, syscall.ECONNREFUSED
	}
	c.refused.Store(true)
	return c.fakeUDP.Write(b)
}

// Where nothing can be sent a reader hears so soon, and it says nothing of the resolver.
func TestNoNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &cutOff{fakeNet: fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}}
		nw.all.Store(true)
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"192.0.2.1:53", "192.0.2.2:53"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.pool.Close()
		began := time.Now()
		for range 5 {
			if _, err := c.Head(t.Context(), w.ch, 0); !errors.Is(err, errUnsent) || !errors.Is(err, syscall.ENETUNREACH) {
				t.Fatal(err)
			}
		}
		if d := time.Since(began) / 5; d > 6*time.Second {
			t.Errorf("it takes %v to say that there is no network", d)
		}
		nw.all.Store(false)
		began = time.Now()
		w.heads(t.Context(), c)
		w.fetchAll(t.Context(), c)
		if d := time.Since(began); d > 3*time.Second || c.resolvers[0].dead() || !c.provenLarge() {
			t.Errorf("once there is one it takes %v", d)
		}
	})
}

// An IPv6 resolver on a network without IPv6 costs no time.
func TestOneUnreachableResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &cutOff{fakeNet: fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}, to: "[2001:db8::1]"}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"[2001:db8::1]:53", "192.0.2.2:53"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.pool.Close()
		began := time.Now()
		if _, err := c.Head(t.Context(), w.ch, 0); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		w.fetchAll(t.Context(), c)
	})
}

// A fetch outlives a moment without a network.
func TestNetworkComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &cutOff{fakeNet: fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"192.0.2.1:53"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		w.heads(t.Context(), c)
		nw.all.Store(true)
		time.AfterFunc(5*time.Second, func() { nw.all.Store(false) })
		w.fetchAll(t.Context(), c)
	})
}

// Somebody on the way who answers every question with ICMP costs no time.
func TestForgedICMP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &cutOff{fakeNet: fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}, icmp: true}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"192.0.2.1:53"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w.heads(t.Context(), c)
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		w.fetchAll(t.Context(), c)
	})
}

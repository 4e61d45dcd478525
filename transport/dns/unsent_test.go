package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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
	// deaf resolvers take what is sent, and never answer.
	deaf []string
	// icmp: every other datagram finds out instead that the one before was refused.
	icmp bool
}

func (n *cutOff) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.all.Load() || n.to != "" && strings.HasPrefix(addr, n.to) {
		return nil, fmt.Errorf("dial %s: %w", network, syscall.ENETUNREACH)
	}
	c, err := n.fakeNet.Dial(ctx, network, addr)
	if u, ok := c.(*fakeUDP); ok {
		if slices.Contains(n.deaf, addr) {
			return deafUDP{u}, err
		}
		return &cutUDP{fakeUDP: u, net: n}, err
	}
	return c, err
}

type deafUDP struct{ *fakeUDP }

func (deafUDP) Write(b []byte) (int, error) { return len(b), nil }

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

// Resolvers that can't be reached, however many, keep nobody from those that can, also if
// these carry Small records alone.
func TestUnreachableAndSmall(t *testing.T) {
	for _, many := range []int{1, 12} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			honest := w.honest()
			nw := &cutOff{to: "[2001:db8::1]", fakeNet: fakeNet{rtt: 50 * time.Millisecond, noTCP: true, answer: func(req []byte, tcp bool) [][]byte {
				if req[11] > 0 { // it has an OPT record: a question for a Large one
					return [][]byte{withTXT(req, random("junk", 700))}
				}
				return honest(req, tcp)
			}}}
			resolvers := []string{"192.0.2.2:53"}
			for i := range many {
				resolvers = append(resolvers, fmt.Sprintf("[2001:db8::1]:%d", 53+i))
			}
			c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: resolvers, Hurry: true})
			if err != nil {
				t.Fatal(err)
			}
			defer c.pool.Close()
			for n := range 6 {
				began := time.Now()
				if _, err := c.Head(t.Context(), w.ch, 0); err != nil {
					t.Fatalf("%d of them, head %d: %v", many, n, err)
				}
				if d := time.Since(began); n > 0 && d > time.Second {
					t.Errorf("%d of them, head %d took %v", many, n, d)
				}
			}
		})
	}
}

// Who is known to be good is not given up for strangers, who never answer, because of a
// moment without a network.
func TestMomentAmongSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &cutOff{fakeNet: fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}, deaf: []string{"192.0.2.2:53", "192.0.2.3:53"}}
		c, err := NewClient(ClientConfig{Network: nw, Zone: testZone, Resolvers: []string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"}, Hurry: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.pool.Close()
		w.heads(t.Context(), c)
		for name, f := range map[string]func(){
			"head":  func() { w.heads(t.Context(), c) },
			"fetch": func() { w.fetchAll(t.Context(), c) },
		} {
			time.Sleep(lately + time.Minute)
			nw.all.Store(true)
			time.AfterFunc(50*time.Millisecond, func() { nw.all.Store(false) })
			began := time.Now()
			f()
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("%s: %v", name, d)
			}
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

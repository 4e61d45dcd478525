package pkarr

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/simnet"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
)

func allowAll(netip.AddrPort) bool { return true }

// loopback is the plainest transport.Network.
type loopback struct{ opened atomic.Int64 }

func (n *loopback) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, transport.ErrUnsupported
}

func (n *loopback) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, transport.ErrUnsupported
}

func (n *loopback) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	n.opened.Add(1)
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

func (n *loopback) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	return []netip.Addr{a}, err
}

func clientOf(t *testing.T, nw transport.Network, nodes ...string) *Client {
	t.Helper()
	c, err := New(Config{Network: nw, Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// One puts, another finds, over nodes of another make; what is newer takes the place.
func TestSwarm(t *testing.T) {
	nodes := testservers.Swarm(t, 12)
	key := keyOf("ipns")
	ctx := t.Context()
	nw := &loopback{}
	putter, reader := clientOf(t, nw, nodes[3]), clientOf(t, nw, nodes[7])
	if _, err := reader.Get(ctx, public(key)); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	p := reader.Path(public(key))
	for edition := range uint64(3) {
		item := itemOf(t, key, edition, int64(1000+edition))
		if n, err := putter.Put(ctx, item); err != nil || n < nearest/2 {
			t.Fatalf("edition %d: %d nodes took it, %v", edition, n, err)
		}
		got, err := p.Heads.Head(ctx, channel.ID{}, edition)
		if err != nil || !bytes.Equal(got, item.Compact) {
			t.Errorf("edition %d: %d bytes, %v", edition, len(got), err)
		}
	}
	if _, err := p.Heads.Head(ctx, channel.ID{}, 4); !errors.Is(err, transport.ErrNoNewer) {
		t.Errorf("what is older than what the reader has: %v", err)
	}
	if n, err := putter.Put(ctx, itemOf(t, key, 1, 1001)); !errors.Is(err, ErrItem) {
		t.Errorf("an older one: %d nodes, %v", n, err)
	}
	if n, err := putter.Put(ctx, itemOf(t, key, 2, 1002)); err != nil || n == 0 {
		t.Errorf("the same again: %d nodes, %v", n, err)
	}
	if _, err := reader.Get(ctx, public(keyOf("other"))); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("another key: %v", err)
	}
	if _, err := p.Heads.RootNote(ctx, channel.ID{}, 1); !errors.Is(err, transport.ErrNotFound) {
		t.Error(err)
	}
	if _, err := p.Heads.Grant(ctx, channel.ID{}, "x"); !errors.Is(err, transport.ErrNotFound) {
		t.Error(err)
	}
}

// world is a net of nodes that are as bad as a test wants, on a fake clock.
type world struct {
	t   *testing.T
	net *simnet.Net
	me  *simnet.Host
}

// node answers with what it is told to; asked counts.
func (w *world) node(i int, answer func(q string, n int) []byte) (addr string, asked *atomic.Int64) {
	w.t.Helper()
	return w.at(fmt.Sprintf("192.0.2.%d:6881", i), answer)
}

// at is node at an address.
func (w *world) at(addr string, answer func(q string, n int) []byte) (_ string, asked *atomic.Int64) {
	w.t.Helper()
	h := w.net.Host(addr, simnet.Link{Delay: 20 * time.Millisecond}, netip.MustParseAddrPort(addr).Addr())
	pc, err := h.ListenPacket(w.t.Context(), "udp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	asked = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			v, _, ok := decode(buf[:n], 0)
			q, _ := v.(map[string]any)
			if !ok || q["a"] == nil || q["ro"] != int64(1) {
				w.t.Errorf("asked %q", buf[:n])
				return
			}
			if b := answer(q["t"].(string), int(asked.Add(1))); b != nil {
				_, _ = pc.WriteTo(b, from)
			}
		}
	}()
	w.t.Cleanup(func() { pc.Close(); <-done })
	return addr, asked
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return string(b)
}

// Bad nodes neither end the program nor keep anything away, and lead nobody on without
// end.
func TestBadNodes(t *testing.T) {
	key := keyOf("ipns")
	good, old := itemOf(t, key, 5, 5000), itemOf(t, key, 4, 4000)
	with := func(i *Item, change func(r map[string]any)) func(q string, n int) []byte {
		return func(q string, _ int) []byte {
			r := map[string]any{"id": random(20), "token": "t"}
			if i != nil {
				r["seq"], r["v"], r["k"], r["sig"] = i.Seq, string(i.value), string(i.key), string(i.sig[:])
			}
			if change != nil {
				change(r)
			}
			return answerTo(q, r)
		}
	}
	raw := func(text string) func(q string, n int) []byte {
		return func(q string, _ int) []byte {
			return bytes.Replace([]byte(text), []byte("1:t1:a"), []byte("1:t4:"+q), 1)
		}
	}
	liars := []func(q string, n int) []byte{
		func(string, int) []byte { return nil },
		func(string, int) []byte { return bytes.Repeat([]byte("x"), 3000) },
		with(good, func(r map[string]any) { delete(r, "seq") }),
		with(good, func(r map[string]any) { r["seq"] = r["seq"].(int64) + 1 }),
		with(good, func(r map[string]any) { r["v"] = "another" }),
		with(good, func(r map[string]any) { r["sig"] = "short" }),
		with(good, func(r map[string]any) { r["sig"] = r["sig"].(string) + "x" }),
		with(signed(keyOf("other"), 9999, good.value), nil),
		with(old, nil),
		with(nil, func(r map[string]any) { // names nodes without end
			r["nodes"] = random(26 * 80)
		}),
		with(nil, func(r map[string]any) { // among them some of the reader's own network
			r["nodes"] = random(20) + "\x0a\x00\x00\x01\x00\x35"
		}),
	}
	for _, text := range bad {
		liars = append(liars, raw(text))
	}
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		defer net.Close()
		w := &world{t: t, net: net, me: net.Host("me", simnet.Link{Delay: 20 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))}
		var nodes []string
		for i, l := range liars {
			addr, _ := w.node(i+1, l)
			nodes = append(nodes, addr)
		}
		_, lan := w.at("10.0.0.1:53", func(string, int) []byte { return nil })
		began := time.Now()
		if i, err := clientOf(t, w.me, nodes[:9]...).Get(t.Context(), public(key)); err != nil || i.Seq != old.Seq {
			t.Errorf("%+v, %v", i, err)
		}
		if i, err := clientOf(t, w.me, nodes[9:]...).Get(t.Context(), public(key)); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("%+v, %v", i, err)
		}
		truth, asked := w.node(200, with(good, nil))
		for _, order := range [][]string{append([]string{truth}, nodes...), append(slices.Clone(nodes), truth)} {
			c := clientOf(t, w.me, order[:min(len(order), maxNodes)]...)
			if len(order) > maxNodes {
				c.nodes = order
			}
			if i, err := c.Get(t.Context(), public(key)); err != nil || i.Seq != good.Seq {
				t.Errorf("%+v, %v", i, err)
			}
		}
		if asked.Load() != 2 {
			t.Errorf("asked %d times", asked.Load())
		}
		if n := lan.Load(); n > 0 {
			t.Errorf("one in a network of the reader's own was asked %d times", n)
		}
		if d := time.Since(began); d > 5*walkTime {
			t.Errorf("took %v", d)
		}
		if _, err := clientOf(t, w.me, "192.0.2.1:6881").Get(t.Context(), public(key)); !errors.Is(err, errSilent) {
			t.Errorf("nobody answers: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := clientOf(t, w.me, "192.0.2.1:6881").Get(ctx, public(key)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no time: %v", err)
		}
		if _, err := clientOf(t, w.me, nodes[2]).Put(t.Context(), good); err != nil {
			t.Errorf("one that takes anything: %v", err)
		}
		if _, err := clientOf(t, w.me, nodes[0]).Put(t.Context(), good); !errors.Is(err, errSilent) {
			t.Errorf("one that takes nothing: %v", err)
		}
	})
}

// What is smaller than what the reader has is news if it is of a later generation of the
// log, which may have left that out.
func TestNewGeneration(t *testing.T) {
	key := keyOf("ipns")
	h := headOf(t, 3)
	h.Generation = 1
	i, err := Sign(key, h, time.UnixMicro(5000))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		defer net.Close()
		w := &world{t: t, net: net, me: net.Host("me", simnet.Link{Delay: 20 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))}
		addr, _ := w.node(1, func(q string, _ int) []byte {
			return answerTo(q, map[string]any{"id": random(20), "seq": i.Seq, "v": string(i.value), "k": string(i.key), "sig": string(i.sig[:])})
		})
		p := clientOf(t, w.me, addr).Path(public(key))
		if got, err := p.Heads.Head(t.Context(), channel.ID{}, 40); err != nil || !bytes.Equal(got, i.Compact) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// A forged answer for a node's name opens the reader's own network to nobody.
func TestForgedName(t *testing.T) {
	key := keyOf("ipns")
	good := itemOf(t, key, 5, 5000)
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		defer net.Close()
		w := &world{t: t, net: net, me: net.Host("me", simnet.Link{Delay: 20 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))}
		addr, _ := w.node(1, func(q string, _ int) []byte {
			return answerTo(q, map[string]any{
				"id": random(20), "seq": good.Seq, "v": string(good.value), "k": string(good.key), "sig": string(good.sig[:]),
				"nodes": random(20) + "\x0a\x00\x00\x01\x00\x35",
			})
		})
		_, lan := w.at("10.0.0.1:53", func(string, int) []byte { return nil })
		_, router := w.at("10.0.0.2:6881", func(string, int) []byte { return nil })
		net.Name("forged.example", netip.MustParseAddr("10.0.0.2"))
		if i, err := clientOf(t, w.me, addr, "forged.example:6881").Get(t.Context(), public(key)); err != nil || i.Seq != good.Seq {
			t.Errorf("%+v, %v", i, err)
		}
		if n, m := lan.Load(), router.Load(); n+m > 0 {
			t.Errorf("one that a node named was asked %d times, one that the name led to %d times", n, m)
		}
		_, _ = clientOf(t, w.me, addr, "10.0.0.2:6881").Get(t.Context(), public(key))
		if lan.Load() == 0 || router.Load() == 0 {
			t.Error("a network of the configuration's own is not asked")
		}
	})
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Network: &loopback{}},
		{Nodes: []string{"192.0.2.1:6881"}},
		{Network: &loopback{}, Nodes: []string{"192.0.2.1"}},
		{Network: &loopback{}, Nodes: []string{"192.0.2.1:0"}},
		{Network: &loopback{}, Nodes: []string{":6881"}},
		{Network: &loopback{}, Nodes: slices.Repeat([]string{"192.0.2.1:6881"}, maxNodes+1)},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
	c := clientOf(t, &loopback{}, "no.such.name:6881")
	if _, err := c.Get(t.Context(), public(keyOf("ipns"))); err == nil {
		t.Error("a name that is not found")
	}
	if _, err := c.Get(t.Context(), nil); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("no key: %v", err)
	}
}

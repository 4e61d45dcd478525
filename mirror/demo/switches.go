package demo

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"tamizdat/transport"
)

// Switches is a censor with one switch for each kind of path: a decorator of
// the network that a reader uses. It tells the kinds apart by protocol and
// destination port, drops datagrams silently, refuses connections, and cuts
// those that stand when a switch is thrown. It counts what passes.
//
// In the demo's world there is nothing but the demo: any other destination is
// unreachable.
type Switches struct {
	base  transport.Network
	names names
	bytes atomic.Int64

	mu      sync.Mutex
	kinds   map[string]string // "udp 127.0.0.1:443" → kind
	blocked map[string]bool
	conns   map[*switchedConn]struct{}
}

var _ transport.Network = (*Switches)(nil)

// NewSwitches puts switches before a network; all are open.
func NewSwitches(base transport.Network) *Switches {
	return &Switches{base: base, kinds: map[string]string{}, blocked: map[string]bool{}, conns: map[*switchedConn]struct{}{}}
}

// Know says that a destination belongs to a kind of path.
func (s *Switches) Know(kind, network, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds[network+" "+address] = kind
}

// Block throws one kind's switch.
func (s *Switches) Block(kind string, blocked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[kind] = blocked
	if !blocked {
		return
	}
	for c := range s.conns {
		if c.kind == kind {
			_ = c.Conn.Close() // a reset: whoever reads or writes learns of it
		}
	}
}

// Blocked reports a switch.
func (s *Switches) Blocked(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked[kind]
}

// Bytes is how many bytes have passed, both ways.
func (s *Switches) Bytes() int64 { return s.bytes.Load() }

// open returns the kind of a destination, and whether it may be reached.
func (s *Switches) open(network, address string) (kind string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, known := s.kinds[strings.TrimRight(network, "46")+" "+address]
	return kind, known && !s.blocked[kind]
}

// Dial implements transport.Network.
func (s *Switches) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	address = s.names.address(address)
	kind, ok := s.open(network, address)
	if !ok {
		return nil, fmt.Errorf("dial: %w", transport.ErrBlocked)
	}
	conn, err := s.base.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &switchedConn{Conn: conn, s: s, kind: kind}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked[kind] { // thrown meanwhile: Block has not seen this one
		_ = conn.Close()
		return nil, fmt.Errorf("dial: %w", transport.ErrBlocked)
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// switchedConn is a connection that a switch can cut.
type switchedConn struct {
	net.Conn
	s    *Switches
	kind string
}

func (c *switchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.s.bytes.Add(int64(n))
	return n, err
}

func (c *switchedConn) Write(p []byte) (int, error) {
	if c.s.Blocked(c.kind) {
		return 0, transport.ErrBlocked
	}
	n, err := c.Conn.Write(p)
	c.s.bytes.Add(int64(n))
	return n, err
}

func (c *switchedConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// Listen implements transport.Network; a reader does not listen.
func (s *Switches) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, fmt.Errorf("listen: %w", transport.ErrUnsupported)
}

// ListenPacket implements transport.Network.
func (s *Switches) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	pc, err := s.base.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &switchedPacketConn{PacketConn: pc, s: s}, nil
}

// switchedPacketConn drops datagrams to and from what is blocked.
type switchedPacketConn struct {
	net.PacketConn
	s *Switches
}

func (c *switchedPacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil {
			return n, from, err
		}
		if _, ok := c.s.open("udp", from.String()); ok {
			c.s.bytes.Add(int64(n))
			return n, from, nil
		}
	}
}

func (c *switchedPacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if _, ok := c.s.open("udp", to.String()); !ok {
		return len(p), nil // dropped on the way, as far as the sender can tell
	}
	n, err := c.PacketConn.WriteTo(p, to)
	c.s.bytes.Add(int64(n))
	return n, err
}

// Resolve implements transport.Network: of names there are only the demo's.
func (s *Switches) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	if a, ok := s.names[host]; ok {
		return []netip.Addr{a}, nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", transport.ErrBlocked)
	}
	return []netip.Addr{a.Unmap()}, nil
}

// Kinds are the paths of the demo, in the order in which they are shown.
var Kinds = []string{transport.KindQUIC, transport.KindTCP, transport.KindIPFS, transport.KindDNS, transport.KindFile}

// Only leaves one kind open.
func (s *Switches) Only(kind string) {
	for _, k := range Kinds {
		s.Block(k, k != kind)
	}
}

// kindNames says what each kind is, for people.
var kindNames = map[string]string{
	transport.KindQUIC: "relay over QUIC",
	transport.KindTCP:  "relay over TCP",
	transport.KindIPFS: "IPFS",
	transport.KindDNS:  "DNS",
	transport.KindFile: "file",
}

func known(kind string) bool { return slices.Contains(Kinds, kind) }

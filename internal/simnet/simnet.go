// Package simnet is a simulated internet for the fake clock of
// [testing/synctest]: hosts with addresses and names, UDP datagrams, and TCP as
// two ordered byte pipes with a congestion window. A [Host] has the methods of
// transport.Network, so everything that opens its sockets through one runs here
// unchanged, in no time at all: quic-go, net/http, libp2p, DNS.
//
// The world is a star. Each host hangs on a core by a [Link] with a delay, a
// rate each way, loss and an MTU; the core itself is perfect. A packet waits
// for the sender's rate, may be lost going up, crosses both delays, waits for
// the receiver's rate and may be lost going down. What goes from a host to
// itself costs nothing.
//
// Everything runs off one queue of events ordered by time and then by when they
// were put in, and one timer for its first. So packets of a flow never overtake
// each other, there is no goroutine of ours, and a net in which nothing moves
// has no timer: the fake clock jumps to whatever comes next in the program
// above. No lock is held while a caller's code runs, except for the function
// given to [Net.Trace].
//
// What it is not: there is no ICMP (a datagram for a port where nobody listens
// vanishes), no routing, no NAT, no fragments, no ECN. TCP is Reno with
// selective acknowledgements, without delayed acknowledgements, tail loss
// probes or RACK.
//
//	synctest.Test(t, func(t *testing.T) {
//		n := simnet.New(1)
//		defer n.Close()
//		reader := n.Host("reader", simnet.Link{Delay: 20 * time.Millisecond}, netip.MustParseAddr("192.0.2.1"))
//		relay := n.Host("relay", simnet.Link{Delay: 30 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))
//		n.Name("relay.example", netip.MustParseAddr("198.51.100.1"))
//		…
//	})
package simnet

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrUnsupported says that the simulated net has no such kind of socket.
var ErrUnsupported = errors.New("not supported on the simulated net")

// Net is one simulated internet. All its methods, and those of its hosts and
// sockets, may be called at once.
type Net struct {
	seed  uint64
	epoch time.Time

	mu     sync.Mutex
	closed bool
	hosts  []*Host
	addrs  map[netip.Addr]*Host
	names  map[string][]netip.Addr
	conns  uint64 // how many TCP ends there were
	trace  func(Event)

	queue
	acks []*tcpConn // ends that owe an acknowledgement at the end of this instant
	free []*packet
}

// New returns an empty net. Call it inside the bubble in which it is used: its
// clock is that bubble's (outside of one it is the real clock, which works
// too). All faults follow from seed and from what the program does.
func New(seed uint64) *Net {
	n := &Net{
		seed:  seed,
		epoch: time.Now(),
		addrs: make(map[netip.Addr]*Host),
		names: make(map[string][]netip.Addr),
	}
	n.queue.init(n)
	return n
}

// Close ends the net: every socket of every host is closed, whoever is blocked
// in one returns net.ErrClosed, and no timer is left. It may be called twice.
func (n *Net) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed, n.trace = true, nil
	n.queue.stop()
	for _, h := range n.hosts {
		h.shut()
	}
	n.acks, n.free = nil, nil
	return nil
}

// Host adds a host. The name goes into the seeds of its flows and nowhere else
// (see [Net.Name] for names that resolve). The first address of a family is the
// one that its datagrams and connections come from. It panics if an address is
// taken, which is a mistake in the test.
func (n *Net) Host(name string, link Link, addrs ...netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &Host{
		net: n, name: name, link: link.normal(),
		ports: make(map[portKey]*portUse), conns: make(map[*tcpConn]struct{}), flows: make(map[flowKey]uint64),
	}
	for _, a := range addrs {
		n.settle(h, a)
	}
	n.hosts = append(n.hosts, h)
	return h
}

// Move gives a host other addresses at once, as a device has that changes from one
// network to another. Sockets that are bound to no address of their own go on and
// send from the new ones; what is sent to the old ones vanishes, but for what is
// under way. TCP connections stand still.
func (n *Net) Move(h *Host, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := h.addrs
	for _, a := range old {
		delete(n.addrs, a)
	}
	h.addrs = nil
	for _, a := range addrs {
		n.settle(h, a)
	}
	for _, o := range n.hosts {
		for _, u := range o.ports {
			for _, b := range u.bound {
				if b.udp == nil {
					continue
				}
				if o == h {
					clear(b.udp.flows)
					b.udp.stray = nil
					continue
				}
				maps.DeleteFunc(b.udp.flows, func(to netip.AddrPort, _ *flow) bool { return slices.Contains(old, to.Addr()) })
			}
		}
	}
}

// settle gives a host an address.
func (n *Net) settle(h *Host, a netip.Addr) {
	a = plain(a)
	if n.addrs[a] != nil || !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
		panic("simnet: host " + h.name + ": address " + a.String() + " is taken or not one a host can have")
	}
	n.addrs[a] = h
	h.addrs = append(h.addrs, a)
}

// Remove takes a host off the net for good and closes its sockets. Its addresses
// are free again. Connections to it are reset at once, without a packet: nobody
// shall go on talking to a host that is no more (those to a dead one, which may
// come back, stand still: see [Host.SetDown]).
func (n *Net) Remove(h *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.down, h.gone = true, true
	for _, c := range slices.Collect(maps.Keys(h.conns)) {
		if c.peer != nil {
			c.peer.die(syscall.ECONNRESET)
		}
	}
	h.shut()
	for _, a := range h.addrs {
		if n.addrs[a] == h {
			delete(n.addrs, a)
		}
	}
	n.hosts = slices.DeleteFunc(n.hosts, func(o *Host) bool { return o == h })
}

// Name sets what Resolve and Dial of any host find under a name; letter case
// and a final dot don't matter. Without addresses the name is forgotten.
func (n *Net) Name(name string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(addrs) == 0 {
		delete(n.names, fold(name))
		return
	}
	as := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		as[i] = plain(a)
	}
	n.names[fold(name)] = as
}

// Trace has f called for every packet from now on, in order, and nil ends that.
// f runs inside the net: it must be quick and call nothing of this package.
func (n *Net) Trace(f func(Event)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trace = f
}

// Event is one thing that happened to a packet, as [Net.Trace] tells it. All
// but the "drop-" kinds are told when the packet is sent.
type Event struct {
	At time.Time
	// Kind is one of the Kind constants.
	Kind string
	// Proto is "tcp" or "udp".
	Proto    string
	From, To netip.AddrPort
	// Size is the size of the IP packet in bytes.
	Size int
}

// The kinds of Event.
const (
	KindSend    = "send"    // a datagram, a TCP segment or an acknowledgement
	KindSYN     = "syn"     // a connection is asked for
	KindSYNACK  = "synack"  // and granted
	KindRefused = "refused" // or refused, since nothing listens there
	KindFIN     = "fin"     // the last segment of a direction
	KindRST     = "rst"     // a connection is cut off
	KindFreeze  = "freeze"  // a connection was frozen; no packet, Size is 0

	KindDropLoss   = "drop-loss"   // lost, as LossUp or LossDown has it
	KindDropQueue  = "drop-queue"  // the link's queue was full
	KindDropMTU    = "drop-mtu"    // too large for one of the links
	KindDropDown   = "drop-down"   // one of the hosts is down
	KindDropNobody = "drop-nobody" // no host, or no socket, has that address
	KindDropBuffer = "drop-buffer" // the socket's receive buffer was full
	KindDropFrozen = "drop-frozen" // of a frozen connection
)

// Link is how a host hangs on the core of the net.
type Link struct {
	// Delay is one way, between the host and the core: the round trip of hosts
	// a and b takes 2·(a.Delay + b.Delay).
	Delay time.Duration
	// Up and Down are rates in bytes a second of IP packets, 0 for no limit.
	Up, Down int64
	// LossUp and LossDown are the shares of packets that are lost, 0…1.
	LossUp, LossDown float64
	// MTU is the largest IP packet in bytes, 0 for 1500. Larger datagrams
	// vanish, without ICMP; TCP cuts its segments to fit both ends.
	MTU int
	// Queue is how many bytes may wait for the link, each way, before more is
	// dropped; 0 for 128 KiB.
	Queue int
}

func (l Link) normal() Link {
	l.Delay = max(l.Delay, 0)
	l.Up, l.Down = max(l.Up, 0), max(l.Down, 0)
	if l.MTU <= 0 {
		l.MTU = 1500
	}
	if l.Queue <= 0 {
		l.Queue = 128 << 10
	}
	return l
}

// plain is an address as it is compared here: IPv4 is IPv4, and no zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

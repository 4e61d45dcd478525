// Package simnet is a simulated internet for the fake clock of
// testing/synctest: hosts with addresses and names, UDP, and TCP as two ordered
// pipes of bytes.
//
// Each host hangs on one link to a core that is never the bottleneck. A packet
// waits for the sender's link (rate, queue, loss), takes the sender's delay and
// the receiver's, and waits for the receiver's link. TCP is modelled, not
// implemented: a handshake, an initial window of 10 segments, slow start,
// congestion avoidance, and for each lost segment the time until it has been
// sent again and half the window. Bytes are never lost or reordered; what TCP
// would repair costs time.
//
// Everything that is on its way lies in one queue, ordered by time and then by
// when it was put there, with one timer for the earliest: so packets that
// arrive in the same instant arrive in the order in which they were sent, and a
// net on which nothing is under way has no timer that could keep the clock.
//
// Faults are drawn from generators seeded by the net's seed and by the flow
// (who speaks to whom, over what, for the how-manieth time), so that one flow's
// luck does not depend on another's.
//
// [Host] has the methods of transport.Network. Build a Net inside the bubble.
package simnet

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Errors of dialling and listening, besides those of the context.
var (
	ErrNoHost  = errors.New("simnet: no such host")
	ErrInUse   = errors.New("simnet: address in use")
	ErrNetwork = errors.New("simnet: unknown network")
)

// Link is what a host hangs on. The zero value has no delay and no limit.
type Link struct {
	// Delay is one way, between the host and the core: a round trip between a
	// and b takes 2*(a.Delay+b.Delay).
	Delay time.Duration
	// Up and Down are bytes a second, 0 for no limit.
	Up, Down int64
	// LossUp and LossDown are how much is lost of what the host sends and of what
	// is sent to it, by packet, 0 to 1.
	LossUp, LossDown float64
	// MTU is the largest IP packet, 0 for 1500. Larger datagrams vanish without
	// ICMP; TCP cuts its segments to fit.
	MTU int
	// Queue is how many bytes wait for a busy link, each way, before more is
	// dropped; 0 for 128 KiB.
	Queue int
}

const (
	defaultMTU   = 1500
	defaultQueue = 128 << 10
	firstPort    = 49152
)

// Event is something that happened to a packet, for a trace.
type Event struct {
	At time.Time
	// Kind is "send", "syn", "refused", "fin", "rst", "loss", "queue", "mtu" or "down".
	Kind string
	// Proto is "udp" or "tcp".
	Proto    string
	From, To netip.AddrPort
	Size     int // of the payload
}

// Net is a simulated internet. All methods may be called at once.
type Net struct {
	seed uint64

	mu     sync.Mutex
	hosts  map[netip.Addr]*Host
	names  map[string][]netip.Addr
	queue  queue
	seq    uint64
	timer  *time.Timer
	trace  func(Event)
	socks  map[closer]struct{}
	closed bool
}

type closer interface{ shut() }

// New makes an empty net.
func New(seed uint64) *Net {
	return &Net{seed: seed, hosts: map[netip.Addr]*Host{}, names: map[string][]netip.Addr{}, socks: map[closer]struct{}{}}
}

// Trace calls f for every packet, in order, while the net is locked: f must not
// call back. nil ends it.
func (n *Net) Trace(f func(Event)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trace = f
}

// Host adds a host. It panics if an address is taken: that is a mistake of the
// simulation.
func (n *Net) Host(name string, link Link, addrs ...netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &Host{
		net: n, name: name, link: link, addrs: addrs, port: firstPort,
		tcp: map[uint16]*listener{}, udp: map[uint16]*packetConn{}, flows: map[string]uint64{}, conns: map[*conn]struct{}{},
	}
	for _, a := range addrs {
		if n.hosts[a] != nil {
			panic("simnet: two hosts have the address " + a.String())
		}
		n.hosts[a] = h
	}
	return h
}

// Remove takes a host off the net for good; its sockets are closed.
func (n *Net) Remove(h *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range h.addrs {
		delete(n.hosts, a)
	}
	h.down = true
	for s := range n.socks {
		if s, ok := s.(interface{ host() *Host }); ok && s.host() == h {
			s.(closer).shut()
		}
	}
}

// Name says what a name resolves to, for everybody and at once.
func (n *Net) Name(name string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[name] = addrs
}

// Close closes every socket; whoever waits for one wakes up.
func (n *Net) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for s := range n.socks {
		s.shut()
	}
	clear(n.socks)
	n.queue = nil
	if n.timer != nil {
		n.timer.Stop()
	}
	return nil
}

// event is something to be done at a time.
type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// at runs do, with the net locked, when that time has come.
func (n *Net) at(t time.Time, do func()) {
	if n.closed {
		return
	}
	n.seq++
	heap.Push(&n.queue, event{t, n.seq, do})
	if n.queue[0].seq == n.seq {
		n.arm()
	}
}

// arm sets the timer for the earliest event.
func (n *Net) arm() {
	if len(n.queue) == 0 {
		return
	}
	d := max(0, time.Until(n.queue[0].at))
	if n.timer == nil {
		n.timer = time.AfterFunc(d, n.run)
		return
	}
	n.timer.Reset(d)
}

// run does what is due.
func (n *Net) run() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.queue) > 0 && !n.queue[0].at.After(now) {
		heap.Pop(&n.queue).(event).do()
	}
	n.arm()
}

func (n *Net) tell(kind, proto string, from, to netip.AddrPort, size int) {
	if n.trace != nil {
		n.trace(Event{time.Now(), kind, proto, from, to, size})
	}
}

// luck is the generator of one flow's faults.
func (n *Net) luck(from *Host, proto string, to netip.AddrPort) *rand.Rand {
	key := proto + " " + to.String()
	from.flows[key]++
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d", from.name, key, from.flows[key])
	return rand.New(rand.NewPCG(n.seed, h.Sum64()))
}

// way is one direction between two hosts.
type way struct{ from, to *Host }

// delay is how long a packet takes when nothing is in its way.
func (w way) delay() time.Duration { return w.from.link.Delay + w.to.link.Delay }

func (w way) mtu() int {
	m := func(l Link) int {
		if l.MTU == 0 {
			return defaultMTU
		}
		return l.MTU
	}
	return min(m(w.from.link), m(w.to.link))
}

// lost draws whether a packet is lost on either link.
func (w way) lost(r *rand.Rand) bool {
	up, down := w.from.link.LossUp, w.to.link.LossDown
	return up > 0 && r.Float64() < up || down > 0 && r.Float64() < down
}

// carry brings a packet of size bytes, headers included, to the other end and
// then calls there, or lost if a link's queue has no room.
func (w way) carry(size int, there, lost func()) {
	n := w.from.net
	left, ok := w.from.uplink.pass(time.Now(), size, w.from.link.Up, w.from.link.Queue)
	if !ok {
		lost()
		return
	}
	// At the core the receiver's link is as busy as it then is.
	n.at(left.Add(w.from.link.Delay+w.to.link.Delay), func() {
		arrived, ok := w.to.downlink.pass(time.Now(), size, w.to.link.Down, w.to.link.Queue)
		switch {
		case !ok:
			lost()
		case arrived.After(time.Now()):
			n.at(arrived, there)
		default:
			there()
		}
	})
}

// serial is one direction of a link: packets pass one after the other.
type serial struct{ free time.Time }

// pass returns when a packet that comes now will have passed; false if too much
// waits already.
func (s *serial) pass(now time.Time, size int, rate int64, room int) (time.Time, bool) {
	if rate <= 0 {
		return now, true
	}
	if room == 0 {
		room = defaultQueue
	}
	if s.free.Before(now) {
		s.free = now
	}
	if waiting := s.free.Sub(now); waiting > time.Duration(room)*time.Second/time.Duration(rate) {
		return now, false
	}
	s.free = s.free.Add(time.Duration(size) * time.Second / time.Duration(rate))
	return s.free, true
}

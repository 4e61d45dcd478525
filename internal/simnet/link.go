package simnet

import (
	"hash/fnv"
	"net"
	"net/netip"
	"time"
)

type proto uint8

const (
	tcp proto = iota
	udp
)

func (p proto) String() string {
	if p == tcp {
		return "tcp"
	}
	return "udp"
}

// flow is one direction between two sockets: the faults drawn for it, and the
// order in which its packets arrive.
type flow struct {
	src, dst *Host // dst is nil if no host has the address
	from, to netip.AddrPort
	proto    proto
	seed     uint64
	count    uint64        // packets so far: the faults of each follow from seed and number
	core     time.Duration // when the last one that waits there reaches dst's link
	last     time.Duration // when the last one arrives
	inCore   int           // how many are between src and dst's link
	addr     *net.UDPAddr  // from, for ReadFrom
}

// flowKey is what a host's flows are counted by. The sender's port is not in it: which
// ephemeral port a socket gets depends on the order of goroutines.
type flowKey struct {
	to    netip.AddrPort
	proto proto
}

// newFlow makes the first direction of a conversation.
func (n *Net) newFlow(p proto, src *Host, from, to netip.AddrPort, key netip.AddrPort) *flow {
	k := flowKey{key, p}
	ordinal := src.flows[k]
	src.flows[k]++
	f := fnv.New64a()
	_, _ = f.Write([]byte(src.name + "\x00" + p.String() + "\x00" + key.String()))
	seed := mix(mix(n.seed^mix(f.Sum64())) + ordinal)
	return &flow{src: src, dst: n.hostOf(src, to.Addr()), from: from, to: to, proto: p, seed: seed}
}

// back makes the other direction of f.
func (n *Net) back(f *flow) *flow {
	return &flow{src: f.dst, dst: f.src, from: f.to, to: f.from, proto: f.proto, seed: mix(^f.seed)}
}

// hostOf finds who has an address, as src sees it.
func (n *Net) hostOf(src *Host, a netip.Addr) *Host {
	if a.IsLoopback() {
		return src
	}
	return n.addrs[a]
}

// mix is SplitMix64's finaliser: neighbours come out unrelated.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// lost draws for the packet with that number; way tells its draws apart.
func (f *flow) lost(number, way uint64, share float64) bool {
	return share > 0 && float64(mix(f.seed^mix(2*number+way))>>11)/(1<<53) < share
}

// local says that both ends are on one host, which costs nothing.
func (f *flow) local() bool { return f.src == f.dst }

// header is the size of the IP and transport headers of the flow's packets.
func (f *flow) header() int {
	size := 20 // IPv4, RFC 791; TCP without options, RFC 9293
	if f.to.Addr().Is6() {
		size = 40 // RFC 8200
	}
	if f.proto == udp {
		return size + 8
	}
	return size + 20
}

// mtu is the largest packet that fits both links.
func (f *flow) mtu() int {
	switch {
	case f.local():
		return 65535
	case f.dst == nil:
		return f.src.link.MTU
	}
	return min(f.src.link.MTU, f.dst.link.MTU)
}

type packetKind uint8

const (
	pktData packetKind = iota // a datagram, or a TCP segment
	pktAck
	pktSYN
	pktSYNACK
	pktRST
)

// packet is on its way. Datagrams carry their bytes in data; a TCP packet
// points at the end it is for.
type packet struct {
	event
	flow   *flow
	kind   packetKind
	sure   bool // not to be lost or queued away: see tcpConn.control
	inCore bool // the next stop is dst's link, not its socket
	number uint64
	size   int

	data []byte // udp

	to   *tcpConn // who gets it; nil for a first SYN
	from *tcpConn
	seg  *segment
	ack  ack
}

// maxFree is how many spent packets are kept for use again.
const maxFree = 4096

func (n *Net) packet(f *flow) *packet {
	var p *packet
	if last := len(n.free) - 1; last >= 0 {
		p = n.free[last]
		n.free = n.free[:last]
		*p = packet{data: p.data[:0]}
	} else {
		p = new(packet)
	}
	p.event.p = p
	p.flow = f
	p.number = f.count
	f.count++
	return p
}

func (n *Net) release(p *packet) {
	if len(n.free) < maxFree && cap(p.data) <= 2048 {
		*p = packet{data: p.data[:0]}
		n.free = append(n.free, p)
	}
}

// send puts a packet of size bytes on its way, or drops it.
func (n *Net) send(p *packet, size int) {
	f, now := p.flow, n.now()
	p.size = size
	if n.trace != nil {
		n.tell(p, kindOf(p))
	}
	if f.src.down {
		n.drop(p, KindDropDown)
		return
	}
	if f.local() {
		f.last = max(f.last, now)
		n.schedule(&p.event, f.last)
		return
	}
	if p.flow.proto == udp && size > f.mtu() {
		n.drop(p, KindDropMTU)
		return
	}
	up := &f.src.link
	at, ok := wait(now, &f.src.upFree, up.Up, size, up.Queue, p.sure)
	if !ok {
		n.drop(p, KindDropQueue)
		return
	}
	if !p.sure && (f.lost(p.number, 0, up.LossUp) || f.src.lose != nil && f.src.lose(f, p.number)) {
		n.drop(p, KindDropLoss)
		return
	}
	if f.dst == nil {
		n.drop(p, KindDropNobody)
		return
	}
	at += up.Delay
	if f.dst.link.Down > 0 || f.inCore > 0 {
		// Others may reach that link before: its queue is asked when we are there.
		f.core = max(f.core, at)
		f.inCore++
		p.inCore = true
		n.schedule(&p.event, f.core)
		return
	}
	n.descend(p, at)
}

// descend takes a packet that reaches dst's link at a time through it.
func (n *Net) descend(p *packet, at time.Duration) {
	f := p.flow
	down := &f.dst.link
	at, ok := wait(at, &f.dst.downFree, down.Down, p.size, down.Queue, p.sure)
	if !ok {
		n.drop(p, KindDropQueue)
		return
	}
	if !p.sure && f.lost(p.number, 1, down.LossDown) {
		n.drop(p, KindDropLoss)
		return
	}
	f.last = max(f.last, at+down.Delay)
	n.schedule(&p.event, f.last)
}

// arrive handles a packet that is where it was going.
func (n *Net) arrive(p *packet) {
	f := p.flow
	switch {
	case p.inCore:
		p.inCore = false
		f.inCore--
		n.descend(p, p.at)
		return
	case f.dst.down:
		n.drop(p, KindDropDown)
		return
	case f.proto == udp:
		f.dst.datagram(p) // keeps the packet until it is read
		return
	case p.kind == pktSYN:
		f.dst.syn(p)
	default:
		p.to.receive(p)
	}
	n.release(p)
}

// wait has size bytes take their turn on a link of a rate, which is free from
// *free on, and returns when they are through. It refuses if more than room
// bytes would wait, unless nothing does or they must pass.
func wait(now time.Duration, free *time.Duration, rate int64, size, room int, must bool) (time.Duration, bool) {
	if rate <= 0 {
		return now, true
	}
	start := max(now, *free)
	if waiting := (start - now).Seconds() * float64(rate); waiting > 0 && waiting+float64(size) > float64(room) && !must {
		return 0, false
	}
	*free = start + time.Duration(int64(size)*int64(time.Second)/rate)
	return *free, true
}

func (n *Net) drop(p *packet, kind string) {
	n.tell(p, kind)
	n.release(p)
}

func (n *Net) tell(p *packet, kind string) {
	if n.trace != nil {
		n.trace(Event{At: time.Now(), Kind: kind, Proto: p.flow.proto.String(), From: p.flow.from, To: p.flow.to, Size: p.size})
	}
}

func kindOf(p *packet) string {
	switch {
	case p.kind == pktSYN:
		return KindSYN
	case p.kind == pktSYNACK:
		return KindSYNACK
	case p.kind == pktRST && p.from == nil:
		return KindRefused
	case p.kind == pktRST:
		return KindRST
	case p.seg != nil && p.seg.fin:
		return KindFIN
	}
	return KindSend
}

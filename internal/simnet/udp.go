package simnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Receive buffers of datagram sockets, in bytes of payload. A whole window may
// arrive in one instant here, so the default is larger than an OS's.
const (
	defaultBuffer = 2 << 20
	maxBuffer     = 16 << 20
)

// maxDatagram is the largest UDP payload over IPv4.
const maxDatagram = 65507

// udpConn is a datagram socket; one made by Dial has a remote end.
type udpConn struct {
	net     *Net
	host    *Host
	bind    *binding
	network string
	remote  netip.AddrPort // valid if dialled
	given   bool           // the port is an ephemeral one

	// Guarded by net.mu.
	flows  map[netip.AddrPort]*flow // by where to; only to sockets that are there
	stray  *flow                    // for all that goes nowhere
	inbox  []*packet
	bytes  int
	buffer int
	cond   sync.Cond
	rd, wd time.Time
	closed bool
}

var (
	_ net.PacketConn = (*udpConn)(nil)
	_ net.Conn       = (*udpConn)(nil)
)

func newUDP(h *Host, b *binding, network string) *udpConn {
	return &udpConn{
		net: h.net, host: h, bind: b, network: network, flows: make(map[netip.AddrPort]*flow),
		buffer: defaultBuffer, cond: sync.Cond{L: &h.net.mu},
	}
}

func (h *Host) dialUDP(network string, to netip.AddrPort) (net.Conn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	b := &binding{addr: h.source(to.Addr())}
	fail := func(err error) (net.Conn, error) {
		return nil, opError("dial", network, netip.AddrPort{}, to, err)
	}
	if h.net.closed {
		return fail(net.ErrClosed)
	}
	if !b.addr.IsValid() {
		return fail(syscall.ENETUNREACH)
	}
	if b.port = h.ephemeral(udp); b.port == 0 {
		return fail(syscall.EADDRNOTAVAIL)
	}
	use := h.use(udp, b.port)
	use.bound = append(use.bound, b)
	b.udp = newUDP(h, b, network)
	b.udp.remote, b.udp.given = to, true
	return b.udp, nil
}

// ReadFrom implements net.PacketConn. A datagram larger than b is cut.
func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, nil, c.fail("read", net.ErrClosed)
		case over(c.rd):
			return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
		case len(c.inbox) > 0:
			p := c.inbox[0]
			c.inbox[0] = nil
			c.inbox = c.inbox[1:]
			c.bytes -= len(p.data)
			k := copy(b, p.data)
			from := p.flow.addr
			n.release(p)
			return k, from, nil
		}
		n.wait(&c.cond, c.rd)
	}
}

// Read implements net.Conn.
func (c *udpConn) Read(b []byte) (int, error) {
	k, _, err := c.ReadFrom(b)
	return k, err
}

// WriteTo implements net.PacketConn. It never waits, and what can't arrive
// vanishes without an error.
func (c *udpConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	var to netip.AddrPort
	if u, ok := addr.(*net.UDPAddr); ok {
		to = u.AddrPort()
	} else if addr != nil {
		to, _ = netip.ParseAddrPort(addr.String())
	}
	if !to.IsValid() {
		return 0, c.fail("write", syscall.EDESTADDRREQ)
	}
	if c.remote.IsValid() {
		return 0, c.fail("write", net.ErrWriteToConnected)
	}
	return c.write(b, netip.AddrPortFrom(plain(to.Addr()), to.Port()))
}

// Write implements net.Conn.
func (c *udpConn) Write(b []byte) (int, error) {
	if !c.remote.IsValid() {
		return 0, c.fail("write", syscall.EDESTADDRREQ)
	}
	return c.write(b, c.remote)
}

func (c *udpConn) write(b []byte, to netip.AddrPort) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.closed:
		return 0, c.fail("write", net.ErrClosed)
	case over(c.wd):
		return 0, c.fail("write", os.ErrDeadlineExceeded)
	case len(b) > maxDatagram:
		return 0, c.fail("write", syscall.EMSGSIZE)
	}
	f := c.flow(to)
	if f == nil {
		return 0, c.fail("write", syscall.ENETUNREACH)
	}
	p := n.packet(f)
	p.data = append(p.data, b...)
	n.send(p, len(b)+f.header())
	return len(b), nil
}

// flow finds the flow to an address; nil if no address of ours can speak to it.
func (c *udpConn) flow(to netip.AddrPort) *flow {
	if f := c.flows[to]; f != nil && !f.dst.gone {
		return f
	}
	src := c.bind.addr
	switch {
	case !src.IsValid() && (to.Addr().Is4() && c.bind.v4 || to.Addr().Is6() && c.bind.v6):
		src = c.host.source(to.Addr())
	case !src.IsValid() || src.Is4() != to.Addr().Is4():
		return nil
	}
	if !src.IsValid() {
		return nil
	}
	n, from := c.net, netip.AddrPortFrom(src, c.bind.port)
	var far *udpConn
	if dst := n.hostOf(c.host, to.Addr()); dst != nil {
		if b := dst.lookup(udp, to); b != nil {
			far = b.udp
		}
	}
	if far == nil {
		// Nobody is there. One flow does for all of that, or a server that
		// answers clients who have gone would keep one for each.
		if c.stray == nil || c.stray.to != to {
			last := c.stray
			c.stray = n.newFlow(udp, c.host, from, to, netip.AddrPort{})
			c.stray.addr = net.UDPAddrFromAddrPort(from)
			if last != nil {
				c.stray.count = last.count
			}
		}
		return c.stray
	}
	var f *flow
	if there := far.flows[from]; there != nil {
		f = n.back(there)
	} else {
		key := to
		if far.given { // see flowKey
			key = netip.AddrPortFrom(to.Addr(), 0)
		}
		f = n.newFlow(udp, c.host, from, to, key)
	}
	if c.stray != nil && c.stray.to == to { // what is under way stays ahead
		f.core, f.last = c.stray.core, c.stray.last
	}
	f.addr = net.UDPAddrFromAddrPort(from)
	c.flows[to] = f
	return f
}

// datagram puts a datagram into the socket that it is for.
func (h *Host) datagram(p *packet) {
	b := h.lookup(udp, p.flow.to)
	if b == nil {
		h.net.drop(p, KindDropNobody)
		return
	}
	c := b.udp
	if c.remote.IsValid() && c.remote != p.flow.from {
		h.net.drop(p, KindDropNobody)
		return
	}
	if c.bytes+len(p.data) > c.buffer {
		h.net.drop(p, KindDropBuffer)
		return
	}
	c.inbox = append(c.inbox, p)
	c.bytes += len(p.data)
	c.cond.Broadcast()
}

// Close implements net.Conn and net.PacketConn.
func (c *udpConn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.shut()
	return nil
}

func (c *udpConn) shut() {
	c.closed = true
	c.inbox = nil
	c.host.unbind(udp, c.bind)
	for to, f := range c.flows { // those who spoke to us forget us
		if b := f.dst.lookup(udp, to); b != nil {
			delete(b.udp.flows, f.from)
		}
	}
	c.flows = nil
	c.cond.Broadcast()
}

func (c *udpConn) fail(op string, err error) error {
	return opError(op, c.network, c.bind.local(), c.remote, err)
}

// LocalAddr implements net.Conn and net.PacketConn. For a socket on all
// addresses it is the unspecified one.
func (c *udpConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.bind.local()) }

// RemoteAddr implements net.Conn; nil unless dialled.
func (c *udpConn) RemoteAddr() net.Addr {
	if !c.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(c.remote)
}

// SetDeadline implements net.Conn and net.PacketConn.
func (c *udpConn) SetDeadline(t time.Time) error { return c.deadline(&t, &t) }

// SetReadDeadline implements net.Conn and net.PacketConn.
func (c *udpConn) SetReadDeadline(t time.Time) error { return c.deadline(&t, nil) }

// SetWriteDeadline implements net.Conn and net.PacketConn. Writing never waits.
func (c *udpConn) SetWriteDeadline(t time.Time) error { return c.deadline(nil, &t) }

func (c *udpConn) deadline(rd, wd *time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	if rd != nil {
		c.rd = *rd
	}
	if wd != nil {
		c.wd = *wd
	}
	c.cond.Broadcast()
	return nil
}

// SetReadBuffer sets how many bytes wait to be read before more is dropped: at
// most 16 MiB, and 2 MiB unless set.
func (c *udpConn) SetReadBuffer(bytes int) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.buffer = min(max(bytes, 4096), maxBuffer)
	return nil
}

// SetWriteBuffer does nothing: what is written is under way at once. QUIC asks
// for it.
func (c *udpConn) SetWriteBuffer(int) error { return nil }

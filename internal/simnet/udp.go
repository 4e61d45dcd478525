package simnet

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"time"
)

// inboxBytes is a packet socket's receive buffer.
const inboxBytes = 2 << 20

// packetConn is a UDP socket; with a remote end it is a connected one.
type packetConn struct {
	h      *Host
	at     netip.AddrPort
	remote netip.AddrPort // of Dial, else invalid

	// Guarded by net.mu.
	wake   *sync.Cond
	inbox  []packet
	bytes  int
	rd     deadline
	out    map[netip.AddrPort]func() bool // draws a loss
	closed bool
}

type packet struct {
	from netip.AddrPort
	data []byte
}

var (
	_ net.PacketConn = (*packetConn)(nil)
	_ net.Conn       = (*packetConn)(nil)
)

func (h *Host) listenUDP(at netip.AddrPort) (*packetConn, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	fail := func(err error) (*packetConn, error) {
		return nil, &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(at), Err: err}
	}
	if n.closed {
		return fail(net.ErrClosed)
	}
	if !h.has(at.Addr()) {
		return fail(ErrNoHost)
	}
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), h.free())
	}
	if h.udp[at.Port()] != nil {
		return fail(ErrInUse)
	}
	c := &packetConn{h: h, at: at, wake: sync.NewCond(&n.mu), out: map[netip.AddrPort]func() bool{}}
	h.udp[at.Port()] = c
	n.socks[c] = struct{}{}
	return c, nil
}

func (c *packetConn) host() *Host { return c.h }

// ReadFrom implements net.PacketConn.
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	p, err := c.next()
	if err != nil {
		return 0, nil, &net.OpError{Op: "read", Net: "udp", Source: c.LocalAddr(), Err: err}
	}
	return copy(b, p.data), net.UDPAddrFromAddrPort(p.from), nil
}

// Read implements net.Conn.
func (c *packetConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c *packetConn) next() (packet, error) {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return packet{}, net.ErrClosed
		case c.rd.over():
			return packet{}, errTimeout
		case len(c.inbox) > 0:
			p := c.inbox[0]
			c.inbox[0] = packet{}
			c.inbox = c.inbox[1:]
			c.bytes -= len(p.data)
			return p, nil
		}
		c.wake.Wait()
	}
}

// WriteTo implements net.PacketConn. What can't be delivered vanishes.
func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	var ap netip.AddrPort
	if u, ok := to.(*net.UDPAddr); ok {
		ap = u.AddrPort()
	} else {
		var err error
		if ap, err = netip.ParseAddrPort(to.String()); err != nil {
			return 0, &net.OpError{Op: "write", Net: "udp", Err: err}
		}
	}
	return c.send(b, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
}

// Write implements net.Conn.
func (c *packetConn) Write(b []byte) (int, error) { return c.send(b, c.remote) }

func (c *packetConn) send(b []byte, to netip.AddrPort) (int, error) {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Err: net.ErrClosed}
	}
	from := c.at
	if from.Addr().IsUnspecified() {
		from = netip.AddrPortFrom(c.h.own(to.Addr()), from.Port())
	}
	peer := n.hosts[to.Addr()]
	if peer == nil || peer.down || c.h.down {
		n.tell("down", "udp", from, to, len(b))
		return len(b), nil
	}
	w := way{c.h, peer}
	headers := 28
	if to.Addr().Is6() {
		headers = 48
	}
	if len(b)+headers > w.mtu() {
		n.tell("mtu", "udp", from, to, len(b))
		return len(b), nil
	}
	lost := c.out[to]
	if lost == nil {
		r := n.luck(c.h, "udp", to)
		lost = func() bool { return w.lost(r) }
		if len(c.out) > 4096 { // a server that speaks to many
			clear(c.out)
		}
		c.out[to] = lost
	}
	if lost() {
		n.tell("loss", "udp", from, to, len(b))
		return len(b), nil
	}
	n.tell("send", "udp", from, to, len(b))
	p := packet{from, bytes.Clone(b)}
	w.carry(len(b)+headers, func() { peer.arrive(p, to) }, func() { n.tell("queue", "udp", from, to, len(b)) })
	return len(b), nil
}

// arrive puts a datagram into the socket that it is for.
func (h *Host) arrive(p packet, to netip.AddrPort) {
	c := h.udp[to.Port()]
	if h.down || c == nil || c.closed || c.bytes+len(p.data) > inboxBytes ||
		!c.at.Addr().IsUnspecified() && c.at.Addr() != to.Addr() ||
		c.remote.IsValid() && c.remote != p.from {
		return
	}
	c.inbox = append(c.inbox, p)
	c.bytes += len(p.data)
	c.wake.Signal()
}

// Close implements net.Conn and net.PacketConn.
func (c *packetConn) Close() error {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return &net.OpError{Op: "close", Net: "udp", Err: net.ErrClosed}
	}
	c.shut()
	delete(n.socks, c)
	return nil
}

func (c *packetConn) shut() {
	c.closed = true
	c.inbox = nil
	c.rd.set(time.Time{}, nil)
	if c.h.udp[c.at.Port()] == c {
		delete(c.h.udp, c.at.Port())
	}
	c.wake.Broadcast()
}

// LocalAddr implements net.Conn and net.PacketConn.
func (c *packetConn) LocalAddr() net.Addr {
	at := c.at
	if c.remote.IsValid() && at.Addr().IsUnspecified() { // as of a connected socket
		at = netip.AddrPortFrom(c.h.own(c.remote.Addr()), at.Port())
	}
	return net.UDPAddrFromAddrPort(at)
}

// RemoteAddr implements net.Conn.
func (c *packetConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.remote) }

// SetReadDeadline implements net.Conn and net.PacketConn.
func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.h.net.mu.Lock()
	defer c.h.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.rd.set(t, c.wake)
	return nil
}

// SetWriteDeadline implements net.Conn and net.PacketConn: writing never waits.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn and net.PacketConn.
func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadBuffer and SetWriteBuffer are looked for by QUIC.
func (c *packetConn) SetReadBuffer(int) error  { return nil }
func (c *packetConn) SetWriteBuffer(int) error { return nil }

package censor

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"tamizdat/transport"
)

const (
	// inboxBytes and inboxPackets are the size of a socket's buffer: what comes
	// when it is full is lost, as in a kernel.
	inboxBytes   = 4 << 20
	inboxPackets = 4096
	// outboxPackets bounds what waits on its way out.
	outboxPackets = 4096
	maxDatagram   = 1 << 16
)

// socket is a UDP socket behind the middleboxes. One goroutine reads what
// arrives; it ends when the socket is closed.
type socket struct {
	c     *Censor
	inner net.PacketConn
	flows flows
	in    *inbox
	out   *outbox
}

var _ net.PacketConn = (*socket)(nil)

// newSocket returns a *socket, or one with SyscallConn if inner has it: QUIC
// forbids fragments through that, and sizes its buffers.
func newSocket(c *Censor, inner net.PacketConn) net.PacketConn {
	s := makeSocket(c, inner)
	if raw, ok := inner.(syscall.Conn); ok {
		return &rawSocket{s, raw}
	}
	return s
}

func makeSocket(c *Censor, inner net.PacketConn) *socket {
	s := &socket{c: c, inner: inner, in: newInbox()}
	s.flows = flows{c: c, local: addrPort(inner.LocalAddr()), by: map[netip.AddrPort]*flow{}}
	s.out = newOutbox(func(b []byte, to net.Addr) { _, _ = inner.WriteTo(b, to) })
	go s.pump()
	return s
}

type rawSocket struct {
	*socket
	syscall.Conn
}

// pump reads until the socket below is closed.
func (s *socket) pump() {
	buf := make([]byte, maxDatagram)
	failures := 0
	for {
		n, from, err := s.inner.ReadFrom(buf)
		if err != nil {
			// An ICMP message, say: told to the reader, who goes on.
			if failures++; failures > 100 || errors.Is(err, net.ErrClosed) {
				s.in.finish(err, false)
				return
			}
			s.in.put(arrival{due: time.Now(), err: err}, false)
			continue
		}
		failures = 0
		s.arrived(buf[:n], from)
	}
}

func (s *socket) arrived(b []byte, from net.Addr) {
	v := s.flows.get(addrPort(from)).in(b)
	s.inject(v, from)
	if v.Action != Pass {
		return
	}
	if v.Data != nil {
		b = v.Data
	}
	s.deliver(append([]byte(nil), b...), from, v.Delay)
}

func (s *socket) deliver(b []byte, from net.Addr, later time.Duration) {
	if ok, _ := s.in.room(inboxBytes, inboxPackets); ok {
		s.c.down.Add(int64(len(b)))
		s.in.put(arrival{due: time.Now().Add(later), data: b, from: from}, false)
	}
}

func (s *socket) inject(v Verdict, from net.Addr) {
	for _, b := range v.Inject {
		s.deliver(b, from, v.InjectDelay)
	}
}

// ReadFrom implements net.PacketConn.
func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := s.in.take(p, false)
	if err != nil {
		return 0, nil, opError("read", UDP, err)
	}
	return n, from, nil
}

// WriteTo implements net.PacketConn. What is dropped was sent, as far as the
// reader can tell.
func (s *socket) WriteTo(p []byte, to net.Addr) (int, error) {
	s.c.up.Add(int64(len(p)))
	v := s.flows.get(addrPort(to)).out(p)
	s.inject(v, to)
	b := p
	if v.Data != nil {
		b = v.Data
	}
	switch {
	case v.Action != Pass:
		return len(p), nil
	case v.Delay > 0:
		s.out.put(time.Now().Add(v.Delay), append([]byte(nil), b...), to)
		return len(p), nil
	}
	if _, err := s.inner.WriteTo(b, to); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close implements net.PacketConn: it wakes ReadFrom at once.
func (s *socket) Close() error {
	s.in.close()
	s.out.close()
	return s.inner.Close()
}

// LocalAddr implements net.PacketConn.
func (s *socket) LocalAddr() net.Addr { return s.inner.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (s *socket) SetDeadline(t time.Time) error {
	s.in.setDeadline(t)
	return s.inner.SetWriteDeadline(t)
}

// SetReadDeadline implements net.PacketConn.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.in.setDeadline(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn.
func (s *socket) SetWriteDeadline(t time.Time) error { return s.inner.SetWriteDeadline(t) }

// SetReadBuffer passes the size on, if the socket below has one.
func (s *socket) SetReadBuffer(n int) error {
	if b, ok := s.inner.(interface{ SetReadBuffer(n int) error }); ok {
		return b.SetReadBuffer(n)
	}
	return transport.ErrUnsupported
}

// SetWriteBuffer passes the size on, if the socket below has one.
func (s *socket) SetWriteBuffer(n int) error {
	if b, ok := s.inner.(interface{ SetWriteBuffer(n int) error }); ok {
		return b.SetWriteBuffer(n)
	}
	return transport.ErrUnsupported
}

// opError is an error as package net dresses it, without addresses.
func opError(op, network string, err error) error {
	return &net.OpError{Op: op, Net: network, Err: err}
}

// dialled is a UDP socket with one peer.
type dialled struct {
	*socket
	conn net.Conn
	to   *net.UDPAddr
}

var _ net.Conn = (*dialled)(nil)

func newDialled(c *Censor, conn net.Conn, to netip.AddrPort) *dialled {
	peer := net.UDPAddrFromAddrPort(to)
	return &dialled{makeSocket(c, connected{conn, peer}), conn, peer}
}

func (d *dialled) Read(p []byte) (int, error) {
	n, _, err := d.ReadFrom(p)
	return n, err
}

func (d *dialled) Write(p []byte) (int, error) { return d.WriteTo(p, d.to) }

func (d *dialled) RemoteAddr() net.Addr { return d.conn.RemoteAddr() }

// connected lends a net.Conn of datagrams to a socket.
type connected struct {
	net.Conn
	peer net.Addr
}

func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.peer, err
}

func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// departure is a datagram on its way out, later.
type departure struct {
	due  time.Time
	data []byte
	to   net.Addr
}

// outbox sends datagrams when they are due.
type outbox struct {
	send func(b []byte, to net.Addr)

	mu     sync.Mutex
	items  []departure
	timer  *time.Timer // runs while there are items
	closed bool
}

func newOutbox(send func([]byte, net.Addr)) *outbox { return &outbox{send: send} }

func (o *outbox) put(due time.Time, b []byte, to net.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.items) >= outboxPackets {
		return
	}
	i := len(o.items)
	for i > 0 && due.Before(o.items[i-1].due) {
		i--
	}
	o.items = append(o.items, departure{})
	copy(o.items[i+1:], o.items[i:])
	o.items[i] = departure{due, b, to}
	switch {
	case o.timer == nil:
		o.timer = time.AfterFunc(time.Until(due), o.run)
	case i == 0:
		o.timer.Reset(time.Until(due))
	}
}

// run sends what is due, under the lock: two timers at one instant must not
// change the order.
func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.items) > 0 && !o.items[0].due.After(time.Now()) {
		o.send(o.items[0].data, o.items[0].to)
		o.items = o.items[1:]
	}
	if len(o.items) == 0 || o.closed {
		o.timer = nil
		return
	}
	o.timer.Reset(time.Until(o.items[0].due))
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.items = true, nil
	if o.timer != nil {
		o.timer.Stop()
	}
}

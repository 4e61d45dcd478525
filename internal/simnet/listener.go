package simnet

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// backlog is how many connections may be half-open or wait for Accept; Linux
// has the same.
const backlog = 4096

// How often a handshake's packets are sent again, and after how long first; the
// time doubles (RFC 6298, section 5.7; numbers of Linux).
const (
	synTimeout  = time.Second
	synTries    = 6 // 127 s in all
	synAckTries = 5
)

// listener takes TCP connections.
type listener struct {
	net     *Net
	host    *Host
	bind    *binding
	network string

	// Guarded by net.mu.
	ready  []*tcpConn
	half   int // half-open connections
	cond   sync.Cond
	dl     time.Time
	closed bool
}

var _ net.Listener = (*listener)(nil)

func newListener(h *Host, b *binding, network string) *listener {
	return &listener{net: h.net, host: h, bind: b, network: network, cond: sync.Cond{L: &h.net.mu}}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	n := l.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, l.fail("accept", net.ErrClosed)
		case over(l.dl):
			return nil, l.fail("accept", os.ErrDeadlineExceeded)
		case len(l.ready) > 0:
			c := l.ready[0]
			l.ready[0] = nil
			l.ready = l.ready[1:]
			return c, nil
		}
		n.wait(&l.cond, l.dl)
	}
}

// Close implements net.Listener. Connections that wait for Accept are reset.
func (l *listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.closed {
		return l.fail("close", net.ErrClosed)
	}
	l.shut()
	return nil
}

func (l *listener) shut() {
	l.closed = true
	l.host.unbind(tcp, l.bind)
	for _, c := range l.ready {
		c.reset()
	}
	l.ready = nil
	l.cond.Broadcast()
}

// Addr implements net.Listener. For a listener on all addresses it is the
// unspecified one.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.bind.local()) }

// SetDeadline sets until when Accept waits, as that of *net.TCPListener does.
func (l *listener) SetDeadline(t time.Time) error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.closed {
		return l.fail("set", net.ErrClosed)
	}
	l.dl = t
	l.cond.Broadcast()
	return nil
}

func (l *listener) fail(op string, err error) error {
	return opError(op, l.network, netip.AddrPort{}, l.bind.local(), err)
}

// dialTCP connects to one of so many addresses that are still to be tried.
func (h *Host) dialTCP(ctx context.Context, network string, to netip.AddrPort, left int) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, opError("dial", network, netip.AddrPort{}, to, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if end, ok := ctx.Deadline(); ok && left > 1 { // shares as package net has them
		share := time.Until(end)
		share = min(share, max(share/time.Duration(left), 2*time.Second))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	n := h.net
	n.mu.Lock()
	src := h.source(to.Addr())
	if n.closed || !src.IsValid() {
		closed := n.closed
		n.mu.Unlock()
		if closed {
			return fail(net.ErrClosed)
		}
		return fail(syscall.ENETUNREACH)
	}
	port := h.ephemeral(tcp)
	if port == 0 {
		n.mu.Unlock()
		return fail(syscall.EADDRNOTAVAIL)
	}
	h.use(tcp, port).conns++
	from := netip.AddrPortFrom(src, port)
	c := newTCP(h, network, n.newFlow(tcp, h, from, to, to))
	c.dialled = true
	c.ready = make(chan struct{})
	c.sendSYN()
	n.mu.Unlock()

	select {
	case <-c.ready:
	case <-ctx.Done():
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.err != nil:
		return fail(c.err)
	case c.state == stateOpen:
		return c, nil
	}
	if c.peer != nil {
		c.control(pktRST)
	}
	c.die(net.ErrClosed)
	return fail(ctx.Err())
}

func (c *tcpConn) sendSYN() {
	p := c.net.packet(c.out)
	p.kind, p.from = pktSYN, c
	c.sent = c.net.now()
	c.net.send(p, c.out.header())
	c.armIn(synTimeout << c.tries)
}

func (c *tcpConn) sendSYNACK() {
	p := c.net.packet(c.out)
	p.kind, p.from, p.to = pktSYNACK, c, c.peer
	c.sent = c.net.now()
	c.net.send(p, c.out.header())
	c.armIn(synTimeout << c.tries)
}

// syn is the arrival of a SYN at the host that it asks.
func (h *Host) syn(p *packet) {
	n, c := h.net, p.from
	if c.err != nil || c.frozen {
		return
	}
	if s := c.peer; s != nil { // asked before
		if s.state == stateSYN {
			s.tries = 0
			s.sendSYNACK()
		}
		return
	}
	b := h.lookup(tcp, p.flow.to)
	if b == nil {
		r := n.packet(n.back(p.flow))
		r.kind, r.to, r.sure = pktRST, c, true
		n.send(r, r.flow.header())
		return
	}
	l := b.tcp
	if l.half+len(l.ready) >= backlog {
		n.tell(p, KindDropBuffer)
		return
	}
	s := newTCP(h, c.network, n.back(p.flow))
	s.peer, c.peer, s.listener = c, s, l
	l.half++
	s.sendSYNACK()
}

// opened is the end of the handshake at this end.
func (c *tcpConn) opened() {
	c.state = stateOpen
	if c.tries == 0 {
		c.sample(c.net.now() - c.sent)
	}
	c.tries = 0
	c.net.cancel(&c.timer)
	mss := c.mss()
	c.cwnd = min(initialWindow*mss, max(2*mss, 14600)) // RFC 6928
	c.ssthresh = 1 << 30
	l := c.listener
	if l == nil {
		close(c.ready)
		return
	}
	c.listener = nil
	l.half--
	if l.closed {
		c.reset()
		return
	}
	l.ready = append(l.ready, c)
	l.cond.Broadcast()
}

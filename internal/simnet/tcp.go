package simnet

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// What TCP's timers and windows are here: those of RFC 6928, 5681 and 6298, with
// the 200 ms of Linux for the least timeout.
const (
	initialWindow = 10 // segments
	sendBuffer    = 256 << 10
	receiveWindow = 4 << 20
	minRTO        = 200 * time.Millisecond
	synRTO        = time.Second
	synTries      = 6
	lossTries     = 15
	tcpHeaders    = 40
	backlog       = 4096
)

// stream is what the two ends of a connection share.
type stream struct{ frozen bool }

// conn is one end of a TCP connection, with all that is sent from here. Guarded
// by net.mu.
type conn struct {
	h             *Host
	local, remote netip.AddrPort
	peer          *conn
	link          *stream
	wake          *sync.Cond
	luck          *rand.Rand

	// Receiving.
	got []byte
	eof bool
	rd  deadline

	// Sending.
	unsent    []byte
	cwnd      int
	ssthresh  int
	flight    int       // bytes sent and not acknowledged
	unheard   int       // bytes whose acknowledgement was lost
	recovered time.Time // losses before then have halved the window already
	arrival   time.Time // when the last byte will have arrived, in order
	narrow    bool      // the receiver's window was full
	finish    bool      // FIN after what is unsent
	finished  bool
	wd        deadline

	err    error // of a reset
	closed bool
	// open is closed when the handshake is over, one way or the other.
	open        chan struct{}
	established bool
}

var _ net.Conn = (*conn)(nil)

func (h *Host) newConn(local, remote netip.AddrPort, link *stream) *conn {
	c := &conn{
		h: h, local: local, remote: remote, link: link, wake: sync.NewCond(&h.net.mu),
		luck: h.net.luck(h, "tcp", remote), ssthresh: 1 << 30, open: make(chan struct{}),
	}
	h.net.socks[c] = struct{}{}
	h.conns[c] = struct{}{}
	return c
}

func (c *conn) host() *Host { return c.h }

// dialTCP shakes hands.
func (h *Host) dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n := h.net
	n.mu.Lock()
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	if n.closed {
		n.mu.Unlock()
		return fail(net.ErrClosed)
	}
	c := h.newConn(netip.AddrPortFrom(h.own(to.Addr()), h.free()), to, &stream{})
	c.syn(0)
	n.mu.Unlock()
	select {
	case <-c.open:
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.established && !c.closed:
		return c, nil
	case c.closed:
		c.err = net.ErrClosed
	case ctx.Err() != nil:
		c.err = ctx.Err()
	}
	c.drop()
	return fail(c.err)
}

// syn sends the first packet, again if there is no answer.
func (c *conn) syn(try int) {
	n := c.h.net
	if c.closed || c.established || c.err != nil {
		return
	}
	if try == synTries {
		c.refuse(syscall.ETIMEDOUT)
		return
	}
	n.tell("syn", "tcp", c.local, c.remote, 0)
	n.at(time.Now().Add(synRTO<<try), func() { c.syn(try + 1) })
	far := n.hosts[c.remote.Addr()]
	if far == nil || far.down || c.h.down {
		return
	}
	there, back := way{c.h, far}, way{far, c.h}
	if there.lost(c.luck) {
		n.tell("loss", "tcp", c.local, c.remote, 0)
		return
	}
	lost := func() { n.tell("queue", "tcp", c.local, c.remote, 0) }
	there.carry(tcpHeaders, func() {
		if far.down {
			return
		}
		ln := far.tcp[c.remote.Port()]
		if ln == nil || !ln.at.Addr().IsUnspecified() && ln.at.Addr() != c.remote.Addr() || len(ln.ready) >= backlog {
			n.tell("refused", "tcp", c.local, c.remote, 0)
			back.carry(tcpHeaders, func() { c.refuse(syscall.ECONNREFUSED) }, lost)
			return
		}
		if back.lost(c.luck) {
			return
		}
		back.carry(tcpHeaders, func() { c.establish(ln, far) }, lost)
	}, lost)
}

// establish is when the client hears that the server will talk. The server
// hears of it with the client's next packet.
func (c *conn) establish(ln *listener, far *Host) {
	if c.closed || c.established || c.err != nil {
		return
	}
	s := far.newConn(c.remote, c.local, c.link)
	s.peer, c.peer = c, s
	c.established, s.established = true, true
	close(c.open)
	close(s.open)
	c.begin()
	s.begin()
	c.h.net.at(time.Now().Add(way{c.h, far}.delay()), func() { ln.deliver(s) })
}

func (c *conn) begin() { c.cwnd = initialWindow * c.mss() }

func (c *conn) mss() int { return way{c.h, c.peer.h}.mtu() - tcpHeaders }

// refuse ends a handshake.
func (c *conn) refuse(err error) {
	if c.closed || c.established || c.err != nil {
		return
	}
	c.err = err
	close(c.open)
}

// rto is how long the sender waits for an acknowledgement.
func (c *conn) rto() time.Duration { return max(minRTO, 4*way{c.h, c.peer.h}.delay()) }

// pump sends what the windows let it.
func (c *conn) pump() {
	if c.link.frozen || c.err != nil {
		return
	}
	for len(c.unsent) > 0 && c.flight < c.cwnd {
		room := receiveWindow - c.flight - len(c.peer.got)
		if room <= 0 {
			c.narrow = true
			return
		}
		seg := c.unsent[:min(c.mss(), len(c.unsent), room)]
		c.unsent = c.unsent[len(seg):]
		c.flight += len(seg)
		c.transmit(seg, false)
	}
	if len(c.unsent) == 0 {
		c.unsent = nil // let go of what was sent
		if c.finish && !c.finished {
			c.finished = true
			c.h.net.tell("fin", "tcp", c.local, c.remote, 0)
			c.transmit(nil, true)
		}
	}
	c.wake.Broadcast() // writers: there is room
}

// transmit brings one segment to the peer. A loss costs the time until it is
// there after all.
func (c *conn) transmit(seg []byte, fin bool) {
	n, w := c.h.net, way{c.h, c.peer.h}
	n.tell("send", "tcp", c.local, c.remote, len(seg))
	var late time.Duration
	rto := c.rto()
	for try := 0; try < lossTries && w.lost(c.luck); try++ {
		n.tell("loss", "tcp", c.local, c.remote, len(seg))
		if try == 0 && c.flight >= 4*c.mss() {
			late += 2 * w.delay() // three packets behind it tell of the gap (RFC 5681, 3.2)
			c.halve(max(c.cwnd/2, 2*c.mss()))
		} else {
			late += rto
			rto *= 2
			c.halve(c.mss())
		}
	}
	var send func()
	send = func() {
		w.carry(len(seg)+tcpHeaders, func() {
			at := time.Now().Add(late)
			if at.Before(c.arrival) {
				at = c.arrival
			}
			c.arrival = at
			if at.After(time.Now()) {
				n.at(at, func() { c.deliver(seg, fin) })
				return
			}
			c.deliver(seg, fin)
		}, func() {
			n.tell("queue", "tcp", c.local, c.remote, len(seg))
			c.halve(max(c.cwnd/2, 2*c.mss()))
			n.at(time.Now().Add(2*w.delay()), send)
		})
	}
	send()
}

// halve shrinks the window, once a round trip.
func (c *conn) halve(to int) {
	now := time.Now()
	if now.Before(c.recovered) {
		return
	}
	c.recovered = now.Add(2 * way{c.h, c.peer.h}.delay())
	c.ssthresh = max(c.cwnd/2, 2*c.mss())
	c.cwnd = to
}

// deliver hands a segment to the peer and acknowledges it.
func (c *conn) deliver(seg []byte, fin bool) {
	n, p := c.h.net, c.peer
	if c.link.frozen || c.err != nil {
		return
	}
	if p.closed && len(seg) > 0 { // nobody will ever read it
		n.tell("rst", "tcp", p.local, p.remote, 0)
		n.at(time.Now().Add(way{p.h, c.h}.delay()), func() { c.abort() })
		return
	}
	p.got = append(p.got, seg...)
	p.eof = p.eof || fin
	p.wake.Broadcast()
	back := way{p.h, c.h}
	if back.lost(c.luck) {
		c.unheard += len(seg)
		n.at(time.Now().Add(c.rto()), func() { c.acknowledge(0) })
		return
	}
	n.at(time.Now().Add(back.delay()), func() { c.acknowledge(len(seg)) })
}

// acknowledge is an acknowledgement's arrival: of size bytes and of what earlier
// ones would have said.
func (c *conn) acknowledge(size int) {
	size += c.unheard
	c.unheard = 0
	c.flight -= size
	if c.cwnd < c.ssthresh {
		c.cwnd += size
	} else {
		c.cwnd += c.mss() * size / c.cwnd
	}
	c.pump()
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.opError("read", net.ErrClosed)
		case c.rd.over():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case len(c.got) > 0:
			k := copy(b, c.got)
			if c.got = c.got[k:]; len(c.got) == 0 {
				c.got = nil
			}
			if p := c.peer; p.narrow {
				p.narrow = false
				n.at(time.Now().Add(way{c.h, p.h}.delay()), p.pump)
			}
			return k, nil
		case c.err != nil:
			return 0, c.opError("read", c.err)
		case c.eof:
			return 0, io.EOF
		}
		c.wake.Wait()
	}
}

// Write implements net.Conn. It returns when all of b is in the send buffer.
func (c *conn) Write(b []byte) (int, error) {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	wrote := 0
	for {
		switch {
		case c.closed || c.finish:
			return wrote, c.opError("write", net.ErrClosed)
		case c.err != nil:
			return wrote, c.opError("write", c.err)
		case c.wd.over():
			return wrote, c.opError("write", os.ErrDeadlineExceeded)
		case wrote == len(b):
			return wrote, nil
		}
		if room := sendBuffer - len(c.unsent); room > 0 {
			k := min(room, len(b)-wrote)
			c.unsent = append(c.unsent, b[wrote:wrote+k]...)
			wrote += k
			c.pump()
			continue
		}
		c.wake.Wait()
	}
}

func (c *conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// CloseWrite sends FIN behind what was written.
func (c *conn) CloseWrite() error {
	c.h.net.mu.Lock()
	defer c.h.net.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.finish = true
	c.pump()
	return nil
}

// Close implements net.Conn. What was written is still sent.
func (c *conn) Close() error {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.shut()
	delete(n.socks, c)
	if !n.closed {
		c.finish = true
		c.pump()
	}
	if c.peer.closed {
		delete(c.h.conns, c)
		delete(c.peer.h.conns, c.peer)
	}
	return nil
}

func (c *conn) shut() {
	if c.closed {
		return
	}
	c.closed = true
	c.got = nil
	c.rd.set(time.Time{}, nil)
	c.wd.set(time.Time{}, nil)
	if !c.established && c.err == nil {
		close(c.open)
	}
	c.wake.Broadcast()
}

// drop forgets a connection that never came to be.
func (c *conn) drop() {
	c.closed = true
	delete(c.h.net.socks, c)
	delete(c.h.conns, c)
}

// abort is the arrival of an RST.
func (c *conn) abort() {
	if c.err == nil {
		c.err = syscall.ECONNRESET
		c.unsent = nil
	}
	c.wake.Broadcast()
}

// Reset ends the connection with an RST to both ends: here at once, there when
// it has arrived.
func (c *conn) Reset() {
	n := c.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tell("rst", "tcp", c.local, c.remote, 0)
	c.abort()
	n.at(time.Now().Add(way{c.h, c.peer.h}.delay()), func() { c.peer.abort() })
}

// Freeze lets nothing through any more, either way, without any error.
func (c *conn) Freeze() {
	c.h.net.mu.Lock()
	defer c.h.net.mu.Unlock()
	c.link.frozen = true
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.rd, t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.wd, t) }

func (c *conn) setDeadline(d *deadline, t time.Time) error {
	c.h.net.mu.Lock()
	defer c.h.net.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t, c.wake)
	return nil
}

// listener takes connections on one port.
type listener struct {
	h  *Host
	at netip.AddrPort

	// Guarded by net.mu.
	wake   *sync.Cond
	ready  []*conn
	closed bool
}

func (h *Host) listenTCP(at netip.AddrPort) (*listener, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	fail := func(err error) (*listener, error) {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: err}
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
	if h.tcp[at.Port()] != nil {
		return fail(ErrInUse)
	}
	l := &listener{h: h, at: at, wake: sync.NewCond(&n.mu)}
	h.tcp[at.Port()] = l
	n.socks[l] = struct{}{}
	return l, nil
}

func (l *listener) host() *Host { return l.h }

func (l *listener) deliver(c *conn) {
	if l.closed || c.closed {
		c.abort()
		c.peer.abort()
		return
	}
	l.ready = append(l.ready, c)
	l.wake.Signal()
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	n := l.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		case len(l.ready) > 0:
			c := l.ready[0]
			l.ready = l.ready[1:]
			return c, nil
		}
		l.wake.Wait()
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	n := l.h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.shut()
	delete(n.socks, l)
	return nil
}

func (l *listener) shut() {
	l.closed = true
	for _, c := range l.ready {
		c.abort()
		if c.peer != nil {
			c.peer.abort()
		}
	}
	l.ready = nil
	if l.h.tcp[l.at.Port()] == l {
		delete(l.h.tcp, l.at.Port())
	}
	l.wake.Broadcast()
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

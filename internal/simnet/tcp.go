package simnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Buffers of a connection's end, in bytes.
const (
	sendBuffer    = 256 << 10 // written and not yet sent
	sendSlack     = 16 << 10  // what small writes may have on top of it
	smallWrite    = 256
	receiveWindow = 4 << 20 // received and not yet read
)

type tcpState uint8

const (
	stateSYN tcpState = iota // the handshake
	stateOpen
)

// tcpConn is one end of a TCP connection. The other end is a tcpConn too, which
// it knows but whose state it never looks at: what one learns of the other
// comes by packet. They do share the segments' bytes, which nobody changes.
type tcpConn struct {
	net     *Net
	host    *Host
	network string
	out     *flow // to the peer
	id      uint64
	dialled bool // from here, with a port of its own

	// Guarded by net.mu.
	peer     *tcpConn
	state    tcpState
	err      error         // why the connection is dead
	ready    chan struct{} // of Dial: closed when there is a state or an error
	listener *listener     // of a half-open connection
	closed   bool          // by its user
	frozen   bool
	linger0  bool // Close resets
	detached bool // nothing will happen any more
	timer    event
	due      time.Duration // when the timer's matter is due, which may be later than it fires
	tries    int           // how often the timer came in vain
	sent     time.Duration // when the handshake's packet was sent

	sender
	receiver
}

// segment is a piece of what is sent. off counts bytes, with one more for FIN.
type segment struct {
	off  uint64
	data []byte
	fin  bool

	// The sender's.
	sent   time.Duration // last
	times  int           // how often
	lost   bool          // and not yet sent again
	sacked bool

	got uint64 // The receiver's: the how-manieth to arrive, 0 not yet.
}

func (s *segment) size() int {
	if s.fin {
		return len(s.data) + 1
	}
	return len(s.data)
}

func (s *segment) end() uint64 { return s.off + uint64(s.size()) }

var _ net.Conn = (*tcpConn)(nil)

func newTCP(h *Host, network string, out *flow) *tcpConn {
	n := h.net
	c := &tcpConn{net: n, host: h, network: network, out: out, id: n.conns}
	n.conns++
	c.timer.run = c.onTimer
	c.readable.L, c.writable.L = &n.mu, &n.mu
	c.limit, c.edge = receiveWindow, receiveWindow
	h.conns[c] = struct{}{}
	return c
}

// Read implements net.Conn.
func (c *tcpConn) Read(b []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case over(c.rd):
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case c.unread > 0:
			return c.take(b), nil
		case c.eof || c.deaf:
			return 0, io.EOF
		case c.err != nil:
			return 0, c.fail("read", c.err)
		}
		n.wait(&c.readable, c.rd)
	}
}

// Write implements net.Conn. It returns when b is in the send buffer.
func (c *tcpConn) Write(b []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	wrote, mine := 0, false
	for {
		var err error
		switch {
		case c.closed:
			err = net.ErrClosed
		case c.err != nil:
			err = c.err
		case c.finished:
			err = syscall.EPIPE
		case over(c.wd):
			err = os.ErrDeadlineExceeded
		case c.writing && !mine: // Writes don't mix
		default:
			mine, c.writing = true, true
			// A few bytes always find room, as in a kernel, which counts whole
			// pages. Alerts and farewells are such: TLS and muxers write them
			// while they hold a lock that others wait for, and whoever waits
			// for a lock stops a bubble's clock.
			room := sendBuffer - c.waiting
			if len(b) <= smallWrite {
				room += sendSlack
			}
			if room > 0 && wrote < len(b) {
				k := min(room, len(b)-wrote)
				c.enqueue(b[wrote : wrote+k])
				wrote += k
				c.pump()
			}
		}
		if err != nil || mine && wrote == len(b) {
			if mine {
				c.writing = false
				c.writable.Broadcast()
			}
			if err != nil {
				return wrote, c.fail("write", err)
			}
			return wrote, nil
		}
		if mine && c.waiting < sendBuffer {
			continue
		}
		n.wait(&c.writable, c.wd)
	}
}

// Close implements net.Conn. What was written is still sent, in the background;
// if something that came was not read, the connection is reset instead, as an
// OS does.
func (c *tcpConn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.readable.Broadcast()
	c.writable.Broadcast()
	switch {
	case c.err != nil:
	case c.frozen, len(c.flight) > 0 && c.timer.pos == 0: // the other host is dead
		c.die(net.ErrClosed)
	case c.linger0 || c.unread > 0:
		c.reset()
	default:
		c.finish()
		c.retire()
	}
	return nil
}

// CloseWrite sends FIN behind what was written.
func (c *tcpConn) CloseWrite() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	switch {
	case c.closed:
		return c.fail("close", net.ErrClosed)
	case c.err != nil:
		return c.fail("close", c.err)
	}
	c.finish()
	return nil
}

// CloseRead has Read return io.EOF; what comes is thrown away.
func (c *tcpConn) CloseRead() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.deaf = true
	c.inbox, c.unread = nil, 0
	c.readable.Broadcast()
	return nil
}

// Reset ends the connection with an RST to both ends: here at once, there when
// it arrives. Reads (of what has not come yet) and writes then return an error
// that wraps syscall.ECONNRESET.
func (c *tcpConn) Reset() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.err == nil {
		c.reset()
	}
}

// Freeze lets nothing through any more, either way, without any error: writes
// are taken until the buffer is full, reads wait for ever.
func (c *tcpConn) Freeze() {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.frozen || c.err != nil {
		return
	}
	if n.trace != nil {
		n.trace(Event{At: time.Now(), Kind: KindFreeze, Proto: "tcp", From: c.out.from, To: c.out.to})
	}
	for _, e := range []*tcpConn{c, c.peer} {
		e.frozen = true
		n.cancel(&e.timer)
		if e.closed && e.err == nil {
			e.die(net.ErrClosed)
		}
	}
}

// reset tells the peer that the connection is over and ends this end.
func (c *tcpConn) reset() {
	c.control(pktRST)
	c.die(syscall.ECONNRESET)
}

// die ends this end for a reason; what has come can still be read.
func (c *tcpConn) die(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.state == stateSYN && c.ready != nil {
		close(c.ready)
	}
	if c.listener != nil {
		c.listener.half--
		c.listener = nil
	}
	c.flight, c.unsent, c.early = nil, nil, nil
	c.detach()
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// retire detaches an end that has said and heard all it will.
func (c *tcpConn) retire() {
	if c.closed && c.finished && c.una == c.written {
		c.detach()
	}
}

func (c *tcpConn) detach() {
	if c.detached {
		return
	}
	c.detached = true
	c.net.cancel(&c.timer)
	delete(c.host.conns, c)
	if c.dialled {
		port := c.out.from.Port()
		u := c.host.use(tcp, port)
		u.conns--
		c.host.tidy(tcp, port, u)
	}
}

// control sends a packet without data that is neither lost nor dropped by a full
// queue: an RST, which a real TCP would provoke again, or the news that there is
// room, which it would ask for.
func (c *tcpConn) control(kind packetKind) {
	if c.peer == nil || c.frozen {
		return
	}
	p := c.net.packet(c.out)
	p.kind, p.from, p.to, p.sure = kind, c, c.peer, true
	if kind == pktAck {
		p.ack = c.tellAck()
	}
	c.net.send(p, c.out.header())
}

// receive handles a packet for this end.
func (c *tcpConn) receive(p *packet) {
	if c.frozen {
		c.net.tell(p, KindDropFrozen)
		return
	}
	if p.kind == pktRST {
		if p.from == nil {
			c.die(syscall.ECONNREFUSED)
		} else {
			c.die(syscall.ECONNRESET)
		}
		return
	}
	if c.err != nil {
		c.control(pktRST)
		return
	}
	switch p.kind {
	case pktSYNACK:
		if c.state == stateSYN {
			c.opened()
		}
		c.owe()
		return
	case pktAck:
		if c.state == stateSYN {
			c.opened()
		}
		c.acked(p.ack)
	case pktData:
		if c.state == stateSYN {
			c.opened()
		}
		c.arrived(p.seg)
	default: // a late SYN; resets were seen to above
	}
}

func (c *tcpConn) fail(op string, err error) error {
	return opError(op, c.network, c.out.from, c.out.to, err)
}

// LocalAddr implements net.Conn.
func (c *tcpConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.out.from) }

// RemoteAddr implements net.Conn.
func (c *tcpConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.out.to) }

// SetDeadline implements net.Conn.
func (c *tcpConn) SetDeadline(t time.Time) error { return c.deadline(&t, &t) }

// SetReadDeadline implements net.Conn.
func (c *tcpConn) SetReadDeadline(t time.Time) error { return c.deadline(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (c *tcpConn) SetWriteDeadline(t time.Time) error { return c.deadline(nil, &t) }

func (c *tcpConn) deadline(rd, wd *time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	if rd != nil {
		c.rd = *rd
		c.readable.Broadcast()
	}
	if wd != nil {
		c.wd = *wd
		c.writable.Broadcast()
	}
	return nil
}

// SetLinger with 0 has Close reset the connection; anything else is the default.
func (c *tcpConn) SetLinger(sec int) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.linger0 = sec == 0
	return nil
}

// SetKeepAlive does nothing: there are no probes here. libp2p asks for it.
func (c *tcpConn) SetKeepAlive(bool) error { return nil }

// SetKeepAlivePeriod does nothing, as SetKeepAlive.
func (c *tcpConn) SetKeepAlivePeriod(time.Duration) error { return nil }

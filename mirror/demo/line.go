package demo

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"tamizdat/internal/censor"
	"tamizdat/transport"
)

// line is the reader's line, which can change under open sockets: a censor's
// Line is fixed when it is wrapped around a network, and a person at the demo's
// desk does not restart the reader.
//
// UDP sockets live on behind the new line, with the port that they had. TCP
// connections are cut, as when a phone changes from one network to another.
type line struct {
	base transport.Network
	seed uint64

	mu      sync.Mutex
	what    censor.Line
	now     transport.Network // base behind what
	cuts    int
	conns   map[*lineConn]struct{}
	sockets map[*lineSocket]struct{}
}

var _ transport.Network = (*line)(nil)

func newLine(base transport.Network, seed uint64) *line {
	return &line{base: base, seed: seed, now: base, conns: map[*lineConn]struct{}{}, sockets: map[*lineSocket]struct{}{}}
}

// Set changes the line.
func (l *line) Set(what censor.Line) {
	l.mu.Lock()
	if what == l.what {
		l.mu.Unlock()
		return
	}
	l.what, l.now = what, what.Wrap(l.base, l.seed)
	l.cuts++
	var cut []*lineConn
	for c := range l.conns {
		cut = append(cut, c)
	}
	clear(l.conns)
	for s := range l.sockets {
		s.move(what, l.seed)
	}
	l.mu.Unlock()
	for _, c := range cut {
		_ = c.Conn.Close()
	}
}

// Dial implements transport.Network.
func (l *line) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	now, cuts := l.now, l.cuts
	l.mu.Unlock()
	conn, err := now.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &lineConn{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if cuts != l.cuts { // Set has not seen this one
		_ = conn.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// Listen implements transport.Network.
func (l *line) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return l.base.Listen(ctx, network, address)
}

// ListenPacket implements transport.Network.
func (l *line) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	pc, err := l.base.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s := &lineSocket{l: l, base: pc}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.move(l.what, l.seed)
	l.sockets[s] = struct{}{}
	return s, nil
}

// Resolve implements transport.Network.
func (l *line) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return l.base.Resolve(ctx, host)
}

type lineConn struct {
	net.Conn
	l *line
}

func (c *lineConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// lineSocket is one UDP socket on lines that change.
type lineSocket struct {
	l       *line
	base    net.PacketConn
	reading sync.Mutex // held by the one lease that reads from base

	mu          sync.Mutex
	now         net.PacketConn // a lease, or what plays the line before one
	read, write time.Time
	closed      bool
}

var _ net.PacketConn = (*lineSocket)(nil)

// move puts the socket behind a line.
func (s *lineSocket) move(what censor.Line, seed uint64) {
	// Neither Wrap nor a lender fails: nothing is opened.
	pc, _ := what.Wrap(lender{s: s}, seed).ListenPacket(context.Background(), "udp", "")
	s.mu.Lock()
	old := s.now
	s.now = pc
	if !s.read.IsZero() {
		_ = pc.SetReadDeadline(s.read)
	}
	if !s.write.IsZero() {
		_ = pc.SetWriteDeadline(s.write)
	}
	s.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
}

func (s *lineSocket) current() (pc net.PacketConn, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.closed
}

// ReadFrom implements net.PacketConn.
func (s *lineSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		pc, _ := s.current()
		n, from, err := pc.ReadFrom(p)
		if err != nil {
			if now, closed := s.current(); now != pc && !closed {
				continue // the line changed under it
			}
		}
		return n, from, err
	}
}

// WriteTo implements net.PacketConn.
func (s *lineSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	pc, _ := s.current()
	return pc.WriteTo(p, to)
}

// Close implements net.PacketConn.
func (s *lineSocket) Close() error {
	s.l.mu.Lock()
	delete(s.l.sockets, s)
	s.l.mu.Unlock()
	s.mu.Lock()
	s.closed = true
	pc := s.now
	s.mu.Unlock()
	_ = pc.Close()
	return s.base.Close()
}

// LocalAddr implements net.PacketConn.
func (s *lineSocket) LocalAddr() net.Addr { return s.base.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (s *lineSocket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.PacketConn.
func (s *lineSocket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = t
	return s.now.SetReadDeadline(t)
}

// SetWriteDeadline implements net.PacketConn.
func (s *lineSocket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write = t
	return s.now.SetWriteDeadline(t)
}

// lender is a network whose only socket is one that is open already.
type lender struct {
	transport.Network // nil: nothing else of it is used
	s                 *lineSocket
}

// ListenPacket implements transport.Network.
func (l lender) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return &lease{s: l.s}, nil
}

// lease is the use of a socket until Close, which leaves the socket open.
type lease struct {
	s *lineSocket

	mu    sync.Mutex
	until time.Time // reads give up then
	ended bool
}

func (l *lease) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// ReadFrom implements net.PacketConn.
func (l *lease) ReadFrom(p []byte) (int, net.Addr, error) {
	l.s.reading.Lock() // until an older lease has noticed its end
	defer l.s.reading.Unlock()
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return 0, nil, net.ErrClosed
	}
	err := l.s.base.SetReadDeadline(l.until)
	l.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	n, from, err := l.s.base.ReadFrom(p)
	if err != nil && l.over() {
		err = net.ErrClosed
	}
	return n, from, err
}

// WriteTo implements net.PacketConn.
func (l *lease) WriteTo(p []byte, to net.Addr) (int, error) {
	if l.over() {
		return len(p), nil // lost on the way, as what a line still holds when it changes
	}
	return l.s.base.WriteTo(p, to)
}

// Close implements net.PacketConn.
func (l *lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended = true
	return l.s.base.SetReadDeadline(time.Unix(1, 0)) // wakes a read
}

// LocalAddr implements net.PacketConn.
func (l *lease) LocalAddr() net.Addr { return l.s.base.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (l *lease) SetDeadline(t time.Time) error {
	if err := l.SetReadDeadline(t); err != nil {
		return err
	}
	return l.SetWriteDeadline(t)
}

// SetReadDeadline implements net.PacketConn.
func (l *lease) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return os.ErrClosed
	}
	l.until = t
	return l.s.base.SetReadDeadline(t)
}

// SetWriteDeadline implements net.PacketConn.
func (l *lease) SetWriteDeadline(t time.Time) error {
	if l.over() {
		return os.ErrClosed
	}
	return l.s.base.SetWriteDeadline(t)
}

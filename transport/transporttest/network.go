package transporttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"tamizdat/transport"
)

// Fault is what a censor does to the sockets of a Network. The zero value does
// nothing. Byte counts are of what a socket receives, each socket for itself.
type Fault struct {
	// Refuse: no socket opens.
	Refuse bool
	// BlackHole: connecting over TCP hangs; what is sent vanishes, and nothing
	// arrives.
	BlackHole bool
	// CutAfter bytes: a stream is closed, a packet socket fails.
	CutAfter int64
	// StallAfter bytes: nothing more arrives, and no error comes.
	StallAfter int64
	// FlipEvery n-th byte: one bit of it changes.
	FlipEvery int64
}

// Network decorates another one with a Fault that can change at any time, for
// open sockets too. Its methods may be called at once.
type Network struct {
	inner  transport.Network
	fault  atomic.Pointer[Fault]
	opened atomic.Int64
	ended  chan struct{}
	end    sync.Once
}

var _ transport.Network = (*Network)(nil)

// ErrCut is what a socket fails with after Fault.CutAfter.
var ErrCut = errors.New("connection cut")

// NewNetwork decorates inner; without a fault for now.
func NewNetwork(inner transport.Network) *Network {
	n := &Network{inner: inner, ended: make(chan struct{})}
	n.fault.Store(&Fault{})
	return n
}

// Set changes the fault.
func (n *Network) Set(f Fault) { n.fault.Store(&f) }

// Close wakes everybody who hangs in Dial.
func (n *Network) Close() error {
	n.end.Do(func() { close(n.ended) })
	return nil
}

// Opened tells how many sockets were asked for, refused ones included.
func (n *Network) Opened() int64 { return n.opened.Load() }

func (n *Network) refuse(ctx context.Context, stream bool) error {
	n.opened.Add(1)
	f := n.fault.Load()
	switch {
	case f.Refuse:
		return fmt.Errorf("open socket: %w", transport.ErrBlocked)
	case f.BlackHole && stream:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ended:
			return net.ErrClosed
		}
	}
	return nil
}

// Dial implements transport.Network.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	stream := len(network) >= 3 && network[:3] == "tcp"
	if err := n.refuse(ctx, stream); err != nil {
		return nil, err
	}
	c, err := n.inner.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, faulty: faulty{net: n}}, nil
}

// Listen implements transport.Network; what is accepted has the fault too.
func (n *Network) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if err := n.refuse(ctx, false); err != nil {
		return nil, err
	}
	l, err := n.inner.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return faultyListener{l, n}, nil
}

// ListenPacket implements transport.Network.
func (n *Network) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if err := n.refuse(ctx, false); err != nil {
		return nil, err
	}
	pc, err := n.inner.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &faultyPackets{PacketConn: pc, faulty: faulty{net: n}}, nil
}

// Resolve implements transport.Network.
func (n *Network) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return n.inner.Resolve(ctx, host)
}

type faultyListener struct {
	net.Listener
	net *Network
}

func (l faultyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, faulty: faulty{net: l.net}}, nil
}

// faulty counts what one socket received.
type faulty struct {
	net *Network
	n   atomic.Int64
}

// arrived applies the fault to b. drop: nobody must see it; err: the socket is
// dead.
func (f *faulty) arrived(b []byte) (drop bool, err error) {
	now := f.net.fault.Load()
	before := f.n.Add(int64(len(b))) - int64(len(b))
	after := before + int64(len(b))
	switch {
	case now.BlackHole, now.StallAfter > 0 && after > now.StallAfter:
		return true, nil
	case now.CutAfter > 0 && after > now.CutAfter:
		return true, ErrCut
	case now.FlipEvery > 0:
		for i := range b {
			if (before+int64(i)+1)%now.FlipEvery == 0 {
				b[i] ^= 1 << (i % 8)
			}
		}
	}
	return false, nil
}

func (f *faulty) swallows() bool { return f.net.fault.Load().BlackHole }

type faultyConn struct {
	net.Conn
	faulty
}

// Read reads on while what arrives is dropped, so that deadlines and Close work
// as they do on a quiet connection.
func (c *faultyConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		drop, cut := c.arrived(b[:n])
		switch {
		case cut != nil:
			_ = c.Conn.Close()
			return 0, cut
		case drop && err == nil:
			continue
		case drop:
			return 0, err
		}
		return n, err
	}
}

func (c *faultyConn) Write(b []byte) (int, error) {
	if c.swallows() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

type faultyPackets struct {
	net.PacketConn
	faulty
}

func (p *faultyPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		drop, cut := p.arrived(b[:n])
		if cut != nil {
			_ = p.PacketConn.Close()
			return 0, nil, cut
		}
		if !drop {
			return n, from, nil
		}
	}
}

func (p *faultyPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.swallows() {
		return len(b), nil
	}
	return p.PacketConn.WriteTo(b, to)
}

// SetReadBuffer and SetWriteBuffer are looked for by QUIC.
func (p *faultyPackets) SetReadBuffer(n int) error {
	if s, ok := p.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return s.SetReadBuffer(n)
	}
	return nil
}

// SetWriteBuffer: see SetReadBuffer.
func (p *faultyPackets) SetWriteBuffer(n int) error {
	if s, ok := p.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return s.SetWriteBuffer(n)
	}
	return nil
}

package relay

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"tamizdat/transport"
)

// gapTime is how long a device that changes its network may have none: joining
// another one takes some seconds.
const gapTime = 10 * time.Second

// gap is how a connection lives through a moment without a network. quic-go (v0.64.1,
// send_queue.go) ends it with the first datagram that can't be sent, although that one
// is merely lost: here it counts as sent. Before anybody has answered, and when it
// takes too long, the error is one. The relay learns the new address by what comes from
// there: of a reader who only listens that is the next sign of life (keepAlive).
type gap struct {
	conn atomic.Pointer[quic.Conn] // nil before it is dialled

	mu    sync.Mutex
	since time.Time // when the first was lost of those after which none went out
}

// over is a socket whose connection lives through gaps.
func (g *gap) over(pc net.PacketConn) net.PacketConn {
	if s, ok := pc.(systemSocket); ok {
		return &gapSystem{s, g}
	}
	return &gapPackets{pc, g}
}

// lost reports whether what came of a datagram is that it was lost.
func (g *gap) lost(err error) bool {
	if err != nil && !noNetwork(err) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.since = time.Time{}
		return false
	case !g.answered():
		return false
	case g.since.IsZero():
		g.since = time.Now()
	}
	return time.Since(g.since) < gapTime
}

func (g *gap) answered() bool {
	c := g.conn.Load()
	if c == nil {
		return false
	}
	select {
	case <-c.HandshakeComplete():
		return true
	default:
		return false
	}
}

// noNetwork reports whether err says that there is no way out now. EPERM is what
// Linux has for a firewall's no, ENOBUFS what others have for an interface that goes.
// Windows has numbers of its own (WSAEACCES, WSAEADDRNOTAVAIL, WSAENETDOWN,
// WSAENETUNREACH, WSAENOBUFS, WSAEHOSTUNREACH).
func noNetwork(err error) bool {
	var n syscall.Errno
	if !errors.As(err, &n) {
		return false
	}
	if runtime.GOOS == "windows" {
		return slices.Contains([]syscall.Errno{10013, 10049, 10050, 10051, 10055, 10065}, n)
	}
	return slices.Contains([]syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.EPERM,
	}, n)
}

// systemSocket is a UDP socket of the operating system: quic-go looks for its fast
// paths by these methods.
type systemSocket interface {
	quic.OOBCapablePacketConn
	net.Conn
	SetWriteBuffer(bytes int) error
}

type gapSystem struct {
	systemSocket
	gap *gap
}

var _ systemSocket = (*net.UDPConn)(nil)

func (s *gapSystem) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := s.systemSocket.WriteTo(b, to)
	if s.gap.lost(err) {
		return len(b), nil
	}
	return n, err
}

func (s *gapSystem) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.systemSocket.WriteMsgUDP(b, oob, to)
	if s.gap.lost(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// gapPackets is any other datagram socket.
type gapPackets struct {
	net.PacketConn
	gap *gap
}

func (s *gapPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := s.PacketConn.WriteTo(b, to)
	if s.gap.lost(err) {
		return len(b), nil
	}
	return n, err
}

// SetReadBuffer is for quic-go, as SetWriteBuffer is.
func (s *gapPackets) SetReadBuffer(bytes int) error {
	if c, ok := s.PacketConn.(interface{ SetReadBuffer(bytes int) error }); ok {
		return c.SetReadBuffer(bytes)
	}
	return transport.ErrUnsupported
}

func (s *gapPackets) SetWriteBuffer(bytes int) error {
	if c, ok := s.PacketConn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return c.SetWriteBuffer(bytes)
	}
	return transport.ErrUnsupported
}

package transporttest

import (
	"net"
	"sync"
	"time"
)

// Mute is a socket on which nobody answers: what is written vanishes, and Read waits for
// Close. It waits for nothing but channels, so a test's clock may be a fake one.
func Mute() net.Conn { return &mute{closed: make(chan struct{})} }

type mute struct {
	once   sync.Once
	closed chan struct{}
}

func (c *mute) Read([]byte) (int, error)         { <-c.closed; return 0, net.ErrClosed }
func (c *mute) Write(b []byte) (int, error)      { return len(b), nil }
func (c *mute) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *mute) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (c *mute) RemoteAddr() net.Addr             { return &net.UDPAddr{} }
func (c *mute) SetDeadline(time.Time) error      { return nil }
func (c *mute) SetReadDeadline(time.Time) error  { return nil }
func (c *mute) SetWriteDeadline(time.Time) error { return nil }

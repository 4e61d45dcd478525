package dns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tamizdat/transport"
)

// fakeNet is a resolver at the end of a line with a round trip of rtt, for
// tests on a fake clock: nothing in it waits but on channels and timers.
type fakeNet struct {
	rtt time.Duration
	// answer is asked for the responses to a query, in order; it may be called
	// at once.
	answer func(req []byte, tcp bool) [][]byte
	// early, if not nil, is what somebody on the way answers over UDP, long before that.
	early func(req []byte) [][]byte
	// noTCP: connections can't be made.
	noTCP   bool
	queries atomic.Int64
}

var _ transport.Network = (*fakeNet)(nil)

func (n *fakeNet) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if network == "udp" {
		return &fakeUDP{n: n, in: make(chan []byte, 1024), closed: make(chan struct{})}, nil
	}
	select {
	case <-time.After(n.rtt):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if n.noTCP {
		return nil, transport.ErrBlocked
	}
	near, far := net.Pipe()
	// Reading must not wait for answering: writers of a pipe queue on a mutex,
	// which would stop the fake clock.
	queue := make(chan []byte, 4096)
	go func() {
		defer close(queue)
		buf := make([]byte, maxMessage)
		for {
			req, err := readFrame(far, buf)
			if err != nil {
				return
			}
			n.queries.Add(1)
			queue <- bytes.Clone(req)
		}
	}()
	go func() {
		defer far.Close()
		time.Sleep(n.rtt)
		for req := range queue {
			for _, resp := range n.answer(req, true) {
				if writeFrame(far, resp) != nil {
					return
				}
			}
		}
	}()
	return near, nil
}

func (n *fakeNet) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, transport.ErrUnsupported
}

func (n *fakeNet) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, transport.ErrUnsupported
}

func (n *fakeNet) Resolve(context.Context, string) ([]netip.Addr, error) {
	return nil, transport.ErrUnsupported
}

type fakeUDP struct {
	net.Conn // nothing of it is called
	n        *fakeNet
	in       chan []byte
	once     sync.Once
	closed   chan struct{}
}

func (c *fakeUDP) Write(b []byte) (int, error) {
	req := bytes.Clone(b)
	c.n.queries.Add(1)
	if c.n.early != nil {
		time.AfterFunc(5*time.Millisecond, func() { c.put(c.n.early(req)) })
	}
	time.AfterFunc(c.n.rtt, func() { c.put(c.n.answer(req, false)) })
	return len(b), nil
}

func (c *fakeUDP) put(msgs [][]byte) {
	for _, msg := range msgs {
		select {
		case c.in <- msg:
		case <-c.closed:
		}
	}
}

func (c *fakeUDP) Read(b []byte) (int, error) {
	select {
	case msg := <-c.in:
		return copy(b, msg), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *fakeUDP) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fakeUDP) SetWriteDeadline(time.Time) error { return nil }

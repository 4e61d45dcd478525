package censor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tamizdat/transport"
)

// Censor is a network with a scenario's middleboxes between it and the world. It
// closes nothing of its own: it ends when its sockets are closed. Under
// testing/synctest it belongs into the bubble that uses it.
type Censor struct {
	inner transport.Network
	m     *Map
	seed  uint64
	trace func(Event)

	boxes    atomic.Pointer[[]namedBox]
	up, down atomic.Int64

	mu      sync.Mutex
	streams map[*stream]struct{}
	seen    map[destination]uint64 // flows so far
}

var _ transport.Network = (*Censor)(nil)

type namedBox struct {
	name string
	Box
}

type destination struct {
	proto string
	to    netip.AddrPort
}

// maxSeen bounds the count of flows by destination; past it the count starts
// anew, and with it the draws.
const maxSeen = 1 << 14

// New puts s between a reader and inner. seed is what faults are drawn from, for
// each flow by its destination and how many went there before. trace, if not
// nil, hears of everything that is done to a flow; it is called by several
// goroutines at once and must not block.
func New(inner transport.Network, m Map, s Scenario, seed uint64, trace func(Event)) *Censor {
	c := &Censor{
		inner: inner, m: m.clone(), seed: seed, trace: trace,
		streams: map[*stream]struct{}{}, seen: map[destination]uint64{},
	}
	c.Set(s)
	return c
}

// Set changes the rules, for open flows too: what they carry from now on meets
// the new ones, and a connection that the new ones would not have let start
// stands still or is reset, as they do it. The new middleboxes have no memory,
// and of open flows they have not seen the start. A connection that stood still
// or was reset remains so. Only Rules of s are used.
func (c *Censor) Set(s Scenario) {
	boxes := make([]namedBox, len(s.Rules))
	for i, r := range s.Rules {
		boxes[i] = namedBox{r.Name(), r.Start(c.m)}
	}
	c.mu.Lock()
	c.boxes.Store(&boxes)
	open := make([]*stream, 0, len(c.streams))
	for t := range c.streams {
		open = append(open, t)
	}
	c.mu.Unlock()
	for _, t := range open {
		t.apply(t.flow.connect())
	}
}

// Bytes is how many bytes the reader has sent, and how many have reached him,
// in datagrams and streams, without the headers of IP, UDP and TCP.
func (c *Censor) Bytes() (up, down int64) { return c.up.Load(), c.down.Load() }

// ordinal counts the flows to a destination.
func (c *Censor) ordinal(proto string, to netip.AddrPort) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) >= maxSeen {
		clear(c.seen)
	}
	d := destination{proto, to}
	c.seen[d]++
	return c.seen[d]
}

// Resolve implements transport.Network. Names are looked up by the world: what
// is done to DNS is done to the datagrams.
func (c *Censor) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return c.inner.Resolve(ctx, host)
}

// synTimeout is how long a system tries to connect when nothing answers.
const synTimeout = 2 * time.Minute

// Dial implements transport.Network. A name's addresses are tried in turn, each
// with its share of the time, as package net does it.
func (c *Censor) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	tos, err := c.lookup(ctx, address)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("dial: %w: no address", transport.ErrNotFound)
	for i, to := range tos {
		var conn net.Conn
		func() {
			left := synTimeout
			if d, ok := ctx.Deadline(); ok {
				left = time.Until(d)
			}
			ctx, cancel := context.WithTimeout(ctx, left/time.Duration(len(tos)-i))
			defer cancel()
			conn, err = c.dial(ctx, network, to)
		}()
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
	}
	return nil, err
}

// lookup returns the addresses behind "host:port".
func (c *Censor) lookup(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("dial: bad port: %w", err)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), uint16(port))}, nil
	}
	addrs, err := c.inner.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	tos := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		tos[i] = netip.AddrPortFrom(a.Unmap(), uint16(port))
	}
	return tos, nil
}

// connectTimeout is when an operating system gives up: Linux after six repeated
// SYNs.
const connectTimeout = 127 * time.Second

func (c *Censor) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if len(network) < 3 {
		return nil, fmt.Errorf("dial: unknown network: %w", transport.ErrUnsupported)
	}
	if network[:3] == UDP {
		conn, err := c.inner.Dial(ctx, network, to.String())
		if err != nil {
			return nil, err
		}
		return newDialled(c, conn, to), nil
	}
	f := newFlow(c, TCP, netip.AddrPort{}, to)
	v := f.connect()
	if v.Delay > 0 && v.Action == Pass {
		if err := sleep(ctx, v.Delay); err != nil {
			return nil, dialError(network, err)
		}
	}
	switch v.Action {
	case Drop, Freeze:
		err := sleep(ctx, connectTimeout)
		switch {
		case err == nil:
			err = os.NewSyscallError("connect", syscall.ETIMEDOUT)
		case errors.Is(err, context.DeadlineExceeded):
			err = os.ErrDeadlineExceeded // a timeout to those who ask net.Error
		}
		return nil, dialError(network, err)
	case Reset:
		return nil, dialError(network, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	default:
	}
	conn, err := c.inner.Dial(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	return newStream(c, conn, f), nil
}

// dialError is what package net would have said, without the address.
func dialError(network string, err error) error {
	return &net.OpError{Op: "dial", Net: network, Err: err}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Listen implements transport.Network. What dials the reader passes the same
// middleboxes; one that they would not have let in is closed at once.
func (c *Censor) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	ln, err := c.inner.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &listener{ln, c}, nil
}

type listener struct {
	net.Listener
	c *Censor
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		f := newFlow(l.c, TCP, addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr()))
		if f.connect().Action == Pass {
			return newStream(l.c, conn, f), nil
		}
		_ = conn.Close()
	}
}

// ListenPacket implements transport.Network.
func (c *Censor) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	pc, err := c.inner.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newSocket(c, pc), nil
}

// addrPort reads a socket address; the zero AddrPort if it is none.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case nil:
	case interface{ AddrPort() netip.AddrPort }: // *net.UDPAddr, *net.TCPAddr
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

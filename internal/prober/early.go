package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// earlyProbes come back to a server: what they ask is in the first flight, as
// early data. Some send that flight again from elsewhere, as who has recorded it.
func earlyProbes(p Paths) []Probe {
	var out []Probe
	for _, path := range append(append([]string{}, p.Known...), p.Near...) {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT"} {
			b := frame(frameHeaders, h3Fields(request(method, path, "upload-offset", "0", "upload-length", "10")...))
			if method == "POST" || method == "PUT" {
				b = append(b, frame(frameData, []byte("abc"))...)
			}
			out = append(out, Probe{Name: label("early data", "%s %s", method, path), ask: func(ctx context.Context, s Server) string { return early(ctx, s, s, p.Page, b) }})
		}
	}
	for _, path := range append([]string{p.Page}, p.Near[:min(len(p.Near), 4)]...) {
		for _, method := range []string{"GET", "POST"} {
			b := frame(frameHeaders, h3Fields(request(method, path)...))
			out = append(out, Probe{Name: label("replayed", "%s %s", method, path), ask: func(ctx context.Context, s Server) string { return replay(ctx, s, s, p.Page, b) }})
		}
	}
	return dedupe(out)
}

// sessions keeps the tickets of one server.
type sessions struct {
	mu   sync.Mutex
	last *tls.ClientSessionState
	came chan struct{}
}

func (s *sessions) Get(string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.last != nil
}

func (s *sessions) Put(_ string, state *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last = state; state != nil {
		select {
		case s.came <- struct{}{}:
		default:
		}
	}
}

// meet visits a server once and returns with its ticket.
func meet(ctx context.Context, s Server, page string) (*tls.Config, error) {
	cache := &sessions{came: make(chan struct{}, 1)}
	cfg := clientTLS("h3")
	cfg.ClientSessionCache = cache
	c, err := dialH3(ctx, s, cfg, nil)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.control(frame(frameSettings, nil)); err != nil {
		return nil, err
	}
	c.ask(ctx, h3Get(page))
	select {
	case <-cache.came:
		return cfg, nil
	case <-ctx.Done():
		return nil, errors.New("it gives no ticket")
	}
}

// early asks one server with the ticket of another, or its own.
func early(ctx context.Context, from, s Server, page string, request []byte) string {
	cfg, err := meet(ctx, from, page)
	if err != nil {
		return "no ticket: " + quicEnding(err)
	}
	c, err := dialH3(ctx, s, cfg, nil)
	if err != nil {
		return "no connection: " + quicEnding(err)
	}
	defer c.close()
	if err := c.control(frame(frameSettings, nil)); err != nil {
		return "no control stream: " + quicEnding(err)
	}
	text := c.ask(ctx, request)
	return fmt.Sprintf("%s\nresumed %t, early %t", text, c.ConnectionState().TLS.DidResume, c.ConnectionState().Used0RTT)
}

// replay sends a first flight that the server has never seen, twice and from two
// places, and tells what comes first: how much, and of which kind. What comes
// after that is a matter of timers. The ticket may be another server's.
func replay(ctx context.Context, from, s Server, page string, request []byte) string {
	cfg, err := meet(ctx, from, page)
	if err != nil {
		return "no ticket: " + quicEnding(err)
	}
	var flight *tap
	dial, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := dialH3(dial, s, cfg, func(pc net.PacketConn) net.PacketConn {
		flight = &tap{PacketConn: pc, sent: make(chan []byte, 16)}
		return flight
	})
	if err != nil {
		return "no connection: " + quicEnding(err)
	}
	defer c.close()
	_ = c.control(frame(frameSettings, nil))
	str, err := c.OpenStream()
	if err != nil {
		return quicEnding(err)
	}
	_, _ = str.Write(request)
	_ = str.Close()
	var datagrams [][]byte
	for early := false; !early; {
		select {
		case b := <-flight.sent:
			datagrams = append(datagrams, b)
			early = has0RTT(b)
		case <-ctx.Done():
			return "it sends no early data"
		}
	}
	text := ""
	for range 2 {
		text += firstReply(ctx, s, datagrams) + "\n"
	}
	return text
}

// has0RTT looks for a 0-RTT packet, alone or behind an Initial (RFC 9000,
// section 17.2): its type can be read without any key.
func has0RTT(b []byte) bool {
	for len(b) > 0 && b[0]&0x80 != 0 {
		if b[0]>>4&3 == 1 {
			return true
		}
		n := packetLen(b)
		if n <= 0 || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return false
}

// tap keeps what is written from the network.
type tap struct {
	net.PacketConn
	sent chan []byte
}

// WriteTo implements net.PacketConn.
func (t *tap) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case t.sent <- append([]byte(nil), b...):
	default: // repeated for want of an answer
	}
	return len(b), nil
}

// SyscallConn lets quic-go size the buffers.
func (t *tap) SyscallConn() (syscall.RawConn, error) {
	if c, ok := t.PacketConn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// SetReadBuffer is for quic-go.
func (t *tap) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is for quic-go.
func (t *tap) SetWriteBuffer(int) error { return nil }

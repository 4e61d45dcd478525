package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"tamizdat/transport"
)

const (
	udpWorkers = 32
	// tcpIdle is how long a connection may be silent, tcpWrite how long a
	// response may take to be taken; storeTimeout bounds one look-up.
	tcpIdle      = 10 * time.Second
	tcpWrite     = 5 * time.Second
	storeTimeout = 5 * time.Second
	acceptPause  = 100 * time.Millisecond
	// tcpBusy is how long it may be silent while more than half of all connections
	// are taken (RFC 7766 section 6.2.3).
	tcpBusy = 2 * time.Second
	// tcpQueries bounds what one connection may ask before it has to come back,
	// tcpBad how much of that may be what is not answered here.
	tcpQueries = 10000
	tcpBad     = 20
	// defaultMaxTCP leaves room for resolvers that open a connection for every query
	// that was over the rate of UDP; one takes some 20 kB.
	defaultMaxTCP = 1024
	// tcpBuffer is how many bytes of answers are kept back at most.
	tcpBuffer = 8 << 10
)

// Server is an authoritative name server for zones of records (RFC 1034, 1035,
// 2181, 2308, 6891, 7766, 8482). It never recurses, refuses what lies outside its
// zones, and answers a query larger than fits with TC, so that the client comes
// again over TCP.
//
// Over UDP anybody can ask in another's name, and a full record is twelve times as
// large as the query for it. So no network (a /24, or a /56 of IPv6) is sent more
// than some answers a second: what is over gets TC, no larger than the query,
// and no resolver goes without; a signature changes nothing. Who shows a DNS cookie (RFC 7873, 9018), comes
// over TCP or from this machine is not limited. The zero value is not usable.
type Server struct {
	zones     map[string]*zone
	cookies   *cookies
	rates     *rates
	places    *places
	keys      keyring
	transfers chan struct{} // slots
	log       *slog.Logger
	maxTCP    int
}

// ServerConfig configures a Server.
type ServerConfig struct {
	// Zones are answered from Store, all with the same content.
	Zones []Zone
	Store Store
	// MaxTCP is how many TCP connections may be open at once; 0 means 1,024. More
	// are closed at once.
	MaxTCP int
	// MaxTCPPerNet is how many of them one /24, or /56 of IPv6, may have; 0 means a
	// quarter, and two at least.
	MaxTCPPerNet int
	// Rate is how many answers a second go over UDP to one /24, or /56 of IPv6,
	// that shows no cookie, five times as many at once; 0 means 200, negative no
	// limit.
	Rate int
	// Keys are those of other name servers, which may fetch the zones as a whole
	// if Store is Versioned. Nobody else may.
	Keys []*Key
	// Logger; nil discards. No address or name of a query is ever logged.
	Logger *slog.Logger
}

// NewServer checks the configuration; it opens nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{
		zones: map[string]*zone{}, cookies: newCookies(), rates: newRates(cfg.Rate),
		transfers: make(chan struct{}, maxTransfers), log: cfg.Logger, maxTCP: cfg.MaxTCP,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.maxTCP <= 0 {
		s.maxTCP = defaultMaxTCP
	}
	s.places = &places{limit: cfg.MaxTCPPerNet, taken: map[netip.Prefix]int{}}
	if s.places.limit <= 0 {
		s.places.limit = max(s.maxTCP/4, 2)
	}
	if cfg.Store == nil || len(cfg.Zones) == 0 {
		return nil, errors.New("dns server needs a store and a zone")
	}
	var err error
	if s.keys, err = newKeyring(cfg.Keys); err != nil {
		return nil, err
	}
	for _, z := range cfg.Zones {
		prepared, err := newZone(z, cfg.Store)
		if err != nil {
			return nil, err
		}
		for name := range s.zones {
			if name == prepared.name || inZone(name, prepared.name) || inZone(prepared.name, name) {
				return nil, errors.New("dns zones are the same, or one lies in another")
			}
		}
		s.zones[prepared.name] = prepared
	}
	return s, nil
}

// Listen opens a UDP and a TCP socket on the same address; with port 0 on the
// same free port.
func Listen(ctx context.Context, nw transport.Network, address string) (net.PacketConn, net.Listener, error) {
	var lastErr error
	for range 8 { // only a free port of UDP can be taken in TCP
		pc, err := nw.ListenPacket(ctx, "udp", address)
		if err != nil {
			return nil, nil, fmt.Errorf("dns over udp: %w", err)
		}
		ln, err := nw.Listen(ctx, "tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln, nil
		}
		lastErr = fmt.Errorf("dns over tcp: %w", err)
		_ = pc.Close()
		if _, port, err := net.SplitHostPort(address); err != nil || port != "0" {
			break
		}
	}
	return nil, nil, lastErr
}

// Serve answers on the given sockets (either may be nil) until parent ends, then
// closes them, waits for its goroutines, and returns nil. It returns earlier
// with an error if a socket fails.
func (s *Server) Serve(parent context.Context, pc net.PacketConn, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		if pc != nil {
			_ = pc.Close()
		}
		if ln != nil {
			_ = ln.Close()
		}
	})
	defer stop()
	var wg sync.WaitGroup
	if pc != nil {
		a := newAnswerer(pc)
		for range udpWorkers {
			wg.Go(func() { cancel(s.serveUDP(ctx, a)) })
		}
	}
	if ln != nil {
		wg.Go(func() { cancel(s.serveTCP(ctx, ln)) })
	}
	<-ctx.Done()
	wg.Wait()
	if parent.Err() != nil {
		return nil
	}
	return fmt.Errorf("dns server: %w", context.Cause(ctx))
}

var errStopped = errors.New("stopped")

// serveUDP is one of several workers that share the socket, so that a slow
// store holds up few and nobody can make goroutines grow.
func (s *Server) serveUDP(ctx context.Context, a *answerer) error {
	in, control, out := make([]byte, maxMessage), make([]byte, controlBytes), make([]byte, 0, 2048)
	failures := 0
	for {
		n, from, source, err := a.read(in, control)
		if err != nil {
			if ctx.Err() != nil {
				return errStopped
			}
			// ICMP errors of earlier answers may surface here; only a socket that
			// does nothing else is broken.
			if failures++; errors.Is(err, net.ErrClosed) || failures > 100 {
				return err
			}
			continue
		}
		failures = 0
		lookup, cancel := context.WithTimeout(ctx, storeTimeout)
		resp := s.respond(lookup, in[:n], out, peer{addr: addrOf(from)})
		cancel()
		if resp != nil {
			a.write(resp, source, from)
		}
	}
}

func (s *Server) serveTCP(ctx context.Context, ln net.Listener) error {
	slots := make(chan struct{}, s.maxTCP)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return errStopped
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of file descriptors, most likely: it passes.
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		from := addrOf(conn.RemoteAddr())
		leave, ok := s.places.enter(from)
		if !ok {
			_ = conn.Close()
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			leave()
			_ = conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots; leave() }()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer conn.Close()
			s.serveConn(ctx, conn, from, func() time.Duration {
				if 2*len(slots) > cap(slots) {
					return tcpBusy
				}
				return tcpIdle
			})
		})
	}
}

// addrOf is the address of a peer; invalid if it has none.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr()
	case *net.TCPAddr:
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}

// serveConn answers the queries of one connection in turn (RFC 7766 section
// 6.2.1.1 lets a client send on without waiting). While a whole query is there
// already, answers are kept back to go out together.
func (s *Server) serveConn(ctx context.Context, conn net.Conn, from netip.Addr, patience func() time.Duration) {
	in, out := make([]byte, maxMessage), make([]byte, 0, 2048)
	r, w := bufio.NewReaderSize(conn, 2+maxMessage), bufio.NewWriterSize(conn, tcpBuffer)
	defer func() { _ = w.Flush() }() // to whom may be gone
	bad := 0
	for range tcpQueries {
		idle := patience()
		_ = conn.SetReadDeadline(time.Now().Add(idle))
		req, err := readFrame(r, in)
		if err != nil {
			return
		}
		if asksForZone(req) {
			_ = conn.SetWriteDeadline(time.Now().Add(tcpWrite))
			if w.Flush() != nil || s.transfer(ctx, conn, req) != nil {
				return
			}
			continue
		}
		lookup, cancel := context.WithTimeout(ctx, storeTimeout)
		resp := s.respond(lookup, req, out, peer{addr: from, stream: true, limit: 0xffff, idle: idle})
		cancel()
		if resp == nil {
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(tcpWrite))
		if writeFrame(w, resp) != nil || !frameThere(r) && w.Flush() != nil {
			return
		}
		switch dnsmessage.RCode(resp[3] & 15) {
		case dnsmessage.RCodeFormatError, dnsmessage.RCodeNotImplemented, dnsmessage.RCodeRefused:
			if bad++; bad == tcpBad {
				return
			}
		}
	}
}

// frameThere reports whether a whole message can be read without waiting.
func frameThere(r *bufio.Reader) bool {
	if r.Buffered() < 2 {
		return false
	}
	head, err := r.Peek(2)
	return err == nil && r.Buffered() >= 2+int(binary.BigEndian.Uint16(head))
}

// readFrame reads one message with its two bytes of length (RFC 1035 section
// 4.2.2) into buf. A longer one is an error.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > len(buf) {
		return nil, fmt.Errorf("%w: %d bytes", errBadMessage, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

// writeFrame writes length and message in one go: some middle boxes drop a
// segment that holds the length alone.
func writeFrame(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...))
	return err
}

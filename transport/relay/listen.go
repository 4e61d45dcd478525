package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/transport"
)

// Server serves one handler over HTTP/3 (UDP) and HTTP/2 and 1.1 (TCP) on one
// port number.
type Server struct {
	tcp  net.Listener
	udp  net.PacketConn
	quic *quic.Transport
	ln   *quic.EarlyListener
	h1   *http.Server
	h3   *h3Server
	done sync.WaitGroup

	mu  sync.Mutex
	err error
	// fresh are connections over TCP that have not sent a whole request yet.
	fresh map[net.Conn]struct{}
}

// Listen opens addr ("host:port", both may be empty or 0) for TCP and UDP and
// serves handler until Close or Shutdown. cfg needs a certificate; its
// NextProtos are set here. If it has a GetCertificate as well, that serves every
// client, and Certificates[0] is only what the listener's own keys are derived
// from; GetConfigForClient is asked for clients over TCP alone. A network without UDP (transport.ErrUnsupported)
// gets TCP alone. log may be nil; nothing of a client is given to it.
func Listen(ctx context.Context, network transport.Network, addr string, cfg *tls.Config, handler http.Handler, log *slog.Logger) (*Server, error) {
	return ListenWithin(ctx, network, addr, cfg, handler, log, NewGuard(Limits{}))
}

// ListenWithin is Listen with limits of its own; servers that have one Guard share them.
func ListenWithin(ctx context.Context, network transport.Network, addr string, cfg *tls.Config, handler http.Handler, log *slog.Logger, guard *Guard) (*Server, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{fresh: map[net.Conn]struct{}{}}
	if err := s.open(ctx, network, addr); err != nil {
		return nil, err
	}
	base := cfg
	cfg = cfg.Clone()
	if cfg.GetCertificate != nil {
		cfg.Certificates = nil // or a client without SNI would get that one
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"h2", "http/1.1"}
	// The standard library writes the peer's address into its complaints: they go nowhere.
	s.h1 = &http.Server{
		Handler: handler, TLSConfig: cfg, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		// The idle timer also holds what an HTTP/2 connection was that was cut off.
		ReadHeaderTimeout: headerTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeaderBytes,
		DisableGeneralOptionsHandler: true, // what "OPTIONS *" means is the website's to say
		ConnState:                    s.note,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, WriteByteTimeout: 30 * time.Second,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
			MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10,
		},
	}
	if s.udp != nil {
		s.h1.Handler = advertise(handler, s.tcp.Addr())
		keys, err := deriveKeys(base)
		if err != nil {
			s.tcp.Close()
			s.udp.Close()
			return nil, err
		}
		s.quic = &quic.Transport{
			Conn: s.udp, StatelessResetKey: &keys.reset, TokenGeneratorKey: &keys.token, MaxTokenAge: tokenAge,
			VerifySourceAddress: guard.quic.mustVerify, ConnContext: guard.quic.accept,
		}
		cfg = cfg.Clone()
		cfg.GetConfigForClient = nil
		cfg.SetSessionTicketKeys([][32]byte{keys.ticket})
		ln, err := s.quic.ListenEarly(http3.ConfigureTLSConfig(cfg), &quic.Config{
			InitialPacketSize: minPacket, HandshakeIdleTimeout: handshakeTimeout / 2, MaxIdleTimeout: idleTimeout,
			MaxIncomingStreams: maxStreams, MaxIncomingUniStreams: 8,
			Allow0RTT: true,
			// An upload is the only thing that comes in bulk, and it comes from one publisher.
			InitialStreamReceiveWindow: 128 << 10, MaxStreamReceiveWindow: 2 << 20,
			InitialConnectionReceiveWindow: 256 << 10, MaxConnectionReceiveWindow: 4 << 20,
		})
		if err != nil {
			s.tcp.Close()
			s.udp.Close()
			return nil, err
		}
		s.ln = ln
		s.h3 = newH3Server(&http3.Server{
			Handler: afterHandshake(handler), ConnContext: withConn, Logger: slog.New(slog.DiscardHandler), // nil would mean slog.Default
			MaxHeaderBytes: maxHeaderBytes, IdleTimeout: 2 * time.Minute,
		})
		s.done.Go(func() { s.ended(s.h3.serve(ln)) })
	}
	s.done.Go(func() { s.ended(s.h1.ServeTLS(&guarded{s.tcp, guard.tcp}, "", "")) })
	log.Info("listening", "port", portOf(s.tcp.Addr()), "quic", s.udp != nil)
	return s, nil
}

// open takes one port number for both protocols; if the system chooses the
// port, the one it chose for TCP may be taken for UDP, so a few are tried.
func (s *Server) open(ctx context.Context, network transport.Network, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for try := 0; ; try++ {
		tcp, err := network.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listen on tcp: %w", err)
		}
		udp, err := network.ListenPacket(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(portOf(tcp.Addr()))))
		if err == nil || errors.Is(err, transport.ErrUnsupported) {
			if err == nil {
				s.udp = udp
			}
			s.tcp = tcp
			return nil
		}
		tcp.Close()
		if port != "0" && port != "" || try == 8 {
			return fmt.Errorf("listen on udp: %w", err)
		}
	}
}

func portOf(a net.Addr) int {
	_, port, _ := net.SplitHostPort(a.String())
	n, _ := strconv.Atoi(port)
	return n
}

// advertise tells clients over TCP that the same is to be had over HTTP/3
// (RFC 7838), as websites do.
func advertise(next http.Handler, addr net.Addr) http.Handler {
	value := fmt.Sprintf(`h3=":%d"; ma=86400`, portOf(addr))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Alt-Svc", value)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) ended(err error) {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, quic.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// Addr is the address listened on; its port is that of UDP too.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Wait blocks until the server has stopped and returns why, nil after Close
// or Shutdown.
func (s *Server) Wait() error {
	s.done.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// note keeps fresh up to date.
func (s *Server) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.fresh[c] = struct{}{}
	} else {
		delete(s.fresh, c)
	}
}

// closeFresh closes the connections on which nothing is under way but the first
// half of a request, or of a handshake. net/http would wait five seconds for them.
func (s *Server) closeFresh() {
	s.mu.Lock()
	fresh := slices.Collect(maps.Keys(s.fresh))
	s.mu.Unlock()
	for _, c := range fresh {
		_ = c.Close()
	}
}

// Shutdown stops accepting, lets running requests end until ctx does, then
// closes everything. Who has sent half a request has a second for the rest.
func (s *Server) Shutdown(ctx context.Context) error {
	var wg sync.WaitGroup
	late := time.AfterFunc(drainTime, s.closeFresh)
	defer late.Stop()
	wg.Go(func() { _ = s.h1.Shutdown(ctx) })
	if s.h3 != nil {
		wg.Go(func() { s.h3.shutdown(ctx) })
	}
	wg.Wait()
	return s.Close()
}

// Close ends all connections at once.
func (s *Server) Close() error {
	err := s.h1.Close()
	if s.h3 != nil {
		s.h3.close()
		err = errors.Join(err, s.ln.Close(), s.quic.Close(), s.udp.Close())
	}
	s.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

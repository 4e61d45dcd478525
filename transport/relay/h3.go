package relay

import (
	"context"
	"net/http"
	"sync"
	"time"
	"weak"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// headerTimeout is how long a client may take over the header of a request.
	headerTimeout = 10 * time.Second
	// lastBytesTimeout is how long it may take over what is under way of an answer
	// when the handler has returned.
	lastBytesTimeout = 30 * time.Second
	// maxStreams is how many requests a client may have open on one connection, and
	// how many of it are worked on: quic-go takes a stream for open until the handler
	// has heard that it was reset.
	maxStreams = 128
	// drainTime is what the last answers have for their way when a server shuts down.
	drainTime = time.Second
)

// h3Server is http3.Server with what that leaves to the client: how long it may
// take over a request's header and over the end of an answer, both for ever there
// as long as the connection is kept alive. net/http bounds these for HTTP/1.1 and
// HTTP/2.
//
// It sends no GOAWAY when it shuts down, as http3's own server does: http3 keeps the
// control stream to itself. New requests are rejected instead (RFC 9114, section 5.2),
// each by itself. Only who is connected when the program ends could see that; without
// these limits, anybody could hold what he likes at any time.
type h3Server struct {
	server *http3.Server   // never listens; its settings count
	grace  context.Context // until Shutdown
	life   context.Context // until Close
	stop   context.CancelFunc
	end    context.CancelFunc
	done   sync.WaitGroup // of serve, and of connections
	busy   busy
}

func newH3Server(s *http3.Server) *h3Server {
	h := &h3Server{server: s}
	s.Handler = h.busy.counted(freed(s.Handler))
	h.life, h.end = context.WithCancel(context.Background())
	h.grace, h.stop = context.WithCancel(h.life)
	h.done.Add(1)
	return h
}

// freed ends the deadlines of the header: from here on they are the handler's.
func freed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Time{})
		next.ServeHTTP(w, r)
	})
}

// serve takes connections until Shutdown or Close, or until ln is closed. It is
// called once.
func (s *h3Server) serve(ln *quic.EarlyListener) error {
	defer s.done.Done()
	for {
		c, err := ln.Accept(s.grace)
		if s.grace.Err() != nil {
			// Else handshakes would go on, with nobody behind them, for as long as
			// the last answers take. Connections that are there stay.
			_ = ln.Close()
			return http.ErrServerClosed
		}
		if err != nil {
			return err
		}
		s.done.Go(func() { s.conn(c) })
	}
}

// conn serves one connection until it ends, and waits for its handlers.
func (s *h3Server) conn(c *quic.Conn) {
	if !s.settled(c) {
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		return
	}
	h, err := s.server.NewRawServerConn(c) // a client can hold that up until it is idle for too long
	if err != nil {
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeInternalError), "")
		return
	}
	bye := func() { _ = h.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }
	// Of a connection that the client has closed http3 would keep everything for its
	// idle timer's two minutes.
	defer bye()
	defer context.AfterFunc(s.life, bye)()
	var others, requests sync.WaitGroup
	defer others.Wait()
	defer requests.Wait()
	others.Go(func() {
		for {
			str, err := c.AcceptUniStream(context.Background())
			if err != nil {
				return // the connection has ended
			}
			go h.HandleUnidirectionalStream(str)
		}
	})
	for ctx := s.grace; ; {
		str, err := c.AcceptStream(ctx)
		switch refuse := ctx != s.grace; {
		case err != nil && c.Context().Err() == nil && !refuse:
			ctx = context.Background()
			others.Go(func() {
				requests.Wait()
				time.AfterFunc(drainTime, bye)
			})
		case err != nil:
			return
		case refuse:
			str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
			str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
		default:
			requests.Go(func() {
				_ = str.SetDeadline(time.Now().Add(headerTimeout))
				h.HandleRequestStream(str)
				endLater(weak.Make(str))
			})
		}
	}
}

// settled waits until HTTP/3 may begin on a connection: if it brings requests in
// 0-RTT at once, else when the handshake is complete. It is false if that will not
// be, or nobody is left to serve it.
//
// What HTTP/3 says on its own, its SETTINGS, would else be a packet more to an
// address that may be forged: with it the second repetition of the handshake goes
// beyond three times what came from there (RFC 9000, section 8.1). A client without
// 0-RTT can ask nothing before, so nobody waits; and whoever never ends a handshake
// costs HTTP/3 nothing.
func (s *h3Server) settled(c *quic.Conn) bool {
	if c.ConnectionState().Used0RTT {
		return true
	}
	select {
	case <-c.HandshakeComplete():
		return true
	case <-c.Context().Done():
	case <-s.grace.Done():
	}
	return false
}

// endLater resets a stream whose answer waits for a client that takes nothing. A
// stream that has ended well is gone long before, and nothing here keeps it.
func endLater(s weak.Pointer[quic.Stream]) {
	time.AfterFunc(lastBytesTimeout, func() {
		if str := s.Value(); str != nil {
			str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		}
	})
}

// shutdown takes no more requests, lets those that run end until ctx does, and
// then closes all connections. Nobody waits for the rest of a request that was half
// sent.
func (s *h3Server) shutdown(ctx context.Context) {
	defer s.close()
	s.stop()
	ended := make(chan struct{})
	go func() { s.done.Wait(); close(ended) }()
	for {
		var drained <-chan time.Time
		idle := s.busy.idle()
		if idle == nil {
			drained = time.After(drainTime)
		}
		select {
		case <-idle: // nil while there is nothing to wait for
		case <-drained:
			if s.busy.idle() == nil {
				return
			}
		case <-ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// busy counts the handlers that run.
type busy struct {
	mu    sync.Mutex
	n     int
	ended chan struct{} // closed when the last one ends
}

func (b *busy) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		if b.n++; b.n == 1 {
			b.ended = make(chan struct{})
		}
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.n--; b.n == 0 {
				close(b.ended)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// idle is nil if no handler runs, else closed when none does.
func (b *busy) idle() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == 0 {
		return nil
	}
	return b.ended
}

// close ends all connections at once.
func (s *h3Server) close() {
	s.end()
	s.done.Wait()
}

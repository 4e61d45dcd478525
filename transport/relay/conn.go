package relay

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// ErrPin means that whoever answered does not have the relay's key: a
// middlebox, another server, or a relay that lost its key.
var ErrPin = errors.New("the relay's key is not the one the invite names")

const (
	handshakeTimeout = 10 * time.Second
	keepAlive        = 15 * time.Second
	idleTimeout      = 60 * time.Second
	maxHeaderBytes   = 16 << 10
)

// peer is the other end of a connection, and how to know it.
type peer struct {
	host  string
	port  uint16
	pin   channel.Pin
	trust gateway.Trust
	// tickets are the sessions that may be resumed, nil for none.
	tickets *tickets
}

// tlsConfig authenticates the relay by the pin of its key alone, or by WebPKI
// alone if it has no pin. Verification of the pin sits in VerifyConnection
// because that, unlike VerifyPeerCertificate, also runs when a session is
// resumed.
func (p peer) tlsConfig() *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		Time:       p.trust.Now,
		RootCAs:    p.trust.Roots,
		// Also for an address: crypto/tls sends no name then (RFC 6066), and over
		// QUIC it resumes no session without one.
		ServerName: p.host,
	}
	if p.tickets != nil {
		cfg.ClientSessionCache = p.tickets
	}
	if p.pin.WebPKI() {
		return cfg
	}
	cfg.InsecureSkipVerify = true // the pin is what is verified
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return ErrPin
		}
		if got := channel.PinOf(cs.PeerCertificates[0]); !hmac.Equal(got[:], p.pin[:]) {
			return ErrPin
		}
		return nil
	}
	return cfg
}

// repeatableKey marks the context of a request that does no harm if a stranger
// sends it a second time: it may travel as TLS early data, before the relay has
// shown that it is there (RFC 8470).
type repeatableKey struct{}

func repeatable(ctx context.Context) context.Context {
	return context.WithValue(ctx, repeatableKey{}, true)
}

func isRepeatable(req *http.Request) bool {
	return req.Method == http.MethodGet && req.Context().Value(repeatableKey{}) != nil
}

// conn is one way to send requests to a relay; it keeps its connection and
// dials anew when that has died.
type conn interface {
	http.RoundTripper
	Close() error
}

// newTCP speaks HTTP/2 (or 1.1) over TLS over TCP.
func newTCP(network transport.Network, to peer) conn {
	life, end := context.WithCancel(context.Background())
	return &tcpConn{end: end, Transport: http.Transport{
		DialContext:            gateway.DialWithin(life, network),
		TLSClientConfig:        to.tlsConfig(),
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        16, // matters only if HTTP/2 was not agreed on
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			// Notices within 25 s that a censor froze the connection.
			SendPingTimeout: keepAlive, PingTimeout: 10 * time.Second,
			MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReceiveBufferPerStream: 1 << 20,
		},
	}}
}

type tcpConn struct {
	http.Transport
	end context.CancelFunc // of dials
}

func (c *tcpConn) Close() error {
	c.end()
	c.CloseIdleConnections()
	return nil
}

package relay

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
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
	host string
	port uint16
	// ports are others that serve the same over UDP; ech is the relay's
	// ECHConfigList (RFC 9849), nil if none is known.
	ports []uint16
	ech   []byte
	pin   channel.Pin
	trust gateway.Trust
	// tickets are the sessions that may be resumed, nil for none.
	tickets *tickets
	// What worked is remembered with keep, by where and under name.
	keep  Sessions
	where func() string
	name  string
	// without is what it is reached without.
	without Without
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

// hide returns cfg with the relay's name encrypted to the key in its ECH
// configuration: a watcher sees the outer name that stands there. A relay that
// does not have that key (any more) may offer another one, but under a
// certificate for the outer name, which Go does not show us. Where WebPKI is what
// we go by it is checked for that name; else the way has failed, and the next one
// has its turn.
func (p peer) hide(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.EncryptedClientHelloConfigList = p.ech
	if !p.pin.WebPKI() {
		cfg.EncryptedClientHelloRejectionVerify = func(tls.ConnectionState) error { return ErrPin }
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
	// know takes in other ports of the relay, and its ECHConfigList.
	know(ports []uint16, ech []byte)
	Close() error
}

const (
	// tryTime is how long one way over TCP has while there are others.
	tryTime = 2 * time.Second
	// tcpVersion stands in a rung for no version of QUIC.
	tcpVersion = 0xff
)

// newTCP speaks HTTP/2 (or 1.1) over TLS over TCP.
func newTCP(network transport.Network, to peer) conn {
	c := &tcpConn{tlsDialer: newTLSDialer(network, to, "h2", "http/1.1")}
	c.Transport = http.Transport{
		DialContext:            c.dial,
		DialTLSContext:         c.dialTLS,
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
	}
	return c
}

type tcpConn struct {
	http.Transport
	*tlsDialer
}

func (c *tcpConn) Close() error {
	c.end()
	c.CloseIdleConnections()
	return nil
}

// tlsDialer makes connections to one relay over TLS over TCP.
type tlsDialer struct {
	protos []string
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	end    context.CancelFunc // of dials and connections
	worked worked

	mu sync.Mutex
	to peer
}

func newTLSDialer(network transport.Network, to peer, protos ...string) *tlsDialer {
	life, end := context.WithCancel(context.Background())
	return &tlsDialer{
		protos: protos, dial: gateway.DialWithin(life, network), end: end, to: to,
		worked: worked{keep: to.keep, where: to.where, relay: "tcp " + to.name},
	}
}

// know implements conn. Other ports are not tried over TCP: who stops it stops
// it on all.
func (c *tlsDialer) know(_ []uint16, ech []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to.ech = ech
}

func (c *tlsDialer) peer() peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.to
}

// dialTLS makes a connection, with the relay's name hidden if that can be done
// and gets through.
func (c *tlsDialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	to := c.peer()
	tries := []rung{{tcpVersion, to.port, false}}
	if len(to.ech) > 0 {
		tries = []rung{{tcpVersion, to.port, true}, tries[0]}
	}
	tries = to.without.of(tries)
	usual := tries[0]
	if c.worked.last() == tries[len(tries)-1] {
		slices.Reverse(tries)
	}
	var errs []error
	for i, r := range tries {
		limit := handshakeTimeout
		if i < len(tries)-1 {
			limit = tryTime
		}
		tc, err := c.dialOne(ctx, limit, network, address, to, r.ech)
		if err == nil {
			c.worked.note(r, usual)
			return tc, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (c *tlsDialer) dialOne(ctx context.Context, limit time.Duration, network, address string, to peer, ech bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	raw, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	cfg := to.tlsConfig()
	cfg.NextProtos = c.protos
	if ech {
		cfg = to.hide(cfg)
	}
	tc := tls.Client(raw, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return tc, nil
}

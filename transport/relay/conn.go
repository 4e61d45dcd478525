package relay

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// ErrPin means that whoever answered does not have the relay's key: a
// middlebox, another server, or a relay that lost its key.
var ErrPin = errors.New("the relay's key is not the one the invite names")

const (
	handshakeTimeout = 10 * time.Second
	keepAlive        = 15 * time.Second
	idleTimeout      = 60 * time.Second
	maxHeaderBytes   = 16 << 10
	// minPacket is the smallest packet size QUIC may start with: larger ones
	// fail silently where the path is narrow.
	minPacket = 1200
)

// tlsConfig authenticates the relay by the pin of its key alone. Verification
// sits in VerifyConnection because that, unlike VerifyPeerCertificate, also
// runs when a session is resumed.
func tlsConfig(host string, pin channel.Pin) *tls.Config {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // the pin is what is verified, below
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return ErrPin
			}
			if got := channel.PinOf(cs.PeerCertificates[0]); !hmac.Equal(got[:], pin[:]) {
				return ErrPin
			}
			return nil
		},
	}
	if _, err := netip.ParseAddr(host); err != nil {
		cfg.ServerName = host // an address has no name to send (RFC 6066)
	}
	return cfg
}

// conn is one way to send requests to a relay; it keeps its connection and
// dials anew when that has died.
type conn interface {
	http.RoundTripper
	Close() error
}

// newTCP speaks HTTP/2 (or 1.1) over TLS over TCP.
func newTCP(network transport.Network, host string, pin channel.Pin) conn {
	return &tcpConn{http.Transport{
		DialContext:            network.Dial,
		TLSClientConfig:        tlsConfig(host, pin),
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

type tcpConn struct{ http.Transport }

func (c *tcpConn) Close() error {
	c.CloseIdleConnections()
	return nil
}

// newQUIC speaks HTTP/3.
func newQUIC(network transport.Network, host string, pin channel.Pin) conn {
	q := &quicConn{network: network}
	q.life, q.end = context.WithCancel(context.Background())
	q.Transport = http3.Transport{
		TLSClientConfig: tlsConfig(host, pin),
		QUICConfig: &quic.Config{
			InitialPacketSize: minPacket, HandshakeIdleTimeout: handshakeTimeout / 2,
			KeepAlivePeriod: keepAlive, MaxIdleTimeout: idleTimeout,
		},
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
		Dial:                   q.dial,
	}
	return q
}

type quicConn struct {
	http3.Transport
	network transport.Network
	life    context.Context // ends with Close
	end     context.CancelFunc
	dials   atomic.Int64
}

// dialError is a dial that failed.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// RoundTrip asks again if all it got is the failure of an earlier dial: http3
// keeps that for the next request when the one that dialled has gone.
func (q *quicConn) RoundTrip(req *http.Request) (*http.Response, error) {
	before := q.dials.Load()
	resp, err := q.Transport.RoundTrip(req)
	var stale *dialError
	if errors.As(err, &stale) && q.dials.Load() == before && req.Context().Err() == nil {
		return q.Transport.RoundTrip(req)
	}
	return resp, err
}

func (q *quicConn) Close() error {
	q.end()
	return q.Transport.Close()
}

// dial tries the relay's addresses in turn, each from a socket of its own: a
// censor who dropped the last flow by its ports has to find this one first. It
// does not end with the request that happened to come first, since others wait
// for the same connection.
func (q *quicConn) dial(ctx context.Context, addr string, tlsCfg *tls.Config, cfg *quic.Config) (*quic.Conn, error) {
	q.dials.Add(1)
	c, err := q.dialHost(ctx, addr, tlsCfg, cfg)
	if err != nil {
		return nil, &dialError{err}
	}
	return c, nil
}

func (q *quicConn) dialHost(ctx context.Context, addr string, tlsCfg *tls.Config, cfg *quic.Config) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(q.life, cancel)()
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}
	addrs, err := q.network.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%w: no address", transport.ErrNotFound)
	for i, a := range addrs {
		if i == 4 || ctx.Err() != nil {
			break
		}
		var c *quic.Conn
		if c, err = q.dialAddr(ctx, netip.AddrPortFrom(a, uint16(port)), tlsCfg, cfg); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (q *quicConn) dialAddr(ctx context.Context, to netip.AddrPort, tlsCfg *tls.Config, cfg *quic.Config) (*quic.Conn, error) {
	local := "0.0.0.0:0"
	if to.Addr().Is6() {
		local = "[::]:0"
	}
	pc, err := q.network.ListenPacket(ctx, "udp", local)
	if err != nil {
		return nil, err
	}
	tr := &quic.Transport{Conn: pc}
	shut := func() { _, _ = tr.Close(), pc.Close() }
	c, err := tr.DialEarly(ctx, net.UDPAddrFromAddrPort(to), tlsCfg, cfg)
	if err != nil {
		shut()
		return nil, err
	}
	context.AfterFunc(c.Context(), shut)
	return c, nil
}

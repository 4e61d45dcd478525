package relay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"
)

// Limits bound what strangers can make a server hold. A zero field means its
// default, a negative one no limit. Whoever is over a limit finds his connection
// closed, as at any server that has such limits, before anything that he could
// ask is known. Addresses are counted in memory while their connections are open,
// and never written.
type Limits struct {
	// Conns is how many connections may be open, over TCP and over QUIC each
	// (default 20,000; one takes about 100 kB).
	Conns int
	// ConnsPerAddr is how many of them may be of one address, or of one /64 of
	// IPv6 (default 1,000: many readers share a provider's address).
	ConnsPerAddr int
	// Unverified is how many QUIC connections a second may begin without having
	// shown that their address is theirs (default 500). Beyond that, and from an
	// address with many connections, a round trip more shows it (Retry, RFC 9000,
	// section 8.1.2).
	Unverified int
}

// unverifiedPerAddr is how many connections an address may have before further
// ones have to show that they come from there: or who forges it could use up
// what its owner may have.
const unverifiedPerAddr = 16

func (l Limits) withDefaults() Limits {
	l.Conns = cmp.Or(l.Conns, 20_000)
	l.ConnsPerAddr = cmp.Or(l.ConnsPerAddr, 1_000)
	l.Unverified = cmp.Or(l.Unverified, 500)
	return l
}

// Origin is the part of a remote address that one client has to himself: an
// IPv4 address, or a /64 of IPv6. The zero Prefix if it is none.
func Origin(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	if at.Addr().Unmap().Is4() {
		bits = 32
	}
	p, err := at.Addr().Unmap().WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// guard counts the open connections of one protocol.
type guard struct {
	places *Places[netip.Prefix]
	fresh  *rate.Limiter // of unverified addresses
}

func newGuard(l Limits) *guard {
	l = l.withDefaults()
	r := rate.Limit(l.Unverified)
	if r < 0 {
		r = rate.Inf
	}
	return &guard{places: NewPlaces[netip.Prefix](l.Conns, l.ConnsPerAddr), fresh: rate.NewLimiter(r, max(1, l.Unverified))}
}

var errTooMany = errors.New("too many connections")

// enter counts a connection in, ok false if it is one too many. leave may be
// called more than once.
func (g *guard) enter(remote net.Addr) (leave func(), ok bool) {
	return g.places.Enter(Origin(remote.String()))
}

// mustVerify is for quic.Transport: it decides on every connection that begins
// without a token.
func (g *guard) mustVerify(remote net.Addr) bool {
	return g.places.Of(Origin(remote.String())) >= unverifiedPerAddr || !g.fresh.AllowN(time.Now(), 1)
}

// accept is for quic.Transport: its context ends with the connection, also with
// one that never came about.
func (g *guard) accept(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	leave, ok := g.enter(info.RemoteAddr)
	if !ok {
		return nil, errTooMany
	}
	context.AfterFunc(ctx, leave)
	return ctx, nil
}

// Guarded is ln within limits on connections: what is too many is closed at once.
func Guarded(ln net.Listener, limits Limits) net.Listener { return &guarded{ln, newGuard(limits)} }

// guarded is a TCP listener that closes at once what is too many.
type guarded struct {
	net.Listener
	guard *guard
}

func (l *guarded) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if leave, ok := l.guard.enter(c.RemoteAddr()); ok {
			return &guardedConn{c, leave}, nil
		}
		c.Close()
	}
}

type guardedConn struct {
	net.Conn
	leave func()
}

func (c *guardedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

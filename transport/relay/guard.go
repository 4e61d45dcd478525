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
	// Conns is how many connections may be open, over TCP and over QUIC each. One
	// takes about 100 kB; the default is what half of the memory has room for where
	// the system says how much there is, and 20,000 at most.
	Conns int
	// ConnsPerAddr is how many of them may be of one address, or of one /64 of
	// IPv6 (default 1,000: many readers share a provider's address; but an eighth of
	// Conns, or 64, if that is less). One customer may have a /56 or a /48: twice
	// and four times as many may be of one of these.
	ConnsPerAddr int
	// Unverified is how many QUIC connections a second may begin without having
	// shown that their address is theirs (default 500, less where Conns is below
	// 20,000). Beyond that, and from an address with many connections, a round trip
	// more shows it (Retry, RFC 9000, section 8.1.2).
	Unverified int
}

const (
	// mostConns is the default of Conns at most, leastConns at least, connBytes what
	// one takes.
	mostConns  = 20_000
	leastConns = 500
	connBytes  = 100 << 10
	// leastPerAddr is the default of ConnsPerAddr at least.
	leastPerAddr = 64
	// unverifiedPerAddr is how many connections an address may have before further
	// ones have to show that they come from there: or who forges it could use up
	// what its owner may have.
	unverifiedPerAddr = 16
)

// wide are the networks of IPv6 that one customer may have, and how many times as many
// connections as of a /64 may be of one.
var wide = []struct{ bits, times int }{{56, 2}, {48, 4}}

func (l Limits) withDefaults(memory int64) Limits {
	if l.Conns == 0 {
		l.Conns = mostConns
		if memory > 0 { // half of it, for two protocols
			l.Conns = int(min(mostConns, max(leastConns, memory/4/connBytes)))
		}
	}
	share := func(of, most, least int) int {
		if l.Conns < 0 {
			return most
		}
		return min(most, max(least, l.Conns/of))
	}
	l.ConnsPerAddr = cmp.Or(l.ConnsPerAddr, share(8, 1_000, leastPerAddr))
	// A handshake that nobody goes on with is held for five seconds: forged ones get
	// an eighth of the places.
	l.Unverified = cmp.Or(l.Unverified, share(40, 500, 1))
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

// Guard counts the connections of one server, whatever addresses it listens on.
type Guard struct{ tcp, quic *guard }

// NewGuard makes one for such limits.
func NewGuard(l Limits) *Guard {
	l = l.withDefaults(memory())
	return &Guard{newGuard(l), newGuard(l)}
}

// guard counts the open connections of one protocol.
type guard struct {
	places *Places[netip.Prefix]
	wide   []*Places[netip.Prefix] // as in wide
	fresh  *rate.Limiter           // of unverified addresses
}

// newGuard makes one for limits that have their defaults.
func newGuard(l Limits) *guard {
	r := rate.Limit(l.Unverified)
	if r < 0 {
		r = rate.Inf
	}
	g := &guard{places: NewPlaces[netip.Prefix](l.Conns, l.ConnsPerAddr), fresh: rate.NewLimiter(r, max(1, l.Unverified))}
	for _, w := range wide {
		g.wide = append(g.wide, NewPlaces[netip.Prefix](-1, w.times*l.ConnsPerAddr))
	}
	return g
}

var errTooMany = errors.New("too many connections")

// enter counts a connection in, ok false if it is one too many. leave may be
// called more than once.
func (g *guard) enter(remote net.Addr) (leave func(), ok bool) {
	from := Origin(remote.String())
	leave, ok = g.places.Enter(from)
	for i, within := range wideOf(from) {
		if !ok {
			return nil, false
		}
		inner := leave
		outer, room := g.wide[i].Enter(within)
		if !room {
			inner()
			return nil, false
		}
		leave = func() { outer(); inner() }
	}
	return leave, ok
}

// wideOf are the networks as in wide that an origin is of, none for IPv4.
func wideOf(from netip.Prefix) []netip.Prefix {
	if !from.Addr().Is6() {
		return nil
	}
	out := make([]netip.Prefix, len(wide))
	for i, w := range wide {
		out[i] = netip.PrefixFrom(from.Addr(), w.bits).Masked()
	}
	return out
}

// mustVerify is for quic.Transport: it decides on every connection that begins
// without a token.
func (g *guard) mustVerify(remote net.Addr) bool {
	from := Origin(remote.String())
	if g.places.Of(from) >= unverifiedPerAddr {
		return true
	}
	for i, within := range wideOf(from) {
		if g.wide[i].Of(within) >= wide[i].times*unverifiedPerAddr {
			return true
		}
	}
	return !g.fresh.AllowN(time.Now(), 1)
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
func Guarded(ln net.Listener, limits Limits) net.Listener {
	return &guarded{ln, NewGuard(limits).tcp}
}

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

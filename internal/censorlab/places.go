package censorlab

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"tamizdat/internal/censor"
	"tamizdat/internal/simnet"
)

// The geography of the world, in round trips from the reader.
const (
	// RTT is a round trip between the reader and whatever is abroad.
	RTT = 100 * time.Millisecond
	// ResolverRTT is one between the reader and the ISP's resolver.
	ResolverRTT = 10 * time.Millisecond

	nearDelay = ResolverRTT / 2 // of the reader's line; the resolver sits right behind it
	farDelay  = RTT/2 - nearDelay
)

// A server abroad has 100 Mbit/s, a reader 50 down and 10 up, unless the
// scenario says otherwise.
const (
	serverRate = 12_500_000
	readerDown = 6_250_000
	readerUp   = 1_250_000
)

// highPort is another port of relay A.
const highPort = 61001

// Addresses and names of the world. They are of the blocks that are kept for
// documentation (RFC 5737, RFC 2606).
var (
	addrPublisher = netip.MustParseAddr("192.0.2.1")
	addrResolver  = netip.MustParseAddr("192.0.2.53")
	addrSecond    = netip.MustParseAddr("192.0.2.54") // the ISP's other resolver, down mostly
	addrRelayA    = netip.MustParseAddr("198.51.100.10")
	addrRelayB    = netip.MustParseAddr("198.51.100.20")
	addrLagging   = netip.MustParseAddr("198.51.100.21")
	addrForking   = netip.MustParseAddr("198.51.100.22")
	addrAuthority = netip.MustParseAddr("198.51.100.40")
	addrPeer      = netip.MustParseAddr("198.51.100.30")
	addrCDN       = netip.MustParseAddr("203.0.113.80")
	addrGateway   = netip.MustParseAddr("203.0.113.90")
	addrMirror    = netip.MustParseAddr("203.0.113.100")
	addrTunnel    = netip.MustParseAddr("203.0.113.110")
	addrDoH       = netip.MustParseAddr("203.0.113.120")
	addrBootstrap = netip.MustParseAddr("203.0.113.130")
)

// addrHops are the nodes that a walk through the DHT meets.
var addrHops = []netip.Addr{
	netip.MustParseAddr("203.0.113.131"), netip.MustParseAddr("203.0.113.132"), netip.MustParseAddr("203.0.113.133"),
}

const (
	nameRelayA  = "garden.example" // relay B is given as an address
	nameOuter   = "shop.example"   // what watchers see of those who hide it
	nameCDN     = "cdn.example"
	nameGateway = "gateway.example"
	nameMirror  = "mirror.example"
	zoneNews    = "n.example"
	zoneMore    = "m.example"                      // the same, in no invite
	zoneLong    = "the-news-of-the-meadow.example" // the same again
	zoneTunnel  = "t.example"
)

// Map is what the censor knows of this world: both relays, the zone, the
// well-known helpers of others. What it lets through of an allowlist is a CDN
// that too much depends on.
func Map() censor.Map {
	return censor.Map{
		Relays:    []netip.AddrPort{netip.AddrPortFrom(addrRelayA, 443), netip.AddrPortFrom(addrRelayB, 443)},
		Names:     []string{nameRelayA, nameMirror},
		Outer:     []string{nameOuter},
		Zones:     []string{zoneNews, zoneTunnel},
		Resolvers: []netip.AddrPort{netip.AddrPortFrom(addrResolver, 53), netip.AddrPortFrom(addrSecond, 53)},
		DoH:       []netip.Addr{addrDoH},
		IPFS:      []netip.Addr{addrBootstrap, addrGateway},
		Allowed:   []netip.Addr{addrCDN},
	}
}

// far is the link of a server abroad.
func far() simnet.Link {
	return simnet.Link{Delay: farDelay, Up: serverRate, Down: serverRate, Queue: 1 << 20}
}

// line is the reader's link in a scenario. Its delay is that of the way abroad:
// the resolver is nearer.
func line(s censor.Scenario) simnet.Link {
	l := simnet.Link{
		Delay: nearDelay, Up: cmp.Or(s.Line.Up, readerUp), Down: cmp.Or(s.Line.Down, readerDown),
		LossUp: s.Line.LossUp, LossDown: s.Line.LossDown, MTU: s.Line.MTU,
	}
	if s.Line.RTT > RTT {
		l.Delay += (s.Line.RTT - RTT) / 2
	}
	return l
}

// readerAddr is the address of the n-th reader.
func readerAddr(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("10.%d.%d.%d", 1+n>>16&0xff, n>>8&0xff, n&0xff))
}

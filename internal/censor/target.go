package censor

import (
	"net/netip"
	"slices"
	"strings"
)

// Map is what the censor knows of this world: who is who. On loopback, where
// everybody may have one address, relays are told apart by port as well; give
// DoH, IPFS and Allowed there addresses of their own (127.0.0.2 and so on).
type Map struct {
	// Relays are those it has found, in the order in which ip-block drops them.
	Relays []netip.AddrPort
	// Names are the TLS names it lists; those below them are meant too.
	Names []string
	// Outer are outer names of ECH that it lists besides.
	Outer []string
	// Zones are the DNS zones it lists.
	Zones []string
	// Resolvers are the ISP's recursive resolvers.
	Resolvers []netip.AddrPort
	// DoH are the well-known servers of DNS over HTTPS and TLS.
	DoH []netip.Addr
	// IPFS are libp2p's bootstrap nodes and the public gateways.
	IPFS []netip.Addr
	// Allowed is what an allowlist lets through besides Resolvers: some CDN.
	Allowed []netip.Addr
}

// clone returns a copy that nobody else changes, without IPv4 in IPv6.
func (m Map) clone() *Map {
	ports := func(in []netip.AddrPort) []netip.AddrPort {
		out := slices.Clone(in)
		for i, a := range out {
			out[i] = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		return out
	}
	addrs := func(in []netip.Addr) []netip.Addr {
		out := slices.Clone(in)
		for i, a := range out {
			out[i] = a.Unmap()
		}
		return out
	}
	return &Map{
		Relays: ports(m.Relays), Resolvers: ports(m.Resolvers),
		Names: slices.Clone(m.Names), Outer: slices.Clone(m.Outer), Zones: slices.Clone(m.Zones),
		DoH: addrs(m.DoH), IPFS: addrs(m.IPFS), Allowed: addrs(m.Allowed),
	}
}

// lists reports whether name is one of list or below one of them.
func lists(list []string, name string) bool {
	_, ok := listed(list, name)
	return ok
}

// listed returns the longest entry of list that holds name (ASCII case and a
// trailing dot don't matter).
func listed(list []string, name string) (entry string, ok bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, e := range list {
		e = strings.ToLower(strings.TrimSuffix(e, "."))
		if e == "" || len(e) < len(entry) {
			continue
		}
		if name == e || strings.HasSuffix(name, "."+e) {
			entry, ok = e, true
		}
	}
	return entry, ok
}

// Target says which flows a rule is about.
type Target func(m *Map, proto string, to netip.AddrPort) bool

// Everything is every flow.
func Everything(*Map, string, netip.AddrPort) bool { return true }

// OverUDP is every flow over UDP.
func OverUDP(_ *Map, proto string, _ netip.AddrPort) bool { return proto == UDP }

// Port is every flow to that port.
func Port(n uint16) Target {
	return func(_ *Map, _ string, to netip.AddrPort) bool { return to.Port() == n }
}

// Resolvers is every flow to a port of the ISP's resolvers that the Map names.
func Resolvers(m *Map, _ string, to netip.AddrPort) bool { return slices.Contains(m.Resolvers, to) }

// PlainDNS is every flow to port 53, or to one of Resolvers.
func PlainDNS(m *Map, proto string, to netip.AddrPort) bool {
	return to.Port() == 53 || Resolvers(m, proto, to)
}

// DoHServers is every flow to a well-known DoH or DoT server at its ports.
func DoHServers(m *Map, _ string, to netip.AddrPort) bool {
	return (to.Port() == 443 || to.Port() == 853) && slices.Contains(m.DoH, to.Addr())
}

// PublicIPFS is every flow to libp2p's bootstrap nodes and public gateways.
func PublicIPFS(m *Map, _ string, to netip.AddrPort) bool { return slices.Contains(m.IPFS, to.Addr()) }

// Allowed is every flow to who is on the allowlist.
func Allowed(m *Map, proto string, to netip.AddrPort) bool {
	return slices.Contains(m.Allowed, to.Addr()) || Resolvers(m, proto, to)
}

// Not is every flow that t is not about.
func Not(t Target) Target {
	return func(m *Map, proto string, to netip.AddrPort) bool { return !t(m, proto, to) }
}

// Both is every flow that a and b are about.
func Both(a, b Target) Target {
	return func(m *Map, proto string, to netip.AddrPort) bool { return a(m, proto, to) && b(m, proto, to) }
}

// sameHost reports whether to is at the host of h: by address, and on loopback
// by port as well.
func sameHost(h, to netip.AddrPort) bool {
	return h.Addr() == to.Addr() && (!h.Addr().IsLoopback() || h.Port() == to.Port())
}

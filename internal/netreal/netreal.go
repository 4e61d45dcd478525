// Package netreal is the real network: transport.Network over package net.
//
// It is the one place of the program that opens sockets. Everything else gets
// a transport.Network handed in, so that a censor, a simulated net or a proxy
// can stand where this package stands.
package netreal

import (
	"context"
	"net"
	"net/netip"

	"tamizdat/transport"
)

// Network opens sockets of the operating system. The zero value works and may
// be used from several goroutines at once.
type Network struct {
	// Resolver looks names up; nil means net.DefaultResolver.
	Resolver *net.Resolver
}

var _ transport.Network = (*Network)(nil)

// Dial implements transport.Network; names are resolved by n.Resolver.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Resolver: n.Resolver}
	return d.DialContext(ctx, network, address)
}

// Listen implements transport.Network.
func (n *Network) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, network, address)
}

// ListenPacket implements transport.Network. For UDP it returns a bare
// *net.UDPConn, since quic-go finds its fast paths (GSO, ECN, recvmmsg) by that
// type.
func (n *Network) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return new(net.ListenConfig).ListenPacket(ctx, network, address)
}

// Resolve implements transport.Network. An address resolves to itself.
func (n *Network) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	r := n.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	as, err := r.LookupNetIP(ctx, "ip", host)
	for i := range as {
		as[i] = as[i].Unmap()
	}
	return as, err
}

// PublicAddrs returns the machine's own globally routable addresses, IPv4
// first: the best guess at what a server can be reached by. It is empty behind
// a NAT.
func PublicAddrs() []netip.Addr {
	ifs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var v4, v6 []netip.Addr
	for _, ia := range ifs {
		p, err := netip.ParsePrefix(ia.String())
		if err != nil {
			continue
		}
		a := p.Addr().Unmap()
		switch {
		case !a.IsGlobalUnicast() || a.IsPrivate() || sharedSpace.Contains(a):
		case a.Is4():
			v4 = append(v4, a)
		default:
			v6 = append(v6, a)
		}
	}
	return append(v4, v6...)
}

// sharedSpace is what carriers put their customers behind (RFC 6598); no one
// can dial in there.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

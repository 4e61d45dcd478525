package simnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Host is one machine. It has the methods of transport.Network; all may be
// called at once.
type Host struct {
	net  *Net
	name string

	// Guarded by net.mu.
	link             Link
	uplink, downlink serial
	addrs            []netip.Addr
	down             bool
	port             uint16 // the next ephemeral one
	tcp              map[uint16]*listener
	udp              map[uint16]*packetConn
	flows            map[string]uint64 // how often who was spoken to
	conns            map[*conn]struct{}
}

// SetLink changes the host's link, for open flows too.
func (h *Host) SetLink(l Link) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.link = l
}

// SetDown takes the host off the net or puts it back. While it is down packets
// to and from it vanish, and its TCP connections stand still; what was under way
// in them stays lost, as it does when a machine dies.
func (h *Host) SetDown(down bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.down = down
	if down {
		for c := range h.conns {
			c.link.frozen = true
		}
	}
}

// Resolve implements transport.Network: names are known to everybody, at once.
func (h *Host) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if as := h.net.names[strings.ToLower(strings.TrimSuffix(host, "."))]; len(as) > 0 {
		return append([]netip.Addr(nil), as...), nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoHost, host)
}

// target resolves "host:port".
func (h *Host) target(ctx context.Context, address string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	as, err := h.Resolve(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(as[0], uint16(port)), nil
}

// Dial implements transport.Network.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := h.target(ctx, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	switch {
	case strings.HasPrefix(network, "tcp"):
		return h.dialTCP(ctx, to)
	case strings.HasPrefix(network, "udp"):
		pc, err := h.listenUDP(netip.AddrPortFrom(unspecified(to.Addr()), 0))
		if err != nil {
			return nil, err
		}
		pc.remote = to
		return pc, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNetwork, network)
}

// Listen implements transport.Network.
func (h *Host) Listen(_ context.Context, network, address string) (net.Listener, error) {
	at, err := h.local(address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("%w: %s", ErrNetwork, network)
	}
	return h.listenTCP(at)
}

// ListenPacket implements transport.Network.
func (h *Host) ListenPacket(_ context.Context, network, address string) (net.PacketConn, error) {
	at, err := h.local(address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if !strings.HasPrefix(network, "udp") {
		return nil, fmt.Errorf("%w: %s", ErrNetwork, network)
	}
	return h.listenUDP(at)
}

// local reads a local address; a missing host means all addresses.
func (h *Host) local(address string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if portText == "" {
		portText = "0"
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr := netip.IPv4Unspecified()
	if host != "" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// own returns the address that the host sends from to reach a.
func (h *Host) own(a netip.Addr) netip.Addr {
	for _, o := range h.addrs {
		if o.Is4() == a.Is4() {
			return o
		}
	}
	return unspecified(a)
}

// has reports whether an address is the host's own or all of them.
func (h *Host) has(a netip.Addr) bool {
	if a.IsUnspecified() {
		return true
	}
	for _, o := range h.addrs {
		if o == a {
			return true
		}
	}
	return false
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// free returns an ephemeral port that is taken in neither protocol.
func (h *Host) free() uint16 {
	for {
		p := h.port
		if h.port++; h.port < firstPort {
			h.port = firstPort
		}
		if h.tcp[p] == nil && h.udp[p] == nil {
			return p
		}
	}
}

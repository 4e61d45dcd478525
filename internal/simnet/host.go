package simnet

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Host is one machine on the net. It has the methods of transport.Network;
// sockets opened through it are closed by [Net.Close].
type Host struct {
	net   *Net
	name  string
	addrs []netip.Addr

	// Guarded by net.mu.
	link             Link
	upFree, downFree time.Duration // when each way of the link is free again
	down, gone       bool          // gone: removed
	ports            map[portKey]*portUse
	conns            map[*tcpConn]struct{}
	flows            map[flowKey]uint64 // how many of each there were
	// lose, if set by a test, decides instead of the link what is lost going up.
	lose func(f *flow, number uint64) bool
	next [2]uint16 // ephemeral port to try next, less firstPort, by proto
}

// firstPort is the first ephemeral port, RFC 6335.
const firstPort = 49152

type portKey struct {
	proto proto
	port  uint16
}

// portUse is who has a port of a host.
type portUse struct {
	bound []*binding
	conns int // dialled TCP connections
}

// binding is a socket that waits for what comes to an address.
type binding struct {
	addr   netip.Addr // invalid: all addresses of the families below
	v4, v6 bool
	port   uint16
	udp    *udpConn
	tcp    *listener
}

func (b *binding) covers(a netip.Addr) bool {
	if b.addr.IsValid() {
		return b.addr == a
	}
	return a.Is4() && b.v4 || a.Is6() && b.v6
}

func (b *binding) overlaps(o *binding) bool {
	switch {
	case b.addr.IsValid():
		return o.covers(b.addr)
	case o.addr.IsValid():
		return b.covers(o.addr)
	}
	return b.v4 && o.v4 || b.v6 && o.v6
}

// local is what the OS shows as the socket's own address.
func (b *binding) local() netip.AddrPort {
	switch {
	case b.addr.IsValid():
		return netip.AddrPortFrom(b.addr, b.port)
	case b.v6:
		return netip.AddrPortFrom(netip.IPv6Unspecified(), b.port)
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), b.port)
}

// SetLink changes the host's link at once, for open flows too. Packets that are
// already under way keep the times they have.
func (h *Host) SetLink(l Link) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	old, now := h.link, h.net.now()
	h.link = l.normal()
	h.upFree = rescale(now, h.upFree, old.Up, h.link.Up)
	h.downFree = rescale(now, h.downFree, old.Down, h.link.Down)
}

// rescale keeps the bytes that wait for a link when its rate changes.
func rescale(now, free time.Duration, old, rate int64) time.Duration {
	if old <= 0 || rate <= 0 || free <= now {
		return 0
	}
	return now + time.Duration(float64(free-now)*float64(old)/float64(rate))
}

// SetDown makes the host dead or alive at once. Packets to and from a dead host
// vanish, and its open TCP connections stand still; when it is back they go on
// with a retransmission.
func (h *Host) SetDown(down bool) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.down == down {
		return
	}
	h.down = down
	if down {
		return
	}
	var conns []*tcpConn // of h, and of others with it
	for _, o := range n.hosts {
		for c := range o.conns {
			if o == h || c.out.dst == h {
				conns = append(conns, c)
			}
		}
	}
	slices.SortFunc(conns, func(a, b *tcpConn) int { return cmp.Compare(a.id, b.id) })
	for _, c := range conns {
		c.thaw()
	}
}

// shut closes all of the host's sockets.
func (h *Host) shut() {
	for _, u := range h.ports {
		for _, b := range slices.Clone(u.bound) {
			if b.udp != nil {
				b.udp.shut()
			} else {
				b.tcp.shut()
			}
		}
	}
	for c := range h.conns {
		c.die(net.ErrClosed)
	}
}

// Resolve implements transport.Network: it looks in the names that [Net.Name]
// set, at once. An address resolves to itself. The error is a *net.DNSError.
func (h *Host) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{plain(a)}, nil
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	as := h.net.names[fold(host)]
	if len(as) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return slices.Clone(as), nil
}

// Dial implements transport.Network for tcp and udp (and tcp4, udp6 …). Several
// addresses of a name are tried one after the other, each for its share of the
// time until ctx ends. A TCP connection is there after one round trip. It is
// refused after one round trip if nothing listens, and if nothing answers Dial
// tries until ctx ends, or 127 s, as Linux does.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p, v4, v6, err := family(network)
	if err != nil {
		return nil, err
	}
	host, port, err := split(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", network, err)
	}
	var as []netip.Addr
	if host == "" {
		as = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	} else if as, err = h.Resolve(ctx, host); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	as = slices.DeleteFunc(as, func(a netip.Addr) bool { return a.Is4() && !v4 || a.Is6() && !v6 })
	if len(as) == 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.AddrError{Err: "no suitable address", Addr: host}}
	}
	var first error
	for i, a := range as {
		if a.IsUnspecified() { // as the OS has it: this host
			a = loopback(a)
		}
		to := netip.AddrPortFrom(a, port)
		var c net.Conn
		var err error
		if p == udp {
			c, err = h.dialUDP(network, to)
		} else {
			c, err = h.dialTCP(ctx, network, to, len(as)-i)
		}
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// Listen implements transport.Network for tcp, tcp4 and tcp6. No address, or
// an unspecified one, means all the host's addresses, as do an operating
// system's; port 0 picks an ephemeral one.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	b, err := h.bind(ctx, tcp, network, address)
	if err != nil {
		return nil, err
	}
	return b.tcp, nil
}

// ListenPacket implements transport.Network for udp, udp4 and udp6; addresses
// are as for Listen. What it returns has the methods of *net.UDPConn that
// quic-go looks for on a plain net.PacketConn (SetReadBuffer, SetWriteBuffer).
func (h *Host) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	b, err := h.bind(ctx, udp, network, address)
	if err != nil {
		return nil, err
	}
	return b.udp, nil
}

// bind opens a socket on a local address.
func (h *Host) bind(ctx context.Context, want proto, network, address string) (*binding, error) {
	p, v4, v6, err := family(network)
	if err != nil || p != want {
		return nil, fmt.Errorf("listen %s: %w", network, ErrUnsupported)
	}
	host, port, err := split(address)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", network, err)
	}
	b := &binding{v4: v4, v6: v6, port: port}
	if host != "" {
		as, err := h.Resolve(ctx, host)
		if err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Err: err}
		}
		if a := as[0]; !a.IsUnspecified() {
			b.addr = a
		} else if a.Is6() && !v6 || a.Is4() && !v4 {
			return nil, &net.OpError{Op: "listen", Net: network, Err: &net.AddrError{Err: "no suitable address", Addr: host}}
		}
	}
	fail := func(errno syscall.Errno) error { return opError("listen", network, netip.AddrPort{}, b.local(), errno) }
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.closed {
		return nil, opError("listen", network, netip.AddrPort{}, b.local(), net.ErrClosed)
	}
	if b.addr.IsValid() && !b.addr.IsLoopback() && !slices.Contains(h.addrs, b.addr) ||
		b.addr.Is4() && !v4 || b.addr.Is6() && !v6 {
		return nil, fail(syscall.EADDRNOTAVAIL)
	}
	if b.port == 0 {
		if b.port = h.ephemeral(p); b.port == 0 {
			return nil, fail(syscall.EADDRINUSE)
		}
	}
	use := h.use(p, b.port)
	if slices.ContainsFunc(use.bound, b.overlaps) {
		return nil, fail(syscall.EADDRINUSE)
	}
	use.bound = append(use.bound, b)
	if p == udp {
		b.udp = newUDP(h, b, network)
	} else {
		b.tcp = newListener(h, b, network)
	}
	return b, nil
}

// use returns the entry of a port, a new one if it has none.
func (h *Host) use(p proto, port uint16) *portUse {
	u := h.ports[portKey{p, port}]
	if u == nil {
		u = new(portUse)
		h.ports[portKey{p, port}] = u
	}
	return u
}

// unbind gives a binding's port back.
func (h *Host) unbind(p proto, b *binding) {
	u := h.use(p, b.port)
	u.bound = slices.DeleteFunc(u.bound, func(o *binding) bool { return o == b })
	h.tidy(p, b.port, u)
}

func (h *Host) tidy(p proto, port uint16, u *portUse) {
	if len(u.bound) == 0 && u.conns == 0 {
		delete(h.ports, portKey{p, port})
	}
}

// lookup finds the socket that gets what is sent to an address.
func (h *Host) lookup(p proto, to netip.AddrPort) *binding {
	u := h.ports[portKey{p, to.Port()}]
	if u == nil {
		return nil
	}
	for _, b := range u.bound {
		if b.covers(to.Addr()) {
			return b
		}
	}
	return nil
}

// ephemeral picks the next free port, 0 if there is none.
func (h *Host) ephemeral(p proto) uint16 {
	const ports = 65536 - firstPort
	for range ports {
		port := firstPort + h.next[p]
		h.next[p] = (h.next[p] + 1) % ports
		if h.ports[portKey{p, port}] == nil {
			return port
		}
	}
	return 0
}

// source is the address that packets to an address come from; invalid if the
// host has none of that family.
func (h *Host) source(to netip.Addr) netip.Addr {
	if to.IsLoopback() {
		return loopback(to)
	}
	if slices.Contains(h.addrs, to) {
		return to
	}
	for _, a := range h.addrs {
		if a.Is4() == to.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

func loopback(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// family takes a network's name apart.
func family(network string) (p proto, v4, v6 bool, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		p = tcp
	case "udp", "udp4", "udp6":
		p = udp
	default:
		return 0, false, false, fmt.Errorf("network %s: %w", network, ErrUnsupported)
	}
	return p, network[len(network)-1] != '6', network[len(network)-1] != '4', nil
}

func split(address string) (host string, port uint16, err error) {
	host, s, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return "", 0, &net.AddrError{Err: "invalid port", Addr: s}
	}
	return host, uint16(n), nil
}

// opError is an error as package net makes it, so that callers who look for
// *net.OpError, Timeout or an errno find them.
func opError(op, network string, local, remote netip.AddrPort, err error) error {
	e := &net.OpError{Op: op, Net: network, Err: err}
	if errno, ok := err.(syscall.Errno); ok {
		e.Err = os.NewSyscallError(op, errno)
	}
	addr := func(a netip.AddrPort) net.Addr {
		if network[:3] == "udp" {
			return net.UDPAddrFromAddrPort(a)
		}
		return net.TCPAddrFromAddrPort(a)
	}
	if local.IsValid() {
		e.Source = addr(local)
	}
	if remote.IsValid() {
		e.Addr = addr(remote)
	}
	return e
}

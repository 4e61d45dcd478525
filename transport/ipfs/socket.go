package ipfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	coretransport "github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/gologshim"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	p2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/quic-go/quic-go"

	"tamizdat/transport"
)

// agent is what identify tells peers about the software: the library's own
// default, without our name or version.
const agent = "github.com/libp2p/go-libp2p"

// quiet silences the global loggers of libp2p and boxo, which write peers'
// addresses to standard error; a relay's standard error ends in a journal on
// disk, and no reader's address may be written there. It is global state of
// those libraries: there is no logger to inject.
var quiet = sync.OnceFunc(func() {
	golog.SetAllLoggers(golog.LevelFatal)
	gologshim.SetDefaultHandler(slog.DiscardHandler)
})

// newHost builds a libp2p host whose every socket comes from cfg.Network. life
// bounds the sockets' opening. The returned sockets are closed by the caller,
// after the host.
func newHost(life context.Context, cfg Config, key crypto.PrivKey, listen []ma.Multiaddr) (host.Host, *sockets, error) {
	conns, mem := 16, int64(64<<20)
	if len(listen) > 0 {
		conns, mem = 256, 256<<20
	}
	if cfg.MaxConns > 0 {
		conns = cfg.MaxConns
	}
	if cfg.Memory > 0 {
		mem = cfg.Memory
	}
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	rm, err := rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Scale(mem, 4*conns)), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, nil, fmt.Errorf("resource limits: %w", err)
	}
	cm, err := connmgr.NewConnManager(max(1, conns*3/4), conns, connmgr.WithGracePeriod(20*time.Second))
	if err != nil {
		return nil, nil, fmt.Errorf("connection limits: %w", err)
	}

	s := &sockets{life: life, net: cfg.Network, dialsOnly: len(listen) == 0, lending: lending{lent: make(map[string]<-chan struct{})}}
	opts := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.UserAgent(agent),
		libp2p.ProtocolVersion("ipfs/0.1.0"),
		libp2p.ResourceManager(rm),
		libp2p.ConnectionManager(cm),
		libp2p.MultiaddrResolver(s),
		libp2p.WithDialTimeout(dialTimeout),

		libp2p.NoTransports,
		libp2p.QUICReuse(s.reuse),
		libp2p.Transport(s.quic),
		libp2p.Transport(s.tcp),
		// Over TCP, Noise before TLS: it knows no dates, and a reader's clock may be
		// years off. (QUIC has TLS only: see timeless.)
		libp2p.Security(noise.ID, noise.New),
		libp2p.Security(p2ptls.ID, p2ptls.New),

		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.Ping(false),
		// A path that was blocked a hundred times may open the next minute:
		// whether to try is the engine's to decide, not the swarm's.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
	}
	if len(listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs, libp2p.ForceReachabilityPrivate())
	} else {
		// Told, not asked: AutoNAT would have strangers dial us to find out.
		opts = append(opts, libp2p.ListenAddrs(listen...), libp2p.ForceReachabilityPublic())
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close(), rm.Close(), cm.Close())
	}
	return h, s, nil
}

// sockets lends a transport.Network to libp2p.
type sockets struct {
	life      context.Context
	net       transport.Network
	dialsOnly bool
	lending
}

var _ network.MultiaddrDNSResolver = (*sockets)(nil)

// reuse is libp2p's manager of shared UDP sockets, opening them through the
// Network. Its other options are those of libp2p's own default.
func (s *sockets) reuse(reset quic.StatelessResetKey, token quic.TokenGeneratorKey, rm network.ResourceManager) (*quicreuse.ConnManager, error) {
	strangers := new(crowd)
	s.reset, s.token = reset, token
	s.verify = func(addr net.Addr) bool { return strangers.over() || rm.VerifySourceAddress(addr) }
	s.admit = func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
		addr, err := quicreuse.ToQuicMultiaddr(info.RemoteAddr, quic.Version1)
		if err != nil {
			addr = nil // the resource manager decides about unknown addresses
		}
		scope, err := rm.OpenConnection(network.DirInbound, false, addr)
		if err != nil {
			return ctx, err
		}
		context.AfterFunc(ctx, scope.Done)
		return network.WithConnManagementScope(ctx, scope), nil
	}
	var err error
	s.manager, err = quicreuse.NewConnManager(reset, token,
		quicreuse.OverrideListenUDP(s.listenUDP),
		// The default asks the kernel's routing table over a socket of its own.
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return noSource{}, nil }),
		quicreuse.ConnContext(s.admit),
		quicreuse.VerifySourceAddress(rm.VerifySourceAddress))
	return s.manager, err
}

func (s *sockets) listenUDP(netw string, laddr *net.UDPAddr) (net.PacketConn, error) {
	c, err := s.net.ListenPacket(s.life, family(netw, laddr.IP), laddr.String())
	if err != nil {
		return nil, err
	}
	if _, ok := c.LocalAddr().(*net.UDPAddr); !ok { // quicreuse would panic
		c.Close()
		return nil, fmt.Errorf("datagram socket without a UDP address: %w", transport.ErrUnsupported)
	}
	return c, nil
}

// family is "udp" or "tcp" as transport.Network names them; only an IPv6
// wildcard keeps its digit, without which it would take the IPv4 port as well.
func family(netw string, ip net.IP) string {
	if netw[len(netw)-1] == '6' && ip.IsUnspecified() {
		return netw
	}
	return netw[:3]
}

// noSource leaves the source address to the kernel.
type noSource struct{}

func (noSource) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return nil, errors.New("no preferred source address")
}

// tcp builds the TCP transport: libp2p's own, with our dialler, and with Listen
// overridden, for which it has no option.
func (s *sockets) tcp(up coretransport.Upgrader, rm network.ResourceManager) (*tcpTransport, error) {
	t, err := tcp.NewTCPTransport(up, rm, nil, tcp.DisableReuseport(),
		tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return s, nil }))
	if err != nil {
		return nil, err
	}
	return &tcpTransport{TcpTransport: t, up: up, sockets: s}, nil
}

// DialContext implements tcp.ContextDialer.
func (s *sockets) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	c, err := s.net.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	_, local := c.LocalAddr().(*net.TCPAddr)
	_, remote := c.RemoteAddr().(*net.TCPAddr)
	if local && remote {
		return c, nil
	}
	// Through a proxy the ends have no address that libp2p could write down.
	ra, err := netip.ParseAddrPort(address)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &proxied{Conn: c, remote: net.TCPAddrFromAddrPort(ra)}, nil
}

type proxied struct {
	net.Conn
	remote *net.TCPAddr
}

func (p *proxied) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4zero} }
func (p *proxied) RemoteAddr() net.Addr { return p.remote }

type tcpTransport struct {
	*tcp.TcpTransport
	up      coretransport.Upgrader
	sockets *sockets
}

var (
	_ coretransport.Transport   = (*tcpTransport)(nil)
	_ coretransport.DialUpdater = (*tcpTransport)(nil)
)

func (t *tcpTransport) Listen(laddr ma.Multiaddr) (coretransport.Listener, error) {
	netw, addr, err := manet.DialArgs(laddr)
	if err != nil {
		return nil, err
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	l, err := t.sockets.net.Listen(t.sockets.life, family(netw, ap.Addr().AsSlice()), addr)
	if err != nil {
		return nil, err
	}
	ml, err := manet.WrapNetListener(l)
	if err != nil {
		l.Close()
		return nil, err
	}
	return t.up.UpgradeGatedMaListener(t, t.up.GateMaListener(ml)), nil
}

// ResolveDNSComponent resolves the first /dns, /dns4 or /dns6 component.
func (s *sockets) ResolveDNSComponent(ctx context.Context, addr ma.Multiaddr, limit int) ([]ma.Multiaddr, error) {
	for i, c := range addr {
		code := c.Protocol().Code
		if code != ma.P_DNS && code != ma.P_DNS4 && code != ma.P_DNS6 {
			continue
		}
		ips, err := s.net.Resolve(ctx, c.Value())
		if err != nil {
			return nil, err
		}
		var out []ma.Multiaddr
		for _, ip := range ips {
			ip = ip.Unmap()
			if len(out) >= limit || code == ma.P_DNS4 && !ip.Is4() || code == ma.P_DNS6 && !ip.Is6() {
				continue
			}
			m, err := manet.FromIP(ip.AsSlice())
			if err != nil {
				continue
			}
			full := append(append(append(ma.Multiaddr{}, addr[:i]...), m...), addr[i+1:]...)
			out = append(out, full)
		}
		return out, nil
	}
	return []ma.Multiaddr{addr}, nil
}

// ResolveDNSAddr refuses: /dnsaddr needs TXT lookups, which transport.Network
// does not offer.
func (s *sockets) ResolveDNSAddr(context.Context, peer.ID, ma.Multiaddr, int, int) ([]ma.Multiaddr, error) {
	return nil, fmt.Errorf("/dnsaddr: %w", transport.ErrUnsupported)
}

package ipfs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	coretransport "github.com/libp2p/go-libp2p/core/transport"
	p2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/quic-go/quic-go"
)

// smallPacket is the size of QUIC packets until the path has shown that it
// carries larger ones: the least that QUIC allows. quic-go's own 1280 bytes and
// the headers below don't pass where the MTU is 1280, as on many mobile lines
// and in tunnels, and since quic-go takes its first size for the path's least,
// they would be sent again and again.
const smallPacket = 1200

// quicTransport is libp2p's own over sockets that we lend it: they are the one
// place where packet sizes and the check of certificates are ours to say, since
// libp2p has options for neither.
//
// Lending works for wildcard addresses only. A node that listens on one address
// alone answers with libp2p's 1280 bytes, as Kubo does: a reader behind an MTU
// of 1280 reaches such nodes over TCP.
type quicTransport struct {
	coretransport.Transport
	sockets *sockets
}

var _ coretransport.Transport = (*quicTransport)(nil)

// quic builds the QUIC transport.
func (s *sockets) quic(key crypto.PrivKey, cm *quicreuse.ConnManager, gater connmgr.ConnectionGater, rm network.ResourceManager) (*quicTransport, error) {
	var opts []libp2pquic.Option
	if s.dialsOnly {
		cert, err := oldCertificate()
		if err != nil {
			return nil, err
		}
		opts = append(opts, libp2pquic.WithTLSIdentityOption(p2ptls.WithCertTemplate(cert)))
	}
	t, err := libp2pquic.NewTransport(key, cm, nil, gater, rm, opts...)
	if err != nil {
		return nil, err
	}
	return &quicTransport{t, s}, nil
}

// ListenOrder has the swarm open QUIC first, as libp2p's own transport says.
func (t *quicTransport) ListenOrder() int { return libp2pquic.ListenOrder }

// Dial implements transport.Transport.
func (t *quicTransport) Dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID) (coretransport.CapableConn, error) {
	netw, _, err := manet.DialArgs(raddr)
	if err != nil {
		return nil, err
	}
	if err := t.sockets.lendForDial(netw); err != nil {
		return nil, err
	}
	return t.Transport.Dial(ctx, raddr, p)
}

// Listen implements transport.Transport.
func (t *quicTransport) Listen(laddr ma.Multiaddr) (coretransport.Listener, error) {
	if addr, _, err := quicreuse.FromQuicMultiaddr(laddr); err == nil && addr.IP.IsUnspecified() {
		netw, _, err := manet.DialArgs(laddr)
		if err != nil {
			return nil, err
		}
		if err := t.sockets.lend(netw, addr); err != nil {
			return nil, err
		}
	}
	return t.Transport.Listen(laddr)
}

// lending is what sockets need to lend QUIC transports to libp2p.
type lending struct {
	manager *quicreuse.ConnManager
	reset   quic.StatelessResetKey
	token   quic.TokenGeneratorKey
	admit   func(context.Context, *quic.ClientInfo) (context.Context, error)
	verify  func(net.Addr) bool

	mu   sync.Mutex
	lent map[string]<-chan struct{} // by network; closed when libp2p is done with it
	wg   sync.WaitGroup
}

// lendForDial makes sure that there is a socket to dial from. libp2p gives one
// back that was not used for a while.
func (s *sockets) lendForDial(netw string) error {
	s.mu.Lock()
	done := s.lent[netw]
	s.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		default:
			return nil
		}
	}
	ip := net.IPv4zero
	if netw == "udp6" {
		ip = net.IPv6zero
	}
	return s.lend(netw, &net.UDPAddr{IP: ip})
}

// lend opens a socket on a wildcard address, which libp2p will listen on or dial
// from.
func (s *sockets) lend(netw string, laddr *net.UDPAddr) error {
	conn, err := s.listenUDP(netw, laddr)
	if err != nil {
		return err
	}
	tr := &quic.Transport{
		Conn: conn, TokenGeneratorKey: &s.token, StatelessResetKey: &s.reset,
		ConnContext: s.admit, VerifySourceAddress: s.verify,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	done, err := s.manager.LendTransport(netw, careful{tr}, conn)
	if err != nil {
		_ = tr.Close()
		conn.Close()
		return err
	}
	s.lent[netw] = done
	s.wg.Go(func() {
		<-done
		_ = tr.Close() // its connections are over
		conn.Close()
	})
	return nil
}

// Close closes all QUIC sockets, after the host that uses them.
func (s *sockets) Close() error {
	if s.manager == nil {
		return nil
	}
	err := s.manager.Close()
	s.wg.Wait()
	return err
}

// careful is a QUIC transport of small packets that holds no clock against a
// peer.
type careful struct{ *quic.Transport }

var _ quicreuse.QUICTransport = careful{}

func (c careful) Listen(tlsConf *tls.Config, conf *quic.Config) (quicreuse.QUICListener, error) {
	return c.Transport.Listen(tlsConf, small(conf))
}

func (c careful) Dial(ctx context.Context, addr net.Addr, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
	return c.Transport.Dial(ctx, addr, timeless(tlsConf), small(conf))
}

func small(conf *quic.Config) *quic.Config {
	conf = conf.Clone()
	conf.InitialPacketSize = smallPacket
	return conf
}

// timeless has the check of a peer's certificate pass over its dates. libp2p
// (specs/tls) proves who a peer is by a signature of the peer's key in a
// certificate that the peer makes itself at each start, valid from an hour
// before: its dates protect nothing, but shut out a reader whose clock is
// behind, be it by a day. libp2p has no option for the clock of that check.
func timeless(conf *tls.Config) *tls.Config {
	verify := conf.VerifyPeerCertificate
	if verify == nil {
		return conf
	}
	conf = conf.Clone()
	conf.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
		return verify(redated(raw), chains)
	}
	return conf
}

// redated returns a peer's certificate with dates of today if its own don't
// include today, for libp2p's check: the same key and the same extensions, so
// that the proof in them is checked as ever. Whatever is wrong with it otherwise
// is left for that check to find. (TLS has seen by then that the peer has the
// certificate's key.)
func redated(raw [][]byte) [][]byte {
	if len(raw) != 1 {
		return raw
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return raw
	}
	now := time.Now()
	if !now.Before(cert.NotBefore) && !now.After(cert.NotAfter) {
		return raw
	}
	if cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return raw // the one thing that the certificate below could not show
	}
	once, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return raw
	}
	like := &x509.Certificate{
		SerialNumber: cert.SerialNumber, ExtraExtensions: cert.Extensions,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
	again, err := x509.CreateCertificate(rand.Reader, like, like, cert.PublicKey, once)
	if err != nil {
		return raw
	}
	return [][]byte{again}
}

// oldCertificate is libp2p's own template with a beginning long ago: a peer would
// refuse a reader whose clock is ahead, since the reader's certificate seemed to
// begin in the future. Only nodes that never listen have it, so that nobody can
// tell a relay of ours from others by its certificate.
func oldCertificate() (*x509.Certificate, error) {
	const years = 365 * 24 * time.Hour
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	subject, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{SerialNumber: subject.String()},
		NotBefore: now.Add(-20 * years), NotAfter: now.Add(100 * years),
	}, nil
}

// crowd counts strangers: with more than so many a second, as under an attack
// with forged addresses, each has to show first that it is where it says.
type crowd struct {
	mu    sync.Mutex
	since time.Time
	n     int
}

const maxCrowd = 1000 // a second, as libp2p has it for its own sockets

func (c *crowd) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.since) >= time.Second {
		c.since, c.n = now, 0
	}
	c.n++
	return c.n > maxCrowd
}

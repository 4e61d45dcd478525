package paths_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/mirror/paths"
	server "tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/relay"
	"tamizdat/transport/transporttest"
)

// authority signs certificates for host names.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.cert = a.sign(t, key, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign completes and signs a certificate; the authority's own if it has none.
func (a *authority) sign(t *testing.T, key *ecdsa.PrivateKey, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// cdn runs a CDN for one name on loopback, over HTTP/2 and HTTP/3: a plain
// reverse proxy. It returns its port and counts requests.
func cdn(t *testing.T, a *authority, name string, origin netip.AddrPort) (port uint16, served *atomic.Int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := a.sign(t, key, &x509.Certificate{DNSNames: []string{name}})
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: origin.String()})
	back := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true} // CDNs take the origin as it is
	t.Cleanup(back.CloseIdleConnections)
	proxy.Transport = back
	served = &atomic.Int64{}
	s, err := relay.Listen(t.Context(), &netreal.Network{}, "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			proxy.ServeHTTP(w, r)
		}), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return netip.MustParseAddrPort(s.Addr().String()).Port(), served
}

// onLoopback is a network in which all names are this machine.
type onLoopback struct{ netreal.Network }

func (*onLoopback) Resolve(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func (n *onLoopback) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return n.Network.Dial(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

// open asks one path for the opening of a channel, or for what is in it one by
// one, and counts what came.
func open(ctx context.Context, p transport.Path, ch *transporttest.Channel) (pieces map[transport.PieceKind]int, err error) {
	pieces = map[transport.PieceKind]int{}
	ask := transport.Ask{Channel: ch.ID(), Grant: ch.Seed.GrantName(ch.ID())}
	o, ok := p.Heads.(transport.Opener)
	if !ok {
		_, headErr := p.Heads.Head(ctx, ask.Channel, 0)
		_, noteErr := p.Heads.RootNote(ctx, ask.Channel, 1)
		_, grantErr := p.Heads.Grant(ctx, ask.Channel, ask.Grant)
		return pieces, errors.Join(headErr, noteErr, grantErr)
	}
	for piece, err := range o.Open(ctx, ask) {
		if err != nil {
			return pieces, err
		}
		pieces[piece.Kind]++
	}
	return pieces, nil
}

// A publisher pushes to a relay, and a reader who knows only the name of a CDN
// in front of it reads there, over both protocols. Whoever has no certificate
// of that name gets no request.
func TestRelayBehindCDN(t *testing.T) {
	const name = "cdn.example"
	ch := transporttest.NewChannel(t, "Behind a CDN")
	ch.Publish(transporttest.Articles(3)...)
	r, err := server.New(server.Config{Dir: t.TempDir(), Network: &netreal.Network{}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	target, err := r.Target(ch.ID())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := relay.NewPublisher(&netreal.Network{}, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pub.Close() })
	for _, e := range ch.Editions() {
		if err := pub.Publish(t.Context(), e.Source(), nil); err != nil {
			t.Fatal(err)
		}
	}
	good, stranger := newAuthority(t), newAuthority(t)
	origin := netip.MustParseAddrPort(r.Addr().String())
	port, served := cdn(t, good, name, origin)
	for what, c := range map[string]struct {
		host  string
		roots *x509.CertPool
		now   func() time.Time
		want  error // nil: it reads
	}{
		"the CDN":           {name, good.pool(), nil, nil},
		"wrong authority":   {name, stranger.pool(), nil, &x509.UnknownAuthorityError{}},
		"system's roots":    {name, nil, nil, &x509.UnknownAuthorityError{}},
		"wrong name":        {"other.example", good.pool(), nil, &x509.HostnameError{}},
		"a name below":      {"a." + name, good.pool(), nil, &x509.HostnameError{}},
		"clock years off":   {name, good.pool(), func() time.Time { return time.Now().AddDate(3, 0, 0) }, &x509.CertificateInvalidError{}},
		"clock minutes off": {name, good.pool(), func() time.Time { return time.Now().Add(20 * time.Minute) }, nil},
	} {
		t.Run(what, func(t *testing.T) {
			set := paths.New(paths.Config{Network: &onLoopback{}, Roots: c.roots, Now: c.now})
			t.Cleanup(func() { set.Close() })
			way := target.RelayVia(c.host, port, ch.Seed)
			ways := set.Paths(ch.ID(), ed25519.PublicKey{}, channel.Places{Relays: []channel.Relay{way}})
			if len(ways) != 3 {
				t.Fatalf("%d paths", len(ways))
			}
			for _, p := range ways {
				before := served.Load()
				got, err := open(t.Context(), p, ch)
				if _, opens := p.Heads.(transport.Opener); c.want == nil {
					if err != nil || opens && (got[transport.PieceHead] != 1 || got[transport.PieceGrant] != 1 || got[transport.PieceRootNote] != 1 || got[transport.PieceBlock] < 2) {
						t.Errorf("%s: %v, %v", p.Name, got, err)
					}
					continue
				}
				if err == nil || !asSame(err, c.want) {
					t.Errorf("%s: %v", p.Name, err)
				}
				if n := served.Load() - before; n != 0 {
					t.Errorf("%s: %d requests reached a host that was not verified", p.Name, n)
				}
			}
		})
	}
	t.Run("an address", func(t *testing.T) {
		set := paths.New(paths.Config{Network: &onLoopback{}, Roots: good.pool()})
		t.Cleanup(func() { set.Close() })
		way := target.RelayVia("127.0.0.1", port, ch.Seed)
		if ps := set.Paths(ch.ID(), ed25519.PublicKey{}, channel.Places{Relays: []channel.Relay{way}}); len(ps) != 0 {
			t.Errorf("%d paths to an address without a pin", len(ps))
		}
	})
	t.Run("the relay itself", func(t *testing.T) { // it has no certificate of any authority
		set := paths.New(paths.Config{Network: &onLoopback{}, Roots: good.pool()})
		t.Cleanup(func() { set.Close() })
		way := target.RelayVia(name, origin.Port(), ch.Seed)
		for _, p := range set.Paths(ch.ID(), ed25519.PublicKey{}, channel.Places{Relays: []channel.Relay{way}}) {
			if _, err := open(t.Context(), p, ch); err == nil {
				t.Errorf("%s: read from a relay that nobody vouched for", p.Name)
			}
		}
	})
}

// asSame reports whether err wraps an error of want's type.
func asSame(err, want error) bool {
	switch want.(type) {
	case *x509.UnknownAuthorityError:
		return errors.As(err, new(x509.UnknownAuthorityError))
	case *x509.HostnameError:
		return errors.As(err, new(x509.HostnameError))
	default:
		return errors.As(err, new(x509.CertificateInvalidError))
	}
}

package censorlab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io/fs"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"time"

	"tamizdat/internal/simnet"
	wire "tamizdat/transport/relay"
)

// authority issues the web's certificates. It is made inside the bubble, whose
// clock starts in the year 2000.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the web"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a, nil
}

// issue returns a certificate of a website: valid for a year from yesterday, so
// that a clock three years off makes it invalid, as on the web.
func (a *authority) issue(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// site serves a handler as a website over TCP and QUIC.
func (w *World) site(ctx context.Context, h *simnet.Host, name string, addr netip.Addr, handler http.Handler) error {
	cfg, err := w.tlsFor(name)
	if err != nil {
		return err
	}
	s, err := wire.Listen(ctx, h, netip.AddrPortFrom(addr, 443).String(), cfg, handler, nil)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, s)
	return nil
}

// cdnHop is a CDN's round trip to its customer, over a connection that is there.
const cdnHop = 20 * time.Millisecond

// cdn hands requests on to its customer.
func cdn(customer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(cdnHop)
		customer.ServeHTTP(w, r)
	})
}

// secretsOf shows a relay's folder without what it stores or where it listens.
func secretsOf(dir string) fs.FS { return secrets{os.DirFS(dir)} }

type secrets struct{ fs.FS }

func (s secrets) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(s.FS, name)
	out := all[:0]
	for _, e := range all {
		switch e.Name() {
		case "relay.secret", "intake.secret", "tls.key", "tls.crt":
			out = append(out, e)
		}
	}
	return out, err
}

//go:build linux && !android

package netns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// cdnName is the name that readers see; cdnEnv holds a cdnConfig.
const (
	cdnName = "cdn.example"
	cdnEnv  = "TAMIZDAT_NETNS_CDN"
)

// cdnConfig is a CDN: it ends TLS with a certificate for its own name, and
// passes requests on to one origin.
type cdnConfig struct {
	Listen, Origin, Cert, Key string
}

// serveCDN is the whole program of the namespace called cdn.
func serveCDN(config string) error {
	var c cdnConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: c.Origin})
	proxy.Transport = &http.Transport{
		DialContext:       (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // an origin's certificate is its own affair
		ForceAttemptHTTP2: true,
	}
	fmt.Fprintln(os.Stderr, cdnUp)
	srv := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	return srv.ServeTLS(ln, c.Cert, c.Key)
}

const cdnUp = "cdn is up"

// certify makes an authority that readers are to trust, and a certificate of it
// for the CDN's name. It returns the files' names.
func certify(t *testing.T, dir string) (authority, cert, key string) {
	t.Helper()
	issue := func(serial int64, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = own
		}
		template.SerialNumber = big.NewInt(serial)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, own
	}
	write := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Authority of the lab"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, caKey := issue(1, ca, ca, nil)
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: cdnName}, DNSNames: []string{cdnName},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, leafKey := issue(2, leaf, ca, caKey)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("authority.pem", "CERTIFICATE", caDER), write("cdn.pem", "CERTIFICATE", leafDER), write("cdn.key", "PRIVATE KEY", keyDER)
}

package dns_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/gateway"
	"tamizdat/transport/transporttest"
)

// The client against the zone's own server, straight from packed editions.
func TestConformance(t *testing.T) {
	conform(t, nil, func(_ *testing.T, server string, ln net.Listener) (string, net.Listener) { return server, ln })
}

// The same, over one TLS connection.
func TestConformanceOverTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	conform(t, s, func(_ *testing.T, server string, ln net.Listener) (string, net.Listener) {
		return "tls://" + server, tls.NewListener(ln, &tls.Config{Certificates: s.TLS.Certificates})
	})
}

// The same, through a web server that hands questions on.
func TestConformanceOverHTTPS(t *testing.T) {
	cert := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(cert.Close)
	conform(t, cert, func(t *testing.T, server string, ln net.Listener) (string, net.Listener) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := net.Dial("udp", server)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			defer context.AfterFunc(r.Context(), func() { c.Close() })()
			msg, err := io.ReadAll(io.LimitReader(r.Body, 512))
			if err != nil {
				return // who asked has had an answer meanwhile
			}
			buf := make([]byte, 4096)
			if _, err = c.Write(msg); err == nil {
				var n int
				if n, err = c.Read(buf); err == nil {
					w.Header().Set("Content-Type", "application/dns-message")
					_, _ = w.Write(buf[:n])
				}
			}
		}))
		s.EnableHTTP2 = true
		s.StartTLS() // with the certificate that all of httptest's have
		t.Cleanup(s.Close)
		return s.URL + "/dns-query", ln
	})
}

// conform runs the suite against what front makes of the server's address and its
// TCP listener; it is asked for each world. vouched shows the certificate to trust.
func conform(t *testing.T, vouched *httptest.Server, front func(t *testing.T, server string, ln net.Listener) (string, net.Listener)) {
	var trust gateway.Trust
	if vouched != nil {
		trust.Roots = x509.NewCertPool()
		trust.Roots.AddCert(vouched.Certificate())
	}
	real := &netreal.Network{}
	transporttest.Run(t, real, func(t *testing.T, w *transporttest.World) transporttest.Subject {
		store := dns.NewMemory(64 << 20)
		for _, e := range w.Channel.Editions() {
			ed, err := dns.ReadEdition(bytes.NewReader(e.CAR()), w.Channel.ID(), 16<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.PutEdition(ed); err != nil {
				t.Fatal(err)
			}
		}
		const zone = "news.test"
		srv, err := dns.NewServer(dns.ServerConfig{Zones: []dns.Zone{{Name: zone}}, Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		pc, ln, err := dns.Listen(ctx, real, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		resolver, ln := front(t, pc.LocalAddr().String(), ln)
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ctx, pc, ln) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		c, err := dns.NewClient(dns.ClientConfig{
			Network: w.Network, Zone: zone, Resolvers: []string{resolver}, Hurry: true, Trust: trust,
		})
		if err != nil {
			t.Fatal(err)
		}
		return transporttest.Subject{Paths: []transport.Path{c.Path()}, Old: true}
	})
}

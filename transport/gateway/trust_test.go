package gateway_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"tamizdat/internal/netreal"
	"tamizdat/transport/gateway"
)

func TestTrust(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	ends := s.Certificate().NotAfter
	at := func(when time.Time) func() time.Time { return func() time.Time { return when } }
	for name, c := range map[string]struct {
		trust gateway.Trust
		ok    bool
	}{
		"its authority":           {gateway.Trust{Roots: roots}, true},
		"the system's":            {gateway.Trust{}, false},
		"no authority":            {gateway.Trust{Roots: x509.NewCertPool()}, false},
		"before it ends":          {gateway.Trust{Roots: roots, Now: at(ends.Add(-time.Hour))}, true},
		"after it ended":          {gateway.Trust{Roots: roots, Now: at(ends.Add(time.Hour))}, false},
		"a clock far in the past": {gateway.Trust{Roots: roots, Now: at(time.Unix(0, 0).AddDate(-5, 0, 0))}, false},
	} {
		t.Run(name, func(t *testing.T) {
			rt := gateway.NewTransport(t.Context(), &netreal.Network{}, c.trust)
			defer rt.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

package gateway

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/internal/simnet"
)

// far is a gateway that speaks HTTP/2, 100 ms away and back, on a line without limit.
func far(t *testing.T, h http.Handler) (base string, rt *http.Transport) {
	t.Helper()
	n := simnet.New(1)
	t.Cleanup(func() { n.Close() })
	reader := n.Host("reader", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("192.0.2.1"))
	gw := n.Host("gateway", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))
	n.Name("example.com", netip.MustParseAddr("198.51.100.1"))
	ln, err := gw.Listen(t.Context(), "tcp", ":443")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener, s.EnableHTTP2 = ln, true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	rt = NewTransport(t.Context(), reader, Trust{Roots: roots})
	t.Cleanup(rt.CloseIdleConnections)
	return "https://example.com", rt
}

// A gateway that is far away brings no less in runs than in raw blocks.
func TestRunsFarAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(250)
		serve := f.serve(t, good)
		base, rt := far(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := serve(r)
			if err != nil {
				panic(err)
			}
			w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
			_, _ = io.Copy(w, resp.Body) // the client may be gone
		}))
		took := map[Runs]time.Duration{}
		for _, runs := range []Runs{RunsNever, RunsTried} {
			c, err := New(base+"/sub", rt, Options{Runs: runs})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time the connection is there, and has a large window of its own
				c.pace.note(100_000_000, time.Second)
				from := time.Now()
				if g := f.fetch(t, c.Fetch(t.Context(), f.request())); g.blocks != len(f.wants) {
					t.Errorf("%+v", g)
				}
				took[runs] = time.Since(from)
			}
		}
		if f.cars == 0 || f.raw != 2*len(f.wants) {
			t.Errorf("%d requests for CARs and %d for blocks", f.cars, f.raw)
		}
		if took[RunsTried] > took[RunsNever] {
			t.Errorf("in runs it takes %v, in blocks %v", took[RunsTried], took[RunsNever])
		}
	})
}

// What answers without end bring before anybody has looked at them is bounded for
// one, and for all of two Fetches together.
func TestWindows(t *testing.T) {
	for name, test := range map[string]struct {
		answers int
		most    int64
	}{
		"one":  {1, 1 << 20},
		"many": {2 * DefaultParallel, 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var came atomic.Int64
				base, rt := far(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					for b := make([]byte, 16<<10); ; came.Add(int64(len(b))) {
						if _, err := w.Write(b); err != nil {
							return
						}
					}
				}))
				for range test.answers {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := rt.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
				}
				time.Sleep(10 * time.Second)
				const held = 16 << 10 // by the server, of each answer
				if n := came.Load(); n > test.most+int64(test.answers)*held || n < test.most/2 {
					t.Errorf("%d bytes came, %d may", n, test.most)
				}
			})
		})
	}
}

package static_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/bucket"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
	"tamizdat/transport/static"
	"tamizdat/transport/transporttest"
)

// reader is a path to the static mirror at base.
func reader(t *testing.T, network transport.Network, base string, pool *x509.CertPool) transport.Path {
	t.Helper()
	rt := gateway.NewTransport(t.Context(), network, gateway.Trust{Roots: pool})
	t.Cleanup(rt.CloseIdleConnections)
	c, err := gateway.New(base, rt, gateway.Options{Static: true})
	if err != nil {
		t.Fatal(err)
	}
	return c.Path()
}

func publish(t *testing.T, s static.Store, editions ...*transporttest.Edition) {
	t.Helper()
	for _, e := range editions {
		if err := static.New(s).Publish(t.Context(), e.Source(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// fileServer serves a folder over HTTPS and HTTP/2; tell, if not nil, sees each
// request first and may answer it.
func fileServer(t *testing.T, dir string, tell func(http.ResponseWriter, *http.Request) bool) (string, *x509.CertPool) {
	t.Helper()
	files := http.FileServer(http.Dir(dir))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tell != nil && tell(w, r) {
			return
		}
		files.ServeHTTP(w, r)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // the suite's censor cuts handshakes
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return srv.URL, pool
}

// TestReader: a mirror is a path like any other, on every kind of host, under
// the suite's censor too.
func TestReader(t *testing.T) {
	for name, host := range map[string]func(t *testing.T, c *transporttest.Channel) (string, *x509.CertPool){
		"folder": func(t *testing.T, c *transporttest.Channel) (string, *x509.CertPool) {
			dir := t.TempDir()
			publish(t, static.NewFolder(dir), c.Editions()...)
			return fileServer(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.RawQuery != "" || r.Method != http.MethodGet {
					t.Errorf("%s with the query %q", r.Method, r.URL.RawQuery)
				}
				return false
			})
		},
		"nginx": func(t *testing.T, c *transporttest.Channel) (string, *x509.CertPool) {
			dir, cert := t.TempDir(), testservers.NewCert(t)
			publish(t, static.NewFolder(dir), c.Editions()...)
			return testservers.Nginx(t, dir, cert), cert.Pool
		},
		"s3": func(t *testing.T, c *transporttest.Channel) (string, *x509.CertPool) {
			dir, cert := t.TempDir(), testservers.NewCert(t)
			s := closing(t, must(static.NewS3(&netreal.Network{}, bucket.Config{URL: newBucket(t, dir) + "/deep/down", Credentials: testservers.KeysFile(t)})))
			publish(t, s, c.Editions()...)
			return testservers.VersityGW(t, dir, &cert) + "/news/deep/down", cert.Pool
		},
	} {
		t.Run(name, func(t *testing.T) {
			switch name {
			case "nginx":
				testservers.NeedNginx(t)
			case "s3":
				testservers.NeedVersityGW(t)
			}
			// One server for all of the suite: its channel is always the same one.
			var once sync.Once
			var base string
			var pool *x509.CertPool
			outer := t
			transporttest.Run(t, &netreal.Network{}, func(t *testing.T, w *transporttest.World) transporttest.Subject {
				once.Do(func() { base, pool = host(outer, w.Channel) })
				return transporttest.Subject{Paths: []transport.Path{reader(t, w.Network, base, pool)}, Old: true}
			})
		})
	}
}

// TestReaderHostile: answers that no host should give.
func TestReaderHostile(t *testing.T) {
	c := published(t, 2)
	dir := t.TempDir()
	publish(t, static.NewFolder(dir), c.Editions()...)
	head := "/head/" + c.ID().String()
	var sent atomic.Int64
	endless := func(w http.ResponseWriter) {
		chunk := bytes.Repeat([]byte{0xa2}, 64<<10)
		for {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"endless":      func(w http.ResponseWriter, _ *http.Request) { endless(w) },
		"empty":        func(http.ResponseWriter, *http.Request) {},
		"not modified": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/else")
			w.WriteHeader(http.StatusFound)
		},
		"a foreign one": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(transporttest.NewChannel(t, "Foreign").Publish(transporttest.Brief(1)).CAR())
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.Newest().CAR()[:200]) },
		"a long head": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.FormatInt(1<<40, 10))
			endless(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			base, pool := fileServer(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != head {
					return false
				}
				answer(w, r)
				return true
			})
			p := reader(t, &netreal.Network{}, base, pool)
			raw, err := p.Heads.Head(t.Context(), c.ID(), 0)
			if err == nil {
				if _, err := c.Roots().Head(raw); err == nil {
					t.Error("a head that verifies came out of it")
				}
			}
			for piece, err := range p.Heads.(transport.Opener).Open(t.Context(), transport.Ask{Channel: c.ID()}) {
				if err == nil && piece.Kind == transport.PieceBlock && bundle.CheckBlock(piece.CID, piece.Data) != nil {
					t.Error("an unsound block")
				}
			}
			if _, err := p.Heads.Grant(t.Context(), c.ID(), c.GrantName()); err == nil {
				t.Error("a grant came out of it")
			}
			if n := sent.Load(); n > 64<<20 {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
	t.Run("a page for what is not there", func(t *testing.T) {
		base, pool := fileServer(t, t.TempDir(), func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte("<!doctype html><title>Welcome</title>"))
			return true
		})
		p := reader(t, &netreal.Network{}, base, pool)
		if _, err := p.Heads.Head(t.Context(), c.ID(), 0); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("head: %v", err)
		}
		e := c.Newest()
		for b, err := range p.Blocks.Fetch(t.Context(), transport.Request{Edition: e.Where(), Wants: e.Wants()[:2]}) {
			t.Errorf("block %s, %v", b.CID, err)
		}
	})
}

// TestReaderAsksAgain: who asks again gets nothing he has, and what is new as
// soon as it is there; grants cost one request.
func TestReaderAsksAgain(t *testing.T) {
	// A file that was written just now may change once more within the second that
	// its date names.
	t.Run("just written", func(t *testing.T) { asksAgain(t, 0) })
	t.Run("written long ago", func(t *testing.T) { asksAgain(t, time.Hour) })
}

func asksAgain(t *testing.T, age time.Duration) {
	c := published(t, 1)
	dir := t.TempDir()
	written := func(age time.Duration) {
		t.Helper()
		publish(t, static.NewFolder(dir), c.Newest())
		if age > 0 {
			at := time.Now().Add(-age)
			if err := os.Chtimes(filepath.Join(dir, "head", c.ID().String()), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	written(age)
	var conditions atomic.Int64
	var mu sync.Mutex
	var asked []string
	base, pool := fileServer(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("If-Modified-Since") != "" {
			conditions.Add(1)
		}
		asked = append(asked, strings.SplitN(r.URL.Path, "/", 3)[1])
		return false
	})
	requests := func(want ...string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if strings.Join(asked, " ") != strings.Join(want, " ") {
			t.Errorf("asked for %v instead of %v", asked, want)
		}
		asked = nil
	}
	ctx, p := context.Background(), reader(t, &netreal.Network{}, base, pool)
	if _, err := p.Heads.Head(ctx, c.ID(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Heads.RootNote(ctx, c.ID(), 1); err != nil {
		t.Error(err)
	}
	if g, err := p.Heads.Grant(ctx, c.ID(), c.GrantName()); err != nil || !bytes.Equal(g, c.Newest().Grants[c.GrantName()]) {
		t.Errorf("grant: %v", err)
	}
	requests("head", "ipfs")
	if _, err := p.Heads.Head(ctx, c.ID(), 1); !errors.Is(err, transport.ErrNoNewer) {
		t.Errorf("nothing newer: %v", err)
	}
	for _, err := range p.Heads.(transport.Opener).Open(ctx, transport.Ask{Channel: c.ID(), Have: 1, Root: 1}) {
		if !errors.Is(err, transport.ErrNoNewer) {
			t.Errorf("nothing newer: %v", err)
		}
	}
	requests("head", "head")
	if n := conditions.Load(); n != 0 && age == 0 || n != 2 && age > 0 {
		t.Errorf("%d of 2 requests had a condition", n)
	}
	c.Rotate()
	c.Publish(transporttest.Articles(1)...)
	written(age / 2)
	// A note that the opening read last does not have is looked for in a newer one.
	if n, err := p.Heads.RootNote(ctx, c.ID(), 2); err != nil || !bytes.Equal(n, c.Newest().Notes[1]) {
		t.Errorf("root note 2: %v", err)
	}
	requests("head")
	if raw, err := p.Heads.Head(ctx, c.ID(), 1); err != nil || !bytes.Equal(raw, c.Newest().Head.Text()) {
		t.Errorf("the next edition: %v", err)
	}
	pieces := map[transport.PieceKind]int{}
	for piece, err := range p.Heads.(transport.Opener).Open(ctx, transport.Ask{Channel: c.ID(), Have: 1, Root: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		pieces[piece.Kind]++
	}
	if pieces[transport.PieceRootNote] != 1 || pieces[transport.PieceHead] != 1 || pieces[transport.PieceBlock] < 3 {
		t.Errorf("pieces: %v", pieces)
	}
}

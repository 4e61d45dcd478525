package sync_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/mirror/paths"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/sync"
	wire "tamizdat/transport/relay"
	"tamizdat/transport/transporttest"
)

// TestStaticMirror is the whole way over a static mirror alone: a publisher
// packs and pushes, and a reader who has only the invite, and for whom the relay
// in it is shut, reads texts and pictures over HTTPS; then once more.
func TestStaticMirror(t *testing.T) {
	for name, host := range map[string]func(t *testing.T) (publisher.TargetConfig, *x509.CertPool){
		"file server": func(t *testing.T) (publisher.TargetConfig, *x509.CertPool) {
			dir := t.TempDir()
			srv := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
			t.Cleanup(srv.Close)
			pool := x509.NewCertPool()
			pool.AddCert(srv.Certificate())
			return publisher.TargetConfig{Mirror: dir, URL: srv.URL}, pool
		},
		"nginx": func(t *testing.T) (publisher.TargetConfig, *x509.CertPool) {
			dir, cert := t.TempDir(), testservers.NewCert(t)
			return publisher.TargetConfig{Mirror: dir, URL: testservers.Nginx(t, dir, cert)}, cert.Pool
		},
		"s3": func(t *testing.T) (publisher.TargetConfig, *x509.CertPool) {
			dir, cert := t.TempDir(), testservers.NewCert(t)
			return publisher.TargetConfig{
				S3: testservers.Bucket(t, dir, "news") + "/radio", Credentials: testservers.KeysFile(t),
				URL: testservers.VersityGW(t, dir, &cert) + "/news/radio",
			}, cert.Pool
		},
	} {
		t.Run(name, func(t *testing.T) {
			target, pool := host(t)
			target.Name = "mirror"
			overMirror(t, target, pool)
		})
	}
}

func overMirror(t *testing.T, target publisher.TargetConfig, pool *x509.CertPool) {
	p, err := publisher.Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.AddMirror(target); err != nil {
		t.Fatal(err)
	}
	shut := wire.Target{Host: "127.0.0.1", Port: 9, Pin: [16]byte{1}, Mint: [32]byte{1}, Intake: [32]byte{2}}
	if err := p.AddTarget("shut", shut.String()); err != nil {
		t.Fatal(err)
	}
	push := func(n int) {
		t.Helper()
		if _, err := p.Pack(transporttest.Articles(n), transporttest.Start.Add(time.Duration(n)*time.Hour)); err != nil {
			t.Fatal(err)
		}
		to, err := p.Targets(&netreal.Network{}, "mirror")
		if err != nil {
			t.Fatal(err)
		}
		if r := p.Push(t.Context(), to, nil); r[0].Err != nil || r[0].Editions != 1 {
			t.Fatalf("push %d: %+v", n, r[0])
		}
	}
	push(0)
	inv, err := p.Invite("readers")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(inv.Places.Mirrors, []string{target.URL}) || len(inv.Places.Relays) != 1 {
		t.Fatalf("the invite names %d mirrors and %d relays", len(inv.Places.Mirrors), len(inv.Places.Relays))
	}
	mem := newMemory()
	if _, err := sync.Add(t.Context(), mem, inv); err != nil {
		t.Fatal(err)
	}
	set := paths.New(paths.Config{Network: &netreal.Network{}, Roots: pool})
	defer set.Close()
	e := sync.Engine{Library: mem, Ways: set}
	for n := range 2 {
		if n > 0 {
			push(n)
		}
		res, err := e.Sync(t.Context(), p.Channel())
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range res.Paths {
			if isMirror := strings.HasPrefix(path.Name, "mirror "); isMirror && path.State != "ok" || !isMirror && path.State == "ok" {
				t.Errorf("path %q: %s %s", path.Name, path.State, path.Error)
			}
		}
		shelf := sync.Shelf{Library: mem}
		pictures := 0
		for _, want := range transporttest.Articles(n) {
			got, err := shelf.Article(t.Context(), p.Channel(), want.ID)
			if err != nil || got.Title != want.Title || got.Body != want.Body {
				t.Errorf("edition %d: article %s: %v", n, want.ID, err)
				continue
			}
			for i := range want.Images {
				img, err := shelf.Image(t.Context(), p.Channel(), want.ID, i)
				if err != nil || len(img.Data) != len(want.Images[i].Data) {
					t.Errorf("edition %d: picture %d of %s: %v", n, i, want.ID, err)
				}
				pictures++
			}
		}
		if pictures == 0 {
			t.Error("no picture was asked for: the articles have none any more")
		}
	}
	// The grant came, too: it names the mirror.
	v, err := sync.View(t.Context(), mem, p.Channel())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.EpochKey(0); !ok || !slices.Contains(v.Places().Mirrors, target.URL) {
		t.Error("no grant that names the mirror")
	}
}

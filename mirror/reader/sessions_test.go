package reader

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/simnet"
	"tamizdat/mirror/library"
	"tamizdat/mirror/paths"
	"tamizdat/transport/relay"
	"tamizdat/transport/transporttest"
)

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Who starts the program again asks a relay that he has been to in his first
// flight, and his folder doesn't show that he has been to one.
func TestSessionOfTheLastRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, cert, dir := simnet.New(1), selfSigned(t), t.TempDir()
		defer net.Close()
		var asked, early atomic.Int64
		s, err := relay.Listen(t.Context(), net.Host("relay", simnet.Link{}, netip.MustParseAddr("192.0.2.1")), "192.0.2.1:443",
			&tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if !r.TLS.HandshakeComplete {
					early.Add(1)
				}
				w.WriteHeader(http.StatusNotFound)
			}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		home := net.Host("home", simnet.Link{Delay: 50 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))
		places := channel.Places{Relays: []channel.Relay{{Host: "192.0.2.1", Port: 443, Pin: channel.PinOf(cert.Leaf)}}}
		for run := range int64(3) {
			r, err := Open(t.Context(), Config{Dir: dir, Passphrase: []byte("correct horse"), Network: home})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = r.paths.Paths(channel.ID{}, nil, places)[0].Heads.Head(t.Context(), channel.ID{}, 0)
			time.Sleep(300 * time.Millisecond) // the ticket comes behind the answer; no time to write it
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if asked.Load() <= run || early.Load() != run {
				t.Errorf("run %d: %d requests in all, %d of them early", run, asked.Load(), early.Load())
			}
		}
		err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(filepath.Join(dir, name))
			if bytes.Contains(b, []byte("tls/")) {
				t.Errorf("%s shows what is kept", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestSessions(t *testing.T) {
	lib, err := library.Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lib.Close()
	synctest.Test(t, func(t *testing.T) {
		key := func(i int) string { return fmt.Sprintf("tls/%032x", i) }
		value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 2000) }
		log := inMemory(t, transporttest.NewChannel(t, "Kolokol"), nil).log
		open := func() *sessions { return newSessions(lib, log) }
		notes := func(n int) (out int) {
			for i := range n {
				if _, err := lib.Note(context.Background(), key(i)); err == nil {
					out++
				}
			}
			return out
		}
		const n = maxSessions + 10
		s := open()
		if s.Load(key(0)) != nil {
			t.Error("a session out of nothing")
		}
		for i := range n {
			s.Store(key(i), value(i))
			s.Store(key(15), value(15)) // in use all the time
		}
		if notes(n) != 0 {
			t.Error("Store waited for the disk")
		}
		if !bytes.Equal(s.Load(key(n-1)), value(n-1)) || s.Load(key(1)) != nil {
			t.Error("what waits to be written is not found, or what went is")
		}
		time.Sleep(gather)
		synctest.Wait()
		if got := notes(n); got != maxSessions {
			t.Errorf("%d are written, want %d", got, maxSessions)
		}
		s.Store(key(n-1), nil)
		s.Store(key(n-2), value(1))
		s.Store(key(n-2), value(2))
		s.close()
		s.Store(key(n-3), nil) // too late
		if s.Load(key(n-3)) != nil {
			t.Error("found after the end")
		}

		s = open()
		for i, want := range map[int][]byte{0: nil, 1: nil, 15: value(15), n - 1: nil, n - 2: value(2), n - 3: value(n - 3)} {
			if got := s.Load(key(i)); !bytes.Equal(got, want) {
				t.Errorf("session %d of the last run: %d bytes", i, len(got))
			}
		}
		if got := notes(n); got != maxSessions-1 {
			t.Errorf("%d are written", got)
		}
		s.Store(key(n), make([]byte, library.MaxNote+1))
		if s.Load(key(n)) != nil {
			t.Error("too large, and kept")
		}
		for i := range 10 { // others come: the oldest of the last run go
			s.Store(key(1000+i), value(i))
		}
		s.close()
		if got := notes(n); got != maxSessions-10 {
			t.Errorf("%d of the last run are left", got)
		}
	})
}

// Blocks of which a part has come don't push out what a scan has found, and are
// bounded all the same, in later runs too.
func TestKindsOfNotes(t *testing.T) {
	lib, err := library.Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lib.Close()
	synctest.Test(t, func(t *testing.T) {
		log := inMemory(t, transporttest.NewChannel(t, "Kolokol"), nil).log
		home, half := paths.PoolKey("home"), func(i int) string { return fmt.Sprint("dns/half/", i) }
		const n = maxDNS + 10
		for run := range 2 {
			s := newKeep(lib, log, dnsIndex, maxDNS)
			if run == 0 {
				s.Store(home, []byte("found"))
			}
			for i := range n {
				s.Store(half(run*n+i), []byte("half"))
			}
			s.close()
		}
		s := newKeep(lib, log, dnsIndex, maxDNS)
		defer s.close()
		if string(s.Load(home)) != "found" {
			t.Error("what was found at home went for halves of blocks")
		}
		kept := 0
		for i := range 2 * n {
			if _, err := lib.Note(context.Background(), half(i)); err == nil {
				kept++
			}
		}
		if kept != maxDNS || s.Load(half(2*n-1)) == nil {
			t.Errorf("%d halves are kept", kept)
		}
	})
}

// A library that can't be written to costs sessions and nothing else.
func TestSessionsWithoutDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lib, err := library.Memory(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := newSessions(lib, inMemory(t, transporttest.NewChannel(t, "Kolokol"), nil).log)
		s.load()
		if err := lib.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			s.Store("tls/a", []byte{byte(i)})
			time.Sleep(time.Minute)
			if got := s.Load("tls/a"); len(got) != 1 || got[0] != byte(i) {
				t.Errorf("found %v", got)
			}
		}
		s.close()
	})
}

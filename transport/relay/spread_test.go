package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// sockets counts what a reader opens, and refuses more than so many, if not 0.
type sockets struct {
	transport.Network
	mu      sync.Mutex
	most, n int
}

func (s *sockets) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	s.mu.Lock()
	s.n++
	full := s.most > 0 && s.n > s.most
	s.mu.Unlock()
	if full {
		return nil, errors.New("no more sockets")
	}
	return s.Network.ListenPacket(ctx, network, address)
}

func (s *sockets) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// spreader is a reader of a relay that has 1 MiB, on a line that counts as bad.
type spreader struct {
	client *Client
	net    *sieve
	count  *sockets
	wants  []transport.Want
	held   atomic.Int64         // so many requests of blocks that come next stand still
	whole  func(block int) bool // blocks that are not given in pieces, if not nil
}

func newSpreader(t *testing.T, limits Limits, most int) *spreader {
	t.Helper()
	s := &spreader{}
	cert, air := certificate(t), newAir(t)
	blocks := map[string][]byte{}
	rnd := rand.NewChaCha8([32]byte{7})
	for range 16 {
		data := make([]byte, 64<<10)
		_, _ = rnd.Read(data)
		id := bundle.RawCID(data)
		blocks[id.String()] = data
		s.wants = append(s.wants, transport.Want{CID: id, Size: len(data)})
	}
	server, err := ListenWithin(t.Context(), air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(r.URL.Path, "/ipfs/")
		if blocks[name] == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if s.held.Add(-1) >= 0 {
			<-r.Context().Done()
			return
		}
		if i := slices.IndexFunc(s.wants, func(w transport.Want) bool { return w.CID.String() == name }); s.whole != nil && s.whole(i) {
			r.Header.Del("Range")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blocks[name]))
	}), nil, NewGuard(limits))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s.count = &sockets{Network: air.at("198.51.100.1"), most: most}
	s.net = &sieve{Network: s.count}
	if s.client, err = New(Config{Network: s.net, Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	_, _ = s.client.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0)
	s.client.bulk.bad = time.Now().Add(time.Hour)
	return s
}

// fetch returns how many blocks came.
func (s *spreader) fetch(ctx context.Context) (blocks int, err error) {
	for b, e := range s.client.Paths()[0].Blocks.Fetch(ctx, transport.Request{Wants: s.wants}) {
		if e != nil {
			err = e
		} else if bundle.CheckBlock(b.CID, b.Data) == nil {
			blocks++
		}
	}
	return blocks, err
}

// Whoever can't have many connections, for want of sockets or of a relay's patience,
// gets everything over those that he can have.
func TestSpreadOverFew(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		most   int
	}{
		"the relay is full": {Limits{ConnsPerAddr: 3}, 0},
		"no more sockets":   {Limits{}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSpreader(t, c.limits, c.most)
				if n, err := s.fetch(t.Context()); n != len(s.wants) || err != nil {
					t.Errorf("%d blocks, %v", n, err)
				}
			})
		})
	}
}

// When a bad line becomes none at all, the relay's address is not flooded.
func TestSpreadIntoTheVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpreader(t, Limits{}, 0)
		if n, err := s.fetch(t.Context()); n != len(s.wants) || err != nil {
			t.Fatalf("%d blocks, %v", n, err)
		}
		time.Sleep(2 * idleTimeout)
		s.net.set(func(netip.AddrPort, []byte) bool { return true })
		before := s.count.opened()
		if n, err := s.fetch(t.Context()); n > 0 || err == nil {
			t.Errorf("%d blocks through nothing", n)
		}
		if n := s.count.opened() - before; n > maxWays {
			t.Errorf("%d sockets", n)
		}
	})
}

// A piece that stands still on one connection is asked for on another one, long
// before the first has had its time.
func TestSlowPieceIsDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpreader(t, Limits{}, 0)
		s.held.Store(5)
		start := time.Now()
		if n, err := s.fetch(t.Context()); n != len(s.wants) || err != nil {
			t.Errorf("%d blocks, %v", n, err)
		}
		if s.held.Load() >= 0 {
			t.Error("nothing stood still: this tests nothing")
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A CDN gives some blocks in pieces and others whole, as its caches have them: one that
// came whole says nothing of those of which there are pieces.
func TestSpreadOverMixedAnswers(t *testing.T) {
	for name, whole := range map[string]func(int) bool{
		"the first whole": func(i int) bool { return i == 0 },
		"the last whole":  func(i int) bool { return i == 15 },
		"every second":    func(i int) bool { return i%2 == 0 },
		"all":             func(int) bool { return true },
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ranges known %t", name, known), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSpreader(t, Limits{}, 0)
					s.whole = whole
					s.client.bulk.ranges = known
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					if n, err := s.fetch(ctx); n != len(s.wants) || err != nil {
						t.Errorf("%d blocks, %v", n, err)
					}
				})
			})
		}
	}
}

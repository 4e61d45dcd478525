package relay

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/simnet"
	"tamizdat/transport"
)

// fetched is what one reader's fetch of 1 MiB took.
type fetched struct {
	took  time.Duration
	twice float64
}

// fetchMiB lets a reader with such a line fetch 1 MiB in blocks, on a connection that
// is there; over that one alone if told so.
func fetchMiB(t *testing.T, seed uint64, line simnet.Link, one bool) fetched {
	t.Helper()
	return fetchOf(t, seed, line, transport.Request{}, one, 1)
}

// fetchOf is the same as often as times, each time as req says; what it returns is of
// the last.
func fetchOf(t *testing.T, seed uint64, line simnet.Link, req transport.Request, one bool, times int) (out fetched) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(seed)
		defer net.Close()
		cert := certificate(t)
		blocks := map[string][]byte{}
		var wants []transport.Want
		rnd := rand.NewChaCha8([32]byte{byte(seed)})
		for range 16 {
			data := make([]byte, 64<<10)
			_, _ = rnd.Read(data)
			id := bundle.RawCID(data)
			blocks[id.String()] = data
			wants = append(wants, transport.Want{CID: id, Size: len(data)})
		}
		at := netip.MustParseAddr(relayAt)
		server := net.Host("relay", simnet.Link{Up: 12_500_000, Down: 12_500_000, Queue: 1 << 20}, at)
		s, err := Listen(t.Context(), server, relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, name, _ := strings.Cut(r.URL.Path, "/ipfs/")
			if blocks[name] == nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blocks[name]))
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		reader := net.Host("reader", line, netip.MustParseAddr("198.51.100.1"))
		c, err := New(Config{Network: reader, Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p := c.Paths()[0]
		_, _ = p.Heads.Head(t.Context(), channel.ID{}, 0) // not found, over a new connection
		if one {
			p.Blocks = c.bulk.one
		}
		for range times {
			var got atomic.Int64
			req.Wants, req.Got = wants, func(_, n int) { got.Add(int64(n)) }
			start, left := time.Now(), len(wants)
			for b, err := range p.Blocks.Fetch(t.Context(), req) {
				if err != nil {
					if !one { // that one does without some is what it is here for
						t.Errorf("seed %d: %v", seed, err)
					}
					continue
				}
				if bundle.CheckBlock(b.CID, b.Data) == nil {
					left--
				}
			}
			out = fetched{took: time.Since(start), twice: float64(got.Load())/(1<<20) - 1}
			if left > 0 && !one {
				t.Errorf("seed %d: %d blocks are missing", seed, left)
			}
		}
	})
	return out
}

// 1 MiB over good lines and bad ones: with -v of 30 seeds each, and beside it over
// one connection alone.
func TestBulk(t *testing.T) {
	n := uint64(9)
	if testing.Verbose() {
		n = 30
	}
	half := roundTrip / 2
	for _, c := range []struct {
		name string
		line simnet.Link
		most time.Duration // of the median
	}{
		{"good", simnet.Link{Delay: half}, 900 * time.Millisecond},
		{"50 Mbit/s", simnet.Link{Delay: half, Up: 1_250_000, Down: 6_250_000}, time.Second},
		{"2 Mbit/s", simnet.Link{Delay: half, Up: 125_000, Down: 250_000, Queue: 64 << 10}, 6 * time.Second},
		{"5 % lost each way", simnet.Link{Delay: half, LossUp: 0.05, LossDown: 0.05}, 3 * time.Second},
		{"20 % lost each way", simnet.Link{Delay: half, LossUp: 0.2, LossDown: 0.2}, 10 * time.Second},
		{"60 % lost upwards", simnet.Link{Delay: half, LossUp: 0.6}, 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := play(t, n, c.line, false)
			m := all[len(all)/2].took
			twice := 0.0
			for _, f := range all {
				twice += f.twice / float64(len(all))
			}
			if m > c.most || twice > 0.1 {
				t.Errorf("median %v, %.1f %% twice", m, 100*twice)
			}
			if testing.Verbose() {
				one := play(t, n, c.line, true)
				t.Logf("median %5.2f s, slowest %5.2f s, %4.1f %% fetched twice; over one connection %5.2f s, slowest %5.2f s",
					m.Seconds(), all[len(all)-1].took.Seconds(), 100*twice, one[len(one)/2].took.Seconds(), one[len(one)-1].took.Seconds())
			}
		})
	}
}

// Where bytes are dear nothing comes twice: the first fetch stays with its one
// connection, and the next one, which knows the line, asks for each piece once.
func TestBulkOnce(t *testing.T) {
	f := fetchOf(t, 1, simnet.Link{Delay: roundTrip / 2, LossUp: 0.05, LossDown: 0.05}, transport.Request{Once: true}, false, 2)
	if f.twice != 0 || f.took > 4*time.Second {
		t.Errorf("%.1f %% came twice, in %v", 100*f.twice, f.took)
	}
}

// A relay that is slow to begin, and one that is near, are not taken for a bad line.
func TestGoodLines(t *testing.T) {
	for name, wait := range map[string]time.Duration{"near": 0, "slow to begin": 700 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Repeat([]byte("block"), 13_000)
			id := bundle.RawCID(data)
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				bad := countsAsBad(t, func(w http.ResponseWriter, _ *http.Request) {
					asked.Add(1)
					time.Sleep(wait)
					for at := 0; at < len(data); at += 5000 { // from a disk that is busy
						time.Sleep(wait / 50)
						_, _ = w.Write(data[at:min(at+5000, len(data))])
						_ = http.NewResponseController(w).Flush()
					}
				}, transport.Want{CID: id, Size: len(data)})
				if asked.Load() != 1 || bad {
					t.Errorf("asked %d times, bad %v", asked.Load(), bad)
				}
			})
		})
	}
}

// Nor is a machine that is busy now and then, and brings plenty all the same.
func TestBusyLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocks, wants := map[string][]byte{}, []transport.Want(nil)
		for i := range 128 {
			data := bytes.Repeat([]byte{byte(i)}, 64<<10)
			id := bundle.RawCID(data)
			blocks[id.String()], wants = data, append(wants, transport.Want{CID: id, Size: len(data)})
		}
		busy := make(chan int, 1) // holds the pieces sent so far; not a mutex, for synctest
		busy <- 0
		bad := countsAsBad(t, func(w http.ResponseWriter, r *http.Request) {
			_, name, _ := strings.Cut(r.URL.Path, "/ipfs/")
			for piece := range slices.Chunk(blocks[name], 4<<10) {
				sent := <-busy + 1
				if sent%128 == 0 {
					time.Sleep(60 * time.Millisecond)
				}
				busy <- sent
				_, _ = w.Write(piece)
				_ = http.NewResponseController(w).Flush()
			}
		}, wants...)
		if bad {
			t.Error("the line counts as bad")
		}
	})
}

// countsAsBad reports whether a line of 2 ms a round trip, without loss, counts as bad
// when all wants have come over it. It is called in a bubble.
func countsAsBad(t *testing.T, serve http.HandlerFunc, wants ...transport.Want) bool {
	t.Helper()
	net := simnet.New(1)
	defer net.Close()
	cert := certificate(t)
	s, err := Listen(t.Context(), net.Host("relay", simnet.Link{}, netip.MustParseAddr(relayAt)), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, serve, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := New(Config{Network: net.Host("reader", simnet.Link{Delay: time.Millisecond}, netip.MustParseAddr("198.51.100.1")), Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, err := range c.Paths()[0].Blocks.Fetch(t.Context(), transport.Request{Wants: wants}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c.bulk.isBad()
}

// play is what n readers took, the fastest first.
func play(t *testing.T, n uint64, line simnet.Link, one bool) []fetched {
	t.Helper()
	var all []fetched
	for seed := range n {
		all = append(all, fetchMiB(t, seed, line, one))
	}
	slices.SortFunc(all, func(a, b fetched) int { return cmp.Compare(a.took, b.took) })
	return all
}

package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
)

// metered is loopback that counts what is asked and answered, without the headers
// of UDP and IP.
type metered struct {
	loopback
	up, down, queries atomic.Int64
}

func (n *metered) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.loopback.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &meteredConn{Conn: c, n: n}, nil
}

type meteredConn struct {
	net.Conn
	n *metered
}

func (c *meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.up.Add(int64(n))
	c.n.queries.Add(1)
	return n, err
}

func (c *meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.down.Add(int64(n))
	return n, err
}

// textOf publishes an edition with a text layer of so many full blocks, and returns
// what a reader wants of it.
func (w *world) textOf(seed string, blocks int) (e transport.Edition, wants []transport.Want, size int64) {
	w.t.Helper()
	node := random(seed, 100)
	all := [][]byte{node}
	off := int64(0)
	for i := range blocks {
		n := nextBlock
		if i == 0 {
			n = firstBlock
		}
		b := random(fmt.Sprint(seed, i), n)
		all = append(all, b)
		wants = append(wants, wantOf(bundle.LayerText, b, false, off))
		off += int64(n)
	}
	w.e.Text = pieces(all...)
	if err := w.store.PutEdition(w.e); err != nil {
		w.t.Fatal(err)
	}
	return w.edition(), wants, off
}

// fetchWants fetches in small batches, several at once, as the engine does, which also
// asks again for what got lost: on a machine that is busy enough even loopback loses.
func fetchWants(tb testing.TB, c *Client, e transport.Edition, wants []transport.Want) {
	tb.Helper()
	left := wants
	for try := 0; len(left) > 0; try++ {
		if try > 5 {
			tb.Fatalf("%d blocks did not come", len(left))
		}
		came := map[cid.Cid]bool{}
		for b, err := range c.Fetch(tb.Context(), transport.Request{Edition: e, Wants: left}) {
			switch {
			case err == nil && len(b.Data) > 0:
				came[b.CID] = true
			case !errors.As(err, new(*transport.WantError)):
				tb.Fatal(err)
			}
		}
		left = slices.DeleteFunc(slices.Clone(left), func(w transport.Want) bool { return came[w.CID] })
	}
}

// through is a world whose server is asked by a real resolver alone.
func through(tb testing.TB) (w *world, client func(transport.Network) *Client) {
	const zone = "n.example" // unbound answers for names below test itself
	w = newWorld(tb)
	w.stats = &countingStore{Store: w.store}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: zone}}, Store: w.stats})
	if err != nil {
		tb.Fatal(err)
	}
	at := testservers.Unbound(tb, zone, start(tb, w.nw, srv))
	return w, func(nw transport.Network) *Client {
		c, err := NewClient(ClientConfig{Network: nw, Zone: zone, Resolvers: []string{at}, Hurry: true})
		if err != nil {
			tb.Fatal(err)
		}
		return c
	}
}

// A second reader behind the same resolver costs the zone's server nothing, and does
// without it. What arrives there is not counted: on a busy machine resolvers ask
// twice, and late.
func TestSecondReader(t *testing.T) {
	w, client := through(t)
	e, wants, _ := w.textOf("second", 8)
	fetchWants(t, client(w.nw), e, wants)
	if first := w.stats.records.Load(); first < 500 {
		t.Fatalf("the first reader caused %d questions", first)
	}
	w.stats.gone.Store(true)
	fetchWants(t, client(w.nw), e, wants)
}

// BenchmarkThroughUnbound reads 1 MB of text through a real resolver, in a hurry,
// with nothing in its cache, and then once more as another reader. The figures are
// those of docs/benchmarks.md.
func BenchmarkThroughUnbound(b *testing.B) {
	const blocks = 16 // unbound as it comes has room for about 3 MB
	w, client := through(b)
	var up, down, queries, size, first, second int64
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		e, wants, n := w.textOf(fmt.Sprint("edition", i), blocks)
		nw := &metered{}
		before := w.stats.records.Load()
		b.StartTimer()
		fetchWants(b, client(nw), e, wants)
		b.StopTimer()
		middle := w.stats.records.Load()
		fetchWants(b, client(&loopback{}), e, wants)
		first, second = first+middle-before, second+w.stats.records.Load()-middle
		up, down, queries, size = up+nw.up.Load(), down+nw.down.Load(), queries+nw.queries.Load(), size+n
		b.StartTimer()
	}
	b.SetBytes(size / int64(b.N))
	b.ReportMetric(float64(down)/float64(size), "answers/payload")
	b.ReportMetric(float64(up)/float64(size), "queries/payload")
	b.ReportMetric(float64(queries)/float64(b.N), "queries/op")
	b.ReportMetric(100*float64(second)/float64(first), "%second-reader")
}

// Through a resolver as hostile as dns-hostile's, headlines of 8 KiB come in minutes
// at ten questions a second, whatever has to be found out first.
func TestHostileHeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.publish(1, random("directory", 900), random("front", 8192))
		r := &hostile{truth: w.honest()}
		nw := &fakeNet{rtt: 100 * time.Millisecond, answer: r.answer}
		c := poolClient(t, nw, PoolConfig{}, addr1)
		began, blocks := time.Now(), 0
		for p, err := range c.Open(t.Context(), transport.Ask{Channel: w.ch, Grant: w.grant}) {
			if err != nil {
				t.Fatal(err)
			}
			if p.Kind == transport.PieceBlock {
				blocks++
			}
		}
		took := time.Since(began)
		if blocks != 2 || took > 3*time.Minute {
			t.Errorf("%d blocks in %v", blocks, took)
		}
		t.Logf("headlines of 8 KiB after %v and %d questions, %d of them refused", took.Round(100*time.Millisecond), nw.queries.Load(), r.refused.Load())
		if r.cooled() > 0 {
			t.Error("the resolver was tired of the zone: the headlines alone are not to be so many questions")
		}

		// A block of texts is more than it has patience for.
		want := wantOf(bundle.LayerText, w.e.Text[1].Data, false, 0)
		for came := false; !came; {
			for _, err := range c.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
				if came = err == nil; !came && time.Since(began) > time.Hour {
					t.Fatal(err)
				}
			}
		}
		all := time.Since(began)
		if all > 10*time.Minute || r.cooled() == 0 {
			t.Errorf("texts after %v, tired %d times", all, r.cooled())
		}
		t.Logf("and %d bytes of texts after %v and %d questions in all, %d of them refused, %d times tired of the zone",
			len(w.e.Text[1].Data), all.Round(100*time.Millisecond), nw.queries.Load(), r.refused.Load(), r.cooled())
	})
}

// hostile is a resolver with the vices of the scenario dns-hostile: it drops names of
// more than 72 characters, changes letters, cuts at 512 bytes, spoils bytes over 127,
// refuses more than ten questions a second, and fails all for a zone for a minute after
// 200.
type hostile struct {
	truth   func(req []byte, tcp bool) [][]byte
	refused atomic.Int64

	mu     sync.Mutex
	second int64
	inIt   int
	asked  int
	cool   time.Time
	tired  int
}

// cooled is how often it was tired of the zone.
func (h *hostile) cooled() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tired
}

func (h *hostile) answer(req []byte, tcp bool) [][]byte {
	end := questionEnd(req)
	if end-headerLen-6 > 72 {
		return nil
	}
	if !h.allow(time.Now()) {
		h.refused.Add(1)
		return [][]byte{withCode(req, 5)}
	}
	h.mu.Lock()
	cool := time.Now().Before(h.cool)
	h.mu.Unlock()
	if cool {
		return [][]byte{withCode(req, 2)}
	}
	resp := h.truth(req, tcp)[0]
	for i := headerLen; i < end-5; i++ {
		if c := resp[i]; 'a' <= c && c <= 'z' && i%2 == 0 {
			resp[i] -= 'a' - 'A'
		}
	}
	if len(resp) > plainSize {
		cut := withCode(req, 0)
		cut[2] |= 2
		return [][]byte{cut}
	}
	if resp[7] > 0 { // the first answer, a TXT record
		txt := end + 10
		stop := txt + 2 + int(binary.BigEndian.Uint16(resp[txt:]))
		for i := txt + 2; i < stop; i++ {
			for n := int(resp[i]); n > 0; n-- {
				if i++; resp[i] > 127 {
					resp[i] = '?'
				}
			}
		}
	}
	return [][]byte{resp}
}

func (h *hostile) allow(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := now.Unix(); s != h.second {
		h.second, h.inIt = s, 0
	}
	if h.inIt++; h.inIt > 10 {
		return false
	}
	if h.asked++; h.asked == 200 {
		h.asked, h.cool = 0, now.Add(time.Minute)
		h.tired++
	}
	return true
}

package sync_test

import (
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// dear is Blocks that say what they cost: one query a thousand bytes, ten a second.
type dear struct{ transport.Blocks }

func (dear) Cost(n int64) transport.Cost {
	q := (n + 999) / 1000
	return transport.Cost{Queries: q, Up: 100 * q, Down: n + 100*q, Time: time.Duration(q) * time.Second / 10}
}

// texts publishes articles of which each fills a block and more, since nothing of
// them can be compressed away.
func texts(t *testing.T, n int) (*transporttest.Channel, []bundle.Article) {
	t.Helper()
	c := transporttest.NewChannel(t, "Kolokol")
	var as []bundle.Article
	for i := range n {
		as = append(as, transporttest.Long(i))
	}
	c.Publish(as...)
	return c, as
}

// zonesOnly fails the test if other ways are made than those to zones: making one to
// an IPFS peer starts a node.
type zonesOnly struct {
	sync.Ways
	t *testing.T
}

func (z zonesOnly) Paths(ch channel.ID, ipns ed25519.PublicKey, places channel.Places) []transport.Path {
	if len(places.Relays)+len(places.Peers)+len(places.Gateways)+len(places.Mirrors) > 0 || len(places.Zones) == 0 {
		z.t.Errorf("asked for ways to %+v", places)
	}
	return z.Ways.Paths(ch, ipns, places)
}

// Over a narrow way alone people hear what the texts take, before the first of them
// and less and less afterwards; beside a wide one nobody needs to know.
func TestCostOfTexts(t *testing.T) {
	c, as := texts(t, 6)
	synctest.Test(t, func(t *testing.T) {
		narrow := newRoad(t, 20*time.Millisecond, 64<<10, c.Editions()...)
		p := narrow.path("dns news.example", transport.KindDNS)
		p.Hints.Text, p.Blocks = true, dear{p.Blocks}
		r := newReader(t, c, p)
		var said []transport.Cost
		var before sync.Lacking
		r.e.Progress = func(n sync.Progress) {
			if n.Stage != "text" || n.Event != "" {
				return
			}
			if len(said) == 0 {
				var err error
				if before, err = sync.Lacks(t.Context(), r.lib, zonesOnly{r.e.Ways, t}, c.ID()); err != nil {
					t.Error(err)
				}
			}
			if n.Left != n.Cost.Time {
				t.Errorf("%v left, and it takes %v", n.Left, n.Cost.Time)
			}
			said = append(said, n.Cost)
		}
		res := r.sync()
		r.reads(true, c.Editions()...)
		if len(said) < 3 || said[0].Queries == 0 || said[len(said)-1].Queries != 0 {
			t.Fatalf("%+v", said)
		}
		for i := range said[1:] {
			// An estimate: it may rise by a hundredth as more becomes known.
			if said[i+1].Queries > said[i].Queries+1+said[i].Queries/50 {
				t.Errorf("more is left than before: %+v", said)
			}
		}
		first := said[0].Queries * 1000
		if first < res.Bytes/2 || first > 2*res.Bytes {
			t.Errorf("said %d bytes, and %d came", first, res.Bytes)
		}
		if before.Articles != len(as) || before.Bytes < first*3/4 || before.Bytes > first*4/3 || before.Cost.Queries == 0 {
			t.Errorf("before: %+v, then %d bytes", before, first)
		}
		after, err := sync.Lacks(t.Context(), r.lib, r.e.Ways, c.ID())
		if err != nil || after != (sync.Lacking{}) {
			t.Errorf("after: %+v, %v", after, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		narrow := newRoad(t, 20*time.Millisecond, 64<<10, c.Editions()...)
		p := narrow.path("dns news.example", transport.KindDNS)
		p.Hints.Text, p.Blocks = true, dear{p.Blocks}
		wide := newRoad(t, 10*time.Millisecond, 64<<10, c.Editions()...)
		r := newReader(t, c, p, wide.path("relay 192.0.2.1:443 quic", transport.KindQUIC))
		r.e.Progress = func(n sync.Progress) {
			if n.Cost.Queries > 0 {
				t.Errorf("%+v", n)
			}
		}
		r.sync()
	})
}

// What somebody taps while texts come, comes next.
func TestTapped(t *testing.T) {
	c, as := texts(t, 10)
	synctest.Test(t, func(t *testing.T) {
		narrow := newRoad(t, 20*time.Millisecond, 32<<10, c.Editions()...)
		p := narrow.path("dns news.example", transport.KindDNS)
		p.Hints.Text, p.Hints.Batch, p.Hints.Parallel = true, 1, 1
		order := func(tap int) (came []string) {
			r := newReader(t, c, p)
			var tapped []string
			r.e.Tapped = func() []string { return tapped }
			seen := map[string]bool{}
			r.mem.before = func(int) error {
				for id := range r.mem.texts {
					if !seen[id] {
						seen[id] = true
						came = append(came, id)
					}
				}
				if len(came) > 0 && tap >= 0 {
					tapped = []string{as[tap].ID}
				}
				return nil
			}
			r.sync()
			r.reads(true, c.Editions()...)
			return came
		}
		at := func(ids []string, id string) int {
			for i := range ids {
				if ids[i] == id {
					return i
				}
			}
			return len(ids)
		}
		plain := order(-1)
		// One that comes late by itself.
		last := len(as) - 1
		for i := range as {
			if at(plain, as[i].ID) > at(plain, as[last].ID) {
				last = i
			}
		}
		if was, is := at(plain, as[last].ID), at(order(last), as[last].ID); is >= was || is > 4 {
			t.Errorf("the one that was tapped came as number %d, by itself as %d", is, was)
		}
	})
}

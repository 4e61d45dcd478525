package dns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// many is a network of resolvers by their addresses with port.
type many map[string]*fakeNet

func (m many) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n := m[addr]; n != nil {
		return n.Dial(ctx, network, addr)
	}
	return (&fakeNet{answer: func([]byte, bool) [][]byte { return nil }}).Dial(ctx, network, addr)
}

// keeper is the plainest Keeper.
type keeper struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (k *keeper) Load(key string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.m[key])
}

func (k *keeper) Store(key string, value []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil {
		k.m = map[string][]byte{}
	}
	if value == nil {
		delete(k.m, key)
		return
	}
	k.m[key] = slices.Clone(value)
}

// Resolvers with long paths are more than a Keeper takes: the best of them are kept,
// not none.
func TestFactsFit(t *testing.T) {
	var fs []Facts
	for i := range maxFacts {
		a, err := ParseResolver(fmt.Sprintf("https://dns.example/%03d%s", i, strings.Repeat("x", 900)))
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, Facts{Resolver: a.String(), OK: time.Now(), Good: maxFacts - i})
	}
	k := &keeper{}
	merged := Merge(k, "k", fs)
	b := k.Load("k")
	if len(b) > maxKept || len(b) < maxKept-2<<10 {
		t.Errorf("%d bytes are kept", len(b))
	}
	kept := NewPool(PoolConfig{Network: &fakeNet{}, Keeper: k, Key: "k"}).Facts()
	if len(kept) == 0 || len(kept) != len(merged) || kept[0].Resolver != fs[0].Resolver || kept[len(kept)-1].Resolver != fs[len(kept)-1].Resolver {
		t.Errorf("%d are kept, %d are said to be", len(kept), len(merged))
	}
}

// manyNet makes a Network of many.
type manyNet struct {
	fakeNet
	many
}

func (n *manyNet) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.many.Dial(ctx, network, addr)
}

func poolClient(t *testing.T, nw transport.Network, cfg PoolConfig, resolvers ...string) *Client {
	t.Helper()
	cfg.Network = nw
	c, err := NewClient(ClientConfig{Pool: NewPool(cfg), Zone: testZone, Resolvers: resolvers})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fetchText fetches the edition's text again and again, as if it were another one
// each time, until d is over.
func (w *world) fetchText(t *testing.T, c *Client, d time.Duration) {
	t.Helper()
	for until := time.Now().Add(d); time.Now().Before(until); {
		want := wantOf("text", w.e.Text[1].Data, false, 0)
		for _, err := range c.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		c.cache = newCache(newKept())
	}
}

const (
	addr1 = "192.0.2.1:53"
	addr2 = "192.0.2.2:53"
	addr3 = "192.0.2.3:53"
)

// Two zones share one resolver: together they ask no more than one may.
func TestRateOfAllZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &fakeNet{rtt: 10 * time.Millisecond, answer: w.honest()}
		pool := NewPool(PoolConfig{Network: n})
		began := time.Now()
		wants, _ := w.allWants()
		var wg sync.WaitGroup
		for range 3 {
			c, err := NewClient(ClientConfig{Pool: pool, Zone: testZone, Resolvers: []string{addr1}})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { fetchWants(t, c, w.edition(), wants) })
		}
		wg.Wait()
		asked := n.queries.Load()
		if least := time.Duration(asked-quietBurst-1) * time.Second / quietRate; asked < 6*quietBurst || time.Since(began) < least {
			t.Errorf("%d questions in %v", asked, time.Since(began))
		}
	})
}

// What one zone has brought the next one does not bring again: records are named by
// their hashes. What is not named so is asked for in each.
func TestRecordsOfAllZones(t *testing.T) {
	const other = "mirror.test"
	w := newWorld(t)
	w.stats = &countingStore{Store: w.store}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}, {Name: other}}, Store: w.stats})
	if err != nil {
		t.Fatal(err)
	}
	addr := start(t, w.nw, srv)
	pool := NewPool(PoolConfig{Network: w.nw, Hurry: true})
	want := wantOf(bundle.LayerText, w.e.Text[1].Data, false, 0)
	var asked [2]int64
	for i, zone := range []string{testZone, other} {
		c, err := NewClient(ClientConfig{Pool: pool, Zone: zone, Resolvers: []string{addr}})
		if err != nil {
			t.Fatal(err)
		}
		before := w.stats.records.Load()
		for b, err := range c.Fetch(testContext(t), transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
			if err != nil || !bytes.Equal(b.Data, w.e.Text[1].Data) {
				t.Fatal(err)
			}
		}
		asked[i] = w.stats.records.Load() - before
		if raw, err := c.Head(testContext(t), w.ch, 0); err != nil || !bytes.Equal(raw, w.head.Compact()) {
			t.Errorf("head in %s: %v", zone, err)
		}
	}
	if asked[0] < 60 || asked[1] != 0 {
		t.Errorf("%d records from one zone, then %d from the other", asked[0], asked[1])
	}
	if n := w.stats.named.Load(); n < 4 {
		t.Errorf("%d heads and root notes", n)
	}
}

// What is asked goes to all resolvers that work, as fast as each may be asked.
func TestScattered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &manyNet{many: many{}}
		for i, a := range []string{addr1, addr2, addr3} {
			nw.many[a] = &fakeNet{rtt: time.Duration(i+1) * 20 * time.Millisecond, answer: w.honest()}
		}
		c := poolClient(t, nw, PoolConfig{}, addr1, addr2, addr3)
		began := time.Now()
		w.fetchText(t, c, time.Minute)
		took := time.Since(began).Seconds()
		for a, n := range nw.many {
			if rate := (float64(n.queries.Load()) - quietBurst) / took; rate < 0.8*quietRate || rate > 1.1*quietRate {
				t.Errorf("%s was asked %.1f times a second", a, rate)
			}
		}
	})
}

// A spare that is not needed is known before it is, at the price of a few questions.
func TestSparesAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var dead atomic.Bool
		truth := w.honest()
		nw := &manyNet{many: many{
			addr1: {rtt: 20 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
				if dead.Load() {
					return nil
				}
				return truth(req, tcp)
			}},
			addr2: {rtt: 40 * time.Millisecond, answer: truth},
		}}
		kept := &keeper{}
		c := poolClient(t, nw, PoolConfig{Keeper: kept, Key: "here"}, addr1, addr2, addr3)
		// The first answer makes one known, which then is asked alone.
		c.resolvers[1].quiet, c.resolvers[2].quiet = deadAfter, deadAfter
		c.resolvers[0].srtt = 20 * time.Millisecond
		w.fetchText(t, c, 20*time.Second)
		c.probes.Wait()
		if !c.resolvers[1].known() || c.resolvers[2].known() {
			t.Error("the spare is not known, or the dead one is")
		}
		before := nw.many[addr2].queries.Load()
		if before == 0 {
			t.Error("the spare was not asked")
		}
		dead.Store(true)
		began := time.Now()
		w.fetchText(t, c, time.Second)
		if d := time.Since(began); d > time.Minute {
			t.Errorf("%v without the first one", d)
		}
		c.probes.Wait()

		// The next run knows all that.
		if err := c.pool.Close(); err != nil {
			t.Fatal(err)
		}
		again := poolClient(t, nw, PoolConfig{Keeper: kept, Key: "here"}, addr1, addr2, addr3)
		if !again.resolvers[1].known() || again.resolvers[1].srtt == 0 {
			t.Error("it is forgotten")
		}
		facts := again.pool.Facts()
		if len(facts) < 2 || facts[0].Size < 1000 || facts[0].Rate == 0 || facts[0].Name < len(testZone)+27 || facts[0].Recases {
			t.Errorf("%+v", facts)
		}
		if other := poolClient(t, nw, PoolConfig{Keeper: kept, Key: "there"}, addr1); other.resolvers[0].srtt != 0 {
			t.Error("another network has the same resolvers")
		}
	})
}

// A pool that is closed has left nothing open behind the caller's back, and asks no
// more spares.
func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &manyNet{many: many{
			addr1: {rtt: 20 * time.Millisecond, answer: w.honest()},
			addr2: {answer: func([]byte, bool) [][]byte { return nil }},
		}}
		c := poolClient(t, nw, PoolConfig{}, addr1, addr2)
		c.resolvers[0].srtt = 20 * time.Millisecond
		c.resolvers[1].quiet = deadAfter
		head := func() {
			if _, err := c.Head(t.Context(), w.ch, 0); err != nil {
				t.Error(err)
			}
		}
		head()
		synctest.Wait()
		if nw.many[addr2].queries.Load() == 0 {
			t.Fatal("no spare was asked")
		}
		began := time.Now()
		if err := c.pool.Close(); err != nil {
			t.Fatal(err)
		}
		for _, r := range c.resolvers {
			if r.links != [2]*link{} || r.dials != [2]*dial{} {
				t.Errorf("a socket to %s is still open", r.addr)
			}
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("waited %v for a spare that is silent", d)
		}
		time.Sleep(time.Hour)
		before := nw.many[addr2].queries.Load()
		head()
		c.probes.Wait()
		if n := nw.many[addr2].queries.Load() - before; n > 0 {
			t.Errorf("%d questions to a spare after the end", n)
		}
	})
}

// One that answers late now and then is not waited for: another is asked, and not
// more often than one question in ten.
func TestHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Nobody waits a timeout out.
		with, _ := withHedges(t, true, addr1, addr2)
		if without, _ := withHedges(t, false, addr1, addr2); with >= without {
			t.Errorf("%v with hedging, %v without", with, without)
		}
	})
}

// Nor does it matter that the other one needs a connection first.
func TestHedgedOverTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, with := withHedges(t, true, addr1, "tcp://"+addr2)
		if _, without := withHedges(t, false, addr1, "tcp://"+addr2); with <= without {
			t.Errorf("%d questions with hedging, %d without", with, without)
		}
	})
}

// withHedges asks for the head thirty times, and is told how long that took and how
// many questions arrived.
func withHedges(t *testing.T, hedge bool, resolvers ...string) (took time.Duration, asked int64) {
	w := newWorld(t)
	truth := w.honest()
	var n atomic.Int64
	slow := func(req []byte, tcp bool) [][]byte {
		k := n.Add(1)
		if k%20 == 0 {
			return nil
		}
		time.Sleep(time.Duration(k*7919%11) * 30 * time.Millisecond)
		return truth(req, tcp)
	}
	nw := &manyNet{many: many{
		addr1: {rtt: 300 * time.Millisecond, answer: slow},
		addr2: {rtt: 300 * time.Millisecond, answer: slow},
	}}
	c := poolClient(t, nw, PoolConfig{Hurry: true}, resolvers...)
	w.heads(t.Context(), c)
	if !hedge {
		c.hedges = -1e6
	}
	began := time.Now()
	for range 30 { // one question after another
		w.heads(t.Context(), c)
		c.channels = map[channel.ID]*channelState{}
		c.cache = newCache(newKept())
	}
	took = time.Since(began)
	time.Sleep(time.Second)
	return took, n.Load()
}

// Hedging has its budget: when everything is late, nearly nothing is asked twice.
func TestHedgesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		asked := map[string]int{}
		n := 0
		var mu sync.Mutex
		answer := func(req []byte, tcp bool) [][]byte {
			mu.Lock()
			asked[strings.ToLower(string(req[headerLen:questionEnd(req)]))]++
			n++
			late := n%4 == 0
			mu.Unlock()
			if late { // and not yet given up
				time.Sleep(130 * time.Millisecond)
			}
			return truth(req, tcp)
		}
		nw := &manyNet{many: many{addr1: {rtt: 20 * time.Millisecond, answer: answer}, addr2: {rtt: 20 * time.Millisecond, answer: answer}}}
		c := poolClient(t, nw, PoolConfig{Hurry: true}, addr1, addr2)
		w.heads(t.Context(), c)
		for _, r := range c.resolvers {
			r.srtt, r.rttvar, r.window = 20*time.Millisecond, 10*time.Millisecond, maxWindow
		}
		mu.Lock()
		clear(asked)
		mu.Unlock()
		w.fetchAll(t.Context(), c)
		time.Sleep(time.Second) // until the last ones are answered, to nobody
		twice, all := 0, 0
		mu.Lock()
		defer mu.Unlock()
		for _, n := range asked {
			all += n
			twice += n - 1
		}
		if twice == 0 || float64(twice) > hedgeShare*float64(all)+maxHedges {
			t.Errorf("%d of %d were asked twice", twice, all)
		}
	})
}

// Nothing is asked twice where bytes are dear.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		var mu sync.Mutex
		asked := map[string]int{}
		answer := func(req []byte, tcp bool) [][]byte {
			mu.Lock()
			asked[strings.ToLower(string(req[headerLen:questionEnd(req)]))]++
			mu.Unlock()
			return truth(req, tcp)
		}
		nw := &manyNet{many: many{
			addr1: {rtt: 20 * time.Millisecond, answer: answer},
			addr2: {rtt: 190 * time.Millisecond, answer: answer}, // within its timeout, past what a hedge waits for
			addr3: {rtt: 20 * time.Millisecond, answer: answer},
		}}
		c := poolClient(t, nw, PoolConfig{Hurry: true}, addr1, addr2, addr3)
		for _, r := range c.resolvers[:2] {
			r.srtt, r.rttvar = 20*time.Millisecond, 20*time.Millisecond
		}
		wants, _ := w.allWants()
		for _, err := range c.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: wants, Once: true}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for name, n := range asked {
			if n > 1 {
				t.Errorf("%q was asked for %d times", name, n)
			}
		}
	})
}

// Facts that somebody spoiled, or of another version, are none.
func TestFactsAreChecked(t *testing.T) {
	now := time.Now()
	k := &keeper{}
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "[{", "another type": `{"resolver":"192.0.2.1:53"}`,
		"no resolver": `[{"resolver":"x y"}]`, "not as we write it": `[{"resolver":"192.0.2.1","ok":"` + now.Format(time.RFC3339) + `"}]`,
		"old":               `[{"resolver":"192.0.2.1:53","ok":"2001-01-01T00:00:00Z","at":"2001-01-01T00:00:00Z"}]`,
		"less than nothing": `[{"resolver":"192.0.2.1:53","good":-2,"ok":"` + now.Format(time.RFC3339) + `"}]`,
		"too many":          "[" + strings.Repeat(`{"resolver":"192.0.2.1:53"},`, maxFacts) + `{"resolver":"192.0.2.1:53"}]`,
	} {
		k.Store("k", []byte(text))
		if fs := NewPool(PoolConfig{Network: &fakeNet{}, Keeper: k, Key: "k"}).Facts(); len(fs) != 0 {
			t.Errorf("%s: %+v", name, fs)
		}
	}
	var fs []Facts
	for i := range maxFacts {
		fs = append(fs, Facts{Resolver: fmt.Sprintf("https://%s%d.example/dns-query@192.0.2.1", strings.Repeat("long", 12), i), Size: 1040, Stream: 1040, Name: 60, RTT: 1234567891, Rate: 10, Good: 100, Lost: 90, OK: now, At: now, Small: now, Cool: now, Found: true, Recases: true})
	}
	storeFacts(k, "k", fs)
	if n := len(k.Load("k")); n > 64<<10 {
		t.Errorf("%d bytes are more than a note holds", n)
	}
	if got := loadFacts(k, "k"); len(got) != maxFacts {
		t.Errorf("%d of %d came back", len(got), maxFacts)
	}
}

// The better ones come first: what carries more, loses less, answers sooner.
func TestScore(t *testing.T) {
	now := time.Now()
	order := []Facts{
		{OK: now, Good: 100, RTT: 20 * time.Millisecond},
		{OK: now, Good: 100, RTT: 400 * time.Millisecond},
		{OK: now, Good: 60, Lost: 40, RTT: 20 * time.Millisecond},
		{OK: now, Good: 100, RTT: 20 * time.Millisecond, Small: now},
		{OK: now, Good: 10, Lost: 90, RTT: 20 * time.Millisecond},
		{At: now, Lost: 3},
	}
	for i := range order[1:] {
		if a, b := order[i].Score(), order[i+1].Score(); a <= b {
			t.Errorf("%d has %.1f, %d %.1f", i, a, i+1, b)
		}
	}
	if record.Large.Payload() < 3*record.Small.Payload() {
		t.Error("classes")
	}
}

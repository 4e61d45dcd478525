package sync_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// TestBlackholes: whichever paths say nothing, the headlines come as if the
// others were alone, but for a quarter and for the patience of the best one.
func TestBlackholes(t *testing.T) {
	c := published(t, 2)
	kinds := []struct {
		kind string
		rtt  time.Duration
	}{
		{transport.KindQUIC, 100 * time.Millisecond},
		{transport.KindQUIC, 130 * time.Millisecond},
		{transport.KindTCP, 100 * time.Millisecond},
		{transport.KindGateway, 150 * time.Millisecond},
		{transport.KindIPFS, 250 * time.Millisecond},
		{transport.KindDNS, 80 * time.Millisecond},
	}
	headlines := func(t *testing.T, open func(i int) bool, hole bool) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			var paths []transport.Path
			for i, k := range kinds {
				r := newRoad(t, k.rtt, 1<<20, c.Editions()...)
				if k.kind == transport.KindTCP {
					r.setup = 2
				}
				p := r.path(fmt.Sprint(k.kind, i), k.kind)
				switch {
				case open(i):
					paths = append(paths, p)
				case hole:
					paths = append(paths, transporttest.Silent(p))
				}
			}
			r := newReader(t, c, paths...)
			took = r.sync().ToHeadlines
			r.holds(c.Newest())
		})
		return took
	}
	alone := make([]time.Duration, len(kinds))
	for i := range kinds {
		alone[i] = headlines(t, func(j int) bool { return j == i }, false)
	}
	for mask := 1; mask < 1<<len(kinds); mask++ {
		open := func(i int) bool { return mask&(1<<i) != 0 }
		limit := time.Duration(1<<63 - 1)
		for i, k := range kinds {
			if !open(i) {
				continue
			}
			patience := time.Duration(0)
			if k.kind == transport.KindDNS {
				patience = 300 * time.Millisecond
			}
			limit = min(limit, alone[i]*5/4+patience)
		}
		if took := headlines(t, open, true); took > limit {
			t.Errorf("open paths %06b: headlines after %s, %s is the limit", mask, took, limit)
		}
	}
}

// TestLateHead: the news is shown as soon as one path has some; a newer head that
// comes later takes its place, and its front page comes first.
func TestLateHead(t *testing.T) {
	c := published(t, 3)
	for late := 100 * time.Millisecond; late < 1300*time.Millisecond; late += 300 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			old := newRoad(t, 50*time.Millisecond, 300<<10, c.Editions()[:2]...)
			top := newRoad(t, late, 300<<10, c.Editions()...)
			r := newReader(t, c, old.path("old", transport.KindQUIC), top.path("top", transport.KindQUIC))
			var turned time.Duration
			r.e.Progress = func(p sync.Progress) {
				if p.Event == sync.EventTurned && p.Path == "top" {
					turned = p.At
				}
			}
			res := r.sync()
			r.holds(c.Newest())
			r.reads(true, c.Editions()...)
			if turned == 0 || turned > 2*late+200*time.Millisecond {
				t.Errorf("head after %s: turned after %s", 2*late, turned)
			}
			if p := report(t, res, "old"); p.State == "lied" || p.Head != 2 {
				t.Errorf("%+v", p)
			}
			if p := report(t, res, "top"); p.Head != 3 || p.Seen.IsZero() || !p.HeadTime.Equal(c.Newest().Head.Time) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestLateFork: a path shows another history when the news is here already, be it
// longer or not. It is reported, the proof is kept, and nothing else changes.
func TestLateFork(t *testing.T) {
	for _, longer := range []int{0, 1, 3} {
		c := published(t, 1)
		theirs := c.Fork()
		c.Publish(transporttest.Articles(1)...)
		for i := range 1 + longer {
			theirs.Publish(transporttest.Brief(500 + i))
		}
		synctest.Test(t, func(t *testing.T) {
			good, bad := newRoad(t, 50*time.Millisecond, 300<<10, c.Editions()...), newRoad(t, 200*time.Millisecond, 300<<10, theirs.Editions()...)
			r := newReader(t, c, good.path("good", transport.KindQUIC), bad.path("bad", transport.KindQUIC))
			res := r.sync()
			if !res.Fork || len(r.view().Evidence()) != 1 {
				t.Errorf("%d longer: fork %v, %d pieces of evidence", longer, res.Fork, len(r.view().Evidence()))
			}
			for _, e := range r.view().Evidence() {
				if _, _, err := r.view().Roots().CheckEvidence(e); err != nil {
					t.Errorf("%d longer: the evidence convinces nobody else: %v", longer, err)
				}
			}
			state(t, res, "good", "ok")
			if p := report(t, res, "bad"); p.State == "lied" { // a new reader can't know whose history is true
				t.Errorf("%+v", p)
			}
			r.holds(c.Newest())
			r.reads(true, c.Editions()...)
		})
	}
}

// TestOrder: the loud are asked after the quiet, at once when those have failed,
// and not at all when the news is here before.
func TestOrder(t *testing.T) {
	c := published(t, 1)
	ask := func(t *testing.T, broken bool) (start time.Time, quic, tcp, dns *road) {
		quic, tcp, dns = newRoad(t, 40*time.Millisecond, 0, c.Editions()...), newRoad(t, 40*time.Millisecond, 0, c.Editions()...), newRoad(t, 40*time.Millisecond, 0, c.Editions()...)
		q, tc := quic.path("q", transport.KindQUIC), tcp.path("t", transport.KindTCP)
		if broken {
			q, tc = transporttest.Failing(q), transporttest.Failing(tc)
		}
		r := newReader(t, c, dns.path("d", transport.KindDNS), tc, q)
		start = time.Now()
		r.sync()
		return start, quic, tcp, dns
	}
	synctest.Test(t, func(t *testing.T) {
		start, quic, tcp, dns := ask(t, false)
		if quic.questions() != 1 || !quic.asked[0].Equal(start) {
			t.Error("the quiet path was not asked at once")
		}
		if tcp.questions() != 1 || tcp.asked[0].Sub(start) <= 0 || tcp.asked[0].Sub(start) > 50*time.Millisecond {
			t.Error("TCP was not asked shortly after")
		}
		if dns.questions() != 0 {
			t.Error("DNS was asked though the news was here")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		start, _, _, dns := ask(t, true)
		if dns.questions() == 0 || dns.asked[0].Sub(start) > 0 {
			t.Error("DNS waited for paths that had failed")
		}
	})
}

// TestMemory: what worked on a network goes first there, whatever it is, and
// elsewhere not.
func TestMemory(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		quic, dns := newRoad(t, 50*time.Millisecond, 0, c.Editions()...), newRoad(t, 50*time.Millisecond, 0, c.Editions()...)
		q, d := quic.path("q", transport.KindQUIC), dns.path("d", transport.KindDNS)
		r := newReader(t, c, transporttest.Silent(q), d)
		r.e.Network = "school"
		if took := r.sync().ToHeadlines; took < 300*time.Millisecond {
			t.Fatalf("DNS did not wait: %s", took)
		}
		next := c.Publish(transporttest.Articles(7)...)
		for _, rd := range []*road{quic, dns} {
			if err := rd.m.Publish(t.Context(), next.Source(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if took := r.sync().ToHeadlines; took > 110*time.Millisecond {
			t.Errorf("DNS worked here and waits: headlines after %s", took)
		}
		// It opens again: asked later, but asked.
		r.over(q, d)
		start := time.Now()
		res := r.sync()
		if quic.questions() == 0 || quic.asked[0].Sub(start) == 0 {
			t.Error("the path that did not work here was asked first, or never")
		}
		if res.Twice != 0 {
			t.Errorf("%d bytes of what was here came again", res.Twice)
		}
		r.e.Network = "home"
		dns.asked = nil
		start = time.Now()
		r.sync()
		if n := len(dns.asked); n > 0 && dns.asked[0].Sub(start) < 300*time.Millisecond {
			t.Error("on another network DNS is as loud as ever")
		}
	})
	// It is bounded.
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, names(80, func(int) transport.Path {
			return newRoad(t, time.Millisecond, 0, c.Editions()...).path("p", transport.KindQUIC)
		})...)
		for i := range 20 {
			r.e.Network = fmt.Sprint(i)
			r.sync()
		}
		if n := len(r.mem.notes[c.ID().String()+"/networks"]); n > 16*64*250 {
			t.Errorf("%d bytes are remembered", n)
		}
	})
}

// TestProportion: of two paths one is four times as fast, and brings about four
// times as much; together they are faster than it alone.
func TestProportion(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(8 << 20)...)
	synctest.Test(t, func(t *testing.T) {
		fast, slow := newRoad(t, 50*time.Millisecond, 1<<20, c.Editions()...), newRoad(t, 50*time.Millisecond, 256<<10, c.Editions()...)
		r := newReader(t, c, fast.path("fast", transport.KindQUIC), slow.path("slow", transport.KindTCP))
		res := r.sync()
		r.reads(true, c.Editions()...)
		share := float64(report(t, res, "fast").Bytes) / float64(report(t, res, "slow").Bytes)
		if share < 2.8 || share > 5.5 {
			t.Errorf("the path of four times the rate brought %.1f times as much", share)
		}
		if res.ToImages > 8*time.Second {
			t.Errorf("8 MiB over 1.25 MiB/s: %s", res.ToImages)
		}
		if res.Twice*100 > 3*res.Bytes {
			t.Errorf("%d bytes of %d came twice", res.Twice, res.Bytes)
		}
		if res.Delivered["images"] != "fast" || res.Delivered["headlines"] != "fast" || res.Delivered["head"] != "fast" {
			t.Errorf("%v", res.Delivered)
		}
	})
}

// pictures are articles with so many bytes of pictures.
func pictures(bytes int) []bundle.Article {
	var as []bundle.Article
	for i := 0; bytes > 0; i++ {
		a := transporttest.Articles(i)[0]
		for j := range a.Images {
			a.Images[j].Data = transporttest.Noise(uint64(i*2+j), 256<<10)
			bytes -= 256 << 10
		}
		as = append(as, a)
	}
	return as
}

// TestFreeze: the fast path stops in the middle. What it owed is asked of the
// other one after a moment, and little is fetched twice.
func TestFreeze(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(4 << 20)...)
	for _, after := range []int{16 << 10, 100 << 10, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			fast, slow := newRoad(t, 50*time.Millisecond, 2<<20, c.Editions()...), newRoad(t, 50*time.Millisecond, 1<<20, c.Editions()...)
			fast.freezeAfter = after
			r := newReader(t, c, fast.path("fast", transport.KindQUIC), slow.path("slow", transport.KindQUIC))
			doubled := 0
			r.e.Progress = func(p sync.Progress) {
				if p.Event == sync.EventDoubled {
					doubled++
				}
			}
			res := r.sync()
			r.reads(true, c.Editions()...)
			if res.ToImages > 12*time.Second {
				t.Errorf("frozen after %d bytes: images after %s", after, res.ToImages)
			}
			if res.Twice*100 > 5*res.Bytes || doubled == 0 && after > 100<<10 {
				t.Errorf("frozen after %d bytes: %d of %d twice, %d doubled", after, res.Twice, res.Bytes, doubled)
			}
		})
	}
}

// TestOpeningsOnce: with many paths open, a front page is not taken from each.
func TestOpeningsOnce(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(pictures(2 << 20)...)
	synctest.Test(t, func(t *testing.T) {
		var ms []*transporttest.Memory
		r := newReader(t, c, names(6, func(i int) transport.Path {
			rd := newRoad(t, time.Duration(40+10*i)*time.Millisecond, 1<<20, c.Editions()...)
			ms = append(ms, rd.m)
			return rd.path("p", transport.KindQUIC)
		})...)
		res := r.sync()
		for _, w := range c.Newest().Wants(bundle.LayerFront) {
			if n := sum(ms...)[w.CID]; n > 2 {
				t.Errorf("%d paths were asked for the front page", n)
			}
		}
		if res.Twice*100 > 3*res.Bytes {
			t.Errorf("%d bytes of %d came twice", res.Twice, res.Bytes)
		}
		for _, p := range res.Paths {
			if p.Head != 1 {
				t.Errorf("%s was not heard: %+v", p.Name, p)
			}
		}
	})
}

// TestSlowOpening: the rest of an opening that trickles in is waited for, not
// fetched a second time beside it.
func TestSlowOpening(t *testing.T) {
	c := published(t, 2)
	synctest.Test(t, func(t *testing.T) {
		p := newRoad(t, 50*time.Millisecond, 12<<10, c.Editions()...)
		r := newReader(t, c, p.path("p", transport.KindQUIC))
		res := r.sync()
		once(t, p.m)
		if res.Twice != 0 {
			t.Errorf("%d bytes came twice", res.Twice)
		}
	})
}

// TestBackOff: the only path breaks off some requests and is tried again; one
// that never works is given up.
func TestBackOff(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		only := newRoad(t, 20*time.Millisecond, 0, c.Editions()...)
		only.broken = 3
		r := newReader(t, c, only.path("p", transport.KindQUIC))
		start := time.Now()
		r.sync()
		r.reads(true, c.Editions()...)
		if took := time.Since(start); took < 500*time.Millisecond || took > 10*time.Second {
			t.Errorf("three failures, and all is here after %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		only := newRoad(t, 20*time.Millisecond, 0, c.Editions()...)
		only.broken = 1000
		r := newReader(t, c, only.path("p", transport.KindQUIC))
		dropped := false
		r.e.Progress = func(p sync.Progress) { dropped = dropped || p.Event == sync.EventDropped }
		res := r.fails(sync.ErrIncomplete)
		state(t, res, "p", "failed")
		if only.broken < 1000-20 || !dropped {
			t.Errorf("it was asked %d times", 1000-only.broken)
		}
		only.broken = 0 // another day
		r.sync()
		r.reads(true, c.Editions()...)
	})
}

// TestLiarRemembered: who lied is not asked beside honest paths the next time,
// but is when there is nobody else, and after a day.
func TestLiarRemembered(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		good, bad := newRoad(t, 50*time.Millisecond, 0, c.Editions()...), newRoad(t, 10*time.Millisecond, 0, c.Editions()...)
		g, b := good.path("good", transport.KindQUIC), bad.path("bad", transport.KindQUIC)
		r := newReader(t, c, g, transporttest.WrongBytes(b))
		state(t, r.sync(), "bad", "lied")
		bad.asked = nil
		r.over(g, b)
		r.sync()
		if bad.questions() != 0 {
			t.Error("the liar was asked beside an honest path")
		}
		reports, err := sync.Reports(t.Context(), r.mem, c.ID())
		if err != nil || len(reports) != 2 || reports[1].State != "lied" && reports[0].State != "lied" {
			t.Errorf("%+v, %v", reports, err)
		}
		r.over(transporttest.Failing(g), b).sync()
		if bad.questions() != 1 {
			t.Error("the liar was not asked when nobody else answered")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		good, bad := newRoad(t, 50*time.Millisecond, 0, c.Editions()...), newRoad(t, 10*time.Millisecond, 0, c.Editions()...)
		g, b := good.path("good", transport.KindQUIC), bad.path("bad", transport.KindQUIC)
		r := newReader(t, c, g, transporttest.WrongBytes(b))
		r.sync()
		bad.asked = nil
		time.Sleep(25 * time.Hour)
		r.over(g, b).sync()
		if bad.questions() != 1 {
			t.Error("a day later the liar is still not asked")
		}
	})
}

// TestBudgetBytes: never more than the limit comes, whatever it is; the next
// sync goes on.
func TestBudgetBytes(t *testing.T) {
	c := published(t, 2)
	for _, limit := range []int64{1000, 20 << 10, 100 << 10, 150 << 10, 300 << 10, 400 << 10, 10 << 20} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newRoad(t, 20*time.Millisecond, 1<<20, c.Editions()...), newRoad(t, 30*time.Millisecond, 1<<20, c.Editions()...)
			r := newReader(t, c, a.path("a", transport.KindQUIC), b.path("b", transport.KindTCP))
			r.e.Budget.Bytes = limit
			res, err := r.e.Sync(t.Context(), c.ID())
			if came := int64(a.partial + b.partial); came > limit {
				t.Errorf("limit %d: %d bytes came", limit, came)
			}
			if res.Bytes+res.Twice > limit {
				t.Errorf("limit %d: %d bytes and %d twice", limit, res.Bytes, res.Twice)
			}
			if want := limit < 1<<20; errors.Is(err, sync.ErrBudget) != want {
				t.Errorf("limit %d: %v", limit, err)
			}
			if limit >= 300<<10 && res.ToText == 0 {
				t.Errorf("limit %d: no text", limit)
			}
			r.e.Budget.Bytes = 0
			r.over(r.guard(a.path("a", transport.KindQUIC))).sync()
			r.reads(true, c.Editions()...)
		})
	}
}

// TestLeastBytes: with the least limit each sync brings something, until all is
// here.
func TestLeastBytes(t *testing.T) {
	c := published(t, 2)
	synctest.Test(t, func(t *testing.T) {
		a, b := newRoad(t, 20*time.Millisecond, 1<<20, c.Editions()...), newRoad(t, 30*time.Millisecond, 1<<20, c.Editions()...)
		r := newReader(t, c, a.path("a", transport.KindQUIC), b.path("b", transport.KindTCP))
		r.e.Budget.Bytes = sync.LeastBytes
		for n := 1; ; n++ {
			res, err := r.e.Sync(t.Context(), c.ID())
			if err == nil {
				break
			}
			if !errors.Is(err, sync.ErrBudget) || res.Answered == 0 || n > 50 {
				t.Fatalf("sync %d: %+v, %v", n, res, err)
			}
		}
		r.reads(true, c.Editions()...)
	})
}

// TestAnswered: however a sync ends, it says whether anybody answered; neither a
// file nor a liar counts.
func TestAnswered(t *testing.T) {
	c := published(t, 1)
	m := transporttest.NewMemory(t, c.Editions()...)
	tcp, stick := m.Path("tcp"), m.Path("stick")
	tcp.Kind = transport.KindTCP
	dead := transport.Path{Name: "dead", Kind: transport.KindTCP, Heads: downHeads{}}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx       context.Context //nolint:containedctx // one of the cases
		limit     int64
		paths     []transport.Path
		answered  int
		unreached bool
		err       error
	}{
		"one did":             {t.Context(), 0, []transport.Path{tcp, dead}, 1, false, nil},
		"a file did":          {t.Context(), 0, []transport.Path{stick, dead}, 0, false, nil},
		"nobody":              {t.Context(), 0, []transport.Path{dead}, 0, true, sync.ErrNoPath},
		"nobody is known":     {t.Context(), 0, nil, 0, true, sync.ErrNoPath},
		"given up":            {given, 0, []transport.Path{tcp}, 0, true, context.Canceled},
		"a limit of nothing":  {t.Context(), 100, []transport.Path{tcp}, 0, true, sync.ErrBudget},
		"a limit of a little": {t.Context(), 10_000, []transport.Path{tcp}, 1, false, sync.ErrBudget},
	} {
		for _, held := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newReader(t, c, tcp)
				if held {
					r.sync()
				}
				r.e.Budget.Bytes = test.limit
				res, err := r.over(test.paths...).e.Sync(test.ctx, c.ID())
				if res.Answered != test.answered || res.Unreached != test.unreached {
					t.Errorf("%s, held %v: %d answered, unreached %v, %v", name, held, res.Answered, res.Unreached, err)
				}
				if !errors.Is(err, test.err) && (!held || test.limit != 10_000) {
					t.Errorf("%s, held %v: %v", name, held, err)
				}
			})
		}
	}
}

// TestLangs: the texts in the reader's languages come first.
func TestLangs(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	var as []bundle.Article
	for i := range 6 {
		a := transporttest.Long(i)
		if a.Lang = "ru"; i%3 == 2 {
			a.Lang = "fa-IR"
		}
		as = append(as, a)
	}
	c.Publish(as...)
	synctest.Test(t, func(t *testing.T) {
		p := newRoad(t, 20*time.Millisecond, 256<<10, c.Editions()...)
		r := newReader(t, c, p.path("p", transport.KindQUIC))
		r.e.Langs = []string{"fa"}
		first := map[string]bool{}
		r.mem.before = func(int) error {
			if len(r.mem.texts) == 2 && len(first) == 0 {
				for id := range r.mem.texts {
					first[id] = true
				}
			}
			return nil
		}
		r.sync()
		r.reads(true, c.Editions()...)
		if len(first) != 2 || !first[as[2].ID] || !first[as[5].ID] {
			t.Errorf("the first two texts were %v", first)
		}
	})
}

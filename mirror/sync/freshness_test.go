package sync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// viewOf is the view of a reader that holds a channel's newest head.
func viewOf(t *testing.T, c *transporttest.Channel) *channel.View {
	t.Helper()
	v := channel.NewView(c.Invite(channel.Places{}))
	for _, n := range c.Roots().Notes() {
		if err := v.ExtendRoots(n); err != nil {
			t.Fatal(err)
		}
	}
	consider(t, v, c)
	return v
}

func consider(t *testing.T, v *channel.View, c *transporttest.Channel) {
	t.Helper()
	h, err := v.Check(c.Newest().Head.Text())
	if err != nil {
		t.Fatal(err)
	}
	v.Consider(h)
}

// seen is a path that showed a head of that many leaves at a time.
func seen(kind, name string, head uint64, at time.Time) sync.PathReport {
	return sync.PathReport{Name: name, Kind: kind, State: "ok", Head: head, Seen: at, At: at}
}

func failed(kind, name string, at time.Time) sync.PathReport {
	return sync.PathReport{Name: name, Kind: kind, State: "failed", Error: "timeout", At: at}
}

// every is editions packed one interval after the other, until at.
func every(gap time.Duration, n int, at time.Time) (ts []time.Time) {
	for i := range n {
		ts = append(ts, at.Add(-time.Duration(i)*gap))
	}
	return ts
}

func TestJudge(t *testing.T) {
	c := published(t, 2)
	view := viewOf(t, c)
	signed := view.Head().Time
	const size = 2
	const day = 24 * time.Hour
	quic := func(head uint64, at time.Time) sync.PathReport {
		return seen(transport.KindQUIC, "relay 192.0.2.1:443 quic", head, at)
	}
	tcp := func(head uint64, at time.Time) sync.PathReport {
		return seen(transport.KindTCP, "relay 192.0.2.1:8443 tcp", head, at)
	}
	zone := func(head uint64, at time.Time) sync.PathReport {
		return seen(transport.KindDNS, "dns n.example via 192.0.2.53:53", head, at)
	}
	for name, test := range map[string]struct {
		age     time.Duration // of the signed time
		reports func(now time.Time) []sync.PathReport
		packed  []time.Time
		want    sync.Verdict
		sources int
	}{
		"two ways agree": {
			2 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			nil, sync.VerdictCurrent, 2,
		},
		"two ways agreed, hours apart": {
			5 * time.Hour, func(now time.Time) []sync.PathReport {
				return []sync.PathReport{quic(size, now), zone(size, now.Add(-4*time.Hour))}
			},
			nil, sync.VerdictOneSource, 1, // it may have been blocked since
		},
		"a relay and its CDN": {
			2 * time.Hour, func(now time.Time) []sync.PathReport {
				relay, cdn := quic(size, now), seen(transport.KindTCP, "relay cdn.example:443 tcp", size, now)
				relay.Source, cdn.Source = "relay x", "relay x"
				return []sync.PathReport{relay, cdn}
			},
			nil, sync.VerdictOneSource, 1,
		},
		"another tree of that size": {
			2 * time.Hour, func(now time.Time) []sync.PathReport {
				other := zone(size, now)
				other.Tree = "0123456789abcdef"
				return []sync.PathReport{quic(size, now), other}
			},
			nil, sync.VerdictOneSource, 1,
		},
		"all have failed just now": {
			2 * time.Hour, func(now time.Time) []sync.PathReport {
				a, b := quic(size, now.Add(-2*time.Minute)), zone(size, now.Add(-2*time.Minute))
				a.State, a.At, b.State, b.At = "failed", now, "failed", now
				return []sync.PathReport{a, b}
			},
			nil, sync.VerdictUnreached, 2,
		},
		"the other agreed yesterday": {
			2 * time.Hour, func(now time.Time) []sync.PathReport {
				return []sync.PathReport{quic(size, now), zone(size, now.Add(-day))}
			},
			nil, sync.VerdictOneSource, 1,
		},
		"quic and tcp of one relay": {
			2 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), tcp(size, now)} },
			nil, sync.VerdictOneSource, 1,
		},
		"one lags": {
			2 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(1, now)} },
			nil, sync.VerdictOneSource, 1,
		},
		"all that answer lag": {
			2 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(1, now), zone(1, now)} },
			nil, sync.VerdictNothingNewer, 0,
		},
		"older than usual": {
			30 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			nil, sync.VerdictNothingNewer, 2,
		},
		"two days, and nothing is known of the rhythm": {
			49 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			nil, sync.VerdictFrozen, 2,
		},
		"two days in a weekly": {
			49 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			every(7*day, 5, signed), sync.VerdictCurrent, 2,
		},
		"a month in a weekly": {
			30 * day, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			every(7*day, 5, signed), sync.VerdictFrozen, 2,
		},
		"half a day of an hourly": {
			12 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			every(time.Hour, 30, signed), sync.VerdictFrozen, 2,
		},
		"a night, and it pauses each night": {
			11 * time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size, now), zone(size, now)} },
			append(every(time.Hour, 12, signed), every(time.Hour, 12, signed.Add(-20*time.Hour))...), sync.VerdictNothingNewer, 2,
		},
		"somebody showed a newer one": {
			time.Hour, func(now time.Time) []sync.PathReport { return []sync.PathReport{quic(size+1, now), zone(size, now)} },
			nil, sync.VerdictBehind, 1,
		},
		"a liar showed a newer one": {
			time.Hour, func(now time.Time) []sync.PathReport {
				liar := quic(size+1, now)
				liar.State = "lied"
				return []sync.PathReport{liar, zone(size, now)}
			},
			nil, sync.VerdictOneSource, 1,
		},
		"nobody answered since": {
			day, func(now time.Time) []sync.PathReport {
				q := quic(size, now.Add(-day))
				q.State, q.At = "failed", now
				return []sync.PathReport{q, failed(transport.KindDNS, "dns n.example via 192.0.2.53:53", now)}
			},
			nil, sync.VerdictUnreached, 1,
		},
		"one fails in a sync that another answered": {
			time.Hour, func(now time.Time) []sync.PathReport {
				return []sync.PathReport{quic(size, now.Add(-time.Minute)), failed(transport.KindDNS, "dns n.example", now)}
			},
			nil, sync.VerdictOneSource, 1,
		},
		"not asked since yesterday": {
			day, func(now time.Time) []sync.PathReport {
				return []sync.PathReport{quic(size, now.Add(-day)), zone(size, now.Add(-day))}
			},
			nil, sync.VerdictUnchecked, 2,
		},
		"asked when the clock was years ahead": {
			time.Hour, func(now time.Time) []sync.PathReport {
				return []sync.PathReport{quic(size, now.Add(3*365*day)), zone(size, now.Add(3*365*day))}
			},
			nil, sync.VerdictUnchecked, 0,
		},
		"never asked": {time.Hour, func(time.Time) []sync.PathReport { return nil }, nil, sync.VerdictUnchecked, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := signed.Add(test.age)
			f := sync.Judge(view, test.reports(now), whole(view, test.packed), now)
			if f.Verdict != test.want || f.Sources != test.sources {
				t.Errorf("%q by %d sources instead of %q by %d: %+v", f.Verdict, f.Sources, test.want, test.sources, f)
			}
			if f.Forked || f.ClockBehind || f.Alarming() != (test.want == sync.VerdictFrozen) {
				t.Errorf("alarm: %+v", f)
			}
			if f.Age != test.age || !f.Signed.Equal(signed) {
				t.Errorf("age %v of %v", f.Age, f.Signed)
			}
		})
	}
}

// TestSources: what can fall together counts as one.
func TestSources(t *testing.T) {
	view := viewOf(t, published(t, 1))
	now := view.Head().Time.Add(time.Hour)
	var reports []sync.PathReport
	for i, p := range []struct {
		kind, name string
		want       int // sources, with this and all before it
	}{
		{transport.KindQUIC, "relay 192.0.2.1:443 quic", 1},
		{transport.KindTCP, "relay 192.0.2.1:443 tcp", 1},
		{transport.KindTCP, "relay 192.0.2.1:61001 tcp", 1},
		{transport.KindQUIC, "relay [2001:db8::1]:443 quic", 2},
		{transport.KindGateway, "gateway 192.0.2.1:8080", 2},
		{transport.KindGateway, "gateway ipfs.example", 3},
		{transport.KindDNS, "dns n.example via 192.0.2.53:53", 4},
		{transport.KindDNS, "dns n.example via 198.51.100.53:53", 4},
		{transport.KindDNS, "dns m.example via 192.0.2.53:53", 5},
		{transport.KindIPFS, "ipfs peer AbCdEf", 6},
		{transport.KindIPFS, "ipfs peer GhIjKl", 6},
		{transport.KindFile, "file", 6}, // it can't know what has come out since
		{transport.KindFile, "stick", 6},
		{"strange", "", 7},
	} {
		reports = append(reports, seen(p.kind, p.name, 1, now))
		if f := sync.Judge(view, reports, whole(view, nil), now); f.Sources != p.want || f.Answered != p.want {
			t.Errorf("%d, with %q: %d sources, %d answered, want %d", i, p.name, f.Sources, f.Answered, p.want)
		}
	}
}

// TestSeveralSources: what depends on two things is independent only of what depends on
// neither of them.
func TestSeveralSources(t *testing.T) {
	view := viewOf(t, published(t, 1))
	now := view.Head().Time.Add(time.Hour)
	for _, c := range []struct {
		sources []string
		want    int
	}{
		{[]string{"relay a", "name server x\nrelay a"}, 1},
		{[]string{"name server x\nrelay a", "relay a"}, 1},
		{[]string{"relay a", "relay b", "resolvers\nrelay a", "resolvers\nrelay b"}, 2},
		{[]string{"resolvers\nrelay a", "resolvers\nrelay b"}, 1},
		{[]string{"resolvers\nrelay a", "relay b", "resolvers"}, 2},
		{[]string{"relay a", "resolvers\nrelay b"}, 2},
	} {
		var reports []sync.PathReport
		for i, s := range c.sources {
			r := seen(transport.KindDNS, fmt.Sprint("path ", i), 1, now)
			r.Source = s
			reports = append(reports, r)
		}
		if f := sync.Judge(view, reports, whole(view, nil), now); f.Sources != c.want || f.Answered != c.want {
			t.Errorf("%q: %d sources, %d answered, want %d", c.sources, f.Sources, f.Answered, c.want)
		}
	}
}

// TestFileIsNoSource: a file says where the news is from, and neither that it is
// the newest nor that anybody can be reached.
func TestFileIsNoSource(t *testing.T) {
	view := viewOf(t, published(t, 2))
	now := view.Head().Time.Add(2 * time.Hour)
	relay := func(head uint64, at time.Time) sync.PathReport {
		return seen(transport.KindQUIC, "relay 192.0.2.1:443 quic", head, at)
	}
	file := func(head uint64) sync.PathReport { return seen(transport.KindFile, "file", head, now) }
	down := relay(2, now.Add(-5*time.Hour))
	down.State, down.At = "failed", now.Add(-time.Minute)
	torn := file(0)
	torn.State, torn.Seen = "failed", time.Time{}
	other := file(2)
	other.Tree = "0123456789abcdef"
	for name, c := range map[string]struct {
		reports []sync.PathReport
		want    sync.Verdict
		checked time.Duration // before now, -1 for never
		file    bool
	}{
		"a file alone":                    {[]sync.PathReport{file(2)}, sync.VerdictUnchecked, -1, true},
		"a relay, then the same edition":  {[]sync.PathReport{relay(2, now.Add(-5*time.Minute)), file(2)}, sync.VerdictOneSource, 5 * time.Minute, true},
		"a relay since":                   {[]sync.PathReport{file(2), relay(2, now)}, sync.VerdictOneSource, 0, false},
		"yesterday's relay":               {[]sync.PathReport{relay(2, now.Add(-24*time.Hour)), file(2)}, sync.VerdictUnchecked, 24 * time.Hour, true},
		"nobody can be reached":           {[]sync.PathReport{down, file(2)}, sync.VerdictUnreached, 5 * time.Hour, true},
		"nobody ever could":               {[]sync.PathReport{failed(transport.KindDNS, "dns n.example", now.Add(-time.Hour)), file(2)}, sync.VerdictUnreached, -1, true},
		"newer than what the relay shows": {[]sync.PathReport{relay(1, now.Add(-time.Minute)), file(2)}, sync.VerdictNothingNewer, time.Minute, true},
		"an older one":                    {[]sync.PathReport{relay(2, now), file(1)}, sync.VerdictOneSource, 0, false},
		"of another history":              {[]sync.PathReport{relay(2, now.Add(-time.Minute)), other}, sync.VerdictOneSource, time.Minute, false},
		"one that names a newer edition":  {[]sync.PathReport{relay(2, now.Add(-time.Minute)), file(3)}, sync.VerdictBehind, time.Minute, false},
		"one that can't be read":          {[]sync.PathReport{relay(2, now.Add(-time.Hour)), torn}, sync.VerdictOneSource, time.Hour, false},
	} {
		f := sync.Judge(view, c.reports, whole(view, nil), now)
		if f.Verdict != c.want || f.Checked.IsZero() != (c.checked < 0) || c.checked >= 0 && now.Sub(f.Checked) != c.checked || f.File.IsZero() == c.file {
			t.Errorf("%s: %+v; want %q", name, f, c.want)
		}
	}
}

func TestJudgeBeforeTheFirstHead(t *testing.T) {
	c := published(t, 1)
	view := channel.NewView(c.Invite(channel.Places{}))
	now := c.Newest().Head.Time
	if f := sync.Judge(view, nil, whole(view, nil), now); f.Verdict != sync.VerdictNothing || f.Alarming() {
		t.Errorf("%+v", f)
	}
	down := []sync.PathReport{failed(transport.KindQUIC, "relay 192.0.2.1:443 quic", now)}
	if f := sync.Judge(view, down, whole(view, nil), now); f.Verdict != sync.VerdictUnreached || !f.Checked.IsZero() {
		t.Errorf("%+v", f)
	}
}

func TestJudgeClock(t *testing.T) {
	view := viewOf(t, published(t, 1))
	signed := view.Head().Time
	for _, c := range []struct {
		off          time.Duration
		behind, off2 bool
	}{
		{-3 * 365 * 24 * time.Hour, true, false},
		{-time.Hour, true, false},
		{-time.Minute, false, false},
		{time.Hour, false, false},
		{3 * 365 * 24 * time.Hour, false, true},
	} {
		f := sync.Judge(view, nil, whole(view, nil), signed.Add(c.off))
		if f.ClockBehind != c.behind || f.ClockOff != c.off2 || f.Age < 0 {
			t.Errorf("%v: %+v", c.off, f)
		}
	}
}

func TestJudgeFork(t *testing.T) {
	ours := published(t, 1)
	theirs := ours.Fork()
	history(ours, 1)
	history(theirs, 1)
	view := viewOf(t, ours)
	consider(t, view, theirs)
	now := view.Head().Time.Add(time.Hour)
	if f := sync.Judge(view, []sync.PathReport{seen(transport.KindFile, "file", 2, now)}, whole(view, nil), now); !f.Forked || !f.Alarming() {
		t.Errorf("%+v", f)
	}
}

// whole is the news of all that a view knows of, packed at these times.
func whole(v *channel.View, packed []time.Time) sync.Shown {
	return sync.Shown{Size: v.Size(), Packed: packed}
}

// TestShown: a channel's rhythm is read from the front page that is here.
func TestShown(t *testing.T) {
	c := published(t, 1)
	r := newReader(t, c, transporttest.NewMemory(t, c.Editions()...).Path("p"))
	shelf := sync.Shelf{Library: r.lib}
	if got, err := shelf.Shown(t.Context(), c.ID()); err != nil || got.Size != 0 || len(got.Packed) != 0 {
		t.Fatalf("before anything is here: %v, %v", got, err)
	}
	history(c, 4)
	r.over(transporttest.NewMemory(t, c.Editions()...).Path("p")).sync()
	got, err := shelf.Shown(t.Context(), c.ID())
	if err != nil || got.Size != 5 {
		t.Fatal(got.Size, err)
	}
	var want []time.Time
	for _, e := range c.Editions() {
		want = append(want, e.Head.Date)
	}
	if len(got.Packed) == 0 || !got.Packed[0].Equal(c.Newest().Head.Date) {
		t.Error("the newest is not the first")
	}
	slices.SortFunc(got.Packed, time.Time.Compare)
	if !slices.EqualFunc(got.Packed, want, time.Time.Equal) {
		t.Errorf("packed %v instead of %v", got.Packed, want)
	}
	if _, err := shelf.Shown(t.Context(), channel.ID{}); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("an unknown channel: %v", err)
	}
}

// TestWithheldFrontPage: who is shown the newest head and not what it names does not have
// the newest news, and is told so; after a while with an alarm.
func TestWithheldFrontPage(t *testing.T) {
	for _, more := range []int{1, 2} {
		c := published(t, 1)
		was := c.Newest()
		history(c, more)
		synctest.Test(t, func(t *testing.T) {
			r := newReader(t, c, transporttest.NewMemory(t, was).Path("start"))
			now := was.Head.Time.Add(time.Hour)
			r.e.Now = func() time.Time { return now }
			r.sync()
			var ps []transport.Path
			for i := range 2 {
				p := plain(newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path(fmt.Sprintf("relay 192.0.2.%d:443 quic", i+1), transport.KindQUIC))
				p.Blocks = nil
				ps = append(ps, p)
			}
			for i, age := range []time.Duration{time.Hour, 30 * 24 * time.Hour} {
				now = was.Head.Time.Add(age)
				want := sync.VerdictBehind
				if more == 1 && i == 1 {
					want = sync.VerdictFrozen // for one more the head was taken, and what it names is missed
				}
				_, _ = r.over(ps...).e.Sync(t.Context(), c.ID())
				reports, err := sync.Reports(t.Context(), r.lib, c.ID())
				if err != nil {
					t.Fatal(err)
				}
				shown, err := (sync.Shelf{Library: r.lib}).Shown(t.Context(), c.ID())
				if err != nil || shown.Size != was.Head.Size {
					t.Fatal(shown, err)
				}
				if f := sync.Judge(r.view(), reports, shown, now); f.Verdict != want || more == 1 && !f.Packed.Equal(was.Head.Date) {
					t.Errorf("%d more, %v later: %q, packed %v", more, age, f.Verdict, f.Packed)
				}
			}
		})
	}
}

// TestReportsForFreshness: what a path showed is known as long as nothing newer
// is known of it, and "nothing newer" shows what was asked about.
func TestReportsForFreshness(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		now := c.Newest().Head.Time.Add(time.Hour)
		r := newReader(t, c, m.Path("p"))
		r.e.Now = func() time.Time { return now }
		look := func(what string, seen time.Time) {
			t.Helper()
			reports, err := sync.Reports(t.Context(), r.lib, c.ID())
			if err != nil || len(reports) != 1 {
				t.Fatalf("%s: reports %+v, %v", what, reports, err)
			}
			if p := reports[0]; p.Head != 1 || !p.Seen.Equal(seen) || !p.HeadTime.Equal(c.Newest().Head.Time) {
				t.Errorf("%s: %+v; want head 1, seen %v", what, p, seen)
			}
		}
		r.sync()
		look("a head", now)
		now = now.Add(time.Hour)
		r.sync()
		look("nothing newer", now)
		answered := now
		now = now.Add(time.Hour)
		gone := m.Path("p")
		gone.Heads = downHeads{}
		r.over(gone).fails(sync.ErrNoPath)
		look("no answer", answered)
	})
}

type downHeads struct{}

func (downHeads) Head(context.Context, channel.ID, uint64) ([]byte, error) { return nil, errDown }

func (downHeads) RootNote(context.Context, channel.ID, uint64) ([]byte, error) { return nil, errDown }

func (downHeads) Grant(context.Context, channel.ID, string) ([]byte, error) { return nil, errDown }

var errDown = errors.New("connection refused")

// What a path did is an old story once its source has done as it should by another
// one; until it does it again.
func TestPast(t *testing.T) {
	c := published(t, 2)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		const late, now = true, false
		from := func(old bool, name, source string, patience time.Duration) transport.Path {
			p := m.Path(name)
			p.Kind, p.Source, p.Hints.Patience = transport.KindTCP, source, patience
			if old {
				p.Heads = oldHeads{p.Heads, c.Editions()[0].Head.Text()}
			}
			return p
		}
		r := newReader(t, c, from(now, "stranger", "other", 0))
		r.sync()
		for _, tt := range []struct {
			what        string
			paths       []transport.Path
			older, past bool
		}{
			{"alone", []transport.Path{from(late, "small", "relay", 0)}, true, false},
			{"beside a stranger", []transport.Path{from(now, "stranger", "other", 0), from(late, "small", "relay", time.Hour)}, true, false},
			{"beside its like, which is late too", []transport.Path{from(late, "large", "relay", 0), from(late, "small", "relay", time.Hour)}, true, false},
			{"beside its like, which is not", []transport.Path{from(now, "large", "relay", 0), from(late, "small", "relay", time.Hour)}, true, true},
			{"still so", []transport.Path{from(now, "stranger", "other", 0), from(late, "small", "relay", time.Hour)}, true, true},
			{"alone again", []transport.Path{from(late, "small", "relay", 0)}, true, false},
		} {
			r.over(tt.paths...).sync()
			reports, err := sync.Reports(t.Context(), r.lib, c.ID())
			i := slices.IndexFunc(reports, func(p sync.PathReport) bool { return p.Name == "small" })
			if err != nil || i < 0 {
				t.Fatalf("%s: %+v, %v", tt.what, reports, err)
			}
			if p := reports[i]; p.Older() != tt.older || p.Past != tt.past {
				t.Errorf("%s: %+v", tt.what, p)
			}
		}
	})
}

// oldHeads shows one head, whatever is held.
type oldHeads struct {
	transport.Heads
	head []byte
}

func (h oldHeads) Head(context.Context, channel.ID, uint64) ([]byte, error) { return h.head, nil }

// Who lied is not excused by saying that there is nothing newer, but by what is true.
func TestLiesArePast(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		from := func(name string, patience time.Duration, heads transport.Heads) transport.Path {
			p := m.Path(name)
			p.Kind, p.Source, p.Hints.Patience = transport.KindTCP, "relay", patience
			if heads != nil {
				p.Heads = heads
			}
			return p
		}
		liar := oldHeads{m.Path("liar").Heads, []byte("no head")}
		r := newReader(t, c, from("honest", 0, nil))
		r.sync()
		past := func() bool {
			t.Helper()
			reports, err := sync.Reports(t.Context(), r.lib, c.ID())
			i := slices.IndexFunc(reports, func(p sync.PathReport) bool { return p.Name == "liar" })
			if err != nil || i < 0 || reports[i].State != "lied" {
				t.Fatalf("%+v, %v", reports, err)
			}
			return reports[i].Past
		}
		_, _ = r.over(from("liar", 0, liar)).e.Sync(t.Context(), c.ID())
		if past() {
			t.Error("at once")
		}
		both := []transport.Path{from("honest", 0, nil), from("liar", time.Hour, liar)}
		r.over(both...).sync()
		if past() {
			t.Error("by nothing newer")
		}
		e := c.Publish(transporttest.Articles(1)...)
		if err := m.Publish(t.Context(), e.Source(), nil); err != nil {
			t.Fatal(err)
		}
		r.over(both...).sync()
		if !past() {
			t.Error("not by news")
		}
	})
}

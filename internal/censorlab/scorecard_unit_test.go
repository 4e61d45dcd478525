package censorlab

import (
	"strings"
	"testing"
	"time"

	"tamizdat/internal/censor"
)

func outcomes(headlines ...time.Duration) []Outcome {
	var out []Outcome
	for _, d := range headlines {
		o := Outcome{By: map[string]string{"headlines": "quic"}}
		if d > 0 {
			o.Head, o.Headlines, o.Text, o.Images, o.Newest = d, d, d+RTT, d+2*RTT, true
		}
		out = append(out, o)
	}
	return out
}

func TestRow(t *testing.T) {
	open := censor.Scenario{Name: "x", Open: []censor.Way{censor.ViaQUIC}}
	alone := map[string][]Outcome{"quic": outcomes(2*RTT, 2*RTT, 2*RTT), "dns": outcomes(0, 0, 3*RTT)}
	for _, c := range []struct {
		name string
		all  []Outcome
		ok   bool
	}{
		{"as fast as alone", outcomes(2*RTT, 2*RTT, 3*RTT), true},
		{"a quarter slower", outcomes(5*RTT/2, 5*RTT/2, 5*RTT/2), true},
		{"more than a quarter slower", outcomes(3*RTT, 3*RTT, 3*RTT), false},
		{"one waits in vain", outcomes(2*RTT, 2*RTT, 0), false},
	} {
		r := NewRow(open, c.all, alone, nil)
		if r.OK() != c.ok {
			t.Errorf("%s: %s", c.name, r.verdict())
		}
	}
	twice := outcomes(2*RTT, 2*RTT, 2*RTT)
	twice[0].Twice, twice[0].Blocks = 50, 1000
	if r := NewRow(open, twice, alone, nil); r.OK() {
		t.Error("5 % twice is no failure")
	}
	lossyLine := open
	lossyLine.Line.LossUp = 0.1
	if r := NewRow(lossyLine, twice, alone, nil); !r.OK() {
		t.Errorf("5 %% twice on a bad line: %s", r.verdict())
	}
	ruled := open
	ruled.Rules = []censor.Rule{censor.DropRandom{}}
	if r := NewRow(ruled, outcomes(2*RTT), alone, nil); !r.Untouched {
		t.Error("a censor who did nothing is not noticed")
	}
	notYet := open
	notYet.NotYet = "something to be built"
	if r := NewRow(notYet, outcomes(2*RTT, 2*RTT, 2*RTT), alone, nil); r.OK() {
		t.Error("not yet counts as failing")
	}
}

// Where servers lie each reader meets another lie: no median may hide one.
func TestRowOfLies(t *testing.T) {
	liars := censor.Scenario{Name: "x", Far: censor.Far{Relay: []censor.Evil{censor.EvilFlip, censor.EvilTrickle}}}
	alone := map[string][]Outcome{"quic": outcomes(2*RTT, 2*RTT, 2*RTT)}
	all := outcomes(2*RTT, 3*RTT, 2*RTT)
	all[1].Lies = "relay trickle"
	r := NewRow(liars, all, alone, nil)
	if r.Headlines != 2 || r.Slowest != 3 || r.SlowestAllowed != 2.5 {
		t.Errorf("median %.1f, slowest %.1f of %.1f", r.Headlines, r.Slowest, r.SlowestAllowed)
	}
	if r.OK() || !strings.Contains(r.Why, "relay trickle") || !strings.Contains(Card{Singles: []Row{r}}.String(), r.Why) {
		t.Errorf("one reader who waited too long: %s", r.verdict())
	}
	if r := NewRow(censor.Scenario{Name: "x"}, all, alone, nil); !r.OK() || r.SlowestAllowed != 0 {
		t.Errorf("the same where nobody lies: %s", r.verdict())
	}
	if r := NewRow(liars, outcomes(2*RTT, 5*RTT/2, 2*RTT), alone, nil); !r.OK() {
		t.Errorf("a quarter more: %s", r.verdict())
	}
	// On a bad line the slowest is held against the slowest with the best way alone.
	unlucky := map[string][]Outcome{"quic": outcomes(2*RTT, 2*RTT, 4*RTT)}
	if r := NewRow(liars, all, unlucky, nil); !r.OK() || r.SlowestAllowed != 5 {
		t.Errorf("with %.1f allowed: %s", r.SlowestAllowed, r.verdict())
	}
	if r := NewRow(liars, outcomes(2*RTT, 6*RTT, 2*RTT), unlucky, nil); r.OK() {
		t.Error("6 round trips where 5 are allowed")
	}
	if r.Late != nil || r.Worst != nil || r.Chance {
		t.Errorf("%+v", r)
	}
}

func TestWorse(t *testing.T) {
	was := Row{
		Head: 2, Headlines: 2, Text: 10, Images: Never, Good: 9, Seeds: 9, TwiceLimit: 0.03, Alone: Never,
		Bytes: Bytes{Up: 40_000, Down: 400_000, Twice: 0.02},
	}
	type change func(r *Row)
	with := func(r Row, fs ...change) Row {
		for _, f := range fs {
			f(&r)
		}
		return r
	}
	good := func(n, of int) change { return func(r *Row) { r.Good, r.Seeds = n, of } }
	headlines := func(v float64) change { return func(r *Row) { r.Headlines = v } }
	up := func(n int64) change { return func(r *Row) { r.Up = n } }
	down := func(n int64) change { return func(r *Row) { r.Down = n } }
	again := func(v float64) change { return func(r *Row) { r.Twice = v } }
	failing := func(r *Row) { r.Why = "headlines took too long" }
	slow := func(r *Row) { r.Alone, r.Allowed, r.Headlines = 1, 1.3, 1.4 }
	// The worst of the readers of a row.
	varied := func(r *Row) {
		r.Late, r.Worst = &[4]float64{3, 4, 12, Never}, &Bytes{Up: 80_000, Down: 500_000, Twice: 0.1}
		r.TwiceLimit = 0.15
	}
	chance := func(r *Row) { varied(r); r.Chance = true }

	for _, c := range []struct {
		what     string
		was, now Row
		worse    bool
	}{
		{"the same", was, was, false},
		{"a tenth and the rounding", was, with(was, headlines(2.3)), false},
		{"headlines later", was, with(was, headlines(2.4)), true},
		{"texts later", was, with(was, func(r *Row) { r.Text = 11.2 }), true},
		{"no texts", was, with(was, func(r *Row) { r.Text = Never }), true},
		{"pictures at last", was, with(was, func(r *Row) { r.Images = 50 }), false},
		{"it fails", was, with(was, failing), true},
		{"it failed before", with(was, failing), with(was, failing), false},

		{"one reader less", with(was, failing), with(was, failing, good(8, 9)), true},
		{"the same share of fewer", with(was, failing, good(6, 9)), with(was, failing, good(2, 3)), false},
		{"more readers", with(was, failing, good(6, 9)), with(was, failing, good(7, 9)), false},
		{"readers were not counted", with(was, failing, good(0, 0)), with(was, failing, good(5, 9)), false},

		{"a tenth more down", was, with(was, down(439_000)), false},
		{"more down", was, with(was, down(441_000)), true},
		{"a tenth more up, and a little", was, with(was, up(48_000)), false},
		{"more up", was, with(was, up(48_100)), true},
		{"less", was, with(was, up(1), down(1)), false},
		{"over the limit of twice", with(was, failing), with(was, failing, again(0.031)), true},
		{"within the limit", with(was, again(0)), with(was, again(0.03)), false},
		{"a little more over the limit", with(was, failing, again(0.10)), with(was, failing, again(0.109)), false},
		{"more over the limit", with(was, failing, again(0.10)), with(was, failing, again(0.112)), true},

		{"as late as the slowest", with(was, chance), with(was, chance, headlines(4.4)), false},
		{"later than the slowest", with(was, chance), with(was, chance, headlines(4.6)), true},
		{"as much as the worst", with(was, chance), with(was, chance, up(88_000), down(549_000)), false},
		{"more down than the worst", with(was, chance), with(was, chance, down(551_000)), true},
		{"more up than the worst", with(was, chance), with(was, chance, up(89_000)), true},
		{"twice within the limit", with(was, chance), with(was, chance, again(0.149)), false},
		{"twice over it", with(was, chance), with(was, chance, again(0.151)), true},
		{"it fails by chance", with(was, chance), with(was, chance, failing), false},
		{"one unlucky reader more", with(was, chance), with(was, chance, good(8, 9)), false},
		{"two", with(was, chance), with(was, chance, good(7, 9)), true},
		{"the same of more readers", with(was, chance, good(8, 9)), with(was, chance, good(21, 27)), false},
		{"fewer of more readers", with(was, chance, good(8, 9)), with(was, chance, good(20, 27)), true},

		{"a lie that is told by the seed", with(was, varied), with(was, varied, failing), true},
		{"it keeps a reader from the news", with(was, varied, failing), with(was, varied, failing, good(8, 9)), true},
		{"a lie costs more", with(was, varied), with(was, varied, headlines(2.4)), true},
		{"too slow by chance", with(was, chance), with(was, chance, slow), true},
	} {
		if got := c.now.Worse(c.was); (got != "") != c.worse {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		ds   []time.Duration
		want float64
	}{
		{nil, Never},
		{[]time.Duration{0}, Never},
		{[]time.Duration{0, RTT, 2 * RTT}, 2},
		{[]time.Duration{0, 0, RTT}, Never},
		{[]time.Duration{104 * time.Millisecond}, 1},
		{[]time.Duration{106 * time.Millisecond}, 1.1},
	} {
		if got := median(c.ds); got != c.want {
			t.Errorf("%v: %v, want %v", c.ds, got, c.want)
		}
	}
}

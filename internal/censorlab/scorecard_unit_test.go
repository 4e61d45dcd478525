package censorlab

import (
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

func TestWorse(t *testing.T) {
	was := Row{Head: 2, Headlines: 2, Text: 10, Images: Never}
	for _, c := range []struct {
		now   Row
		worse bool
	}{
		{was, false},
		{Row{Head: 2, Headlines: 2.3, Text: 10, Images: Never}, false}, // 10 % and the rounding
		{Row{Head: 2, Headlines: 2.4, Text: 10, Images: Never}, true},
		{Row{Head: 2, Headlines: 2, Text: 11.2, Images: Never}, true},
		{Row{Head: 2, Headlines: 2, Text: Never, Images: Never}, true},
		{Row{Head: 2, Headlines: 2, Text: 10, Images: 50}, false},
		{Row{Head: 2, Headlines: 2, Text: 10, Images: Never, Why: "some reader got nothing"}, true},
	} {
		if got := c.now.Worse(was); (got != "") != c.worse {
			t.Errorf("%+v: %q", c.now, got)
		}
	}
	late := was
	late.Late = &[4]float64{3, 4, 12, Never}
	if w := (&Row{Head: 3.3, Headlines: 4.4, Text: 13, Images: Never}).Worse(late); w != "" {
		t.Errorf("within what chance does: %s", w)
	}
	if w := (&Row{Head: 3, Headlines: 4.6, Text: 12, Images: Never}).Worse(late); w == "" {
		t.Error("beyond what chance does")
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

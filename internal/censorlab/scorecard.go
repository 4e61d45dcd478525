package censorlab

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tamizdat/internal/censor"
	"tamizdat/transport"
)

// Never stands for something that never arrived.
const Never = -1

// Card is the whole scorecard.
type Card struct {
	Singles []Row   `json:"singles"`
	Pairs   []Row   `json:"pairs"`
	Apart   []Apart `json:"apart"`
}

// Row is one scenario's line of the scorecard. Times are medians over seeds in
// round trips, rounded to 0.1, Never if more than half of the readers waited in
// vain.
type Row struct {
	Scenario string `json:"scenario"`
	// By is the way that brought the headlines to most readers, ImagesBy the
	// pictures.
	By       string `json:"by,omitempty"`
	ImagesBy string `json:"images_by,omitempty"`

	Head      float64 `json:"head"`
	Headlines float64 `json:"headlines"`
	Text      float64 `json:"text"`
	Images    float64 `json:"images"`
	// Slowest is the time to headlines of the slowest reader, Never if one waited in
	// vain.
	Slowest float64 `json:"slowest,omitempty"`
	// Where it is chance what readers meet, Late bounds the same four (see upper) and
	// Worst are the most of the bytes below: what the median of another run stays
	// below unless something has changed.
	Late  *[4]float64 `json:"late,omitempty"`
	Worst *Bytes      `json:"worst,omitempty"`
	Bytes

	// Alone is the time to headlines of the best way when it is the only one the
	// reader has, and which it is; Allowed is what we may take (DESIGN). Where
	// servers lie it is the best way to an honest one, and the slowest reader may
	// take SlowestAllowed.
	Alone          float64 `json:"alone"`
	AloneBy        string  `json:"alone_by,omitempty"`
	Allowed        float64 `json:"allowed"`
	SlowestAllowed float64 `json:"slowest_allowed,omitempty"`

	// Models are the stand-ins, in the order of Models: time to headlines and to
	// texts.
	Models [][2]float64 `json:"models"`

	// Seeds that ended with everything that must arrive, of how many.
	Good  int `json:"good"`
	Seeds int `json:"seeds"`
	// Chance: it is drawn what a reader meets, and not only given by the seed.
	Chance bool `json:"chance,omitempty"`
	// TwiceLimit is what Twice may be.
	TwiceLimit float64 `json:"twice_limit,omitempty"`
	// Untouched: nothing that we send is what the censor looks for.
	Untouched bool `json:"untouched,omitempty"`
	// NotYet names the counter-measure that is still to come.
	NotYet string `json:"not_yet,omitempty"`
	// Why says, for a row that fails, what is wrong with it.
	Why string `json:"why,omitempty"`

	short []uint64 // seeds of the readers who did not get everything
}

// Bytes are what readers spent: Up and Down on their line; Twice is how much of
// the blocks came more than once, Junk what liars sent instead, as shares of them.
type Bytes struct {
	Up    int64   `json:"up"`
	Down  int64   `json:"down"`
	Twice float64 `json:"twice"`
	Junk  float64 `json:"junk,omitempty"`
}

// OK reports whether the row is as it must be.
func (r *Row) OK() bool { return r.Why == "" && r.NotYet == "" }

// rtts turns a duration into round trips, rounded to 0.1.
func rtts(d time.Duration) float64 {
	return math.Round(float64(d)/float64(RTT)*10) / 10
}

// median of durations, of which 0 means never.
func median(ds []time.Duration) float64 {
	if len(ds) == 0 {
		return Never
	}
	s := slices.Clone(ds)
	for i, d := range s {
		if d == 0 {
			s[i] = math.MaxInt64
		}
	}
	slices.Sort(s)
	m := s[len(s)/2]
	if m == math.MaxInt64 {
		return Never
	}
	return rtts(m)
}

// slowest of durations.
func slowest(ds []time.Duration) float64 {
	if slices.Contains(ds, 0) {
		return Never
	}
	return rtts(slices.Max(ds))
}

// upper is what the median of other draws stays below in 999 cases of 1,000: so
// many readers behind the middle one.
func upper(ds []time.Duration) float64 {
	s := slices.Clone(ds)
	for i, d := range s {
		if d == 0 {
			s[i] = math.MaxInt64
		}
	}
	slices.Sort(s)
	n := float64(len(s))
	d := s[min(len(s)-1, int(math.Ceil(n/2+1.65*math.Sqrt(n))))]
	if d == math.MaxInt64 {
		return Never
	}
	return rtts(d)
}

func medianInt(ns []int64) int64 {
	s := slices.Clone(ns)
	slices.Sort(s)
	return s[len(s)/2]
}

func each[S, T any](os []S, f func(S) T) []T {
	out := make([]T, len(os))
	for i, o := range os {
		out[i] = f(o)
	}
	return out
}

// most returns the commonest non-empty string.
func most(ss []string) string {
	n := map[string]int{}
	best := ""
	for _, s := range ss {
		if s == "" {
			continue
		}
		if n[s]++; n[s] > n[best] || best == "" || n[s] == n[best] && s < best {
			best = s
		}
	}
	return best
}

// patience is how long the loud ways may have let the others go first.
func patience(way string) float64 {
	if way == transport.KindDNS {
		return rtts(300 * time.Millisecond)
	}
	return 0
}

// wide reports whether a way carries pictures.
func wide(way string) bool { return way != transport.KindDNS }

// times are what a row gives of an outcome.
var times = [4]func(Outcome) time.Duration{
	func(o Outcome) time.Duration { return o.Head },
	func(o Outcome) time.Duration { return o.Headlines },
	func(o Outcome) time.Duration { return o.Text },
	func(o Outcome) time.Duration { return o.Images },
}

// NewRow makes a row of what the readers of a scenario got, together and with
// each way alone (where servers lie: each way to the honest ones).
func NewRow(s censor.Scenario, all []Outcome, alone map[string][]Outcome, models [][]Outcome) Row {
	r := Row{
		Scenario: s.Name, NotYet: s.NotYet, Seeds: len(all), Alone: Never, Allowed: Never,
		By:        most(each(all, func(o Outcome) string { return o.By["headlines"] })),
		ImagesBy:  most(each(all, func(o Outcome) string { return o.By["images"] })),
		Head:      median(each(all, times[0])),
		Headlines: median(each(all, times[1])),
		Text:      median(each(all, times[2])),
		Images:    median(each(all, times[3])),
		Slowest:   slowest(each(all, times[1])),
		Bytes: Bytes{
			Up:    medianInt(each(all, func(o Outcome) int64 { return o.Up })),
			Down:  medianInt(each(all, func(o Outcome) int64 { return o.Down })),
			Twice: share(all, func(o Outcome) int64 { return o.Twice }),
			Junk:  share(all, func(o Outcome) int64 { return o.Junk }),
		},
		Chance: chance(s), TwiceLimit: twiceLimit(s),
	}
	if r.Chance {
		r.Late, r.Worst = &[4]float64{}, &Bytes{}
		for i, f := range times {
			r.Late[i] = upper(each(all, f))
		}
		for _, o := range all {
			r.Worst.Up, r.Worst.Down = max(r.Worst.Up, o.Up), max(r.Worst.Down, o.Down)
		}
	}
	pictures := false
	for way, os := range alone {
		if m := median(each(os, func(o Outcome) time.Duration { return o.Headlines })); m != Never {
			pictures = pictures || wide(way)
			if r.Alone == Never || m+patience(way)/1.25 < r.Alone+patience(r.AloneBy)/1.25 || m == r.Alone && way < r.AloneBy {
				r.Alone, r.AloneBy = m, way
			}
		}
	}
	r.Allowed = allowed(r.Alone, r.AloneBy)
	if lying(s) && r.Alone != Never {
		r.SlowestAllowed = allowed(slowest(each(alone[r.AloneBy], times[1])), r.AloneBy)
	}
	for _, os := range models {
		r.Models = append(r.Models, [2]float64{
			median(each(os, func(o Outcome) time.Duration { return o.Headlines })),
			median(each(os, func(o Outcome) time.Duration { return o.Text })),
		})
	}
	for seed, o := range all {
		if o.Newest && o.Headlines > 0 && o.Text > 0 && (!pictures || o.Images > 0) {
			r.Good++
		} else {
			r.short = append(r.short, uint64(seed))
		}
	}
	r.Untouched = len(s.Rules) > 0 && !slices.ContainsFunc(all, func(o Outcome) bool { return o.Censored > 0 })
	r.Why = r.wrong(all)
	return r
}

// allowed is what we may take to headlines when the best way takes alone (DESIGN,
// section 9).
func allowed(alone float64, way string) float64 {
	if alone == Never {
		return Never
	}
	return math.Round(10*(1.25*alone+patience(way))) / 10
}

// share is a part of the blocks' bytes, rounded to a thousandth.
func share(all []Outcome, of func(Outcome) int64) float64 {
	var part, blocks int64
	for _, o := range all {
		part += of(o)
		blocks += o.Blocks
	}
	if blocks == 0 {
		return 0
	}
	return math.Round(1000*float64(part)/float64(blocks)) / 1000
}

// twiceLimit is what twice may be.
func twiceLimit(s censor.Scenario) float64 {
	if lossy(s) {
		return 0.15
	}
	return 0.03
}

// wrong says what the numbers to reach are missed by. all are the row's readers.
func (r *Row) wrong(all []Outcome) string {
	if r.Good < r.Seeds {
		return fmt.Sprintf("%d of %d readers got all of it", r.Good, r.Seeds)
	}
	return r.slow(all)
}

// slow is what is wrong with a row whose readers got everything. all may be nil.
func (r *Row) slow(all []Outcome) string {
	switch {
	case r.Alone != Never && r.Headlines > r.Allowed:
		return fmt.Sprintf("headlines took more than the allowed %.1f", r.Allowed)
	case r.SlowestAllowed > 0 && r.Slowest > r.SlowestAllowed:
		why := fmt.Sprintf("the slowest reader's headlines took %.1f, more than the allowed %.1f", r.Slowest, r.SlowestAllowed)
		if len(all) > 0 {
			last := slices.MaxFunc(all, func(a, b Outcome) int { return cmp.Compare(a.Headlines, b.Headlines) })
			if last.Lies != "" {
				why += " (" + last.Lies + ")"
			}
		}
		return why
	case r.Twice > r.TwiceLimit:
		return fmt.Sprintf("%.1f %% of the bytes came twice", 100*r.Twice)
	}
	return ""
}

// lossy reports whether packets are lost by chance: by the line, or by who polices
// it.
func lossy(s censor.Scenario) bool {
	return s.Line.LossUp > 0 || s.Line.LossDown > 0 || slices.ContainsFunc(s.Rules, func(r censor.Rule) bool {
		t, ok := r.(censor.Throttle)
		return ok && t.Lose > 0
	})
}

// lying reports whether servers lie. Relays and peers tell each reader another
// lie, by the seed: that is no chance.
func lying(s censor.Scenario) bool {
	return len(s.Far.Relay)+len(s.Far.Peer)+len(s.Far.Resolver) > 0
}

// chance reports whether it is drawn what a reader meets.
func chance(s censor.Scenario) bool {
	return lossy(s) || slices.ContainsFunc(s.Rules, func(r censor.Rule) bool {
		switch r := r.(type) {
		case censor.LyingResolver:
			return true
		case censor.Resolver:
			return r.Rate > 0
		}
		return false
	})
}

// cell writes round trips, and seconds if asked.
func cell(v float64) string {
	if v == Never {
		return "–"
	}
	return fmt.Sprintf("%.1f", v)
}

func seconds(v float64) string {
	if v == Never {
		return "–"
	}
	return fmt.Sprintf("%.2f s", v*RTT.Seconds())
}

// percent writes a share; what liars sent stands behind it.
func (b Bytes) percent() string {
	s := fmt.Sprintf("%.1f %%", 100*b.Twice)
	if b.Junk > 0 {
		s += fmt.Sprintf(" (lies %.1f %%)", 100*b.Junk)
	}
	return s
}

func kilobytes(n int64) string { return fmt.Sprintf("%d", (n+500)/1000) }

func (r *Row) verdict() string {
	switch {
	case r.NotYet != "":
		return "**not yet**: " + r.NotYet
	case r.Why != "":
		return "**fails**: " + r.Why
	}
	if r.Untouched {
		return "ok (what we send is not what it looks for)"
	}
	return "ok"
}

// String is docs/scorecard.md.
func (c Card) String() string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("\n## Scenarios\n\n")
	table(&b, c.Singles)
	b.WriteString("\n## What should not show\n\n")
	apart(&b, c.Apart)
	b.WriteString("\n## Pairs\n\nTwo scenarios at once; a pair that leaves no way open has no row.\n\n")
	table(&b, c.Pairs)
	good, not, bad := 0, 0, 0
	for _, r := range slices.Concat(c.Singles, c.Pairs) {
		switch {
		case r.NotYet != "":
			not++
		case r.Why != "":
			bad++
		default:
			good++
		}
	}
	for _, a := range c.Apart {
		if a.Wrong() == "" {
			good++
		} else {
			bad++
		}
	}
	fmt.Fprintf(&b, "\nOf %d rows %d are ok, %d wait for a counter-measure (not yet), %d fail.\n", good+not+bad, good, not, bad)
	return b.String()
}

// table writes rows as Markdown.
func table(b *strings.Builder, rows []Row) {
	b.WriteString("| scenario | brought by | head | headlines | slowest | text | images | headlines after | kB down / up | twice | best way alone | mirror site | IPNS over IPFS | DNS tunnel | |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|---|\n")
	for i := range rows {
		r := &rows[i]
		by := r.By
		if r.ImagesBy != "" && r.ImagesBy != r.By {
			by += ", images " + r.ImagesBy
		}
		alone := "–"
		if r.Alone != Never {
			alone = fmt.Sprintf("%.1f %s", r.Alone, r.AloneBy)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s | %s | %s | %s / %s | %s | %s |", r.Scenario, by,
			cell(r.Head), cell(r.Headlines), cell(r.Slowest), cell(r.Text), cell(r.Images), seconds(r.Headlines),
			kilobytes(r.Down), kilobytes(r.Up), r.percent(), alone)
		for _, m := range r.Models {
			fmt.Fprintf(b, " %s |", cell(m[0]))
		}
		fmt.Fprintf(b, " %s |\n", r.verdict())
	}
}

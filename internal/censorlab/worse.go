package censorlab

import (
	"cmp"
	"fmt"
)

// What a row may be worse by without anybody's caring: a tenth, and a little.
const (
	tenth      = 1.1
	littleTime = 0.1  // round trips, the rounding
	littleData = 8000 // bytes, one answer that was asked for on one more path
	littleLuck = 1. / 9
)

// Worse says how a row is worse than it was, "" if it is not by more than a
// tenth, and by more than the rounding, on top of the worst of its readers: the
// order of goroutines alone makes some of them slower. Where it is chance what
// readers meet, what they are allowed is not asked again, and one in nine more may
// have bad luck. What an older scorecard does not tell is not compared.
func (r *Row) Worse(than Row) string {
	if !r.Chance && than.OK() && !r.OK() {
		return cmp.Or(r.Why, "not yet: "+r.NotYet)
	}
	if r.Seeds > 0 && than.Seeds > 0 {
		now, was := float64(r.Good)/float64(r.Seeds), float64(than.Good)/float64(than.Seeds)
		if r.Chance {
			was -= littleLuck
		}
		if now < was-1e-9 {
			return fmt.Sprintf("%d of %d readers got all of it instead of %d of %d", r.Good, r.Seeds, than.Good, than.Seeds)
		}
	}
	was := [4]float64{than.Head, than.Headlines, than.Text, than.Images}
	if than.Late != nil {
		was = *than.Late
	}
	for i, now := range [4]float64{r.Head, r.Headlines, r.Text, r.Images} {
		what := [4]string{"head", "headlines", "text", "images"}[i]
		switch {
		case was[i] == Never:
		case now == Never:
			return what + " never came"
		case now > tenth*was[i]+littleTime:
			return fmt.Sprintf("%s came after %.1f instead of %.1f round trips", what, now, was[i])
		}
	}
	switch {
	case than.Worst != nil:
		return r.heavier(*than.Worst)
	case than.Late != nil: // an older scorecard
		return ""
	}
	return r.heavier(than.Bytes)
}

// heavier says what cost more than it did.
func (r *Row) heavier(than Bytes) string {
	more := func(now, was int64) bool { return float64(now) > tenth*float64(was) && now > was+littleData }
	switch {
	case more(r.Down, than.Down):
		return fmt.Sprintf("%d kB down instead of %d", r.Down/1000, than.Down/1000)
	case more(r.Up, than.Up):
		return fmt.Sprintf("%d kB up instead of %d", r.Up/1000, than.Up/1000)
	case r.Twice > r.TwiceLimit && r.Twice > tenth*than.Twice:
		return fmt.Sprintf("%.1f %% of the bytes came twice instead of %.1f", 100*r.Twice, 100*than.Twice)
	}
	return ""
}

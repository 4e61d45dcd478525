package censorlab

import "fmt"

// What a row may be worse by without anybody's caring: a tenth, and a little.
const (
	tenth      = 1.1
	littleTime = 0.1  // round trips, the rounding
	littleData = 8000 // bytes, one answer that was asked for on one more path
	littleLuck = 1. / 9
)

// Worse says how a row is worse than it was, "" if it is not by more than a tenth
// and the rounding. Where it is chance what readers meet, that is a tenth more than
// what the median of another draw may be (Late, Worst), and one reader in nine more
// may have bad luck.
func (r *Row) Worse(than Row) string {
	if than.OK() {
		switch {
		case r.NotYet != "":
			return "not yet: " + r.NotYet
		case !r.Chance && r.Why != "":
			return r.Why
		case r.Chance && r.slow(nil) != "":
			return r.slow(nil)
		}
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
	was, bytes := [4]float64{than.Head, than.Headlines, than.Text, than.Images}, than.Bytes
	if r.Chance && than.Late != nil && than.Worst != nil {
		was, bytes = *than.Late, *than.Worst
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
	return r.heavier(bytes)
}

// Hold completes a row for which nothing but the reader was played: what is allowed
// is what was allowed before.
func (r *Row) Hold(than Row) {
	if r.Alone != Never {
		return
	}
	r.Alone, r.AloneBy, r.Allowed, r.SlowestAllowed = than.Alone, than.AloneBy, than.Allowed, than.SlowestAllowed
	r.Why = r.wrong(nil)
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

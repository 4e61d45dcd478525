package sync

import (
	"math"
	"slices"
	"time"
)

// muchLater is so late that a batch is not left to a path that has become slow
// because much of it is here.
const muchLater = 10 * time.Second

// glance is what a board knows of its paths at one moment: who would bring a want
// soonest, and who is late with one.
type glance struct {
	now   time.Time
	paths []chance
	// usual is the mean rate of what is on its way and of the paths that were
	// measured, 0 if there is none; left, how many bytes are on their way.
	usual float64
	left  int64
}

// chance is one path. free is how many requests more it may have under way; able,
// that it may be asked now; texts, that it is at work on some.
type chance struct {
	lane
	of    *lane
	free  int
	able  bool
	texts bool
}

// look is called with the board's lock held.
func (b *board) look() *glance {
	g := &glance{now: time.Now()}
	at := make(map[*lane]*chance, len(b.lanes))
	g.paths = make([]chance, len(b.lanes))
	sum, n := 0.0, 0
	for i, l := range b.lanes {
		c := &g.paths[i]
		*c = chance{lane: b.crew.known(l), of: l, free: max(1, l.Hints.Parallel)}
		c.able = !c.lied && !c.dropped && b.crew.wait(l, b.lanes, b.since) <= 0
		if at[l] = c; c.measured {
			sum, n = sum+c.rate, n+1
		}
	}
	for t := range b.flying {
		c := at[t.lane]
		c.free--
		c.texts = c.texts || t.wants[0].rank <= rankText
		g.left += max(t.known-t.came, 0)
		if b.stalled(t) {
			c.able = false // it gets nothing more until it says something
		} else if age := g.now.Sub(t.taken); t.came > 0 && age > batchTime {
			sum, n = sum+float64(t.came)/age.Seconds(), n+1
		}
	}
	g.usual = sum / float64(max(n, 1))
	return g
}

// of returns the chance of a path.
func (g *glance) of(l *lane) *chance {
	return &g.paths[slices.IndexFunc(g.paths, func(c chance) bool { return c.of == l })]
}

// stalled reports whether a batch is quiet for longer than all of it should take.
func (b *board) stalled(t *batch) bool {
	return time.Since(t.heard) > max(t.due, 2*b.crew.known(t.lane).latency)+doubleGain
}

// expect is how long a path should need for so many bytes. One of which nothing
// is known should be like the others.
func (g *glance) expect(c *chance, bytes int64) time.Duration {
	rate := c.rate
	if rate == 0 {
		rate = g.usual
	}
	if rate == 0 {
		return c.latency + unknownTime
	}
	return c.latency + seconds(float64(bytes)/rate)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// prospect is expect, and longer for a path that has not answered so far.
func (g *glance) prospect(c *chance, w *want) time.Duration {
	return g.expect(c, int64(w.Size)) + c.patience()
}

// idler reports whether a path that has nothing to do would bring a want sooner.
func (g *glance) idler(c *chance, w *want) bool {
	mine := g.prospect(c, w) * 3 / 4
	for i := range g.paths {
		o := &g.paths[i]
		if o != c && o.able && o.free > 0 && g.prospect(o, w) < mine && o.may(w) &&
			!slices.ContainsFunc(w.takers, func(t *batch) bool { return t.lane == o.of }) {
			return true
		}
	}
	return false
}

// may reports whether a path can carry a want, and has not failed to.
func (c *chance) may(w *want) bool { return !w.failedBy(c.of) && suits(c.Path, w.Want) }

// others reports whether a want is better left to others: to an idle path that is
// faster, or to those at work, which would have it sooner even after what is on
// its way and so many bytes ahead of it.
func (g *glance) others(c *chance, w *want, ahead int64) bool {
	if g.now.Sub(w.since) < unprovenPatience && g.idler(c, w) {
		return true
	}
	rate, soonest := 0.0, time.Duration(math.MaxInt64)
	for i := range g.paths {
		if o := &g.paths[i]; o != c && o.measured && o.able && o.may(w) {
			rate += o.rate
			soonest = min(soonest, g.prospect(o, w))
		}
	}
	// Who would be the first to have it never leaves it to others: else two paths
	// with much rate and long latencies would wait for each other.
	mine := g.prospect(c, w)
	return rate > 0 && mine > soonest && mine > 2*seconds(float64(g.left+ahead+w.size())/rate)+doubleGain
}

// late reports whether a path would bring a want much sooner than all who are at
// work on it.
func (g *glance) late(c *chance, w *want) bool {
	soon := 2*g.expect(c, int64(w.Size)) + doubleGain
	for _, t := range w.takers {
		// Only another path's: one that stalls would stall it twice.
		if t.lane == c.of || !g.behind(t, c, soon) {
			return false
		}
	}
	return !g.idler(c, w)
}

// behind reports whether a batch will hardly come within soon: nothing has come
// for as long; or it had twice the time that it should take, is far from done,
// and goes on as slowly. One of which nothing has come, and whose path has not
// answered so far, has had its time when it is due.
func (g *glance) behind(t *batch, c *chance, soon time.Duration) bool {
	age, quiet, by := g.now.Sub(t.taken), g.now.Sub(t.heard), g.of(t.lane)
	if t.wants[0].rank == rankRest && quiet <= soon {
		return false // nobody waits for it
	}
	all := t.known
	if all == 0 { // blocks of links don't say their size: one that trickles must not pass for small
		all = t.size / 8
	}
	rest := time.Duration(math.MaxInt64)
	if t.came > 0 {
		rest = seconds(float64(all-t.came) / float64(t.came) * age.Seconds())
	}
	switch {
	case quiet > soon:
		return true
	case t.came == 0:
		return age > t.due && !by.proven && c.proven
	case age < 2*max(t.due, g.expect(by, t.known)), t.came > all/4 && rest < muchLater:
		return false // too much would come in vain
	}
	return rest > soon
}

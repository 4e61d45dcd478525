package sync

import (
	gosync "sync"
	"time"

	"tamizdat/transport"
)

const (
	// A batch is about this much work for its path, or two of its round trips.
	batchTime = 500 * time.Millisecond
	// firstBatch is what a path gets of which nothing is known, in bytes.
	firstBatch = 64 << 10
	// A path of which nothing is known is expected to bring something in this time.
	unknownTime = 250 * time.Millisecond
	// What tells something about a rate: so many bytes, or so long a time.
	tellingBytes = 32 << 10
	tellingTime  = 100 * time.Millisecond
	// A path that has not answered in this sync lets those that have go first, for
	// longer if it has failed.
	unprovenPatience = time.Second
	doubtedPatience  = 8 * time.Second
	// After a failure a path rests, twice as long each time; after so many in a
	// row it is left alone in this sync.
	firstRest   = 500 * time.Millisecond
	maxFailures = 4
)

// lane is what is known of one path in this sync. Its fields are the crew's.
type lane struct {
	transport.Path
	// rate is what one request brings, in bytes a second; latency, the time to its
	// first byte. Both are 0 if unknown. measured: in this sync, by blocks.
	rate     float64
	latency  time.Duration
	measured bool
	// proven: it has answered in this sync, and not failed since; doubted: it has
	// failed, and not answered since.
	proven, doubted bool
	// kept: it has brought a block of use.
	kept          bool
	failures      int
	rest          time.Time
	lied, dropped bool
	// alive: it has answered in this sync, whatever came later. useless: there is
	// no sense in asking it anything.
	alive, useless bool
}

// crew is all paths at work, with what each delivers. Its methods may be called
// at once.
type crew struct {
	mu      gosync.Mutex
	lanes   map[string]*lane
	changed chan struct{} // closed and replaced when somebody may do what it could not before
}

func newCrew() *crew { return &crew{lanes: map[string]*lane{}, changed: make(chan struct{})} }

// news is closed when a path may do what it could not before.
func (c *crew) news() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// wake closes it.
func (c *crew) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
}

func (c *crew) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// lane returns the lane of p, which begins as was remembered.
func (c *crew) lane(p transport.Path, m remembered) *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[p.Name]
	if l == nil {
		l = &lane{Path: p, rate: m.Rate, latency: m.Latency}
		c.lanes[p.Name] = l
	}
	return l
}

// answered notes that l is open, and how long it took to say so.
func (c *crew) answered(l *lane, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.latency == 0 {
		l.latency = took
	}
	l.alive, l.doubted = true, false
	if l.failures = 0; !l.proven {
		l.proven = true
		c.wakeLocked()
	}
}

// keeps notes that l brought blocks of use, the first byte after so long.
func (c *crew) keeps(l *lane, first time.Duration) {
	c.answered(l, first)
	c.mu.Lock()
	defer c.mu.Unlock()
	l.kept = true
}

// doubt notes that l failed to answer.
func (c *crew) doubt(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.proven, l.doubted = false, true
}

// lie drops l for good.
func (c *crew) lie(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.lied, l.proven = true, false
}

// fail sends l to rest, and reports whether it is dropped: it failed often, or
// there is no use in trying again.
func (c *crew) fail(l *lane, useless bool) (dropped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.proven, l.doubted = false, true
	l.rest = time.Now().Add(firstRest << min(l.failures, maxFailures))
	l.failures++
	l.useless = l.useless || useless
	l.dropped = l.dropped || useless || l.failures >= maxFailures
	return l.dropped
}

// restOf is how long a path is to rest: loud ones are few, and what has silenced
// them lasts longer.
func restOf(p transport.Path, d time.Duration) time.Duration {
	if p.Hints.Patience > 0 {
		return 4 * d
	}
	return d
}

// revive lets l try once more after a rest, if it ever answered.
func (c *crew) revive(l *lane, rest time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !l.alive || l.lied || l.useless {
		return false
	}
	if l.dropped {
		l.dropped, l.failures = false, maxFailures-1 // one more failure, and it is out again
	}
	if l.rest.Before(time.Now()) {
		l.rest = time.Now().Add(restOf(l.Path, rest))
	}
	return true
}

// out reports whether l is not to be asked for blocks.
func (c *crew) out(l *lane) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.lied || l.dropped
}

// wait is how long l lets the others go first on a board that was put up at
// since: its own patience if a quieter path is open, more if it has not proven
// itself in this sync, and its rest if it has failed. It bounds what a blocked
// path costs.
func (c *crew) wait(l *lane, others []*lane, since time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	proven, quieter := false, false
	for _, o := range others {
		proven = proven || o.proven
		quieter = quieter || o.proven && o.Hints.Patience < l.Hints.Patience
	}
	d := l.Hints.Patience
	switch {
	case l.proven && !quieter:
		d = 0 // it waited long enough before it gave us the head
	case proven:
		d += l.patience()
	}
	return max(time.Until(since.Add(d)), time.Until(l.rest))
}

// patience is how much longer a path may keep others waiting than one that is
// known to be open.
func (l *lane) patience() time.Duration {
	switch {
	case l.proven:
		return 0
	case l.doubted:
		return doubtedPatience
	}
	return unprovenPatience
}

// measure learns from bytes that came over one request: after took, the first of
// them after first. A few bytes tell nothing about the rate.
func (c *crew) measure(l *lane, bytes int64, first, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes > 0 {
		l.latency = mean(l.latency, first)
	}
	if bytes < tellingBytes && took < batchTime {
		return
	}
	rate := float64(bytes) / max(took, time.Millisecond).Seconds()
	switch {
	case bytes == 0:
	case l.measured:
		l.rate = (l.rate + rate) / 2
	default:
		l.rate, l.measured = rate, true
	}
}

// opened learns from an opening, the rest of which took so long after its head.
func (c *crew) opened(l *lane, bytes int64, first, rest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.latency == 0 {
		l.latency = first
	}
	if l.rate == 0 && bytes > tellingBytes/8 && rest > tellingTime {
		l.rate = float64(bytes) / rest.Seconds()
	}
}

func mean(old, now time.Duration) time.Duration {
	if old == 0 {
		return now
	}
	return (old + now) / 2
}

// share is how much l should be asked for at once, in bytes.
func (c *crew) share(l *lane) int64 {
	least := int64(0)
	if w, ok := l.Blocks.(transport.Wide); ok {
		least = w.Ahead()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.rate == 0 {
		return max(firstBatch, least)
	}
	return max(int64(l.rate*max(batchTime, 2*l.latency).Seconds()), least)
}

// known is what is known of l.
func (c *crew) known(l *lane) lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *l
}

package relay

import (
	"context"
	"sync"
	"time"
)

const (
	// leastTime is how long a line is watched at least. Where round trips are so short
	// that this is many of them, windows grow again before anybody notices.
	leastTime = 200 * time.Millisecond
	// leastGap is no silence: a relay's disk may need that.
	leastGap = 30 * time.Millisecond
	// plenty is what a line brings, in bytes a second, that is good enough: more
	// connections are for those who wait. A machine that is busy is silent too.
	plenty = 1 << 20
	// firstFlight is what a relay sends before it hears from us again: quic-go's
	// initial window of 32 packets.
	firstFlight = 32 * minPacket
)

// watch compares what comes over a connection with what comes over a good one.
type watch struct {
	main  *quicConn
	total int64

	mu    sync.Mutex
	left  []int        // bytes of each block that are missing
	open  map[int]bool // those of which something is here
	got   int64
	times int           // that something came
	first time.Time     // when something came first
	last  time.Time     // and last
	gap   time.Duration // the longest silence in the middle of a block since the last look
}

func (w *watch) add(i, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.times++; w.times == 1 {
		w.first, w.open = now, map[int]bool{}
	} else if len(w.open) > 0 { // else the relay may not have begun with the next
		w.gap = max(w.gap, now.Sub(w.last))
	}
	w.got, w.last = w.got+int64(n), now
	if w.left[i] -= n; w.left[i] > 0 {
		w.open[i] = true
	} else {
		delete(w.open, i)
	}
}

// look is how much has come, the longest silence since it was asked last, and the
// usual one.
func (w *watch) look() (got int64, gap, usual time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gap = w.gap; w.times > 0 {
		if len(w.open) > 0 {
			gap = max(gap, time.Since(w.last))
		}
		usual = w.last.Sub(w.first) / time.Duration(w.times)
	}
	w.gap = 0
	return w.got, gap, usual
}

// run returns true when the line is bad: a round trip after the first byte or later
// there is less than half of what a good one would have brought, and in the middle
// of a block nothing came for half a round trip, which is much longer than usual: so
// it is not full. How long the relay takes to begin with a block doesn't matter.
func (w *watch) run(ctx context.Context) bool {
	// In round trips after the request, if it was answered at once.
	for trips := 2; ; {
		least, _, ok := w.main.trips()
		first := w.began()
		if !ok || first.IsZero() { // nothing can be told yet
			if !pause(ctx, 25*time.Millisecond) {
				return false
			}
			continue
		}
		at := time.Duration(trips-1)*least + least/4
		if !pause(ctx, max(time.Until(first.Add(max(at, leastTime-least))), 0)) {
			return false
		}
		got, gap, usual := w.look()
		if good := int64(firstFlight)<<min(trips, 16) - firstFlight; 2*got < min(good, w.total) && gap > max(least/2, 4*usual, leastGap) && float64(got) < plenty*time.Since(first).Seconds() {
			return true
		}
		trips++
	}
}

// pause waits; false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// began is when the first byte came, zero if none has.
func (w *watch) began() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// trips are the shortest and the usual round trip of the current connection.
func (q *quicConn) trips() (least, smoothed time.Duration, ok bool) {
	q.mu.Lock()
	l := q.cur
	q.mu.Unlock()
	if l == nil || l.over() {
		return 0, 0, false
	}
	select {
	case <-l.ready:
	default:
		return 0, 0, false
	}
	if l.conn == nil || !l.complete() {
		return 0, 0, false
	}
	s := l.conn.ConnectionStats()
	return s.MinRTT, s.SmoothedRTT, s.MinRTT > 0
}

package reader

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
)

// Pace says how often Keep looks for news.
type Pace struct {
	// Every is the usual interval; 0 means once, at the start.
	Every time.Duration
	// Saving, if not nil, says whether to ask seldom, at least SavingEvery apart: on
	// a battery, or where data costs money.
	Saving func() bool
}

const (
	// SavingEvery is the shortest interval between syncs while saving.
	SavingEvery = 3 * time.Hour
	// minEvery is the shortest usual interval: more often is a pattern, and a load.
	minEvery = time.Minute
	// jitter is how much of an interval is left to chance, to either side, so that
	// a device isn't known by its beat.
	jitter = 0.25
	// lookAround is how often the network is looked at, settle how soon after a sync
	// a change of it may start the next one.
	lookAround = 20 * time.Second
	settleTime = 10 * time.Second
)

// backoff is how soon it is tried again after failures in a row: a network is
// often back in a minute. After the last one the usual interval holds again.
var backoff = [...]time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}

// scheduleState is what the time of the next sync follows from.
type scheduleState struct {
	every time.Duration
	// failures in a row, 0 after a sync that brought what there was.
	failures int
	saving   bool
	// chance is in [0, 1).
	chance float64
}

// nextSync is how long to wait after a sync has ended.
func nextSync(s scheduleState) time.Duration {
	d := max(s.every, minEvery)
	if s.saving {
		d = max(d, SavingEvery)
	}
	if s.failures > 0 && s.failures <= len(backoff) {
		d = min(d, backoff[s.failures-1])
	}
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*s.chance))
}

// Keep looks for news now, and then again and again until ctx ends: at the given
// pace, sooner after a failure, and at once when the device comes to another
// network or wakes from a sleep that was longer than the interval.
func (r *Reader) Keep(ctx context.Context, p Pace) {
	failures := 0
	for {
		where := r.where()
		soon, asked := false, false
		err := r.SyncAll(ctx, func(_ channel.ID, _ *newsync.Result, err error) {
			// Each channel for itself: one that met its limit doesn't make another wait.
			asked, soon = true, soon || retrySoon(err)
		})
		switch {
		case ctx.Err() != nil:
			return
		case soon || !asked && retrySoon(err):
			failures++
			r.log.Info("sync ended early", "error", err)
		default:
			failures = 0
		}
		if p.Every <= 0 {
			return
		}
		d := nextSync(scheduleState{every: p.Every, failures: failures, saving: p.Saving != nil && p.Saving(), chance: rand.Float64()})
		if !r.rest(ctx, d, where, failures > 0) {
			return
		}
	}
}

// retrySoon reports whether trying again in a minute can help after the error
// of one channel.
func retrySoon(err error) bool {
	return err != nil && !errors.Is(err, newsync.ErrBudget) && !errors.Is(err, ErrNoChannel)
}

// rest waits for d or until the network is another one than where, on which lost
// tells that the sync failed; false when ctx ended.
// The timer stands still while the device sleeps; the clock on the wall does not.
func (r *Reader) rest(ctx context.Context, d time.Duration, where string, lost bool) bool {
	start := r.cfg.Now().Round(0)
	timer, look := time.NewTimer(d), time.NewTicker(lookAround)
	defer timer.Stop()
	defer look.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-look.C:
			passed := r.cfg.Now().Round(0).Sub(start)
			if passed >= d || passed >= settleTime && moved(where, r.where(), lost) {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

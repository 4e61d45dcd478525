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

func (p Pace) saving() bool { return p.Saving != nil && p.Saving() }

const (
	// SavingEvery is the shortest interval between syncs while saving: chance only
	// lengthens it. savingRetry is the shortest one after a sync that reached nobody:
	// it cost next to nothing, and who comes back from a tunnel wants the news; but
	// where all is blocked, each of a day's networks may be one more in vain.
	SavingEvery = 3 * time.Hour
	savingRetry = 10 * time.Minute
	// minEvery is the shortest usual interval: more often is a pattern, and a load.
	minEvery = time.Minute
	// jitter is how much of an interval is left to chance, to either side, so that
	// a device isn't known by its beat; twice as much to the later one while saving.
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
	// failures in a row, 0 after a sync that brought what there was. lost: the last
	// one reached nobody on any channel.
	failures int
	lost     bool
	saving   bool
	// chance is in [0, 1).
	chance float64
}

// nextSync is how long to wait after a sync has ended.
func nextSync(s scheduleState) time.Duration {
	d, early := max(s.every, minEvery), jitter
	again := s.failures > 0 && s.failures <= len(backoff)
	switch {
	case !s.saving && again:
		d = min(d, backoff[s.failures-1])
	case !s.saving:
	case again && s.lost:
		d, early = max(backoff[s.failures-1], savingRetry), 0
	default:
		d, early = max(d, SavingEvery), 0
	}
	return time.Duration(float64(d) * (1 - early + 2*jitter*s.chance))
}

// soonest is how long after a sync the device's coming to another network may
// start the next one.
func (s scheduleState) soonest() time.Duration {
	switch {
	case !s.saving:
		return settleTime
	case s.lost:
		return savingRetry
	}
	return SavingEvery
}

// Keep looks for news now, and then again and again until ctx ends: at the given
// pace, sooner after a failure, and at once when the device comes to another
// network or wakes from a sleep that was longer than the interval. While saving,
// two syncs are SavingEvery apart, or savingRetry if the first reached nobody.
func (r *Reader) Keep(ctx context.Context, p Pace) {
	s := scheduleState{every: p.Every}
	for {
		where := r.where()
		soon, asked, reached := false, false, false
		err := r.SyncAll(ctx, func(_ channel.ID, res *newsync.Result, err error) {
			// Each channel for itself: one that met its limit doesn't make another wait.
			asked, soon, reached = true, soon || retrySoon(err), reached || res.Answered > 0
		})
		switch {
		case ctx.Err() != nil:
			return
		case soon || !asked && retrySoon(err):
			s.failures++
			r.log.Info("sync ended early", "error", err)
		default:
			s.failures = 0
		}
		if p.Every <= 0 {
			return
		}
		s.lost, s.chance = s.failures > 0 && !reached, rand.Float64()
		if !r.rest(ctx, p, s, where) {
			return
		}
	}
}

// retrySoon reports whether trying again in a minute can help after the error
// of one channel.
func retrySoon(err error) bool {
	return err != nil && !errors.Is(err, newsync.ErrBudget) && !errors.Is(err, ErrNoChannel)
}

// rest waits until the next sync is due, or until the network is another one than
// where; false when ctx ended. The timer stands still while the device sleeps; the
// clock on the wall does not. Whether to save is asked anew: a device may be
// unplugged, and plugged in again, between two syncs.
func (r *Reader) rest(ctx context.Context, p Pace, s scheduleState, where string) bool {
	began, start := time.Now(), r.cfg.Now().Round(0)
	s.saving = p.saving()
	timer, look := time.NewTimer(nextSync(s)), time.NewTicker(lookAround)
	defer timer.Stop()
	defer look.Stop()
	for {
		select {
		case <-timer.C:
		case <-look.C:
		case <-ctx.Done():
			return false
		}
		s.saving = p.saving()
		due, passed := nextSync(s), max(time.Since(began), r.cfg.Now().Round(0).Sub(start))
		if passed >= due || passed >= s.soonest() && moved(where, r.where(), s.failures > 0) {
			return true
		}
		timer.Reset(due - passed)
	}
}

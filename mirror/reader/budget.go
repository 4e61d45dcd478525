package reader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// ErrDayLimit: what may be fetched in a day has been fetched. It wraps
// sync.ErrBudget.
var ErrDayLimit = fmt.Errorf("%w of today", newsync.ErrBudget)

// dayNote holds what a day has cost.
const dayNote = "reader/day"

// spentToday is how many bytes were received on a day of the device's calendar.
type spentToday struct {
	Day   string `json:"day"`
	Bytes int64  `json:"bytes"`
}

// spent is what this day has cost so far.
func (r *Reader) spent(ctx context.Context) (spentToday, error) {
	today := spentToday{Day: r.cfg.Now().Local().Format("2006-01-02")}
	b, err := r.lib.Note(ctx, dayNote)
	if errors.Is(err, transport.ErrNotFound) {
		return today, nil
	}
	if err != nil {
		return today, err
	}
	var kept spentToday
	if json.Unmarshal(b, &kept) == nil && kept.Day == today.Day && kept.Bytes > 0 {
		return kept, nil
	}
	return today, nil
}

// budget is what the next sync may spend.
func (r *Reader) budget(ctx context.Context) (newsync.Budget, error) {
	b := newsync.Budget{TextOnly: r.cfg.TextOnly, Bytes: r.cfg.Bytes}
	if r.cfg.DayBytes <= 0 {
		return b, nil
	}
	today, err := r.spent(ctx)
	if err != nil {
		return b, err
	}
	left := r.cfg.DayBytes - today.Bytes
	if left < newsync.LeastBytes {
		return b, ErrDayLimit // it would be spent on nothing
	}
	if b.Bytes == 0 || left < b.Bytes {
		b.Bytes = left
	}
	return b, nil
}

// The day's sum is noted in steps of a part of what is left, within these bounds:
// each costs a sync of the disk, and what a crash leaves noted and not spent is
// about one step.
const (
	minStep, maxStep = 64 << 10, 1 << 20
	stepsLeft        = 16
)

// meter adds what one sync receives to the day's sum. Where a day has its limit,
// that is noted before it may come, so that no crash makes the limit a larger one;
// else now and then.
type meter struct {
	r   *Reader
	ctx context.Context //nolint:containedctx // that of the call which it lives in

	mu    sync.Mutex
	noted int64 // of this sync
	ended bool
}

// charge is the engine's Budget.Charge under a limit of left bytes for this sync.
func (m *meter) charge(left int64) func(int64) (int64, error) {
	step := min(max(left/stepsLeft, minStep), maxStep)
	return func(n int64) (int64, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ended { // by a path that has not heard of it yet
			return 0, context.Canceled
		}
		err := m.note(max(n, min(n+step, left)))
		return m.noted, err
	}
}

// heard is the engine's Progress.
func (m *meter) heard(p newsync.Progress) {
	if m.r.cfg.DayBytes <= 0 {
		m.mu.Lock()
		if p.Bytes >= m.noted+maxStep {
			if err := m.note(p.Bytes); err != nil {
				m.r.log.Warn("what was received is not noted", "error", err)
			}
		}
		m.mu.Unlock()
	}
	m.r.heard(p)
}

// settle writes that a sync has ended and has received so much.
func (m *meter) settle(received int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	return m.note(received)
}

// note writes that a sync has received so much. m.mu is held. If midnight has
// come since the last time, what was noted stays the day's that is over.
func (m *meter) note(received int64) error {
	if received == m.noted {
		return nil
	}
	today, err := m.r.spent(m.ctx)
	if err != nil {
		return err
	}
	today.Bytes = max(0, today.Bytes+received-m.noted)
	b, err := json.Marshal(today)
	if err != nil {
		return err
	}
	if err := m.r.lib.SetNote(m.ctx, dayNote, b); err != nil {
		return err
	}
	m.noted = received
	return nil
}

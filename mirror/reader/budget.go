package reader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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

// meterStep is after how many bytes the day's sum is written in the middle of a
// sync: each time costs a sync of the disk.
const meterStep = 1 << 20

// meter adds what one sync receives to the day's sum.
type meter struct {
	r       *Reader
	ctx     context.Context //nolint:containedctx // that of the call which it lives in
	counted int64
}

// heard is the engine's Progress.
func (m *meter) heard(p newsync.Progress) {
	if p.Bytes >= m.counted+meterStep {
		if err := m.settle(p.Bytes); err != nil {
			m.r.log.Warn("what was received is not noted", "error", err)
		}
	}
	m.r.heard(p)
}

// settle writes that a sync has received so much so far.
func (m *meter) settle(received int64) error {
	if received <= m.counted {
		return nil
	}
	today, err := m.r.spent(m.ctx)
	if err != nil {
		return err
	}
	today.Bytes += received - m.counted
	b, err := json.Marshal(today)
	if err != nil {
		return err
	}
	m.counted = received
	return m.r.lib.SetNote(m.ctx, dayNote, b)
}

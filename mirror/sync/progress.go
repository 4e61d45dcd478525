package sync

import (
	"context"
	"time"

	"tamizdat/transport"
)

// EventNobody is a value of Progress.Event without a path: it is a while since
// the first one was asked, and nobody has answered so far. The sync goes on
// trying; it comes once at most.
const EventNobody = "nobody"

// nobodyTime is how long nobody has to answer before people hear of it. Those who
// are cut off would else wait for the slowest of all ways to give up, which takes
// over a minute: a resolver that is asked again and again, or a connection of
// before that is given its time to come back.
const nobodyTime = 8 * time.Second

// darkIn is when people are to be told that nobody has answered so far; negative
// for never.
func (s *session) darkIn() time.Duration {
	if s.told || !s.any.IsZero() || s.asks == nil {
		return -1
	}
	return max(0, time.Until(s.start.Add(nobodyTime)))
}

// tellDark tells it: as an event, and in the stored reports, so that Judge says
// that nobody can be reached while the sync still tries.
func (s *session) tellDark(ctx context.Context) error {
	s.told, s.stored = true, true
	if s.Progress != nil {
		p := s.step(s.stage)
		p.Event = EventNobody
		s.Progress(p)
	}
	return s.reportSoFar(ctx)
}

// tellLight takes it back as soon as somebody has answered.
func (s *session) tellLight(ctx context.Context) error {
	if !s.stored || s.any.IsZero() {
		return nil
	}
	s.stored = false
	return s.reportSoFar(ctx)
}

// reportSoFar stores how the paths are doing in the middle of a sync.
func (s *session) reportSoFar(ctx context.Context) error {
	var rs []PathReport
	for _, p := range s.paths {
		r := *s.report(p)
		for _, a := range s.list {
			if a.Name == p.Name && a.begun && !a.ended && !a.answered && r.State == stateIdle && s.any.IsZero() {
				r.State, r.Error, r.At = stateFailed, "no answer so far", s.now()
			}
		}
		rs = append(rs, r)
	}
	return s.storeReports(ctx, rs)
}

// rateTime is over how long Progress.Rate looks back.
const rateTime = 5 * time.Second

// meter tells the rate of what arrives.
type meter struct{ got []sample }

type sample struct {
	at    time.Time
	bytes int64
}

func (m *meter) add(n int64) {
	now := time.Now()
	if k := len(m.got); k > 0 && now.Sub(m.got[k-1].at) < rateTime/50 {
		m.got[k-1].bytes += n
		return
	}
	for len(m.got) > 0 && now.Sub(m.got[0].at) > rateTime {
		m.got = m.got[1:]
	}
	m.got = append(m.got, sample{now, n})
}

// rate is in bytes a second since start, or over the last rateTime.
func (m *meter) rate(start time.Time) int64 {
	now := time.Now()
	sum, span := int64(0), min(now.Sub(start), rateTime)
	for _, s := range m.got {
		if now.Sub(s.at) <= rateTime {
			sum += s.bytes
		}
	}
	if span <= 0 {
		return 0
	}
	return int64(float64(sum) / span.Seconds())
}

// tell says how far a stage is.
func (s *session) tell(stage string, missing int, bytes int64) {
	s.stage = stage
	if s.Progress != nil {
		p := s.step(stage)
		p.Missing = missing
		p.Cost = s.cost(bytes)
		switch {
		case p.Cost.Queries > 0:
			p.Left = p.Cost.Time
		case p.Rate > 0:
			p.Left = time.Duration(float64(bytes) / float64(p.Rate) * float64(time.Second))
		}
		s.Progress(p)
	}
}

// event says what a path did.
func (s *session) event(stage, event string, path transport.Path) {
	if s.Progress != nil {
		p := s.step(stage)
		p.Event, p.Path, p.Kind = event, path.Name, path.Kind
		s.Progress(p)
	}
}

func (s *session) step(stage string) Progress {
	return Progress{
		Stage: stage, Blocks: s.res.Blocks, Bytes: s.res.Bytes, Rate: s.meter.rate(s.start), At: time.Since(s.start),
	}
}

// credit counts a block that a path brought in a stage.
func (s *session) credit(stage string, l *lane, data []byte) {
	r, n := s.report(l.Path), int64(len(data))
	r.Blocks++
	r.Bytes += n
	s.res.Blocks++
	s.res.Bytes += n
	s.meter.add(n)
	by := s.shares[stage]
	if by == nil {
		by = map[string]int64{}
		s.shares[stage] = by
	}
	if by[l.Name] == 0 {
		s.event(stage, EventBrought, l.Path)
	}
	by[l.Name] += n
}

// waste counts bytes that came in vain over a path.
func (s *session) waste(l *lane, n int64) { s.wasted[l] += n }

// delivered notes who brought most of a stage.
func (s *session) delivered(stage string) {
	best := s.res.Delivered[stage]
	for name, n := range s.shares[stage] {
		if m := s.shares[stage][best]; best == "" || n > m || n == m && name < best {
			best = name
		}
	}
	if best != "" {
		s.res.Delivered[stage] = best
	}
}

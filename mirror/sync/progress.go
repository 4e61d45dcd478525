package sync

import (
	"time"

	"tamizdat/transport"
)

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
		if p.Rate > 0 {
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

// waste counts bytes that came in vain.
func (s *session) waste(n int64) { s.res.Twice += n }

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

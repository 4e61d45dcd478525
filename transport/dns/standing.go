package dns

import (
	"time"

	"golang.org/x/time/rate"
)

const (
	// eachStep is after how many seconds without a refusal, in which about as much was
	// asked as may be, a resolver that refused more is asked a little more again.
	eachStep = 30
	// leastRate is how many questions a second anybody is asked.
	leastRate = 2
	// manyDropped is how often a long name has to be lost where a shorter one comes
	// through before it counts as dropped.
	manyDropped = 2
)

// standing is a resolver's facts, and its limit, for all who ask it.
type standing struct {
	Facts // of the pool's lock
	pool  *Pool
	lim   *rate.Limiter

	// second is when the second began in which answers are counted, inIt the good ones,
	// refused the questions that it refused.
	second        time.Time
	inIt, refused int
	// over counts seconds in a row in which much was refused and much was not, and well
	// is the most good answers in one of them; clean counts those without a refusal since.
	over, well, clean int

	// dropped counts how often a name was lost that is longer than any that came.
	dropped int
}

// newStanding makes the standing of a resolver, which may be asked as fast as it was
// found to take.
func (p *Pool) newStanding(f Facts) *standing {
	s := &standing{Facts: f, pool: p, lim: rate.NewLimiter(quietRate, quietBurst)}
	s.Limit = min(s.Limit, maxWindow)
	s.limit()
	return s
}

// limit sets how fast it may be asked: as is polite, or as anybody is in a hurry, and no
// faster than it takes.
func (s *standing) limit() {
	r, burst := rate.Limit(quietRate), quietBurst
	if s.pool.cfg.Hurry {
		r, burst = rate.Inf, maxWindow
	}
	if s.Limit > 0 {
		r, burst = min(r, rate.Limit(s.Limit)), min(burst, s.Limit)
	}
	s.lim.SetBurst(burst)
	s.lim.SetLimit(r)
}

// answered notes a good answer, and how long they take lately; 0 if that can't be
// told.
func (s *standing) answered(ev event, rtt time.Duration) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	now := time.Now()
	s.pool.dirty = true
	s.OK, s.At, s.Cool = now, now, time.Time{}
	size := len(ev.rec)
	if ev.stream {
		s.Stream = max(s.Stream, size)
	} else {
		s.Size = max(s.Size, size)
	}
	if size > plainSize {
		s.Small = time.Time{}
	}
	if ev.mixed {
		s.Recases = ev.recased
	}
	if rtt > 0 {
		s.RTT = rtt
	}
	s.tick(now)
	s.inIt++
	s.Rate = max(s.Rate, s.inIt)
	s.count(&s.Good)
}

// lost notes a question without a good answer.
func (s *standing) lost() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.dirty, s.At = true, time.Now()
	s.count(&s.Lost)
}

// refuses notes that a question was lost since it was refused.
func (s *standing) refuses() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.tick(time.Now())
	s.refused++
}

func (s *standing) count(n *int) {
	if *n++; s.Good+s.Lost > maxCounted {
		s.Good, s.Lost = s.Good/2, s.Lost/2
	}
}

// tick begins a new second if it is time, and judges the one that is over. Who refuses
// about as much as he answers, two seconds in a row, is asked no more a second than he
// answers: what is over his limit costs a question its time. One refusal in ten may have
// any reason, and seconds in which all was refused say nothing about a rate.
func (s *standing) tick(now time.Time) {
	gone := now.Sub(s.second)
	if gone < time.Second {
		return
	}
	much := s.inIt > 0 && 2*s.refused >= s.inIt
	switch {
	case much:
		s.over, s.well = s.over+1, max(s.well, s.inIt)
	case s.refused == 0 && s.Limit > 0 && 5*s.inIt >= 4*min(s.Limit, s.most()):
		s.clean++
	}
	if s.refused > 0 {
		s.clean = 0
	}
	switch {
	case s.over >= 2:
		s.slow(s.well)
	case s.clean >= eachStep:
		s.clean = 0
		s.ease()
	}
	if !much || s.over >= 2 || gone >= 2*time.Second { // those between were not used
		s.over, s.well = 0, 0
	}
	s.second, s.inIt, s.refused = now, 0, 0
}

// most is how many questions a second may be asked of one that refuses none.
func (s *standing) most() int {
	if s.pool.cfg.Hurry {
		return maxWindow
	}
	return quietRate
}

// slow lowers the limit to what came in a second, by no more than half at once.
func (s *standing) slow(came int) {
	n := max(came, leastRate)
	if s.Limit > 0 {
		n = max(n, s.Limit/2)
	}
	if s.Limit == 0 || n < s.Limit {
		s.Limit, s.pool.dirty = n, true
		s.limit()
	}
}

// ease raises the limit by a tenth, until it is none.
func (s *standing) ease() {
	s.Limit += max(1, s.Limit/10)
	if top := max(quietBurst, s.most()); s.Limit >= top {
		s.Limit = 0
	}
	s.pool.dirty = true
	s.limit()
}

// carriesSmall notes that Large records don't come through.
func (s *standing) carriesSmall() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.dirty, s.Small = true, time.Now()
}

// carried notes that a name of n characters was answered.
func (s *standing) carried(n int) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if n > s.Name {
		s.Name, s.dropped, s.pool.dirty = n, 0, true
	}
	if s.Drops > 0 && n >= s.Drops {
		s.Drops, s.Dropped, s.pool.dirty = 0, time.Time{}, true
	}
}

// dropsName notes that a name of n characters was lost again and again where shorter
// ones come through. It has to happen several times, and to no name as long as one that
// came, unless it is sure: a scan asks for little else.
func (s *standing) dropsName(n int, sure bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if n <= s.Name && !sure {
		return // one as long has come
	}
	if s.dropped++; !sure && s.dropped < manyDropped {
		return
	}
	if s.Drops == 0 || n < s.Drops {
		s.Drops = n
	}
	s.pool.dirty, s.Dropped, s.dropped = true, time.Now(), 0
}

// carriesName reports whether a name of n characters is worth asking for here: not if
// one as long was dropped a while ago.
func (s *standing) carriesName(n int) bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	age := time.Since(s.Dropped)
	return s.Drops == 0 || n < s.Drops || age < 0 || age >= smallFor
}

// keepsCase reports whether names come back as they were spelled, as far as is known.
func (s *standing) keepsCase() bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return !s.Recases
}

// cools notes until when it is left alone.
func (s *standing) cools(until time.Time) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.dirty, s.Cool = true, until
}

// remembered is a copy of the facts.
func (s *standing) remembered() Facts {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.Facts
}

package censor

import (
	"math/rand/v2"
	"time"
)

// Throttle holds each direction of each flow to Rate bytes a second, with bursts
// of Burst bytes. A stream is slowed down. Of the datagrams that are over it
// loses Lose (0 to 1), and what would come more than a second late; the others
// wait. In a TCP connection the losses are not played, only the rate.
type Throttle struct {
	Rate, Burst int64
	Lose        float64
	To          Target
}

// maxLate is how much a throttle's queue holds, in time.
const maxLate = time.Second

// Name implements Rule.
func (Throttle) Name() string { return "throttle" }

// Start implements Rule.
func (r Throttle) Start(m *Map) Box { return throttleBox{r, m} }

type throttleBox struct {
	Throttle
	m *Map
}

func (b throttleBox) Flow(f Flow) Inspector {
	if !b.To(b.m, f.Proto, f.To) {
		return nil
	}
	return &throttled{
		r: b.Throttle, stream: f.Proto == TCP, rand: f.Rand,
		out: bucket{rate: b.Rate, burst: b.Burst}, in: bucket{rate: b.Rate, burst: b.Burst},
	}
}

type throttled struct {
	Passing
	r       Throttle
	stream  bool
	rand    *rand.Rand
	out, in bucket
}

func (t *throttled) Out(b []byte) Verdict { return t.judge(&t.out, len(b)) }
func (t *throttled) In(b []byte) Verdict  { return t.judge(&t.in, len(b)) }

func (t *throttled) judge(k *bucket, n int) Verdict {
	late := k.late(n)
	if late > 0 && !t.stream && (late > maxLate || t.rand.Float64() < t.r.Lose) {
		return Verdict{Action: Drop}
	}
	k.take(n)
	return Verdict{Delay: late}
}

// bucket is a token bucket of bytes that may be overdrawn. No rate means no
// limit.
type bucket struct {
	rate, burst int64
	full        time.Time // when it will be full again
}

// late is how long n more bytes have to wait.
func (k *bucket) late(n int) time.Duration {
	if k.rate <= 0 {
		return 0
	}
	room := time.Duration(k.burst) * time.Second / time.Duration(k.rate)
	return max(0, max(0, time.Until(k.full))+k.cost(n)-room)
}

// take takes them.
func (k *bucket) take(n int) {
	if k.rate <= 0 {
		return
	}
	if now := time.Now(); k.full.Before(now) {
		k.full = now
	}
	k.full = k.full.Add(k.cost(n))
}

func (k *bucket) cost(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(k.rate)
}

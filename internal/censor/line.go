package censor

import (
	"math/rand/v2"
	"time"
)

// Line is what the reader's line is like. The zero value says nothing.
type Line struct {
	// RTT is the whole round trip to whatever is abroad; 0: the world's own.
	RTT time.Duration
	// Up and Down are bytes a second; 0: the world's own.
	Up, Down int64
	// LossUp and LossDown are how much of what is sent is lost, 0 to 1, by packet.
	LossUp, LossDown float64
	// MTU is the largest IP packet; larger ones vanish without ICMP. 0: the
	// world's own.
	MTU int
}

// worse returns the worse of both lines in every way.
func worse(a, b Line) Line {
	return Line{
		RTT: max(a.RTT, b.RTT),
		Up:  least(a.Up, b.Up), Down: least(a.Down, b.Down),
		LossUp: max(a.LossUp, b.LossUp), LossDown: max(a.LossDown, b.LossDown),
		MTU: least(a.MTU, b.MTU),
	}
}

// least is the smaller of two numbers of which 0 means that there is none.
func least[N int | int64](a, b N) N {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Rule plays the line over sockets that have none of their own: real ones on
// loopback, say. Put it behind a scenario's other Rules; [Censor.Set] then changes
// the line under what is open. Datagrams are lost, late and too large as they
// would be. Streams are slow and late; for each packet that a line would have lost
// they stand still as long as TCP takes to send it again (one round trip if few
// are lost, else RFC 6298's timeouts), which is rougher than TCP, whose window
// shrinks as well. RTT is added to what the sockets below have. On a simulated
// net leave this to its links.
func (l Line) Rule() Rule { return lineRule{l} }

type lineRule struct{ l Line }

func (lineRule) Name() string     { return "line" }
func (r lineRule) Start(*Map) Box { return r }
func (r lineRule) Flow(f Flow) Inspector {
	return &lineFlow{
		l: r.l, stream: f.Proto == TCP, v6: f.To.Addr().Is6(), rand: f.Rand,
		out: bucket{rate: r.l.Up, burst: lineBurst}, in: bucket{rate: r.l.Down, burst: lineBurst},
	}
}

const (
	lineBurst = 3000 // two packets
	lineQueue = time.Second
	segment   = 1448 // bytes of a stream in one packet
	maxRTO    = 8 * time.Second
)

// lineFlow plays the line for one flow; flows don't share its rate.
type lineFlow struct {
	l          Line
	stream, v6 bool
	rand       *rand.Rand
	out, in    bucket
}

func (f *lineFlow) Connect() Verdict {
	return Verdict{Delay: f.l.RTT + f.resend(f.l.LossUp, time.Second)}
}

func (f *lineFlow) Out(b []byte) Verdict {
	v := f.judge(&f.out, len(b), f.l.LossUp)
	if !f.stream {
		v.Delay += f.l.RTT / 2
	}
	return v
}

func (f *lineFlow) In(b []byte) Verdict {
	v := f.judge(&f.in, len(b), f.l.LossDown)
	if f.stream {
		v.Delay += f.l.RTT // both halves: a writer doesn't wait for what he sends
	} else {
		v.Delay += f.l.RTT / 2
	}
	return v
}

func (f *lineFlow) judge(k *bucket, n int, loss float64) Verdict {
	late := k.late(n)
	if f.stream {
		k.take(n)
		for range (n + segment - 1) / segment {
			late += f.resend(loss, max(f.l.RTT, 200*time.Millisecond))
		}
		return Verdict{Delay: late}
	}
	headers := 28
	if f.v6 {
		headers = 48
	}
	if f.l.MTU > 0 && n+headers > f.l.MTU || f.rand.Float64() < loss || late > lineQueue {
		return Verdict{Action: Drop}
	}
	k.take(n)
	return Verdict{Delay: late}
}

// resend is how long TCP takes until a packet has come through.
func (f *lineFlow) resend(loss float64, rto time.Duration) time.Duration {
	var late time.Duration
	for loss > 0 && f.rand.Float64() < min(loss, 0.99) {
		if loss < 0.1 && f.l.RTT > 0 { // others behind it tell of the gap
			late += f.l.RTT
			continue
		}
		late += rto
		rto = min(2*rto, maxRTO)
	}
	return late
}

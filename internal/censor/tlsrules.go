package censor

import (
	"bytes"
	"math/bits"
)

// ResetNames resets TCP connections whose ClientHello has a listed name in its
// first record, if that comes in the first piece: records and segments are not
// put together.
type ResetNames struct{}

// Name implements Rule.
func (ResetNames) Name() string { return "tls name" }

// Start implements Rule.
func (ResetNames) Start(m *Map) Box { return resetNamesBox{m} }

type resetNamesBox struct{ m *Map }

func (b resetNamesBox) Flow(f Flow) Inspector {
	if f.Proto != TCP || !f.Fresh {
		return nil
	}
	return &firstPiece{judge: func(p []byte) Verdict {
		if rec, ok := firstRecord(p); ok {
			if h, _ := readHello(rec); lists(b.m.Names, h.name) {
				return Verdict{Action: Reset}
			}
		}
		return Verdict{}
	}}
}

// firstPiece judges the first piece that the reader sends, and lets the others pass.
type firstPiece struct {
	Passing
	judge func([]byte) Verdict
	done  bool
}

func (f *firstPiece) Out(b []byte) Verdict {
	if f.done || len(b) == 0 {
		return Verdict{}
	}
	f.done = true
	return f.judge(b)
}

// ECHNames drops ClientHellos, over TCP and QUIC v1, that hold both an ECH
// extension and a listed outer name, wherever in them.
type ECHNames struct{}

// Name implements Rule.
func (ECHNames) Name() string { return "ech" }

// Start implements Rule.
func (ECHNames) Start(m *Map) Box { return echBox{m} }

type echBox struct{ m *Map }

func (b echBox) Flow(f Flow) Inspector {
	switch {
	case !f.Fresh:
		return nil
	case f.Proto == TCP:
		return &echStream{b: b}
	}
	return &echQUIC{b: b, seen: initials{limit: 8}}
}

func (b echBox) judge(h hello) Verdict {
	if h.ech && (lists(b.m.Names, h.name) || lists(b.m.Outer, h.name)) {
		return Verdict{Action: Drop}
	}
	return Verdict{}
}

type echStream struct {
	Passing
	b    echBox
	buf  []byte
	done bool
}

func (s *echStream) Out(p []byte) Verdict {
	if s.done {
		return Verdict{}
	}
	s.buf = append(s.buf, p[:min(len(p), maxHello-len(s.buf))]...)
	h, _ := readHello(handshake(s.buf))
	if h.whole || len(s.buf) == maxHello || !isTLS(s.buf) && len(s.buf) >= 3 {
		s.buf, s.done = nil, true
	}
	return s.b.judge(h)
}

type echQUIC struct {
	Passing
	b    echBox
	seen initials
	bad  bool
}

func (q *echQUIC) Out(p []byte) Verdict {
	if h, ok := q.seen.add(p); ok && q.b.judge(h).Action != Pass {
		q.bad = true
	}
	if q.bad && isLongHeader(p) { // sent again, it is dropped again
		return Verdict{Action: Drop}
	}
	return Verdict{}
}

// DropRandom drops connections whose first packet looks like the fully
// encrypted ones of some circumvention tools: what Wu et al. (USENIX Security
// 2023) found that the GFW exempts is exempt, all else is dropped. (The GFW did
// so to one in four, and only towards some networks.)
type DropRandom struct{}

// Name implements Rule.
func (DropRandom) Name() string { return "random bytes" }

// Start implements Rule.
func (r DropRandom) Start(*Map) Box { return r }

// Flow implements Box.
func (DropRandom) Flow(f Flow) Inspector {
	if f.Proto != TCP || !f.Fresh {
		return nil
	}
	return &firstPiece{judge: func(b []byte) Verdict {
		if looksRandom(b) {
			return Verdict{Action: Drop}
		}
		return Verdict{}
	}}
}

// looksRandom is the rule of that paper, section 4.
func looksRandom(b []byte) bool {
	if len(b) == 0 || isTLS(b) {
		return false
	}
	for _, m := range []string{"GET ", "PUT ", "POST ", "HEAD "} {
		if bytes.HasPrefix(b, []byte(m)) {
			return false
		}
	}
	ones, printable, run, longest := 0, 0, 0, 0
	first := 0 // printable bytes at the start
	for i, c := range b {
		ones += bits.OnesCount8(c)
		if c < 0x20 || c > 0x7e {
			run = 0
			continue
		}
		printable++
		run++
		longest = max(longest, run)
		if first == i {
			first++
		}
	}
	mean := float64(ones) / float64(len(b))
	switch {
	case mean <= 3.4 || mean >= 4.6:
		return false
	case first >= 6 || longest > 20 || 2*printable > len(b):
		return false
	}
	return true
}

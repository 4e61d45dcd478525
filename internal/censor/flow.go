package censor

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// flow is one flow with the inspectors of all middleboxes that care about it.
type flow struct {
	c  *Censor
	at Flow

	mu    sync.Mutex
	boxes *[]namedBox // whose inspectors these are
	insp  []namedInspector
	used  time.Time
}

type namedInspector struct {
	name string
	Inspector
}

func newFlow(c *Censor, proto string, local, to netip.AddrPort) *flow {
	h := fnv.New64a()
	_, _ = h.Write([]byte(proto + " " + to.String()))
	draw := rand.New(rand.NewPCG(c.seed, h.Sum64()+c.ordinal(proto, to)))
	f := &flow{c: c, at: Flow{Proto: proto, Local: local, To: to, Fresh: true, Rand: draw}}
	f.renew()
	return f
}

// renew shows the flow to the middleboxes of now, if they have changed. Call
// with mu held, or before anyone else knows f.
func (f *flow) renew() {
	boxes := f.c.boxes.Load()
	if boxes == f.boxes {
		return
	}
	f.insp = nil
	for _, b := range *boxes {
		if i := b.Flow(f.at); i != nil {
			f.insp = append(f.insp, namedInspector{b.name, i})
		}
	}
	f.boxes = boxes
	f.at.Fresh = false // to whoever comes later
}

// stale reports whether the middleboxes have changed since the flow met them.
func (f *flow) stale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boxes != f.c.boxes.Load()
}

// connect judges the handshake: the first that does not let it pass decides.
func (f *flow) connect() Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renew()
	var all Verdict
	for _, i := range f.insp {
		v := i.Connect()
		f.report(i.name, v, 0)
		if v.Action != Pass {
			return v
		}
		all.Delay += v.Delay
	}
	return all
}

// out judges b on its way from the reader, in on its way to him: one middlebox
// after the other, each shown what the one before let through.
func (f *flow) out(b []byte) Verdict { return f.judge(b, false) }
func (f *flow) in(b []byte) Verdict  { return f.judge(b, true) }

func (f *flow) judge(b []byte, in bool) Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renew()
	f.used = time.Now()
	var all Verdict
	for n := range f.insp {
		i := f.insp[n]
		var v Verdict
		if in {
			i = f.insp[len(f.insp)-1-n]
			v = i.In(b)
		} else {
			v = i.Out(b)
		}
		f.report(i.name, v, len(b))
		if len(v.Inject) > 0 {
			all.Inject = append(all.Inject, v.Inject...)
			all.InjectDelay = max(all.InjectDelay, v.InjectDelay)
		}
		all.Delay += v.Delay
		if v.Data != nil {
			b, all.Data = v.Data, v.Data
		}
		if v.Action == Freeze {
			// The others see what is left, and may cut it shorter.
			b = b[:min(v.Keep, len(b))]
			all.Action = Freeze
			continue
		}
		if v.Action != Pass {
			all.Action = v.Action
			return all
		}
	}
	all.Keep = len(b)
	return all
}

func (f *flow) report(rule string, v Verdict, size int) {
	if f.c.trace == nil {
		return
	}
	now := time.Now()
	tell := func(a Action, size int) {
		f.c.trace(Event{At: now, Rule: rule, Action: a, Proto: f.at.Proto, To: f.at.To, Size: size})
	}
	if v.Action != Pass {
		tell(v.Action, size)
	}
	for _, b := range v.Inject {
		tell(Inject, len(b))
	}
	if v.Data != nil && size > 0 {
		tell(Spoil, size)
	}
	if v.Delay > 0 && v.Action == Pass {
		tell(Pace, size)
	}
}

// idle reports whether nothing has passed since t.
func (f *flow) idle(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used.Before(t)
}

const (
	// maxFlows bounds what one UDP socket remembers; flowIdle is when a flow
	// without packets is forgotten and the next one counts as new.
	maxFlows = 1024
	flowIdle = time.Minute
)

// flows are those of one UDP socket, by peer.
type flows struct {
	c     *Censor
	local netip.AddrPort

	mu sync.Mutex
	by map[netip.AddrPort]*flow
}

func (s *flows) get(to netip.AddrPort) *flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := time.Now().Add(-flowIdle)
	if f := s.by[to]; f != nil && !f.idle(old) {
		return f
	}
	if len(s.by) >= maxFlows {
		s.forget(old)
	}
	f := newFlow(s.c, UDP, s.local, to)
	f.used = time.Now()
	s.by[to] = f
	return f
}

// forget drops idle flows, or if there are none a quarter of the others, the
// longest unused first.
func (s *flows) forget(old time.Time) {
	type one struct {
		to   netip.AddrPort
		used time.Time
	}
	all := make([]one, 0, len(s.by))
	for to, f := range s.by {
		f.mu.Lock()
		all = append(all, one{to, f.used})
		f.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b one) int { return a.used.Compare(b.used) })
	for i, o := range all {
		if i < maxFlows/4 || o.used.Before(old) {
			delete(s.by, o.to)
		}
	}
}

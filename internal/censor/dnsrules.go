package censor

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// ForgeAnswers injects forged answers to queries for listed zones, over UDP, to
// whatever server; the query goes on, so the true answer comes too, later. One
// has an address, whatever was asked, which is what the GFW does; if text was
// asked another has text, another what reads as a record of the news with nothing below,
// another one each time, and the last says that there is no such name.
type ForgeAnswers struct{}

// Name implements Rule.
func (ForgeAnswers) Name() string { return "forge dns" }

// Start implements Rule.
func (ForgeAnswers) Start(m *Map) Box { return forgeBox{m} }

type forgeBox struct{ m *Map }

func (b forgeBox) Flow(f Flow) Inspector {
	if f.Proto != UDP || !PlainDNS(b.m, f.Proto, f.To) {
		return nil
	}
	return &forger{m: b.m, rand: f.Rand}
}

type forger struct {
	Passing
	m    *Map
	rand *rand.Rand
}

func (f *forger) Out(b []byte) Verdict {
	q, ok := readQuestion(b, false)
	if !ok || !lists(f.m.Zones, q.name) {
		return Verdict{}
	}
	addr := make([]byte, 4)
	binary.BigEndian.PutUint32(addr, f.rand.Uint32())
	forged := [][]byte{answerWith(reply(b, q, 0), dnsTypeA, 300, addr)}
	if q.kind == dnsTypeTXT {
		junk := make([]byte, 64)
		for i := range junk {
			junk[i] = byte('a' + f.rand.IntN(26))
		}
		leaf := make([]byte, 1+200)
		for i := range leaf {
			leaf[i] = byte(f.rand.IntN(256))
		}
		leaf[0], leaf[1] = byte(len(leaf)-1), 0 // of what kind it is (FORMAT.md)
		for _, text := range [][]byte{append([]byte{byte(len(junk))}, junk...), leaf} {
			forged = append(forged, answerWith(reply(b, q, 0), dnsTypeTXT, 300, text))
		}
		forged = append(forged, reply(b, q, dnsNoName))
	}
	return Verdict{Inject: forged}
}

// Resolver plays the vices of the ISP's resolvers (Map.Resolvers), on the way to
// them, over UDP and TCP. The zero value has none.
type Resolver struct {
	// LongestName is how long a name may be, without the dot at the end; longer
	// ones get no answer.
	LongestName int
	// MixCase changes the case of letters in names, asked and answered.
	MixCase bool
	// LargestAnswer is what an answer over UDP may have in bytes; of larger ones
	// only the question comes, marked as cut.
	LargestAnswer int
	// NoTCP refuses connections.
	NoTCP bool
	// Spoil replaces bytes over 127 in TXT records by question marks.
	Spoil bool
	// Rate is how many queries a second each resolver answers, with bursts of as
	// many; the others are refused.
	Rate float64
	// CoolAfter so many queries to one zone each resolver fails all of them
	// (SERVFAIL) for CoolFor. A minute without a query counts anew.
	CoolAfter int
	CoolFor   time.Duration
	// KeepFor is how long an answer is repeated at least, whatever its TTL.
	KeepFor time.Duration
}

const (
	// thinking is how long a resolver takes to say no.
	thinking = 5 * time.Millisecond
	// maxKept bounds a resolver's cache in answers, maxZones the zones it counts.
	maxKept  = 8192
	maxZones = 1024
)

// Name implements Rule.
func (Resolver) Name() string { return "resolver" }

// Start implements Rule.
func (r Resolver) Start(m *Map) Box {
	return &resolverBox{Resolver: r, m: m, by: map[netip.AddrPort]*resolverState{}}
}

type resolverBox struct {
	Resolver
	m *Map

	mu sync.Mutex
	by map[netip.AddrPort]*resolverState
}

// resolverState is what one resolver remembers of all its clients here.
type resolverState struct {
	Resolver
	m *Map

	mu    sync.Mutex
	limit bucket // in thousandths of a query
	zones map[string]*zoneState
	kept  map[question]keptAnswer
	order []question // of kept, the oldest first
}

type zoneState struct {
	asked int
	last  time.Time
	cool  time.Time // until then
}

type keptAnswer struct {
	msg   []byte
	until time.Time
}

func (b *resolverBox) Flow(f Flow) Inspector {
	if !Resolvers(b.m, f.Proto, f.To) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.by[f.To]
	if s == nil {
		rate := int64(b.Rate * 1000)
		s = &resolverState{
			Resolver: b.Resolver, m: b.m, limit: bucket{rate: rate, burst: rate},
			zones: map[string]*zoneState{}, kept: map[question]keptAnswer{},
		}
		b.by[f.To] = s
	}
	return &resolverFlow{s: s, stream: f.Proto == TCP, fresh: f.Fresh, rand: f.Rand}
}

type resolverFlow struct {
	s       *resolverState
	stream  bool
	fresh   bool
	rand    *rand.Rand
	out, in frames
	no      map[uint16]byte // queries on a stream that get this code for an answer
}

func (f *resolverFlow) Connect() Verdict {
	if f.s.NoTCP {
		return Verdict{Action: Reset}
	}
	return Verdict{}
}

func (f *resolverFlow) Out(b []byte) Verdict {
	if !f.stream {
		m, no := f.query(b)
		switch {
		case no != nil:
			return Verdict{Action: Drop, Inject: [][]byte{no}, InjectDelay: thinking}
		case m == nil:
			return Verdict{Action: Drop}
		}
		return changed(b, m)
	}
	if !f.fresh { // in the midst of a stream there is no telling where messages start
		return Verdict{}
	}
	out := f.out.next(b, func(m []byte) []byte {
		asked, no := f.query(m)
		if no == nil {
			return asked
		}
		// It goes on, and gets its code on the way back: nothing can be put into
		// a stream out of turn.
		if f.no == nil {
			f.no = map[uint16]byte{}
		}
		f.no[binary.BigEndian.Uint16(m)] = no[3] & 0xf
		return m
	})
	return changed(b, out)
}

func (f *resolverFlow) In(b []byte) Verdict {
	if !f.stream {
		return changed(b, f.answer(b))
	}
	if !f.fresh {
		return Verdict{}
	}
	return changed(b, f.in.next(b, func(m []byte) []byte {
		if len(m) < 2 {
			return m
		}
		id := binary.BigEndian.Uint16(m)
		if rcode, ok := f.no[id]; ok {
			delete(f.no, id)
			if q, ok := readQuestion(m, true); ok {
				return reply(m, q, rcode)
			}
		}
		return f.answer(m)
	}))
}

// changed passes to instead of from, if it differs.
func changed(from, to []byte) Verdict {
	if bytes.Equal(from, to) {
		return Verdict{}
	}
	return Verdict{Data: to}
}

// query judges a query: what goes on instead (nil: nothing), or what is answered
// at once.
func (f *resolverFlow) query(b []byte) (m, no []byte) {
	q, ok := readQuestion(b, false)
	if !ok {
		return b, nil
	}
	if f.s.LongestName > 0 && len(q.name) > f.s.LongestName {
		return nil, nil
	}
	if rcode := f.s.count(q.name); rcode != 0 {
		return nil, reply(b, q, rcode)
	}
	if f.s.MixCase {
		b = bytes.Clone(b)
		labels(b, dnsHeader, func(l []byte) { mixCase(l, f.rand) })
	}
	return b, nil
}

// count counts a query and returns the code that it is refused with, or 0.
func (s *resolverState) count(name string) byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit.late(1000) > 0 {
		return dnsRefused
	}
	s.limit.take(1000)
	if s.CoolAfter == 0 {
		return 0
	}
	zone, ok := listed(s.m.Zones, name)
	if !ok {
		zone = lastLabels(name)
	}
	now := time.Now()
	z := s.zones[zone]
	if z == nil {
		if len(s.zones) >= maxZones {
			clear(s.zones)
		}
		z = &zoneState{}
		s.zones[zone] = z
	}
	if now.Before(z.cool) {
		return dnsServfail
	}
	if now.Sub(z.last) > time.Minute {
		z.asked = 0
	}
	z.last = now
	if z.asked++; z.asked > s.CoolAfter {
		z.asked, z.cool = 0, now.Add(s.CoolFor)
		return dnsServfail
	}
	return 0
}

// lastLabels is the zone that someone who knows of no other counts by: the last
// two labels.
func lastLabels(name string) string {
	dots := 0
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			if dots++; dots == 2 {
				return name[i+1:]
			}
		}
	}
	return name
}

// answer returns what becomes of an answer.
func (f *resolverFlow) answer(b []byte) []byte {
	q, ok := readQuestion(b, true)
	if !ok {
		return b
	}
	b = f.s.keep(bytes.Clone(b), q)
	if q, ok = readQuestion(b, true); !ok { // the kept one has its own end
		return b
	}
	if f.s.MixCase {
		flip := func(l []byte) { mixCase(l, f.rand) }
		labels(b, dnsHeader, flip)
		answers(b, q, flip, func(uint16, []byte) {})
	}
	if f.s.Spoil {
		answers(b, q, func([]byte) {}, func(kind uint16, rdata []byte) {
			if kind == dnsTypeTXT {
				spoilTXT(rdata)
			}
		})
	}
	if f.s.LargestAnswer > 0 && !f.stream && len(b) > f.s.LargestAnswer {
		return truncated(b, q)
	}
	return b
}

// keep returns the answer that is in the cache, under b's ID, or puts b there.
func (s *resolverState) keep(b []byte, q question) []byte {
	if s.KeepFor <= 0 || b[2]&2 != 0 { // a cut one is no answer
		return b
	}
	end := q.end
	q.end = 0
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if k, ok := s.kept[q]; ok && now.Before(k.until) {
		old := bytes.Clone(k.msg)
		copy(old, b[:2])                        // ID
		copy(old[dnsHeader:], b[dnsHeader:end]) // the name as it was spelled: the lengths are alike
		return old
	}
	if b[3]&0xf != 0 && b[3]&0xf != 3 { // what failed is asked again
		return b
	}
	if _, ok := s.kept[q]; !ok {
		if len(s.order) >= maxKept {
			delete(s.kept, s.order[0])
			s.order = s.order[1:]
		}
		s.order = append(s.order, q)
	}
	s.kept[q] = keptAnswer{bytes.Clone(b), now.Add(s.KeepFor)}
	return b
}

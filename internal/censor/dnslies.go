package censor

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
)

// LyingResolver has the first of Map.Resolvers lie in every answer, over UDP and
// TCP, each time in one of Lies as drawn: EvilFlip flips a bit in the records;
// EvilCut ends the message too soon; EvilOld repeats the first answer that this
// name ever got, or another name's; EvilGarbage makes text up. Others are no
// lies that a resolver can tell, and count as EvilFlip.
type LyingResolver struct{ Lies []Evil }

// Name implements Rule.
func (LyingResolver) Name() string { return "lying resolver" }

// Start implements Rule.
func (r LyingResolver) Start(m *Map) Box {
	return &liarBox{r: LyingResolver{slices.Clone(r.Lies)}, m: m, old: map[string][]byte{}}
}

type liarBox struct {
	r LyingResolver
	m *Map

	mu   sync.Mutex
	old  map[string][]byte // the RDATA of the first TXT answer, by name; at most maxKept
	last []byte            // of whatever name
}

func (b *liarBox) Flow(f Flow) Inspector {
	if len(b.r.Lies) == 0 || len(b.m.Resolvers) == 0 || f.To != b.m.Resolvers[0] {
		return nil
	}
	return &liar{b: b, stream: f.Proto == TCP, fresh: f.Fresh, rand: f.Rand}
}

type liar struct {
	Passing
	b      *liarBox
	stream bool
	fresh  bool
	rand   *rand.Rand
	in     frames
}

func (l *liar) In(b []byte) Verdict {
	switch {
	case !l.stream:
		return Verdict{Data: l.lie(bytes.Clone(b))}
	case !l.fresh:
		return Verdict{}
	}
	return Verdict{Data: l.in.next(b, func(m []byte) []byte { return l.lie(bytes.Clone(m)) })}
}

// lie returns what comes instead of an answer; it may change b.
func (l *liar) lie(b []byte) []byte {
	q, ok := readQuestion(b, true)
	if !ok {
		return b
	}
	var text []byte
	answers(b, q, func([]byte) {}, func(kind uint16, rdata []byte) {
		if kind == dnsTypeTXT && text == nil {
			text = rdata
		}
	})
	if text == nil { // there is nothing to lie about but that there is nothing
		return l.makeUp(b, q)
	}
	switch l.b.r.Lies[l.rand.IntN(len(l.b.r.Lies))] {
	case EvilCut:
		return b[:q.end+l.rand.IntN(len(b)-q.end)]
	case EvilOld:
		if old := l.b.another(q.name, text); old != nil && !bytes.Equal(old, text) {
			return answerWith(reply(b, q, 0), dnsTypeTXT, 86400, old)
		}
	case EvilGarbage:
		return l.makeUp(b, q)
	default:
	}
	if len(text) > 1 {
		text[1+l.rand.IntN(len(text)-1)] ^= 1 << l.rand.IntN(8)
	}
	return b
}

func (l *liar) makeUp(b []byte, q question) []byte {
	junk := make([]byte, 1+l.rand.IntN(255))
	for i := range junk {
		junk[i] = byte(l.rand.Uint32())
	}
	junk[0] = byte(len(junk) - 1)
	b = answerWith(reply(b, q, 0), dnsTypeTXT, 86400, junk)
	binary.BigEndian.PutUint16(b[10:], 0)
	return b
}

// another remembers text, and returns the oldest one for the name, or if that is
// the same the last one of any name.
func (b *liarBox) another(name string, text []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, last := b.old[name], b.last
	b.last = bytes.Clone(text)
	if old == nil && len(b.old) < maxKept {
		b.old[name] = b.last
	}
	if old != nil && !bytes.Equal(old, text) || last == nil {
		return old
	}
	return last
}

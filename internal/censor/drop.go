package censor

import (
	"net/netip"
	"sync"
	"time"
)

// DropAll loses everything to and from the targets: a TCP handshake gets no
// answer, an open connection stands still.
type DropAll struct{ To Target }

// Name implements Rule.
func (DropAll) Name() string { return "drop" }

// Start implements Rule.
func (r DropAll) Start(m *Map) Box { return dropBox{r, m} }

type dropBox struct {
	DropAll
	m *Map
}

func (b dropBox) Flow(f Flow) Inspector {
	if !b.To(b.m, f.Proto, f.To) {
		return nil
	}
	return dropped{}
}

type dropped struct{}

func (dropped) Connect() Verdict   { return Verdict{Action: Drop} }
func (dropped) Out([]byte) Verdict { return Verdict{Action: Drop} }
func (dropped) In([]byte) Verdict  { return Verdict{Action: Drop} }

// ResetAll refuses TCP connections to the targets and resets open ones.
type ResetAll struct{ To Target }

// Name implements Rule.
func (ResetAll) Name() string { return "reset" }

// Start implements Rule.
func (r ResetAll) Start(m *Map) Box { return resetBox{r, m} }

type resetBox struct {
	ResetAll
	m *Map
}

func (b resetBox) Flow(f Flow) Inspector {
	if f.Proto != TCP || !b.To(b.m, f.Proto, f.To) {
		return nil
	}
	return refused{}
}

type refused struct{ Passing }

func (refused) Connect() Verdict { return Verdict{Action: Reset} }

// DropRelays loses everything to and from relays' addresses: the first of
// Map.Relays from the start, and while any other of them is used, one more in
// that order each time Every has passed. Nothing is ever forgiven.
type DropRelays struct{ Every time.Duration }

// Name implements Rule.
func (DropRelays) Name() string { return "drop relay" }

// Start implements Rule.
func (r DropRelays) Start(m *Map) Box { return &relayBox{DropRelays: r, m: m, n: 1} }

type relayBox struct {
	DropRelays
	m *Map

	mu   sync.Mutex
	n    int       // how many are dropped
	last time.Time // when the last one was, or when the first use was seen
}

func (b *relayBox) Flow(f Flow) Inspector {
	for _, r := range b.m.Relays {
		if sameHost(r, f.To) {
			return relayFlow{b, f.To}
		}
	}
	return nil
}

// judge decides about one more packet to or from a relay.
func (b *relayBox) judge(to netip.AddrPort) Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	drops := func() bool {
		for _, r := range b.m.Relays[:min(b.n, len(b.m.Relays))] {
			if sameHost(r, to) {
				return true
			}
		}
		return false
	}
	if drops() {
		return Verdict{Action: Drop}
	}
	now := time.Now()
	if b.last.IsZero() {
		b.last = now
	}
	if now.Sub(b.last) >= b.Every {
		b.n, b.last = b.n+1, now
		if drops() {
			return Verdict{Action: Drop}
		}
	}
	return Verdict{}
}

type relayFlow struct {
	b  *relayBox
	to netip.AddrPort
}

func (f relayFlow) Connect() Verdict   { return f.b.judge(f.to) }
func (f relayFlow) Out([]byte) Verdict { return f.b.judge(f.to) }
func (f relayFlow) In([]byte) Verdict  { return f.b.judge(f.to) }

// FreezeAfter lets Bytes of a TCP connection to a target through, both ways
// taken together, and then nothing more, without a word (net4people/bbs#490).
type FreezeAfter struct {
	Bytes int
	To    Target
}

// Name implements Rule.
func (FreezeAfter) Name() string { return "freeze" }

// Start implements Rule.
func (r FreezeAfter) Start(m *Map) Box { return freezeBox{r, m} }

type freezeBox struct {
	FreezeAfter
	m *Map
}

func (b freezeBox) Flow(f Flow) Inspector {
	if f.Proto != TCP || !b.To(b.m, f.Proto, f.To) {
		return nil
	}
	return &freezing{left: b.Bytes}
}

type freezing struct {
	Passing
	left int
}

func (f *freezing) Out(b []byte) Verdict { return f.count(len(b)) }
func (f *freezing) In(b []byte) Verdict  { return f.count(len(b)) }

func (f *freezing) count(n int) Verdict {
	if n <= f.left {
		f.left -= n
		return Verdict{}
	}
	keep := f.left
	f.left = 0
	return Verdict{Action: Freeze, Keep: keep}
}

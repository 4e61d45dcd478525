package censor

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Rule describes one middlebox. It is data and may be used by many censors at
// once.
type Rule interface {
	// Name is what traces call it, in a word or two.
	Name() string
	// Start puts up such a middlebox, with an empty memory. m is not changed.
	Start(m *Map) Box
}

// Box is a middlebox at work. Its methods are called from several goroutines at
// once.
type Box interface {
	// Flow is called for every new flow. nil: it does not care about this one.
	Flow(f Flow) Inspector
}

// The two protocols of a Flow.
const (
	UDP = "udp"
	TCP = "tcp"
)

// Flow is what a middlebox sees of a flow before it carries anything.
type Flow struct {
	// Proto is UDP or TCP.
	Proto string
	// Local is the reader's end; its address may be unspecified. To is the other.
	Local, To netip.AddrPort
	// Fresh is false if the flow was open before the middlebox came: it
	// can't know what was said at the start.
	Fresh bool
	// Rand draws faults from the censor's seed, of this flow alone.
	Rand *rand.Rand
}

// Inspector is what one middlebox knows of one flow. Its methods are called one
// at a time. They don't keep or change b.
type Inspector interface {
	// Connect judges the handshake of a TCP connection: Pass, Drop or Reset,
	// and Delay. It is called again for connections that are open when the
	// rules change.
	Connect() Verdict
	// Out judges a datagram or a piece of a stream on its way from the reader, In
	// one on its way to him.
	Out(b []byte) Verdict
	In(b []byte) Verdict
}

// Passing is an Inspector that lets all pass, to be embedded by others.
type Passing struct{}

var _ Inspector = Passing{}

// Connect implements Inspector.
func (Passing) Connect() Verdict { return Verdict{} }

// Out implements Inspector.
func (Passing) Out([]byte) Verdict { return Verdict{} }

// In implements Inspector.
func (Passing) In([]byte) Verdict { return Verdict{} }

// Action is what is done to something on its way.
type Action string

// What a Verdict may hold (the first four), and what traces speak of.
const (
	Pass   Action = ""
	Drop   Action = "drop"   // it is gone; a stream stands still from here on
	Reset  Action = "reset"  // the connection is reset, at both ends where that can be done
	Freeze Action = "freeze" // a stream's first Keep bytes of this piece pass, then nothing more, ever

	Inject Action = "inject" // a forged answer
	Pace   Action = "pace"   // it comes later
	Spoil  Action = "spoil"  // it was altered
)

// Verdict is what becomes of a datagram or a piece of a stream. The zero
// Verdict lets it pass.
type Verdict struct {
	Action Action
	// Data is what goes on instead; nil: as it was. A stream's piece may shrink
	// to nothing ([]byte{}) and come later with another one.
	Data []byte
	// Keep is for Freeze.
	Keep int
	// Delay is how much later it goes on.
	Delay time.Duration
	// Inject is forged datagrams that reach the reader InjectDelay from now.
	Inject      [][]byte
	InjectDelay time.Duration
}

// Event is one thing that a middlebox did, for a trace.
type Event struct {
	At     time.Time
	Rule   string
	Action Action
	Proto  string
	To     netip.AddrPort
	Size   int // bytes that it happened to; 0 for a TCP handshake
}

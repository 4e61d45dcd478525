package censor

import (
	"slices"
	"strings"
	"time"

	"tamizdat/transport"
)

// Scenario is something that censors do, or that happens to readers, by name.
// It is data: the zero Scenario is an open net.
type Scenario struct {
	// Name is the row's in CENSORS.md; Summary says what is done; Seen where it
	// was measured (net4people/bbs issue numbers, papers).
	Name, Summary, Seen string
	// Rules are the middleboxes between reader and world, the reader's side first.
	Rules []Rule
	// Line is what the reader's line is like.
	Line Line
	// Far is what is wrong at the far end.
	Far Far
	// Clock is how far the reader's clock is ahead (behind if negative).
	Clock time.Duration
	// Open are the ways that are still open; see Ways.
	Open []Way
	// Still are the kinds of path (transport.Kind…) of Open: at least one must
	// still bring the news. Empty: none can. transport.KindFile is not among
	// them, since no censor of a line stops what is carried by hand.
	Still []string
	// NotYet names, in one phrase, the counter-measure that the scenario waits
	// for; empty if there is none to wait for.
	NotYet string
	// Pairs tells that the scenario can run along with others.
	Pairs bool
}

// Way is how a kind of path travels, as far as scenarios tell ways apart.
type Way string

// The ways. A scenario names those that it leaves open to at least one of the
// servers in an invite.
const (
	ViaQUIC     Way = "quic"      // a relay over QUIC v1
	ViaTCP      Way = "tcp"       // a relay over TLS over TCP, in connections of any size
	ViaCDNQUIC  Way = "cdn/quic"  // a relay behind a CDN's name, over QUIC v1
	ViaCDNTCP   Way = "cdn/tcp"   // the same over TLS over TCP
	ViaGateway  Way = "gateway"   // a public IPFS gateway
	ViaIPFSQUIC Way = "ipfs/quic" // libp2p peers over QUIC
	ViaIPFSTCP  Way = "ipfs/tcp"  // libp2p peers over TCP
	ViaDNSUDP   Way = "dns/udp"   // the ISP's resolver over UDP
	ViaDNSTCP   Way = "dns/tcp"   // the ISP's resolver over TCP
)

// kindsOf says which kinds of path go which way. What a CDN carries may be a
// relay or, over TCP, a gateway to a reader.
var kindsOf = map[Way][]string{
	ViaQUIC:     {transport.KindQUIC},
	ViaTCP:      {transport.KindTCP},
	ViaCDNQUIC:  {transport.KindQUIC},
	ViaCDNTCP:   {transport.KindTCP, transport.KindGateway},
	ViaGateway:  {transport.KindGateway},
	ViaIPFSQUIC: {transport.KindIPFS},
	ViaIPFSTCP:  {transport.KindIPFS},
	ViaDNSUDP:   {transport.KindDNS},
	ViaDNSTCP:   {transport.KindDNS},
}

// Ways returns all ways but those given.
func Ways(but ...Way) []Way {
	all := []Way{ViaQUIC, ViaTCP, ViaCDNQUIC, ViaCDNTCP, ViaGateway, ViaIPFSQUIC, ViaIPFSTCP, ViaDNSUDP, ViaDNSTCP}
	return slices.DeleteFunc(all, func(w Way) bool { return slices.Contains(but, w) })
}

// Freezes reports whether TCP connections carry only so much in a scenario.
func (s Scenario) Freezes() bool {
	return slices.ContainsFunc(s.Rules, func(r Rule) bool { _, ok := r.(FreezeAfter); return ok })
}

// kinds returns the kinds of path that a scenario leaves open, in their usual
// order.
func kinds(s Scenario) []string {
	ways := s.Open
	// Where connections freeze what goes over TCP goes in pieces, which a gateway
	// behind a CDN does not know of.
	frozen := s.Freezes()
	var out []string
	for _, k := range []string{transport.KindQUIC, transport.KindTCP, transport.KindGateway, transport.KindIPFS, transport.KindDNS} {
		if frozen && k == transport.KindGateway {
			continue
		}
		if slices.ContainsFunc(ways, func(w Way) bool { return slices.Contains(kindsOf[w], k) }) {
			out = append(out, k)
		}
	}
	return out
}

// Evil is one way in which a server lies.
type Evil string

// The lies.
const (
	EvilFlip    Evil = "flip"           // flips bits
	EvilCut     Evil = "cut"            // ends answers too soon
	EvilOld     Evil = "old-head"       // serves an old head
	EvilFork    Evil = "forked-head"    // serves a head of another history
	EvilForeign Evil = "foreign-blocks" // serves another channel's blocks
	EvilEndless Evil = "endless"        // a body without end
	EvilTrickle Evil = "trickle"        // one byte a second
	EvilGarbage Evil = "garbage"        // bytes of no meaning
)

// Far is what is wrong at the far end: for each kind of server the lies that one
// of them tells, in turn. Relay and Peer are for the world to play, since a
// censor on the line can't: it holds no keys. Resolver tells what the rule
// LyingResolver plays; the world leaves it alone.
type Far struct {
	Relay, Peer, Resolver []Evil
}

// Scenarios returns all known scenarios, in the order of CENSORS.md.
func Scenarios() []Scenario {
	all := scenarios()
	for i := range all {
		all[i].Still = kinds(all[i])
	}
	return all
}

// Lookup finds a scenario by name: "quic-sni", a pair as "quic-sni+udp-drop".
// "clock" is the first of the two with a wrong clock.
func Lookup(name string) (Scenario, bool) {
	if a, b, ok := strings.Cut(name, "+"); ok {
		x, okx := Lookup(a)
		y, oky := Lookup(b)
		if !okx || !oky || !x.Pairs || !y.Pairs {
			return Scenario{}, false
		}
		return Pair(x, y), true
	}
	if name == "clock" {
		name = "clock-ahead"
	}
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}

// Pairs returns every pair of two scenarios that can run together, but those
// with `open`, which adds nothing, and the two clocks, which contradict each
// other. Some leave no way open.
func Pairs() []Scenario {
	var out []Scenario
	all := slices.DeleteFunc(Scenarios(), func(s Scenario) bool { return !s.Pairs || s.Name == "open" })
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.Clock == 0 || b.Clock == 0 {
				out = append(out, Pair(a, b))
			}
		}
	}
	return out
}

// Pair is both scenarios at once: the rules of both, the worse of both lines,
// what is wrong at either far end, the clock that is further off (a's if they
// are alike), and open only what is open in both.
func Pair(a, b Scenario) Scenario {
	p := Scenario{
		Name:    a.Name + "+" + b.Name,
		Summary: a.Summary + "; " + b.Summary,
		Seen:    joined(a.Seen, b.Seen),
		Rules:   slices.Concat(a.Rules, b.Rules),
		Line:    worse(a.Line, b.Line),
		Far: Far{
			Relay:    slices.Concat(a.Far.Relay, b.Far.Relay),
			Peer:     slices.Concat(a.Far.Peer, b.Far.Peer),
			Resolver: slices.Concat(a.Far.Resolver, b.Far.Resolver),
		},
		Clock:  a.Clock,
		NotYet: joined(a.NotYet, b.NotYet),
		Pairs:  a.Pairs && b.Pairs,
	}
	if b.Clock.Abs() > a.Clock.Abs() {
		p.Clock = b.Clock
	}
	for _, w := range a.Open {
		if slices.Contains(b.Open, w) {
			p.Open = append(p.Open, w)
		}
	}
	p.Still = kinds(p)
	return p
}

func joined(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}

package censor

import (
	"slices"
	"testing"
	"time"

	"tamizdat/transport"
)

// rows are the names in CENSORS.md.
var rows = []string{
	"open", "quic-sni", "quic-sni-reassembly", "ech-drop", "quic-v1-drop", "udp-drop", "tls-sni-rst", "tcp-freeze-16k",
	"ip-block", "random-bytes", "throttle", "loss-60-up", "loss-5-5", "dns-inject", "dns-only", "dns-hostile", "dns-ttl",
	"doh-block", "mtu-1280", "ipfs-block", "allowlist", "offline", "prober", "evil-relay", "evil-peer", "evil-resolver",
	"clock", "seizure",
}

func TestEveryRowIsThere(t *testing.T) {
	for _, name := range rows {
		s, ok := Lookup(name)
		if !ok {
			t.Errorf("%s: no such scenario", name)
			continue
		}
		if s.Summary == "" {
			t.Errorf("%s: no summary", name)
		}
		if alone := name == "prober" || name == "seizure"; s.Pairs == alone {
			t.Errorf("%s: pairs is %v", name, s.Pairs)
		}
		if none := name == "offline"; (len(s.Still) == 0) != none {
			t.Errorf("%s: still open: %v", name, s.Still)
		}
	}
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if names[s.Name] {
			t.Errorf("%s: twice", s.Name)
		}
		names[s.Name] = true
		if !slices.Contains(rows, s.Name) && s.Clock == 0 {
			t.Errorf("%s: not in the table of rows", s.Name)
		}
	}
	ahead, _ := Lookup("clock")
	behind, _ := Lookup("clock-behind")
	if ahead.Clock < 2*365*24*time.Hour || behind.Clock != -ahead.Clock {
		t.Errorf("clocks: %v and %v", ahead.Clock, behind.Clock)
	}
	for name, want := range map[string]Line{
		"loss-60-up": {LossUp: 0.6}, "loss-5-5": {RTT: 100 * time.Millisecond, LossUp: 0.05, LossDown: 0.05},
		"mtu-1280": {MTU: 1280}, "open": {},
	} {
		if s, _ := Lookup(name); s.Line != want {
			t.Errorf("%s: line %+v", name, s.Line)
		}
	}
	for name, want := range map[string]int{"evil-relay": 7, "evil-peer": 7, "evil-resolver": 4, "open": 0} {
		if s, _ := Lookup(name); len(s.Far.Relay)+len(s.Far.Peer)+len(s.Far.Resolver) != want {
			t.Errorf("%s: lies %+v", name, s.Far)
		}
	}
	if _, ok := Lookup("no-such"); ok {
		t.Error("found a scenario that isn't there")
	}
}

func TestStill(t *testing.T) {
	const (
		q, tcp, g, i, d = transport.KindQUIC, transport.KindTCP, transport.KindGateway, transport.KindIPFS, transport.KindDNS
	)
	for name, want := range map[string][]string{
		"open":                        {q, tcp, g, i, d},
		"udp-drop":                    {tcp, g, i, d},
		"quic-v1-drop+tcp-freeze-16k": {q, tcp, d},       // libp2p over QUIC is gone, and over TCP
		"udp-drop+tcp-freeze-16k":     {tcp, d},          // in small connections
		"ip-block":                    {q, tcp, g, i, d}, // to the relay behind the CDN
		"allowlist":                   {q, tcp, g, d},
		"allowlist+tcp-freeze-16k":    {q, tcp, d}, // the CDN
		"dns-only+evil-resolver":      nil,
		"dns-only+ipfs-block":         {d},
		"offline+open":                nil,
	} {
		s, ok := Lookup(name)
		if !ok || !slices.Equal(s.Still, want) {
			t.Errorf("%s: still %v, want %v", name, s.Still, want)
		}
	}
}

func TestPair(t *testing.T) {
	a := Scenario{
		Name: "a", Rules: []Rule{DropAll{}}, Line: Line{RTT: 1, LossUp: 0.1, MTU: 1400, Up: 5}, Clock: 3,
		Far: Far{Relay: []Evil{EvilCut}}, Open: Ways(ViaTCP), Pairs: true, NotYet: "x",
	}
	b := Scenario{
		Name: "b", Rules: []Rule{DropRandom{}, ResetNames{}}, Line: Line{RTT: 2, LossDown: 0.2, MTU: 1280}, Clock: -4,
		Far: Far{Relay: []Evil{EvilFlip}}, Open: Ways(ViaQUIC), Pairs: true,
	}
	p := Pair(a, b)
	if p.Name != "a+b" || len(p.Rules) != 3 || p.Clock != -4 || !p.Pairs || p.NotYet != "x" || len(p.Far.Relay) != 2 {
		t.Errorf("pair: %+v", p)
	}
	if want := (Line{RTT: 2, LossUp: 0.1, LossDown: 0.2, MTU: 1280, Up: 5}); p.Line != want {
		t.Errorf("line %+v, want %+v", p.Line, want)
	}
	if slices.Contains(p.Open, ViaTCP) || slices.Contains(p.Open, ViaQUIC) || !slices.Contains(p.Open, ViaCDNTCP) {
		t.Errorf("open: %v", p.Open)
	}
	if len(a.Rules) != 1 || len(b.Rules) != 2 {
		t.Error("the parts were changed")
	}
	pairs := Pairs()
	n := len(Scenarios()) - 3 // open, prober, seizure
	if want := n*(n-1)/2 - 1; len(pairs) != want {
		t.Errorf("%d pairs, want %d", len(pairs), want)
	}
	for _, p := range pairs {
		if found, ok := Lookup(p.Name); !ok || !slices.Equal(found.Open, p.Open) {
			t.Errorf("%s: not found by its name", p.Name)
		}
	}
}

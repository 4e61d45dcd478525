//go:build linux && !android

package netns

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/censor"
	"tamizdat/transport"
)

// scenario is a row of CENSORS.md, as a kernel plays it. Which ways it leaves
// open is what the model says, the row of that name in package censor.
type scenario struct {
	name string
	// rules are nft statements of the router's forward chain, for the packets of
	// one reader; what they take goes to the chain lost. They may name $reader,
	// $isp (its resolver), $relay1, $relay2 and $cdn.
	rules string
	// also are ways that are open here although the model doesn't promise them.
	also []string
}

var scenarios = []scenario{{
	name: "open",
}, {
	// One statement for each direction: nft 1.0.6 makes one comparison of
	// "udp sport != 53 udp dport != 53", which is true of every packet.
	name: "udp-drop",
	rules: `ip saddr $reader udp dport != 53 goto lost
		ip daddr $reader udp sport != 53 goto lost`,
}, {
	name:  "quic-v1-drop",
	rules: `udp length >= 1009 @th,64,1 1 @th,72,32 1 goto lost`, // with UDP's own 8 bytes; long header; version
}, {
	// ct bytes counts both ways, headers included.
	name:  "tcp-freeze-16k",
	rules: `meta l4proto tcp ip saddr != $isp ip daddr != $isp ct bytes > 16384 goto lost`,
}, {
	// The model's censor comes to know more relays with time; this one knows one.
	name:  "ip-block",
	rules: `ip saddr $reader ip daddr $relay1 goto lost`,
	also:  []string{"quic", "tcp"},
}, {
	name:  "dns-only",
	rules: `ip saddr $reader ip daddr != $isp goto lost`,
}, {
	name:  "allowlist",
	rules: `ip saddr $reader ip daddr != { $isp, $cdn } goto lost`,
}, {
	name:  "offline",
	rules: `goto lost`,
}}

// way is one way in, or all of them.
type way struct {
	name string
	// via is what package censor calls it: open if any of these is.
	via []censor.Way
	// shut are nft statements that leave nothing else.
	shut string
	// kind and from tell the paths of this way in mirror status: their kind, and a
	// part of their names. Empty means any.
	kind, from string
	// row is the only scenario in which somebody has this way; empty means all.
	row string
}

var ways = []way{
	{name: "any", via: censor.Ways()},
	{
		name: "quic", via: []censor.Way{censor.ViaQUIC}, kind: transport.KindQUIC, from: net24,
		shut: `ip saddr $reader ip daddr != { $relay1, $relay2 } goto shut
		meta l4proto != udp goto shut`,
	},
	{
		name: "tcp", via: []censor.Way{censor.ViaTCP}, kind: transport.KindTCP, from: net24,
		shut: `ip saddr $reader ip daddr != { $relay1, $relay2 } goto shut
		meta l4proto != tcp goto shut`,
	},
	{
		name: "dns", via: []censor.Way{censor.ViaDNSUDP, censor.ViaDNSTCP}, kind: transport.KindDNS,
		shut: `ip saddr $reader ip daddr != $isp goto shut`,
	},
	{
		name: "cdn", via: []censor.Way{censor.ViaCDNTCP}, from: cdnName,
		shut: `ip saddr $reader ip daddr != $cdn goto shut`,
	},
	{
		name: "relay1", via: []censor.Way{censor.ViaQUIC, censor.ViaTCP}, row: "ip-block", // or quic and tcp say the same
		shut: `ip saddr $reader ip daddr != $relay1 goto shut`,
	},
}

// reader is the name of the reader who has this way in.
func (w way) reader() string { return "by_" + w.name }

// owns reports whether a path is of this way.
func (w way) owns(p path) bool {
	return (w.kind == "" || p.Kind == w.kind) && strings.Contains(p.Name, w.from)
}

// through reports whether the news comes through this way.
func (s scenario) through(t *testing.T, w way) bool {
	t.Helper()
	model, ok := censor.Lookup(s.name)
	if !ok {
		t.Fatalf("package censor has no scenario %q", s.name)
	}
	return slices.Contains(s.also, w.name) ||
		slices.ContainsFunc(w.via, func(v censor.Way) bool { return slices.Contains(model.Open, v) })
}

const (
	// textSize is more than fits through tcp-freeze-16k, also when compressed.
	textSize = 48 << 10
	// extra is how long a reader who must not get the news goes on trying after
	// all who must have it, besides as long again as they needed or, if that is
	// less, for most.
	extra = time.Second
	most  = 3 * time.Second
)

// TestKernel plays every scenario to readers with one way in each, and to one
// with all of them.
func TestKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs many processes: not in short mode")
	}
	need(t)
	sweep(t)
	build(t)
	w := newWorld(t)
	w.publish(t, "yesterday", yesterday)
	for _, way := range ways {
		w.box(t, way.reader())
	}
	w.box(t, "cellar")
	w.box(t, "friend")
	w.settle(t)

	w.publish(t, "today", today)
	// The whole time, a reader whose line is dead waits for what can't come.
	cellar := w.reader(t, "cellar")
	system(t, "", "ip", "-n", w.ns("cellar"), "link", "set", "eth0", "down")
	waiting := cellar.sync(t)

	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { w.play(t, s) })
	}
	t.Run("offline, with a file from a friend", func(t *testing.T) { w.smuggle(t, cellar, waiting) })
}

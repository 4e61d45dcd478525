package censorlab

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/mirror/paths"
	"tamizdat/transport"
)

// measure is a counter-measure in the hands of the real reader, who has nothing else
// that would do: in the scorecard other ways would bring the news without it.
type measure struct {
	// what it is called; lack says what is done without it.
	scenario, what, lack string
	ways                 []string // the only ones
	relay                string   // a part of the names of paths to relays, "" for all
	// text: these ways carry no pictures.
	text bool
	// resolvers and zones, if not nil, are those that he knows.
	resolvers, zones []string
	// worst, if not nil, is what the censor comes to in the end.
	worst censor.Rule
	// returning: he has been here before, in an open net, and has a grant that tells
	// what else the relay offers. again: he has, under this censor, and there is a new
	// edition since. revoked: that is of a new epoch.
	returning, again, revoked bool
	// beside is what is switched off with the measure on, too, since it would do as
	// well; off switches the measure off.
	beside, off []handicap
	// world, if not nil, adds to the world what the measure needs.
	world func(t *testing.T, w *World)
}

// measureTime is how long a reader waits for the news.
const measureTime = 5 * time.Minute

// handicap takes something away from a reader.
type handicap struct {
	rule   censor.Rule                     // a censor who stops exactly that
	places func(*channel.Relay) bool       // what is known of a relay; false forgets it
	path   func(*transport.Path) bool      // false: that one is not there
	zones  []string                        // the only ones
	paths  func(w *World, c *paths.Config) // what paths are made of
	env    string                          // a variable that switches it off in a library
}

var (
	noVersion2 = handicap{rule: censor.DropQUIC{Version: 0x6b3343cf}}
	noECH      = handicap{places: func(r *channel.Relay) bool { r.ECH = nil; return true }}
	noPorts    = handicap{places: func(r *channel.Relay) bool { return r.Port == 443 }}
	noOther    = handicap{places: func(r *channel.Relay) bool { return r.Host == nameRelayA }}
	onlyOther  = handicap{places: func(r *channel.Relay) bool { return r.Host == addrRelayB.String() }}
	noSmall    = handicap{path: func(p *transport.Path) bool { return !strings.Contains(p.Name, "small connections") }}
	noSpread   = handicap{path: func(p *transport.Path) bool { p.Blocks = oneConnection{p.Blocks}; return true }}

	noPlain        = handicap{paths: func(_ *World, c *paths.Config) { c.Without.Relay.Plain = true }}
	noSmallPackets = handicap{paths: func(_ *World, c *paths.Config) { c.Without.Relay.Small = true }}
	noScramble     = handicap{env: scrambling}
	noTLS          = handicap{paths: func(w *World, c *paths.Config) { c.Network = &random{Network: c.Network} }}
)

// no takes all ways of these kinds away.
func no(ways ...string) handicap {
	return handicap{path: func(p *transport.Path) bool { return !slices.Contains(ways, Way(p.Name, p.Kind)) }}
}

// oneConnection asks for blocks over one connection, whatever the line.
type oneConnection struct{ transport.Blocks }

func (o oneConnection) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	r.Once = true
	return o.Blocks.Fetch(ctx, r)
}

var (
	overQUIC  = []string{transport.KindQUIC}
	overTCP   = []string{transport.KindTCP}
	overBoth  = []string{transport.KindQUIC, transport.KindTCP}
	overDNS   = []string{transport.KindDNS}
	strangers = []string{WayCDN, transport.KindGateway, transport.KindIPFS, transport.KindDNS} // no relay of ours
	relayB    = addrRelayB.String()
)

// measures are those of the relay's wire, and of having several ways; the name
// system's are dnsMeasures.
var measures = []measure{
	{
		scenario: "quic-sni", what: "a split ClientHello", lack: "quic-go's scrambling is off",
		ways: overQUIC, relay: nameRelayA, beside: []handicap{noECH, noPorts}, off: []handicap{noScramble},
	},
	{
		scenario: "quic-sni", what: "TCP beside QUIC", lack: "the relay is asked over QUIC alone, its ClientHello in one piece",
		ways: overBoth, relay: nameRelayA, beside: []handicap{noECH, noPorts, noScramble}, off: []handicap{no(transport.KindTCP)},
	},
	{
		scenario: "quic-sni-reassembly", what: "ECH over QUIC", lack: "the grant names no ECH configuration",
		ways: overQUIC, relay: nameRelayA, returning: true, beside: []handicap{noVersion2, noPorts}, off: []handicap{noECH},
	},
	{
		scenario: "quic-sni-reassembly", what: "a port above the reader's", lack: "the grant names no other port",
		ways: overQUIC, relay: nameRelayA, returning: true, beside: []handicap{noVersion2, noECH}, off: []handicap{noPorts},
	},
	{
		scenario: "quic-sni-reassembly", what: "TCP beside QUIC", lack: "the relay is asked over QUIC alone",
		ways: overBoth, relay: nameRelayA, beside: []handicap{noVersion2, noECH, noPorts}, off: []handicap{no(transport.KindTCP)},
	},
	{
		scenario: "ech-drop", what: "no ECH over QUIC", lack: "who has an ECH configuration uses it always",
		ways: overQUIC, relay: nameRelayA, returning: true, beside: []handicap{noVersion2, noPorts}, off: []handicap{noPlain},
	},
	{
		scenario: "ech-drop", what: "no ECH over TCP", lack: "who has an ECH configuration uses it always",
		ways: overTCP, relay: nameRelayA, returning: true, off: []handicap{noPlain},
	},
	{
		scenario: "quic-v1-drop", what: "QUIC version 2", lack: "version 2 is dropped as well",
		ways: overQUIC, relay: relayB, off: []handicap{noVersion2},
	},
	{
		scenario: "quic-v1-drop", what: "TCP beside QUIC", lack: "the relay is asked over QUIC alone",
		ways: overBoth, relay: relayB, beside: []handicap{noVersion2}, off: []handicap{no(transport.KindTCP)},
	},
	{
		scenario: "udp-drop", what: "TCP beside QUIC", lack: "the relay is asked over QUIC alone",
		ways: overBoth, relay: relayB, off: []handicap{no(transport.KindTCP)},
	},
	{
		scenario: "udp-drop", what: "DNS beside QUIC", lack: "there is no zone",
		ways: []string{transport.KindQUIC, transport.KindDNS}, relay: relayB, text: true, off: []handicap{no(transport.KindDNS)},
	},
	{
		scenario: "tls-sni-rst", what: "ECH over TCP", lack: "the grant names no ECH configuration",
		ways: overTCP, relay: nameRelayA, returning: true, off: []handicap{noECH},
	},
	{
		scenario: "tls-sni-rst", what: "a relay without a name", lack: "only the relay with a listed name is known",
		ways: overTCP, off: []handicap{noOther},
	},
	{
		scenario: "tcp-freeze-16k", what: "small connections", lack: "a connection carries whatever is asked for",
		ways: overTCP, relay: relayB, off: []handicap{noSmall},
	},
	{
		scenario: "tcp-freeze-16k", what: "QUIC beside TCP", lack: "the relay is asked over TCP alone, in connections of any size",
		ways: overBoth, relay: relayB, beside: []handicap{noSmall}, off: []handicap{no(transport.KindQUIC)},
	},
	{
		scenario: "ip-block", what: "a second relay", lack: "only the relay that is blocked first is known",
		ways: overQUIC, off: []handicap{noOther},
	},
	{
		scenario: "ip-block", what: "ways that are no relays' addresses", lack: "there are two relays and nothing else, and both are blocked",
		ways: Ways, worst: censor.DropRelays{Every: 1}, off: []handicap{no(strangers...)},
	},
	{
		scenario: "random-bytes", what: "real TLS", lack: "the same bytes go through a tunnel that makes them look random",
		ways: overTCP, relay: relayB, off: []handicap{noTLS}, world: tunnelMouth,
	},
	{
		scenario: "mtu-1280", what: "Initials of 1200 bytes", lack: "QUIC begins with the size that quic-go would choose",
		ways: overQUIC, relay: relayB, off: []handicap{noSmallPackets},
	},
	{
		scenario: "mtu-1280", what: "TCP beside QUIC", lack: "the relay is asked over QUIC alone, with large Initials",
		ways: overBoth, relay: relayB, beside: []handicap{noSmallPackets}, off: []handicap{no(transport.KindTCP)},
	},
	{
		scenario: "ipfs-block", what: "peers that the invite names", lack: "there are public gateways only",
		ways: []string{transport.KindGateway, transport.KindIPFS}, off: []handicap{no(transport.KindIPFS)},
	},
	{
		scenario: "allowlist", what: "a relay behind a CDN's name", lack: "relays are known by their own addresses only",
		ways: []string{transport.KindQUIC, transport.KindTCP, WayCDN}, off: []handicap{no(WayCDN)},
	},
	{
		scenario: "allowlist", what: "DNS", lack: "there is no zone",
		ways: []string{transport.KindQUIC, transport.KindTCP, transport.KindDNS}, text: true, off: []handicap{no(transport.KindDNS)},
	},
	{
		scenario: "evil-relay", what: "others are asked", lack: "the relay that lies is the only one",
		ways: overQUIC, off: []handicap{onlyOther},
	},
	{
		scenario: "evil-peer", what: "others are asked", lack: "there is nobody but the gateway and the peer that lie",
		ways: []string{transport.KindQUIC, transport.KindGateway, transport.KindIPFS}, off: []handicap{no(transport.KindQUIC)},
	},
	{
		scenario: "clock-ahead", what: "relays known by their keys", lack: "there are only those who show a certificate of the web",
		ways: []string{transport.KindQUIC, WayCDN, transport.KindGateway}, off: []handicap{no(transport.KindQUIC)},
	},
	{
		scenario: "clock-behind", what: "relays known by their keys", lack: "there are only those who show a certificate of the web",
		ways: []string{transport.KindQUIC, WayCDN, transport.KindGateway}, off: []handicap{no(transport.KindQUIC)},
	},
}

// Each counter-measure is what brings the news: with it all of them come, without it
// they don't. Without it they do in an open net: it is the censor who stops them.
func TestMeasures(t *testing.T) {
	for i, m := range slices.Concat(measures, dnsMeasures) {
		if raced && i%4 != 0 { // worlds take ten times as long; .ci/run lab plays all
			continue
		}
		t.Run(m.scenario+"/"+m.what, func(t *testing.T) {
			if !m.alone() {
				t.Parallel()
			}
			inWorld(t, func(t *testing.T, w *World) {
				if m.world != nil {
					m.world(t, w)
				}
				all := variants(find(t, m.scenario))
				if raced { // all of it takes minutes then; for the races' sake one will do
					all = all[:1]
				}
				for seed, v := range all {
					if o, err := m.read(t, w, v, uint64(seed), true); err != nil || !m.came(o) {
						t.Errorf("%v: newest %v, text after %v, pictures after %v: %v, %v", v.Far, o.Newest, o.Text, o.Images, err, o.Err)
					}
					// Without it something false may be shown, too.
					if o, err := m.read(t, w, v, uint64(seed), false); err == nil && m.came(o) || err != nil && !errors.Is(err, ErrFalse) {
						t.Errorf("%v: without it all came: text after %v, pictures after %v: %v", v.Far, o.Text, o.Images, err)
					}
				}
				if o, err := m.read(t, w, find(t, "open"), 0, false); err != nil || !m.came(o) {
					t.Errorf("without it in an open net: newest %v, text after %v, pictures after %v: %v, %v", o.Newest, o.Text, o.Images, err, o.Err)
				}
			})
		})
	}
}

// alone reports whether other tests would be handicapped, too.
func (m measure) alone() bool {
	return slices.ContainsFunc(slices.Concat(m.beside, m.off), func(h handicap) bool { return h.env != "" })
}

// came reports whether all that these ways carry is here.
func (m measure) came(o Outcome) bool { return o.Newest && o.Text > 0 && (m.text || o.Images > 0) }

// read is what comes to a reader in a scenario, with the measure on or off.
func (m measure) read(t *testing.T, w *World, s censor.Scenario, seed uint64, on bool) (Outcome, error) {
	t.Helper()
	less := m.beside
	if !on {
		less = slices.Concat(m.beside, m.off)
	}
	if m.worst != nil && s.Name == m.scenario {
		s.Rules = []censor.Rule{m.worst}
	}
	for _, h := range less {
		if h.rule != nil {
			s.Rules = append(slices.Clone(s.Rules), h.rule)
		}
		if h.env != "" {
			t.Setenv(h.env, "true")
			defer t.Setenv(h.env, "false")
		}
	}
	first := s
	if m.returning {
		first = find(t, "open")
	}
	if err := w.evil.set(first.Far, seed); err != nil {
		t.Fatal(err)
	}
	w.cache.forget()
	rd, err := w.NewReader(t.Context(), first, Reading{
		Seed: seed, Only: m.ways, TextOnly: m.text, Limit: measureTime,
		Paths: func(c *paths.Config) {
			if m.resolvers != nil {
				c.Resolvers = m.resolvers
			}
			for _, h := range less {
				if h.paths != nil {
					h.paths(w, c)
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	rd.Left = func(places channel.Places, paths func(channel.Places) []transport.Path) []transport.Path {
		return m.left(less, places, paths)
	}
	if m.returning || m.again {
		if o, err := rd.Sync(t.Context()); err != nil || !o.Newest {
			t.Fatal(err, o.Err)
		}
		if m.revoked {
			if err := w.revoke(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Publish(t.Context(), News(int(w.Size()), time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	if m.again {
		time.Sleep(2 * time.Minute) // what may be kept for a minute is not any more
	}
	if m.returning {
		rd.Set(s)
		if err := rd.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	return rd.Sync(t.Context())
}

// left are the ways, without what is switched off.
func (m measure) left(less []handicap, places channel.Places, paths func(channel.Places) []transport.Path) []transport.Path {
	zones := m.zones
	var relays []channel.Relay
	for _, r := range places.Relays {
		if !slices.ContainsFunc(less, func(h handicap) bool { return h.places != nil && !h.places(&r) }) {
			relays = append(relays, r)
		}
	}
	places.Relays = relays
	for _, h := range less {
		if h.zones != nil {
			zones = h.zones
		}
	}
	if zones != nil {
		places.Zones = nil
		for _, z := range zones {
			places.Zones = append(places.Zones, channel.Zone{Name: z})
		}
	}
	var out []transport.Path
	for _, p := range paths(places) {
		keep := strings.Contains(p.Name, m.relay) || p.Kind == transport.KindDNS
		for _, h := range less {
			keep = keep && (h.path == nil || h.path(&p))
		}
		if keep {
			out = append(out, p)
		}
	}
	return out
}

package censorlab

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/transport"
)

// measure is a counter-measure of a relay's wire, in the hands of the real reader who
// has one way to one relay and nothing else: in the scorecard other ways would bring
// the news without it.
type measure struct {
	scenario, what string
	way            string // the only one
	relay          string // a part of its path's name
	// returning: he has been here before, in an open net, and has a grant that tells
	// what else the relay offers.
	returning bool
	// beside is what is switched off with the measure on, too, since it would do as
	// well; off switches the measure off.
	beside, off []handicap
}

// handicap takes something away from a reader.
type handicap struct {
	rule   censor.Rule                // a censor who stops exactly that
	places func(*channel.Relay) bool  // what is known of a relay; false forgets it
	path   func(*transport.Path) bool // false: that one is not there
}

var (
	noVersion2 = handicap{rule: censor.DropQUIC{Version: 0x6b3343cf}}
	noECH      = handicap{places: func(r *channel.Relay) bool { r.ECH = nil; return true }}
	noPorts    = handicap{places: func(r *channel.Relay) bool { return r.Port == 443 }}
	noSmall    = handicap{path: func(p *transport.Path) bool { return !strings.Contains(p.Name, "small connections") }}
	noSpread   = handicap{path: func(p *transport.Path) bool { p.Blocks = oneConnection{p.Blocks}; return true }}
)

// oneConnection asks for blocks over one connection, whatever the line.
type oneConnection struct{ transport.Blocks }

func (o oneConnection) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	r.Once = true
	return o.Blocks.Fetch(ctx, r)
}

var measures = []measure{
	{scenario: "quic-v1-drop", what: "QUIC version 2", way: transport.KindQUIC, relay: addrRelayB.String(), off: []handicap{noVersion2}},
	{scenario: "quic-sni-reassembly", what: "ECH over QUIC", way: transport.KindQUIC, relay: nameRelayA, returning: true, beside: []handicap{noVersion2, noPorts}, off: []handicap{noECH}},
	{scenario: "quic-sni-reassembly", what: "a port above the reader's", way: transport.KindQUIC, relay: nameRelayA, returning: true, beside: []handicap{noVersion2, noECH}, off: []handicap{noPorts}},
	{scenario: "tls-sni-rst", what: "ECH over TCP", way: transport.KindTCP, relay: nameRelayA, returning: true, off: []handicap{noECH}},
	{scenario: "tcp-freeze-16k", what: "small connections", way: transport.KindTCP, relay: addrRelayB.String(), off: []handicap{noSmall}},
}

// With one way to one relay, each counter-measure is what brings the news: with it all
// of them come, without it they don't.
func TestMeasures(t *testing.T) {
	for _, m := range measures {
		t.Run(m.scenario+"/"+m.what, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World) {
				for _, on := range []bool{true, false} {
					o := m.read(t, w, on)
					if all := o.Newest && o.Text > 0 && o.Images > 0; all != on {
						t.Errorf("on %v: newest %v, text after %v, pictures after %v: %v", on, o.Newest, o.Text, o.Images, o.Err)
					}
				}
			})
		})
	}
}

// Where packets are lost one connection brings the news, too, but large pictures late.
func TestSpreadMeasure(t *testing.T) {
	m := measure{scenario: "loss-5-5", way: transport.KindQUIC, relay: nameRelayA, off: []handicap{noSpread}}
	inWorld(t, func(t *testing.T, w *World) {
		news := News(editions, time.Now())
		news[0].Images[0].Data = noise(1, 1<<20)
		if err := w.Publish(t.Context(), news); err != nil {
			t.Fatal(err)
		}
		var took [2][]time.Duration
		for range 9 {
			for i, on := range []bool{true, false} {
				o := m.read(t, w, on)
				if !o.Newest || o.Images == 0 {
					t.Fatalf("on %v: %+v", on, o)
				}
				took[i] = append(took[i], o.Images)
			}
		}
		for _, all := range took {
			slices.Sort(all)
		}
		t.Logf("pictures after %v, over one connection after %v", took[0][4], took[1][4])
		if took[0][4] > took[1][4]*2/3 {
			t.Error("several connections bring little")
		}
	})
}

// read is what comes to a reader, with the measure on or off.
func (m measure) read(t *testing.T, w *World, on bool) Outcome {
	t.Helper()
	s := find(t, m.scenario)
	less := m.beside
	if !on {
		less = slices.Concat(m.beside, m.off)
	}
	for _, h := range less {
		if h.rule != nil {
			s.Rules = append(slices.Clone(s.Rules), h.rule)
		}
	}
	first := s
	if m.returning {
		first = find(t, "open")
	}
	rd, err := w.NewReader(t.Context(), first, Reading{Only: []string{m.way}, Limit: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	rd.Left = func(places channel.Places, paths func(channel.Places) []transport.Path) []transport.Path {
		return m.left(less, places, paths)
	}
	if m.returning {
		if o, err := rd.Sync(t.Context()); err != nil || !o.Newest {
			t.Fatal(err, o.Err)
		}
		if err := w.Publish(t.Context(), News(int(w.Size()), time.Now())); err != nil {
			t.Fatal(err)
		}
		rd.Set(s)
		if err := rd.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	o, err := rd.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// left is the one way, without what is switched off.
func (m measure) left(less []handicap, places channel.Places, paths func(channel.Places) []transport.Path) []transport.Path {
	var relays []channel.Relay
	for _, r := range places.Relays {
		if !slices.ContainsFunc(less, func(h handicap) bool { return h.places != nil && !h.places(&r) }) {
			relays = append(relays, r)
		}
	}
	places.Relays = relays
	var out []transport.Path
	for _, p := range paths(places) {
		keep := strings.Contains(p.Name, m.relay)
		for _, h := range less {
			keep = keep && (h.path == nil || h.path(&p))
		}
		if keep {
			out = append(out, p)
		}
	}
	return out
}

package censorlab

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// speed is a measure without which the news comes, too, but late.
type speed struct {
	measure
	of   string // what comes late
	news func(news []bundle.Article)
	// within is how soon it has to come with the measure; 0 for whenever.
	within time.Duration
}

var speeds = []speed{
	{
		measure: measure{
			scenario: "loss-5-5", what: "several connections", lack: "pieces come over one connection",
			ways: overQUIC, relay: nameRelayA, off: []handicap{noSpread},
		},
		of: "pictures", news: largePicture,
	},
	{ // That the relay's wire sends again what was not heard is no row: the median waits as long without.
		measure: measure{
			scenario: "loss-60-up", what: "QUIC beside TCP", lack: "the relay is asked over TCP alone",
			ways: overBoth, relay: relayB, off: []handicap{no(transport.KindQUIC)},
		},
		of: "pictures",
	},
	{
		measure: measure{
			scenario: "throttle", what: "several connections", lack: "pieces come over one connection",
			ways: overQUIC, relay: nameRelayA, off: []handicap{noSpread},
		},
		of: "pictures", news: largePicture,
	},
	{
		measure: measure{
			scenario: "throttle", what: "several ways and connections at once", lack: "there is one connection",
			ways: []string{transport.KindQUIC, transport.KindTCP, WayCDN}, text: true,
			off: []handicap{noSpread, noOther, no(transport.KindTCP, WayCDN)},
		},
		of: "text", news: veryLongTexts, within: 6 * time.Second,
	},
	{
		measure: measure{
			scenario: "dns-hostile", what: "several zones", lack: "there is one zone",
			ways: overDNS, text: true, zones: []string{zoneNews, zoneMore}, off: []handicap{{zones: []string{zoneNews}}},
		},
		of: "text", news: longTexts,
	},
	{
		measure: measure{
			scenario: "dns-hostile", what: "several resolvers", lack: "there is one resolver",
			ways: overDNS, text: true, zones: []string{zoneNews, zoneMore}, resolvers: []string{theISP, theSecond}, off: []handicap{asks(theISP)}, world: secondResolver,
		},
		of: "text", news: longTexts,
	},
}

// largePicture makes one of a megabyte.
func largePicture(news []bundle.Article) { news[0].Images[0].Data = noise(1, 1<<20) }

// longTexts are more than a resolver gives of one zone before it has enough, veryLong
// ones more than a throttled connection brings in ten seconds.
func longTexts(news []bundle.Article)     { texts(news, 6_000) }
func veryLongTexts(news []bundle.Article) { texts(news, 25_000) }

// texts makes them take so many bytes each, however they are compressed.
func texts(news []bundle.Article, each int) {
	for i := range news {
		news[i].Body = "<p>" + hex.EncodeToString(noise(uint64(i+1), each)) + "</p>"
	}
}

// Without each measure the median reader waits at least half as long again.
func TestSpeeds(t *testing.T) {
	readers := uint64(9)
	if raced {
		readers = 1 // for the races' sake: one reader is no median
	}
	for _, m := range speeds {
		t.Run(m.scenario+"/"+m.what, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World) {
				if m.world != nil {
					m.world(t, w)
				}
				news := News(editions, time.Now())
				if m.news != nil {
					m.news(news)
				}
				if err := w.Publish(t.Context(), news); err != nil {
					t.Fatal(err)
				}
				var took [2][]time.Duration
				for seed := range readers {
					for i, on := range []bool{true, false} {
						o, err := m.read(t, w, find(t, m.scenario), seed, on)
						if err != nil || on && !m.came(o) {
							t.Fatalf("on %v: %v, %+v", on, err, o)
						}
						took[i] = append(took[i], m.late(o))
					}
				}
				for _, all := range took {
					slices.Sort(all)
				}
				with, less := took[0][readers/2], took[1][readers/2]
				t.Logf("%s after %v, without it after %v", m.of, with, less)
				if !raced && with > less*2/3 {
					t.Error("it brings little")
				}
				if !raced && m.within > 0 && with > m.within {
					t.Errorf("it is due after %v", m.within)
				}
			})
		})
	}
}

// late is when what the measure is about was here; what never came counts as
// given up after the time that a sync has.
func (m speed) late(o Outcome) time.Duration {
	d := map[string]time.Duration{"head": o.Head, "text": o.Text, "pictures": o.Images}[m.of]
	if d == 0 {
		return measureTime
	}
	return d
}

package censorlab

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"tamizdat/internal/censor"
	"tamizdat/internal/simnet"
	"tamizdat/mirror/paths"
	"tamizdat/transport"
	dnspath "tamizdat/transport/dns"
)

// Two servers abroad that answer over everything: the censor knows the first one.
const (
	nameDoH  = "dns.example"
	nameLess = "less.example"
)

// Resolvers, as people name them.
var (
	theISP     = netip.AddrPortFrom(addrResolver, 53).String()
	theSecond  = netip.AddrPortFrom(addrSecond, 53).String()
	ispTCP     = "tcp://" + addrResolver.String()
	wellKnown  = "https://" + nameDoH + "/dns-query@" + addrDoH.String()
	lessPlain  = netip.AddrPortFrom(addrControl, 53).String()
	lessTLS    = "tls://" + nameLess + "@" + addrControl.String()
	lessHTTPS  = "https://" + nameLess + "/dns-query@" + addrControl.String()
	knownByTLS = "tls://" + nameDoH + "@" + addrDoH.String()
)

// without takes something from the client of the name system.
func without(f func(w *dnspath.Without)) handicap {
	return handicap{paths: func(_ *World, c *paths.Config) { f(&c.Without.DNS) }}
}

// asks names the only resolvers.
func asks(resolvers ...string) handicap {
	return handicap{paths: func(_ *World, c *paths.Config) { c.Resolvers = resolvers }}
}

var (
	noListening    = without(func(w *dnspath.Without) { w.Listening = true })
	noChecks       = without(func(w *dnspath.Without) { w.Checks = true })
	noAgain        = without(func(w *dnspath.Without) { w.Again = true })
	noSmallRecords = without(func(w *dnspath.Without) { w.Small = true })
	noCase         = without(func(w *dnspath.Without) { w.Case = true })
	noShorter      = without(func(w *dnspath.Without) { w.Shorter = true })
	noLabels       = without(func(w *dnspath.Without) { w.Labels = true })
)

// dnsMeasures have DNS as the only way: in the scorecard QUIC brings the news where
// resolvers lie or are blocked.
var dnsMeasures = []measure{
	{
		scenario: "dns-inject", what: "listening on", lack: "the first answer to a question is the last that is heard",
		ways: overDNS, text: true, off: []handicap{noListening},
	},
	{
		scenario: "dns-inject", what: "DNS over TCP", lack: "the same resolver is asked over UDP, and the first answer is the last",
		ways: overDNS, text: true, resolvers: []string{ispTCP}, beside: []handicap{noListening}, off: []handicap{asks(theISP)},
	},
	{
		scenario: "dns-inject", what: "DNS over TLS", lack: "the same resolver is asked over UDP, and the first answer is the last",
		ways: overDNS, text: true, resolvers: []string{lessTLS}, beside: []handicap{noListening}, off: []handicap{asks(lessPlain)}, world: openResolvers,
	},
	{
		scenario: "dns-inject", what: "DNS over HTTPS", lack: "the same resolver is asked over UDP, and the first answer is the last",
		ways: overDNS, text: true, resolvers: []string{lessHTTPS}, beside: []handicap{noListening}, off: []handicap{asks(lessPlain)}, world: openResolvers,
	},
	{
		scenario: "dns-only", what: "DNS", lack: "there is no zone",
		ways: Ways, text: true, off: []handicap{no(transport.KindDNS)},
	},
	{
		scenario: "dns-hostile", what: "small records in letters", lack: "there are Large records only",
		ways: overDNS, text: true, off: []handicap{noSmallRecords},
	},
	{
		scenario: "dns-hostile", what: "letters compared without their case", lack: "an answer in other letters than the question is none",
		ways: overDNS, text: true, off: []handicap{noCase},
	},
	{ // the row's own 72 characters are more than any name of ours has: a zone's has 33 at most
		scenario: "dns-hostile", what: "names without a label in front, where 64 characters are too many", lack: "a name that is lost is asked for in no other form",
		ways: overDNS, text: true, zones: []string{zoneLong}, again: true, revoked: true, off: []handicap{noShorter},
		worst: censor.Resolver{LongestName: 64, MixCase: true, LargestAnswer: 512, NoTCP: true, Spoil: true, Rate: 10},
	},
	{
		scenario: "dns-ttl", what: "a label before the head's name", lack: "the head is asked for by its plain name",
		ways: overDNS, text: true, again: true, off: []handicap{noLabels},
	},
	{
		scenario: "doh-block", what: "a less known DoH server", lack: "there is only the well-known one",
		ways: overDNS, text: true, resolvers: []string{wellKnown, lessHTTPS}, off: []handicap{asks(wellKnown)}, world: openResolvers,
	},
	{
		scenario: "doh-block", what: "plain DNS beside DoH and DoT", lack: "there are only the well-known server's DoH and DoT",
		ways: overDNS, text: true, resolvers: []string{wellKnown, knownByTLS, theISP}, off: []handicap{asks(wellKnown, knownByTLS)}, world: openResolvers,
	},
	{
		scenario: "evil-resolver", what: "another resolver", lack: "the one that lies is the only one",
		ways: overDNS, text: true, resolvers: []string{theISP, theSecond}, off: []handicap{asks(theISP)}, world: secondResolver,
	},
	{
		scenario: "evil-resolver", what: "each record checked", lack: "whatever comes is taken, until the engine finds it false",
		ways: overDNS, text: true, resolvers: []string{theISP, theSecond}, off: []handicap{noChecks}, world: secondResolver,
	},
	{
		scenario: "loss-60-up", what: "asking again", lack: "each record is asked for once",
		ways: overDNS, text: true, off: []handicap{noAgain},
	},
}

// revoke ends an epoch, for the sake of a batch that nobody has.
func (w *World) revoke() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := fmt.Sprintf("lost %d", w.size)
	if _, err := w.pub.Invite(batch); err != nil {
		return err
	}
	return w.pub.Revoke(batch)
}

// secondResolver starts the ISP's other resolver, which has no vices but those of
// the scenario.
func secondResolver(t *testing.T, w *World) {
	t.Helper()
	if _, err := w.resolver(t.Context(), w.Net.Host("isp 2", simnet.Link{}, addrSecond), addrSecond); err != nil {
		t.Fatal(err)
	}
}

// openResolvers starts those abroad, for everybody, over UDP, TCP, TLS and HTTPS.
func openResolvers(t *testing.T, w *World) {
	t.Helper()
	for name, addr := range map[string]netip.Addr{nameDoH: addrDoH, nameLess: addrControl} {
		on := w.host(name, addr)
		r, err := w.resolver(t.Context(), on, addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.site(t.Context(), on, name, addr, doh(r)); err != nil {
			t.Fatal(err)
		}
		cfg, err := w.tlsFor(name)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := on.Listen(t.Context(), "tcp", netip.AddrPortFrom(addr, 853).String())
		if err != nil {
			t.Fatal(err)
		}
		w.closers = append(w.closers, ln)
		r.wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				r.wg.Go(func() { r.stream(tls.Server(c, cfg)) })
			}
		})
	}
}

// doh answers questions over HTTPS (RFC 8484).
func doh(r *resolver) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(io.LimitReader(req.Body, dns.MaxMsgSize))
		q := new(dns.Msg)
		if err != nil || q.Unpack(b) != nil || len(q.Question) != 1 {
			http.Error(rw, "bad request", http.StatusBadRequest)
			return
		}
		if b, err = r.answer(q).Pack(); err != nil {
			http.Error(rw, "no answer", http.StatusInternalServerError)
			return
		}
		rw.Header().Set("Content-Type", "application/dns-message")
		_, _ = rw.Write(b)
	})
}

// Where records are checked a lie costs one question, and where they are not the
// reader knows in the end, too: nothing false is ever shown.
func TestUncheckedRecordsAreNotShown(t *testing.T) {
	i := slices.IndexFunc(dnsMeasures, func(m measure) bool { return m.scenario == "evil-resolver" && m.what == "each record checked" })
	if i < 0 {
		t.Fatal("it is not measured any more")
	}
	inWorld(t, func(t *testing.T, w *World) {
		m := dnsMeasures[i]
		m.world(t, w)
		if _, err := m.read(t, w, find(t, m.scenario), 1, false); err != nil {
			t.Error(err)
		}
	})
}

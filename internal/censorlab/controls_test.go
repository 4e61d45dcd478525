package censorlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tamizdat/bundle/car"
	"tamizdat/internal/censor"
)

// control is a model of a reader without the counter-measure that a scenario
// needs: it does what this censor looks for. An untouched row of the scorecard
// proves something only because this one is stopped.
type control struct {
	scenario, what string
	// try returns what the naive reader got for an answer.
	try attempt
	// spared is the same with the counter-measure on, which passes; nil where there
	// is none but another way (see TestScenariosNeedTheirWays).
	spared attempt
}

type attempt func(ctx context.Context, n *naive) (string, error)

// controls has at least one for every row of the scorecard but `open`.
var controls = []control{
	{"quic-sni", "HTTP/3 to a listed name, the ClientHello in one datagram, in order", listedRelay(http3As{whole: true, small: true}), listedRelay(http3As{})},
	{"quic-sni", "the same in pieces out of order, which one datagram holds all the same", listedRelay(http3As{small: true}), nil},
	{"quic-sni", "our own reader over QUIC to a listed name, with quic-go's scrambling off", ours(true), ours(false)},
	{"quic-sni-reassembly", "HTTP/3 to a listed name, the ClientHello split and out of order", listedRelay(http3As{}), unlistedRelay(http3As{})},
	{"quic-sni-reassembly", "HTTP/3 to a listed name over QUIC version 1, not 2", listedRelay(http3As{}), listedRelay(http3As{version2: true})},
	{"ech-drop", "TLS over TCP with ECH and a listed outer name", hidden(nameListed, false), hidden(nameUnlisted, false)},
	{"ech-drop", "HTTP/3 with ECH and a listed outer name", hidden(nameListed, true), hidden(nameUnlisted, true)},
	{"ech-drop", "TLS with a listed name, with ECH and without", hidden(nameListed, false), overTLS(nameMirror, addrMirror, "/headlines")},
	{"quic-v1-drop", "HTTP/3 over QUIC version 1", unlistedRelay(http3As{}), unlistedRelay(http3As{version2: true})},
	{"udp-drop", "HTTP/3, whatever the version", unlistedRelay(http3As{version2: true}), overTLS(nameMirror, addrMirror, "/headlines")},
	{"tls-sni-rst", "TLS with a listed name", overTLS(nameRelayA, addrRelayA, "/"), overTLS("", addrRelayB, "/")},
	{"tcp-freeze-16k", "more than 16 KB over one TCP connection", overTLS(nameMirror, addrMirror, "/images"), overTLS(nameMirror, addrMirror, "/headlines")},
	{"ip-block", "a connection to the first relay that it knows", overTLS("", addrRelayA, "/"), overTLS(nameCDN, addrCDN, "/")},
	{"ip-block", "the next relay, used for ten seconds", lasting(addrRelayB), lasting(addrCDN)},
	{"random-bytes", "a TCP connection whose first packet is random", first(noise(7, 200)), first([]byte("\x13/multistream/1.0.0\n"))},
	{"throttle", "pictures over one TCP connection within two seconds", soon(overTLS(nameMirror, addrMirror, "/images")), soon(overTLS(nameMirror, addrMirror, "/headlines"))},
	{"throttle", "pictures over one QUIC connection within two seconds", soon(mirrorQUIC("/images")), nil},
	{"loss-60-up", "forty questions, each asked once", asking(40, 1), asking(40, 30)},
	{"loss-5-5", "two hundred questions, each asked once", asking(200, 1), asking(200, 10)},
	{"dns-inject", "a stub resolver that believes the first answer", stretchOf(broad, 1, nil), stretchOf(broad, 1, wholeStretch)},
	{"dns-only", "a website over TCP", overTLS(nameMirror, addrMirror, "/headlines"), stretchOf(broad, 1, wholeStretch)},
	{"dns-only", "a website over QUIC", mirrorQUIC("/headlines"), nil},
	{"dns-hostile", "a long name, a large answer, bytes over 127", stretchOf(broad, 8, wholeStretch), stretchOf(narrow, 8, wholeStretch)},
	{"dns-hostile", "thirty small questions a second", atOnce(30), atOnce(5)},
	{"dns-ttl", "the head's name again after two minutes and an edition", newer(""), newer("fresh.")},
	{"doh-block", "a question to a well-known DoH server", overHTTPS(addrDoH), overHTTPS(addrControl)},
	{"mtu-1280", "HTTP/3 with Initials of 1400 bytes", unlistedRelay(http3As{packet: 1400}), unlistedRelay(http3As{packet: 1200})},
	{"ipfs-block", "a bootstrap node of the DHT", dhtNode(addrBootstrap), dhtNode(addrHops[0])},
	{"ipfs-block", "a public gateway", overTLS(nameGateway, addrGateway, "/nothing"), nil},
	{"allowlist", "a website that is not on the list", overTLS(nameMirror, addrMirror, "/headlines"), overTLS(nameCDN, addrCDN, "/")},
	{"evil-relay", "believing a relay's head and block", believing("relay B"), believing("relay A")},
	{"evil-peer", "believing a gateway's record and block", believing("gateway"), believing("relay B")},
	{"evil-peer", "believing an IPFS peer's record and block", believing("peer"), believing("relay A")},
	{"evil-resolver", "a stub resolver that believes the only resolver", lookingUp(), nil},
	{"clock-ahead", "a certificate's dates, by the reader's clock", overTLS(nameMirror, addrMirror, "/headlines"), unlistedRelay(http3As{})},
	{"clock-behind", "a certificate's dates, by the reader's clock", overTLS(nameMirror, addrMirror, "/headlines"), unlistedRelay(http3As{})},
}

// variants are the scenario, and where servers lie by turns each lie alone.
func variants(s censor.Scenario) []censor.Scenario {
	var out []censor.Scenario
	for _, lie := range s.Far.Relay {
		v := s
		v.Far.Relay = []censor.Evil{lie}
		out = append(out, v)
	}
	for _, lie := range s.Far.Peer {
		v := s
		v.Far.Peer = []censor.Evil{lie}
		out = append(out, v)
	}
	if out == nil {
		out = append(out, s)
	}
	return out
}

// Each censor bites: who does what it looks for gets an answer in `open`, and
// none, or another one, in the scenario. With the counter-measure on it passes.
func TestControls(t *testing.T) {
	singles, _ := rowed()
	for _, s := range singles {
		if s.Name != "open" && !slices.ContainsFunc(controls, func(c control) bool { return c.scenario == s.Name }) {
			t.Errorf("%s: nothing shows that it stops anybody", s.Name)
		}
	}
	open := find(t, "open")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		ech := controlServers(t, w)
		for _, c := range controls {
			if !slices.ContainsFunc(singles, func(s censor.Scenario) bool { return s.Name == c.scenario }) {
				continue // -scenario
			}
			want, did, err := naively(t, w, ech, open, c.try)
			if err != nil {
				t.Errorf("%s: %s: it does not work in an open net: %v", c.scenario, c.what, err)
			}
			if did != 0 {
				t.Errorf("%s: %s: %d events in an open net", c.scenario, c.what, did)
			}
			if err != nil {
				continue
			}
			for _, s := range variants(find(t, c.scenario)) {
				name := fmt.Sprint(s.Name, s.Far.Relay, s.Far.Peer, ": ", c.what)
				got, did, err := naively(t, w, ech, s, c.try)
				if err == nil && got == want {
					t.Errorf("%s: it is not stopped", name)
					continue
				}
				if len(s.Rules) > 0 && did == 0 {
					t.Errorf("%s: the censor did nothing", name)
				}
				if err == nil {
					err = errors.New("another answer")
				}
				t.Logf("%s: %v", name, err)
				if c.spared == nil {
					continue
				}
				if _, _, err := naively(t, w, ech, s, c.spared); err != nil {
					t.Errorf("%s: with the counter-measure on: %v", name, err)
				}
			}
		}
	})
}

// What a liar sends differs from the truth, however short it is; and a foreign
// block is a true one.
func TestLies(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		for n := 1; n < 3000; n += 7 {
			b := make([]byte, n)
			if flip(b); bytes.Equal(b, make([]byte, n)) {
				t.Fatalf("no bit of %d bytes is flipped", n)
			}
		}
		h, _ := w.honest.Store().Head(w.pub.Channel())
		truth, err := w.honest.Store().Block(w.pub.Channel(), h.Root)
		if err != nil {
			t.Fatal(err)
		}
		sent := w.evil.foreign("application/vnd.ipld.raw", bytes.Clone(truth))
		id, err := h.Root.Prefix().Sum(sent)
		if err != nil || id.Equals(h.Root) {
			t.Fatalf("the block that was asked for: %v", err)
		}
		if !slices.ContainsFunc(w.evil.earlier, func(b car.Block) bool { return bytes.Equal(b.Data, sent) }) {
			t.Error("nobody's block")
		}
		want, _, err := naively(t, w, nil, find(t, "open"), opening())
		if err != nil {
			t.Fatal(err)
		}
		s := find(t, "open")
		s.Far.Relay = []censor.Evil{censor.EvilForeign}
		got, _, err := naively(t, w, nil, s, opening())
		if err != nil {
			t.Fatal(err)
		}
		was, now := blocksOf(t, want), blocksOf(t, got) // their hashes are checked
		if len(was) != len(now) || len(was) < 4 {
			t.Fatalf("%d blocks instead of %d", len(now), len(was))
		}
		kept := 0
		for i := range was {
			if was[i] == now[i] {
				kept++
			} else if _, err := w.honest.Store().Block(w.pub.Channel(), now[i]); err != nil {
				t.Errorf("block %d is nobody's: %v", i, err)
			}
		}
		if kept != 2 { // root note and head
			t.Errorf("%d blocks are those that were asked for", kept)
		}
	})
}

// stretchOf asks for one stretch of the tunnel's stream, up to so many times. good
// says which answers it takes: nil believes the first.
func stretchOf(s shape, tries int, good func(want []string) func(*dns.Msg) bool) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		var err error
		for try := range tries {
			req := query(s, fmt.Sprintf("control%d-", try))
			want := s.stretch(req.Question[0].Name)
			var takes func(*dns.Msg) bool
			if good != nil {
				takes = good(want)
			}
			var resp *dns.Msg
			if resp, err = ask(ctx, n.net, req, 2*time.Second, takes); err == nil {
				if !wholeStretch(want)(resp) {
					return "", errors.New("believed something else")
				}
				return "as it was", nil
			}
		}
		return "", err
	}
}

// atOnce asks many small questions in one moment.
func atOnce(many int) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		errs := make(chan error)
		for i := range many {
			go func() {
				req := query(narrow, fmt.Sprintf("many%d-", i))
				_, err := ask(ctx, n.net, req, 2*time.Second, wholeStretch(narrow.stretch(req.Question[0].Name)))
				errs <- err
			}()
		}
		var all []error
		for range many {
			all = append(all, <-errs)
		}
		return "all", errors.Join(all...)
	}
}

// asking asks the resolver many times for a name, each time so often at most.
func asking(many, tries int) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		req := new(dns.Msg)
		req.SetQuestion(dns.Fqdn(nameMirror), dns.TypeA)
		for i := range many {
			var err error
			for range tries {
				if _, err = ask(ctx, n.net, req, time.Second, nil); err == nil {
					break
				}
			}
			if err != nil {
				return "", fmt.Errorf("question %d: %w", i, err)
			}
		}
		return "all", nil
	}
}

func lookingUp() attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		addr, err := lookup(ctx, n.net, nameMirror)
		return addr.String(), err
	}
}

// newer asks for the channel's head under a label before and after an edition.
func newer(label string) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		head := func() (string, error) {
			req := new(dns.Msg)
			// A label that nobody has used gets past what is kept (the wildcard below the head).
			if label != "" {
				label = fmt.Sprintf("x%d.", time.Now().UnixNano())
			}
			req.SetQuestion(label+headLabel(n.w.pub.Channel())+"."+zoneNews+".", dns.TypeTXT)
			req.SetEdns0(1232, false)
			resp, err := ask(ctx, n.net, req, 5*time.Second, nil)
			if err != nil || len(resp.Answer) == 0 {
				return "", errors.Join(err, errors.New("no head"))
			}
			return strings.Join(resp.Answer[0].(*dns.TXT).Txt, ""), nil
		}
		before, err := head()
		if err != nil {
			return "", err
		}
		if err := n.w.Publish(ctx, News(int(n.w.Size()), time.Now())); err != nil {
			return "", err
		}
		time.Sleep(2 * time.Minute)
		after, err := head()
		if err == nil && before == after {
			err = errors.New("yesterday's head")
		}
		return "newer", err
	}
}

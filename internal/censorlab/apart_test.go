package censorlab

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/prober"
	"tamizdat/mirror/relay"
	"tamizdat/transport/transporttest"

	wire "tamizdat/transport/relay"
)

var writeApart = flag.Bool("apart", false, "write the prober's row of the scorecard anew, and the page with it")

// least is how much has to be asked for a row to count.
const least = 300

// TestApart runs what is no network: a prober, on real sockets, since what it
// looks at is what real servers do. The committed row has to be true.
func TestApart(t *testing.T) {
	row := probe(t)
	if wrong := row.Wrong(); wrong != "" {
		t.Errorf("%s: %s", row.Scenario, wrong)
	}
	if row.Looked < least && !raced {
		t.Errorf("%d probes, at least %d", row.Looked, least)
	}
	t.Logf("%+v", row)
	if *writeApart {
		if t.Failed() || raced {
			t.Fatal("nothing written")
		}
		c := committed(t)
		c.Apart = []Apart{row}
		b, err := json.MarshalIndent(c, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{scorecardData: append(b, '\n'), filepath.Join(root, "docs/scorecard.md"): []byte(c.String())} {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	was := committed(t).Apart
	i := slices.IndexFunc(was, func(a Apart) bool { return a.Scenario == row.Scenario })
	if i < 0 {
		t.Fatalf("%s is not on the scorecard: -run Apart -args -apart writes it", row.Scenario)
	}
	if !raced && (was[i].Looked != row.Looked || len(was[i].Without) != len(row.Without)) {
		t.Errorf("%s: the scorecard is of other probes; -run Apart -args -apart writes it anew", row.Scenario)
	}
}

// probe asks a relay everything that a stranger may ask and compares it with the
// plain website, as it is and without what hides it.
func probe(t *testing.T) Apart {
	t.Helper()
	out := Apart{Scenario: "prober"}
	differences := func(wrap func(http.Handler) http.Handler) (asked, found int) {
		relay, plain, paths := suspects(t, wrap)
		probes := prober.Probes(paths)
		if raced { // handshakes take ten times as long
			n := 0
			probes = slices.DeleteFunc(probes, func(prober.Probe) bool { n++; return n%10 != 1 })
		}
		all := prober.Compare(t.Context(), relay, plain, probes)
		if wrap == nil {
			for _, d := range all {
				t.Errorf("%s\nrelay:\n%.1000s\nwebsite:\n%.1000s", d.Probe, d.A, d.B)
			}
		}
		return len(probes), len(all)
	}
	out.Looked, out.Found = differences(nil)
	for _, c := range []struct {
		what string
		wrap func(http.Handler) http.Handler
	}{
		{"a page of its own for an unknown secret", ownPage},
		{"paths made clean before the secret is looked for", cleaned},
	} {
		_, found := differences(c.wrap)
		out.Without = append(out.Without, Without{c.what, found})
	}
	return out
}

// ownPage is a relay that says itself that a secret is wrong.
func ownPage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		segment, _, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		if _, ok := channel.ParsePrefix(segment); ok { // nobody here has a right one
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// cleaned is a relay behind the standard library's mux.
func cleaned(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	return mux
}

// suspects are a relay that carries a channel, with its built-in website, and a
// plain server of that website with the same certificate.
func suspects(t *testing.T, wrap func(http.Handler) http.Handler) (node, plain prober.Server, paths prober.Paths) {
	t.Helper()
	network := &netreal.Network{}
	var on atomic.Bool // what is switched off hinders publishers, too
	run := func(wrap func(http.Handler) http.Handler) (*relay.Relay, string) {
		dir := t.TempDir()
		r, err := relay.New(relay.Config{Dir: dir, Network: network, Listen: []string{"127.0.0.1:0"}, Hooks: relay.Hooks{Wrap: wrap}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r, dir
	}
	var spoilt func(http.Handler) http.Handler
	if wrap != nil {
		spoilt = func(next http.Handler) http.Handler {
			spoilt := wrap(next)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if on.Load() {
					spoilt.ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	r, dir := run(spoilt)
	foreign, _ := run(nil)
	c, other := transporttest.NewChannel(t, "probed"), transporttest.NewChannel(t, "not carried here")
	edition := c.Publish(transporttest.Articles(3)...)
	targets := make([]wire.Target, 2)
	for i, r := range []*relay.Relay{r, foreign} {
		var err error
		if targets[i], err = r.Target(c.ID()); err != nil {
			t.Fatal(err)
		}
	}
	push, err := wire.NewPublisher(network, targets[0])
	if err != nil {
		t.Fatal(err)
	}
	defer push.Close()
	if err := push.Publish(t.Context(), edition.Source(), nil); err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	site, err := relay.Site("")
	if err != nil {
		t.Fatal(err)
	}
	website, err := wire.Listen(t.Context(), network, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, site, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { website.Close() })
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, stale, err := wire.NewECH("www.example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	at := func(addr string) prober.Server { return prober.Server{Network: network, Addr: addr} }
	third := at(foreign.Addr().String())
	return at(r.Addr().String()), at(website.Addr().String()), prober.Paths{
		Page: "/robots.txt", Known: []string{"/", "/style.css", "/nothing", "/garlic.html?format=raw", "//", "/a/../garlic.html", "/%67arlic.html"},
		Near: near(targets[0], targets[1].Relay(c.Seed).Prefix, c, other.ID()), Stale: [][]byte{stale}, Other: &third,
	}
}

// near are paths that come close to a relay's secret ones, none of which opens
// anything.
func near(tg wire.Target, foreign channel.Prefix, c *transporttest.Channel, other channel.ID) (out []string) {
	right := tg.Relay(c.Seed).Prefix
	head := "/head/" + c.ID().String()
	for i := range 24 { // a bit off: in the tag, in the hint, in the rest
		if i%5 == 2 {
			p := right
			p[i] ^= 1
			out = append(out, "/"+p.Path()+head)
		}
	}
	intake := tg.Intake.Mint([8]byte{1})
	intake[20] ^= 0x80
	secret := right.Path()
	return append(out,
		"/"+foreign.Path()+head, "/"+tg.Mint.Mint([8]byte{1}).Path()+"x"+head, "/"+intake.Path()+"/intake/"+c.ID().String()+"/x", "/"+intake.Path()+"/denied/"+c.ID().String(),
		"//"+secret+head, "/./"+secret+head, "/x/../"+secret+head, "/"+secret+"%2fhead/"+c.ID().String(), fmt.Sprintf("/%%%02x", secret[0])+secret[1:]+head, "/"+strings.ToLower(secret)+"/ipfs/bafkqaaa?format=raw",
		"/"+secret[:31]+head, "/"+secret+"A"+head, "/head/"+c.ID().String(), "/head/"+other.String(), "/ipfs/bafkqaaa?format=raw",
	)
}

package cmd_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/namesys"
	"github.com/ipfs/boxo/path"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport/dns"
)

// snippet is the block of a document that holds a text, for a test to run what
// people are told to write.
func snippet(t *testing.T, doc, holds string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", doc))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i, block := range strings.Split(string(text), "```\n") {
		if i%2 == 1 && strings.Contains(block, holds) {
			found = append(found, block)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks in docs/%s hold %q", len(found), doc, holds)
	}
	return found[0]
}

// filled replaces places of a snippet, each of which must be there.
func filled(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q in: %s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

const hostedZone = "n.example"

// nameServer is another one than ours, and a resolver before it.
type nameServer struct {
	addr     string
	resolver string
}

// copyKey puts a key where the server's own programs would have it.
func copyKey(t *testing.T, key, dir string) string {
	t.Helper()
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, hostedZone+".key")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// holdsHead waits until a name server answers with the head of that edition.
func (s *studio) holdsHead(addr string, edition uint64) {
	t := s.d.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := dns.NewClient(dns.ClientConfig{Network: &netreal.Network{}, Zone: hostedZone, Resolvers: []string{addr}, Hurry: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := c.Head(ctx, s.channel, edition) // what is newer than that many editions
		if err == nil && len(raw) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("edition %d is not there: %v", edition, err)
		case <-time.After(20 * time.Millisecond): // it asks anew
		}
	}
}

// reads has a reader who has DNS alone, by one resolver, get an article.
func (s *studio) reads(reader, resolver, title, text string) {
	t := s.d.t
	t.Helper()
	s.d.must("mirror", "--dir", reader, "sync", "--resolver", resolver)
	id := s.d.must("mirror", "--dir", reader, "list").find(t, `^(\S{4})\S*  .*`+title)
	if out := s.d.must("mirror", "--dir", reader, "read", id).stdout(); !strings.Contains(out, text) {
		t.Errorf("read: %s", out)
	}
}

// linked has what Kubo resolves names with find the channel's IPNS name, by one
// resolver; the name is that of the key in the channel's root note.
func (s *studio) linked(resolver string) {
	t := s.d.t
	t.Helper()
	system := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, resolver)
	}}
	p, err := path.NewPath("/ipns/" + s.channel.Label() + "." + hostedZone)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dns.NewClient(dns.ClientConfig{Network: &netreal.Network{}, Zone: hostedZone, Resolvers: []string{resolver}, Hurry: true})
	if err != nil {
		t.Fatal(err)
	}
	note, err := c.RootNote(t.Context(), s.channel, 1)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := channel.ParseRoots(s.channel, [][]byte{note})
	if err != nil {
		t.Fatal(err)
	}
	got, err := namesys.NewDNSResolver(system.LookupTXT).Resolve(t.Context(), p, namesys.ResolveWithDepth(1))
	if got.Path == nil || got.Path.String() != "/ipns/"+roots.IPNSName() {
		t.Errorf("%s leads to %v, want %s (%v)", p, got.Path, roots.IPNSName(), err)
	}
}

// TestSecondaries: publisher → relay → BIND and Knot (AXFR, NOTIFY) → unbound →
// reader, with the configuration of docs/volunteer.md. The relay is gone while
// readers read.
func TestSecondaries(t *testing.T) {
	d := newDesk(t)
	relay := &relayHost{d: d, dir: d.path("relay"), listen: localPort(t)}
	dnsAddr := localPort(t)
	relay.flags = []string{"--dns-listen", dnsAddr}
	port := dnsAddr[strings.LastIndexByte(dnsAddr, ':')+1:]
	if err := os.Mkdir(relay.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	servers := map[string]nameServer{}
	toml := ""
	for kind, run := range map[string]func(t testing.TB, dir, conf string) string{"bind": testservers.BIND, "knot": testservers.Knot} {
		dir := d.path(kind)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		key := copyKey(t, testservers.TSIGKey(t, kind == "knot", kind+".key.example"), dir)
		conf := ""
		if kind == "bind" {
			conf = filled(t, snippet(t, "volunteer.md", "type secondary;"), "/etc/bind/n.example.key", key,
				`192.0.2.7 key "n.example"`, "127.0.0.1 port "+port+` key "bind.key.example"`)
		} else {
			conf = filled(t, snippet(t, "volunteer.md", "master: relay"), "/etc/knot/n.example.key", key,
				"key: n.example", "key: knot.key.example", "    address: 192.0.2.7\n    key", "    address: 127.0.0.1@"+port+"\n    key")
			conf = strings.Replace(conf, "acl:\n  - id: relay\n    address: 127.0.0.1@"+port, "acl:\n  - id: relay\n    address: 127.0.0.1", 1)
		}
		addr := run(t, dir, conf)
		servers[kind] = nameServer{addr, testservers.Unbound(t, hostedZone, addr)}
		name := kind + ".key"
		if err := os.Rename(key, filepath.Join(relay.dir, name)); err != nil {
			t.Fatal(err)
		}
		toml += fmt.Sprintf("\n[[dns_secondary]]\nkey = %q\nnotify = %q\n", name, addr)
	}
	text := snippet(t, "volunteer.md", "[[dns_secondary]]")
	toml = text[:strings.Index(text, "[[dns_secondary]]")] + toml
	if err := os.WriteFile(filepath.Join(relay.dir, "relay.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	relay.run()
	s := d.studio(d.path("pub"), "Radio", "en")
	s.carriedBy(relay, "relay", "127.0.0.1")
	withZone(t, s)
	s.invite(d.path("invite.txt"))
	for i, title := range []string{"Ferry timetable", "Winter timetable"} {
		shelve(t, d.path("news"), []story{{name: title, lang: "en", title: title, paragraphs: []string{"It leaves at seven."}}})
		d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
		d.must("mirror-publish", "--dir", s.dir, "push")
		for _, srv := range servers {
			s.holdsHead(srv.addr, uint64(i)) // by NOTIFY: they would ask in an hour
		}
		relay.proc.stop()
		for kind, srv := range servers {
			reader := d.path("reader-" + kind)
			if i == 0 {
				d.must("mirror", "--dir", reader, "add", d.path("invite.txt"))
			}
			s.reads(reader, srv.resolver, title, "It leaves at seven.")
			s.linked(srv.resolver)
		}
		relay.run()
	}
	relay.proc.stop()
}

// withZone names the zone in publisher.toml.
func withZone(t *testing.T, s *studio) {
	t.Helper()
	name := filepath.Join(s.dir, "publisher.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(filled(t, string(text), `# zones = ["n.example"]`, `zones = ["n.example"]`)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// zoneFile is the zone before anything is published.
const zoneFile = `$ORIGIN n.example.
@ 3600 IN SOA ns.n.example. hostmaster.n.example. 1 3600 600 604800 60
@ 3600 IN NS ns.n.example.
ns 3600 IN A 127.0.0.1
`

// TestUpdates: publisher → Knot and BIND (RFC 2136) → unbound → reader, with the
// configuration of docs/publisher.md.
func TestUpdates(t *testing.T) {
	for kind, run := range map[string]func(t testing.TB, dir, conf string) string{"bind": testservers.BIND, "knot": testservers.Knot} {
		t.Run(kind, func(t *testing.T) {
			d := newDesk(t)
			dir := d.path(kind)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "n.example.zone"), []byte(zoneFile), 0o600); err != nil {
				t.Fatal(err)
			}
			key := testservers.TSIGKey(t, kind == "knot", hostedZone)
			holds := map[string]string{"bind": "update-policy", "knot": "action: update"}[kind]
			conf := filled(t, snippet(t, "publisher.md", holds), "/etc/"+kind+"/n.example.key", copyKey(t, key, dir))
			addr := run(t, dir, conf)
			resolver := testservers.Unbound(t, hostedZone, addr)

			s := d.studio(d.path("pub"), "Radio", "en")
			pub := func(args ...string) *process {
				t.Helper()
				return d.must("mirror-publish", append([]string{"--dir", s.dir}, args...)...)
			}
			withZone(t, s)
			pub("target", "zone", "--dns", hostedZone+"@"+addr, "--credentials", key)
			s.invite(d.path("invite.txt"))
			reader := d.path("reader")
			d.must("mirror", "--dir", reader, "add", d.path("invite.txt"))
			for i, title := range []string{"Ferry timetable", "Winter timetable"} {
				shelve(t, d.path("news"), []story{{name: title, lang: "en", title: title, paragraphs: []string{"It leaves at seven."}}})
				pub("pack", d.path("news"))
				if out := pub("push").stdout(); !strings.Contains(out, fmt.Sprintf("zone: edition %d arrived", i)) {
					t.Errorf("push: %s", out)
				}
				if out := pub("push").stdout(); !strings.Contains(out, "already") {
					t.Errorf("push again: %s", out)
				}
				s.reads(reader, resolver, title, "It leaves at seven.")
				s.linked(resolver)
			}
			if out := pub("status").stdout(); !strings.Contains(out, "zone: holds edition 1, the newest") {
				t.Errorf("status: %s", out)
			}

			// Somebody else's key, then none at all: one line that says what to do.
			other := testservers.TSIGKey(t, false, hostedZone)
			stranger := testservers.TSIGKey(t, true, "stranger.example")
			for name, c := range map[string]struct{ key, says string }{
				"other":    {other, "another secret"},
				"stranger": {stranger, "does not know the key"},
			} {
				pub("target", name, "--dns", hostedZone+"@"+addr, "--credentials", c.key)
				p := d.run("mirror-publish", "--dir", s.dir, "push", name)
				if out := p.stdout(); p.code() != 1 || !strings.Contains(out, c.says) || strings.Count(out, "\n") != 1 {
					t.Errorf("%s: %s", name, p)
				}
			}
		})
	}
}

// TestPointerZone: of a zone without texts a reader gets the headlines, and an
// article by whatever else brings it.
func TestPointerZone(t *testing.T) {
	d := newDesk(t)
	dir := d.path("knot")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := d.studio(d.path("pub"), "Radio", "en")
	withZone(t, s)
	s.invite(d.path("invite.txt"))
	shelve(t, d.path("news"), []story{{name: "ferry", lang: "en", title: "Ferry timetable", paragraphs: []string{"It leaves at seven."}}})
	d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
	text := d.must("mirror-publish", "--dir", s.dir, "zone", hostedZone, "--pointer", "--ns", "ns.n.example=127.0.0.1").stdout()
	file := filepath.Join(dir, hostedZone+".zone")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testservers.CheckZone(t, hostedZone, file)
	addr := testservers.Knot(t, dir, "zone:\n  - domain: "+hostedZone+"\n    file: "+hostedZone+".zone\n")
	reader := d.path("reader")
	d.must("mirror", "--dir", reader, "add", d.path("invite.txt"))
	d.run("mirror", "--dir", reader, "sync", "--resolver", testservers.Unbound(t, hostedZone, addr))
	d.must("mirror", "--dir", reader, "list").find(t, `^(\S{4})\S*  .*Ferry timetable`)
	s.linked(addr)
	d.must("mirror-publish", "--dir", s.dir, "export", d.path("edition.car"))
	d.must("mirror", "--dir", reader, "import", d.path("edition.car"))
	id := d.must("mirror", "--dir", reader, "list").find(t, `^(\S{4})\S*  .*Ferry timetable`)
	if out := d.must("mirror", "--dir", reader, "read", id).stdout(); !strings.Contains(out, "It leaves at seven.") {
		t.Errorf("read: %s", out)
	}
}

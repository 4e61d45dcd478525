package cmd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tamizdat/internal/testservers"
)

// strictZones are served by one relay, each with name servers of its own.
var strictZones = []string{hostedZone, "m.example.net"}

// TestStrictResolvers: a relay's name server with two zones, looked at with other
// people's tools as checkers of delegations do, and read through a resolver that
// lets nothing pass.
func TestStrictResolvers(t *testing.T) {
	d := newDesk(t)
	addr := localPort(t)
	relay := &relayHost{d: d, dir: d.path("relay"), listen: localPort(t), flags: []string{"--dns-listen", addr, "--dns", strictZones[0], "--dns", strictZones[1]}}
	if err := os.Mkdir(relay.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	toml := "[[dns_zones]]\nname = \"n.example\"\nns = [\"ns1.n.example=192.0.2.1\", \"ns2.host.example\"]\n" +
		"[[dns_zones]]\nname = \"m.example.net\"\nns = [\"ns1.m.example.net=192.0.2.1\", \"ns1.m.example.net=2001:db8::1\"]\n"
	if err := os.WriteFile(filepath.Join(relay.dir, "relay.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	relay.run()
	defer func() { relay.proc.stop() }()
	s := d.studio(d.path("pub"), "Radio", "en")
	s.carriedBy(relay, "relay", "127.0.0.1")
	name := filepath.Join(s.dir, "publisher.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(filled(t, string(text), `# zones = ["n.example"]`, `zones = ["n.example", "m.example.net"]`)), 0o600); err != nil {
		t.Fatal(err)
	}
	invite := d.path("invite.txt")
	s.invite(invite)
	shelve(t, d.path("news"), []story{{name: "ferry", lang: "en", title: "Ferry timetable", paragraphs: []string{"It leaves at seven."}}})
	d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
	d.must("mirror-publish", "--dir", s.dir, "push")

	// The longest line is a record of the largest size.
	longest := ""
	for line := range strings.Lines(d.must("mirror-publish", "--dir", s.dir, "zone", hostedZone).stdout()) {
		if len(line) > len(longest) {
			longest = line
		}
	}
	full, _, _ := strings.Cut(longest, " ")
	for _, zone := range strictZones {
		t.Run(zone, func(t *testing.T) { s.checkDelegation(t, addr, zone, full+"."+zone) })
	}
	resolver := testservers.StrictUnbound(t, addr, strictZones...)
	reader := d.path("reader")
	d.must("mirror", "--dir", reader, "add", invite)
	s.reads(reader, resolver, "Ferry timetable", "It leaves at seven.")
	s.linked(resolver)
}

// checkDelegation asks what Zonemaster and its like ask of a zone's server; full
// is the name of a record as large as any.
func (s *studio) checkDelegation(t *testing.T, addr, zone, full string) {
	t.Helper()
	port := addr[strings.LastIndexByte(addr, ':')+1:]
	dig, kdig := testservers.Dig(t), testservers.Kdig(t)
	head := s.channel.Label() + "." + zone
	ns := "ns1." + zone
	type check struct {
		what, args string
		// want and not are patterns that the output matches, and doesn't.
		want []string
		not  string
	}
	const (
		authoritative = `(?m)^;; [Ff]lags:.* aa`
		noerror       = `status: NOERROR`
		empty         = `ANSWER: 0`
		soa           = `(?m)^\S+\s+60\s+IN\s+SOA\s` // in negative answers, with its minimum for TTL
	)
	checks := []check{
		{"SOA", zone + " SOA", []string{authoritative, noerror, `\sSOA\s+ns1\.` + zone + `\. hostmaster\.` + zone + `\. \d+ 3600 600 604800 60\b`}, ` ra[ ;]`},
		{"SOA over TCP", "+tcp " + zone + " SOA", []string{authoritative, noerror, `ANSWER: 1`}, ` ra[ ;]`},
		{"NS", zone + " NS", []string{authoritative, noerror, `\sNS\s+ns1\.` + zone}, "CNAME"},
		{"a name server's address", ns + " A", []string{authoritative, noerror, `\sA\s+192\.0\.2\.1`}, "CNAME"},
		{"letter case is kept", strings.ToUpper(head) + " TXT", []string{noerror, strings.ToUpper(s.channel.Label()), `ANSWER: 1`}, ""},
		{"a full record fits", "+ignore " + full + " TXT", []string{noerror, `ANSWER: 1`}, ` tc[ ;]`},
		{"without EDNS it is cut", "+noedns +ignore " + full + " TXT", []string{noerror, ` tc[ ;]`, empty}, "OPT PSEUDOSECTION"},
		{"and is whole over TCP", "+noedns +tcp " + full + " TXT", []string{noerror, `ANSWER: 1`}, ` tc[ ;]`},
		{"a name without that type", head + " A", []string{authoritative, noerror, empty, soa}, ""},
		{"an apex without that type", zone + " MX", []string{authoritative, noerror, empty, soa}, ""},
		{"DS is the parent's, and not here", zone + " DS", []string{authoritative, noerror, empty, soa}, ""},
		{"DNSKEY", "+dnssec " + zone + " DNSKEY", []string{authoritative, noerror, empty, soa}, `flags:.* ad[ ;]`},
		{"an empty name above another", "_dnslink." + head + " NS", []string{authoritative, noerror, empty, soa}, ""},
		{"no such name", "nothing." + zone + " A", []string{authoritative, `status: NXDOMAIN`, soa}, ""},
		{"no such name, of any type", "nothing." + zone + " TXT", []string{authoritative, `status: NXDOMAIN`, soa}, ""},
		{"ANY is small", "+notcp +ignore " + zone + " ANY", []string{noerror, `ANSWER: 1`}, "TXT"},
		{"recursion", "+rec example.org A", []string{`status: REFUSED`, empty}, ` ra[ ;]`},
		{"no referral upwards", ". NS", []string{`status: REFUSED`, empty, `AUTHORITY: 0`}, "ROOT-SERVERS"},
		{"a parent", zone[strings.IndexByte(zone, '.')+1:] + " NS", []string{`status: REFUSED`, empty}, ""},
		{"another class", "version.bind CH TXT", []string{`status: REFUSED`, empty}, "TXT.*\""},
		{"transfer", "+tcp " + zone + " AXFR", nil, `\sTXT\s`},
		{"EDNS", "+noedns +bufsize=4096 " + zone + " SOA", []string{noerror, `udp: 1232`}, ""},
	}
	checks = append(checks, []check{
		{"EDNS version 1", "+edns=1 +noednsneg " + zone + " SOA", []string{`status: BADVERS`, `version: 0`, empty}, `\sSOA\s+ns1`},
		{"EDNS option that nobody knows", "+ednsopt=100 " + zone + " SOA", []string{noerror, `ANSWER: 1`}, `OPT=100`},
		{"EDNS flag that nobody knows", "+ednsflags=0x40 " + zone + " SOA", []string{noerror, `ANSWER: 1`}, `MBZ`},
		{"all of them", "+edns=1 +noednsneg +ednsopt=100 +ednsflags=0x40 +dnssec " + zone + " SOA", []string{`status: BADVERS`}, `\sSOA\s+ns1`},
		{"NSID", "+nsid " + zone + " SOA", []string{noerror, `ANSWER: 1`}, `NSID: \S`},
		{"cookie", "+cookie=0102030405060708 " + zone + " SOA", []string{noerror, `COOKIE: 0102030405060708[0-9a-f]{32} \(good\)`}, ""},
		{"keepalive", "+tcp +keepalive " + zone + " SOA", []string{noerror, `TCP.KEEPALIVE: 10\.0 secs`}, ""},
		{"another opcode", "+opcode=15 +norec " + zone + " SOA", []string{`status: NOTIMP`}, `\sSOA\s+ns1`},
		{"DO comes back, AD does not", "+dnssec " + zone + " SOA", []string{noerror, `flags: do`}, `(?m)^;; flags:[^;]* ad[ ;]`},
		{"bit Z", "+zflag " + zone + " SOA", []string{noerror, `ANSWER: 1`}, `MBZ`},
	}...)
	byKnot := []check{
		{"SOA", zone + " SOA", []string{authoritative, noerror, `ANSWER: 1`}, ` ra[ ;]`},
		{"a full record", "+bufsize=1232 +ignore " + full + " TXT", []string{noerror, `ANSWER: 1`}, ` tc[ ;]`},
		{"NSID and cookie", "+nsid +cookie=0102030405060708 " + zone + " SOA", []string{noerror, `COOKIE: 0102030405060708`}, `NSID`},
		{"no such name", "+tcp nothing." + zone + " A", []string{`status: NXDOMAIN`, soa}, ""},
	}
	ask := func(bin string, c check) {
		args := append([]string{"@127.0.0.1", "-p", port}, strings.Fields("+norec "+c.args)...)
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err != nil && c.want != nil {
			t.Errorf("%s, %s: %v\n%s", filepath.Base(bin), c.what, err, out)
			return
		}
		for _, p := range c.want {
			if !regexp.MustCompile(p).Match(out) {
				t.Errorf("%s, %s: no %q in\n%s", filepath.Base(bin), c.what, p, out)
			}
		}
		if c.not != "" && regexp.MustCompile(c.not).Match(out) {
			t.Errorf("%s, %s: %q in\n%s", filepath.Base(bin), c.what, c.not, out)
		}
	}
	for _, c := range checks {
		ask(dig, c)
	}
	for _, c := range byKnot {
		ask(kdig, c)
	}
}

//go:build linux && !android

package netns

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// zone is what the relays answer for.
const zone = "n.example"

// net24 begins all addresses: TEST-NET-2 of RFC 5737.
const net24 = "198.51.100."

// world is the far end, the router, and readers who are up to date with
// yesterday's edition.
type world struct {
	dir       string // of all its files
	authority string // file with the one certificate authority that its programs trust
	router    string
	addr      map[string]netip.Addr // of each namespace, by its short name
	channel   string
	invite    string // file
	yesterday string // folder of a library: copy it before use
	before    []path // what had brought it
}

// newWorld builds the network and starts everything that lasts.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), router: prefix + "router", addr: map[string]netip.Addr{}}
	var cert, key string
	w.authority, cert, key = certify(t, w.dir)
	w.namespace(t, w.router)
	system(t, "", "ip", "netns", "exec", w.router, "sh", "-c",
		"echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct") // the latter for ct bytes
	for _, name := range []string{"relay1", "relay2", "cdn", "press", "isp"} {
		w.box(t, name)
	}

	w.channel = group(t, `(?m)^channel (\S+)$`, w.must(t, w.ns("press"), "", "mirror-publish", "--dir", "pub", "init", "--name", "Harbour Radio", "--lang", "en"))
	config := filepath.Join(w.dir, "pub", "publisher.toml")
	adds(t, config, fmt.Sprintf("zones = [%q]\n", zone))
	for _, name := range []string{"relay1", "relay2"} {
		addr := w.addr[name].String()
		relay := w.start(t, w.ns(name), "", filepath.Join(bin, "mirror-relay"), "--dir", name, "run", "--host", addr, "--listen", addr+":443",
			"--dns", zone, "--dns-listen", addr+":53")
		relay.says(t, "relay is up")
		line := w.must(t, w.ns(name), "", "mirror-relay", "--dir", name, "address", "--host", addr, w.channel)
		w.must(t, w.ns("press"), line, "mirror-publish", "--dir", "pub", "target", name)
		if name == "relay1" {
			adds(t, config, fmt.Sprintf("via = [%q]\n", "https://"+cdnName))
		}
	}
	cdn, err := json.Marshal(cdnConfig{Listen: w.addr["cdn"].String() + ":443", Origin: w.addr["relay1"].String() + ":443", Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.start(t, w.ns("cdn"), "", "env", cdnEnv+"="+string(cdn), self).says(t, cdnUp)
	w.resolver(t)

	w.invite = filepath.Join(w.dir, "invite")
	if err := os.WriteFile(w.invite, []byte(w.must(t, w.ns("press"), "", "mirror-publish", "--dir", "pub", "invite")), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// ns is the full name of a namespace.
func (w *world) ns(name string) string { return prefix + name }

// namespace makes a namespace that goes away with the test.
func (w *world) namespace(t *testing.T, ns string) {
	t.Helper()
	t.Cleanup(func() { forget(t, ns) })
	system(t, "", "ip", "netns", "add", ns)
	system(t, "", "ip", "-n", ns, "link", "set", "lo", "up")
	// Names that the machine knows are none of ours, and its resolver neither.
	etc := filepath.Join(etcNetn, ns)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := "127.0.0.1 localhost\n"
	if cdn, ok := w.addr["cdn"]; ok {
		hosts += cdn.String() + " " + cdnName + "\n"
	}
	adds(t, filepath.Join(etc, "hosts"), hosts)
}

// box makes a namespace with an address of its own behind the router.
func (w *world) box(t *testing.T, name string) {
	t.Helper()
	ns, n := w.ns(name), 4*len(w.addr)
	gate, own := netip.MustParseAddr(net24+strconv.Itoa(n+1)), netip.MustParseAddr(net24+strconv.Itoa(n+2))
	w.namespace(t, ns)
	w.addr[name] = own
	for _, cmd := range [][]string{
		{"-n", w.router, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", ns},
		{"-n", w.router, "addr", "add", gate.String() + "/30", "dev", name},
		{"-n", w.router, "link", "set", name, "up"},
		{"-n", ns, "addr", "add", own.String() + "/30", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", ns, "route", "add", "default", "via", gate.String()},
	} {
		system(t, "", append([]string{"ip"}, cmd...)...)
	}
}

// resolver starts the ISP's recursive resolver. There is no root here, so it is
// told who answers for the zone; all else it does as ever.
func (w *world) resolver(t *testing.T) {
	t.Helper()
	conf := filepath.Join(w.dir, "unbound.conf")
	adds(t, conf, fmt.Sprintf(`server:
	interface: %[1]s
	access-control: 0.0.0.0/0 allow
	directory: "%[2]s"
	chroot: ""
	username: ""
	pidfile: ""
	use-syslog: no
	do-daemonize: no
	verbosity: 1
	do-ip6: no
	module-config: "iterator"
remote-control:
	control-enable: no
stub-zone:
	name: "%[3]s"
	stub-addr: %[4]s
	stub-addr: %[5]s
`, w.addr["isp"], w.dir, zone, w.addr["relay1"], w.addr["relay2"]))
	w.start(t, w.ns("isp"), "", "unbound", "-d", "-p", "-c", conf).says(t, "start of service")
}

// publish packs one article and pushes the edition to both relays.
func (w *world) publish(t *testing.T, name string, a article) {
	t.Helper()
	folder := filepath.Join(w.dir, "news-"+name)
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	adds(t, filepath.Join(folder, name+".md"), fmt.Sprintf("---\ntitle: %s\nlang: en\n---\n%s\n", a.title, a.text))
	w.must(t, w.ns("press"), "", "mirror-publish", "--dir", "pub", "pack", folder)
	w.must(t, w.ns("press"), "", "mirror-publish", "--dir", "pub", "push")
}

// censor puts rules before one reader, in a table of his own in the router: what
// the censor does, then what shuts the ways that this reader is not to have.
// Earlier ones are replaced.
func (w *world) censor(t *testing.T, reader, rules, shut string) {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"relay1", "relay2", "cdn", "isp"} {
		fmt.Fprintf(&b, "define %s = %s\n", name, w.addr[name])
	}
	fmt.Fprintf(&b, "define reader = %s\n", w.addr[reader])
	fmt.Fprintf(&b, `add table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	counter bitten { }
	chain lost {
		counter name bitten drop
	}
	chain shut {
		drop
	}
	chain border {
		type filter hook forward priority 0; policy accept;
		ip saddr != $reader ip daddr != $reader accept
%[2]s
%[3]s
	}
}
`, table(reader), rules, shut)
	system(t, b.String(), "ip", "netns", "exec", w.router, "nft", "-f", "-")
}

// bitten is how many packets the censor has taken from a reader.
func (w *world) bitten(t *testing.T, reader string) int {
	t.Helper()
	n, err := strconv.Atoi(group(t, `packets (\d+)`, system(t, "", "ip", "netns", "exec", w.router, "nft", "list", "counter", "inet", table(reader), "bitten")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func table(reader string) string { return "reader_" + reader }

// adds appends text to a file, which it makes if it must.
func adds(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// group is the first group of the first match of re in text.
func group(t *testing.T, re, text string) string {
	t.Helper()
	m := regexp.MustCompile(re).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s in:\n%s", re, text)
	}
	return m[1]
}

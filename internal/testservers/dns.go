package testservers

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The name servers of Debian's packages bind9, knot and unbound, each with a
// folder of its own, on loopback, and not as a service.

// CheckZone has BIND, Knot and NSD read a zone file as it is.
func CheckZone(t testing.TB, zone, file string) {
	t.Helper()
	for _, cmd := range [][]string{
		{need(t, "named-checkzone", "install the package bind9-utils"), zone, file},
		{need(t, "kzonecheck", "install the package knot-dnssecutils"), "-o", zone, file},
		{need(t, "nsd-checkzone", "install the package nsd"), zone, file},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s does not accept it: %v\n%s", filepath.Base(cmd[0]), err, out)
		}
	}
}

// Dig and Kdig are BIND's and Knot's programs that ask a name server by hand.
func Dig(t testing.TB) string {
	t.Helper()
	return need(t, "dig", "install the package bind9-dnsutils")
}

// Kdig is Knot's.
func Kdig(t testing.TB) string {
	t.Helper()
	return need(t, "kdig", "install the package knot-dnsutils")
}

// TSIGKey makes a key as its programs print it, BIND's or Knot's, in a file that
// its owner alone may read.
func TSIGKey(t testing.TB, knot bool, name string) (file string) {
	t.Helper()
	cmd := []string{"tsig-keygen", "-a", "hmac-sha256", name}
	if knot {
		cmd = []string{"keymgr", "-t", name, "hmac-sha256"}
	}
	out, err := exec.Command(need(t, cmd[0], "install the packages bind9 and knot"), cmd[1:]...).Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd[0], err)
	}
	file = filepath.Join(t.TempDir(), name+".key")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// BIND runs named in dir with some configuration besides where it listens.
func BIND(t testing.TB, dir, conf string) (addr string) {
	t.Helper()
	return bind(t, dir, "recursion no;", conf)
}

func bind(t testing.TB, dir, options, conf string) (addr string) {
	t.Helper()
	bin := unconfined(t, need(t, "named", "install the package bind9"))
	return start(t, func(addr string) *exec.Cmd {
		file := written(t, dir, "named.conf", fmt.Sprintf(`options {
	directory "%s"; pid-file none; session-keyfile "session.key";
	listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	notify no; dnssec-validation no;
	minimal-responses yes;
	%s
};
controls { };
%s`, dir, portOf(addr), options, conf))
		return exec.Command(bin, "-g", "-c", file)
	})
}

// Knot runs knotd in dir with some configuration besides where it listens.
func Knot(t testing.TB, dir, conf string) (addr string) {
	t.Helper()
	addr, _ = KnotWorkers(t, dir, conf, 1)
	return addr
}

// KnotWorkers is Knot with that many threads for UDP, each on a socket of its own,
// and for TCP; it says which process it is.
func KnotWorkers(t testing.TB, dir, conf string, workers int) (addr string, pid int) {
	t.Helper()
	bin := unconfined(t, need(t, "knotd", "install the package knot"))
	run, err := os.MkdirTemp("", "knot") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	return startProcess(t, func(addr string) *exec.Cmd {
		file := written(t, dir, "knot.conf", fmt.Sprintf(`server:
    rundir: "%s"
    listen: 127.0.0.1@%s
    udp-workers: %[3]d
    tcp-workers: %[3]d
    background-workers: 1

database:
    storage: "%[4]s"
    journal-db-max-size: 50M
    timer-db-max-size: 5M
    kasp-db-max-size: 5M

log:
  - target: stderr
    any: info

template:
  - id: default
    storage: "%[4]s"

%[5]s`, run, portOf(addr), workers, dir, conf))
		return exec.Command(bin, "-c", file)
	})
}

// Unbound runs a recursive resolver. There is no root here, so it is told who
// answers for the zone; all else it does as ever.
func Unbound(t testing.TB, zone, authority string) (addr string) {
	t.Helper()
	return unbound(t, `	module-config: "iterator"`, authority, zone)
}

// StrictUnbound is Unbound with everything switched on that makes a resolver refuse
// what others let pass: it asks for one label more at a time and believes the
// answers, mixes letter case, and takes NXDOMAIN to be true of all that is below.
func StrictUnbound(t testing.TB, authority string, zones ...string) (addr string) {
	t.Helper()
	return unbound(t, `	module-config: "validator iterator"
	qname-minimisation: yes
	qname-minimisation-strict: yes
	use-caps-for-id: yes
	harden-below-nxdomain: yes
	harden-glue: yes
	harden-large-queries: yes
	harden-referral-path: yes
	harden-short-bufsize: yes
	minimal-responses: no
	deny-any: yes
	edns-buffer-size: 1232`, authority, zones...)
}

func unbound(t testing.TB, options, authority string, zones ...string) (addr string) {
	t.Helper()
	bin := unconfined(t, need(t, "unbound", "install the package unbound"))
	dir := t.TempDir()
	stubs := ""
	for _, zone := range zones {
		stubs += fmt.Sprintf("stub-zone:\n\tname: %q\n\tstub-addr: 127.0.0.1@%s\n", zone, portOf(authority))
	}
	return start(t, func(addr string) *exec.Cmd {
		file := written(t, dir, "unbound.conf", fmt.Sprintf(`server:
	interface: 127.0.0.1@%s
	directory: "%s"
	chroot: ""
	username: ""
	pidfile: ""
	use-syslog: no
	do-daemonize: no
	do-ip6: no
	do-not-query-localhost: no
%s
remote-control:
	control-enable: no
%s`, portOf(addr), dir, options, stubs))
		return exec.Command(bin, "-d", "-p", "-c", file)
	})
}

// Root runs Knot as the root of all names, on port 53 of an address of loopback, which
// only root may take. records are lines of its zone file besides SOA and name server.
func Root(t testing.TB, at netip.Addr, records string) {
	t.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(at, 53).String())
	if err != nil {
		skip(t, fmt.Sprintf("resolvers ask port 53 only, which can't be had on loopback, so no delegation was tested: %v", err))
	}
	_ = ln.Close() // it is only the number that is wanted
	dir := t.TempDir()
	written(t, dir, "root.zone", fmt.Sprintf(". 3600 SOA a.root.test. hostmaster.root.test. 1 3600 600 604800 60\n. 3600 NS a.root.test.\na.root.test. 3600 A %s\n%s", at, records))
	Knot(t, dir, fmt.Sprintf("server:\n    listen: %s@53\n\nzone:\n  - domain: .\n    file: root.zone\n", at))
}

// BINDFrom runs named as a resolver that begins at that root.
func BINDFrom(t testing.TB, root netip.Addr) (addr string) {
	t.Helper()
	dir := t.TempDir()
	written(t, dir, "hints", hints(root))
	return bind(t, dir, "recursion yes; allow-query { any; };", `zone "." { type hint; file "hints"; };`)
}

// UnboundFrom runs unbound as a resolver that begins at that root.
func UnboundFrom(t testing.TB, root netip.Addr) (addr string) {
	t.Helper()
	file := written(t, t.TempDir(), "hints", hints(root))
	return unbound(t, fmt.Sprintf("	module-config: \"iterator\"\n	root-hints: %q\n	local-zone: \"test.\" nodefault", file), "")
}

func hints(root netip.Addr) string {
	return fmt.Sprintf(". 3600 NS a.root.test.\na.root.test. 3600 A %s\n", root)
}

func portOf(addr string) string { return addr[len("127.0.0.1:"):] }

func written(t testing.TB, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// unconfined copies a program, since AppArmor's profiles go by path: the real one
// may be kept from a test's folders.
func unconfined(t testing.TB, bin string) string {
	t.Helper()
	in, err := os.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	name := filepath.Join(t.TempDir(), filepath.Base(bin))
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

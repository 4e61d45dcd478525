package cmd_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"tamizdat/internal/testservers"
)

// TestDelegation: a zone is delegated to a relay as docs/volunteer.md has it, and
// resolvers find it from the root, also once they have asked the zone for its name
// servers, whose word then goes before the parent's.
func TestDelegation(t *testing.T) {
	for name, c := range map[string]struct {
		host func(at netip.Addr) string
		ns   string
	}{
		"host is a name":     {func(netip.Addr) string { return "relay.host.test:8443" }, "relay.host.test"},
		"host is an address": {func(at netip.Addr) string { return at.String() + ":8443" }, "ns.n.example"},
	} {
		t.Run(name, func(t *testing.T) {
			// Other tests of this machine may be at it as well.
			root := netip.AddrFrom4([4]byte{127, 53, byte(rand.N(256)), byte(1 + rand.N(200))})
			at := root.Next()
			testservers.Root(t, root, fmt.Sprintf("n.example. 3600 NS %s.\n%[1]s. 3600 A %s\n", c.ns, at))
			d := newDesk(t)
			relay := &relayHost{d: d, dir: d.path("relay"), listen: localPort(t)}
			relay.flags = []string{"--dns", hostedZone, "--dns-listen", netip.AddrPortFrom(at, 53).String(), "--host", c.host(at)}
			relay.run()
			dig := testservers.Dig(t)
			for kind, resolver := range map[string]string{"bind": testservers.BINDFrom(t, root), "unbound": testservers.UnboundFrom(t, root)} {
				ask := func(args ...string) string {
					t.Helper()
					_, port, _ := strings.Cut(resolver, ":")
					out, err := exec.Command(dig, append([]string{"@127.0.0.1", "-p", port}, args...)...).CombinedOutput()
					if err != nil {
						t.Fatalf("%s: %v\n%s", kind, err, out)
					}
					return string(out)
				}
				// What is asked first has only the parent to go by.
				for i, q := range []string{"a", "b", "c"} {
					if out := ask(q+"."+hostedZone, "TXT"); !strings.Contains(out, "status: NXDOMAIN") {
						t.Errorf("%s, question %d: %s", kind, i, out)
					}
					if out := ask(hostedZone, "NS"); !strings.Contains(out, "NS\t"+c.ns+".\n") {
						t.Errorf("%s: %s", kind, out)
					}
				}
				if out := ask(c.ns, "A"); !strings.Contains(out, "A\t"+at.String()+"\n") {
					t.Errorf("%s: %s", kind, out)
				}
			}
		})
	}
}

//go:build linux && !android

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// bin is the folder of the built commands.
var bin string

func TestMain(m *testing.M) {
	if os.Getenv(cdnEnv) != "" { // a namespace runs this program again, to be the CDN
		fmt.Fprintln(os.Stderr, serveCDN(os.Getenv(cdnEnv)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build builds the commands as they are given out: without cgo, hence never
// with the race detector, whatever this test was built with.
func build(t *testing.T) {
	t.Helper()
	bin = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "nodynamic", "-trimpath", "-o", bin+string(filepath.Separator),
		"tamizdat/cmd/mirror", "tamizdat/cmd/mirror-relay", "tamizdat/cmd/mirror-publish")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the commands: %v\n%s", err, out)
	}
}

// need skips the test where it can't be run, which is a failure in CI.
func need(t *testing.T) {
	t.Helper()
	lack := t.Skip
	if os.Getenv("TAMIZDAT_CI") == "1" {
		lack = t.Fatal
	}
	if os.Geteuid() != 0 {
		lack("not root: network namespaces and nftables need it, so no kernel has checked the censor lab")
	}
	for command, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables", "unbound": "unbound"} {
		if _, err := exec.LookPath(command); err != nil {
			lack(fmt.Sprintf("no %s here, so no kernel has checked the censor lab: install the package %s", command, pkg))
		}
	}
	probe := prefix + "probe"
	out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", probe).CombinedOutput()
	if err == nil {
		out, err = exec.CommandContext(t.Context(), "ip", "netns", "exec", probe, "sh", "-c",
			"echo 1 > /proc/sys/net/ipv4/ip_forward && nft add table inet probe").CombinedOutput()
		_ = exec.Command("ip", "netns", "del", probe).Run() // sweep takes it otherwise
	}
	if err != nil {
		lack(fmt.Sprintf("root, but namespaces can't be made or ruled here (a container without CAP_NET_ADMIN?): %v: %s", err, out))
	}
}

const (
	family  = "tamizdat-"
	etcNetn = "/etc/netns" // what ip netns exec binds over /etc, a folder for each namespace
)

// prefix begins the names of this run's namespaces.
var prefix = family + strconv.Itoa(os.Getpid()) + "-"

// sweep removes what runs that were killed have left behind.
func sweep(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/run/netns", etcNetn} {
		left, err := os.ReadDir(dir)
		if err != nil {
			continue // no namespace has a name here
		}
		for _, e := range left {
			rest, ours := strings.CutPrefix(e.Name(), family)
			pid, _, whole := strings.Cut(rest, "-")
			if _, err := strconv.Atoi(pid); !ours || !whole || err != nil {
				continue
			}
			if _, err := os.Stat("/proc/" + pid); err == nil {
				continue // it is still running
			}
			forget(t, e.Name())
		}
	}
}

// forget removes a namespace and its folder in /etc/netns.
func forget(t *testing.T, ns string) {
	t.Helper()
	if _, err := os.Stat("/run/netns/" + ns); err == nil {
		if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
			t.Errorf("remove namespace %s: %v: %s", ns, err, out)
		}
	}
	if err := os.RemoveAll(filepath.Join(etcNetn, ns)); err != nil {
		t.Error(err)
	}
	_ = os.Remove(etcNetn) // only if it is empty
}

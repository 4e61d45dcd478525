package testservers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// HowKubo says how to get what Kubo runs: it is never built by the tests, for want
// of minutes.
const HowKubo = `no ipfs in PATH: GOBIN=SOMEWHERE-IN-PATH go -C internal/testservers/kubo install tool`

// Kubo is a node of Kubo's in a process of its own. It listens on loopback alone,
// knows no bootstrap peers, asks no routers and tells nobody anything.
type Kubo struct {
	// Addr is its multiaddress, with its name.
	Addr string

	t    testing.TB
	bin  string
	env  []string
	stop func()
}

// NewKubo starts a node with an empty repository that listens at a multiaddress,
// "/ip4/127.0.0.1/udp/0/quic-v1" or "/ip4/127.0.0.1/tcp/0". It is an error if there
// is no command ipfs, see HowKubo.
func NewKubo(t testing.TB, listen string) *Kubo {
	t.Helper()
	bin, err := exec.LookPath("ipfs")
	if err != nil {
		t.Fatal(HowKubo)
	}
	dir := t.TempDir()
	k := &Kubo{t: t, bin: bin, env: []string{"HOME=" + dir, "IPFS_PATH=" + filepath.Join(dir, "repo"), "IPFS_TELEMETRY=off", "PATH=/nowhere"}}
	k.Run("init", "--empty-repo", "--profile=test") // loopback, no bootstrap, no mDNS
	k.Run("config", "--json", "Addresses.Swarm", fmt.Sprintf("[%q]", listen))
	k.Run("config", "--json", "Plugins.Plugins", `{"telemetry":{"Disabled":true}}`)
	k.Run("config", "Routing.Type", "none")
	k.Run("config", "--json", "Provide.Enabled", "false")
	k.Run("config", "--json", "Swarm.RelayClient.Enabled", "false")
	k.Run("config", "--json", "Swarm.RelayService.Enabled", "false")
	k.Run("config", "AutoNAT.ServiceMode", "disabled")
	cmd := k.command("daemon")
	said := &awaited{what: "Daemon is ready", here: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, or the log says why
		close(ended)
	}()
	k.stop = func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
	t.Cleanup(k.stop)
	select {
	case <-said.here:
	case <-ended:
		t.Fatalf("ipfs daemon ended: %s", said)
	}
	for addr := range strings.Lines(k.Run("id", "-f", "<addrs>")) {
		k.Addr = strings.TrimSpace(addr)
	}
	return k
}

// Close ends the node.
func (k *Kubo) Close() { k.stop() }

// Run runs a command of ipfs on the node and returns what it says; no error of it
// is expected.
func (k *Kubo) Run(args ...string) string {
	k.t.Helper()
	cmd := k.command(args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		k.t.Fatalf("ipfs %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out)
}

func (k *Kubo) command(args ...string) *exec.Cmd {
	cmd := exec.Command(k.bin, args...)
	cmd.Env = k.env
	return cmd
}

// awaited closes here when what was written.
type awaited struct {
	what string
	here chan struct{}

	mu   sync.Mutex
	text strings.Builder
	seen bool
}

func (a *awaited) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(b)
	if !a.seen && strings.Contains(a.text.String(), a.what) {
		a.seen = true
		close(a.here)
	}
	return len(b), nil
}

func (a *awaited) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.String()
}

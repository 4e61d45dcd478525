//go:build linux && !android

package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long any one step may take before the test calls it hung.
const patience = 60 * time.Second

// process is a command that runs in a namespace.
type process struct {
	cmd      *exec.Cmd
	mu       sync.Mutex // guards out and err while it runs
	out, err bytes.Buffer
	done     chan struct{} // closed when it has ended; then these two are set:
	wait     error
	took     time.Duration
}

// guarded is one of a process's buffers, behind its lock.
type guarded struct {
	p *process
	b *bytes.Buffer
}

func (g guarded) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	return g.b.Write(b)
}

// start starts a command in a namespace; it is killed at the end of the test at
// the latest, and with this process if that dies.
func (w *world) start(t *testing.T, ns, stdin string, argv ...string) *process {
	t.Helper()
	argv = append([]string{"ip", "netns", "exec", ns}, argv...)
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdin = w.dir, strings.NewReader(stdin)
	p.cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true",
		"HTTP_PROXY=", "HTTPS_PROXY=", "http_proxy=", "https_proxy=", "SSL_CERT_FILE="+w.authority, "SSL_CERT_DIR="+w.dir+"/none")
	p.cmd.Stdout, p.cmd.Stderr = guarded{p, &p.out}, guarded{p, &p.err}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	began := time.Now()
	go func() {
		p.wait = p.cmd.Wait()
		p.took = time.Since(began)
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended by now
		<-p.done
	})
	return p
}

// within waits for the end of the process, for some time.
func (p *process) within(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

// stop asks the process to end, as Ctrl-C does, and waits for it.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended by now
	if !p.within(patience) {
		t.Fatalf("does not stop: %s", p)
	}
}

func (p *process) stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err.String()
}

func (p *process) String() string {
	state := "still running"
	select {
	case <-p.done:
		state = p.cmd.ProcessState.String()
	default:
	}
	return fmt.Sprintf("%s: %s\nstdout: %s\nstderr: %s", strings.Join(p.cmd.Args, " "), state, p.stdout(), p.stderr())
}

// says waits until the process has written so on standard error.
func (p *process) says(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.stderr(), what); {
		if p.within(5*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("it does not say %q: %s", what, p)
		}
	}
}

// must runs one of our commands to its end, which has to be a good one.
func (w *world) must(t *testing.T, ns, stdin, name string, args ...string) string {
	t.Helper()
	p := w.run(t, ns, stdin, name, args...)
	if p.wait != nil {
		t.Fatalf("failed: %s", p)
	}
	return p.stdout()
}

// run runs one of our commands to its end.
func (w *world) run(t *testing.T, ns, stdin, name string, args ...string) *process {
	t.Helper()
	p := w.start(t, ns, stdin, append([]string{filepath.Join(bin, name)}, args...)...)
	if !p.within(patience) {
		t.Fatalf("hangs: %s", p)
	}
	return p
}

// system runs a program of the system's to its end; it acts on the namespaces
// that its arguments name.
func system(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(argv, " "), err, out, stdin)
	}
	return string(out)
}

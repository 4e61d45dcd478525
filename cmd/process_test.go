package cmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tamizdat/bundle/channel"
)

// brief reports whether tests with many processes are to do less: each reader
// that opens its library pays for argon2id, several times over with the race
// detector in it.
func brief() bool { return testing.Short() || raceEnabled }

// desk is where the commands of one test are run: an environment in which the
// home folder and the folder for temporary files are the test's own.
type desk struct {
	t    *testing.T
	dir  string
	home string
	tmp  string
	env  []string
	// within, if set, goes before each command (nsenter, say).
	within []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	d.home, d.tmp = d.path("home"), d.path("tmp")
	for _, name := range []string{d.home, d.tmp} {
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.env = append(os.Environ(), "HOME="+d.home, "TMPDIR="+d.tmp, "TMP="+d.tmp, "TEMP="+d.tmp, "SQLITE_TMPDIR="+d.tmp,
		"XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME=", "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	return d
}

func (d *desk) path(name ...string) string { return filepath.Join(append([]string{d.dir}, name...)...) }

// process is a command that was started.
type process struct {
	name     string
	cmd      *exec.Cmd
	out, err bytes.Buffer
	mu       sync.Mutex // guards out and err while it runs
	done     chan struct{}
	wait     error
	start    time.Time
	took     time.Duration
}

// guarded lets a buffer be read while a process still writes to it.
type guarded struct {
	p *process
	b *bytes.Buffer
}

func (g guarded) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	return g.b.Write(b)
}

// start starts a command; it is killed at the end of the test at the latest.
func (d *desk) start(stdin string, prepare func(*exec.Cmd), name string, args ...string) *process {
	d.t.Helper()
	argv := append(append(append([]string(nil), d.within...), exe(name)), args...)
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{}), start: time.Now()}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdin = d.dir, d.env, strings.NewReader(stdin)
	p.cmd.Stdout, p.cmd.Stderr = guarded{p, &p.out}, guarded{p, &p.err}
	if prepare != nil {
		prepare(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		d.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	go func() {
		p.wait = p.cmd.Wait()
		p.took = time.Since(p.start)
		close(p.done)
	}()
	d.t.Cleanup(func() { p.kill() })
	return p
}

// kill ends the process at once and reports whether it was still running.
func (p *process) kill() bool {
	if p.ended() {
		return false
	}
	_ = p.cmd.Process.Kill() // it may have ended by now
	<-p.done
	var exit *exec.ExitError
	return errors.As(p.wait, &exit) && exit.ExitCode() == -1 || runtime.GOOS == "windows" && p.wait != nil
}

// stop asks the process to end, as Ctrl-C does, and waits for it.
func (p *process) stop() {
	if runtime.GOOS == "windows" {
		p.kill()
		return
	}
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended by now
	<-p.done
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

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
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

func (p *process) code() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) String() string {
	return fmt.Sprintf("%s: %v\nstdout: %s\nstderr: %s", strings.Join(p.cmd.Args, " "), p.wait, p.stdout(), p.stderr())
}

// patience is how long any one command may take before a test calls it hung.
const patience = 100 * time.Second

// run runs a command to its end.
func (d *desk) run(name string, args ...string) *process {
	d.t.Helper()
	return d.feed("", name, args...)
}

func (d *desk) feed(stdin, name string, args ...string) *process {
	d.t.Helper()
	p := d.start(stdin, nil, name, args...)
	if !p.within(patience) {
		p.kill()
		d.t.Fatalf("hangs: %s", p)
	}
	return p
}

// must runs a command that has to succeed.
func (d *desk) must(name string, args ...string) *process {
	d.t.Helper()
	return d.checked(d.run(name, args...))
}

func (d *desk) checked(p *process) *process {
	d.t.Helper()
	if p.code() != 0 {
		d.t.Fatalf("failed: %s", p)
	}
	return p
}

// find returns the first group of re in what a command printed.
func (p *process) find(t *testing.T, re string) string {
	t.Helper()
	m := regexp.MustCompile("(?m)" + re).FindStringSubmatch(p.stdout())
	if m == nil {
		t.Fatalf("nothing matches %s in: %s", re, p)
	}
	return m[1]
}

// localPort is a loopback address that is free for TCP and UDP.
func localPort(t *testing.T) string {
	t.Helper()
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		pc, err := net.ListenPacket("udp", addr)
		ln.Close()
		if err != nil {
			continue
		}
		pc.Close()
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// relayHost is a relay as a process, on one data folder and one port.
type relayHost struct {
	d      *desk
	dir    string
	listen string
	flags  []string
	proc   *process
}

// run starts the relay and waits until it listens.
func (r *relayHost) run() {
	r.d.t.Helper()
	r.proc = r.d.start("", nil, "mirror-relay", r.args()...)
	for deadline := time.Now().Add(patience); ; {
		if strings.Contains(r.proc.stderr(), "relay is up") {
			return
		}
		if r.proc.within(5*time.Millisecond) || time.Now().After(deadline) {
			r.d.t.Fatalf("the relay is not up: %s", r.proc)
		}
	}
}

func (r *relayHost) args() []string {
	return append([]string{"--dir", r.dir, "run", "--listen", r.listen}, r.flags...)
}

// story is an article as its author has it.
type story struct {
	name, lang, title string
	paragraphs        []string
}

// text is what a reader must get, with white space evened out.
func (s story) text() string { return flat(strings.Join(s.paragraphs, " ")) }

func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// shelve writes stories into a folder as Markdown.
func shelve(t *testing.T, dir string, stories []story) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, s := range stories {
		text := fmt.Sprintf("---\ntitle: %s\nlang: %s\ndate: 2026-03-02T09:%02d:00Z\n---\n%s\n", s.title, s.lang, i%60, strings.Join(s.paragraphs, "\n\n"))
		if err := os.WriteFile(filepath.Join(dir, s.name+".md"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// invent makes stories of made-up words, which compress badly: an edition of
// some size is wanted, so that there is a middle to be killed in.
func invent(rng *rand.Rand, prefix string, count, size int) []story {
	word := func() string {
		b := make([]byte, 3+rng.IntN(8))
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		return string(b)
	}
	var out []story
	for i := range count {
		s := story{name: fmt.Sprintf("%s-%02d", prefix, i), lang: "en", title: fmt.Sprintf("Bulletin %s %02d %s", prefix, i, word())}
		for n := 0; n < size; {
			words := make([]string, 60)
			for j := range words {
				words[j] = word()
			}
			p := strings.Join(words, " ") + "."
			s.paragraphs, n = append(s.paragraphs, p), n+len(p)
		}
		out = append(out, s)
	}
	return out
}

// studio is a publisher, and what everybody is to agree on.
type studio struct {
	d       *desk
	dir     string
	channel channel.ID
}

func (d *desk) studio(dir, name, langs string) *studio {
	d.t.Helper()
	s := &studio{d: d, dir: dir}
	id, err := channel.ParseID(d.must("mirror-publish", "init", dir, "--name", name, "--lang", langs).find(d.t, `^channel (\S+)$`))
	if err != nil {
		d.t.Fatal(err)
	}
	s.channel = id
	return s
}

// carriedBy makes a relay carry the channel and a target of it.
func (s *studio) carriedBy(r *relayHost, name, host string) {
	s.d.t.Helper()
	line := s.d.must("mirror-relay", "--dir", r.dir, "address", "--host", host, s.channel.String()).stdout()
	s.d.checked(s.d.feed(line, "mirror-publish", "--dir", s.dir, "target", name))
}

// invite writes a new invite to a file.
func (s *studio) invite(file string) string {
	s.d.t.Helper()
	text := s.d.must("mirror-publish", "--dir", s.dir, "invite").stdout()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.d.t.Fatal(err)
	}
	return text
}

// narrow is a slow line: a forwarder of TCP connections and UDP datagrams that
// passes so many bytes a second each way.
type narrow struct {
	addr, to string
	rate     int
	ln       net.Listener
	pc       net.PacketConn
	cancel   context.CancelFunc
	ctx      context.Context //nolint:containedctx // its life is the test's
	wg       sync.WaitGroup
}

func newNarrow(t *testing.T, to string, rate int) *narrow {
	t.Helper()
	n := &narrow{to: to, rate: rate}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	var err error
	for range 50 {
		if n.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		n.addr = n.ln.Addr().String()
		if n.pc, err = net.ListenPacket("udp", n.addr); err == nil {
			break
		}
		n.ln.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	n.wg.Go(n.tcp)
	n.wg.Go(n.udp)
	t.Cleanup(func() {
		n.cancel()
		n.ln.Close()
		n.pc.Close()
		n.wg.Wait()
	})
	return n
}

// pass takes the time that so many bytes need.
func (n *narrow) pass(size int) {
	select {
	case <-time.After(time.Duration(size) * time.Second / time.Duration(n.rate)):
	case <-n.ctx.Done():
	}
}

func (n *narrow) tcp() {
	for {
		c, err := n.ln.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", n.to)
		if err != nil {
			c.Close()
			continue
		}
		copy := func(dst, src net.Conn) {
			defer dst.Close()
			defer src.Close()
			buf := make([]byte, 4096)
			for {
				k, err := src.Read(buf)
				n.pass(k)
				if _, werr := dst.Write(buf[:k]); err != nil || werr != nil {
					return
				}
			}
		}
		stop := context.AfterFunc(n.ctx, func() { c.Close(); up.Close() })
		n.wg.Go(func() { copy(up, c); stop() })
		n.wg.Go(func() { copy(c, up) })
	}
}

func (n *narrow) udp() {
	flows := map[string]net.Conn{}
	buf := make([]byte, 2048)
	for {
		k, from, err := n.pc.ReadFrom(buf)
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			continue
		}
		up := flows[from.String()]
		if up == nil {
			if up, err = net.Dial("udp", n.to); err != nil {
				continue
			}
			flows[from.String()] = up
			context.AfterFunc(n.ctx, func() { up.Close() })
			n.wg.Go(func() {
				b := make([]byte, 2048)
				for {
					k, err := up.Read(b)
					if n.ctx.Err() != nil {
						return
					}
					if err != nil { // nobody listens there just now
						n.pass(n.rate / 100)
						continue
					}
					n.pass(k)
					_, _ = n.pc.WriteTo(b[:k], from) // UDP may lose it
				}
			})
		}
		n.pass(k)
		_, _ = up.Write(buf[:k]) // UDP may lose it
	}
}

// tree lists all files below dir with their content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if errors.Is(err, os.ErrNotExist) { // a running program removed it
			return nil
		}
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		rel, _ := filepath.Rel(dir, name)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

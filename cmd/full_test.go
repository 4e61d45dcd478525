//go:build linux

// The system's ways to make a small disk and another user are Linux's.

package cmd_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// smallDisk is a file system of the test's own, with little room. It is mounted
// where no other process sees it and goes with the process that holds it.
type smallDisk struct {
	t *testing.T
	// at is where commands find it that enter sends there; dir is where we do.
	at, dir string
	enter   []string
}

func newSmallDisk(t *testing.T, size int) *smallDisk {
	t.Helper()
	at := t.TempDir()
	holder := exec.Command("sh", "-c", `mount -t tmpfs -o size="$1",mode=0777 tmpfs "$0" && echo mounted && exec cat`, at, fmt.Sprint(size))
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		holder.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		holder.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		holder.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Skipf("this system lets us mount nothing: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = holder.Wait() // cat ends with its input
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		t.Skip("this system lets us mount nothing, or has no sh, mount or cat")
	}
	pid := strconv.Itoa(holder.Process.Pid)
	d := &smallDisk{t, at, filepath.Join("/proc", pid, "root", at), []string{"nsenter", "--target", pid, "--mount"}}
	if os.Geteuid() != 0 {
		d.enter = append(d.enter, "--user", "--preserve-credentials")
	}
	d.enter = append(d.enter, "--")
	if out, err := exec.Command(d.enter[0], append(d.enter[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no nsenter, or not for us: %v: %s", err, out)
	}
	if free := d.free(); free == 0 || free > int64(size) {
		t.Fatalf("the small disk has %d bytes free: it is another one", free)
	}
	return d
}

func (d *smallDisk) path(name ...string) string {
	return filepath.Join(append([]string{d.dir}, name...)...)
}

func (d *smallDisk) free() int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

const ballast = "ballast"

// fill leaves so many bytes free.
func (d *smallDisk) fill(leave int64) {
	d.t.Helper()
	d.clear()
	if err := os.WriteFile(d.path(ballast), make([]byte, max(0, d.free()-leave)), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if free := d.free(); free > leave {
		d.t.Fatalf("%d bytes are free", free)
	}
}

func (d *smallDisk) clear() {
	d.t.Helper()
	if err := os.RemoveAll(d.path(ballast)); err != nil {
		d.t.Fatal(err)
	}
}

var fullHint = regexp.MustCompile(`(?i)disk is full`)

// refused fails unless a command ended with exit code 1 and one line that
// begins with its name and matches hint.
func refused(t *testing.T, p *process, hint *regexp.Regexp) {
	t.Helper()
	text := strings.TrimSuffix(p.stderr(), "\n")
	if p.code() != 1 || strings.Contains(text, "\n") || !strings.HasPrefix(text, p.name+": ") {
		t.Errorf("want exit code 1 and one line, got %d: %s", p.code(), p)
	}
	if !hint.MatchString(text) {
		t.Errorf("the line gives no hint (%s): %s", hint, p)
	}
}

// unchanged fails if anything below dir is not what it was, besides what may.
func unchanged(t *testing.T, dir string, before map[string]string, may *regexp.Regexp) {
	t.Helper()
	after := tree(t, dir)
	for name, content := range after {
		old, was := before[name]
		switch {
		case may != nil && may.MatchString(name) && !strings.Contains(name, ".tmp-"):
		case !was:
			t.Errorf("after the failure there is %s, of %d bytes", name, len(content))
		case old != content:
			t.Errorf("after the failure %s is another", name)
		}
	}
	for name := range before {
		if _, is := after[name]; !is {
			t.Errorf("after the failure %s is gone", name)
		}
	}
}

// some is all of them, or the first where a test is to be brief.
func some(leaves ...int64) []int64 {
	if brief() {
		return leaves[:1]
	}
	return leaves
}

// TestFullDisk: on a full disk each command says so, leaves what was there as it
// was, and succeeds when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t, 8<<20)
	d := newDesk(t)
	d.within = disk.enter // which leads out of the working folder: all names are whole
	news := invent(rand.New(rand.NewPCG(1, 1)), "full", 20, 12<<10)
	shelve(t, d.path("news"), news)

	// A publisher.
	pub, pubSeen := filepath.Join(disk.at, "pub"), disk.path("pub")
	initArgs := []string{"init", pub, "--name", "Radio Example", "--lang", "en"}
	disk.fill(0)
	refused(t, d.run("mirror-publish", initArgs...), fullHint)
	disk.clear()
	d.must("mirror-publish", initArgs...)
	// Serial numbers of grants may be used up, and grants be there early.
	early := regexp.MustCompile(`^(keys/keys\.json|grants/.*|editions/0\.json)$`)
	for _, leave := range []int64{0, 16 << 10, 160 << 10} {
		before := tree(t, pubSeen)
		disk.fill(leave)
		refused(t, d.run("mirror-publish", "--dir", pub, "pack", d.path("news")), fullHint)
		unchanged(t, pubSeen, before, early)
		disk.clear()
	}
	if out := d.must("mirror-publish", "--dir", pub, "status").stdout(); !strings.Contains(out, "no edition yet") {
		t.Errorf("a failed pack made an edition: %s", out)
	}
	if out := d.must("mirror-publish", "--dir", pub, "pack", d.path("news")).stdout(); !strings.Contains(out, "edition 0: 20 articles") {
		t.Errorf("packed with room again: %s", out)
	}

	// A file for a stick that is full.
	stick, stickSeen := filepath.Join(disk.at, "stick"), disk.path("stick")
	if err := os.Mkdir(stickSeen, 0o700); err != nil {
		t.Fatal(err)
	}
	export := func(name string, args ...string) {
		t.Helper()
		args = append(args, "export", filepath.Join(stick, "news.car"))
		for _, leave := range some(0, 64<<10) {
			disk.fill(leave)
			refused(t, d.run(name, args...), fullHint)
			unchanged(t, stickSeen, nil, nil)
			disk.clear()
		}
		d.must(name, args...)
		d.must("mirror", "--dir", d.path("importer"), "import", filepath.Join(stick, "news.car"))
		if err := os.Remove(filepath.Join(stickSeen, "news.car")); err != nil {
			t.Fatal(err)
		}
	}

	// A relay.
	relay := &relayHost{d: d, dir: filepath.Join(disk.at, "relay"), listen: localPort(t)}
	disk.fill(0)
	refused(t, d.run("mirror-relay", relay.args()...), fullHint)
	disk.clear()
	relay.run()
	s := &studio{d: d, dir: pub}
	if err := s.channel.UnmarshalText([]byte(d.must("mirror-publish", "--dir", pub, "status").find(t, `^channel (\S+)$`))); err != nil {
		t.Fatal(err)
	}
	line := d.must("mirror-relay", "--dir", relay.dir, "address", s.channel.String(), "--host", "127.0.0.1").stdout()
	before := tree(t, pubSeen)
	disk.fill(0)
	refused(t, d.feed(line, "mirror-publish", "--dir", pub, "target", "first"), fullHint)
	unchanged(t, pubSeen, before, nil)
	disk.clear()
	d.checked(d.feed(line, "mirror-publish", "--dir", pub, "target", "first"))

	disk.fill(64 << 10)
	p := d.run("mirror-publish", "--dir", pub, "push")
	refused(t, p, regexp.MustCompile("run push again"))
	if out := p.stdout(); !strings.HasPrefix(out, "first: failed: ") || strings.Count(out, "\n") != 1 {
		t.Errorf("a push to a full relay: %s", p)
	}
	if relay.proc.ended() {
		t.Fatalf("the relay gave up: %s", relay.proc)
	}
	for name := range tree(t, disk.path("relay", "editions")) {
		t.Errorf("the full relay has an edition: %s", name)
	}
	disk.clear()
	if out := d.must("mirror-publish", "--dir", pub, "push").stdout(); !strings.Contains(out, "first: edition 0 arrived") {
		t.Errorf("pushed with room again: %s", out)
	}
	s.invite(d.path("invite"))
	d.must("mirror", "--dir", d.path("importer"), "add", d.path("invite"))
	export("mirror-publish", "--dir", pub)

	// A reader.
	reader := filepath.Join(disk.at, "reader")
	disk.fill(0)
	refused(t, d.run("mirror", "--dir", reader, "add", d.path("invite")), fullHint)
	disk.clear()
	d.must("mirror", "--dir", reader, "add", d.path("invite"))
	for _, leave := range some(64<<10, 0, 256<<10) {
		disk.fill(leave)
		refused(t, d.run("mirror", "--dir", reader, "sync"), fullHint)
		disk.clear()
	}
	d.must("mirror", "--dir", reader, "sync")
	list := d.must("mirror", "--dir", reader, "list").stdout()
	for _, n := range news {
		if !strings.Contains(list, n.title+"\n") {
			t.Errorf("the list lacks %q", n.title)
		}
	}
	id, _, _ := strings.Cut(list, " ")
	if text := flat(d.must("mirror", "--dir", reader, "read", id).stdout()); !strings.Contains(text, news[len(news)-1].text()) {
		t.Errorf("the newest article reads:\n%s", text)
	}
	export("mirror", "--dir", reader)
	// Reading on a full disk works or says why not: opening a library proves
	// that it can be written.
	disk.fill(0)
	if again := d.run("mirror", "--dir", reader, "list"); again.code() != 0 {
		refused(t, again, fullHint)
	} else if again.stdout() != list {
		t.Errorf("on a full disk the list is another: %s", again)
	}
	disk.clear()
}

// nobody is a user that owns nothing.
const nobody = 65534

var readOnlyHint = regexp.MustCompile(`(?i)can't be written|permission denied`)

// TestReadOnlyFolder: where nothing can be written each command says so, and
// changes nothing.
func TestReadOnlyFolder(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	shelve(t, d.path("news"), otherStories)
	prepare := func(*exec.Cmd) {}
	if os.Geteuid() == 0 {
		// Root can write anywhere: the commands run as somebody else.
		prepare = func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		for dir := d.dir; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(bin, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as := func(stdin, name string, args ...string) *process {
		t.Helper()
		p := d.start(stdin, prepare, name, args...)
		if !p.within(patience) {
			p.kill()
			t.Fatalf("hangs: %s", p)
		}
		return p
	}
	owned := func(dir string, mode os.FileMode) {
		t.Helper()
		err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			m := mode
			if !info.IsDir() {
				m &^= 0o111
			}
			if os.Geteuid() == 0 {
				if err := os.Lchown(name, nobody, nobody); err != nil {
					return err
				}
			}
			return os.Chmod(name, m)
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	// Folders that were in use and can't be written any more.
	pub := d.studio(d.path("pub"), "Radio Example", "en")
	relay := &relayHost{d: d, dir: d.path("relay"), listen: localPort(t)}
	relay.run()
	pub.carriedBy(relay, "first", "127.0.0.1")
	line := d.must("mirror-relay", "--dir", relay.dir, "address", "--host", "127.0.0.1", pub.channel.String()).stdout()
	d.must("mirror-publish", "--dir", "pub", "pack", "news/bread.md")
	d.must("mirror-publish", "--dir", "pub", "push")
	pub.invite(d.path("invite"))
	d.must("mirror", "--dir", "reader", "add", "invite")
	d.must("mirror", "--dir", "reader", "sync")
	d.must("mirror", "--dir", "reader", "export", "news.car")
	relay.proc.stop()
	if err := os.Mkdir(d.path("empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	owned(d.path("news"), 0o700)
	owned(d.path("invite"), 0o600)
	owned(d.path("news.car"), 0o600)
	for _, dir := range []string{"pub", "relay", "reader", "empty"} {
		owned(d.path(dir), 0o500)
		t.Cleanup(func() { owned(d.path(dir), 0o700) })
	}

	before := tree(t, d.dir)
	for _, c := range []struct {
		stdin, name string
		args        []string
	}{
		{"", "mirror-publish", []string{"init", "empty/pub", "--name", "X"}},
		{"", "mirror-publish", []string{"--dir", "pub", "pack", "news"}},
		{"", "mirror-publish", []string{"--dir", "pub", "push"}},
		{"", "mirror-publish", []string{"--dir", "pub", "invite", "--batch", "new"}},
		{line, "mirror-publish", []string{"--dir", "pub", "target", "second"}},
		{"", "mirror-relay", []string{"--dir", "empty/relay", "run", "--listen", relay.listen}},
		{"", "mirror-relay", []string{"--dir", "relay", "run", "--listen", relay.listen}},
		{"", "mirror-relay", []string{"--dir", "empty/relay", "address", pub.channel.String()}},
		{"", "mirror", []string{"--dir", "empty/reader", "add", "invite"}},
		{"", "mirror", []string{"--dir", "reader", "add", "invite"}},
		{"", "mirror", []string{"--dir", "reader", "sync"}},
		{"", "mirror", []string{"--dir", "reader", "import", "news.car"}},
		{"", "mirror", []string{"--dir", "reader", "open"}},
	} {
		if brief() && c.name == "mirror" && c.args[1] == "reader" && c.args[2] != "sync" {
			continue
		}
		p := as(c.stdin, c.name, c.args...)
		refused(t, p, readOnlyHint)
		if strings.Contains(p.stderr(), "port in use") {
			t.Errorf("the hint leads astray: %s", p)
		}
		unchanged(t, d.dir, before, nil)
	}

	// The same folders can be written again.
	for _, dir := range []string{"pub", "relay", "reader", "empty"} {
		owned(d.path(dir), 0o700)
	}
	for _, c := range [][]string{
		{"mirror-publish", "--dir", "pub", "pack", "news"},
		{"mirror-publish", "init", "empty/pub", "--name", "X"},
		{"mirror", "--dir", "reader", "import", "news.car"},
		{"mirror", "--dir", "empty/reader", "add", "invite"},
	} {
		if p := as("", c[0], c[1:]...); p.code() != 0 {
			t.Errorf("the folder can be written again: %s", p)
		}
	}

	// What they have packed and fetched can be written elsewhere or not at all.
	owned(d.path("empty"), 0o500)
	for _, c := range [][]string{
		{"mirror-publish", "--dir", "pub", "export", "empty/out.car"},
		{"mirror-publish", "--dir", "pub", "invite", "--qr", "empty/out.png"},
		{"mirror", "--dir", "reader", "export", "empty/out.car"},
	} {
		refused(t, as("", c[0], c[1:]...), readOnlyHint)
	}
}

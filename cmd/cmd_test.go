// Package cmd_test runs the three commands as a person would: as separate
// processes, by scripts (testdata/script) and by tests that kill them.
package cmd_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin holds the built commands.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "mirror-bin-")
		if err != nil {
			return failed(err)
		}
		defer os.RemoveAll(dir)
		bin = dir
		// The raced relay serves many at once. The others' parts are raced in the tests of
		// their packages; here they start some thousand times, for three times the processor
		// time if they were, too.
		if err := build(nil, "./mirror", "./mirror-publish"); err != nil {
			return failed(err)
		}
		var raced []string
		if raceEnabled {
			raced = []string{"-race"}
			// Otherwise whatever is raced sleeps for a second before it ends.
			if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
				return failed(err)
			}
		}
		if err := build(raced, "./mirror-relay"); err != nil {
			return failed(err)
		}
		return m.Run()
	}())
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// build puts commands into bin, without C as they are released, unless they are raced.
func build(flags []string, commands ...string) error {
	args := slices.Concat([]string{"build", "-tags", "nodynamic", "-o", bin + string(filepath.Separator)}, flags, commands)
	c := exec.Command("go", args...)
	c.Stderr = os.Stderr
	if len(flags) == 0 {
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if err := c.Run(); err != nil {
		return fmt.Errorf("build the commands: %w", err)
	}
	return nil
}

func TestScripts(t *testing.T) {
	t.Parallel() // they mostly wait
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"freeport": freePort, "waitfor": waitFor, "capture": capture, "flip": flip, "truncate": truncate, "readonly": readOnly, "noise": noise,
			"addline": addLine, "copydir": copyDir,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// freePort VAR sets VAR to a port that is free for TCP and UDP on loopback.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		addr := ln.Addr().String()
		pc, err := net.ListenPacket("udp", addr)
		ts.Check(ln.Close())
		if err != nil {
			continue
		}
		ts.Check(pc.Close())
		_, port, err := net.SplitHostPort(addr)
		ts.Check(err)
		ts.Setenv(args[0], port)
		return
	}
	ts.Fatalf("no free port")
}

// waitFor ADDRESS waits until something listens there.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", args[0], time.Second)
		if err == nil {
			ts.Check(c.Close())
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nothing listens on %s", args[0])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// capture VAR REGEXP sets VAR to the first group found in the last command's
// standard output.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("nothing matches %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// flip FILE changes one bit in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(name, b, 0o600))
}

// truncate FILE PERCENT cuts a file down to a part of its size.
func truncate(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	info, err := os.Stat(name)
	ts.Check(err)
	percent, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.Truncate(name, info.Size()*int64(percent)/100))
}

// noise FILE BYTES writes an article of so many letters, which are the same each
// time and can't be compressed to less than half.
func noise(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	text := make([]byte, n/2)
	_, _ = rand.NewChaCha8([32]byte{}).Read(text) // never fails
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "---\ntitle: Noise\nlang: en\n---\n%x\n", text), 0o600))
}

// addLine FILE TEXT adds a line to a file.
func addLine(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = fmt.Fprintln(f, args[1])
	ts.Check(err)
	ts.Check(f.Close())
}

// copyDir DIR COPY copies a folder and what is in it.
func copyDir(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// readOnly DIR takes a folder's write permission away.
func readOnly(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o500))
}

// TestReadmeCommands: every command that README and the three guides show is run
// by readme.txtar.
func TestReadmeCommands(t *testing.T) {
	var readme []byte
	for _, name := range []string{"README.md", "docs/reader.md", "docs/volunteer.md", "docs/publisher.md"} {
		page, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		readme = append(readme, page...)
	}
	script, err := os.ReadFile("testdata/script/readme.txtar")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^\$ (mirror(?:-relay|-publish)? .*)$`).FindAllStringSubmatch(string(readme), -1)
	if len(shown) < 20 {
		t.Fatalf("README and docs show %d commands: is it still written as \"$ mirror ...\"?", len(shown))
	}
	for _, m := range shown {
		// The script may use other ports and folders, and marks each by this comment.
		if !strings.Contains(string(script), "# $ "+strings.TrimSpace(m[1])+"\n") {
			t.Errorf("readme.txtar does not run: %s", m[1])
		}
	}
}

// exe is the path of a built command.
func exe(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(bin, name)
}

package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tamizdat/transport"
)

// Git is a working copy of a git repository, for hosts that show one (code
// hosting with pages). It runs the system's git: files are written into the
// working copy, committed, and, if the branch has an upstream, pushed there, with
// whatever git is configured to reach it by: keys, credential helper, proxy.
// Without an upstream the commit is all; bringing it to readers is then for a
// hook or somebody's hand. Other files of the repository, staged or not, stay as
// they are.
//
// git opens its sockets itself, not through a transport.Network. What is
// removed stays in the history.
type Git struct {
	folder *Folder
	begun  atomic.Bool
	asked  sync.Once
}

var _ Store = (*Git)(nil)

// NewGit makes a store of a working copy that is there already.
func NewGit(dir string) *Git { return &Git{folder: NewFolder(dir)} }

// killAfter is how long git may take to stop.
const killAfter = 5 * time.Second

// ours are the parts of the working copy that are added and committed.
var ours = []string{strings.TrimSuffix(headDir, "/"), strings.TrimSuffix(blockDir, "/"), strings.TrimSuffix(editionDir, "/")}

// Begin implements Store.
func (g *Git) Begin(ctx context.Context) (func(string, bool) error, error) {
	out, err := g.git(ctx, 4096, "rev-parse", "--absolute-git-dir")
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("git is not installed: %w", transport.ErrRefused)
		}
		return nil, fmt.Errorf("the folder is no working copy of git (run git init or git clone): %w", transport.ErrRefused)
	}
	g.folder.lock = filepath.Join(strings.TrimSpace(string(out)), "tamizdat.lock")
	end, err := g.folder.Begin(ctx)
	if err != nil {
		return nil, err
	}
	g.begun.Store(true)
	return func(what string, done bool) error {
		g.begun.Store(false)
		var err error
		if done {
			err = g.commit(ctx, what)
		}
		return errors.Join(err, end(what, done))
	}, nil
}

// commit commits what is new, and pushes what the upstream does not have: also
// what an earlier run committed and could not push.
func (g *Git) commit(ctx context.Context, what string) error {
	var paths []string
	for _, p := range ours {
		if _, err := os.Stat(g.folder.path(p)); err == nil {
			paths = append(paths, p)
		}
	}
	// Blocks are no text, whatever git's settings say about line ends.
	add := append([]string{"-c", "core.autocrlf=false", "-c", "core.safecrlf=false", "add", "--all", "--force", "--"}, paths...)
	if _, err := g.git(ctx, 0, add...); err != nil {
		return fmt.Errorf("git add failed: %w", err)
	}
	_, err := g.git(ctx, 0, append([]string{"diff", "--cached", "--quiet", "--"}, paths...)...)
	switch code := exitCode(err); {
	case code == 1:
		if _, err := g.git(ctx, 0, append([]string{"commit", "--quiet", "--message", "Publish " + what, "--"}, paths...)...); err != nil {
			return fmt.Errorf("git commit failed (does git know your name? run git commit in the folder to see): %w", err)
		}
	case err != nil:
		return fmt.Errorf("git diff failed: %w", err)
	}
	if _, ok := g.upstream(ctx); !ok {
		return nil
	}
	if _, err := g.git(ctx, 0, "push", "--quiet"); err != nil {
		return fmt.Errorf("committed, but git push failed (run git push in the folder to see why): %w", err)
	}
	return nil
}

// upstream is the branch that git push leads to, as it was when last seen.
func (g *Git) upstream(ctx context.Context) (string, bool) {
	out, err := g.git(ctx, 4096, "rev-parse", "--symbolic-full-name", "@{upstream}")
	return strings.TrimSpace(string(out)), err == nil
}

// Get implements Store. Outside Begin and end it shows what was pushed (the first time
// after it has asked the upstream) or, with
// no upstream, what was committed: a run may have been interrupted before that.
func (g *Git) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if g.begun.Load() {
		return g.folder.Get(ctx, name, limit)
	}
	ref, ok := g.upstream(ctx)
	if !ok {
		ref = "HEAD"
	} else {
		// What was pushed last may have been pushed from elsewhere, before this copy was
		// restored from a backup. Where nobody answers, the upstream counts as last seen.
		g.asked.Do(func() { _, _ = g.git(ctx, 0, "fetch", "--quiet") })
	}
	id, err := g.git(ctx, 4096, "rev-parse", "--quiet", "--verify", ref+":"+name)
	if exitCode(err) == 1 {
		return nil, transport.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("the folder is no working copy of git: %w", err)
	}
	return g.git(ctx, limit, "cat-file", "blob", strings.TrimSpace(string(id)))
}

// List implements Store.
func (g *Git) List(ctx context.Context, dir string) (map[string]int64, error) {
	return g.folder.List(ctx, dir)
}

// Put implements Store.
func (g *Git) Put(ctx context.Context, name string, data []byte) error {
	return g.folder.Put(ctx, name, data)
}

// Delete implements Store.
func (g *Git) Delete(ctx context.Context, name string) error { return g.folder.Delete(ctx, name) }

// git runs one command in the working copy and returns what it prints, at most
// limit bytes, none if limit is 0. What it complains of is not quoted: it may name a remote's URL
// and with it a password.
func (g *Git) git(ctx context.Context, limit int64, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", g.folder.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it takes its lock files along
	cmd.WaitDelay = killAfter
	var out bytes.Buffer
	if limit > 0 {
		cmd.Stdout = &bounded{w: &out, left: limit}
	}
	err := cmd.Run()
	return out.Bytes(), err
}

// bounded fails when more is written than is left.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("too much output")
	}
	return b.w.Write(p)
}

// exitCode is a command's exit code, 0 if it did not run or ended well.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

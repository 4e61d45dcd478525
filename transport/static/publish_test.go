package static_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/static"
	"tamizdat/transport/transporttest"
)

// published is a channel with that many editions.
func published(t *testing.T, editions int) *transporttest.Channel {
	t.Helper()
	c := transporttest.NewChannel(t, "Static")
	for n := range editions {
		c.Publish(transporttest.Articles(n)...)
	}
	return c
}

// complete sees that a mirror holds all that this edition's head leads to.
func complete(t *testing.T, m *memory, e *transporttest.Edition) {
	t.Helper()
	for c, b := range e.Blocks() {
		if !bytes.Equal(m.files["ipfs/"+c.String()], b) {
			t.Errorf("edition %d: block %s is not there", e.Head.Edition, c)
		}
	}
}

// TestSecondPush: what is there is not sent again, and a push that is repeated
// sends only the head.
func TestSecondPush(t *testing.T) {
	c, m := published(t, 2), newMemory()
	first, second := c.Editions()[0], c.Editions()[1]
	p := static.New(m)
	if _, err := p.Current(t.Context(), c.ID()); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("an empty mirror: %v", err)
	}
	var held, total atomic.Int64
	src := first.Source()
	if err := p.Publish(t.Context(), src, func(h, all int64) { held.Store(max(h, held.Load())); total.Store(all) }); err != nil {
		t.Fatal(err)
	}
	if held.Load() != src.Size || total.Load() != src.Size {
		t.Errorf("progress ended at %d of %d, not %d", held.Load(), total.Load(), src.Size)
	}
	blocks := len(first.Blocks())
	if n := entries(m.log, "+ipfs/"); n != blocks || len(m.log) != blocks+2 {
		t.Errorf("%d blocks and %d files written, of %d blocks", n, len(m.log), blocks)
	}
	if last := m.log[len(m.log)-1]; last != "+head/"+c.ID().String() || !strings.HasPrefix(m.log[0], "+editions/") {
		t.Errorf("written first %s, last %s", m.log[0], last)
	}
	complete(t, m, first)

	m.log = nil
	if err := p.Publish(t.Context(), first.Source(), nil); err != nil {
		t.Fatal(err)
	}
	if len(m.log) != 1 || m.log[0] != "+head/"+c.ID().String() {
		t.Errorf("the same again: %v", m.log)
	}

	m.log = nil
	if err := p.Publish(t.Context(), second.Source(), nil); err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for id := range second.Blocks() {
		if _, old := first.Blocks()[id]; !old {
			fresh++
		}
	}
	if fresh == len(second.Blocks()) {
		t.Fatal("the editions share no block: nothing is tested")
	}
	if n := entries(m.log, "+ipfs/"); n != fresh || len(m.log) != fresh+2 {
		t.Errorf("%d blocks and %d files written, where %d of %d blocks are new", n, len(m.log), fresh, len(second.Blocks()))
	}
	complete(t, m, second)

	// An older edition does not take the head back, and a heartbeat moves it.
	for _, step := range []struct {
		push, want *transporttest.Edition
	}{{first, second}, {c.Heartbeat(time.Hour), c.Heartbeat(time.Hour)}, {second, c.Heartbeat(time.Hour)}} {
		if err := p.Publish(t.Context(), step.push.Source(), nil); err != nil {
			t.Fatal(err)
		}
		raw, err := p.Current(t.Context(), c.ID())
		if err != nil || !bytes.Equal(raw, step.want.Head.Text()) {
			t.Errorf("after edition %d another head is there than that of edition %d (%v)", step.push.Head.Edition, step.want.Head.Edition, err)
		}
	}
}

// TestInterrupted: wherever a push is cut off, the old head stands and all it
// leads to is there; the next push goes on, and nothing is sent twice.
func TestInterrupted(t *testing.T) {
	c := published(t, 2)
	first, second := c.Editions()[0], c.Editions()[1]
	for cut := range len(second.Blocks()) + 2 {
		m := newMemory()
		p := static.New(m)
		if err := p.Publish(t.Context(), first.Source(), nil); err != nil {
			t.Fatal(err)
		}
		m.log = nil
		broken := errors.New("cable pulled")
		left := cut
		m.before = func(string) error {
			if left--; left < 0 {
				return broken
			}
			return nil
		}
		err := p.Publish(t.Context(), second.Source(), nil)
		if err == nil { // less was new than there are blocks
			break
		}
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if raw, err := p.Current(t.Context(), c.ID()); err != nil || !bytes.Equal(raw, first.Head.Text()) {
			t.Fatalf("cut after %d files: the old head is gone (%v)", cut, err)
		}
		complete(t, m, first)
		m.before = nil
		if err := static.New(m).Publish(t.Context(), second.Source(), nil); err != nil {
			t.Fatal(err)
		}
		complete(t, m, second)
		if twice := len(m.log) - len(slices.Compact(slices.Sorted(slices.Values(m.log)))); twice != 0 {
			t.Errorf("cut after %d files: %d were written twice", cut, twice)
		}
	}
	// A torn head, too, as a server without MOVE may leave it: it counts as none.
	for _, keep := range []int{0, 40, 700} {
		m := newMemory()
		p := static.New(m)
		if err := p.Publish(t.Context(), first.Source(), nil); err != nil {
			t.Fatal(err)
		}
		name := "head/" + c.ID().String()
		m.files[name] = m.files[name][:keep]
		if raw, err := p.Current(t.Context(), c.ID()); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("a head of %d bytes: %d bytes, %v", keep, len(raw), err)
		}
		if err := p.Publish(t.Context(), first.Source(), nil); err != nil {
			t.Fatal(err)
		}
		if raw, err := p.Current(t.Context(), c.ID()); err != nil || !bytes.Equal(raw, first.Head.Text()) {
			t.Errorf("a head of %d bytes was not replaced: %v", keep, err)
		}
	}
	// A torn block, as a server without atomic writes may leave it, is written anew.
	m := newMemory()
	if err := static.New(m).Publish(t.Context(), first.Source(), nil); err != nil {
		t.Fatal(err)
	}
	for name, b := range m.files {
		if strings.HasPrefix(name, "ipfs/") {
			m.files[name] = b[:len(b)/2]
			break
		}
	}
	if err := static.New(m).Publish(t.Context(), first.Source(), nil); err != nil {
		t.Fatal(err)
	}
	complete(t, m, first)
}

// TestPrune: what only old editions have goes, and nothing else; a run that was
// cut off is finished by the next.
func TestPrune(t *testing.T) {
	c := published(t, 5)
	other := transporttest.NewChannel(t, "Neighbour")
	other.Publish(transporttest.Brief(1))
	m := newMemory()
	m.files["ipfs/index.html"], m.files["robots.txt"] = []byte("a page"), []byte("not ours")
	p := static.New(m)
	for _, e := range append(slices.Clone(c.Editions()), other.Newest()) {
		if err := p.Publish(t.Context(), e.Source(), nil); err != nil {
			t.Fatal(err)
		}
	}
	keep := []uint64{2, 3, 4}
	used, unused := map[string]bool{}, map[string]bool{}
	for _, e := range c.Editions() {
		for id := range e.Blocks() {
			if slices.Contains(keep, e.Head.Edition) {
				used[id.String()] = true
			} else {
				unused[id.String()] = true
			}
		}
	}
	shared := 0
	for id := range used {
		if unused[id] {
			shared++
			delete(unused, id)
		}
	}
	if shared == 0 {
		t.Fatal("the editions share no block: nothing is tested")
	}
	m.log = nil
	broken := errors.New("cable pulled")
	m.before = func(string) error {
		if len(m.log) >= 3 {
			return broken
		}
		return nil
	}
	before, err := p.Prune(t.Context(), c.ID(), keep)
	if !errors.Is(err, broken) || before != 3 {
		t.Fatalf("%d files removed, %v", before, err)
	}
	m.before = nil
	if _, err := p.Prune(t.Context(), c.ID(), keep); err != nil {
		t.Fatal(err)
	}
	gone := map[string]bool{}
	for _, e := range m.log {
		if id, ok := strings.CutPrefix(e, "-ipfs/"); ok {
			gone[id] = true
		}
	}
	if !maps.Equal(gone, unused) {
		t.Errorf("%d blocks went, %d were unused", len(gone), len(unused))
	}
	for _, e := range append(slices.Clone(c.Editions()[2:]), other.Newest()) {
		complete(t, m, e)
	}
	if m.files["ipfs/index.html"] == nil || m.files["robots.txt"] == nil {
		t.Error("a file went that is not ours")
	}
	if lists, err := m.List(t.Context(), "editions/"+c.ID().String()); err != nil || len(lists) != 3 {
		t.Errorf("lists left: %v, %v", lists, err)
	}
	m.log = nil
	if n, err := p.Prune(t.Context(), c.ID(), keep); n != 0 || err != nil || len(m.log) != 0 {
		t.Errorf("again: %d files, %v", n, err)
	}
	// What the head there leads to never goes, whatever is asked.
	if _, err := p.Prune(t.Context(), c.ID(), []uint64{9}); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("prune of the newest: %v", err)
	}
	// A damaged list takes nothing with it.
	m.files["editions/"+c.ID().String()+"/3"] = []byte("bafy\n")
	if _, err := p.Prune(t.Context(), c.ID(), []uint64{3, 4}); err == nil || entries(m.log, "-") != 0 {
		t.Errorf("with a damaged list: %v, %v", err, m.log)
	}
}

// TestPublishRefuses: nothing is written of what no reader could use.
func TestPublishRefuses(t *testing.T) {
	c := published(t, 1)
	e := c.Newest()
	whole := e.CAR()
	cut := bytes.Clone(whole[:len(whole)-10])
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-10] ^= 1
	var headOnly bytes.Buffer
	if _, err := car.NewEdition(&headOnly, car.Intro{RootNotes: e.Notes, Head: e.Head.Text(), Root: e.Head.Root}); err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]transport.Source{
		"cut":       {Channel: c.ID(), CAR: bytes.NewReader(cut), Size: int64(len(cut))},
		"flipped":   {Channel: c.ID(), CAR: bytes.NewReader(flipped), Size: int64(len(flipped))},
		"no blocks": {Channel: c.ID(), CAR: bytes.NewReader(headOnly.Bytes()), Size: int64(headOnly.Len())},
		"foreign":   {Channel: channel.ID{1}, CAR: bytes.NewReader(whole), Size: int64(len(whole))},
		"empty":     {Channel: c.ID(), CAR: bytes.NewReader(nil)},
	} {
		m := newMemory()
		if err := static.New(m).Publish(t.Context(), s, nil); !errors.Is(err, transport.ErrRefused) || len(m.log) != 0 {
			t.Errorf("%s: %v, %d files", what, err, len(m.log))
		}
	}
}

// TestGitCommits: an edition is one commit of our files alone; what was
// committed and not pushed is not counted as published.
func TestGitCommits(t *testing.T) {
	c := published(t, 2)
	dir := gitRepo(t)
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("half done"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", "mine") // staged, and for its owner to commit
	push := func(e *transporttest.Edition) error {
		return static.New(static.NewGit(dir)).Publish(t.Context(), e.Source(), nil)
	}
	current := func() []byte {
		t.Helper()
		raw, err := static.New(static.NewGit(dir)).Current(t.Context(), c.ID())
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if err := push(c.Editions()[0]); err != nil {
		t.Fatal(err)
	}
	if err := push(c.Editions()[0]); err != nil { // nothing new: no commit
		t.Fatal(err)
	}
	if n := git(t, dir, "rev-list", "--count", "HEAD"); n != "2" {
		t.Errorf("%s commits", n)
	}
	if s := git(t, dir, "status", "--porcelain"); s != "A  mine" {
		t.Errorf("status %q", s)
	}
	if !bytes.Equal(current(), c.Editions()[0].Head.Text()) {
		t.Error("another head is committed")
	}
	// With an upstream, what it has counts.
	remote := filepath.Join(t.TempDir(), "remote.git")
	git(t, dir, "clone", "--quiet", "--bare", dir, remote)
	git(t, dir, "remote", "add", "origin", remote)
	git(t, dir, "fetch", "--quiet")
	git(t, dir, "branch", "--quiet", "--set-upstream-to", "origin/main")
	if err := os.Rename(remote, remote+".away"); err != nil {
		t.Fatal(err)
	}
	if err := push(c.Editions()[1]); err == nil || errors.Is(err, transport.ErrRefused) || strings.Contains(err.Error(), remote) {
		t.Errorf("push to a remote that is away: %v", err)
	}
	if !bytes.Equal(current(), c.Editions()[0].Head.Text()) {
		t.Error("what was not pushed counts as published")
	}
	if err := os.Rename(remote+".away", remote); err != nil {
		t.Fatal(err)
	}
	if err := push(c.Editions()[1]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(current(), c.Editions()[1].Head.Text()) || git(t, dir, "rev-parse", "HEAD") != git(t, remote, "rev-parse", "main") {
		t.Error("the remote lacks the edition")
	}
}

// TestGitAsksItsUpstream: a working copy that is older than what was pushed from it, as
// after a restore, shows what was pushed.
func TestGitAsksItsUpstream(t *testing.T) {
	c := published(t, 2)
	dir := gitRepo(t)
	remote, restored := filepath.Join(t.TempDir(), "remote.git"), filepath.Join(t.TempDir(), "restored")
	git(t, dir, "clone", "--quiet", "--bare", dir, remote)
	git(t, dir, "remote", "add", "origin", remote)
	git(t, dir, "fetch", "--quiet")
	git(t, dir, "branch", "--quiet", "--set-upstream-to", "origin/main")
	for i, e := range c.Editions() {
		if err := static.New(static.NewGit(dir)).Publish(t.Context(), e.Source(), nil); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.CopyFS(restored, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		}
	}
	raw, err := static.New(static.NewGit(restored)).Current(t.Context(), c.ID())
	if err != nil || !bytes.Equal(raw, c.Newest().Head.Text()) {
		t.Errorf("it shows what it had itself: %v", err)
	}
}

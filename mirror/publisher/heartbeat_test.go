package publisher

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport/file"
	"tamizdat/transport/transporttest"
)

// TestHeartbeat: the newest head is signed again, later each time, and says the same;
// whoever holds the edition already gets it.
func TestHeartbeat(t *testing.T) {
	b := newBacked(t)
	if err := b.p.Heartbeat(t.Context(), b.into, time.Now()); !errors.Is(err, errNothingPacked) {
		t.Errorf("of nothing: %v", err)
	}
	b.pack(0)
	b.pack(1)
	before, err := b.p.headOf(1)
	if err != nil {
		t.Fatal(err)
	}
	other := transporttest.NewMemory(t)
	into := append(b.into, Target{Name: "memory", Publisher: other})
	if r := b.p.Push(t.Context(), into, nil); r[0].Err != nil || r[1].Err != nil || r[0].Editions != 0 {
		t.Fatalf("%+v", r)
	}
	for i, now := range []time.Time{before.Time.Add(24 * time.Hour), before.Time, before.Time.Add(48 * time.Hour)} {
		last, err := b.p.headOf(1)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.p.Heartbeat(t.Context(), into, now); err != nil {
			t.Fatal(err)
		}
		beat, err := b.p.headOf(1)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(beat.Leaf.Text(), before.Leaf.Text()) || beat.Tree != before.Tree || !beat.Time.After(last.Time) {
			t.Errorf("%d: signed at %v after %v", i, beat.Time, last.Time)
		}
		for range 2 { // the second time there is nothing to send
			r := b.p.Push(t.Context(), into, nil)
			if r[0].Err != nil || r[1].Err != nil {
				t.Fatalf("%+v", r)
			}
		}
		for _, to := range into {
			raw, err := to.Current(t.Context(), b.p.Channel())
			if err != nil {
				t.Fatal(err)
			}
			if h, err := b.p.Roots().Head(raw); err != nil || !h.Time.Equal(beat.Time) {
				t.Errorf("%d: %s holds a head of %v: %v", i, to.Name, h.Time, err)
			}
		}
	}
	// The file is whole, and the folder too.
	src, err := file.Open(b.p.carName(1))
	if err != nil || src.Damage() != nil {
		t.Fatalf("%v, %v", err, src.Damage())
	}
	vol, blocks, err := fetchEdition(t.Context(), src, b.p.Channel(), 1, before.Root)
	if err != nil || len(blocks) == 0 {
		t.Fatal(err)
	}
	if leaves, err := vol.Hashes(0); err != nil || len(leaves) != 1 {
		t.Errorf("%d leaves, %v", len(leaves), err)
	}
	if err := b.p.Close(); err != nil {
		t.Fatal(err)
	}
	p := reopen(t, b.p.dir)
	if made, err := p.Pack([]bundle.Article{story(3)}, time.Now()); err != nil || made.Edition != 2 {
		t.Errorf("%+v, %v", made, err)
	}
}

// TestHeartbeatKeepsWhatWasSeen: who asks for witnesses is not told of too few because
// they were out of reach on a day without news.
func TestHeartbeatKeepsWhatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := Init(t.TempDir(), "Radio", []string{"en"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		a, b, c := newWatcher(t, p, "a"), newWatcher(t, p, "b"), newWatcher(t, p, "c")
		named(t, p, 2, a, b, c)
		packStory(t, p, 1)
		beat := func(want error, ws ...*watcher) {
			t.Helper()
			before := snapshot(t, p.dir)
			old, err := p.headOf(0)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Heartbeat(t.Context(), targetsOf(ws...), old.Time.Add(time.Hour)); !errors.Is(err, want) {
				t.Errorf("%v instead of %v", err, want)
			}
			head, err := p.headOf(0)
			switch {
			case err != nil:
				t.Fatal(err)
			case want != nil && !bytes.Equal(snapshot(t, p.dir), before):
				t.Error("it was not sent, and yet the folder has changed")
			case want == nil && !head.Time.Equal(old.Time.Add(time.Hour)):
				t.Errorf("signed at %v after %v", head.Time, old.Time)
			}
		}
		// Nobody has seen it: there is nothing to lose.
		a.down = true
		beat(nil, a, c)
		if a.asked+c.asked != 0 {
			t.Error("witnesses are asked of a heartbeat that goes out in any case")
		}
		a.down = false
		p.Push(t.Context(), targetsOf(a, b), nil)
		seenBy(t, p, channel.Witnessed{Seen: 2, Of: 3, Quorum: 2})

		a.down, b.down = true, true
		beat(errUnseenBeat, a, b, c)
		seenBy(t, p, channel.Witnessed{Seen: 2, Of: 3, Quorum: 2})
		// Nor does it help that another policy holds from the next edition on: readers go
		// by the one that came with this.
		named(t, p, 3, a, b, c)
		beat(errUnseenBeat, a, b, c)

		b.down = false
		beat(nil, a, b, c)
		seenBy(t, p, channel.Witnessed{Seen: 2, Of: 3, Quorum: 3})
	})
}

// TestKilledAtEachStep: packing writes some files, one after another. Whatever of them
// is on disk when the machine fails, the folder opens, a number is signed for one leaf
// only, and what had gone out to a target is what the folder holds.
func TestKilledAtEachStep(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	before := files(t, b.p.dir)
	made, e, err := b.p.stage(b.p.Fresh(transporttest.Articles(1)), nil, transporttest.Start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	after := files(t, b.p.dir)
	if _, err := b.p.finish(e, made.Blocks); err != nil {
		t.Fatal(err)
	}
	first, err := b.p.headOf(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.p.Close(); err != nil {
		t.Fatal(err)
	}
	// In the order in which pack writes them. From the .json on there is a leaf, which
	// may have been signed; the .car makes the edition, and the .blocks go after it.
	steps := changed(before, after)
	if n := len(steps); n < 2 || steps[n-1] != "editions/1.json" || steps[n-2] != "editions/1.blocks" {
		t.Fatalf("pack writes %v", steps)
	}
	leaf := len(steps)
	steps = append(steps, "editions/1.car")
	maps.Copy(after, files(t, b.p.dir))
	for n := range len(steps) + 1 {
		dir := t.TempDir()
		state := map[string][]byte{}
		for name, content := range before {
			state[name] = content
		}
		for _, name := range steps[:n] {
			state[name] = after[name]
		}
		if n < len(steps) { // what WriteFile had not renamed yet
			state[tornName(steps[n])] = after[steps[n]][:len(after[steps[n]])/2]
		}
		write(t, dir, state)
		p := reopen(t, dir)
		whole := n >= leaf
		if want := map[bool]uint64{false: 1, true: 2}[whole]; p.Size() != want {
			t.Fatalf("step %d: %d editions", n, p.Size())
		}
		target := []Target{{Name: "memory", Publisher: transporttest.NewMemory(t)}}
		if r := p.Push(t.Context(), target, nil); r[0].Err != nil || r[0].Newest != p.Size()-1 {
			t.Fatalf("step %d: %+v", n, r[0])
		}
		_, err := p.Pack(transporttest.Articles(1), transporttest.Start.Add(2*time.Hour))
		switch {
		case whole && !errors.Is(err, ErrNothingNew):
			t.Errorf("step %d: packed once more: %v", n, err)
		case !whole && err != nil:
			t.Errorf("step %d: %v", n, err)
		}
		head, err := p.headOf(1)
		if err != nil {
			t.Fatal(err)
		}
		// Nothing is signed of the number before its leaf is there: then it is that one
		// for good.
		if whole != bytes.Equal(head.Text(), first.Text()) {
			t.Errorf("step %d: the head of number 1 is another: %v", n, whole)
		}
		if r := p.Push(context.Background(), target, nil); r[0].Err != nil || r[0].Newest != 1 {
			t.Errorf("step %d: %+v", n, r[0])
		}
		if entries, err := os.ReadDir(dir + "/editions"); err != nil || len(entries) != 4 {
			t.Errorf("step %d: %d files of two editions, %v", n, len(entries), err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStagedWithoutKey: a leaf that is on disk waits for the log key, and nothing else
// takes its number meanwhile. Blocks without a leaf are removed.
func TestStagedWithoutKey(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	_, e, err := b.p.stage(nil, nil, transporttest.Start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.p.stage(nil, nil, transporttest.Start.Add(2*time.Hour)); !errors.Is(err, errStaged) {
		t.Errorf("another one of that number: %v", err)
	}
	open := func(log []byte, size uint64) {
		t.Helper()
		b.p.keys.Log = log
		if err := errors.Join(b.p.saveKeys(), b.p.Close()); err != nil {
			t.Fatal(err)
		}
		if b.p = reopen(t, b.p.dir); b.p.Size() != size {
			t.Errorf("%d editions instead of %d", b.p.Size(), size)
		}
	}
	here := b.p.keys.Log
	open(random(), 1)
	if _, err := b.p.Pack(transporttest.Articles(1), transporttest.Start.Add(2*time.Hour)); !errors.Is(err, errNoLogKey) {
		t.Errorf("packed without the key: %v", err)
	}
	open(here, 2)
	if head, err := b.p.headOf(1); err != nil || !bytes.Equal(head.Leaf.Text(), e.Leaf) {
		t.Errorf("another leaf: %v", err)
	}
	lone := b.p.blocksName(2)
	if err := os.WriteFile(lone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(here, 2)
	if _, err := os.Stat(lone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("blocks without a leaf stay: %v", err)
	}
}

// files are a folder's files by their names in it.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "lock" {
			return err
		}
		out[name], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// changed are the files that are new or others, with those that end an edition last.
func changed(before, after map[string][]byte) (names []string) {
	for name, content := range after {
		if old, ok := before[name]; !ok || !bytes.Equal(old, content) {
			names = append(names, name)
		}
	}
	rank := func(name string) int {
		return slices.IndexFunc([]string{"keys/", "grants/", ".blocks", ".json", ".car"}, func(part string) bool {
			return strings.HasPrefix(name, part) || strings.HasSuffix(name, part) && strings.HasPrefix(name, "editions/")
		})
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return names
}

// tornName is what a file is called before it is renamed (package durable).
func tornName(name string) string {
	return path.Join(path.Dir(name), ".tmp-torn")
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

package publisher

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tamizdat/internal/netreal"
)

// TestInitDestroysNothing: where anything of a channel is, whatever has been restored of
// it, Init changes nothing; but what it has left itself in a crash is no obstacle.
func TestInitDestroysNothing(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	if err := b.p.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		lost []string
		want error
	}{
		"all":               {nil, ErrExists},
		"keys and editions": {[]string{configFile, "root", "grants"}, ErrPart},
		"keys":              {[]string{configFile, "root", "grants", "editions"}, ErrPart},
		"root notes":        {[]string{configFile, "keys", "grants", "editions"}, ErrPart},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "restored")
			if err := os.CopyFS(dir, os.DirFS(b.p.dir)); err != nil {
				t.Fatal(err)
			}
			for _, name := range c.lost {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, dir)
			if _, err := Init(dir, "Radio", nil); !errors.Is(err, c.want) {
				t.Errorf("init: %v", err)
			}
			if _, err := Open(dir); c.lost != nil && !errors.Is(err, c.want) {
				t.Errorf("open: %v", err)
			}
			if !bytes.Equal(before, snapshot(t, dir)) {
				t.Error("something has changed")
			}
		})
	}
}

// TestInitIsCutOff: wherever Init was cut off, it can be run again, and what it says has
// then been made is what Open finds; a channel that is whole it leaves alone.
func TestInitIsCutOff(t *testing.T) {
	made := filepath.Join(t.TempDir(), "made")
	p, err := Init(made, "Radio", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	whole := files(t, made)
	steps := []string{foundingFile, "keys/keys.json", "root/1", configFile}
	if len(whole) != len(steps)-1 {
		t.Fatalf("init leaves %d files", len(whole))
	}
	for n := range len(steps) + 1 {
		dir := t.TempDir()
		state := map[string][]byte{}
		for _, name := range steps[:n] {
			state[name] = whole[name]
		}
		write(t, dir, state)
		p, err := Init(dir, "Radio", nil)
		if finished := n == len(steps); finished != errors.Is(err, ErrExists) || !finished && err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if err == nil {
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
		opened := reopen(t, dir)
		if err == nil && opened.Channel() != p.Channel() {
			t.Errorf("step %d: another channel", n)
		}
		packStory(t, opened, 1)
		if err := opened.Close(); err != nil {
			t.Fatal(err)
		}
		// Whatever is restored of it some day was used.
		if err := os.Remove(filepath.Join(dir, configFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := Init(dir, "Radio", nil); !errors.Is(err, ErrPart) {
			t.Errorf("step %d: what is restored of it: %v", n, err)
		}
	}
}

// TestRestoredWithoutEmptyFolders: a backup that leaves out what a target still has is
// enough for a folder that opens and recovers.
func TestRestoredWithoutEmptyFolders(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	b.pack(1)
	old := b.backup("backup")
	for _, name := range []string{"grants", "editions"} {
		if err := os.RemoveAll(filepath.Join(old, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := reopen(t, old)
	found, err := p.Find(t.Context(), &netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Adopt(found); err != nil {
		t.Fatal(err)
	}
	packStory(t, p, 9)
}

// TestRestoredWithoutRootNotes: keys and editions are enough of a backup if there is a
// publisher.toml; but editions of another channel are none.
func TestRestoredWithoutRootNotes(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	d, err := b.p.Rotate(Rotation{NewLog: true, Good: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.p.UseRoot(d); err != nil {
		t.Fatal(err)
	}
	b.pack(1)
	old := b.backup("backup")
	for _, name := range []string{"grants", "root"} {
		if err := os.RemoveAll(filepath.Join(old, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := reopen(t, old)
	if p.Channel() != b.p.Channel() || p.Roots().Version() != 2 || p.Size() != 2 {
		t.Errorf("root note %d, %d editions", p.Roots().Version(), p.Size())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, old)
	packStory(t, p, 9)
	other := newBacked(t)
	if err := errors.Join(other.p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(old, "root")); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other.p.dir, "keys", "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, old, map[string][]byte{"keys/keys.json": foreign})
	if _, err := Open(old); err == nil {
		t.Error("another channel's editions are taken for this one's")
	}
	if _, err := os.Stat(filepath.Join(old, "root", "1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("and their root note: %v", err)
	}
}

// TestRootKeyDroppedAfterCrash: if the machine fails between a root note and the end of the
// root key that it leaves out, the key goes when the folder is next opened.
func TestRootKeyDroppedAfterCrash(t *testing.T) {
	b := newBacked(t)
	key, err := NewRootKey(filepath.Join(b.dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := LoadRootKey(filepath.Join(b.dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.p.Rotate(Rotation{Keys: []ed25519.PublicKey{key}, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Sign(secret); err != nil {
		t.Fatal(err)
	}
	dir := b.backup("crashed")
	write(t, dir, map[string][]byte{"root/2": d.Marshal()})
	p := reopen(t, dir)
	if p.Roots().Version() != 2 {
		t.Fatalf("root note %d", p.Roots().Version())
	}
	keys := files(t, dir)["keys/keys.json"]
	if kept, err := parseKeyring(keys); err != nil || len(kept.Root) > 0 {
		t.Errorf("the old root key is still there, %v", err)
	}
}

package library

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestForeignFilesStay(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"both names":       {slotName: "-----BEGIN PRIVATE KEY-----\n", dataName: "their data"},
		"key alone":        {slotName: string(bytes.Repeat([]byte("k"), slotSize))},
		"data alone":       {dataName: "their data", ".tmp-1": "theirs too"},
		"a lock of theirs": {slotName: "", dataName: "their data", lockName: "pid 17"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for f, text := range files {
				check(t, os.WriteFile(filepath.Join(dir, f), []byte(text), 0o600))
			}
			wantErr(t, Wipe(dir), ErrNotLibrary)
			if !Exists(dir) {
				_, err := Open(t.Context(), dir, Options{cost: cheap})
				wantErr(t, err, ErrNotLibrary)
			}
			for f, text := range files {
				if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(b) != text {
					t.Errorf("%s: %q, %v", f, b, err)
				}
			}
		})
	}
	dir := t.TempDir() // nothing of a library's names at all
	path := filepath.Join(dir, ".tmp-1")
	check(t, os.WriteFile(path, []byte("theirs"), 0o600))
	check(t, Wipe(dir))
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestDamagedLibraryIsWiped(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"slot cut":      func(dir string) error { return os.Truncate(filepath.Join(dir, slotName), 40) },
		"slot gone":     func(dir string) error { return os.Remove(filepath.Join(dir, slotName)) },
		"lock gone":     func(dir string) error { return os.Remove(filepath.Join(dir, lockName)) },
		"database gone": func(dir string) error { return os.Remove(filepath.Join(dir, dataName)) },
		"lock gone, bit": func(dir string) error {
			_ = os.Remove(filepath.Join(dir, lockName))
			return flip(filepath.Join(dir, slotName), 60)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "lib")
			check(t, open(t, dir, "").Close())
			check(t, damage(dir))
			check(t, Wipe(dir))
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions are the folder's there")
	}
	dir := t.TempDir()
	private := func(when string) {
		t.Helper()
		for _, name := range []string{dataName, dataName + "-wal", slotName, lockName} {
			fi, err := os.Stat(filepath.Join(dir, name))
			check(t, err)
			if fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s is %v", when, name, fi.Mode())
			}
		}
	}
	l := open(t, dir, "")
	check(t, l.SetNote(t.Context(), "k", []byte("v")))
	private("new")
	check(t, l.Close())
	check(t, os.Chmod(filepath.Join(dir, dataName), 0o644)) // as an older version left it
	l = open(t, dir, "")
	check(t, l.SetNote(t.Context(), "k", []byte("w")))
	private("opened again")
}

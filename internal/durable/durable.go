// Package durable writes files so that what was acknowledged survives kill -9
// and power loss, and nothing is ever half-written under its final name.
package durable

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// WriteFile writes what fill writes under name: into a temporary file in the
// same folder, which is synced, then renamed, then the folder is synced. After
// an error name is as it was.
func WriteFile(name string, mode os.FileMode, fill func(io.Writer) error) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, tmpPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // what matters has failed already
			_ = os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil && runtime.GOOS != "windows" {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return SyncDir(dir)
}

// Sweep removes what WriteFile had not renamed when an earlier process was
// killed. Only who holds the folders' lock may call it. A failure costs room
// and nothing else.
func Sweep(dirs ...string) {
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tmpPrefix) && e.Type().IsRegular() {
				_ = os.Remove(filepath.Join(d, e.Name()))
			}
		}
	}
}

// tmpPrefix begins the names of files that are not whole yet.
const tmpPrefix = ".tmp-"

// Write is WriteFile for bytes at hand.
func Write(name string, mode os.FileMode, data []byte) error {
	return WriteFile(name, mode, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
}

// SyncDir makes renames and removals in dir durable. Windows has no such call
// for folders and orders them itself.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MkdirAll makes dir and the folders above it that are missing, and makes their
// names durable: a file synced in a new folder is lost with the folder if a
// power cut takes the folder's own name.
func MkdirAll(dir string, mode os.FileMode) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return &os.PathError{Op: "mkdir", Path: dir, Err: os.ErrExist}
	}
	return SyncDir(parent)
}

// Glob is filepath.Glob for the elements of a pattern below dir, whatever characters are
// in dir's own name.
func Glob(dir string, pattern ...string) ([]string, error) {
	if runtime.GOOS != "windows" { // no escapes there; wildcards can't be in names
		dir = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
	}
	return filepath.Glob(filepath.Join(append([]string{dir}, pattern...)...))
}

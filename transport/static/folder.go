package static

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tamizdat/internal/durable"
	"tamizdat/internal/filelock"
	"tamizdat/transport"
)

// maxFiles bounds a listing.
const maxFiles = 1 << 20

// Folder is a folder that a web server shows, or that something else carries
// there. Each file is whole and synced when Put returns.
type Folder struct {
	dir string
	// lock is the name of the lock file: one process writes at a time.
	lock string
}

var _ Store = (*Folder)(nil)

// NewFolder makes a store of a folder, which is made when it is first written to.
func NewFolder(dir string) *Folder { return &Folder{dir: dir, lock: filepath.Join(dir, ".lock")} }

// Begin implements Store. It removes what a process that was killed had half
// written.
func (f *Folder) Begin(context.Context) (func(string, bool) error, error) {
	if err := durable.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := filelock.Acquire(f.lock)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, errors.New("another mirror-publish is writing to this folder; wait for it to end")
	}
	if err != nil {
		return nil, err
	}
	dirs, err := durable.Glob(f.path(editionDir), "*")
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	durable.Sweep(append(dirs, f.path(headDir), f.path(blockDir))...)
	return func(string, bool) error {
		var errs []error
		for _, d := range append(dirs, f.path(blockDir)) { // for the sake of what was deleted
			if err := durable.SyncDir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(append(errs, lock.Release())...)
	}, nil
}

func (f *Folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// Get implements Store.
func (f *Folder) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	file, err := os.Open(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, transport.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readAll(file, limit)
}

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("file of more than %d bytes", limit)
	}
	return b, nil
}

// List implements Store.
func (f *Folder) List(_ context.Context, dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(f.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]int64, len(entries))
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") || len(out) >= maxFiles {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // it went meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		out[e.Name()] = info.Size()
	}
	return out, nil
}

// Put implements Store.
func (f *Folder) Put(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file := f.path(name)
	if err := durable.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return durable.Write(file, 0o644, data)
}

// Delete implements Store.
func (f *Folder) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

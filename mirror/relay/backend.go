package relay

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// backend is where a Store's finished editions lie: objects in one folder for
// each channel, each of which is there whole or not at all. A name means one
// content for good, but for that of the IPNS record. All methods may be called
// at once; none retries. What is not there is fs.ErrNotExist.
type backend interface {
	// shared reports whether other relays write to it as well.
	shared() bool
	// at is what the object is called everywhere else: of a channel, by the name
	// of its file.
	at(ch channel.ID, file string) string
	// list returns all objects; what belongs to no channel is left out.
	list(ctx context.Context) ([]object, error)
	// open opens an object for reading at any place. It may find out only then
	// that the object is gone. Closing what is being read ends nothing.
	open(name string) (blob, error)
	// load reads a small object of at most limit bytes, save replaces one, durably.
	load(ctx context.Context, name string, limit int64) ([]byte, error)
	save(ctx context.Context, name string, data []byte) error
	// take makes an object of a local file, which is synced, and which goes. The
	// object is durable when take has returned nil; after an error the file is
	// still there.
	take(ctx context.Context, name, file string) error
	// remove removes objects; it is no error if one is not there.
	remove(ctx context.Context, names ...string) error
	// setAside takes a damaged edition out of the way, so that it can be stored
	// again.
	setAside(ctx context.Context, name string) error
}

// blob is an opened object.
type blob interface {
	io.ReaderAt
	io.Closer
}

// object is an entry of a listing.
type object struct {
	ch   channel.ID
	file string
	size int64
	// tag changes with the content; "" where one process alone writes.
	tag string
}

// folder is the default: files below editions/ of the data folder, which one
// process serves.
type folder struct{ dir string }

var _ backend = (*folder)(nil)

// newFolder makes the folder, and removes what a process that was killed left
// half written.
func newFolder(dir string) (*folder, error) {
	f := &folder{filepath.Join(dir, "editions")}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	dirs, err := durable.Glob(f.dir, "*")
	if err != nil {
		return nil, err
	}
	durable.Sweep(dirs...)
	return f, nil
}

func (*folder) shared() bool { return false }

func (f *folder) at(ch channel.ID, file string) string {
	return filepath.Join(f.dir, ch.String(), file)
}

func (f *folder) list(context.Context) ([]object, error) {
	dirs, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var out []object
	for _, d := range dirs {
		ch, err := channel.ParseID(d.Name())
		if err != nil || !d.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(f.dir, d.Name()))
		if err != nil {
			return nil, err
		}
		for _, e := range files {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, object{ch: ch, file: e.Name(), size: info.Size()})
		}
	}
	return out, nil
}

func (*folder) open(name string) (blob, error) { return os.Open(name) }

func (*folder) load(_ context.Context, name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("larger than it may be")
	}
	return b, err
}

func (*folder) save(_ context.Context, name string, data []byte) error {
	if err := durable.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return durable.Write(name, 0o600, data)
}

func (*folder) take(_ context.Context, name, file string) error {
	dir := filepath.Dir(name)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(file, name); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

func (*folder) remove(_ context.Context, names ...string) error {
	var errs []error
	for _, n := range names {
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (*folder) setAside(_ context.Context, name string) error {
	return os.Rename(name, name+".damaged")
}

// isEdition reports whether a file is an edition's.
func isEdition(file string) bool { return strings.HasSuffix(file, ".car") }

package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/bucket"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
)

// inMemory is a backend over a map, which several stores may share.
type inMemory struct {
	mu      sync.Mutex
	objects map[string]*bytes.Reader
	entries map[string]object
	changes int
}

var _ backend = (*inMemory)(nil)

func newInMemory() *inMemory {
	return &inMemory{objects: map[string]*bytes.Reader{}, entries: map[string]object{}}
}

func (*inMemory) shared() bool { return true }

func (*inMemory) at(ch channel.ID, file string) string { return ch.String() + "/" + file }

func (m *inMemory) list(context.Context) (out []object, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.entries {
		out = append(out, o)
	}
	return out, nil
}

type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error { return nil }

func (m *inMemory) open(name string) (blob, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.objects[name]; ok {
		return memoryBlob{r}, nil
	}
	return nil, fs.ErrNotExist
}

func (m *inMemory) load(_ context.Context, name string, limit int64) ([]byte, error) {
	b, err := m.open(name)
	if err != nil {
		return nil, err
	}
	r := b.(memoryBlob).Reader
	if r.Size() > limit {
		return nil, errors.New("too large")
	}
	data := make([]byte, r.Size())
	_, err = io.ReadFull(io.NewSectionReader(r, 0, r.Size()), data)
	return data, err
}

func (m *inMemory) save(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, file := filepath.Split(name)
	ch, err := channel.ParseID(filepath.Clean(id))
	if err != nil {
		return err
	}
	m.changes++
	m.objects[name], m.entries[name] = bytes.NewReader(bytes.Clone(data)), object{ch, file, int64(len(data)), fmt.Sprint(m.changes)}
	return nil
}

func (m *inMemory) take(ctx context.Context, name, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := m.save(ctx, name, data); err != nil {
		return err
	}
	return os.Remove(file)
}

func (m *inMemory) remove(_ context.Context, names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range names {
		delete(m.objects, n)
		delete(m.entries, n)
	}
	return nil
}

func (*inMemory) setAside(context.Context, string) error { return nil }

// onS3 is a place of its own on an S3 server; the function opens it again, as
// another relay would.
func onS3(t *testing.T) (bucket.Config, func() backend) {
	t.Helper()
	c := bucket.Config{URL: testservers.Bucket(t, t.TempDir(), "relays") + "/editions", Credentials: testservers.KeysFile(t)}
	return c, func() backend {
		s, err := newS3(&netreal.Network{}, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
}

// backends make an empty backend of each kind; the function opens the same one
// again, as the next process would.
var backends = map[string]func(t *testing.T) func() backend{
	"memory": func(*testing.T) func() backend {
		m := newInMemory()
		return func() backend { return m }
	},
	"folder": func(t *testing.T) func() backend {
		dir := t.TempDir()
		return func() backend {
			f, err := newFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	},
	"s3": func(t *testing.T) func() backend {
		_, open := onS3(t)
		return open
	},
}

// TestBackends holds every backend to what the interface promises.
func TestBackends(t *testing.T) {
	for name, make := range backends {
		t.Run(name, func(t *testing.T) { checkBackend(t, make(t)) })
	}
}

func checkBackend(t *testing.T, again func() backend) {
	ctx, ch := t.Context(), newPress(t, "backend").ch
	b := again()
	if got, err := b.list(ctx); err != nil || len(got) != 0 {
		t.Errorf("an empty backend lists %v, %v", got, err)
	}
	none := b.at(ch, "none.car")
	if _, err := b.load(ctx, none, 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load of nothing: %v", err)
	}
	if f, err := b.open(none); err == nil {
		if _, err = f.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read of nothing: %v", err)
		}
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of nothing: %v", err)
	}
	if err := b.remove(ctx, none); err != nil {
		t.Errorf("remove of nothing: %v", err)
	}
	// More than a page, and not a whole number of them.
	data := noise(1, 700_001)
	part := filepath.Join(t.TempDir(), "part")
	car, idx := b.at(ch, "000000000003-7.car"), b.at(ch, "000000000003-7.idx")
	if err := b.take(ctx, car, part); err == nil {
		t.Error("took a file that is not there")
	}
	if err := os.WriteFile(part, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.take(ctx, car, part); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file that was taken: %v", err)
	}
	for _, text := range []string{"a first index", "second"} {
		if err := b.save(ctx, idx, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	b = again()
	if got, err := b.load(ctx, idx, 6); err != nil || string(got) != "second" {
		t.Errorf("load: %q, %v", got, err)
	}
	if _, err := b.load(ctx, idx, 5); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load of more than the limit: %v", err)
	}
	objects, err := b.list(ctx)
	slices.SortFunc(objects, func(a, b object) int { return int(b.size - a.size) })
	if err != nil || len(objects) != 2 || objects[0].ch != ch || objects[0].file != "000000000003-7.car" || objects[0].size != 700_001 || objects[1].size != 6 {
		t.Fatalf("listed %v, %v", objects, err)
	}
	f, err := b.open(car)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	for _, at := range [][2]int{{0, 700_001}, {0, 1}, {700_000, 1}, {262_143, 2}, {262_144, 262_144}, {100_000, 500_000}} {
		wg.Go(func() {
			got := make([]byte, at[1])
			if n, err := f.ReadAt(got, int64(at[0])); n != at[1] || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, data[at[0]:at[0]+at[1]]) {
				t.Errorf("read %d at %d: %d, %v", at[1], at[0], n, err)
			}
		})
	}
	wg.Wait()
	for _, at := range []int64{699_999, 700_001, 800_000} {
		if n, err := f.ReadAt(make([]byte, 10), at); !errors.Is(err, io.EOF) || int64(n) != max(0, 700_001-at) {
			t.Errorf("read beyond the end, at %d: %d, %v", at, n, err)
		}
	}
	if err := b.remove(ctx, car, idx); err != nil {
		t.Fatal(err)
	}
	if got, err := again().list(ctx); err != nil || len(got) != 0 {
		t.Errorf("after remove: %v, %v", got, err)
	}
}

// storeOn opens a store on a backend, with a folder of its own for uploads.
func storeOn(t *testing.T, b backend, limits Limits) *Store {
	t.Helper()
	s, err := openStore(t.Context(), t.TempDir(), b, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// store uploads an edition in two halves.
func store(t *testing.T, s *Store, sh *sheet) error {
	t.Helper()
	u, err := s.open(t.Context(), sh.head.Channel, bundle.RawCID(sh.head.Text()), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer u.unlock()
	held, done, err := u.state()
	if err != nil || done {
		return err
	}
	for half := len(sh.car) / 2; held < int64(len(sh.car)); half = len(sh.car) {
		if held, _, err = u.append(held, int64(len(sh.car)), bytes.NewReader(sh.car[held:half])); err != nil {
			return err
		}
	}
	return nil
}

// whole sees that a store serves every block of an edition.
func whole(t *testing.T, s *Store, sh *sheet) {
	t.Helper()
	for _, b := range sh.packed.Blocks {
		if got, err := s.Block(sh.head.Channel, b.CID); err != nil || !bytes.Equal(got, b.Data) {
			t.Errorf("edition %d: block %s: %v", sh.head.Edition, b.CID, err)
		}
	}
}

// TestStoreOnBackends: a store does the same on all of them, and finds it again.
func TestStoreOnBackends(t *testing.T) {
	for name, make := range backends {
		t.Run(name, func(t *testing.T) {
			again := make(t)
			p := newPress(t, "on backends")
			var sheets []*sheet
			for range 3 {
				sheets = append(sheets, p.edition(t, 400_000))
			}
			room := Limits{Channel: int64(len(sheets[2].car))*2 + 50_000}
			s := storeOn(t, again(), room)
			for _, sh := range sheets {
				if err := store(t, s, sh); err != nil {
					t.Fatal(err)
				}
			}
			whole(t, s, sheets[2])
			whole(t, s, sheets[1])
			objects, err := again().list(t.Context())
			if err != nil || len(objects) != 4 {
				t.Errorf("two editions fit, and are %d objects, %v", len(objects), err)
			}
			next := storeOn(t, again(), room)
			if h, _ := next.Head(p.ch); h == nil || h.Edition != 2 || len(next.snapshot(p.ch)) != 2 {
				t.Errorf("found again: %+v", h)
			}
			whole(t, next, sheets[2])
			// Without its index, which is written anew.
			lost := next.snapshot(p.ch)[0]
			if err := again().remove(t.Context(), indexPath(lost.path)); err != nil {
				t.Fatal(err)
			}
			whole(t, storeOn(t, again(), room), sheets[2])
			if _, err := again().load(t.Context(), indexPath(lost.path), maxIndex); err != nil {
				t.Errorf("the index was not written anew: %v", err)
			}
		})
	}
}

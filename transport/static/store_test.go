package static_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tamizdat/internal/bucket"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
	"tamizdat/transport/static"
)

// memory is a static.Store over a map, which counts and can be told to fail.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	// log has an entry for each Put and Delete: "+name" or "-name".
	log []string
	// before, if not nil, may refuse a write.
	before func(entry string) error
}

var _ static.Store = (*memory)(nil)

func newMemory() *memory { return &memory{files: map[string][]byte{}} }

func (m *memory) Begin(context.Context) (func(string, bool) error, error) {
	return func(string, bool) error { return nil }, nil
}

func (m *memory) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[name]
	switch {
	case !ok:
		return nil, transport.ErrNotFound
	case int64(len(b)) > limit:
		return nil, errors.New("too long")
	}
	return b, nil
}

func (m *memory) List(_ context.Context, dir string) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int64{}
	for name, b := range m.files {
		if base, ok := strings.CutPrefix(name, dir+"/"); ok && !strings.Contains(base, "/") {
			out[base] = int64(len(b))
		}
	}
	return out, nil
}

func (m *memory) write(ctx context.Context, entry string, do func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.before != nil {
		if err := m.before(entry); err != nil {
			return err
		}
	}
	m.log = append(m.log, entry)
	do()
	return nil
}

func (m *memory) Put(ctx context.Context, name string, data []byte) error {
	return m.write(ctx, "+"+name, func() { m.files[name] = bytes.Clone(data) })
}

func (m *memory) Delete(ctx context.Context, name string) error {
	return m.write(ctx, "-"+name, func() { delete(m.files, name) })
}

// stores makes an empty store of each kind. again opens the same one anew, as the
// next run of the program would.
var stores = map[string]func(t *testing.T) (again func() static.Store){
	"memory": func(*testing.T) func() static.Store {
		m := newMemory()
		return func() static.Store { return m }
	},
	"folder": func(t *testing.T) func() static.Store {
		dir := filepath.Join(t.TempDir(), "new", "folder")
		return func() static.Store { return static.NewFolder(dir) }
	},
	"git": func(t *testing.T) func() static.Store {
		dir := gitRepo(t)
		return func() static.Store { return static.NewGit(dir) }
	},
	"webdav": func(t *testing.T) func() static.Store {
		url, secret := davServer(t, t.TempDir(), nil)
		return func() static.Store {
			return closing(t, must(static.NewWebDAV(&netreal.Network{}, url+"/dav/news", secret)))
		}
	},
	"webdav without MOVE": func(t *testing.T) func() static.Store {
		url, secret := davServer(t, t.TempDir(), func(r *http.Request) int {
			if r.Method == "MOVE" {
				return http.StatusMethodNotAllowed
			}
			return 0
		})
		return func() static.Store {
			return closing(t, must(static.NewWebDAV(&netreal.Network{}, url+"/dav/news/", secret)))
		}
	},
	"s3": func(t *testing.T) func() static.Store {
		url := newBucket(t, t.TempDir())
		keys := testservers.KeysFile(t)
		return func() static.Store {
			return closing(t, must(static.NewS3(&netreal.Network{}, bucket.Config{URL: url + "/some/place", Credentials: keys})))
		}
	},
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func closing[T interface{ Close() error }](t *testing.T, v T) T {
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// gitRepo makes a repository with a commit in it, in which git knows a name.
func gitRepo(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		const missing = "no git here, so no working copy was written: install the package git"
		if os.Getenv("TAMIZDAT_CI") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	// Nothing of the machine's own settings.
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	dir := t.TempDir()
	git(t, dir, "init", "--quiet", "--initial-branch", "main")
	git(t, dir, "config", "user.name", "Test")
	git(t, dir, "config", "user.email", "test@example.org")
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("pages\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", "README")
	git(t, dir, "commit", "--quiet", "--message", "begin")
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out))
}

// newBucket is a place in a new bucket, over plain HTTP for the publisher.
func newBucket(t *testing.T, dir string) string { return testservers.Bucket(t, dir, "news") }

// davServer is a WebDAV server over dir, below /dav/, with a folder news.
func davServer(t *testing.T, dir string, before func(*http.Request) int) (url, secret string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "news"), 0o700); err != nil {
		t.Fatal(err)
	}
	return testservers.WebDAV(t, dir, before)
}

// TestStores holds every store to what Store promises.
func TestStores(t *testing.T) {
	for name, make := range stores {
		t.Run(name, func(t *testing.T) { conformance(t, make(t)) })
	}
}

func conformance(t *testing.T, again func() static.Store) {
	ctx := t.Context()
	s := again()
	if _, err := s.Get(ctx, "head/none", 100); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	end, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.List(ctx, "ipfs"); err != nil || len(got) != 0 {
		t.Errorf("an empty store lists %v, %v", got, err)
	}
	want := map[string]int64{}
	var wg sync.WaitGroup
	for i := range 20 { // all methods may be called at once
		name := fmt.Sprintf("bafy%d", i)
		want[name] = int64(100 * i) // an empty file, too
		wg.Go(func() {
			if err := s.Put(ctx, "ipfs/"+name, bytes.Repeat([]byte{'\r', '\n', byte(i)}, 100*i/3+1)[:100*i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, text := range []string{"first, and longer", "second"} {
		if err := s.Put(ctx, "head/channel", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(ctx, "editions/channel/12", []byte("list\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Get(ctx, "head/channel", 100); err != nil || string(b) != "second" {
		t.Errorf("what was put: %q, %v", b, err)
	}
	if err := end("test", true); err != nil {
		t.Fatal(err)
	}
	s = again()
	if b, err := s.Get(ctx, "head/channel", 100); err != nil || string(b) != "second" {
		t.Errorf("in the next run: %q, %v", b, err)
	}
	if _, err := s.Get(ctx, "ipfs/bafy19", 1899); err == nil || errors.Is(err, transport.ErrNotFound) {
		t.Errorf("a file that is longer than the limit: %v", err)
	}
	if b, err := s.Get(ctx, "ipfs/bafy19", 1900); err != nil || len(b) != 1900 {
		t.Errorf("a file as long as the limit: %d bytes, %v", len(b), err)
	}
	if end, err = s.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.List(ctx, "ipfs"); err != nil || !maps.Equal(got, want) {
		t.Errorf("listed %v, %v", got, err)
	}
	if got, err := s.List(ctx, "editions/channel"); err != nil || !maps.Equal(got, map[string]int64{"12": 5}) {
		t.Errorf("listed %v, %v", got, err)
	}
	for range 2 { // the second time nothing is there
		if err := s.Delete(ctx, "ipfs/bafy3"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if err := end("test", true); err != nil {
		t.Fatal(err)
	}
	if _, err := again().Get(ctx, "ipfs/bafy3", 1000); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("a deleted file: %v", err)
	}
	if got, err := again().List(ctx, "ipfs"); err != nil || len(got) != len(want)-1 {
		t.Errorf("%d files left, %v", len(got), err)
	}
}

// A wrong password and a missing place are final; the messages give nothing away.
func TestRefused(t *testing.T) {
	ctx, network := t.Context(), &netreal.Network{}
	secret := func(text string, mode os.FileMode) string {
		name := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	refused := func(what string, s static.Store) {
		t.Helper()
		err := s.Put(ctx, "ipfs/x", []byte("x"))
		if !errors.Is(err, transport.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n") || strings.Contains(fmt.Sprint(err), "wrong") {
			t.Errorf("%s: %v", what, err)
		}
	}
	dir := t.TempDir()
	url, good := davServer(t, dir, nil)
	refused("password", closing(t, must(static.NewWebDAV(network, url+"/dav/news", secret("ann:wrong", 0o600)))))
	refused("none", closing(t, must(static.NewWebDAV(network, url+"/dav/news", ""))))
	refused("folder", closing(t, must(static.NewWebDAV(network, url+"/dav/none/there", good))))
	if os.PathSeparator == '/' {
		if _, err := static.NewWebDAV(network, url, secret("ann:pass:word", 0o644)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a password that everybody may read: %v", err)
		}
	}
	for what, u := range map[string]string{
		"plain": "http://dav.example/x", "user": "https://ann:wrong@dav.example/", "query": "https://dav.example/?x", "none": "dav.example",
	} {
		if _, err := static.NewWebDAV(network, u, ""); err == nil || strings.Contains(err.Error(), "example") {
			t.Errorf("URL, %s: %v", what, err)
		}
		if _, err := static.NewS3(network, bucket.Config{URL: u, Credentials: good}); err == nil || strings.Contains(err.Error(), "example") {
			t.Errorf("S3 URL, %s: %v", what, err)
		}
	}
	if _, err := static.NewS3(network, bucket.Config{URL: "https://s3.example/news", Credentials: good}); err == nil || strings.Contains(err.Error(), "pass") {
		t.Errorf("a file that holds no keys: %v", err)
	}
	if _, err := static.NewGit(t.TempDir()).Begin(ctx); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("no working copy: %v", err)
	}
	t.Run("s3", func(t *testing.T) {
		url := newBucket(t, t.TempDir())
		refused("bucket", closing(t, must(static.NewS3(network, bucket.Config{URL: strings.TrimSuffix(url, "news") + "none", Credentials: testservers.KeysFile(t)}))))
		wrong := secret("[default]\naws_access_key_id = "+testservers.AccessKey+"\naws_secret_access_key = wrong\n", 0o600)
		refused("keys", closing(t, must(static.NewS3(network, bucket.Config{URL: url, Credentials: wrong}))))
	})
}

// entries counts the log's entries with that beginning.
func entries(log []string, begin string) (n int) {
	for _, e := range log {
		if strings.HasPrefix(e, begin) {
			n++
		}
	}
	return n
}

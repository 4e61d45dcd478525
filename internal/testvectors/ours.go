package testvectors

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// folder holds our own vectors, which bundle/FORMAT.md speaks of, seen from the module's
// folder. Most packages that read the format have a test on them.
const folder = "bundle/testdata/vectors"

// path is where one of our vectors lies. Tests run in their package's folder.
func path(t testing.TB, name string) string {
	t.Helper()
	for up := "."; len(up) < 100; up = filepath.Join(up, "..") {
		if _, err := os.Stat(filepath.Join(up, "go.mod")); err == nil {
			return filepath.Join(up, folder, name)
		}
	}
	t.Fatal("no go.mod above this package")
	return ""
}

// File returns one of our vectors.
func File(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// JSON reads one of our vectors.
func JSON(t testing.TB, name string, to any) {
	t.Helper()
	if err := json.Unmarshal(File(t, name), to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Files returns those of our vectors whose names match a pattern. One that matches
// nothing is a broken test, not an empty list.
func Files(t testing.TB, patterns ...string) (all [][]byte) {
	t.Helper()
	for _, p := range patterns {
		names, err := filepath.Glob(path(t, p))
		if err != nil || len(names) == 0 {
			t.Fatalf("no vectors match %s: %v", p, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
	}
	return all
}

// Seed begins a corpus with Files.
func Seed(f *testing.F, patterns ...string) {
	f.Helper()
	for _, b := range Files(f, patterns...) {
		f.Add(b)
	}
}

// Same holds one of our vectors to what is made now, and returns it. With update it is
// written first.
func Same(t testing.TB, name string, made []byte, update bool) []byte {
	t.Helper()
	if update {
		if err := os.WriteFile(path(t, name), made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := File(t, name)
	if !bytes.Equal(b, made) {
		t.Errorf("%s is not what is made now; -update makes it anew", name)
	}
	return b
}

package dns

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
)

// FuzzKey: a TSIG key that is taken has a name, an algorithm and a secret of a sane
// size, and no error quotes the file.
func FuzzKey(f *testing.F) {
	secret := strings.Repeat("c2VjcmV0", 6)
	for _, s := range []string{
		"key \"n.example\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n",
		"# hmac-sha256:n.example:" + secret + "\nkey:\n  - id: n.example\n",
		"hmac-sha512:n.example:" + secret, "hmac-md5:n.example:" + secret, "key x {}", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		switch {
		case err == nil && (k.Name() == "" || k.algorithm == "" || len(k.secret) < minSecret):
			t.Fatalf("taken: %q", s)
		case err != nil && len(s) > 60 && strings.Contains(err.Error(), s):
			t.Fatalf("the error repeats the file: %v", err)
		}
	})
}

// FuzzReadEdition: from no file comes more than the limit allows, nor anything of
// another channel.
func FuzzReadEdition(f *testing.F) {
	dir := filepath.Join("..", "..", "bundle", "testdata", "vectors")
	note, err := os.ReadFile(filepath.Join(dir, "root-1.note"))
	if err != nil {
		f.Fatal(err)
	}
	id, ok := channel.FoundedBy(note)
	if !ok {
		f.Fatal("the vectors' root note is none")
	}
	files, err := filepath.Glob(filepath.Join(dir, "invalid", "edition-*.car"))
	if err != nil || len(files) < 5 {
		f.Fatalf("%d files among the vectors: %v", len(files), err)
	}
	for _, name := range append(files, filepath.Join(dir, "edition-1.car")) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, file []byte) {
		e, err := ReadEdition(bytes.NewReader(file), id, limit)
		if err != nil {
			return
		}
		total := len(e.Head)
		for _, p := range e.Front {
			total += len(p.Data)
		}
		for _, p := range e.Text {
			total += len(p.Data)
		}
		if total > 2*limit+channel.MaxHead { // blocks, and lists that name some again
			t.Fatalf("%d bytes", total)
		}
	})
}

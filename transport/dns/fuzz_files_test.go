package dns

import (
	"bytes"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/testvectors"
	"tamizdat/transport/transporttest"
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
	id := transporttest.NewVectors(f).Roots.Channel()
	testvectors.Seed(f, "invalid/edition-*.car", "edition-1.car")
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

// Package testvectors hands test vectors to tests: other people's for age
// (c2sp.org/CCTV/age), and our own for the format of bundle/FORMAT.md. As its own
// tests it runs Wycheproof's for the primitives below everything.
// A library that is exchanged or renewed has to pass them again, called as we call
// it. Only tests import this package.
package testvectors

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"io"
	"io/fs"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"
)

// Age is one vector of c2sp.org/CCTV/age, whose README says what its lines mean.
type Age struct {
	Name string
	// Expect is "success", or what must fail: "no match", "HMAC failure", "header
	// failure", "payload failure" or "armor failure".
	Expect string
	// Payload is the SHA-256 of all plaintext that may be given out, also before a
	// failure; nil if there is none.
	Payload []byte
	// FileKey is what the header's stanzas hold.
	FileKey []byte
	// Identities open it, if anything does.
	Identities []age.Identity
	Armored    bool
	File       []byte
}

// AgeVectors returns all of them, by name.
func AgeVectors(t testing.TB) (all []Age) {
	t.Helper()
	files, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := fs.ReadFile(agetest.Vectors, f.Name())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parseAge(t, f.Name(), text))
	}
	return all
}

func parseAge(t testing.TB, name string, text []byte) Age {
	t.Helper()
	v, compressed := Age{Name: name}, false
	head, file, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		t.Fatalf("%s: no empty line", name)
	}
	for line := range strings.Lines(string(head)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		var err error
		switch key {
		case "expect":
			v.Expect = value
		case "payload":
			v.Payload, err = hex.DecodeString(value)
		case "file key":
			v.FileKey, err = hex.DecodeString(value)
		case "identity", "passphrase":
			var id age.Identity
			id, err = parseIdentity(key, value)
			v.Identities = append(v.Identities, id)
		case "armored":
			v.Armored = value == "yes"
		case "compressed":
			compressed = value == "zlib"
		case "comment":
		default: // it may change what the others mean
			t.Fatalf("%s: unknown line %q", name, key)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", name, key, err)
		}
	}
	if v.File = file; compressed {
		r, err := zlib.NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.File, err = io.ReadAll(r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return v
}

func parseIdentity(key, value string) (age.Identity, error) {
	switch {
	case key == "passphrase":
		return age.NewScryptIdentity(value)
	case strings.HasPrefix(value, "AGE-SECRET-KEY-PQ-"):
		return age.ParseHybridIdentity(value)
	}
	return age.ParseX25519Identity(value)
}

package reader

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/bundle/channel"
)

// FuzzProof: whatever a file says, two heads that it proves a fork with are of its
// channel and can't both be true.
func FuzzProof(f *testing.F) {
	dir := filepath.Join("..", "..", "bundle", "testdata", "vectors")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	note, one := read("root-1.note"), read("head-0.txt")
	id, _ := channel.FoundedBy(note)
	roots, err := channel.ParseRoots(id, [][]byte{note})
	if err != nil {
		f.Fatal(err)
	}
	h, err := roots.Head(one)
	if err != nil {
		f.Fatal(err)
	}
	seed := sha256.Sum256([]byte("tamizdat test vectors: log key"))
	leaf := h.Leaf
	leaf.Date = leaf.Date.Add(time.Second)
	other, err := channel.SignHead(leaf, nil, 0, h.Time, ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(proof{V: 1, Channel: id, RootNotes: []string{string(note)}, Forks: []forkProof{{Ours: string(one), Theirs: string(other.Text())}}})
	if err != nil {
		f.Fatal(err)
	}
	same, err := json.Marshal(proof{V: 1, Channel: id, RootNotes: []string{string(note)}, Forks: []forkProof{{Ours: string(one), Theirs: string(one), Root: make([]byte, 32), Proof: [][]byte{{1}}}}})
	if err != nil {
		f.Fatal(err)
	}
	name := filepath.Join(f.TempDir(), "proof.json")
	check := func(b []byte) ([]Contradiction, error) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return nil, err
		}
		_, found, err := CheckProof(name)
		return found, err
	}
	if found, err := check(good); err != nil || len(found) != 1 {
		f.Fatalf("the seed: %v, %v", found, err)
	}
	for _, b := range [][]byte{good, same, []byte(`{"v":1,"forks":[{}]}`), nil} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := check(b)
		if err != nil && !errors.Is(err, ErrProof) {
			t.Fatal(err)
		}
		for _, c := range found {
			if c.One.Channel != c.Other.Channel || c.One.Size == c.Other.Size && c.One.Tree == c.Other.Tree {
				t.Fatal("a fork of one history")
			}
		}
	})
}

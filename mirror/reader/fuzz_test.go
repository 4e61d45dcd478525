package reader

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport/transporttest"
)

// FuzzProof: whatever a file says, two heads that it proves a fork with are of its
// channel and can't both be true.
func FuzzProof(f *testing.F) {
	v := transporttest.NewVectors(f)
	note, one := v.Roots.Notes()[0], v.Head(f, 0)
	leaf := one.Leaf
	leaf.Date = leaf.Date.Add(time.Second)
	other, err := channel.SignHead(leaf, nil, 0, one.Time, v.Log)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(proof{V: 1, Channel: leaf.Channel, RootNotes: []string{string(note)}, Forks: []forkProof{{Ours: string(one.Text()), Theirs: string(other.Text())}}})
	if err != nil {
		f.Fatal(err)
	}
	same, err := json.Marshal(proof{V: 1, Channel: leaf.Channel, RootNotes: []string{string(note)}, Forks: []forkProof{{Ours: string(one.Text()), Theirs: string(one.Text()), Root: make([]byte, 32), Proof: []bundle.Base64{{1}}}}})
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

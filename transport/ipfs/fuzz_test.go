package ipfs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// FuzzRecord: a record that is taken is signed, and has a root and a head within
// bounds.
func FuzzRecord(f *testing.F) {
	dir := filepath.Join("..", "..", "bundle", "testdata", "vectors")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	note := read("root-1.note")
	id, _ := channel.FoundedBy(note)
	roots, err := channel.ParseRoots(id, [][]byte{note})
	if err != nil {
		f.Fatal(err)
	}
	h, err := roots.Head(read("head-1.txt"))
	if err != nil {
		f.Fatal(err)
	}
	seed := sha256.Sum256([]byte("tamizdat test vectors: ipns key"))
	key := ed25519.NewKeyFromSeed(seed[:])
	name, err := Name(key.Public().(ed25519.PublicKey))
	if err != nil {
		f.Fatal(err)
	}
	if !roots.IPNSKey().Equal(key.Public()) {
		f.Fatal("the vectors have another IPNS key")
	}
	rec, err := Record(key, h, 7, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec)
	f.Add(rec[:len(rec)-1])
	f.Add(bytes.Replace(rec, []byte("_head"), []byte("_tail"), 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		compact, root, err := HeadFromRecord(name, raw)
		if err != nil {
			return
		}
		if len(compact) == 0 || len(compact) > maxCompact || bundle.CheckCID(root) != nil {
			t.Fatalf("a head of %d bytes and the root %s", len(compact), root)
		}
		if _, err := Sequence(raw); err != nil {
			t.Fatalf("taken, but without a number: %v", err)
		}
	})
}

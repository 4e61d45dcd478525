package transporttest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/testvectors"
)

// Vectors is the channel of the shared test vectors (bundle/testdata/vectors) with its
// secret keys, for who signs more in its name.
type Vectors struct {
	Roots     *channel.Roots
	Log, IPNS ed25519.PrivateKey
}

// NewVectors reads them.
func NewVectors(t testing.TB) *Vectors {
	t.Helper()
	note := testvectors.File(t, "root-1.note")
	id, ok := channel.FoundedBy(note)
	if !ok {
		t.Fatal("the vectors' root note founds no channel")
	}
	roots, err := channel.ParseRoots(id, [][]byte{note})
	if err != nil {
		t.Fatal(err)
	}
	key := func(label string) ed25519.PrivateKey {
		seed := sha256.Sum256([]byte("tamizdat test vectors: " + label))
		return ed25519.NewKeyFromSeed(seed[:])
	}
	v := &Vectors{Roots: roots, Log: key("log key"), IPNS: key("ipns key")}
	if !roots.Last().Log.Key.Equal(v.Log.Public()) || !roots.IPNSKey().Equal(v.IPNS.Public()) {
		t.Fatal("the vectors have other keys")
	}
	return v
}

// Head is that of edition n.
func (v *Vectors) Head(t testing.TB, n int) *channel.Head {
	t.Helper()
	h, err := v.Roots.Head(testvectors.File(t, fmt.Sprintf("head-%d.txt", n)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

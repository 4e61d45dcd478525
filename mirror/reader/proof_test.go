package reader

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport/transporttest"
)

// TestProofOfSome: a fork whose log is kept hidden spoils no proof of another, and alone is
// none.
func TestProofOfSome(t *testing.T) {
	ours := published(t)
	same, longer := ours.Fork(), ours.Fork()
	ours.Publish(transporttest.Brief(1))
	same.Publish(transporttest.Brief(2))
	for n := range 3 {
		longer.Publish(transporttest.Brief(3 + n))
	}
	r := inMemory(t, ours, nil)
	name := filepath.Join(t.TempDir(), "proof.json")
	if err := r.Import(t.Context(), writeCAR(t, ours), nil); err != nil {
		t.Fatal(err)
	}
	h := longer.Newest().Head
	r.change(t, ours.ID(), func(v *channel.View) {
		before := longer.Editions()
		var leaves []channel.Hash
		for _, e := range before[v.Size():h.Edition] {
			leaves = append(leaves, e.Packed.Leaf.Hash())
		}
		if err := v.Fold(h, leaves); !errors.Is(err, channel.ErrFork) || len(v.Unproven()) != 1 {
			t.Fatalf("%d unproven, %v", len(v.Unproven()), err)
		}
	})
	if n, left, err := r.Proof(t.Context(), ours.ID(), name); !errors.Is(err, ErrUnproven) || n != 0 || left != 1 {
		t.Errorf("%d, %d left out, %v", n, left, err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that proves nothing: %v", err)
	}
	_ = r.Import(t.Context(), writeCAR(t, same), nil)
	if n, left, err := r.Proof(t.Context(), ours.ID(), name); err != nil || n != 1 || left != 1 {
		t.Errorf("%d, %d left out, %v", n, left, err)
	}
	if _, found, err := CheckProof(name); err != nil || len(found) != 1 {
		t.Errorf("%d, %v", len(found), err)
	}

	// Whoever has the root keys can't take the proof away by a note that ends the log key's
	// time before the heads were signed.
	root := sha256.Sum256([]byte("Kolokol root 1")) // as transporttest.NewChannel has it
	n := *ours.Roots().Last()
	n.Version, n.Channel, n.Previous = n.Version+1, ours.ID(), sha256.Sum256(n.Text())
	n.Log.NotAfter = ours.Editions()[0].Head.Time.Add(-time.Hour)
	note, err := n.Sign(ed25519.NewKeyFromSeed(root[:]))
	if err != nil {
		t.Fatal(err)
	}
	r.change(t, ours.ID(), func(v *channel.View) {
		if err := v.ExtendRoots(note); err != nil {
			t.Fatal(err)
		}
	})
	if n, _, err := r.Proof(t.Context(), ours.ID(), name); err != nil || n != 1 {
		t.Errorf("after a later root note: %d, %v", n, err)
	}
	if _, found, err := CheckProof(name); err != nil || len(found) != 1 {
		t.Errorf("after a later root note: %d, %v", len(found), err)
	}
}

// change changes what is remembered of a channel.
func (r *Reader) change(t *testing.T, ch channel.ID, f func(*channel.View)) {
	t.Helper()
	v, err := newsync.View(t.Context(), r.lib, ch)
	if err != nil {
		t.Fatal(err)
	}
	f(v)
	b, err := v.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.lib.SetState(t.Context(), ch, b); err != nil {
		t.Fatal(err)
	}
}

package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"
)

// rotated is a publisher whose second root note has named the next log key.
type rotated struct {
	*publisher
	second []byte
	next   ed25519.PrivateKey
	notes  [][]byte // see rekey
}

// rotate makes the second root note, with a log key that goes on from all there is.
func rotate(t *testing.T, p *publisher) *rotated {
	t.Helper()
	r := &rotated{publisher: p, next: key("the next log key")}
	n := p.note
	n.Version, n.Channel, n.Previous = 2, p.id, sha256.Sum256(p.note.Text())
	n.Log = LogKey{Generation: 1, Key: pub(r.next)}
	if n.Log.Base = p.history.size(); n.Log.Base > 0 {
		n.Log.BaseHash = TreeHash(slices.Values(p.history.Leaves()))
	}
	var err error
	if r.second, err = n.Sign(p.root); err != nil {
		t.Fatal(err)
	}
	return r
}

// publish appends an edition under the new key.
func (r *rotated) publish(t *testing.T, salt string) *Head {
	t.Helper()
	leaf := r.leaf(salt)
	leaf.RootVersion = 2
	h, err := SignHead(leaf, r.history.Edge(), 1, leaf.Date.Add(time.Minute), r.next)
	if err != nil {
		t.Fatal(err)
	}
	r.history.Append(leaf.Hash())
	return h
}

// TestHeadOfReplacedKey: who shows a head from before a rotation lags. Whatever
// is not in order is no such head, be it signed by the old key or by the new one.
func TestHeadOfReplacedKey(t *testing.T) {
	p := newPublisher(t, "a")
	p.publish(t, "0")
	old := p.publish(t, "1")
	r := rotate(t, p)
	roots, err := p.roots(t).Extend(r.second)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range [][]byte{old.Text(), old.Compact()} {
		if _, err := p.roots(t).Head(raw); err != nil {
			t.Errorf("before the rotation: %v", err)
		}
		if _, err := roots.Head(raw); !errors.Is(err, ErrOldRoots) || errors.Is(err, ErrHead) || errors.Is(err, ErrNewerRoots) {
			t.Errorf("after it: %v", err)
		}
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 1
			if h, err := roots.Head(bad); err == nil || errors.Is(err, ErrOldRoots) {
				t.Fatalf("byte %d of %d changed: %v, %v", i, len(raw), h, err)
			}
		}
	}
	for name, forged := range map[string]struct {
		generation uint64
		key        ed25519.PrivateKey
	}{
		"the new generation by the old key": {1, p.log},
		"the old generation by the new key": {0, r.next},
		"the old generation by a stranger":  {0, key("a stranger")},
	} {
		h, err := SignHead(old.Leaf, old.Path, forged.generation, old.Time, forged.key)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range [][]byte{h.Text(), h.Compact()} {
			if _, err := roots.Head(raw); !errors.Is(err, ErrHead) || errors.Is(err, ErrOldRoots) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	h := r.publish(t, "2")
	for _, raw := range [][]byte{h.Text(), h.Compact()} {
		if _, err := roots.Head(raw); err != nil {
			t.Errorf("by the new key: %v", err)
		}
		if _, err := p.roots(t).Head(raw); !errors.Is(err, ErrNewerRoots) {
			t.Errorf("by the new key, before its root note: %v", err)
		}
	}
}

// TestReplacedKeyHasItsTime: the last note of the old generation bounds what its
// key may have signed.
func TestReplacedKeyHasItsTime(t *testing.T) {
	p := newPublisher(t, "a")
	old := p.publish(t, "0")
	bounded := p.note
	bounded.Version, bounded.Channel, bounded.Previous = 2, p.id, sha256.Sum256(p.note.Text())
	bounded.Log.NotAfter = old.Time
	second, err := bounded.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	third := bounded
	third.Version, third.Previous = 3, sha256.Sum256(bounded.Text())
	third.Log = LogKey{Generation: 1, Key: pub(key("the next log key")), Base: old.Size, BaseHash: old.Tree}
	last, err := third.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := ParseRoots(p.id, [][]byte{p.signed, second, last})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roots.Head(old.Text()); !errors.Is(err, ErrOldRoots) {
		t.Errorf("in time: %v", err)
	}
	late, err := SignHead(old.Leaf, old.Path, 0, old.Time.Add(time.Second), p.log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roots.Head(late.Text()); !errors.Is(err, ErrHead) {
		t.Errorf("a second too late: %v", err)
	}
}

// TestViewAcrossRotation: a reader who has the new root note and still holds a
// head of the old key can be stored and read back, follows the new key, and does
// not take the old one's word any more.
func TestViewAcrossRotation(t *testing.T) {
	p := newPublisher(t, "a")
	v := view(t, p)
	held := p.publish(t, "0")
	if got := v.Consider(held); got != Newer {
		t.Fatal(got)
	}
	stale := p.publish(t, "1")
	r := rotate(t, p)
	if err := v.ExtendRoots(r.second); err != nil {
		t.Fatal(err)
	}
	v = reopen(t, v)
	if v.Head() == nil || v.Size() != held.Size {
		t.Fatal("the head held was lost with the rotation")
	}
	if _, err := v.Check(stale.Text()); !errors.Is(err, ErrOldRoots) {
		t.Errorf("an old head: %v", err)
	}
	h, err := v.Check(r.publish(t, "2").Text())
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Consider(h); got != Provisional {
		t.Errorf("two editions on: %v", got)
	}
	if err := v.Fold(h, p.history.Leaves()[1:2]); err != nil {
		t.Error(err)
	}
	if v = reopen(t, v); v.Size() != 3 {
		t.Errorf("%d editions", v.Size())
	}
}

// TestClone: a copy is judged without consequences.
func TestClone(t *testing.T) {
	ours, theirs := newPublisher(t, "a"), newPublisher(t, "a")
	v := view(t, ours)
	v.Consider(ours.publish(t, "ours"))
	before, err := v.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c := v.Clone()
	if c.Consider(theirs.publish(t, "theirs")) != Fork || c.Consider(ours.publish(t, "more")) != Newer {
		t.Error("the copy judges otherwise")
	}
	c.epochs[7] = EpochKey{}
	after, err := v.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("what was done to the copy shows in the view")
	}
}

// TestHeldPastItsTime: a note that ends a log key's time before the head that is held
// keeps no reader from what he has, and lets nobody take it who has not.
func TestHeldPastItsTime(t *testing.T) {
	p := newPublisher(t, "a")
	early, held := p.publish(t, "0"), p.publish(t, "1")
	v := view(t, p)
	mustConsider(t, v, held, Newer)
	bounded := p.note
	bounded.Version, bounded.Channel, bounded.Previous = 2, p.id, sha256.Sum256(p.note.Text())
	bounded.Log.NotAfter = early.Time
	if !held.Time.After(early.Time) {
		t.Fatal("it is in time")
	}
	note, err := bounded.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, v, note)
	if v = reopen(t, v); v.Head() == nil || v.Head().Tree != held.Tree {
		t.Fatal("the head is gone")
	}
	if _, err := v.Check(held.Text()); !errors.Is(err, ErrHead) {
		t.Errorf("shown once more: %v", err)
	}
	// Signed in time, the next one is news; and so it is by the next key.
	next := p.leaf("2")
	h, err := SignHead(next, p.history.Edge(), 0, early.Time, p.log)
	if err != nil {
		t.Fatal(err)
	}
	mustConsider(t, v, h, Newer)
	reopen(t, v)
}

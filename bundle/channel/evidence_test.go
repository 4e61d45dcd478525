package channel

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// fork is one channel told in two ways: common editions, then so many of each.
func fork(t *testing.T, common, a, b int) (ours, theirs *publisher, ah, bh []*Head) {
	t.Helper()
	ours, theirs = newPublisher(t, "a"), newPublisher(t, "a")
	for i := range common {
		ah = append(ah, ours.publish(t, fmt.Sprint("common ", i)))
		bh = append(bh, theirs.publish(t, fmt.Sprint("common ", i)))
	}
	for i := range a {
		ah = append(ah, ours.publish(t, fmt.Sprint("ours ", i)))
	}
	for i := range b {
		bh = append(bh, theirs.publish(t, fmt.Sprint("theirs ", i)))
	}
	return ours, theirs, ah, bh
}

// Whoever has the evidence and the root notes alone is convinced, whatever the
// sizes of the two trees and wherever the reader began.
func TestEvidenceConvincesOthers(t *testing.T) {
	for common := range 6 {
		for a := 1; a < 5; a++ {
			for b := 1; b < 6; b++ {
				ours, theirs, ah, bh := fork(t, common, a, b)
				for joined := 1; joined <= len(ah); joined++ {
					v := view(t, ours)
					for _, h := range ah[joined-1:] {
						v.Consider(h)
					}
					name := fmt.Sprintf("%d common, %d and %d more, joined at %d", common, a, b, joined)
					other := bh[len(bh)-1]
					switch verdict := v.Consider(other); {
					case verdict == Provisional:
						if err := v.Fold(other, theirs.history.Leaves()[v.Size():other.Edition]); !errors.Is(err, ErrFork) {
							t.Fatalf("%s: %v", name, err)
						}
					case verdict == Stale && other.Size < uint64(joined-1):
						continue // from before we joined: nothing is known of then
					case verdict == Stale && int(other.Size) <= common:
						continue
					case verdict != Fork:
						t.Fatalf("%s: %v", name, verdict)
					}
					for _, h := range v.Unproven() {
						if err := v.Prove(h, theirs.history.Leaves()[:h.Edition]); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
					v = reopen(t, v)
					if len(v.Evidence()) != 1 || len(v.Unproven()) != 0 {
						t.Fatalf("%s: %d pieces, %d of them unproven", name, len(v.Evidence()), len(v.Unproven()))
					}
					x, y, err := ours.roots(t).CheckEvidence(v.Evidence()[0])
					if err != nil || x.Tree != v.Head().Tree || y.Tree != other.Tree {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
}

// Two heads of one history are no fork, whatever is said of them.
func TestNoEvidenceAgainstTheHonest(t *testing.T) {
	ours, _, heads, _ := fork(t, 9, 0, 0)
	tree := newHistory()
	for _, l := range ours.history.Leaves() {
		tree.add(l)
	}
	short, long := heads[4], heads[8]
	root, proof, err := tree.past(short.Size, long.Size)
	if err != nil {
		t.Fatal(err)
	}
	wrong := slices.Clone(root)
	wrong[0] ^= 1
	for name, e := range map[string]Evidence{
		"the true proof":       {Root: root, Proof: proof},
		"another past":         {Root: wrong, Proof: proof},
		"another past, cut":    {Root: wrong, Proof: proof[1:]},
		"another past, longer": {Root: wrong, Proof: append(slices.Clone(proof), wrong)},
		"a short hash":         {Root: wrong[:16], Proof: proof},
		"short hashes":         {Root: wrong, Proof: [][]byte{{1}, {2}, {3}}},
		"nothing":              {},
	} {
		for _, pair := range [][2]*Head{{short, long}, {long, short}} {
			e.Ours, e.Theirs = pair[0].Text(), pair[1].Text()
			if _, _, err := ours.roots(t).CheckEvidence(e); !errors.Is(err, ErrNotProven) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	same := Evidence{Ours: long.Text(), Theirs: long.Text()}
	if _, _, err := ours.roots(t).CheckEvidence(same); !errors.Is(err, ErrNotProven) {
		t.Errorf("one head twice: %v", err)
	}
	same.Theirs = same.Theirs[:len(same.Theirs)-9]
	if _, _, err := ours.roots(t).CheckEvidence(same); !errors.Is(err, ErrHead) {
		t.Errorf("a torn head: %v", err)
	}
}

// What is not its log proves nothing, and changes nothing.
func TestProveTakesTheTrueLogOnly(t *testing.T) {
	ours, theirs, ah, bh := fork(t, 2, 2, 4)
	v := view(t, ours)
	for _, h := range ah {
		v.Consider(h)
	}
	other, leaves := bh[5], theirs.history.Leaves()
	if err := v.Fold(other, leaves[4:5]); !errors.Is(err, ErrFork) {
		t.Fatal(err)
	}
	for name, before := range map[string][]Hash{"none": nil, "too few": leaves[:4], "too many": leaves, "ours": append(slices.Clone(ours.history.Leaves()), leaves[4])} {
		if err := v.Prove(other, before); !errors.Is(err, ErrHead) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(v.Unproven()); n != 1 {
		t.Fatalf("%d unproven", n)
	}
	if err := v.Prove(other, leaves[:5]); err != nil || len(v.Unproven()) != 0 {
		t.Errorf("%v, %d unproven", err, len(v.Unproven()))
	}
}

// TestNextHeadProvesItself: a fork's head that is longer than ours by one edition shows by
// its own path that it does not continue it.
func TestNextHeadProvesItself(t *testing.T) {
	for common := range 9 {
		ours, _, ah, bh := fork(t, common, 1, 2)
		v := view(t, ours)
		for _, h := range ah {
			v.Consider(h)
		}
		mustConsider(t, v, bh[common+1], Fork)
		if len(v.Evidence()) != 1 || len(v.Unproven()) != 0 {
			t.Errorf("%d in common: %d pieces, %d unproven", common, len(v.Evidence()), len(v.Unproven()))
		}
	}
}

// TestProofDisplacesWhatProvesNothing: whoever signs many heads whose logs he keeps to
// himself does not keep out what proves it.
func TestProofDisplacesWhatProvesNothing(t *testing.T) {
	ours, _, ah, bh := fork(t, 2, 1, 1)
	v := view(t, ours)
	for _, h := range ah {
		v.Consider(h)
	}
	for i := range maxEvidence + 1 {
		p := newPublisher(t, "a")
		for range 4 {
			p.publish(t, fmt.Sprint("another ", i))
		}
		h := p.publish(t, "its newest")
		mustConsider(t, v, h, Provisional)
		if err := v.Fold(h, p.history.Leaves()[len(ah):h.Edition]); !errors.Is(err, ErrFork) {
			t.Fatal(err)
		}
	}
	if n := len(v.Unproven()); n != maxEvidence || len(v.Evidence()) != n {
		t.Fatalf("%d pieces, %d unproven", len(v.Evidence()), n)
	}
	mustConsider(t, v, bh[2], Fork)
	if n := len(v.Unproven()); n != maxEvidence-1 || len(v.Evidence()) != maxEvidence {
		t.Errorf("%d pieces, %d unproven", len(v.Evidence()), n)
	}
}

// TestAccuse keeps evidence, and holds nothing of a head that contradicts what is held.
func TestAccuse(t *testing.T) {
	ours, _, ah, bh := fork(t, 2, 1, 1)
	v := view(t, ours)
	for _, h := range ah[:2] {
		v.Consider(h)
	}
	v.Accuse(ah[2]) // it continues
	if v.Size() != 2 || len(v.Evidence()) != 0 {
		t.Errorf("%d editions, %d pieces", v.Size(), len(v.Evidence()))
	}
	v.Consider(ah[2])
	v.Accuse(bh[2])
	if v.Head().Tree != ah[2].Tree || len(v.Evidence()) != 1 {
		t.Errorf("%d pieces", len(v.Evidence()))
	}
}

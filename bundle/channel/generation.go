package channel

import (
	"bytes"
	"fmt"
	"slices"
)

// A stolen log key is answered by a root note that begins a new generation of the
// log: another key, and the tree that it goes on from. Whatever the old key has
// signed beyond that tree counts for nothing, however long it made its log: what a
// reader holds of it is cut off, and kept as evidence. Only the root keys can do
// that.

// Withdrawn is the first edition that a new generation of the log has left out of
// what was held, or the first of all after Overruled; ok is false if there is nothing to do about it. Whoever keeps
// articles of that edition and later ones drops them, durably, then calls Withdrew,
// then stores the view: a crash in between repeats it.
func (v *View) Withdrawn() (first uint64, ok bool) {
	if v.withdrawn == nil {
		return 0, false
	}
	return *v.withdrawn, true
}

// Withdrew says that the articles that Withdrawn speaks of are gone.
func (v *View) Withdrew() { v.withdrawn = nil }

// cut drops of the history held what a new generation leaves out. What is shorter
// than the tree that it began with may still be a part of that: Fold tells.
func (v *View) cut(log LogKey) {
	v.serial = 0 // whoever had the old key could number grants as he liked
	defer v.settle()
	size := v.Size()
	if size == 0 || log.Base > size {
		return
	}
	tree, known := v.treeAt(log.Base)
	switch {
	case !known:
		// Of the true history nothing is known that reaches back so far. What comes next
		// is as for one who is new.
		v.withdraw(log.Base)
		v.edgeSize, v.edge, v.leaves = 0, nil, nil
	case tree != log.BaseHash:
		// It was another one before we joined, perhaps: where the two part nobody knows.
		v.withdraw(0)
		v.edgeSize, v.edge, v.leaves = 0, nil, nil
	case log.Base < size:
		v.withdraw(log.Base)
		v.leaves = slices.Clone(v.leaves[:log.Base-v.edgeSize])
	}
}

// withdraw lets the head held go, and with it the editions from first on.
func (v *View) withdraw(first uint64) {
	if v.withdrawn == nil || first < *v.withdrawn {
		v.withdrawn = &first
	}
	if v.head != nil && v.roots.disowned(v.head) {
		bare := *v.head
		bare.cosig = nil
		v.evidence = append(slices.Clip(v.evidence), Evidence{Theirs: bare.Text()})
	}
	v.head = nil
}

// settle marks all evidence as that of generations that have ended, and makes room
// for that of the new one.
func (v *View) settle() {
	v.evidence = v.evidence[max(0, len(v.evidence)-maxEvidence):]
	v.settled = len(v.evidence)
}

// Replace holds a head for which Fold has returned ErrBegunAnew, once its whole log
// is known: the leaf hashes from the first edition to the one before its own. Ours
// is dropped from where the two part; see Withdrawn. The error wraps ErrHead if that
// is not its log, or not one that its generation began with.
func (v *View) Replace(h *Head, before []Hash) error {
	begun := v.roots.begun()
	switch {
	case h.Generation < begun.Generation:
		return ErrOldRoots
	case begun.Base <= v.Size():
		return fmt.Errorf("%w: nothing to replace", ErrHead)
	case uint64(len(before)) != h.Edition || len(before) > maxFold:
		return fmt.Errorf("%w: %d leaves given for %d", ErrHead, len(before), h.Edition)
	}
	all := append(slices.Clone(before), h.Leaf.Hash())
	tree, edge := newHistory(), Hash{}
	for i, l := range all {
		tree.add(l)
		switch size := uint64(i + 1); {
		case size == begun.Base && rootOf(tree.r) != begun.BaseHash:
			return fmt.Errorf("%w: its log is not what its generation began with", ErrHead)
		case size == v.edgeSize:
			edge = rootOf(tree.r)
		}
	}
	if rootOf(tree.r) != h.Tree {
		return fmt.Errorf("%w: these are not the leaves of its log", ErrHead)
	}
	v.replaced(h, tree)
	v.withdraw(v.parting(all, edge))
	v.settle()
	v.edgeSize, v.edge, v.leaves, v.head = 0, nil, all, h
	return v.forgetOldest()
}

// replaced keeps what proves that the head held is not in h's history.
func (v *View) replaced(h *Head, tree *history) {
	if v.head == nil || v.roots.disowned(v.head) {
		return // withdraw sees to it
	}
	ours, theirs := *h, *v.head
	ours.cosig, theirs.cosig = nil, nil
	e := Evidence{Ours: ours.Text(), Theirs: theirs.Text()}
	var err error
	if e.Root, e.Proof, err = tree.past(theirs.Size, ours.Size); err == nil && !bytes.Equal(e.Root, theirs.Tree[:]) {
		v.evidence = append(slices.Clip(v.evidence), e)
	}
}

// parting is the first edition that ours and the true history don't have in common,
// as far as ours reaches back. edge is what the true one was at our edge.
func (v *View) parting(all []Hash, edge Hash) uint64 {
	if ours, ok := v.treeAt(v.edgeSize); ok && ours != edge {
		return 0
	}
	for i, l := range v.leaves {
		if all[v.edgeSize+uint64(i)] != l {
			return v.edgeSize + uint64(i)
		}
	}
	return v.Size()
}

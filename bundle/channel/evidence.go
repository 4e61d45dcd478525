package channel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Evidence is two heads of one channel that contradict each other, in text
// form: somebody was shown a different history.
//
// Heads of the same size speak for themselves. Of different sizes, one could be
// the other's past; that it is not, Root and Proof show: an RFC 6962 consistency
// proof that the larger tree had the hash Root when it was of the smaller one's
// size, which is not the hash that the smaller head states.
//
// Across generations of the log: a head that a later generation has left out
// contradicts the root notes, and stands alone, as Theirs. One that is left in has
// to agree with the later heads like any other.
type Evidence struct {
	Ours   []byte   `json:"ours,omitempty"`
	Theirs []byte   `json:"theirs"`
	Root   []byte   `json:"root,omitempty"`
	Proof  [][]byte `json:"proof,omitempty"`
}

// ErrNotProven: two heads may be of one history, as far as the evidence tells.
var ErrNotProven = errors.New("the two heads may be of one history")

// CheckEvidence verifies that both heads are signed with the channel's keys and
// contradict each other, and returns them, ours first; ours is nil for one that
// contradicts the root notes. It needs to know nothing
// but the channel's root notes. The error wraps ErrHead if one of them is not in
// order, and ErrNotProven if they are but could be of one history.
func (r *Roots) CheckEvidence(e Evidence) (ours, theirs *Head, err error) {
	if theirs, err = r.check(e.Theirs); err != nil {
		return nil, nil, err
	}
	if len(e.Ours) == 0 {
		if !r.disowned(theirs) {
			err = fmt.Errorf("%w: no root note has left out what it states", ErrNotProven)
		}
		return nil, theirs, err
	}
	if ours, err = r.check(e.Ours); err != nil {
		return nil, nil, err
	}
	return ours, theirs, r.contradict(ours, theirs, e)
}

func (r *Roots) contradict(a, b *Head, e Evidence) error {
	if a.Generation != b.Generation && (r.disowned(a) || r.disowned(b)) {
		return fmt.Errorf("%w: the later one's generation of the log has left out what the other states", ErrNotProven)
	}
	if a.Size > b.Size {
		a, b = b, a
	}
	switch {
	case a.Size == b.Size && a.Tree == b.Tree:
		return fmt.Errorf("%w: they state the same one", ErrNotProven)
	case a.Size == b.Size:
		return nil
	case len(e.Root) == 0:
		return fmt.Errorf("%w: there is no proof of what the longer one was before", ErrNotProven)
	case bytes.Equal(e.Root, a.Tree[:]):
		return fmt.Errorf("%w: the longer one continues the shorter", ErrNotProven)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, a.Size, b.Size, e.Proof, e.Root, b.Tree[:]); err != nil {
		return fmt.Errorf("%w: what is said of the longer one's past is not so", ErrNotProven)
	}
	return nil
}

// Evidence of forks, oldest first, and of what new generations of the log have left
// out.
func (v *View) Evidence() []Evidence { return v.evidence }

// Forked reports whether there is evidence of a fork that no root note has settled
// since, by a new generation of the log.
func (v *View) Forked() bool { return len(v.evidence) > v.settled }

// Accuse keeps evidence against a checked head that contradicts what is held, and holds
// nothing else of it.
func (v *View) Accuse(h *Head) {
	switch v.Clone().Consider(h) {
	case Fork, Overruled:
		v.accuse(h)
	default:
	}
}

// accuse keeps evidence against h, and proves it if that can be done with what is here:
// if h's tree is the smaller one our own history does it, if it is larger by one leaf the
// path to that. Of a larger one somebody has to get the leaves; see Unproven. If the list
// is full, what is proven takes the place of what is not: else who is accused could fill
// it with what convinces nobody.
func (v *View) accuse(h *Head) {
	if v.head == nil {
		return // only a root note stands against it, which who signed it knows
	}
	// Without cosignatures: anybody can add lines that look like some, and fill
	// the list with copies of one fork.
	e := Evidence{Ours: v.head.Text(), Theirs: h.Bare().Text()}
	for _, old := range v.evidence {
		if bytes.Equal(old.Theirs, e.Theirs) {
			return
		}
	}
	tree, err := (*history)(nil), error(nil)
	switch {
	case h.Size < v.head.Size:
		tree, err = v.history()
	case h.Edition == v.head.Size:
		tree, err = (&View{edgeSize: h.Edition, edge: h.Path, leaves: []Hash{h.Leaf.Hash()}}).history()
	}
	if tree != nil && err == nil { // without it, it may still convince who holds the leaves
		e.Root, e.Proof, _ = tree.past(min(h.Size, v.head.Size), max(h.Size, v.head.Size))
	}
	if len(v.evidence)-v.settled < maxEvidence {
		v.evidence = append(v.evidence, e)
		return
	}
	if !v.roots.proves(e) {
		return
	}
	for i := len(v.evidence) - 1; i >= v.settled; i-- {
		if !v.roots.proves(v.evidence[i]) {
			v.evidence = append(slices.Delete(slices.Clone(v.evidence), i, i+1), e)
			return
		}
	}
}

// proves reports whether evidence convinces whoever has the root notes.
func (r *Roots) proves(e Evidence) bool {
	_, _, err := r.CheckEvidence(e)
	return err == nil
}

// Unproven are the heads of those forks of which there is evidence that convinces
// nobody but us, since their trees are larger than ours was. With the leaves of
// their logs Prove mends that.
func (v *View) Unproven() (heads []*Head) {
	for _, e := range v.evidence {
		if ours, theirs, err := v.roots.CheckEvidence(e); errors.Is(err, ErrNotProven) && ours != nil && theirs.Size > ours.Size {
			heads = append(heads, theirs)
		}
	}
	return heads
}

// Prove completes the evidence against theirs, whose log has the leaf hashes
// before, from the first edition to the one before its own. The error wraps
// ErrHead if that is not its log.
func (v *View) Prove(theirs *Head, before []Hash) error {
	if uint64(len(before)) != theirs.Edition {
		return fmt.Errorf("%w: %d leaves given for %d", ErrHead, len(before), theirs.Edition)
	}
	tree := newHistory()
	for _, l := range before {
		tree.add(l)
	}
	tree.add(theirs.Leaf.Hash())
	if rootOf(tree.r) != theirs.Tree {
		return fmt.Errorf("%w: these are not the leaves of its log", ErrHead)
	}
	proven := make([]Evidence, len(v.evidence))
	for i, e := range v.evidence {
		proven[i] = e
		ours, other, err := v.roots.CheckEvidence(e)
		if !errors.Is(err, ErrNotProven) || ours == nil || other.Tree != theirs.Tree || other.Size <= ours.Size {
			continue
		}
		e.Root, e.Proof, err = tree.past(ours.Size, theirs.Size)
		if err == nil && v.roots.contradict(ours, other, e) == nil {
			proven[i] = e
		}
	}
	v.evidence = proven
	return nil
}

// history is a tree of which every node is remembered that a proof may need.
type history struct {
	r     *compact.Range
	nodes map[compact.NodeID][]byte
}

func newHistory() *history { return &history{emptyRange(), map[compact.NodeID][]byte{}} }

// history is the view's own tree, from the edge on.
func (v *View) history() (*history, error) {
	r, err := rangeOf(v.edgeSize, v.edge)
	if err != nil {
		return nil, err
	}
	t := &history{r, map[compact.NodeID][]byte{}}
	for i, id := range compact.RangeNodes(0, v.edgeSize, nil) {
		t.nodes[id] = bytes.Clone(r.Hashes()[i])
	}
	for _, l := range v.leaves {
		t.add(l)
	}
	return t, nil
}

func (t *history) add(l Hash) {
	if err := t.r.Append(l[:], func(id compact.NodeID, hash []byte) { t.nodes[id] = bytes.Clone(hash) }); err != nil {
		panic(err) // a range that starts at 0 takes any leaf
	}
}

// past returns the hash that the tree of size had when it was of the size then, and
// the proof of that.
func (t *history) past(then, size uint64) (root []byte, hashes [][]byte, err error) {
	whole := make([][]byte, 0, 64)
	for _, id := range compact.RangeNodes(0, then, nil) {
		whole = append(whole, t.nodes[id])
	}
	old, err := rangeFactory.NewRange(0, then, whole)
	if err != nil {
		return nil, nil, err
	}
	if root, err = old.GetRootHash(nil); err != nil {
		return nil, nil, err
	}
	nodes, err := proof.Consistency(then, size)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range nodes.IDs {
		h, ok := t.nodes[id]
		if !ok {
			return nil, nil, errors.New("our history does not reach back so far")
		}
		hashes = append(hashes, bytes.Clone(h))
	}
	hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	return root, hashes, err
}

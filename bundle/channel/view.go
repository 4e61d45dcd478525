package channel

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
)

// Verdict is what a head means to one reader.
type Verdict int

// The verdicts of View.Consider.
const (
	// Stale: a smaller tree that our history contains. The path lags; innocent.
	Stale Verdict = iota + 1
	// Same: the head we hold, not newer in time either.
	Same
	// Heartbeat: the same tree, signed later or seen by more witnesses. Held now.
	Heartbeat
	// Newer: a larger tree that continues ours. Held now.
	Newer
	// Provisional: a larger tree; whether it continues ours needs the leaves
	// between (View.Fold). Not held yet, and nothing of it is to be shown.
	Provisional
	// Fork: signed, and contradicts what we hold. Evidence is kept.
	Fork
	// Overruled: a Fork that enough witnesses have seen, while not enough have seen
	// what we held. Held now, in its place; evidence is kept, and what came of the
	// other history is to go (View.Withdrawn).
	Overruled
)

func (v Verdict) String() string {
	switch v {
	case Stale:
		return "stale"
	case Same:
		return "same"
	case Heartbeat:
		return "heartbeat"
	case Newer:
		return "newer"
	case Provisional:
		return "provisional"
	case Fork:
		return "fork"
	case Overruled:
		return "overruled"
	}
	return "unknown"
}

// ErrFork means that two signed heads contradict each other.
var ErrFork = errors.New("the channel's history was forked")

// ErrBegunAnew means that a head of a new generation of the log does not continue
// the history held, which is of an older one: see View.Replace.
var ErrBegunAnew = errors.New("the channel's log was begun anew, from another history")

// ErrOverruled is an ErrFork after which the head is held all the same; see
// Overruled.
var ErrOverruled = fmt.Errorf("%w, and more witnesses have seen the other branch", ErrFork)

const (
	// maxEvidence bounds the evidence of forks, and that of older generations.
	maxEvidence = 8
	// maxFold bounds how many leaves one Fold takes: 300 years at ten a day.
	maxFold = 1 << 20
	// maxLeaves bounds the leaf hashes that are remembered, so that what is stored stays
	// below library.MaxState however long a log a thief of the key leads a reader along;
	// of more the last keptLeaves stay. 70 years at ten a day.
	maxLeaves, keptLeaves = 1 << 18, 1 << 17
)

// View is all that a reader remembers about a channel: the invite, the root
// notes, the highest head and the log since the reader joined, the grant and
// every epoch key it ever gave. It decides what is news. It isn't safe for use
// from several goroutines at once.
type View struct {
	invite *Invite
	roots  *Roots
	head   *Head
	// edgeSize and edge are the tree as it stood before the first head we
	// accepted (nearest hash first), leaves every leaf hash since. head may be nil
	// though they are known: its end was cut off (generation.go).
	edgeSize uint64
	edge     []Hash
	leaves   []Hash
	// seen is a head by which to count who has seen the tree of head; nil, or of
	// another tree, if head is the best there is.
	seen *Head

	serial   uint64
	places   Places
	epochs   map[uint64]EpochKey
	evidence []Evidence
	// The first settled pieces of evidence are of generations that have ended.
	settled int
	// withdrawn, if not nil, is the first edition that counts for nothing any more.
	withdrawn *uint64
}

// NewView starts from an invite: nothing is known yet but where to ask.
func NewView(invite *Invite) *View {
	return &View{invite: invite, roots: &Roots{ch: invite.Channel}, epochs: map[uint64]EpochKey{}}
}

// Channel is the channel's ID.
func (v *View) Channel() ID { return v.invite.Channel }

// Invite is what the view began with, or was renewed with; don't change it.
func (v *View) Invite() *Invite { return v.invite }

// Roots is the chain of root notes held, of version 0 before the first.
func (v *View) Roots() *Roots { return v.roots }

// Head is the highest head held, nil before the first.
func (v *View) Head() *Head { return v.head }

// Size is the number of leaves of the history held, 0 before the first head: that
// of the head held, if there is one.
func (v *View) Size() uint64 { return v.edgeSize + uint64(len(v.leaves)) }

// FirstTime reports whether nothing but the newest head is known, so that only
// its inclusion, not its history, was checked.
func (v *View) FirstTime() bool { return len(v.leaves) <= 1 }

// EpochKey returns the key of an epoch, if a grant gave it.
func (v *View) EpochKey(epoch uint64) (EpochKey, bool) {
	k, ok := v.epochs[epoch]
	return k, ok
}

// Places are the ways in, those of the newest grant before those of the invite.
func (v *View) Places() Places {
	return v.places.and(v.invite.Places, func(Places) bool { return true })
}

// ExtendRoots verifies and holds the next root note. A note of a version that
// is held already is ignored. One that begins a new generation of the log drops what
// it leaves out; see Withdrawn.
func (v *View) ExtendRoots(msg []byte) error {
	n, _, err := parseRootNote(msg)
	if err != nil {
		return err
	}
	if n.Version <= v.roots.Version() {
		return nil
	}
	next, err := v.roots.Extend(msg)
	if err != nil {
		return err
	}
	before := v.roots.begun()
	v.roots = next
	if log := next.begun(); log.Generation > before.Generation {
		v.cut(log)
	}
	return nil
}

// Clone returns a copy: what is done to it changes nothing in v.
func (v *View) Clone() *View {
	c := *v // its other slices are replaced, never written to
	c.epochs, c.evidence = maps.Clone(v.epochs), slices.Clip(v.evidence)
	return &c
}

// Check verifies a head against the root notes held; see Roots.Head.
// ErrNewerRoots asks for the next root note, ErrOldRoots tells of a path that
// lags.
func (v *View) Check(raw []byte) (*Head, error) {
	if v.roots.Version() == 0 {
		return nil, ErrNewerRoots
	}
	return v.roots.Head(raw)
}

// Consider decides what a checked head means and holds it if it is Newer or a
// Heartbeat. Time never refuses a head.
func (v *View) Consider(h *Head) Verdict {
	if h.Channel != v.Channel() || h.Generation < v.roots.begun().Generation {
		return Stale
	}
	size := v.Size()
	if size == 0 {
		v.edgeSize, v.edge = h.Edition, h.Path
		v.leaves = []Hash{h.Leaf.Hash()}
		v.head = h
		return Newer
	}
	if h.Size > size {
		if h.Edition > size {
			return Provisional
		}
		switch err := v.Fold(h, nil); {
		case errors.Is(err, ErrBegunAnew):
			return Provisional
		case errors.Is(err, ErrOverruled):
			return Overruled
		case err != nil:
			return Fork
		}
		return Newer
	}
	same := v.head != nil && h.Size == size && h.Tree == v.head.Tree // most are: spares hashing all of it
	ours, known := h.Tree, true
	if !same {
		ours, known = v.treeAt(h.Size)
	}
	switch {
	case known && ours != h.Tree:
		return v.contradicted(h)
	case h.Size < size:
		return Stale
	case v.head == nil:
		v.head = h
		return Newer
	}
	more, old := v.attest(h), v.head
	switch {
	case h.Generation > old.Generation, h.Time.After(old.Time), more && h.Time.Equal(old.Time):
		v.head = h
		v.attest(old)
		return Heartbeat
	case more:
		return Heartbeat
	}
	return Same
}

// Fold holds a Provisional head once the leaf hashes of [Size, h.Edition) are
// known (from the front page or the log layer). ErrFork if h does not continue
// our history; nothing is changed then but the evidence, unless it is ErrOverruled.
// ErrBegunAnew if that may be since our history is of an older generation than h;
// nothing is changed then.
func (v *View) Fold(h *Head, between []Hash) error {
	size, begun := v.Size(), v.roots.begun()
	if h.Generation < begun.Generation {
		return ErrOldRoots
	}
	if size == 0 || h.Size <= size {
		return fmt.Errorf("%w: nothing to fold", ErrHead)
	}
	if uint64(len(between)) != h.Edition-size || len(between) > maxFold {
		return fmt.Errorf("%w: %d leaves given for %d", ErrHead, len(between), h.Edition-size)
	}
	grown := append(slices.Clone(v.leaves), between...)
	grown = append(grown, h.Leaf.Hash())
	r, err := rangeOf(v.edgeSize, v.edge)
	if err != nil {
		return err
	}
	// What is held reaches up to where h's generation began, or the new part has to
	// have that tree on its way.
	older, began := begun.Base > size, true
	for _, l := range grown {
		appendHash(r, l)
		if older && r.End() == begun.Base {
			began = rootOf(r) == begun.BaseHash
		}
	}
	switch {
	case began && rootOf(r) == h.Tree:
	case older:
		return ErrBegunAnew
	case v.contradicted(h) == Overruled:
		return ErrOverruled
	default:
		return ErrFork
	}
	v.leaves, v.head = grown, h
	return v.forgetOldest()
}

// forgetOldest moves the edge forward if too many leaves are remembered: what lies before
// it is then known as to who joined there.
func (v *View) forgetOldest() error {
	if len(v.leaves) <= maxLeaves {
		return nil
	}
	r, err := rangeOf(v.edgeSize, v.edge)
	if err != nil {
		return err
	}
	old := len(v.leaves) - keptLeaves
	for _, l := range v.leaves[:old] {
		appendHash(r, l)
	}
	v.edgeSize, v.edge, v.leaves = r.End(), edgeOf(r), slices.Clone(v.leaves[old:])
	return nil
}

// treeAt is our tree hash at a smaller size; unknown before we joined.
func (v *View) treeAt(size uint64) (Hash, bool) {
	if size < v.edgeSize || size > v.edgeSize+uint64(len(v.leaves)) || size == 0 {
		return Hash{}, false
	}
	r, err := rangeOf(v.edgeSize, v.edge)
	if err != nil {
		return Hash{}, false
	}
	for _, l := range v.leaves[:size-v.edgeSize] {
		appendHash(r, l)
	}
	return rootOf(r), true
}

func rootOf(r *compact.Range) Hash {
	root, err := r.GetRootHash(nil)
	if err != nil || len(root) != len(Hash{}) {
		return Hash{}
	}
	return Hash(root)
}

// SetGrant opens a grant file and takes what it gives. An older serial is
// ignored; epoch keys once given are kept.
func (v *View) SetGrant(file []byte) error {
	if v.roots.Version() == 0 {
		return ErrNewerRoots
	}
	g, err := v.roots.OpenGrant(file, v.invite.Seed)
	if err != nil {
		return err
	}
	if g.Serial < v.serial {
		return nil
	}
	v.serial, v.places = g.Serial, g.Places
	for _, e := range g.Epochs {
		v.epochs[e.Number] = e.Key
	}
	return nil
}

// Now is the reader's best idea of the time: the clock, but never before the
// newest time that was signed.
func (v *View) Now(clock time.Time) time.Time {
	if v.head != nil && clock.Before(v.head.Time) {
		return v.head.Time
	}
	return clock
}

// viewJSON is the stored form. It is written sealed (mirror/library) and never
// leaves the device.
type viewJSON struct {
	V        int                 `json:"v"`
	Invite   string              `json:"invite"`
	Roots    [][]byte            `json:"roots"`
	Head     []byte              `json:"head,omitempty"`
	Seen     []byte              `json:"seen,omitempty"`
	EdgeSize uint64              `json:"edge_size"`
	Edge     []byte              `json:"edge,omitempty"`
	Leaves   []byte              `json:"leaves,omitempty"`
	Serial   uint64              `json:"serial"`
	Grant    string              `json:"grant"`
	Epochs   map[uint64]EpochKey `json:"epochs"`
	Evidence []Evidence          `json:"evidence,omitempty"`
	Settled  int                 `json:"settled,omitempty"`
}

// Marshal returns the view for storage.
func (v *View) Marshal() ([]byte, error) {
	g := Grant{Channel: v.Channel(), Serial: v.serial, Places: v.places}
	j := viewJSON{
		V: 1, Invite: v.invite.String(), Roots: v.roots.notes, EdgeSize: v.edgeSize,
		Edge: joinHashes(v.edge), Leaves: joinHashes(v.leaves), Serial: v.serial,
		Grant: string(g.text()), Epochs: maps.Clone(v.epochs), Evidence: v.evidence, Settled: v.settled,
	}
	if v.head != nil {
		j.Head = v.head.Text()
		if v.seen != nil && v.seen.sameTree(v.head) {
			j.Seen = v.seen.Text()
		}
	}
	return json.Marshal(j)
}

// ParseView is the inverse of Marshal. What was signed is verified again.
func ParseView(b []byte) (*View, error) {
	var j viewJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("stored view: %w", err)
	}
	if j.V != 1 {
		return nil, fmt.Errorf("stored view: unknown version %d", j.V)
	}
	invite, err := ParseInvite(j.Invite)
	if err != nil {
		return nil, fmt.Errorf("stored view: %w", err)
	}
	g, err := parseGrant([]byte(j.Grant))
	if err != nil {
		return nil, fmt.Errorf("stored view: %w", err)
	}
	v := NewView(invite)
	v.edgeSize, v.serial, v.places, v.evidence = j.EdgeSize, j.Serial, g.Places, j.Evidence
	v.settled = min(max(j.Settled, 0), len(j.Evidence))
	if j.Epochs != nil {
		v.epochs = j.Epochs
	}
	if v.edge, err = splitHashes(j.Edge); err != nil {
		return nil, err
	}
	if v.leaves, err = splitHashes(j.Leaves); err != nil {
		return nil, err
	}
	if len(j.Roots) > 0 {
		if v.roots, err = ParseRoots(invite.Channel, j.Roots); err != nil {
			return nil, fmt.Errorf("stored view: %w", err)
		}
	}
	if len(j.Head) > 0 {
		if v.roots.last == nil {
			return nil, errors.New("stored view: a head without a root note")
		}
		// Its log key may have been replaced since, or its time be over: the next head
		// that is taken is signed by the new one, or in time.
		h, err := v.roots.checkHeld(j.Head)
		if err != nil {
			return nil, fmt.Errorf("stored view: %w", err)
		}
		v.head = h
		if tree, ok := v.treeAt(h.Size); !ok || tree != h.Tree {
			return nil, errors.New("stored view: history and head don't agree")
		}
	}
	if len(j.Seen) > 0 && v.head != nil {
		v.seen, _ = v.roots.checkHeld(j.Seen) // it only counts witnesses
	}
	return v, nil
}

func joinHashes(hs []Hash) []byte {
	if len(hs) == 0 {
		return nil
	}
	b := make([]byte, 0, len(hs)*len(Hash{}))
	for _, h := range hs {
		b = append(b, h[:]...)
	}
	return b
}

func splitHashes(b []byte) ([]Hash, error) {
	if len(b)%len(Hash{}) != 0 {
		return nil, errors.New("hashes cut short")
	}
	var hs []Hash
	for c := range slices.Chunk(b, len(Hash{})) {
		hs = append(hs, Hash(c))
	}
	return hs, nil
}

// SplitHashes reads hashes as the log layer and the front page hold them: 32
// bytes each.
func SplitHashes(b []byte) ([]Hash, error) { return splitHashes(b) }

// JoinHashes is the inverse of SplitHashes.
func JoinHashes(hs []Hash) []byte { return joinHashes(hs) }

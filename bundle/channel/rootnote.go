package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

// MaxRootNote is the largest signed root note in bytes.
const MaxRootNote = 8192

// rootKeyName is the signed-note name of every root key: nothing in a root note
// names the channel, and key IDs tell the keys apart.
const rootKeyName = "tamizdat/v1/root"

const (
	maxRootKeys  = 16
	maxWitnesses = 16
)

// ErrRootNote is wrapped by every refusal of a root note.
var ErrRootNote = errors.New("root note refused")

// RootNote is the offline-signed statement of a channel's keys, and of keys
// only. Version N+1 is signed by the thresholds of N and of N+1.
type RootNote struct {
	// Version counts from 1.
	Version uint64
	// Channel is zero in version 1, whose text hashes to the channel ID.
	Channel ID
	// Previous is the SHA-256 of the previous version's text, zero in version 1.
	Previous [32]byte
	// Threshold of RootKeys must sign.
	Threshold int
	RootKeys  []ed25519.PublicKey
	Log       LogKey
	// Quorum of Witnesses should have cosigned a head (0: none asked for).
	Quorum    int
	Witnesses []Witness
	// IPNS is the key of the channel's IPNS name.
	IPNS ed25519.PublicKey
	// Moved is the channel that this one became, zero if it did not move.
	Moved ID
}

// LogKey is the key that signs heads and grants.
type LogKey struct {
	// Generation counts from 0; a stolen log key is answered by the next one.
	Generation uint64
	Key        ed25519.PublicKey
	// NotAfter bounds the time of heads signed with this key; zero for no bound.
	NotAfter time.Time
	// Base and BaseHash are the size and hash of the tree that this generation
	// continues: what older generations said beyond it counts for nothing. Both are
	// zero for generation 0, and for one that continues nothing.
	Base     uint64
	BaseHash [32]byte
}

// Witness is a cosigner that the channel's readers trust to see one history.
type Witness struct {
	// Name is the witness's signed-note key name.
	Name string
	Key  ed25519.PublicKey
}

// Origin is the checkpoint origin of the channel's log in one generation, and
// the name of the key that signs it.
func Origin(ch ID, generation uint64) string {
	return fmt.Sprintf("tamizdat/v1/log/%s/%d", ch, generation)
}

// Text is the exact text that root keys sign.
func (n *RootNote) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tamizdat/v1/root\nversion %d\n", n.Version)
	fmt.Fprintf(&b, "channel %s\n", idOrDash(n.Channel))
	fmt.Fprintf(&b, "previous %s\n", hashOrDash(n.Previous))
	fmt.Fprintf(&b, "threshold %d\n", n.Threshold)
	for _, k := range n.RootKeys {
		fmt.Fprintf(&b, "root ed25519 %s\n", b64(k))
	}
	var notAfter int64
	if !n.Log.NotAfter.IsZero() {
		notAfter = n.Log.NotAfter.Unix()
	}
	fmt.Fprintf(&b, "log %d ed25519 %s %d %d %s\n", n.Log.Generation, b64(n.Log.Key),
		notAfter, n.Log.Base, hashOrDash(n.Log.BaseHash))
	fmt.Fprintf(&b, "quorum %d\n", n.Quorum)
	for _, w := range n.Witnesses {
		fmt.Fprintf(&b, "witness %s ed25519 %s\n", w.Name, b64(w.Key))
	}
	fmt.Fprintf(&b, "ipns ed25519 %s\nmoved %s\n", b64(n.IPNS), idOrDash(n.Moved))
	return b.Bytes()
}

// Sign returns the signed note.
func (n *RootNote) Sign(keys ...ed25519.PrivateKey) ([]byte, error) {
	text := n.Text()
	sigs := make([]sigLine, len(keys))
	for i, k := range keys {
		sigs[i] = signLine(text, rootKeyName, k)
	}
	msg := formatNote(text, sigs...)
	if _, _, err := parseRootNote(msg); err != nil {
		return nil, err
	}
	return msg, nil
}

// parseRootNote parses strictly and checks what needs no other note; it
// verifies no signature.
func parseRootNote(msg []byte) (*RootNote, []sigLine, error) {
	refuse := func(err error) (*RootNote, []sigLine, error) {
		return nil, nil, fmt.Errorf("%w: %w", ErrRootNote, err)
	}
	if len(msg) > MaxRootNote {
		return refuse(fmt.Errorf("larger than %d bytes", MaxRootNote))
	}
	text, sigs, err := parseNote(msg)
	if err != nil {
		return refuse(err)
	}
	n, err := parseRootText(text)
	return n, sigs, err
}

// parseRootText is parseRootNote of the text alone.
func parseRootText(text []byte) (*RootNote, error) {
	refuse := func(err error) (*RootNote, error) { return nil, fmt.Errorf("%w: %w", ErrRootNote, err) }
	n, l := &RootNote{}, &lines{rest: string(text)}
	l.exact("tamizdat/v1/root")
	n.Version = l.uint(l.fields("version", 1)[0])
	n.Channel = l.idOrDash(l.fields("channel", 1)[0])
	n.Previous = l.hashOrDash(l.fields("previous", 1)[0])
	n.Threshold = int(l.uint(l.fields("threshold", 1)[0]))
	for l.peek("root") && len(n.RootKeys) < maxRootKeys {
		n.RootKeys = append(n.RootKeys, l.key(l.fields("root", 2)))
	}
	f := l.fields("log", 6)
	n.Log.Generation = l.uint(f[0])
	n.Log.Key = l.key(f[1:3])
	if t := l.time(f[3]); t.Unix() > 0 {
		n.Log.NotAfter = t
	}
	n.Log.Base = l.uint(f[4])
	n.Log.BaseHash = l.hashOrDash(f[5])
	n.Quorum = int(l.uint(l.fields("quorum", 1)[0]))
	for l.peek("witness") && len(n.Witnesses) < maxWitnesses {
		f := l.fields("witness", 3)
		n.Witnesses = append(n.Witnesses, Witness{f[0], l.key(f[1:])})
	}
	n.IPNS = l.key(l.fields("ipns", 2))
	n.Moved = l.idOrDash(l.fields("moved", 1)[0])
	switch {
	case l.err != nil:
		return refuse(l.err)
	case !bytes.Equal(n.Text(), text):
		return refuse(errors.New("not in canonical form"))
	case n.Version < 1:
		return refuse(errors.New("version 0"))
	case (n.Version == 1) != (n.Channel == ID{}) || (n.Version == 1) != (n.Previous == [32]byte{}):
		return refuse(errors.New("only version 1 is without channel and previous note"))
	case (n.Log.Base == 0) != (n.Log.BaseHash == [32]byte{}):
		return refuse(errors.New("base size and base hash don't go together"))
	case n.Log.Generation == 0 && n.Log.Base > 0:
		return refuse(errors.New("the first generation of the log continues nothing"))
	case n.Version == 1 && n.Log.Generation > 0:
		return refuse(errors.New("version 1 is of the log's first generation"))
	case max(n.Log.Generation, n.Log.Base) > maxNumber:
		return refuse(errors.New("number out of range"))
	case n.Threshold < 1 || n.Threshold > len(n.RootKeys):
		return refuse(errors.New("threshold out of range"))
	case n.Quorum > len(n.Witnesses):
		return refuse(errors.New("quorum out of range"))
	case slices.ContainsFunc(n.Witnesses, func(w Witness) bool { return !validWitnessName(w.Name) }):
		return refuse(errors.New("malformed witness name"))
	}
	// One role a key: a key in two places would let one theft do two things,
	// and a witness listed twice would count twice.
	seen := map[string]bool{}
	for _, k := range n.allKeys() {
		if seen[string(k)] {
			return refuse(errors.New("one key in two places"))
		}
		seen[string(k)] = true
	}
	return n, nil
}

// Hash is the SHA-256 of the note's text, by which the next one names it.
func (n *RootNote) Hash() [32]byte { return sha256.Sum256(n.Text()) }

func (n *RootNote) allKeys() []ed25519.PublicKey {
	keys := append([]ed25519.PublicKey{n.Log.Key, n.IPNS}, n.RootKeys...)
	for _, w := range n.Witnesses {
		keys = append(keys, w.Key)
	}
	return keys
}

// signedBy reports whether at least the threshold of the root keys of by
// signed text.
func (n *RootNote) signedBy(by *RootNote, text []byte, sigs []sigLine) bool {
	return validSigs(by.RootKeys, text, sigs) >= by.Threshold
}

// validSigs counts those of some distinct root keys that have signed text.
func validSigs(keys []ed25519.PublicKey, text []byte, sigs []sigLine) (valid int) {
	for _, k := range keys {
		if slices.ContainsFunc(sigs, func(s sigLine) bool { return s.verifiedBy(text, rootKeyName, k) }) {
			valid++
		}
	}
	return valid
}

// Roots is a verified chain of root notes 1..n of one channel. It is immutable.
type Roots struct {
	ch    ID
	notes [][]byte
	last  *RootNote
}

// FoundedBy is the ID of the channel that a signed root note founds if it is a
// valid one of version 1; ok is false if it isn't a note at all. ParseRoots
// checks the rest.
func FoundedBy(note []byte) (id ID, ok bool) {
	i := bytes.LastIndex(note, []byte(noteSeparator))
	if i < 0 {
		return ID{}, false
	}
	return IDOf(note[:i+1]), true
}

// ParseRoots verifies root notes in version order, from 1. Its errors wrap
// ErrRootNote.
func ParseRoots(ch ID, notes [][]byte) (*Roots, error) {
	r := &Roots{ch: ch}
	for _, msg := range notes {
		next, err := r.Extend(msg)
		if err != nil {
			return nil, err
		}
		r = next
	}
	if r.last == nil {
		return nil, fmt.Errorf("%w: none given", ErrRootNote)
	}
	return r, nil
}

// Extend verifies the next version and returns the longer chain.
func (r *Roots) Extend(msg []byte) (*Roots, error) {
	n, sigs, err := parseRootNote(msg)
	if err != nil {
		return nil, err
	}
	text := n.Text()
	if r.last == nil {
		if n.Version != 1 || IDOf(text) != r.ch {
			return nil, fmt.Errorf("%w: it founds another channel", ErrRootNote)
		}
	} else {
		prev := r.last
		switch {
		case n.Version != prev.Version+1:
			return nil, fmt.Errorf("%w: version %d does not follow %d", ErrRootNote, n.Version, prev.Version)
		case n.Channel != r.ch:
			return nil, fmt.Errorf("%w: it belongs to another channel", ErrRootNote)
		case n.Previous != prev.Hash():
			return nil, fmt.Errorf("%w: it follows another note", ErrRootNote)
		case n.Log.Generation < prev.Log.Generation || n.Log.Generation > prev.Log.Generation+1:
			return nil, fmt.Errorf("%w: log generation jumps", ErrRootNote)
		case n.Log.Generation == prev.Log.Generation && !n.Log.equal(prev.Log):
			return nil, fmt.Errorf("%w: log key changed without a new generation", ErrRootNote)
		case !n.signedBy(prev, text, sigs):
			return nil, fmt.Errorf("%w: not signed by the previous threshold", ErrRootNote)
		}
	}
	if !n.signedBy(n, text, sigs) {
		return nil, fmt.Errorf("%w: not signed by its own threshold", ErrRootNote)
	}
	notes := append(append([][]byte{}, r.notes...), bytes.Clone(msg))
	return &Roots{ch: r.ch, notes: notes, last: n}, nil
}

// equal compares all but NotAfter, which a later note may extend.
func (k LogKey) equal(o LogKey) bool {
	return k.Generation == o.Generation && k.Key.Equal(o.Key) && k.Base == o.Base && k.BaseHash == o.BaseHash
}

// Channel is the channel that the notes belong to.
func (r *Roots) Channel() ID { return r.ch }

// Version is the highest version, 0 for an empty chain.
func (r *Roots) Version() uint64 { return uint64(len(r.notes)) }

// Notes are the signed notes in version order; don't change them.
func (r *Roots) Notes() [][]byte { return r.notes }

// Last is the highest note; don't change it.
func (r *Roots) Last() *RootNote { return r.last }

// logKey is the log key of a generation, as the last note of that generation
// names it.
func (r *Roots) logKey(generation uint64) (LogKey, error) {
	unknown := errors.New("signed by a log key that no root note names")
	switch last := r.last.Log; {
	case generation == last.Generation:
		return last, nil
	case generation > last.Generation:
		return LogKey{}, unknown
	}
	for _, msg := range slices.Backward(r.notes) {
		n, _, err := parseRootNote(msg) // verified by Extend
		if err != nil {
			return LogKey{}, err
		}
		if n.Log.Generation == generation {
			return n.Log, nil
		}
	}
	return LogKey{}, unknown
}

// begun is the log key in force, whose Base says where its generation began.
func (r *Roots) begun() LogKey {
	if r.last == nil {
		return LogKey{}
	}
	return r.last.Log
}

// disowned reports whether a later generation of the log has left out what h, a
// checked head, states: it begins with a shorter tree, or with another one of h's
// size.
func (r *Roots) disowned(h *Head) bool {
	for _, msg := range slices.Backward(r.notes) {
		n, _, err := parseRootNote(msg) // verified by Extend
		if err != nil || n.Log.Generation <= h.Generation {
			return false
		}
		if n.Log.Base < h.Size || n.Log.Base == h.Size && n.Log.BaseHash != h.Tree {
			return true
		}
	}
	return false
}

// Kept is how many editions that the log key of a generation has signed count still,
// as far as the root notes say: what the smallest of the trees has that later
// generations began with. It is math.MaxUint64 if there is no later one.
func (r *Roots) Kept(generation uint64) uint64 {
	kept := uint64(math.MaxUint64)
	for _, msg := range slices.Backward(r.notes) {
		n, _, err := parseRootNote(msg) // verified by Extend
		if err != nil || n.Log.Generation <= generation {
			break
		}
		kept = min(kept, n.Log.Base)
	}
	return kept
}

// IPNSKey is the key of the channel's IPNS name.
func (r *Roots) IPNSKey() ed25519.PublicKey { return r.last.IPNS }

// IPNSName is the channel's IPNS name as it stands in /ipns/<name>: the key as a
// CIDv1 of codec libp2p-key in base36 (IPNS specification, section "IPNS Name").
func (r *Roots) IPNSName() string {
	// The key in libp2p's protobuf, of 36 bytes: Ed25519 is short enough for a
	// multihash that is no hash.
	mh, err := multihash.Sum(append([]byte{8, 1, 18, ed25519.PublicKeySize}, r.last.IPNS...), multihash.IDENTITY, -1)
	if err != nil {
		panic(err) // of a fixed length
	}
	name, err := cid.NewCidV1(cid.Libp2pKey, mh).StringOfBase(multibase.Base36)
	if err != nil {
		panic(err) // a base that there is
	}
	return name
}

func idOrDash(id ID) string {
	if id == (ID{}) {
		return "-"
	}
	return id.String()
}

func hashOrDash(h [32]byte) string {
	if h == ([32]byte{}) {
		return "-"
	}
	return b64(h[:])
}

func (l *lines) idOrDash(s string) ID {
	if s == "-" {
		return ID{}
	}
	return l.id(s)
}

func (l *lines) hashOrDash(s string) [32]byte {
	if s == "-" {
		return [32]byte{}
	}
	return [32]byte(l.bytes32(s))
}

// key reads "ed25519 BASE64".
func (l *lines) key(f []string) ed25519.PublicKey {
	if l.err == nil && strings.TrimSpace(f[0]) != "ed25519" {
		l.fail("unknown key algorithm")
	}
	return ed25519.PublicKey(l.bytes32(f[1]))
}

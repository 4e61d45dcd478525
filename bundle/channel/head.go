package channel

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"tamizdat/bundle/record"
)

// maxNumber bounds what a head counts, the same in both forms. A log file of
// this many editions takes 128 GiB: far past the largest layer.
const maxNumber = 1<<32 - 1

// MaxHead is the largest head in text form, in bytes.
const MaxHead = 4096

// ErrHead is wrapped by every refusal of a head.
var ErrHead = errors.New("head refused")

// ErrNewerRoots means that a head was made under a root note that the chain at
// hand does not hold yet: fetch the next version, then check again.
var ErrNewerRoots = errors.New("head needs a newer root note")

// ErrOldRoots means that a head is in order but signed by a log key that a later
// root note has replaced. Whoever shows it has not heard of that note: it lags,
// and tells no lie. What such a head says counts for nothing, since a replaced
// key may be a stolen one.
var ErrOldRoots = errors.New("head is signed by a log key that was replaced")

// Head is the verified statement of a channel's newest edition: the last leaf
// of its log, the proof that it is in the tree, and the signed checkpoint.
// Only [Roots.Head] and [SignHead] make one.
type Head struct {
	Leaf
	// Size is the number of leaves, Edition+1.
	Size uint64
	// Tree is the log's hash at Size.
	Tree Hash
	// Time is when the head was signed; a heartbeat carries a newer one.
	Time time.Time
	// Generation of the log key that signed it.
	Generation uint64
	// Path is the audit path of the last leaf, nearest sibling first: also the
	// right edge of the tree of the leaves before it.
	Path []Hash

	sig sigLine
	// cosig are cosignatures, none of them verified before Roots.Head has done it.
	cosig []sigLine
}

// SignHead states leaf as the newest edition. path is the right edge of the
// tree of the leaves before it (see Log.Edge).
func SignHead(leaf Leaf, path []Hash, generation uint64, at time.Time, key ed25519.PrivateKey) (*Head, error) {
	if len(path) != bits.OnesCount64(leaf.Edition) {
		return nil, fmt.Errorf("%w: edge of %d hashes for %d leaves", ErrHead, len(path), leaf.Edition)
	}
	h := &Head{
		Leaf: leaf, Size: leaf.Edition + 1, Time: at.UTC().Truncate(time.Second),
		Generation: generation, Path: path,
	}
	h.Tree = foldPath(leaf.Hash(), path)
	h.sig = signLine(h.checkpointText(), Origin(leaf.Channel, generation), key)
	return h, nil
}

// foldPath is the tree hash of n+1 leaves whose last one has this hash and
// audit path: the last leaf is a right child all the way up.
func foldPath(leaf Hash, path []Hash) Hash {
	acc := leaf
	for _, left := range path {
		acc = Hash(rfc6962.DefaultHasher.HashChildren(left[:], acc[:]))
	}
	return acc
}

// TreeHash is the log's hash over leaves, in order (RFC 6962, section 2.1): what
// a head of that many leaves states as its Tree. It keeps a few hashes only,
// however many there are.
func TreeHash(leaves iter.Seq[Hash]) Hash {
	r := emptyRange()
	for h := range leaves {
		appendHash(r, h)
	}
	root, err := r.GetRootHash(nil)
	if err != nil || len(root) == 0 {
		return Hash(rfc6962.DefaultHasher.EmptyRoot()) // a range that starts at 0 has a root, unless it is empty
	}
	return Hash(root)
}

// Newer reports whether h takes the place of o, another checked head of the channel:
// it is of a later generation of the log, of more editions, or signed later.
func (h *Head) Newer(o *Head) bool {
	return cmp.Or(cmp.Compare(h.Generation, o.Generation), cmp.Compare(h.Size, o.Size), h.Time.Compare(o.Time)) > 0
}

func (h *Head) checkpointText() []byte {
	c := log.Checkpoint{Origin: Origin(h.Channel, h.Generation), Size: h.Size, Hash: h.Tree[:]}
	return fmt.Appendf(c.Marshal(), "time %d\n", h.Time.Unix())
}

// Text is the head as a C2SP tlog-proof (c2sp.org/tlog-proof@v1) whose extra
// data is the leaf, at most MaxHead bytes.
func (h *Head) Text() []byte {
	p := proof.TLogProof{
		Index: h.Edition, Hashes: h.Path, ExtraData: h.Leaf.Text(),
		Checkpoint: formatNote(h.checkpointText(), append([]sigLine{h.sig}, h.cosig...)...),
	}
	return p.Marshal()
}

const compactVersion = 1

const (
	// MaxCompact is the largest head in compact form, in bytes: one DNS record.
	// Cosignatures that don't fit are left out.
	MaxCompact = 1040
	// compactCosig is what one takes there: key ID, time, signature.
	compactCosig = 4 + cosigLen
	// nobody is the name of a cosigner whom no root note at hand names.
	nobody = "?"
)

// Compact is the short form for one DNS record: uvarints, then raw hashes; the
// channel ID, the tree hash and the names of witnesses are left out, since the
// receiver derives them.
func (h *Head) Compact() []byte {
	b := []byte{compactVersion}
	for _, v := range []uint64{
		h.Edition, h.Epoch, h.RootVersion, h.Generation,
		uint64(h.Date.Unix()), uint64(h.Time.Unix()),
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = append(b, h.Root.Hash()[2:]...)
	b = append(b, h.Front.Large[:]...)
	b = append(b, h.Front.Small[:]...)
	b = append(b, h.Content[:]...)
	for _, p := range h.Path {
		b = append(b, p[:]...)
	}
	b = append(b, h.sig.sig...)
	for _, s := range h.cosig {
		if len(s.sig) == cosigLen && len(b)+compactCosig <= MaxCompact {
			b = append(binary.BigEndian.AppendUint32(b, s.id), s.sig...)
		}
	}
	return b
}

// Claim is what a head in compact form says of itself, unchecked.
type Claim struct {
	Size, Generation uint64
	Root             cid.Cid
}

// ClaimOf reads a head in compact form without checking it, for a path that carries one
// beside something else. false: it has another form, and the caller's check shall say
// what is wrong with it.
func ClaimOf(compact []byte) (c Claim, ok bool) {
	if len(compact) == 0 || compact[0] != compactVersion {
		return c, false
	}
	var numbers [6]uint64 // edition, epoch, root note, generation, date, time
	rest := compact[1:]
	for i := range numbers {
		var n int
		if numbers[i], n = binary.Uvarint(rest); n <= 0 {
			return c, false
		}
		rest = rest[n:]
	}
	if len(rest) < sha256.Size || numbers[0] == math.MaxUint64 {
		return c, false
	}
	c.Root, ok = compactRoot(rest[:sha256.Size])
	c.Size, c.Generation = numbers[0]+1, numbers[3]
	return c, ok
}

// compactRoot is the root CID of which the compact form has the digest alone.
func compactRoot(digest []byte) (cid.Cid, bool) {
	mh, err := multihash.Encode(digest, multihash.SHA2_256)
	return cid.NewCidV1(cid.DagProtobuf, mh), err == nil
}

// Head checks a head in text or compact form, in the order of FORMAT.md: size,
// strict form, origin and key of the highest root note, log signature, and
// that the leaf is the tree's last. Cosignatures come last and decide nothing: of
// them stays what is valid. It needs nothing of a reader's memory;
// whether the head is news is View.Consider's to say. Errors wrap ErrHead,
// ErrNewerRoots or, for one that passes all checks under the log key of an older
// root note, ErrOldRoots.
func (r *Roots) Head(raw []byte) (*Head, error) {
	h, err := r.check(raw)
	if err == nil && h.Generation < r.last.Log.Generation {
		return nil, ErrOldRoots
	}
	return h, err
}

// Ended is Head for a head that Head refuses with ErrOldRoots: what the replaced key
// said, for whoever has to know. Good reports whether the log that is in force
// continues it, as far as the sizes tell.
func (r *Roots) Ended(raw []byte) (h *Head, good bool, err error) {
	if h, err = r.check(raw); err != nil {
		return nil, false, err
	}
	return h, !r.disowned(h), nil
}

// check is Head that takes heads of replaced log keys, too.
func (r *Roots) check(raw []byte) (*Head, error) { return r.checkOf(raw, false) }

// checkHeld is check for a head that was taken before: a later note may have set its
// key a time since, and what is held stays.
func (r *Roots) checkHeld(raw []byte) (*Head, error) { return r.checkOf(raw, true) }

func (r *Roots) checkOf(raw []byte, held bool) (*Head, error) {
	refuse := func(err error) (*Head, error) { return nil, fmt.Errorf("%w: %w", ErrHead, err) }
	if len(raw) > MaxHead {
		return refuse(fmt.Errorf("larger than %d bytes", MaxHead))
	}
	if r.last == nil {
		return nil, ErrNewerRoots
	}
	var h *Head
	var err error
	if len(raw) > 0 && raw[0] == compactVersion {
		h, err = r.parseCompact(raw)
	} else {
		h, err = parseHead(raw)
	}
	if err != nil {
		return refuse(err)
	}
	switch {
	case max(h.Edition, h.Epoch, h.RootVersion, h.Generation) > maxNumber:
		return refuse(errors.New("number out of range"))
	case h.Channel != r.ch:
		return refuse(errors.New("it belongs to another channel"))
	case h.Generation > r.last.Log.Generation || h.RootVersion > r.Version():
		return nil, ErrNewerRoots
	case h.RootVersion < 1:
		return refuse(errors.New("root note 0"))
	}
	key, err := r.logKey(h.Generation)
	switch {
	case err != nil:
		return refuse(err)
	case !h.sig.verifiedBy(h.checkpointText(), Origin(r.ch, h.Generation), key.Key):
		return refuse(errors.New("bad signature"))
	case !held && !key.NotAfter.IsZero() && h.Time.After(key.NotAfter):
		return refuse(errors.New("signed after the log key's time"))
	case h.Size != h.Edition+1:
		return refuse(errors.New("its leaf is not the last"))
	case foldPath(h.Leaf.Hash(), h.Path) != h.Tree:
		return refuse(errors.New("its leaf is not in the tree"))
	case !key.begins(h):
		return refuse(errors.New("its tree is not one that its generation of the log began with"))
	}
	h.cosig = validCosigs(r.last.Witnesses, h.checkpointText(), h.cosig)
	return h, nil
}

// begins reports whether h's tree can be one that goes on from the tree that the
// generation began with, as far as a head alone tells: a longer one says what it was
// before its last leaf, and no more.
func (k LogKey) begins(h *Head) bool {
	switch {
	case k.Base == 0:
		return true
	case h.Size == k.Base:
		return h.Tree == k.BaseHash
	case h.Edition == k.Base:
		r, err := rangeOf(h.Edition, h.Path)
		return err == nil && rootOf(r) == k.BaseHash
	}
	return h.Size > k.Base
}

// parseHead parses the text form; the result is unverified.
func parseHead(raw []byte) (*Head, error) {
	var p proof.TLogProof
	if err := p.Unmarshal(raw); err != nil {
		return nil, err
	}
	leaf, err := ParseLeaf(p.ExtraData)
	if err != nil {
		return nil, err
	}
	text, sigs, err := parseNote(p.Checkpoint)
	if err != nil {
		return nil, err
	}
	var c log.Checkpoint
	rest, err := c.Unmarshal(text)
	if err != nil {
		return nil, err
	}
	if len(c.Hash) != len(Hash{}) || c.Size > 1<<62 {
		return nil, errors.New("checkpoint out of range")
	}
	h := &Head{Leaf: *leaf, Size: c.Size, Tree: Hash(c.Hash), Path: p.Hashes, sig: sigs[0], cosig: sigs[1:]}
	if _, err := fmt.Sscanf(c.Origin, "tamizdat/v1/log/"+leaf.Channel.String()+"/%d", &h.Generation); err != nil {
		return nil, errors.New("checkpoint of another log")
	}
	l := &lines{rest: string(rest)}
	h.Time = l.time(l.fields("time", 1)[0])
	switch {
	case l.err != nil:
		return nil, l.err
	case len(p.Hashes) != bits.OnesCount64(leaf.Edition) || p.Index != leaf.Edition:
		return nil, errors.New("audit path of another leaf")
	case !bytes.Equal(h.Text(), raw): // also refuses 007, short hashes, blank lines, CRLF
		return nil, errors.New("not in canonical form")
	}
	return h, nil
}

// parseCompact parses the compact form; the result is unverified.
func (r *Roots) parseCompact(raw []byte) (*Head, error) {
	if len(raw) > record.MaxRecord {
		return nil, fmt.Errorf("larger than %d bytes", record.MaxRecord)
	}
	short := errors.New("cut short")
	b := raw[1:]
	var v [6]uint64
	for i := range v {
		var n int
		if v[i], n = binary.Uvarint(b); n <= 0 || v[i] > 1<<62 {
			return nil, short
		}
		b = b[n:]
	}
	if v[4] > 1<<40 || v[5] > 1<<40 {
		return nil, errors.New("time out of range")
	}
	path := bits.OnesCount64(v[0])
	more := len(b) - (32 + 16 + 16 + 32 + 32*path + ed25519.SignatureSize)
	if more < 0 || more%compactCosig != 0 {
		return nil, short
	}
	take := func(n int) (out []byte) { out, b = b[:n], b[n:]; return out }
	h := &Head{Generation: v[3], Size: v[0] + 1, Time: time.Unix(int64(v[5]), 0).UTC()}
	h.Leaf = Leaf{Channel: r.ch, Edition: v[0], Epoch: v[1], RootVersion: v[2], Date: time.Unix(int64(v[4]), 0).UTC()}
	h.Root, _ = compactRoot(take(sha256.Size))
	copy(h.Front.Large[:], take(16))
	copy(h.Front.Small[:], take(16))
	copy(h.Content[:], take(32))
	for range path {
		h.Path = append(h.Path, Hash(take(32)))
	}
	h.Tree = foldPath(h.Leaf.Hash(), h.Path)
	origin := Origin(r.ch, h.Generation)
	key, err := r.logKey(h.Generation)
	if err != nil {
		key = r.last.Log // of a generation to come: asked for before the signature is looked at
	}
	h.sig = sigLine{name: origin, id: keyID(origin, key.Key), sig: take(ed25519.SignatureSize)}
	for range more / compactCosig {
		s := sigLine{name: nobody, id: binary.BigEndian.Uint32(take(4)), sig: take(cosigLen)}
		for _, w := range r.last.Witnesses {
			if w.id() == s.id {
				s.name = w.Name
			}
		}
		h.cosig = append(h.cosig, s)
	}
	if !bytes.Equal(h.Compact(), raw) {
		return nil, errors.New("not in canonical form")
	}
	return h, nil
}

// Log is the publisher's side of the log: the hashes of all leaves so far.
type Log struct {
	leaves []Hash
}

// NewLog continues a log from its leaf hashes.
func NewLog(leaves []Hash) *Log { return &Log{leaves: leaves} }

// Edge is the right edge of the tree, nearest first: the audit path of the
// leaf that comes next.
func (l *Log) Edge() []Hash {
	r := emptyRange()
	for _, h := range l.leaves {
		appendHash(r, h)
	}
	return edgeOf(r)
}

// Leaves are all leaf hashes in order; don't change them.
func (l *Log) Leaves() []Hash { return l.leaves }

// Append adds the hash of the next leaf.
func (l *Log) Append(h Hash) { l.leaves = append(l.leaves, h) }

var rangeFactory = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

func emptyRange() *compact.Range { return rangeFactory.NewEmptyRange(0) }

func appendHash(r *compact.Range, h Hash) {
	if err := r.Append(h[:], nil); err != nil {
		panic(err) // a range that starts at 0 takes any leaf
	}
}

// edgeOf returns a range's hashes, nearest (smallest subtree) first.
func edgeOf(r *compact.Range) []Hash {
	hs := r.Hashes()
	edge := make([]Hash, len(hs))
	for i, h := range hs {
		edge[len(hs)-1-i] = Hash(h)
	}
	return edge
}

// rangeOf is the inverse of edgeOf for a tree of n leaves.
func rangeOf(n uint64, edge []Hash) (*compact.Range, error) {
	hs := make([][]byte, len(edge))
	for i, h := range edge {
		hs[len(edge)-1-i] = bytes.Clone(h[:])
	}
	return rangeFactory.NewRange(0, n, hs)
}

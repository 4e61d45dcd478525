package channel

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

const (
	// MaxSubmission bounds a Submission in bytes: the longest proof there may be takes
	// 2,900, a checkpoint with 16 cosignatures less than that.
	MaxSubmission = 16 << 10
	// maxProof is the most hashes that a consistency proof may have
	// (c2sp.org/tlog-witness).
	maxProof = 63
)

// Submission is what a witness is asked to cosign: the body of add-checkpoint
// (c2sp.org/tlog-witness).
type Submission struct {
	// Old is the size of the tree that the witness has cosigned last.
	Old uint64
	// Proof is the RFC 6962 consistency proof from that size, empty from 0.
	Proof []Hash
	// Checkpoint is the signed checkpoint.
	Checkpoint []byte
}

// Marshal is the submission as it is sent.
func (s Submission) Marshal() []byte {
	b := fmt.Appendf(nil, "old %d\n", s.Old)
	for _, h := range s.Proof {
		b = append(b, b64(h[:])+"\n"...)
	}
	return append(append(b, '\n'), s.Checkpoint...)
}

// ParseSubmission is the inverse of Marshal. It looks into the checkpoint no
// further than that it has to be there.
func ParseSubmission(b []byte) (Submission, error) {
	var s Submission
	refuse := func(what string) (Submission, error) {
		return Submission{}, errors.New("submission refused: " + what)
	}
	if len(b) > MaxSubmission {
		return refuse(fmt.Sprintf("larger than %d bytes", MaxSubmission))
	}
	head, note, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok || len(note) == 0 {
		return refuse("no checkpoint behind an empty line")
	}
	rows := strings.Split(string(head), "\n")
	l := &lines{}
	if s.Old = l.uint(strings.TrimPrefix(rows[0], "old ")); l.err != nil {
		return refuse("the first line is not the old size")
	}
	if len(rows)-1 > maxProof {
		return refuse(fmt.Sprintf("more than %d hashes", maxProof))
	}
	for _, line := range rows[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != len(Hash{}) {
			return refuse("a line of the proof is no hash")
		}
		s.Proof = append(s.Proof, Hash(h))
	}
	if s.Checkpoint = note; !bytes.Equal(s.Marshal(), b) {
		return refuse("not in canonical form")
	}
	return s, nil
}

// Errors of Roots.Checkpoint, as a witness tells them apart.
var (
	// ErrUnknownLog: the checkpoint is of a log that is not this channel's, or that
	// its newest root note has replaced.
	ErrUnknownLog = errors.New("not a log of this channel")
	// ErrUnsigned: the channel's log key has not signed the checkpoint.
	ErrUnsigned = errors.New("checkpoint not signed by the channel's log key")
	// ErrCheckpoint: it is no checkpoint.
	ErrCheckpoint = errors.New("not a checkpoint")
)

// Checkpoint is a signed checkpoint of a log (c2sp.org/tlog-checkpoint). Extension
// lines mean nothing to a witness.
type Checkpoint struct {
	Origin string
	Size   uint64
	Tree   Hash

	text []byte
	sigs []sigLine
}

// parseCheckpoint parses strictly and verifies no signature.
func parseCheckpoint(note []byte) (*Checkpoint, error) {
	refuse := func(err error) (*Checkpoint, error) { return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err) }
	text, sigs, err := parseNote(note)
	if err != nil {
		return refuse(err)
	}
	var c log.Checkpoint
	rest, err := c.Unmarshal(text)
	switch {
	case err != nil:
		return refuse(err)
	case len(c.Hash) != len(Hash{}) || c.Size > 1<<62:
		return refuse(errors.New("out of range"))
	case !bytes.Equal(append(c.Marshal(), rest...), text): // refuses 007
		return refuse(errors.New("not in canonical form"))
	case slices.ContainsFunc(text, func(b byte) bool { return b < ' ' && b != '\n' }):
		return refuse(errors.New("it has control characters"))
	case len(rest) > 0 && (rest[0] == '\n' || rest[len(rest)-1] != '\n' || bytes.Contains(rest, []byte("\n\n"))):
		return refuse(errors.New("it has an empty line"))
	}
	return &Checkpoint{Origin: c.Origin, Size: c.Size, Tree: Hash(c.Hash), text: text, sigs: sigs}, nil
}

// Checkpoint verifies a signed checkpoint of the log that the highest root note
// names. Other signatures on it are dropped. Errors wrap ErrCheckpoint,
// ErrUnknownLog or ErrUnsigned.
func (r *Roots) Checkpoint(note []byte) (*Checkpoint, error) {
	c, err := parseCheckpoint(note)
	if err != nil {
		return nil, err
	}
	current := r.last.Log
	if c.Origin != Origin(r.ch, current.Generation) {
		return nil, ErrUnknownLog
	}
	var own []sigLine
	for _, s := range c.sigs {
		if s.name != c.Origin || s.id != keyID(c.Origin, current.Key) {
			continue
		}
		if !s.verifiedBy(c.text, c.Origin, current.Key) {
			return nil, ErrUnsigned // one bad line is enough, says c2sp.org/tlog-witness
		}
		own = []sigLine{s}
	}
	if own == nil {
		return nil, ErrUnsigned
	}
	c.sigs = own
	return c, nil
}

// Cosign signs the checkpoint as a witness. It returns the signature line, and the
// checkpoint with its log's signature and this one, which ParseCosigned reads. Who
// signs has seen that the log only grew.
func (c *Checkpoint) Cosign(name string, key ed25519.PrivateKey, at time.Time) (line, note []byte) {
	s := cosign(c.text, name, key, at)
	return s.append(nil), formatNote(c.text, append(c.sigs[:len(c.sigs):len(c.sigs)], s)...)
}

// ParseCosigned reads what Cosign wrote, if w has signed it.
func ParseCosigned(note []byte, w Witness) (*Checkpoint, error) {
	c, err := parseCheckpoint(note)
	if err != nil {
		return nil, err
	}
	if len(validCosigs([]Witness{w}, c.text, c.sigs)) == 0 {
		return nil, fmt.Errorf("%w: %s has not cosigned it", ErrCheckpoint, w.Name)
	}
	return c, nil
}

// Consistency is the RFC 6962 consistency proof from the log's first old leaves to
// all of them: empty from none, and to the same size.
func (l *Log) Consistency(old uint64) ([]Hash, error) {
	size := uint64(len(l.leaves))
	if old > size {
		return nil, fmt.Errorf("the log has %d leaves, not %d", size, old)
	}
	if old == 0 || old == size {
		return nil, nil
	}
	tree := newHistory()
	for _, h := range l.leaves {
		tree.add(h)
	}
	_, raw, err := tree.past(old, size)
	if err != nil {
		return nil, err
	}
	hashes := make([]Hash, len(raw))
	for i, h := range raw {
		hashes[i] = Hash(h)
	}
	return hashes, nil
}

// Follows checks that the checkpoint's tree continues old, which is nil for an
// empty one, by an RFC 6962 consistency proof.
func (c *Checkpoint) Follows(old *Checkpoint, hashes []Hash) error {
	raw := make([][]byte, len(hashes))
	for i, h := range hashes {
		raw[i] = h[:]
	}
	var size uint64
	tree := Hash(rfc6962.DefaultHasher.EmptyRoot())
	if old != nil {
		size, tree = old.Size, old.Tree
	}
	if c.Size == 0 && c.Tree != Hash(rfc6962.DefaultHasher.EmptyRoot()) {
		return errors.New("an empty tree has another hash")
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, size, c.Size, raw, tree[:], c.Tree[:])
}

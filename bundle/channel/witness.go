package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// A witness signs a log's checkpoint after it has seen that the log only grew
// (c2sp.org/tlog-cosignature, c2sp.org/tlog-witness). Who wants to show one reader
// another history than all others has to have as many witnesses lie with him as the
// channel's root note asks for.
//
// What a witness vouches for is size and hash of the tree. The time in a head is
// signed along, and is the publisher's word alone.

const (
	algCosignature = 4 // a timestamped Ed25519 signature
	// cosigLen is the length of a cosignature: its time in seconds, then the
	// signature.
	cosigLen = 8 + ed25519.SignatureSize
	// maxWitnessName bounds a witness's name in bytes: each of its cosignatures has it.
	maxWitnessName = 100
)

// ErrWitness is wrapped by every refusal of ParseWitness.
var ErrWitness = errors.New("not a witness's key")

// VKey is the witness's verifier key, as others write it
// (c2sp.org/signed-note, section "Verifier keys"): NAME+ID+KEY.
func (w Witness) VKey() string { return vkey(w.Name, w.id(), algCosignature, w.Key) }

func vkey(name string, id uint32, alg byte, key ed25519.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", name, id, b64(append([]byte{alg}, key...)))
}

// LogVKey is the verifier key of the log that the highest root note names: what
// somebody else's witness has to know to watch it.
func (r *Roots) LogVKey() string {
	name, key := Origin(r.ch, r.last.Log.Generation), r.last.Log.Key
	return vkey(name, keyID(name, key), algEd25519, key)
}

// ParseWitness is the inverse of VKey; white space around it is ignored. It takes
// keys of Ed25519 cosignatures alone.
func ParseWitness(s string) (Witness, error) {
	refuse := func(what string) (Witness, error) { return Witness{}, fmt.Errorf("%w: %s", ErrWitness, what) }
	s = strings.TrimSpace(s)
	f := strings.SplitN(s, "+", 3) // the key may have a plus, too
	if len(f) != 3 || len(s) > 4<<10 {
		return refuse("it is written NAME+ID+KEY")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(f[2])
	switch {
	case err != nil || len(raw) == 0:
		return refuse("what stands behind the second + is no key")
	case raw[0] == algEd25519:
		return refuse("it is that of a log")
	case raw[0] != algCosignature || len(raw) != 1+ed25519.PublicKeySize:
		return refuse("only keys of Ed25519 cosignatures (type 4) are known here")
	}
	w := Witness{f[0], raw[1:]}
	if !validWitnessName(w.Name) {
		return refuse(fmt.Sprintf("its name is not 1 to %d characters of ASCII", maxWitnessName))
	}
	if w.VKey() != s {
		return refuse("name, ID and key don't belong together; was it copied whole?")
	}
	return w, nil
}

func validWitnessName(s string) bool {
	return s != "" && len(s) <= maxWitnessName && printable(s) && !strings.Contains(s, "+")
}

// NewWitness derives the key by which the holder of a secret witnesses one channel,
// and its name: another one for each channel, so that root notes, which anybody may
// read, don't show that two channels have the same witness, or where it is.
func NewWitness(secret []byte, ch ID) (Witness, ed25519.PrivateKey) {
	seed, err := hkdf.Key(sha256.New, secret, nil, "tamizdat/v1/witness\n"+string(ch[:]), ed25519.SeedSize)
	if err != nil {
		panic(err) // of a fixed length
	}
	key := ed25519.NewKeyFromSeed(seed)
	public := key.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	return Witness{"tamizdat/v1/witness/" + lower32.EncodeToString(sum[:10]), public}, key
}

// id is the key ID of the witness's cosignatures.
func (w Witness) id() uint32 {
	h := sha256.Sum256(append([]byte(w.Name+"\n\x04"), w.Key...))
	return binary.BigEndian.Uint32(h[:])
}

// cosigned is what a witness signs.
func cosigned(text []byte, at uint64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text)
}

// cosign signs the text of a checkpoint as a witness.
func cosign(text []byte, name string, key ed25519.PrivateKey, at time.Time) sigLine {
	sec := uint64(max(1, at.Unix())) // 0 would say that there is no time
	sig := binary.BigEndian.AppendUint64(nil, sec)
	w := Witness{name, key.Public().(ed25519.PublicKey)}
	return sigLine{name: name, id: w.id(), sig: append(sig, ed25519.Sign(key, cosigned(text, sec))...)}
}

// cosignedBy reports whether the line is a valid cosignature of text by w.
func (s sigLine) cosignedBy(text []byte, w Witness) bool {
	if s.name != w.Name || s.id != w.id() || len(s.sig) != cosigLen {
		return false
	}
	at := binary.BigEndian.Uint64(s.sig)
	return at > 0 && at <= math.MaxInt64 && ed25519.Verify(w.Key, cosigned(text, at), s.sig[8:])
}

// validCosigs are those of the lines that are valid cosignatures of text, one for
// each of some witnesses of distinct keys, in the order of the witnesses.
func validCosigs(witnesses []Witness, text []byte, lines []sigLine) (valid []sigLine) {
	for _, w := range witnesses {
		for _, s := range lines {
			if s.cosignedBy(text, w) {
				valid = append(valid, s)
				break
			}
		}
	}
	return valid
}

// Witnessed says by how many of a channel's witnesses a head was seen.
type Witnessed struct {
	// Seen of Of witnesses have cosigned; Quorum should have.
	Seen   int `json:"seen"`
	Of     int `json:"of"`
	Quorum int `json:"quorum"`
}

// Met reports whether enough have: always, where none are asked for.
func (w Witnessed) Met() bool { return w.Seen >= w.Quorum }

// Witnessed counts the witnesses of the highest root note who have cosigned a head.
func (r *Roots) Witnessed(h *Head) Witnessed {
	return Witnessed{len(r.SeenBy(h)), len(r.last.Witnesses), r.last.Quorum}
}

// SeenBy are the witnesses that Witnessed counts, each key once.
func (r *Roots) SeenBy(h *Head) (seen []Witness) {
	text := h.checkpointText()
	for _, w := range r.last.Witnesses {
		if len(validCosigs([]Witness{w}, text, h.cosig)) > 0 {
			seen = append(seen, w)
		}
	}
	return seen
}

// Checkpoint is the head's signed checkpoint without cosignatures
// (c2sp.org/tlog-checkpoint): what witnesses are shown.
func (h *Head) Checkpoint() []byte { return formatNote(h.checkpointText(), h.sig) }

// Bare is the head without cosignatures.
func (h *Head) Bare() *Head {
	bare := *h
	bare.cosig = nil
	return &bare
}

// Cosigned returns a head with what witnesses have answered: to the cosignatures
// that it has come those among the signature lines in answers that are valid
// and of witnesses of the highest root note. As many are taken as fit MaxHead;
// what is no signature line is passed over.
func (r *Roots) Cosigned(h *Head, answers ...[]byte) *Head {
	text := h.checkpointText()
	lines := h.cosig
	for _, a := range answers {
		// As c2sp.org/tlog-witness advises: as the signatures of a note.
		if _, sigs, err := parseNote(append(append(bytes.Clone(text), '\n'), a...)); err == nil {
			lines = append(lines[:len(lines):len(lines)], sigs...)
		}
	}
	with := *h
	with.cosig = nil
	for _, s := range validCosigs(r.last.Witnesses, text, lines) {
		more := with
		more.cosig = append(with.cosig[:len(with.cosig):len(with.cosig)], s)
		if len(more.Text()) <= MaxHead {
			with = more
		}
	}
	return &with
}

package channel

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
)

// Draft is a root note that is not signed enough yet: what travels between the
// machines that hold root keys. As a file it is the signed note that it will be,
// with the signatures that it has so far, perhaps none.
type Draft struct {
	// Note is what is signed; don't change it.
	Note *RootNote
	sigs []sigLine
}

// Next begins the note that follows the chain's last: what set leaves alone stays
// as it is. The error wraps ErrRootNote if there can't be such a note.
func (r *Roots) Next(set func(*RootNote)) (*Draft, error) {
	n := *r.last
	n.Version, n.Channel, n.Previous = r.last.Version+1, r.ch, r.last.Hash()
	set(&n)
	if _, err := parseRootText(n.Text()); err != nil {
		return nil, err
	}
	return &Draft{Note: &n}, nil
}

// ParseDraft reads a draft, or a whole root note. No signature is verified.
func ParseDraft(b []byte) (*Draft, error) {
	if text, ok := bytes.CutSuffix(b, []byte("\n")); ok && bytes.HasSuffix(text, []byte("\n")) && len(b) <= MaxRootNote {
		n, err := parseRootText(text)
		if err != nil {
			return nil, err
		}
		return &Draft{Note: n}, nil
	}
	n, sigs, err := parseRootNote(b)
	if err != nil {
		return nil, err
	}
	return &Draft{Note: n, sigs: sigs}, nil
}

// Marshal is the draft as a file.
func (d *Draft) Marshal() []byte { return formatNote(d.Note.Text(), d.sigs...) }

// Sign adds a key's signature, once; whether the key is of any use is not known
// here: it may be one of the note before. The error wraps ErrRootNote if there are
// too many signatures.
func (d *Draft) Sign(key ed25519.PrivateKey) error {
	if d.SignedBy(key.Public().(ed25519.PublicKey)) == 1 {
		return nil
	}
	more := append(d.sigs[:len(d.sigs):len(d.sigs)], signLine(d.Note.Text(), rootKeyName, key))
	if _, _, err := parseRootNote(formatNote(d.Note.Text(), more...)); err != nil {
		return fmt.Errorf("one more signature: %w", err)
	}
	d.sigs = more
	return nil
}

// SignedBy counts those of some distinct keys that have signed.
func (d *Draft) SignedBy(keys ...ed25519.PublicKey) int {
	return validSigs(keys, d.Note.Text(), d.sigs)
}

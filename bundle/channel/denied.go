package channel

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

const (
	// MaxDenied is the largest signed list of denied tags in bytes.
	MaxDenied = 16 << 10
	// maxDeniedTags is what fits with a signature.
	maxDeniedTags = 900
)

// ErrDenied is wrapped by every refusal of a list of denied tags.
var ErrDenied = errors.New("list of revoked batches refused")

// Denied tells one relay which batches of a channel were revoked, by the tags that
// they have there. Another relay's list has other tags: neither of the two can
// compare them.
type Denied struct {
	Channel ID
	// Pin is the relay's.
	Pin Pin
	// Epoch is the one that the last revocation began. The list of the highest
	// epoch counts.
	Epoch uint64
	// Tags ascend.
	Tags [][8]byte
	// Current: it is signed by the log key of the highest root note. Generation is
	// that of the key. Roots.Denied sets both.
	Current    bool
	Generation uint64
}

func (d *Denied) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tamizdat/v1/denied\n%s\nrelay %s\nepoch %d\n", d.Channel, d.Pin, d.Epoch)
	for _, t := range d.Tags {
		fmt.Fprintf(&b, "tag %s\n", b64(t[:]))
	}
	return b.Bytes()
}

// Sign returns the list as a note signed by the log key of a generation. The same
// list is the same note.
func (d *Denied) Sign(generation uint64, key ed25519.PrivateKey) ([]byte, error) {
	text := d.text()
	if _, err := parseDenied(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return formatNote(text, signLine(text, Origin(d.Channel, generation), key)), nil
}

// Has reports whether the batch of that tag was revoked; false for a nil list.
func (d *Denied) Has(tag [8]byte) bool {
	if d == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(d.Tags, tag, compareTags)
	return found
}

func compareTags(a, b [8]byte) int { return bytes.Compare(a[:], b[:]) }

// Denied verifies a list. It may be signed by any log key that the root notes
// name: whoever takes one in wants it to be Current, whoever holds one already
// keeps it when keys are renewed. Errors wrap ErrDenied.
func (r *Roots) Denied(msg []byte) (*Denied, error) {
	refuse := func(err error) (*Denied, error) { return nil, fmt.Errorf("%w: %w", ErrDenied, err) }
	if r.last == nil {
		return nil, ErrNewerRoots
	}
	if len(msg) > MaxDenied {
		return refuse(fmt.Errorf("%d bytes", len(msg)))
	}
	text, sigs, err := parseNote(msg)
	if err != nil {
		return refuse(err)
	}
	if len(sigs) != 1 {
		return refuse(errors.New("bad signature"))
	}
	generation, ok := r.signedLog(text, sigs[0])
	if !ok {
		return refuse(errors.New("bad signature"))
	}
	d, err := parseDenied(text)
	if err != nil {
		return refuse(err)
	}
	d.Generation = generation
	if d.Channel != r.ch {
		return refuse(errors.New("of another channel"))
	}
	last := r.last.Log
	d.Current = sigs[0].verifiedBy(text, Origin(r.ch, last.Generation), last.Key)
	return d, nil
}

// signedLog is the generation of the log whose key has signed text; ok is false if no
// root note names such a key.
func (r *Roots) signedLog(text []byte, sig sigLine) (generation uint64, ok bool) {
	for _, msg := range slices.Backward(r.notes) {
		n, _, err := parseRootNote(msg) // verified by Extend
		if err == nil && sig.verifiedBy(text, Origin(r.ch, n.Log.Generation), n.Log.Key) {
			return n.Log.Generation, true
		}
	}
	return 0, false
}

func parseDenied(text []byte) (*Denied, error) {
	d, l := &Denied{}, &lines{rest: string(text)}
	l.exact("tamizdat/v1/denied")
	d.Channel = l.id(l.next())
	d.Pin = l.pin(l.fields("relay", 1)[0])
	d.Epoch = l.uint(l.fields("epoch", 1)[0])
	for l.peek("tag") && len(d.Tags) < maxDeniedTags {
		raw, err := base64.StdEncoding.Strict().DecodeString(l.fields("tag", 1)[0])
		if err != nil || len(raw) != 8 {
			l.fail("malformed tag")
			break
		}
		tag := [8]byte(raw)
		if n := len(d.Tags); n > 0 && compareTags(d.Tags[n-1], tag) >= 0 {
			l.fail("tags not in order")
		}
		d.Tags = append(d.Tags, tag)
	}
	if l.err == nil && d.Pin.WebPKI() {
		l.fail("for no relay")
	}
	if l.err != nil {
		return nil, l.err
	}
	if !bytes.Equal(d.text(), text) {
		return nil, errors.New("not in canonical form")
	}
	return d, nil
}

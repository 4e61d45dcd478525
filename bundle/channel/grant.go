package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"github.com/btcsuite/btcd/btcutil/bech32"
)

// The two sizes of a grant file: which one says nothing but how many relays a
// channel has.
const (
	GrantSmall = 4096
	GrantLarge = 8192
)

const (
	maxEpochs = 64
	// grantHeader is the exact length of an age header with one mlkem768x25519
	// stanza; ageNonce and ageTag are what the payload adds (age-encryption.org/v1).
	grantHeader = 1627
	ageNonce    = 16
	ageTag      = 16
)

// ErrGrant is wrapped by every refusal of a grant.
var ErrGrant = errors.New("grant refused")

// EpochKey is the secret that one epoch's layers are encrypted under.
type EpochKey [32]byte

// Grant is what one batch of invites may have: epoch keys and places.
type Grant struct {
	Channel ID
	// Recipient is the SHA-256 of the batch's age recipient string, so that a
	// grant can't be handed on to another batch.
	Recipient [32]byte
	// Serial grows with every change; the highest one counts.
	Serial uint64
	// Epochs are the keys of the epochs in the window, by epoch number, oldest first.
	Epochs []Epoch
	Places Places
}

// Epoch is one epoch's number and key.
type Epoch struct {
	Number uint64
	Key    EpochKey
}

// Identity is the batch's age identity: hybrid ML-KEM-768 and X25519.
func (s Seed) Identity() (*age.HybridIdentity, error) {
	five, err := bech32.ConvertBits(s[:], 8, 5, true)
	if err != nil {
		return nil, err
	}
	text, err := bech32.Encode("age-secret-key-pq-", five)
	if err != nil {
		return nil, err
	}
	return age.ParseHybridIdentity(strings.ToUpper(text))
}

func recipientHash(id *age.HybridIdentity) [32]byte {
	return sha256.Sum256([]byte(id.Recipient().String()))
}

func (g *Grant) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tamizdat/v1/grant\n%s\nrecipient %s\nserial %d\n", g.Channel, b64(g.Recipient[:]), g.Serial)
	for _, e := range g.Epochs {
		fmt.Fprintf(&b, "epoch %d %s\n", e.Number, b64(e.Key[:]))
	}
	g.Places.writeLines(&b)
	return b.Bytes()
}

// SealGrant signs g with the log key and encrypts it to the batch of seed; it
// sets Recipient. The result is exactly GrantSmall or GrantLarge bytes, at least
// as many as least, and differs each time: keep it while what it says stays the
// same. All grants of an edition should be of one size (see GrantSize): a smaller
// one would be that of a revoked batch.
func SealGrant(g Grant, seed Seed, generation uint64, key ed25519.PrivateKey, least int) ([]byte, error) {
	id, err := seed.Identity()
	if err != nil {
		return nil, err
	}
	g.Recipient = recipientHash(id)
	text := g.text()
	if _, err := parseGrant(text); err != nil { // no reader would take it either
		return nil, fmt.Errorf("%w: %w", ErrGrant, err)
	}
	note := formatNote(text, signLine(text, Origin(g.Channel, generation), key))
	for _, size := range []int{GrantSmall, GrantLarge} {
		room := grantRoom(size)
		if len(note) > room || size < least {
			continue
		}
		var out bytes.Buffer
		w, err := age.Encrypt(&out, id.Recipient())
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(append(note, make([]byte, room-len(note))...)); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		if out.Len() != size {
			return nil, fmt.Errorf("grant of %d bytes instead of %d", out.Len(), size)
		}
		return out.Bytes(), nil
	}
	return nil, fmt.Errorf("%w: too many relays and keys for %d bytes", ErrGrant, GrantLarge)
}

// grantRoom is how much of a grant of that size its note may take.
func grantRoom(size int) int { return size - grantHeader - ageNonce - ageTag }

// GrantSize is the size that SealGrant gives a grant if nothing bigger is asked
// for: GrantSmall, or GrantLarge, which may still be too small.
func GrantSize(g Grant, generation uint64) int {
	sig := sigLine{name: Origin(g.Channel, generation), sig: make([]byte, ed25519.SignatureSize)}
	if len(formatNote(g.text(), sig)) <= grantRoom(GrantSmall) {
		return GrantSmall
	}
	return GrantLarge
}

// OpenGrant decrypts and verifies a grant file. It is the one thing that is
// decrypted before its signature is checked, since the signature must not show
// whose grant it is; the header is checked first. Errors wrap ErrGrant.
func (r *Roots) OpenGrant(file []byte, seed Seed) (*Grant, error) {
	refuse := func(err error) (*Grant, error) { return nil, fmt.Errorf("%w: %w", ErrGrant, err) }
	if r.last == nil {
		return nil, ErrNewerRoots
	}
	if len(file) != GrantSmall && len(file) != GrantLarge {
		return refuse(fmt.Errorf("%d bytes", len(file)))
	}
	if _, err := grantHeaderOf(file); err != nil {
		return refuse(err)
	}
	id, err := seed.Identity()
	if err != nil {
		return refuse(err)
	}
	dec, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		return refuse(errors.New("not for this invite"))
	}
	plain, err := io.ReadAll(io.LimitReader(dec, GrantLarge))
	if err != nil {
		return refuse(err)
	}
	note := bytes.TrimRight(plain, "\x00")
	text, sigs, err := parseNote(note)
	if err != nil {
		return refuse(err)
	}
	log := r.last.Log
	if len(sigs) != 1 || !sigs[0].verifiedBy(text, Origin(r.ch, log.Generation), log.Key) {
		return refuse(errors.New("bad signature"))
	}
	g, err := parseGrant(text)
	if err != nil {
		return refuse(err)
	}
	want := recipientHash(id)
	if g.Channel != r.ch || subtle.ConstantTimeCompare(g.Recipient[:], want[:]) != 1 {
		return refuse(errors.New("made for another channel or batch"))
	}
	return g, nil
}

// grantHeaderOf is the gate before any decryption: exactly one hybrid stanza.
func grantHeaderOf(file []byte) ([]byte, error) {
	header, err := age.ExtractHeader(bytes.NewReader(file))
	if err != nil || len(header) != grantHeader || bytes.Count(header, []byte("\n-> ")) != 1 ||
		!bytes.Contains(header, []byte("\n-> mlkem768x25519 ")) {
		return nil, errors.New("not one post-quantum recipient")
	}
	return header, nil
}

func parseGrant(text []byte) (*Grant, error) {
	g, l := &Grant{}, &lines{rest: string(text)}
	l.exact("tamizdat/v1/grant")
	g.Channel = l.id(l.next())
	g.Recipient = [32]byte(l.bytes32(l.fields("recipient", 1)[0]))
	g.Serial = l.uint(l.fields("serial", 1)[0])
	for l.peek("epoch") && len(g.Epochs) < maxEpochs {
		f := l.fields("epoch", 2)
		e := Epoch{l.uint(f[0]), EpochKey(l.bytes32(f[1]))}
		if n := len(g.Epochs); n > 0 && g.Epochs[n-1].Number >= e.Number {
			l.fail("epochs not in order")
		}
		g.Epochs = append(g.Epochs, e)
	}
	g.Places = l.places()
	if l.err != nil {
		return nil, l.err
	}
	if !bytes.Equal(g.text(), text) {
		return nil, errors.New("not in canonical form")
	}
	return g, nil
}

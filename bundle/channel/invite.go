package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/multiformats/go-multiaddr"
)

// Errors of ParseInvite, for a hint that fits.
var (
	ErrNotInvite     = errors.New("not an invite, which begins with TAMIZDAT")
	ErrInviteTyped   = errors.New("invite mistyped or cut off: its checksum does not match")
	ErrInviteVersion = errors.New("invite of a newer version: update the program")
)

const (
	inviteScheme  = "TAMIZDAT:"
	inviteVersion = 1
	inviteSum     = 4
	// maxInvite is the largest invite in raw bytes: under 600 characters.
	maxInvite = 368
)

// The kinds of places in an invite. Unknown ones are skipped, so that later
// versions can name more ways in.
const (
	placeRelay   = 1
	placeZone    = 2
	placePeer    = 3
	placeGateway = 4
	placeMirror  = 5
	placeECH     = 6 // of the relay before it
)

// Invite makes someone a reader. It is a secret: with it, a censor can read
// the channel and see which ways in this batch has.
type Invite struct {
	Channel ID
	Seed    Seed
	// IPNS is the key of the channel's IPNS name.
	IPNS   ed25519.PublicKey
	Places Places
}

// String encodes the invite: upper case, so that a QR code may use its
// alphanumeric mode. It fails only for places that do not fit; see Fit.
func (v *Invite) String() string {
	return inviteScheme + upper32.EncodeToString(v.raw())
}

// Validate reports places that are malformed or do not fit into an invite.
func (v *Invite) Validate() error {
	if err := v.Places.check(); err != nil {
		return err
	}
	if len(v.IPNS) != ed25519.PublicKeySize {
		return errors.New("invite without an IPNS key")
	}
	// Reading it back also finds a place of over 255 bytes, whose length byte wrapped.
	raw := v.raw()
	if n := len(raw); n > maxInvite {
		return fmt.Errorf("invite too long: %d bytes instead of at most %d; name fewer places", n, maxInvite)
	}
	if again, err := ParseInvite(v.String()); err != nil || !bytes.Equal(again.raw(), raw) {
		return errors.New("invite does not read back: a place is too long")
	}
	return nil
}

// raw is: version, channel ID, seed, IPNS key, places (kind, length, bytes),
// and the first four bytes of the SHA-256 of all that.
func (v *Invite) raw() []byte {
	b := []byte{inviteVersion}
	b = append(b, v.Channel[:]...)
	b = append(b, v.Seed[:]...)
	b = append(b, v.IPNS...)
	put := func(kind byte, p []byte) {
		b = append(b, kind, byte(len(p)))
		b = append(b, p...)
	}
	for _, r := range v.Places.Relays {
		p := binary.BigEndian.AppendUint16(nil, r.Port)
		p = append(p, r.Pin[:]...)
		p = append(p, r.Prefix[:]...)
		put(placeRelay, append(p, r.Host...))
		if public, name, ok := shortECH(r.ECH); ok { // other lists are for grants
			put(placeECH, append(public[:], name...))
		}
	}
	for _, z := range v.Places.Zones {
		text := z.Name
		if z.Authority != "" {
			text += "@" + z.Authority
		}
		put(placeZone, []byte(text))
	}
	for _, a := range v.Places.Peers {
		if m, err := multiaddr.NewMultiaddr(a); err == nil {
			put(placePeer, m.Bytes())
		}
	}
	for _, g := range v.Places.Gateways {
		put(placeGateway, []byte(g))
	}
	for _, m := range v.Places.Mirrors {
		put(placeMirror, []byte(m))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:inviteSum]...)
}

const (
	// maxPasted is the longest text that an invite is looked for in, in bytes.
	maxPasted = 16 << 10
	// maxSchemes is how many places of such a text may begin one.
	maxSchemes = 16
)

var upper32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// ParseInvite reads an invite as people paste it: letter case, spaces, line
// breaks and quotation marks do not matter, nor what stands before and behind.
// Nothing is run or looked up.
func ParseInvite(s string) (*Invite, error) {
	if len(s) > maxPasted {
		return nil, ErrNotInvite
	}
	raw, err := findInvite(strings.Map(func(r rune) rune {
		// Messengers and mail wrap, quote, and add characters that nobody sees.
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune("\"'`<>«»“”„|*", r) {
			return -1
		}
		return unicode.ToUpper(r)
	}, s))
	if err != nil {
		return nil, err
	}
	v, b := &Invite{}, raw[:len(raw)-inviteSum]
	if b[0] != inviteVersion {
		return nil, ErrInviteVersion
	}
	if b = b[1:]; len(b) < len(v.Channel)+len(v.Seed)+ed25519.PublicKeySize {
		return nil, ErrInviteTyped
	}
	b = b[copy(v.Channel[:], b):]
	b = b[copy(v.Seed[:], b):]
	v.IPNS = ed25519.PublicKey(append([]byte(nil), b[:ed25519.PublicKeySize]...))
	for b = b[ed25519.PublicKeySize:]; len(b) > 0; {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return nil, ErrInviteTyped
		}
		kind, p := b[0], b[2:2+int(b[1])]
		b = b[2+len(p):]
		if err := v.addPlace(kind, p); err != nil {
			return nil, err
		}
	}
	if err := v.Places.check(); err != nil {
		return nil, fmt.Errorf("invite refused: %w", err)
	}
	return v, nil
}

// findInvite returns the invite in a text, checksum and all. Of what follows the
// scheme it takes the longest stretch that is one: letters that somebody wrote
// behind it are base32, too.
func findInvite(text string) ([]byte, error) {
	err := ErrNotInvite
	for range maxSchemes {
		_, rest, ok := strings.Cut(text, inviteScheme)
		if !ok {
			break
		}
		text, err = rest, ErrInviteTyped
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '2' || r > '7') })
		if n < 0 {
			n = len(rest)
		}
		rest = rest[:min(n, upper32.EncodedLen(maxInvite))]
		whole, _ := upper32.DecodeString(rest + strings.Repeat("A", 7-(len(rest)+7)%8)) // whole groups of eight
		for size := upper32.DecodedLen(len(rest)); size > inviteSum; size-- {
			raw := whole[:size]
			if summed(raw) && strings.HasPrefix(rest, upper32.EncodeToString(raw)) {
				return raw, nil
			}
		}
	}
	return nil, err
}

// summed reports whether a raw invite, of more than that, ends with its checksum.
func summed(raw []byte) bool {
	at := len(raw) - inviteSum
	sum := sha256.Sum256(raw[:at])
	return subtle.ConstantTimeCompare(sum[:inviteSum], raw[at:]) == 1
}

func (v *Invite) addPlace(kind byte, p []byte) error {
	switch kind {
	case placeRelay:
		const fixed = 2 + len(Pin{}) + len(Prefix{})
		if len(p) <= fixed {
			return ErrInviteTyped
		}
		r := Relay{Port: binary.BigEndian.Uint16(p), Host: string(p[fixed:])}
		copy(r.Pin[:], p[2:])
		copy(r.Prefix[:], p[2+len(r.Pin):])
		v.Places.Relays = append(v.Places.Relays, r)
	case placeZone:
		name, authority, named := strings.Cut(string(p), "@")
		if named && authority == "" {
			return ErrInviteTyped
		}
		v.Places.Zones = append(v.Places.Zones, Zone{Name: name, Authority: authority})
	case placePeer:
		m, err := multiaddr.NewMultiaddrBytes(p)
		if err != nil {
			return ErrInviteTyped
		}
		v.Places.Peers = append(v.Places.Peers, m.String())
	case placeGateway:
		v.Places.Gateways = append(v.Places.Gateways, string(p))
	case placeECH:
		n := len(v.Places.Relays)
		if len(p) <= echKeyLen || n == 0 || v.Places.Relays[n-1].ECH != nil || !validDomain(string(p[echKeyLen:])) {
			return ErrInviteTyped
		}
		v.Places.Relays[n-1].ECH = ECHList(ECHConfig([echKeyLen]byte(p[:echKeyLen]), string(p[echKeyLen:])))
	case placeMirror:
		v.Places.Mirrors = append(v.Places.Mirrors, string(p))
	}
	return nil
}

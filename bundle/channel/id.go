package channel

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
)

// ID names a channel: the SHA-256 of the text of its root note 1.
type ID [32]byte

// lower32 is RFC 4648 base32 in lower case without padding, the spelling used
// wherever a name must survive case folding: channel IDs, grant names, DNS labels.
var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ErrBadID is returned by ParseID for anything that is not 52 lower-case
// base32 characters of 32 bytes.
var ErrBadID = errors.New("not a channel ID")

// IDOf returns the channel ID that a root note of version 1 founds; text is the
// note's text without signatures.
func IDOf(rootText []byte) ID { return sha256.Sum256(rootText) }

// String returns the 52 lower-case base32 characters.
func (id ID) String() string { return lower32.EncodeToString(id[:]) }

// ParseID is the exact inverse of String; other spellings are refused.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 52 {
		return id, fmt.Errorf("%w: %d characters instead of 52", ErrBadID, len(s))
	}
	b, err := lower32.DecodeString(s)
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrBadID, err)
	}
	copy(id[:], b)
	if id.String() != s { // 52 characters carry 260 bits: the last four must be zero
		return id, fmt.Errorf("%w: not in canonical form", ErrBadID)
	}
	return id, nil
}

// Label is the DNS label at which the channel's head lies: 13 characters.
func (id ID) Label() string { return lower32.EncodeToString(id[:8]) }

// RootLabel is the DNS label at which that version of the root note lies: 26
// characters.
func (id ID) RootLabel(version uint64) string {
	h := sha256.New()
	h.Write([]byte("tamizdat/v1/root\n"))
	h.Write(id[:])
	h.Write(binary.BigEndian.AppendUint64(nil, version))
	return lower32.EncodeToString(h.Sum(nil)[:16])
}

// MarshalText implements encoding.TextMarshaler, so that an ID in JSON or TOML
// is its string.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// Package record cuts blocks into records small enough for one DNS answer.
//
// It is pure: bytes in, bytes out. bundle.Pack uses it to learn the names that
// an edition signs ([NamesOf]), a server to make the records ([Builder],
// [List]), a reader to check and walk them ([Parse]).
//
// # Format
//
// This section is normative; every number is in bytes.
//
// A record is a byte string, named by the first 16 bytes of its SHA-256; as a
// DNS label the name is 26 lower-case base32 characters (RFC 4648, no padding),
// read without regard to case. There are two classes, which make two separate
// trees of the same bytes:
//
//	class   record at most   payload P   fan-out F   carried in TXT as
//	Large   1040             1039        64          the bytes themselves
//	Small    300              299        18          base64 (RFC 4648 section 4, padded) of the bytes, at most 400 characters
//
// The first byte of a record is its kind: 0 leaf, 1 piece, 2 list, 3 short
// list, 4 part; in the Small class 16 is added to it. Thus no record belongs to
// both classes. Integers are unsigned LEB128 varints of minimal length; N is a
// 16-byte name.
//
//	leaf        kind, payload               0 … P bytes of payload
//	piece       kind, size, N…              size is P+1 … 65717
//	list        kind, count, N…             count is 2 … 1048576
//	short list  kind, count, size…, N…      count is 2 or more, then as many sizes of 0 … 65717
//	part        kind, place, check[4], payload   Small class only, see below
//
// A piece is what is checked as a whole: one IPFS block, one grant, one root
// note. Its tree: up to P bytes are one leaf. A longer one is a piece record
// whose children are the trees of successive stretches of P·F^k bytes (the last
// one shorter), k being the smallest that needs no more than F children. So all
// leaves of a piece but the last are full, and its size alone says how many
// records there are and what each holds.
//
// The tree of several pieces: one piece alone is just its own tree. If a short
// list is no longer than the class allows, it is that: the sizes of all pieces,
// then the names of all leaves of the first piece, of the second, and so on (an
// empty piece has one empty leaf), with no record between. Else it is a list
// whose children are the trees of successive runs of F^k pieces (the last run
// shorter), k being the smallest that needs no more than F children. A list of
// no pieces has no tree; its name is all zero.
//
// A parser recomputes the number of names and refuses any other, so that every
// record that parses encodes to the same bytes again.
//
// A part is a slice of something small that changes in place (a head), for
// resolvers that can't carry it whole. place is 16·(n−1)+i for part i of n
// (n = 1 … 4), check the first four bytes of the SHA-256 of the whole, which
// keeps parts of two heads from being joined. All parts but the last are full,
// that is 294 bytes of payload; the last has at least one.
package record

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
)

// Class says how large records are and how they travel.
type Class uint8

const (
	// Large records hold up to 1,040 raw bytes and fit a DNS answer of 1,232.
	Large Class = iota
	// Small records hold up to 300 bytes and travel as base64 in an answer of
	// 512, for resolvers that cut longer ones or spoil bytes over 127.
	Small
)

// Classes are both classes.
var Classes = [...]Class{Large, Small}

const (
	// MaxPiece is the largest piece, in bytes: the first block of an encrypted
	// layer (age header, nonce, one chunk), which is the largest block there is.
	MaxPiece = 65717
	// MaxPieces is the largest number of pieces in one list.
	MaxPieces = 1 << 20
	// MaxRecord is the size in bytes of the largest record of any class.
	MaxRecord = 1040
)

// ErrBad is wrapped by every error about a record or label that does not follow
// the format.
var ErrBad = errors.New("bad record")

// Max returns the largest record of the class, in bytes.
func (c Class) Max() int {
	if c == Small {
		return 300
	}
	return MaxRecord
}

// Payload returns how many bytes a full leaf carries.
func (c Class) Payload() int { return c.Max() - 1 }

// Fan returns how many children an index record has at most.
func (c Class) Fan() int {
	if c == Small {
		return 18
	}
	return 64
}

// String returns "large" or "small".
func (c Class) String() string {
	if c == Small {
		return "small"
	}
	return "large"
}

// Leaves returns how many leaves a piece of that many bytes has.
func (c Class) Leaves(size int) int {
	return max(1, (size+c.Payload()-1)/c.Payload())
}

// pieceSpan returns how many bytes of a piece lie under each child of its
// index record.
func (c Class) pieceSpan(size int) int {
	span := c.Payload()
	for span*c.Fan() < size {
		span *= c.Fan()
	}
	return span
}

// listSpan returns how many pieces lie under each child of a list record.
func (c Class) listSpan(count int) int {
	span := 1
	for span*c.Fan() < count {
		span *= c.Fan()
	}
	return span
}

// lower32 is RFC 4648 base32 in lower case without padding.
var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// LabelLen is the length of a name as a DNS label.
const LabelLen = 26

// NameOf returns the name of a record.
func NameOf(rec []byte) Name {
	sum := sha256.Sum256(rec)
	return Name(sum[:16])
}

// Label returns the name as 26 lower-case base32 characters.
func (n Name) Label() string { return lower32.EncodeToString(n[:]) }

// ParseLabel reads a label, in either case; the two bits that a name leaves
// unused must be zero.
func ParseLabel(s string) (Name, error) {
	var n Name
	if len(s) != LabelLen {
		return n, fmt.Errorf("%w: label of %d characters instead of %d", ErrBad, len(s), LabelLen)
	}
	var low [LabelLen]byte
	for i := range low {
		low[i] = s[i]
		if 'A' <= s[i] && s[i] <= 'Z' {
			low[i] = s[i] + 'a' - 'A'
		}
	}
	// Decode skips line breaks, so a label of 26 characters could still be short.
	var b [LabelLen]byte
	if k, err := lower32.Decode(b[:], low[:]); err != nil || k != len(n) {
		return n, fmt.Errorf("%w: label is not base32", ErrBad)
	}
	copy(n[:], b[:])
	if n.Label() != string(low[:]) {
		return Name{}, fmt.Errorf("%w: label is not in canonical form", ErrBad)
	}
	return n, nil
}

package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A signed note (c2sp.org/signed-note) is text ending in a newline, a blank
// line, and signature lines. The parsers here are stricter than the libraries':
// what does not re-encode to the same bytes is refused, and an unknown or bad
// signature line counts as absent instead of spoiling the note.

// sigLine is one signature line of a note, not yet verified.
type sigLine struct {
	name string
	id   uint32 // key ID: first four bytes of the hash of name, type and key
	sig  []byte
}

const (
	algEd25519    = 1 // signature type of c2sp.org/signed-note
	maxSigLines   = 32
	noteSeparator = "\n\n"
	sigPrefix     = "— "
)

// keyID is the key ID of an Ed25519 key under a name (c2sp.org/signed-note).
func keyID(name string, key ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', algEd25519})
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// signLine signs text and returns the signature line.
func signLine(text []byte, name string, key ed25519.PrivateKey) sigLine {
	pub := key.Public().(ed25519.PublicKey)
	return sigLine{name: name, id: keyID(name, pub), sig: ed25519.Sign(key, text)}
}

// verifiedBy reports whether the line is a valid signature of text by key.
func (s sigLine) verifiedBy(text []byte, name string, key ed25519.PublicKey) bool {
	return s.name == name && s.id == keyID(name, key) &&
		len(s.sig) == ed25519.SignatureSize && ed25519.Verify(key, text, s.sig)
}

func (s sigLine) append(b []byte) []byte {
	raw := binary.BigEndian.AppendUint32(nil, s.id)
	raw = append(raw, s.sig...)
	b = append(b, sigPrefix...)
	b = append(b, s.name...)
	b = append(b, ' ')
	b = base64.StdEncoding.AppendEncode(b, raw)
	return append(b, '\n')
}

// formatNote joins text (ending in a newline) and signature lines.
func formatNote(text []byte, sigs ...sigLine) []byte {
	b := append(bytes.Clone(text), '\n')
	for _, s := range sigs {
		b = s.append(b)
	}
	return b
}

// parseNote splits a signed note. It refuses whatever formatNote would not
// write.
func parseNote(msg []byte) (text []byte, sigs []sigLine, err error) {
	if !utf8.Valid(msg) {
		return nil, nil, errors.New("not a note: not UTF-8")
	}
	if bytes.ContainsFunc(msg, func(r rune) bool { return r < ' ' && r != '\n' }) {
		return nil, nil, errors.New("not a note: control characters")
	}
	i := bytes.LastIndex(msg, []byte(noteSeparator))
	if i < 0 {
		return nil, nil, errors.New("not a note: no signature part")
	}
	text, rest := msg[:i+1], string(msg[i+2:])
	for rest != "" {
		line, more, ok := strings.Cut(rest, "\n")
		if !ok || len(sigs) == maxSigLines {
			return nil, nil, errors.New("not a note: bad signature lines")
		}
		rest = more
		fields := strings.Split(line, " ")
		if len(fields) != 3 || fields[0] != "—" || fields[1] == "" || strings.ContainsFunc(fields[1], notInName) {
			return nil, nil, errors.New("not a note: malformed signature line")
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(fields[2])
		if err != nil || len(raw) < 5 {
			return nil, nil, errors.New("not a note: malformed signature")
		}
		sigs = append(sigs, sigLine{fields[1], binary.BigEndian.Uint32(raw), raw[4:]})
	}
	if len(sigs) == 0 || !bytes.Equal(formatNote(text, sigs...), msg) {
		return nil, nil, errors.New("not a note: not in canonical form")
	}
	return text, sigs, nil
}

// notInName reports what no key name may hold.
func notInName(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }

// lines reads the "key value" lines of a text in a fixed order and remembers
// the first error.
type lines struct {
	rest string
	err  error
}

func (l *lines) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

// next returns the next whole line.
func (l *lines) next() string {
	if l.err != nil {
		return ""
	}
	line, rest, ok := strings.Cut(l.rest, "\n")
	if !ok {
		l.fail("text ends early")
		return ""
	}
	l.rest = rest
	return line
}

// peek reports whether the next line begins with key and a space.
func (l *lines) peek(key string) bool {
	return l.err == nil && strings.HasPrefix(l.rest, key+" ")
}

// exact demands one line.
func (l *lines) exact(want string) {
	if got := l.next(); l.err == nil && got != want {
		l.fail("expected line %q", want)
	}
}

// fields returns the n words after key.
func (l *lines) fields(key string, n int) []string {
	f := strings.Split(l.next(), " ")
	if l.err == nil && (f[0] != key || len(f) != n+1) {
		l.fail("expected line %q of %d words", key, n)
	}
	if l.err != nil {
		return make([]string, n)
	}
	return f[1:]
}

func (l *lines) uint(s string) uint64 {
	if l.err != nil {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 63) // sizes stay within int64
	if err != nil || strconv.FormatUint(v, 10) != s {
		l.fail("not a number in canonical form")
	}
	return v
}

func (l *lines) time(s string) time.Time {
	v := l.uint(s)
	if v > 1<<40 {
		l.fail("time out of range")
	}
	return time.Unix(int64(v), 0).UTC()
}

// bytes32 reads base64 of 32 bytes: a hash or a key.
func (l *lines) bytes32(s string) []byte {
	if l.err != nil {
		return make([]byte, 32)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != 32 || b64(raw) != s {
		l.fail("not base64 of 32 bytes")
		return make([]byte, 32)
	}
	return raw
}

func (l *lines) id(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		l.fail("%w", err)
	}
	return id
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

package relay

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"tamizdat/bundle/channel"
)

// Target is what a volunteer hands to a publisher, in one line: where the
// relay is, how to know it, the key that mints readers' prefixes for one
// channel, and the key that opens intake for that channel. It is a secret of
// publisher and volunteer.
type Target struct {
	// Host is a DNS name or an IP address without brackets.
	Host string
	Port uint16
	Pin  channel.Pin
	// Mint mints the prefixes that go into invites and grants.
	Mint channel.MintKey
	// Intake mints the prefixes under which the publisher pushes; they are
	// checked the same way as readers' prefixes, so that intake too is an
	// ordinary website to whoever lacks the key.
	Intake channel.MintKey
}

// targetScheme begins the text form and carries its version.
const targetScheme = "relay1:"

// ErrBadTarget is wrapped by every refusal of ParseTarget.
var ErrBadTarget = errors.New("not a relay address")

// String returns the one line "relay1:HOST:PORT/PIN/MINT/INTAKE": an address
// as in URLs (IPv6 in brackets), the pin as channel.Pin writes it, and both
// keys as 43 base64url characters. It holds secrets.
func (t Target) String() string {
	return targetScheme + t.Address() + "/" + t.Pin.String() + "/" + key64(t.Mint) + "/" + key64(t.Intake)
}

// Address returns host and port as net.Dial takes them.
func (t Target) Address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// ParseTarget is the inverse of Target.String; spaces and line breaks around
// it are ignored, other spellings refused. Errors wrap ErrBadTarget and quote
// nothing of the line.
func ParseTarget(s string) (Target, error) {
	var t Target
	s = strings.TrimSpace(s)
	refuse := func(what string) (Target, error) { return Target{}, fmt.Errorf("%w: %s", ErrBadTarget, what) }
	rest, ok := strings.CutPrefix(s, targetScheme)
	if !ok {
		return refuse("it does not begin with " + targetScheme)
	}
	f := strings.Split(rest, "/")
	if len(f) != 4 {
		return refuse(fmt.Sprintf("%d parts instead of HOST:PORT/PIN/MINT/INTAKE; is the line complete?", len(f)))
	}
	host, port, err := net.SplitHostPort(f[0])
	if err != nil || !validHost(host) {
		return refuse("bad HOST:PORT")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return refuse("bad port")
	}
	t.Host, t.Port = host, uint16(n)
	if t.Pin, err = channel.ParsePin(f[1]); err != nil || t.Pin.WebPKI() {
		return refuse("bad pin")
	}
	if t.Mint, ok = parseKey64(f[2]); !ok {
		return refuse("bad mint key")
	}
	if t.Intake, ok = parseKey64(f[3]); !ok {
		return refuse("bad intake key")
	}
	if t.String() != s {
		return refuse("not in canonical form")
	}
	return t, nil
}

// Relay returns the relay as an invite or grant of one batch names it. The
// batch's tag is derived from the pin, the hash of the relay's public key: a
// publisher can make invites without ever having connected.
func (t Target) Relay(batch channel.Seed) channel.Relay {
	return channel.Relay{Host: t.Host, Port: t.Port, Pin: t.Pin, Prefix: t.Mint.Mint(batch.TagFor(t.Pin))}
}

// RelayVia returns the relay as an invite or grant names it when readers reach
// it through another host's name, a CDN's: known by WebPKI, under the prefix
// that it has at the relay itself.
func (t Target) RelayVia(host string, port uint16, batch channel.Seed) channel.Relay {
	r := t.Relay(batch)
	r.Host, r.Port, r.Pin, r.ECH = host, port, channel.Pin{}, nil
	return r
}

// intakePrefix mints a fresh prefix for one push, so that even the publisher's
// own pushes can't be linked by their path.
func (t Target) intakePrefix() channel.Prefix {
	var tag [8]byte
	rand.Read(tag[:]) // never fails
	return t.Intake.Mint(tag)
}

func key64(k channel.MintKey) string { return base64.RawURLEncoding.EncodeToString(k[:]) }

func parseKey64(s string) (k channel.MintKey, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, false
	}
	return channel.MintKey(b), true
}

// validHost keeps out what would break a URL or the line; resolving decides
// the rest.
func validHost(h string) bool {
	if h == "" || len(h) > 253 {
		return false
	}
	return strings.IndexFunc(h, func(r rune) bool {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' || r == ':'
		return !ok
	}) < 0
}

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
	// Also are other ports that serve the same, at most maxPorts.
	Also []uint16
	Pin  channel.Pin
	// Mint mints the prefixes that go into invites and grants.
	Mint channel.MintKey
	// Intake mints the prefixes under which the publisher pushes; they are
	// checked the same way as readers' prefixes, so that intake too is an
	// ordinary website to whoever lacks the key.
	Intake channel.MintKey
	// ECH is the relay's ECHConfigList (RFC 9849), nil if it has none.
	ECH []byte
}

// targetScheme begins the text form and carries its version.
const targetScheme = "relay1:"

const (
	maxPorts = 4
	maxECH   = 1024 // bytes
)

// ErrBadTarget is wrapped by every refusal of ParseTarget.
var ErrBadTarget = errors.New("not a relay address")

// String returns the one line "relay1:HOST:PORT[,PORT…]/PIN/MINT/INTAKE[/ECH]":
// an address as in URLs (IPv6 in brackets) and more ports, the pin as channel.Pin
// writes it, both keys as 43 base64url characters, and the ECHConfigList in
// base64url. It holds secrets.
func (t Target) String() string {
	var b strings.Builder
	b.WriteString(targetScheme + t.Address())
	for _, p := range t.Also {
		fmt.Fprintf(&b, ",%d", p)
	}
	fmt.Fprintf(&b, "/%s/%s/%s", t.Pin, key64(t.Mint), key64(t.Intake))
	if len(t.ECH) > 0 {
		b.WriteString("/" + base64.RawURLEncoding.EncodeToString(t.ECH))
	}
	return b.String()
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
	if len(f) != 4 && len(f) != 5 {
		return refuse(fmt.Sprintf("%d parts instead of HOST:PORT/PIN/MINT/INTAKE; is the line complete?", len(f)))
	}
	ports := strings.Split(f[0], ",")
	if len(ports) > 1+maxPorts {
		return refuse("too many ports")
	}
	host, port, err := net.SplitHostPort(ports[0])
	if err != nil || !validHost(host) {
		return refuse("bad HOST:PORT")
	}
	t.Host, ports[0] = host, port
	for i, port := range ports {
		n, err := strconv.ParseUint(port, 10, 16)
		switch {
		case err != nil || n == 0:
			return refuse("bad port")
		case i == 0:
			t.Port = uint16(n)
		default:
			t.Also = append(t.Also, uint16(n))
		}
	}
	if t.Pin, err = channel.ParsePin(f[1]); err != nil || t.Pin.WebPKI() {
		return refuse("bad pin")
	}
	if t.Mint, ok = parseKey64(f[2]); !ok {
		return refuse("bad mint key")
	}
	if t.Intake, ok = parseKey64(f[3]); !ok {
		return refuse("bad intake key")
	}
	if len(f) == 5 {
		if t.ECH, err = base64.RawURLEncoding.Strict().DecodeString(f[4]); err != nil || len(t.ECH) == 0 || len(t.ECH) > maxECH {
			return refuse("bad ECH configuration")
		}
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
	return channel.Relay{Host: t.Host, Port: t.Port, Pin: t.Pin, Prefix: t.Mint.Mint(batch.TagFor(t.Pin)), ECH: t.ECH}
}

// Others are the relay once for each of its other ports: for grants, invites have
// no room for them.
func (t Target) Others(batch channel.Seed) []channel.Relay {
	var out []channel.Relay
	for _, p := range t.Also {
		r := t.Relay(batch)
		r.Port, r.ECH = p, nil // said once
		out = append(out, r)
	}
	return out
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

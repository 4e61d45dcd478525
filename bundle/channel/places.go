package channel

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
)

// Relay is a relay as an invite or a grant names it.
type Relay struct {
	// Host is a DNS name or an IP address without brackets, Port the port that
	// serves both UDP and TCP.
	Host string
	Port uint16
	// Pin authenticates the relay's key whatever its certificate says; the zero
	// one leaves that to WebPKI (see Pin.WebPKI).
	Pin Pin
	// Prefix is the secret path segment that opens this relay to one batch of
	// readers. It is a secret: never log it.
	Prefix Prefix
	// ECH is an ECHConfigList (RFC 9849), nil if the relay offers none. Invites carry
	// only what ECHConfig makes.
	ECH []byte
}

// Pin is the first 16 bytes of the SHA-256 of a certificate's
// SubjectPublicKeyInfo in DER. Sixteen zero bytes are no hash but a mark: see
// WebPKI.
type Pin [16]byte

// WebPKI reports whether the pin is the mark of a relay that is reached through
// somebody else's name, a CDN's: whoever answers there is known by a
// certificate of the web's authorities for Relay.Host, as browsers know him,
// and Host is a DNS name.
func (p Pin) WebPKI() bool { return p == Pin{} }

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return Pin(sum[:16])
}

// String returns the pin as 26 lower-case base32 characters.
func (p Pin) String() string { return lower32.EncodeToString(p[:]) }

// Prefix is a relay's secret path segment: 8 bytes of tag, 4 of hint, 12 of MAC.
type Prefix [24]byte

// PathLen is the length of a prefix as a path segment.
const PathLen = 32

// Path returns the 32 base64url characters that stand in the URL.
func (p Prefix) Path() string { return base64.RawURLEncoding.EncodeToString(p[:]) }

// Tag returns the part of the prefix that names the batch at this relay.
func (p Prefix) Tag() [8]byte { return [8]byte(p[:8]) }

// Hint is the part of the prefix that says with which mint key it was made, if
// with any.
func (p Prefix) Hint() Hint { return Hint(p[8:12]) }

// ParsePrefix reads a path segment; ok is false unless it is exactly 32
// base64url characters.
func ParsePrefix(segment string) (p Prefix, ok bool) {
	if len(segment) != PathLen {
		return p, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(p[:], []byte(segment))
	return p, err == nil && n == len(p)
}

// MintKey lets one publisher mint prefixes for one relay. A relay derives it
// for each channel it carries and hands it to that channel's publisher, who
// never sees the relay's own secret.
type MintKey [32]byte

// NewMintKey derives a channel's mint key from the relay's secret (at least 32
// random bytes).
func NewMintKey(relaySecret []byte, ch ID) MintKey {
	m := hmac.New(sha256.New, relaySecret)
	m.Write([]byte("tamizdat/v1/mint\n"))
	m.Write(ch[:])
	return MintKey(m.Sum(nil))
}

// Hint is the same in all prefixes of one mint key, and tells that key from
// others by a look into a table: a relay that carries a thousand channels has one
// MAC to compute for a request, not a thousand. Who has not the key can't make it,
// and who guesses it has guessed nothing of the MAC.
type Hint [4]byte

// Hint returns the key's hint.
func (k MintKey) Hint() Hint {
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte("tamizdat/v1/hint\n"))
	return Hint(m.Sum(nil)[:4])
}

// Mint returns the prefix of one tag.
func (k MintKey) Mint(tag [8]byte) Prefix { return k.Lock().mint(tag) }

// Lock is what prefixes of one mint key fit: the key and its hint, which is the same
// for all of them.
type Lock struct {
	key  MintKey
	hint Hint
}

// Lock returns the key's lock, for who checks many prefixes.
func (k MintKey) Lock() Lock { return Lock{k, k.Hint()} }

// Hint is that of the prefixes that fit.
func (l Lock) Hint() Hint { return l.hint }

// Check reports in constant time whether p was minted with the lock's key.
func (l Lock) Check(p Prefix) bool {
	want := l.mint(p.Tag())
	return hmac.Equal(want[:], p[:])
}

func (l Lock) mint(tag [8]byte) Prefix {
	m := hmac.New(sha256.New, l.key[:])
	m.Write(tag[:])
	var p Prefix
	copy(p[:8], tag[:])
	copy(p[8:12], l.hint[:])
	copy(p[12:], m.Sum(nil))
	return p
}

// TagFor derives the tag by which a batch is known at the relay with that pin,
// so that one batch has unlinkable tags at different relays. The pin stands for
// the relay's key: a publisher, who is handed the pin, can mint without ever
// having connected.
func (s Seed) TagFor(pin Pin) [8]byte {
	b, err := hkdf.Key(sha256.New, s[:], nil, "tamizdat/v1/tag\n"+string(pin[:]), 8)
	if err != nil {
		panic(err) // only for lengths out of range
	}
	return [8]byte(b)
}

// Seed is the 32-byte secret of one batch of invites.
type Seed [32]byte

// GrantName returns the name under which the batch's grant is found: 26
// lower-case base32 characters, used as file name, query parameter and DNS label.
func (s Seed) GrantName(ch ID) string {
	b, err := hkdf.Key(sha256.New, s[:], nil, "tamizdat/v1/grant\n"+string(ch[:]), 16)
	if err != nil {
		panic(err)
	}
	return lower32.EncodeToString(b)
}

// Zone is a DNS zone that carries the channel.
type Zone struct {
	// Name is the zone's domain name in lower case without the final dot.
	Name string
	// Authority is "address:port" of a server that answers for the zone
	// directly; empty if only resolvers lead there.
	Authority string
}

// Places are the ways in that an invite or a grant names. Everything in them is
// public to whoever holds the invite, so they are a secret of the batch.
type Places struct {
	Relays []Relay
	Zones  []Zone
	// Peers are IPFS peers as multiaddresses: /ip4, /ip6, /dns, /dns4 or /dns6, then
	// /tcp/PORT or /udp/PORT/quic-v1, then /p2p/ID.
	Peers []string
	// Gateways are base URLs of trustless IPFS gateways, https unless loopback.
	Gateways []string
	// Mirrors are base URLs of static mirrors (FORMAT.md, section 11), https
	// unless loopback.
	Mirrors []string
}

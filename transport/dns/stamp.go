package dns

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
)

var errStamp = errors.New("damaged DNS stamp; copy all of it, from sdns:// to its end")

// Kinds of stamps (https://dnscrypt.info/stamps-specifications).
const (
	stampPlain = 0
	stampDoH   = 2
	stampDoT   = 3
)

// parseStamp reads what follows sdns://. Its promises (no logs, no filter) and
// its resolvers for a first look-up are left aside.
func parseStamp(text string) (Address, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) < 10 {
		return Address{}, errStamp
	}
	kind, s := b[0], stamp{b[9:], true}
	at := s.next()
	var a Address
	switch kind {
	case stampPlain:
		if !s.ok {
			return Address{}, errStamp
		}
		return parsePlain(Plain, at)
	case stampDoH, stampDoT:
		for more := true; more && s.ok; {
			var hash string
			if hash, more = s.item(); len(hash) == 32 {
				a.pins = append(a.pins, [32]byte([]byte(hash)))
			} else if hash != "" {
				return Address{}, errStamp
			}
		}
	default:
		return Address{}, errors.New("a DNS stamp of another kind than plain DNS, DoT and DoH")
	}
	a.Way, a.Host = TLS, s.next()
	if kind == stampDoH {
		a.Way, a.Path = HTTPS, s.next()
	}
	if !s.ok || kind == stampDoH && !strings.HasPrefix(a.Path, "/") || strings.ContainsAny(a.Path, "?#{}@ \\") {
		return Address{}, errStamp
	}
	// The port may stand with the address, which may be nothing else.
	host, port, err := splitPort(at, a.Way)
	if err != nil {
		return Address{}, err
	}
	if a.Host, a.Port, err = splitPort(a.Host, a.Way); err != nil {
		return Address{}, err
	}
	if a.Port == defaultPort[a.Way] {
		a.Port = port
	}
	if host != "" {
		if a.At, err = parseAddr(host); err != nil {
			return Address{}, errStamp
		}
		if a.Host == "" || isAddress(a.Host) {
			a.Host, a.At = a.At.String(), netip.Addr{}
		}
	}
	return a.checked()
}

// stamp is what is left to read; ok is false once something was missing.
type stamp struct {
	b  []byte
	ok bool
}

// item reads a string and whether its list goes on.
func (s *stamp) item() (v string, more bool) {
	if len(s.b) == 0 || len(s.b)-1 < int(s.b[0]&0x7f) {
		s.ok = false
		return "", false
	}
	n := int(s.b[0] & 0x7f)
	v, more = string(s.b[1:1+n]), s.b[0]&0x80 != 0
	s.b = s.b[1+n:]
	return v, more
}

// next reads a string that is no list.
func (s *stamp) next() string {
	v, more := s.item()
	if more {
		s.ok = false
	}
	return v
}

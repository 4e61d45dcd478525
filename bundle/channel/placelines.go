package channel

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/multiformats/go-multiaddr"
)

const (
	maxPlaces   = 64  // of each kind in a grant
	maxPlaceLen = 253 // bytes: the longest domain name
	maxECH      = 1024
)

// check refuses places that could not have been meant: it runs when they are
// written and again when they are read, before anything dials them.
func (p *Places) check() error {
	if max(len(p.Relays), len(p.Zones), len(p.Peers), len(p.Gateways), len(p.Mirrors)) > maxPlaces {
		return errors.New("too many places")
	}
	for _, r := range p.Relays {
		if !validHost(r.Host) || r.Port == 0 || len(r.ECH) > maxECH {
			return errors.New("malformed relay")
		}
		if r.Pin.WebPKI() && !certifiable(r.Host) {
			return errors.New("relay without a pin at an address (it needs a domain name)")
		}
	}
	for _, z := range p.Zones {
		if !validDomain(z.Name) || len(z.Name) > 30 {
			return errors.New("malformed zone (a domain name of at most 30 characters)")
		}
		if z.Authority != "" && !validAuthority(z.Authority) {
			return errors.New("malformed zone authority (address:port)")
		}
	}
	for _, a := range p.Peers {
		if !validPeer(a) {
			return errors.New("malformed peer (/ip4, /ip6 or /dns, then /tcp/PORT or /udp/PORT/quic-v1, then /p2p/ID)")
		}
	}
	for _, g := range p.Gateways {
		if !validBase(g) {
			return errors.New("malformed gateway (an https URL, the host in lower case)")
		}
	}
	for _, m := range p.Mirrors {
		if !validBase(m) {
			return errors.New("malformed mirror (an https URL, the host in lower case)")
		}
	}
	return nil
}

// printable reports whether s is visible ASCII alone.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// validPeer wants a multiaddress of the forms that IPFS peers have had for years, and
// no other: what the library makes of one hangs on its version, and a grant is read as
// a whole or not at all.
func validPeer(s string) bool {
	m, err := multiaddr.NewMultiaddr(s)
	if err != nil || len(m) < 3 || len(s) > maxPlaceLen || m.String() != s {
		return false
	}
	ways, last := m[1:len(m)-1], m[len(m)-1]
	switch {
	case last.Code() != multiaddr.P_P2P || !validPeerID(last.RawValue()) || ways[0].Value() == "0":
		return false
	case len(ways) == 1 && ways[0].Code() == multiaddr.P_TCP:
	case len(ways) == 2 && ways[0].Code() == multiaddr.P_UDP && ways[1].Code() == multiaddr.P_QUIC_V1:
	default:
		return false
	}
	switch m[0].Code() {
	case multiaddr.P_IP4, multiaddr.P_IP6:
		return validHost(m[0].Value())
	case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6:
		return validDomain(m[0].Value())
	}
	return false
}

// validPeerID wants the multihash of a libp2p key: the key itself or its SHA-256
// (libp2p's specification of peer IDs).
func validPeerID(b []byte) bool {
	return len(b) == 34 && b[0] == 0x12 && b[1] == 32 || len(b) > 2 && len(b) <= 2+42 && b[0] == 0 && int(b[1]) == len(b)-2
}

// baseURL is a URL of a closed form: what else parsers of URLs take, and what they make of
// it, differs.
var baseURL = regexp.MustCompile(`^(https?)://(?:\[([0-9a-f:.]+)\]|([0-9a-z._-]+))(?::([1-9][0-9]{0,4}))?(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?$`)

// validBase wants the URL under which a gateway or a mirror has its files.
func validBase(s string) bool {
	m := baseURL.FindStringSubmatch(s)
	if m == nil || len(s) > maxPlaceLen {
		return false
	}
	scheme, v6, host, port := m[1], m[2], m[3], m[4]
	if port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
	}
	if v6 != "" {
		a, err := netip.ParseAddr(v6)
		if err != nil || !a.Is6() || !validHost(v6) {
			return false
		}
	} else if _, err := netip.ParseAddr(host); err != nil && endsInNumber(host) || !validHost(host) {
		return false
	}
	return scheme == "https" || isLoopback(v6+host)
}

func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String() == s && validAddr(a)
	}
	return validDomain(s)
}

// validAddr refuses addresses that mean something on one machine alone, and those of
// IPv4 in the clothes of IPv6, which have more than one spelling.
func validAddr(a netip.Addr) bool { return a.Zone() == "" && !a.Is4In6() }

// endsInNumber reports whether the last label is a number: to some resolvers such a
// name is an address (https://url.spec.whatwg.org/#ends-in-a-number-checker).
func endsInNumber(host string) bool {
	return strings.Trim(host[strings.LastIndexByte(host, '.')+1:], "0123456789") == ""
}

// certifiable reports whether WebPKI can vouch for a host: a domain name of at
// least two labels. One that ends in a number nobody certifies.
func certifiable(host string) bool {
	_, isAddr := netip.ParseAddr(host)
	return isAddr != nil && strings.Contains(host, ".") && validDomain(host) && !endsInNumber(host)
}

// validAuthority wants an address, not a name: looking a name up is what the
// zone is there to avoid.
func validAuthority(s string) bool {
	ap, err := netip.ParseAddrPort(s)
	return err == nil && ap.Port() != 0 && ap.String() == s && validAddr(ap.Addr())
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// validDomain accepts lower-case letters, digits, inner hyphens and underscores
// in labels of 1 to 63 characters.
func validDomain(s string) bool {
	if s == "" || len(s) > maxPlaceLen || !utf8.ValidString(s) {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// writeLines writes the places as lines of a grant.
func (p *Places) writeLines(w io.Writer) {
	for _, r := range p.Relays {
		ech := "-"
		if len(r.ECH) > 0 {
			ech = b64(r.ECH)
		}
		fmt.Fprintf(w, "relay %s %d %s %s %s\n", r.Host, r.Port, r.Pin, r.Prefix.Path(), ech)
	}
	for _, z := range p.Zones {
		authority := "-"
		if z.Authority != "" {
			authority = z.Authority
		}
		fmt.Fprintf(w, "zone %s %s\n", z.Name, authority)
	}
	for _, a := range p.Peers {
		fmt.Fprintf(w, "peer %s\n", a)
	}
	for _, g := range p.Gateways {
		fmt.Fprintf(w, "gateway %s\n", g)
	}
	for _, m := range p.Mirrors {
		fmt.Fprintf(w, "mirror %s\n", m)
	}
}

// places reads what writeLines wrote.
func (l *lines) places() (p Places) {
	for l.peek("relay") && len(p.Relays) <= maxPlaces {
		f := l.fields("relay", 5)
		r := Relay{Host: f[0], Pin: l.pin(f[2])}
		port, err := strconv.ParseUint(f[1], 10, 16)
		prefix, ok := ParsePrefix(f[3])
		if err != nil || !ok {
			l.fail("malformed relay")
			return p
		}
		r.Port, r.Prefix = uint16(port), prefix
		if f[4] != "-" {
			if r.ECH, err = base64.StdEncoding.Strict().DecodeString(f[4]); err != nil {
				l.fail("malformed ECH config")
			}
		}
		p.Relays = append(p.Relays, r)
	}
	for l.peek("zone") && len(p.Zones) <= maxPlaces {
		f := l.fields("zone", 2)
		z := Zone{Name: f[0], Authority: f[1]}
		if z.Authority == "-" {
			z.Authority = ""
		}
		p.Zones = append(p.Zones, z)
	}
	for l.peek("peer") && len(p.Peers) <= maxPlaces {
		p.Peers = append(p.Peers, l.fields("peer", 1)[0])
	}
	for l.peek("gateway") && len(p.Gateways) <= maxPlaces {
		p.Gateways = append(p.Gateways, l.fields("gateway", 1)[0])
	}
	for l.peek("mirror") && len(p.Mirrors) <= maxPlaces {
		p.Mirrors = append(p.Mirrors, l.fields("mirror", 1)[0])
	}
	if l.err == nil {
		l.err = p.check()
	}
	return p
}

func (l *lines) pin(s string) (p Pin) {
	b, err := lower32.DecodeString(s)
	if l.err == nil && (err != nil || len(b) != len(p)) {
		l.fail("malformed pin")
	}
	if l.err != nil {
		return p
	}
	return Pin(b)
}

// ParsePin is the inverse of Pin.String.
func ParsePin(s string) (Pin, error) {
	l := &lines{}
	p := l.pin(s)
	if l.err == nil && p.String() != s {
		l.fail("malformed pin")
	}
	return p, l.err
}

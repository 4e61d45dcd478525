package channel

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
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
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil || m.String() != a || len(a) > maxPlaceLen || !printable(a) {
			return errors.New("malformed peer (a multiaddress)")
		}
		// Names in multiaddresses may hold anything; these end up in a grant's
		// lines and on terminals.
		if n := len(m); m[n-1].Code() != multiaddr.P_P2P {
			return errors.New("malformed peer (no /p2p/ID at its end)")
		}
	}
	for _, g := range p.Gateways {
		if !validBase(g) {
			return errors.New("malformed gateway (an https URL)")
		}
	}
	for _, m := range p.Mirrors {
		if !validBase(m) {
			return errors.New("malformed mirror (an https URL)")
		}
	}
	return nil
}

// printable reports whether s is visible ASCII alone.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// validBase wants the URL under which a gateway or a mirror has its files.
func validBase(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxPlaceLen && printable(s) && u.String() == s && u.Hostname() != "" && u.User == nil && u.RawQuery == "" &&
		u.Fragment == "" && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String() == s && a.Zone() == ""
	}
	return validDomain(s)
}

// certifiable reports whether WebPKI can vouch for a host: a domain name of at
// least two labels. One whose last label is a number is an address to some
// resolvers (https://url.spec.whatwg.org/#ends-in-a-number-checker), and
// nobody certifies it.
func certifiable(host string) bool {
	_, isAddr := netip.ParseAddr(host)
	dot := strings.LastIndexByte(host, '.')
	return isAddr != nil && dot > 0 && validDomain(host) && strings.Trim(host[dot+1:], "0123456789") != ""
}

// validAuthority wants an address, not a name: looking a name up is what the
// zone is there to avoid.
func validAuthority(s string) bool {
	ap, err := netip.ParseAddrPort(s)
	return err == nil && ap.Port() != 0 && ap.String() == s
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

package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Way is how a resolver is asked.
type Way int

// The ways, from the plainest to the one that looks most like something else.
const (
	Plain Way = iota // UDP, and TCP for what is cut there (RFC 1035)
	TCP              // TCP only (RFC 7766)
	TLS              // DoT (RFC 7858)
	HTTPS            // DoH (RFC 8484) over HTTP/3 or HTTP/2
)

// Address says which resolver is asked, and how. It is made by ParseResolver.
type Address struct {
	Way Way
	// Host is an address, or the name that the certificate must be for (TLS and
	// HTTPS only).
	Host string
	Port uint16
	// At is where Host is. If it is not valid, a name is looked up in the system's
	// way, which shows who looks that this resolver is going to be asked.
	At netip.Addr
	// Path is where an HTTPS server answers.
	Path string
	// pins are SHA-256 hashes of certificates' signed part (TBSCertificate): one of
	// them must be in the chain. None: any chain will do that the authorities vouch for.
	pins [][32]byte
}

// maxAddress bounds a resolver's text, in bytes: the longest host name and path.
const maxAddress = 1024

// dohPath is where most servers answer, the example of RFC 8484.
const dohPath = "/dns-query"

var defaultPort = map[Way]uint16{Plain: 53, TCP: 53, TLS: 853, HTTPS: 443}

// ParseResolver reads a resolver as people write it:
//
//	192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:53, udp://192.0.2.1
//	tcp://192.0.2.1
//	tls://dns.example, tls://dns.example:8853@192.0.2.1, tls://192.0.2.1#dns.example
//	https://dns.example/dns-query, https://dns.example/dns-query@192.0.2.1
//	sdns://… (a DNS stamp of one of these)
//
// What stands behind the @ is where the host is, so that nobody has to be asked
// for it; #NAME behind an address says whose certificate it has to show there.
// Without either an address must be in the certificate itself. Errors are one
// line with a hint.
func ParseResolver(text string) (Address, error) {
	if len(text) > maxAddress {
		return Address{}, errors.New("this is too long for a resolver")
	}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(text), "://")
	if !ok {
		scheme, rest = "udp", scheme
	}
	switch strings.ToLower(scheme) {
	case "udp":
		return parsePlain(Plain, rest)
	case "tcp":
		return parsePlain(TCP, rest)
	case "tls":
		return parseTLS(rest)
	case "https":
		return parseHTTPS(rest)
	case "sdns":
		return parseStamp(rest)
	case "http", "h3", "quic":
		return Address{}, fmt.Errorf("%s:// is no way to ask a resolver; https:// is (HTTP/3 is tried by itself)", strings.ToLower(scheme))
	}
	return Address{}, errors.New("unknown way to ask a resolver; there are ADDRESS, tcp://, tls://, https:// and sdns://")
}

func parsePlain(w Way, rest string) (Address, error) {
	host, port, err := splitPort(rest, w)
	if err != nil {
		return Address{}, err
	}
	ip, err := parseAddr(host)
	if err != nil {
		return Address{}, errors.New("a resolver that is asked in the clear is an address, as in 192.0.2.1 or [2001:db8::1]:53; names need tls:// or https://")
	}
	return Address{Way: w, Host: ip.String(), Port: port}, nil
}

func parseTLS(rest string) (Address, error) {
	rest, name, named := strings.Cut(rest, "#")
	rest, at, err := cutAt(rest)
	if err != nil {
		return Address{}, err
	}
	a := Address{Way: TLS, At: at}
	if a.Host, a.Port, err = splitPort(rest, TLS); err != nil {
		return Address{}, err
	}
	if named {
		if a.At, err = parseAddr(a.Host); err != nil || at.IsValid() {
			return Address{}, errors.New("#NAME stands behind an address, as in tls://192.0.2.1#dns.example")
		}
		a.Host = name
		if isAddress(name) {
			return Address{}, errors.New("behind # stands a name, as in tls://192.0.2.1#dns.example")
		}
	}
	return a.checked()
}

func parseHTTPS(rest string) (Address, error) {
	rest, at, err := cutAt(rest)
	if err != nil {
		return Address{}, err
	}
	// Some lists give the template of RFC 8484; with POST its variable is empty.
	u, err := url.Parse("https://" + strings.TrimSuffix(rest, "{?dns}"))
	if err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" || strings.ContainsAny(u.Path, "{}\\ ") {
		return Address{}, errors.New("this is no plain URL; one looks like https://dns.example/dns-query")
	}
	if u.User != nil {
		return Address{}, errors.New("where the host is stands last, as in https://dns.example/dns-query@192.0.2.1")
	}
	a := Address{Way: HTTPS, At: at, Path: u.EscapedPath()}
	if a.Path == "" || a.Path == "/" {
		a.Path = dohPath
	}
	if a.Host, a.Port, err = splitPort(u.Host, HTTPS); err != nil {
		return Address{}, err
	}
	return a.checked()
}

// cutAt cuts @ADDRESS off.
func cutAt(s string) (rest string, at netip.Addr, err error) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s, at, nil
	}
	if at, err = parseAddr(strings.Trim(s[i+1:], "[]")); err == nil {
		return s[:i], at, nil
	}
	if strings.IndexByte(s[i:], '/') > 0 {
		return s, netip.Addr{}, nil // not at the end: the URL's own, if it may have one
	}
	return "", at, errors.New("behind @ stands an address without a port, as in tls://dns.example@192.0.2.1")
}

// splitPort splits HOST[:PORT], also where an IPv6 address has no brackets.
func splitPort(s string, w Way) (host string, port uint16, err error) {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if isAddress(bare) {
		return bare, defaultPort[w], nil
	}
	if !strings.Contains(s, ":") {
		return s, defaultPort[w], nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, errors.New("a resolver is HOST or HOST:PORT, an IPv6 address with a port in brackets: [2001:db8::1]:53")
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != p {
		return "", 0, errors.New("a port is a number from 1 to 65535")
	}
	return host, uint16(n), nil
}

// checked returns a with its host in lower case if it can be.
func (a Address) checked() (Address, error) {
	if ip, err := parseAddr(a.Host); err == nil {
		if a.At.IsValid() {
			return Address{}, errors.New("two addresses for one resolver; one of them must be a name")
		}
		if ip.Zone() != "" {
			return Address{}, errors.New("no certificate is for an address with a %zone")
		}
		a.Host = ip.String()
		return a, nil
	}
	a.Host = lowerASCII(strings.TrimSuffix(a.Host, "."))
	if err := checkHost(a.Host); err != nil {
		return Address{}, fmt.Errorf("resolver's %w", err)
	}
	if last := a.Host[strings.LastIndexByte(a.Host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return Address{}, errors.New("a resolver's host is neither an address nor a name")
	}
	return a, nil
}

// parseAddr is netip.ParseAddr for what people write: the name of an interface
// behind % is one, and an IPv4 address inside an IPv6 one is an IPv4 address.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && strings.Trim(a.Zone(), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return netip.Addr{}, errors.New("no such interface")
	}
	return a.Unmap(), err
}

func isAddress(s string) bool { _, err := parseAddr(s); return err == nil }

// stream reports whether the resolver is never asked over UDP datagrams of DNS.
func (a Address) stream() bool { return a.Way != Plain }

// Secret reports whether the questions are encrypted on their way to the resolver.
func (a Address) Secret() bool { return a.Way == TLS || a.Way == HTTPS }

// dial is "host:port" of what is dialled.
func (a Address) dial() string {
	host := a.Host
	if a.At.IsValid() {
		host = a.At.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.Port)))
}

// authority is the host as it stands in a URL or behind tls://.
func (a Address) authority() string {
	host := a.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.Port != defaultPort[a.Way] {
		host += ":" + strconv.Itoa(int(a.Port))
	}
	return host
}

// String is the address in the form that ParseResolver takes (without what a
// stamp says of certificates).
func (a Address) String() string {
	var s string
	switch a.Way {
	case Plain:
		return a.dial()
	case TCP:
		return "tcp://" + a.authority()
	case TLS:
		s = "tls://" + a.authority()
	case HTTPS:
		s = "https://" + a.authority() + a.Path
	}
	if a.At.IsValid() {
		s += "@" + a.At.String()
	}
	return s
}

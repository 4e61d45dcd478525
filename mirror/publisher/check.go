package publisher

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/text/language"

	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

// maxLangs is how many languages a front page names.
const maxLangs = 64

// ParseLangs reads languages as people list them, with commas or spaces between:
// BCP 47 tags, returned in their canonical spelling. Its errors name the tag.
func ParseLangs(lists ...string) ([]string, error) {
	var out []string
	for _, s := range strings.FieldsFunc(strings.Join(lists, ","), func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' }) {
		tag, err := language.Parse(s)
		if err != nil || len(s) > 35 {
			return nil, fmt.Errorf("%q is no language tag; write ru or pt-BR, with commas between several", s)
		}
		out = append(out, tag.String())
	}
	if len(out) > maxLangs {
		return nil, fmt.Errorf("%d languages; at most %d", len(out), maxLangs)
	}
	return out, nil
}

// parseZone reads "ZONE" or "ZONE@ADDRESS:PORT".
func parseZone(s string) channel.Zone {
	name, authority, _ := strings.Cut(s, "@")
	return channel.Zone{Name: strings.ToLower(strings.TrimSuffix(name, ".")), Authority: authority}
}

// parseVia reads one of TargetConfig.Via. Its errors quote nothing.
func parseVia(s string) (host string, port uint16, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return "", 0, errors.New("it is no https address, as https://cdn.example")
	}
	if u.Path != "" && u.Path != "/" {
		return "", 0, errors.New("a name alone is wanted: the relay must stand at the top of it, without a path behind")
	}
	port = 443
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, errors.New("the port is none")
		}
		port = uint16(n)
	}
	host = strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return "", 0, errors.New("it needs the CDN's domain name, not an address: the name is what its certificate is checked for")
	}
	if !fits(channel.Places{Relays: []channel.Relay{{Host: host, Port: port}}}) {
		return "", 0, errors.New("it is no domain name as in cdn.example (write others as xn--...)")
	}
	return host, port, nil
}

// checkVia checks a relay's CDNs. fronts remembers which relay each of them
// stands before: a CDN's name leads to one only.
func (t *TargetConfig) checkVia(line wire.Target, fronts map[string]string) error {
	for i, v := range t.Via {
		host, port, err := parseVia(v)
		if err != nil {
			return fmt.Errorf("via[%d]: %w", i, err)
		}
		at, relay := net.JoinHostPort(host, strconv.Itoa(int(port))), strings.ToLower(line.Address())
		if at == relay {
			return fmt.Errorf("via[%d] is the relay itself", i)
		}
		if other, ok := fronts[at]; ok && other != relay {
			return fmt.Errorf("via[%d] is that of another relay too", i)
		}
		fronts[at] = relay
	}
	return nil
}

// checkLists says which value of which setting would make packing or inviting
// fail. It quotes none: an address may be known to few.
func (c *Config) checkLists() error {
	bad := func(setting string, i int, want string) error {
		return fmt.Errorf("%s[%d] is no %s", setting, i, want)
	}
	for i, l := range c.Langs {
		if one, err := ParseLangs(l); err != nil || len(one) != 1 {
			return bad("lang", i, `single language tag, as in lang = ["ru", "en"]`)
		}
	}
	if len(c.Langs) > maxLangs {
		return fmt.Errorf("lang: %d languages; at most %d", len(c.Langs), maxLangs)
	}
	for i, z := range c.Zones {
		if !fits(channel.Places{Zones: []channel.Zone{parseZone(z)}}) {
			return bad("zones", i, "domain name of at most 30 characters, with @ADDRESS:PORT or without")
		}
	}
	for i, m := range c.Peers {
		if !fits(channel.Places{Peers: []string{m}}) {
			return bad("peers", i, "multiaddress ending in /p2p/ID")
		}
	}
	for i, g := range c.Gateways {
		if !fits(channel.Places{Gateways: []string{g}}) {
			return bad("gateways", i, "https URL")
		}
	}
	return nil
}

// fits reports whether an invite could name these places: its own check is the
// one that counts.
func fits(p channel.Places) bool {
	v := channel.Invite{IPNS: make(ed25519.PublicKey, ed25519.PublicKeySize), Places: p}
	return v.Validate() == nil
}

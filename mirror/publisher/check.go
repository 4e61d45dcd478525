package publisher

import (
	"crypto/ed25519"
	"fmt"
	"strings"

	"golang.org/x/text/language"

	"tamizdat/bundle/channel"
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

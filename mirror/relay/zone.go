package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"tamizdat/internal/bucket"
	"tamizdat/transport/dns"
)

// ZoneConfig is one [[dns_zones]]: a zone besides dns_zone.
type ZoneConfig struct {
	// Name is the zone's name.
	Name string `toml:"name"`
	// NS are its name servers, "NAME" or "NAME=ADDRESS"; empty for the relay itself.
	NS []string `toml:"ns"`
}

// SecondaryConfig is one [[dns_secondary]]: a name server that holds a copy of
// the zone.
type SecondaryConfig struct {
	// Key is a file with the TSIG key that it fetches the zone with, relative to
	// the data folder; see dns.ParseKey. Its owner alone may be able to read it.
	Key string `toml:"key"`
	// Notify is where it is told of a new edition, "ADDRESS" or "ADDRESS:PORT";
	// empty for nowhere: then it asks once an hour.
	Notify string `toml:"notify"`
	// Zones are those that it is told of; empty for all.
	Zones []string `toml:"zones"`
}

// Secondaries are the name servers that may fetch the zone, and those of them
// that are told when there is something new.
type Secondaries struct {
	Keys []*dns.Key
	Tell []dns.Secondary
}

// maxSecondaries bounds how many there may be.
const maxSecondaries = 32

// maxZones bounds how many zones there may be.
const maxZones = 32

// OnlyZones is the configuration with those zones instead of its own, of which
// those of the same name keep their name servers. Where dns_ns stands without
// dns_zone it is for the one that is named.
func (c FileConfig) OnlyZones(names []string) FileConfig {
	known := c.zones()
	switch {
	case c.DNSZone != "":
		c.DNSZone, c.DNSNS = "", nil
	case len(names) == 1 && len(c.DNSNS) > 0:
		known = append(known, ZoneConfig{names[0], c.DNSNS})
		c.DNSNS = nil
	}
	c.DNSZones = nil
	for _, name := range names {
		z := ZoneConfig{Name: name}
		if i := slices.IndexFunc(known, func(k ZoneConfig) bool { return sameZone(k.Name, name) }); i >= 0 {
			z.NS = known[i].NS
		}
		c.DNSZones = append(c.DNSZones, z)
	}
	return c
}

func sameZone(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

func (c FileConfig) zones() []ZoneConfig {
	if c.DNSZone == "" {
		return c.DNSZones
	}
	return append([]ZoneConfig{{c.DNSZone, c.DNSNS}}, c.DNSZones...)
}

// Zones are the zones that the relay answers for. own are this machine's public
// addresses, the likeliest first, in case nothing else says where a zone's name server is.
func (c FileConfig) Zones(own ...netip.Addr) ([]dns.Zone, error) {
	if c.DNSZone == "" && len(c.DNSNS) > 0 {
		return nil, fmt.Errorf("%s: dns_ns is for dns_zone; set that as well, and ns of each of dns_zones", ConfigFile)
	}
	zones := c.zones()
	if len(zones) > maxZones {
		return nil, fmt.Errorf("%s: more than %d dns zones", ConfigFile, maxZones)
	}
	var out []dns.Zone
	for i, conf := range zones {
		z := dns.Zone{Name: conf.Name}
		for _, s := range conf.NS {
			ns, err := dns.ParseNS(s)
			if err != nil {
				return nil, fmt.Errorf("%s: name servers of dns zone number %d: %w", ConfigFile, i+1, err)
			}
			z.NS = append(z.NS, ns)
		}
		if len(z.NS) == 0 {
			z.NS = []dns.NS{c.itself(z.Name, own)}
		}
		out = append(out, z)
	}
	return out, nil
}

// itself is the relay as a zone's only name server: under the name that others know it by,
// or as ns.<zone> where that is an address, or the zone's own name or one without a dot,
// which can't be asked for, or readers hide it. The address that goes with a name in the
// zone is that in Host, or the one that the name server listens on, or a guess.
func (c FileConfig) itself(zone string, own []netip.Addr) dns.NS {
	host := c.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h // the port is the website's
	}
	host = strings.Trim(host, "[]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return dns.NS{Host: "ns." + zone, Addrs: []netip.Addr{addr}}
	}
	if at, _, err := net.SplitHostPort(c.DNSListen); err == nil {
		if addr, err := netip.ParseAddr(at); err == nil && slices.Contains(own, addr) {
			own = []netip.Addr{addr}
		}
	}
	if c.ECH != "" || sameZone(host, zone) || !strings.Contains(host, ".") {
		host = "ns." + zone
	}
	return dns.NS{Host: host, Addrs: own[:min(1, len(own))]}
}

// Secondaries reads the keys of the name servers in the configuration; dir is
// the data folder. One key may be that of several.
func (c FileConfig) Secondaries(dir string) (Secondaries, error) {
	var out Secondaries
	if len(c.DNSSecondaries) > maxSecondaries {
		return out, fmt.Errorf("%s: more than %d of dns_secondary", ConfigFile, maxSecondaries)
	}
	read := map[string]*dns.Key{}
	for i, s := range c.DNSSecondaries {
		fail := func(err error) error { return fmt.Errorf("%s: dns_secondary, number %d: %w", ConfigFile, i+1, err) }
		if s.Key == "" {
			return out, fail(errors.New(`it needs the file of a key; make one with "tsig-keygen NAME"`))
		}
		if !filepath.IsAbs(s.Key) {
			s.Key = filepath.Join(dir, s.Key)
		}
		key := read[s.Key]
		if key == nil {
			text, err := bucket.ReadSecret(s.Key)
			if err != nil {
				return out, fail(err)
			}
			if key, err = dns.ParseKey(text); err != nil {
				return out, fail(err)
			}
			read[s.Key] = key
			out.Keys = append(out.Keys, key)
		}
		for _, name := range s.Zones {
			if !slices.ContainsFunc(c.zones(), func(z ZoneConfig) bool { return sameZone(z.Name, name) }) {
				return out, fail(errors.New("its zones are not all among this relay's"))
			}
		}
		if s.Notify == "" {
			continue
		}
		addr := s.Notify
		if _, err := netip.ParseAddr(addr); err == nil {
			addr = net.JoinHostPort(addr, "53")
		} else if _, _, err := net.SplitHostPort(addr); err != nil {
			return out, fail(errors.New("notify is no ADDRESS:PORT"))
		}
		out.Tell = append(out.Tell, dns.Secondary{Addr: addr, Key: key, Zones: s.Zones})
	}
	return out, nil
}

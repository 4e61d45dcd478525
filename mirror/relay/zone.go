package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"tamizdat/internal/bucket"
	"tamizdat/transport/dns"
)

// SecondaryConfig is one [[dns_secondary]]: a name server that holds a copy of
// the zone.
type SecondaryConfig struct {
	// Key is a file with the TSIG key that it fetches the zone with, relative to
	// the data folder; see dns.ParseKey. Its owner alone may be able to read it.
	Key string `toml:"key"`
	// Notify is where it is told of a new edition, "ADDRESS" or "ADDRESS:PORT";
	// empty for nowhere: then it asks once an hour.
	Notify string `toml:"notify"`
}

// Secondaries are the name servers that may fetch the zone, and those of them
// that are told when there is something new.
type Secondaries struct {
	Keys []*dns.Key
	Tell []dns.Secondary
}

// maxSecondaries bounds how many there may be.
const maxSecondaries = 32

// Zone is the zone that the relay answers for.
func (c FileConfig) Zone() (dns.Zone, error) {
	z := dns.Zone{Name: c.DNSZone}
	for _, s := range c.DNSNS {
		ns, err := dns.ParseNS(s)
		if err != nil {
			return z, fmt.Errorf("%s: dns_ns: %w", ConfigFile, err)
		}
		z.NS = append(z.NS, ns)
	}
	if addr, err := netip.ParseAddr(c.Host); err == nil && len(z.NS) == 0 {
		z.NS = []dns.NS{{Host: "ns." + c.DNSZone, Addrs: []netip.Addr{addr}}}
	}
	return z, nil
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
		if s.Notify == "" {
			continue
		}
		addr := s.Notify
		if _, err := netip.ParseAddr(addr); err == nil {
			addr = net.JoinHostPort(addr, "53")
		} else if _, _, err := net.SplitHostPort(addr); err != nil {
			return out, fail(errors.New("notify is no ADDRESS:PORT"))
		}
		out.Tell = append(out.Tell, dns.Secondary{Addr: addr, Key: key})
	}
	return out, nil
}

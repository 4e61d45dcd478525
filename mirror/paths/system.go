package paths

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxSystem is how many of the system's resolvers are used: as many as its own
	// library asks.
	maxSystem = 3
	// maxOutput bounds what is read of what the system says, in bytes.
	maxOutput = 64 << 10
)

// SystemResolvers are the resolvers of the network that the device is on, the
// preferred one first, as package dns takes them; none where the system does not
// tell.
//
//   - Linux and the BSDs: resolv.conf(5).
//   - macOS: scutil(8), since programs there ask by it and not by resolv.conf,
//     which is the second choice.
//   - Windows: the adapters that are up, the preferred one first.
//   - Android up to 7: getprop(1). Later ones tell only apps, through Java; there
//     resolvers are given by hand. Termux has a resolv.conf of its own, with a
//     public resolver that nobody chose: it is not used.
func SystemResolvers() []string { return askable(systemResolvers()) }

// askAgain is how long what the system said holds, if the network is the same.
const askAgain = 30 * time.Second

// asked is what the system said last: on some systems it takes a program to ask.
type asked struct {
	ask   func() []string
	where func() string

	mu   sync.Mutex
	here string
	at   time.Time
	said []string
}

// resolvers are those of the system, as it said a moment ago on the same network.
func (a *asked) resolvers() []string {
	here := a.where()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) == 0 || here != a.here || time.Since(a.at) >= askAgain {
		a.said, a.here, a.at = a.ask(), here, time.Now()
	}
	return a.said
}

// askable leaves the first few that can be asked.
func askable(as []netip.Addr) []string {
	var out []string
	for _, a := range as {
		a = a.Unmap()
		// Windows has the addresses of fec0::/10 where it knows none (RFC 3879).
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || siteLocal.Contains(a) {
			continue
		}
		s := netip.AddrPortFrom(a, 53).String()
		if len(out) < maxSystem && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

var siteLocal = netip.MustParsePrefix("fec0::/10")

// fromResolvConf reads resolv.conf(5).
func fromResolvConf(path string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseResolvConf(io.LimitReader(f, maxOutput))
}

func parseResolvConf(r io.Reader) []netip.Addr {
	var out []netip.Addr
	for lines := bufio.NewScanner(r); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) < 2 || w[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(w[1]); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// parseScutil reads what `scutil --dns` prints. Its first part lists resolvers
// for all names, then those for a domain (a VPN's, Bonjour's), which have a
// "domain" line; the part for scoped queries, one for each interface, repeats
// them. Counted are those of the first part without a domain.
func parseScutil(text []byte) []netip.Addr {
	var out, here []netip.Addr
	special := false
	end := func() {
		if !special {
			out = append(out, here...)
		}
		here, special = nil, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		key, value, _ := strings.Cut(line, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(line, "DNS configuration (for scoped"):
			end()
			return out
		case strings.HasPrefix(line, "resolver #"):
			end()
		case key == "domain", key == "options" && strings.Contains(value, "mdns"):
			special = true
		case strings.HasPrefix(key, "nameserver["):
			if a, err := netip.ParseAddr(value); err == nil {
				here = append(here, a)
			}
		}
	}
	end()
	return out
}

// parseProps reads what getprop(1) prints for net.dns1 and its like, one a line.
func parseProps(text []byte) []netip.Addr {
	var out []netip.Addr
	for w := range strings.FieldsSeq(string(text)) {
		if a, err := netip.ParseAddr(w); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// adapter is what Windows says of a network interface.
type adapter struct {
	up, loopback bool
	metric       uint32 // the lower, the more it is preferred
	resolvers    []netip.Addr
}

// ofAdapters are the resolvers of those that are up, by preference. All of one
// come before those of the next: they are one list to Windows too.
func ofAdapters(as []adapter) []netip.Addr {
	as = slices.DeleteFunc(slices.Clone(as), func(a adapter) bool { return !a.up || a.loopback })
	slices.SortStableFunc(as, func(a, b adapter) int { return int(int64(a.metric) - int64(b.metric)) })
	var out []netip.Addr
	for _, a := range as {
		out = append(out, a.resolvers...)
	}
	return out
}

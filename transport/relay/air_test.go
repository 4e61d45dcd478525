package relay

import (
	"net/netip"
	"testing"
	"time"

	"tamizdat/internal/simnet"
)

const roundTrip = 100 * time.Millisecond

// air is a simulated net on which everybody is one round trip away from the
// relay, without limit or loss.
type air struct {
	*simnet.Net
	hosts map[string]*simnet.Host
}

// newAir makes one inside a synctest bubble.
func newAir(t *testing.T) *air {
	a := &air{simnet.New(1), map[string]*simnet.Host{}}
	t.Cleanup(func() { a.Close() })
	return a
}

// at is the net as the host of that address has it.
func (a *air) at(ip string) *simnet.Host {
	if a.hosts[ip] == nil {
		link := simnet.Link{Delay: roundTrip / 2}
		if ip == relayAt {
			link.Delay = 0
		}
		a.hosts[ip] = a.Host(ip, link, netip.MustParseAddr(ip))
	}
	return a.hosts[ip]
}

package paths

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/transporttest"
)

// nothing is a Network that opens nothing.
type nothing struct{}

func (nothing) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, transport.ErrUnsupported
}

func (nothing) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, transport.ErrUnsupported
}

func (nothing) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, transport.ErrUnsupported
}

func (nothing) Resolve(context.Context, string) ([]netip.Addr, error) {
	return nil, transport.ErrUnsupported
}

// A program that runs for days comes to networks with other resolvers, and to
// some with none at first.
func TestResolversOfTheNetwork(t *testing.T) {
	s := New(Config{Network: nothing{}})
	t.Cleanup(func() { _ = s.Close() })
	places := channel.Places{Zones: []channel.Zone{{Name: "n.example"}}}
	var here []string
	s.system = func() []string { return here }
	names := func() []string {
		var out []string
		for _, p := range s.Paths(channel.ID{}, nil, places) {
			out = append(out, p.Name)
		}
		return out
	}
	if got := names(); len(got) != 0 {
		t.Errorf("without a resolver: %v", got)
	}
	for _, r := range []string{"192.0.2.1:53", "198.51.100.1:53", "192.0.2.1:53"} {
		here = []string{r}
		if got := names(); len(got) != 1 || !strings.HasSuffix(got[0], r) {
			t.Errorf("at %s: %v", r, got)
		}
		if len(s.known) != 1 {
			t.Errorf("at %s: %d clients are kept", r, len(s.known))
		}
	}
}

// Who names encrypted resolvers only is not to be seen asking the zone's own server.
func TestAuthorityInTheClear(t *testing.T) {
	places := channel.Places{Zones: []channel.Zone{{Name: "n.example", Authority: "192.0.2.53:53"}}}
	for _, c := range []struct {
		resolvers []string
		asked     bool
	}{
		{nil, true},
		{[]string{"192.0.2.1"}, true},
		{[]string{"tls://dns.example@192.0.2.1"}, false},
		{[]string{"tls://dns.example@192.0.2.1", "https://dns.example@192.0.2.1"}, false},
		{[]string{"tls://dns.example@192.0.2.1", "tcp://192.0.2.1"}, true},
	} {
		s := New(Config{Network: nothing{}, Resolvers: c.resolvers})
		s.system = func() []string { return nil }
		ps := s.Paths(channel.ID{}, nil, places)
		if len(ps) != 1 || strings.Contains(ps[0].Name, "192.0.2.53") != c.asked {
			t.Errorf("%v: %v", c.resolvers, ps)
		}
		_ = s.Close()
	}
}

// Zones of one server confirm nothing to each other, nor do those that the same
// resolvers are asked for.
func TestZonesOfOneServer(t *testing.T) {
	s := New(Config{Network: nothing{}})
	s.system = func() []string { return []string{"192.0.2.1"} }
	defer s.Close()
	ps := s.Paths(channel.ID{}, nil, channel.Places{Zones: []channel.Zone{
		{Name: "n.example", Authority: "192.0.2.53:53"},
		{Name: "m.example", Authority: "192.0.2.53:5353"},
		{Name: "o.example", Authority: "192.0.2.54:53"},
		{Name: "p.example"},
		{Name: "q.example"},
	}})
	if len(ps) != 5 || ps[0].Source == "" || ps[0].Source != ps[1].Source || ps[2].Source == ps[1].Source ||
		ps[3].Source != ps[4].Source || ps[3].Source == "" || ps[3].Source == ps[2].Source {
		t.Errorf("%+v", ps)
	}
}

// A relay confirms nothing to a zone that it answers for itself, or that is its
// volunteer's; one operator is one source.
func TestZoneOfARelay(t *testing.T) {
	relay := func(host string, pin byte) channel.Relay {
		return channel.Relay{Host: host, Port: 443, Pin: channel.Pin{pin}, Prefix: channel.Prefix{pin}}
	}
	for name, c := range map[string]struct {
		zone   channel.Zone
		relays []channel.Relay
		alike  []bool // with each relay
	}{
		"by address":           {channel.Zone{Name: "n.example", Authority: "192.0.2.1:53"}, []channel.Relay{relay("192.0.2.1", 1), relay("192.0.2.2", 2)}, []bool{true, false}},
		"by IPv6 address":      {channel.Zone{Name: "n.example", Authority: "[2001:db8::1]:53"}, []channel.Relay{relay("2001:db8::1", 1)}, []bool{true}},
		"by domain":            {channel.Zone{Name: "n.volunteer.example"}, []channel.Relay{relay("news.Volunteer.example", 1), relay("other.example", 2)}, []bool{true, false}},
		"elsewhere, by domain": {channel.Zone{Name: "n.volunteer.example", Authority: "192.0.2.9:53"}, []channel.Relay{relay("volunteer.example", 1)}, []bool{true}},
		"a public suffix":      {channel.Zone{Name: "one.co.uk"}, []channel.Relay{relay("two.co.uk", 1)}, []bool{false}},
		"nobody's":             {channel.Zone{Name: "n.example", Authority: "192.0.2.9:53"}, []channel.Relay{relay("192.0.2.1", 1)}, []bool{false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Network: nothing{}, Resolvers: []string{"198.51.100.1"}})
			defer s.Close()
			source := func(ps []transport.Path, is func(transport.Path) bool) []string {
				i := slices.IndexFunc(ps, is)
				if i < 0 {
					t.Fatalf("no such path among %d", len(ps))
				}
				return strings.Split(ps[i].Source, "\n")
			}
			zone := func(p transport.Path) bool { return p.Kind == transport.KindDNS }
			// The zone is known before the relays are, and says who it depends on once they are.
			alone := source(s.Paths(channel.ID{}, nil, channel.Places{Zones: []channel.Zone{c.zone}}), zone)
			if len(alone) != 1 {
				t.Errorf("alone: %q", alone)
			}
			for range 2 {
				ps := s.Paths(channel.ID{}, nil, channel.Places{Relays: c.relays, Zones: []channel.Zone{c.zone}})
				of := source(ps, zone)
				for i, r := range c.relays {
					theirs := source(ps, func(p transport.Path) bool {
						return p.Kind == transport.KindQUIC && strings.Contains(p.Name, r.Host)
					})
					if len(theirs) != 1 || slices.Contains(of, theirs[0]) != c.alike[i] || !slices.Contains(of, alone[0]) {
						t.Errorf("%s: %q, the zone: %q", r.Host, theirs, of)
					}
				}
			}
		})
	}
}

// What a scan finds while zones are read is not lost when their pool stores what it
// knows, and what is forgotten does not come back.
func TestFoundWhileOpen(t *testing.T) {
	kept := notes{}
	s := New(Config{Network: nothing{}, Keeper: kept})
	s.system = func() []string { return []string{"198.51.100.1:53"} }
	places := channel.Places{Zones: []channel.Zone{{Name: "n.example"}}}
	s.Paths(channel.ID{}, nil, places)
	found := []dns.Facts{{Resolver: "192.0.2.7:53", OK: time.Now(), At: time.Now(), Good: 9, Size: 1040}, {Resolver: "192.0.2.8:53", At: time.Now()}}
	if all := s.Found("", found); len(all) != 1 || all[0].Resolver != "192.0.2.7:53" || !all[0].Found {
		t.Errorf("%+v", all)
	}
	if ps := s.Paths(channel.ID{}, nil, places); len(ps) != 1 || !strings.HasSuffix(ps[0].Name, "and found ones") {
		t.Errorf("not asked: %+v", ps)
	}
	if all := s.Found("elsewhere", found); len(all) != 1 || len(s.networks) != 1 {
		t.Errorf("%+v", all)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	later := New(Config{Network: nothing{}, Keeper: kept})
	for _, where := range []string{"", "elsewhere"} {
		if fs := later.Resolvers(where); len(fs) != 1 {
			t.Errorf("at %q: %+v", where, fs)
		}
	}
	later.system = s.system
	later.Paths(channel.ID{}, nil, places)
	later.Forget("")
	if err := later.Close(); err != nil {
		t.Fatal(err)
	}
	if fs := New(Config{Network: nothing{}, Keeper: kept}).Resolvers(""); len(fs) != 0 {
		t.Errorf("forgotten: %+v", fs)
	}
}

// notes is the plainest dns.Keeper.
type notes map[string][]byte

func (n notes) Load(key string) []byte         { return n[key] }
func (n notes) Store(key string, value []byte) { n[key] = value }

// Two servers of one zone are two paths, and each is known by its name, however many
// resolvers are asked as well.
func TestServersOfOneZone(t *testing.T) {
	s := New(Config{Network: nothing{}})
	defer s.Close()
	s.system = func() []string { return []string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"} }
	ps := s.Paths(channel.ID{}, nil, channel.Places{Zones: []channel.Zone{
		{Name: "n.example", Authority: "198.51.100.1:53"}, {Name: "n.example", Authority: "198.51.100.2:53"},
	}})
	var names []string
	for _, p := range ps {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{
		"dns n.example via 198.51.100.1:53, 192.0.2.1:53, 192.0.2.2:53 and 1 more",
		"dns n.example via 198.51.100.2:53, 192.0.2.1:53, 192.0.2.2:53 and 1 more",
	}) {
		t.Errorf("%q", names)
	}
}

// What a scan has found is asked beside the system's resolvers, on its network, and
// never beside those that somebody named.
func TestFoundResolvers(t *testing.T) {
	kept := notes{}
	dns.Merge(kept, PoolKey("home"), []dns.Facts{
		{Resolver: "192.0.2.7:53", OK: time.Now(), Good: 9, Size: 1040},
		{Resolver: "192.0.2.8:53", At: time.Now()}, // of no use
	})
	places := channel.Places{Zones: []channel.Zone{{Name: "n.example"}}}
	here := "home"
	name := func(resolvers ...string) string {
		s := New(Config{Network: nothing{}, Resolvers: resolvers, Keeper: kept, Where: func() string { return here }})
		defer s.Close()
		s.system = func() []string { return []string{"198.51.100.1:53"} }
		ps := s.Paths(channel.ID{}, nil, places)
		if len(ps) != 1 {
			t.Fatalf("%d paths", len(ps))
		}
		return ps[0].Name
	}
	if got := name(); got != "dns n.example via 198.51.100.1:53 and found ones" {
		t.Errorf("at home: %s", got)
	}
	if got := name("203.0.113.1"); got != "dns n.example via 203.0.113.1:53" {
		t.Errorf("with one that was named: %s", got)
	}
	here = "away"
	if got := name(); got != "dns n.example via 198.51.100.1:53" {
		t.Errorf("away: %s", got)
	}
}

// silent is a Network on which nobody answers.
type silent struct{ nothing }

func (silent) Dial(context.Context, string, string) (net.Conn, error) {
	return transporttest.Mute(), nil
}

// Which of the found resolvers is the best changes with every question: the client
// stays, with its cache, and the path's name with what sync remembers under it.
func TestFoundInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var found []dns.Facts
		for i := range 3 * maxFound {
			found = append(found, dns.Facts{Resolver: fmt.Sprintf("192.0.2.%d:53", i+1), OK: time.Now(), Good: 100, RTT: time.Duration(i) * 20 * time.Millisecond, Size: 1040})
		}
		kept := notes{}
		dns.Merge(kept, PoolKey(""), found)
		s := New(Config{Network: silent{}, Keeper: kept})
		defer s.Close()
		s.system = func() []string { return []string{"198.51.100.1:53"} }
		path := func() transport.Path {
			ps := s.Paths(channel.ID{}, nil, channel.Places{Zones: []channel.Zone{{Name: "n.example"}}})
			if len(ps) != 1 || len(s.known) != 1 {
				t.Fatalf("%d paths, %d clients", len(ps), len(s.known))
			}
			return ps[0]
		}
		before, pool := path(), s.networks[0].pool
		worse := func(n int, resolver string) {
			c, err := dns.NewClient(dns.ClientConfig{Pool: pool, Zone: "n.example", Resolvers: []string{resolver}})
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				_, _ = c.Head(t.Context(), channel.ID{}, 0)
			}
		}
		best := pool.Found(1)[0]
		worse(1, best)
		if pool.Found(1)[0] == best {
			t.Fatal("who lost a question is still the best")
		}
		if p := path(); p.Heads != before.Heads || p.Name != before.Name {
			t.Errorf("another order makes another path: %s", p.Name)
		}
		worse(20, best)
		if p := path(); p.Heads == before.Heads || p.Name != before.Name {
			t.Errorf("with another resolver instead of one that is silent: %s", p.Name)
		}
	})
}

// A device that comes back to a network finds the client that it left there, with the
// pool that zones heard of meanwhile have too; and it does not keep those of all
// networks that it ever was on.
func TestNetworksComeBack(t *testing.T) {
	here := ""
	s := New(Config{Network: nothing{}, Where: func() string { return here }})
	defer s.Close()
	s.system = func() []string { return []string{"192.0.2.1:53"} }
	at := func(where string) (transport.Path, *dns.Pool) {
		here = where
		ps := s.Paths(channel.ID{}, nil, channel.Places{Zones: []channel.Zone{{Name: "n.example"}}})
		if len(ps) != 1 {
			t.Fatalf("%d paths", len(ps))
		}
		return ps[0], s.networkOf(where).pool
	}
	home, pool := at("home")
	for i := range 3 * maxNetworks {
		at(fmt.Sprint("away ", i))
		if again, p := at("home"); again.Heads != home.Heads || p != pool {
			t.Fatalf("network %d: home is another one", i)
		}
	}
	if len(s.networks) != maxNetworks || len(s.known) != maxNetworks || len(s.closers) != 0 {
		t.Errorf("%d networks, %d clients and %d others are kept", len(s.networks), len(s.known), len(s.closers))
	}
}

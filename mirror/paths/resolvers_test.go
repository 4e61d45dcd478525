package paths

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/dns"
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

// Zones of one server confirm nothing to each other.
func TestZonesOfOneServer(t *testing.T) {
	s := New(Config{Network: nothing{}})
	s.system = func() []string { return []string{"192.0.2.1"} }
	defer s.Close()
	ps := s.Paths(channel.ID{}, nil, channel.Places{Zones: []channel.Zone{
		{Name: "n.example", Authority: "192.0.2.53:53"},
		{Name: "m.example", Authority: "192.0.2.53:5353"},
		{Name: "o.example", Authority: "192.0.2.54:53"},
		{Name: "p.example"},
	}})
	if len(ps) != 4 || ps[0].Source == "" || ps[0].Source != ps[1].Source || ps[2].Source == ps[1].Source || ps[3].Source != "" {
		t.Errorf("%+v", ps)
	}
}

// notes is the plainest dns.Keeper.
type notes map[string][]byte

func (n notes) Load(key string) []byte         { return n[key] }
func (n notes) Store(key string, value []byte) { n[key] = value }

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
	if got := name(); got != "dns n.example via 198.51.100.1:53, 192.0.2.7:53" {
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

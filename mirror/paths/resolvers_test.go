package paths

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
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

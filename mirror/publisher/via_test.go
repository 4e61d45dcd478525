package publisher

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	wire "tamizdat/transport/relay"
)

func line(n int) wire.Target {
	return wire.Target{
		Host: fmt.Sprintf("192.0.2.%d", n), Port: 443, Pin: channel.Pin{byte(n)}, Mint: channel.MintKey{byte(n)}, Intake: channel.MintKey{9},
	}
}

// withTargets opens a new channel with so many relays, of which the first has
// the CDNs.
func withTargets(t *testing.T, relays int, via ...string) (*Publisher, error) {
	t.Helper()
	p, err := Init(t.TempDir(), "River", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	cfg := p.Config()
	for n := range relays {
		cfg.Targets = append(cfg.Targets, TargetConfig{Name: fmt.Sprint(n), Relay: line(n + 1).String()})
	}
	cfg.Targets[0].Via = via
	return p, p.Configure(cfg)
}

func TestViaLeadsToTheSameRelay(t *testing.T) {
	p, err := withTargets(t, 2, "https://cdn.example", "https://CDN2.example:8443/", "https://cdn.example:443")
	if err != nil {
		t.Fatal(err)
	}
	seed := channel.Seed{4}
	got, err := p.places(seed)
	if err != nil {
		t.Fatal(err)
	}
	direct := line(1).Relay(seed)
	want := []channel.Relay{
		direct,
		line(2).Relay(seed),
		{Host: "cdn.example", Port: 443, Prefix: direct.Prefix},
		{Host: "cdn2.example", Port: 8443, Prefix: direct.Prefix},
	}
	if len(got.Relays) != len(want) {
		t.Fatalf("%d relays", len(got.Relays))
	}
	for i, r := range got.Relays {
		if r.Host != want[i].Host || r.Port != want[i].Port || r.Pin != want[i].Pin || r.Prefix != want[i].Prefix {
			t.Errorf("relay %d: %s:%d", i, r.Host, r.Port)
		}
	}
	targets, err := p.Targets(&netreal.Network{}) // pushes go to the relays alone
	if err != nil || len(targets) != 2 || targets[0].Name != "0" || targets[1].Name != "1" {
		t.Errorf("%d targets, %v", len(targets), err)
	}
}

// An invite names three relays. If there is a CDN, it is the last of them.
func TestInviteKeepsTheCDN(t *testing.T) {
	for name, c := range map[string]struct {
		relays int
		via    []string
		want   []string
	}{
		"none":       {4, nil, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}},
		"one relay":  {1, []string{"https://cdn.example"}, []string{"192.0.2.1", "cdn.example"}},
		"two relays": {2, []string{"https://cdn.example"}, []string{"192.0.2.1", "192.0.2.2", "cdn.example"}},
		"four":       {4, []string{"https://cdn.example"}, []string{"192.0.2.1", "192.0.2.2", "cdn.example"}},
		"long name":  {4, []string{"https://" + strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example"}, []string{"192.0.2.1", strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := withTargets(t, c.relays, c.via...)
			if err != nil {
				t.Fatal(err)
			}
			inv, err := p.Invite("friends")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range inv.Places.Relays {
				got = append(got, r.Host)
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("it names %q", got)
			}
			if _, err := channel.ParseInvite(inv.String()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBadVia(t *testing.T) {
	for via, want := range map[string]string{
		`"http://secret.example"`:        "https address",
		`"secret.example"`:               "https address",
		`"https://u:p@secret.example"`:   "https address",
		`"https://secret.example?x"`:     "https address",
		`"https://secret.example/news"`:  "without a path",
		`"https://192.0.2.7"`:            "not an address",
		`"https://[2001:db8::7]"`:        "not an address",
		`"https://secret"`:               "domain name",
		`"https://новости.secret"`:       "xn--",
		`"https://secret.example:0"`:     "port",
		`"https://secret.example:99999"`: "port",
	} {
		dir := t.TempDir()
		text := "name = \"River\"\n[[target]]\nname = \"one\"\nrelay = \"" + line(1).String() + "\"\nvia = [\"https://good.example\", " + via + "]\n"
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadConfig(dir)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `target "one": via[1]`) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", via, err)
		}
	}
	for name, targets := range map[string][]TargetConfig{
		"via is for relays":        {{Name: "stick", Folder: "x", Via: []string{"https://cdn.example"}}},
		"of another relay too":     {{Name: "a", Relay: line(1).String(), Via: []string{"https://cdn.example"}}, {Name: "b", Relay: line(2).String(), Via: []string{"https://cdn.example"}}},
		"via[0] is the relay itse": {{Name: "a", Relay: func() string { l := line(1); l.Host = "cdn.example"; return l.String() }(), Via: []string{"https://cdn.example"}}},
	} {
		p, err := Init(t.TempDir(), "River", []string{"en"})
		if err != nil {
			t.Fatal(err)
		}
		cfg := p.Config()
		cfg.Targets = targets
		if err := p.Configure(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		p.Close()
	}
}

// An outer name gives way to every way in: hiding one is worth less than another one.
func TestInviteHidesNamesWhereThereIsRoom(t *testing.T) {
	list := channel.ECHList(channel.ECHConfig([32]byte{1}, "www.example.org"))
	for name, c := range map[string]struct {
		relays, zones, peers int
		hidden, gateways     int
	}{
		"one relay":          {1, 0, 0, 1, 1},
		"three relays":       {3, 1, 0, 1, 1},
		"with peers":         {2, 2, 2, 0, 0},
		"with a peer":        {2, 1, 1, 1, 1},
		"no room for a name": {3, 3, 2, 0, 0},
	} {
		p, err := withTargets(t, c.relays)
		if err != nil {
			t.Fatal(err)
		}
		cfg := p.Config()
		first := line(1)
		first.ECH = list
		cfg.Targets[0].Relay = first.String()
		cfg.Gateways = []string{"https://gateway.example"}
		for i := range c.zones {
			cfg.Zones = append(cfg.Zones, fmt.Sprintf("zone%d.news.example.org", i))
		}
		for range c.peers {
			cfg.Peers = append(cfg.Peers, "/ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")
		}
		if err := p.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		inv, err := p.Invite("readers")
		if err != nil {
			t.Fatal(err)
		}
		hidden := 0
		for _, r := range inv.Places.Relays {
			if r.ECH != nil {
				hidden++
			}
		}
		if hidden != c.hidden || len(inv.Places.Relays) != c.relays || len(inv.Places.Gateways) != c.gateways {
			t.Errorf("%s: %d relays, %d of them hidden, %d zones, %d peers, %d gateways", name, len(inv.Places.Relays), hidden, len(inv.Places.Zones), len(inv.Places.Peers), len(inv.Places.Gateways))
		}
	}
}

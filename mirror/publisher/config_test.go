package publisher

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

func TestParseLangs(t *testing.T) {
	got, err := ParseLangs("ru en", "pt-br,fa")
	if err != nil || !slices.Equal(got, []string{"ru", "en", "pt-BR", "fa"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseLangs("en!"); err == nil {
		t.Error("en! is a language")
	}
}

// TestConfigNamesTheBadValue: by its place, without quoting it.
func TestConfigNamesTheBadValue(t *testing.T) {
	for line, want := range map[string]string{
		`lang = ["ru en"]`:                     "lang[0]",
		`zones = ["n.example", "x y"]`:         "zones[1]",
		`peers = ["/ip4/192.0.2.1/tcp/4001"]`:  "peers[0] is no multiaddress ending in /p2p/ID",
		`gateways = ["ftp://gateway.example"]`: "gateways[0]",
		`headlines = "many"`:                   "line 2",
		`headlines = = 3`:                      "line 2",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte("name = \"River\"\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadConfig(dir)
		if err == nil || !strings.HasPrefix(err.Error(), configFile) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "example") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestTargets(t *testing.T) {
	dir := t.TempDir()
	p, err := Init(dir, "River", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	line := func(host string) string {
		return wire.Target{Host: host, Port: 443, Pin: channel.Pin{5}, Mint: channel.MintKey{1}, Intake: channel.MintKey{2}}.String()
	}
	one, moved := line("192.0.2.1"), line("192.0.2.2")
	if err := p.AddTarget("one", "  "+one[:30]+"\n   "+one[30:]+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.AddTarget("one", moved); !errors.Is(err, ErrTargetExists) {
		t.Errorf("error: %v", err)
	}
	if err := p.AddTarget("again", one); err != nil {
		t.Fatal(err)
	}
	places, err := p.places(channel.Seed{3})
	if err != nil || len(places.Relays) != 1 {
		t.Errorf("%d relays for one, %v", len(places.Relays), err)
	}
	if err := p.ReplaceTarget("again", moved); err != nil {
		t.Fatal(err)
	}
	if got := p.Config().Targets; len(got) != 2 || got[0].Relay != one || got[1].Relay != moved {
		t.Errorf("targets %+v", got)
	}
	text, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil || !strings.Contains(string(text), "# headlines = 60") {
		t.Errorf("the comments are gone: %v", err)
	}
	if err := p.ReplaceTarget("nobody", moved); err == nil {
		t.Error("replaced a target that is not there")
	}
}

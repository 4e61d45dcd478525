package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"tamizdat/bundle/channel"
)

// FuzzPublisherConfig: whatever publisher.toml says is refused without quoting a relay's
// line, or can be led to by invites, and means the same when it is written anew.
func FuzzPublisherConfig(f *testing.F) {
	relay := line(1).String()
	_, secret, _ := strings.Cut(relay, "443/")
	f.Add(configHead + "name = \"Radio\"\nlang = [\"en\", \"pt-BR\"]\n" + configTail)
	f.Add("name = \"Radio\"\n" + strings.ReplaceAll(configTail, "\n# ", "\n")) // its comments, too
	f.Add("name = \"Radio\"\nlang = []\nbatches = 32\nzones = [\"n.example@192.0.2.1:53\", \"M.example.\"]\ngateways = [\"https://gateway.example\"]\n" +
		"[[target]]\nname = \"a\"\nrelay = \"" + relay + "\"\nvia = [\"https://cdn.example:8443/\"]\n[[target]]\nname = \"b\"\nwitness = \"https://w.example\"\n")
	f.Add("name = \"Radio\"\n[[target]]\nname = \"a\"\nrelay = " + relay)
	f.Add("name = \"Radio\"\n[[target]]\nname = \"a\"\nrelay = \"" + relay + "x\"")
	f.Add("name = \"Radio\"\n[[target]]\nname = \"m\"\nwebdav = \"https://dav.example\"\ncredentials = \"c\"\nurl = \"https://news.example\"\n[[target]]\nname = \"z\"\ndns = \"n.example@[2001:db8::1]:53\"\ncredentials = \"k\"\npointer = true\n")
	f.Add("name = \"\\u0000\"\nbatches = 17\npeers = [\"/ip4/192.0.2.1/tcp/1/p2p/x\"]")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		c, err := parseConfig(text)
		if err != nil {
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("%v", err)
			}
			return
		}
		p := &Publisher{cfg: c}
		places, err := p.places(channel.Seed{1})
		if err != nil {
			t.Fatal(err)
		}
		// One of each has room in any invite.
		for _, r := range places.Relays {
			if !fits(channel.Places{Relays: []channel.Relay{r}}) {
				t.Fatalf("a relay that no invite can name")
			}
		}
		for _, m := range places.Mirrors {
			if !fits(channel.Places{Mirrors: []string{m}}) {
				t.Fatalf("a mirror that no invite can name")
			}
		}
		var out bytes.Buffer
		if err := toml.NewEncoder(&out).Encode(c); err != nil {
			t.Fatal(err)
		}
		if again, err := parseConfig(out.String()); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("written anew: %v\n%+v\n%+v", err, c, again)
		}
	})
}

// FuzzKeyring: whatever keys.json says is damaged, or grants can be made of it, and it
// means the same when it is written again.
func FuzzKeyring(f *testing.F) {
	k := keyring{Root: make([]byte, 32), Log: make([]byte, 32), IPNS: make([]byte, 32), Epochs: []channel.EpochKey{{1}, {2}}, Serial: 7}
	k.Batches = []batch{{Seed: channel.Seed{1}, Name: "readers", Said: []byte{1}}, {Seed: channel.Seed{2}, Name: "students", Until: 1}, {Seed: channel.Seed{3}}}
	add := func(k keyring) []byte {
		b, err := json.MarshalIndent(k, "", "\t")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		return b
	}
	whole := add(k)
	if _, err := parseKeyring(whole); err != nil {
		f.Fatal("a seed is refused")
	}
	short := bytes.Replace(whole, []byte("0,"), nil, 1)
	f.Add(short)
	f.Add(bytes.Replace(whole, []byte(`"until": 1`), []byte(`"until": -1`), 1))
	f.Add(bytes.Replace(whole, []byte(`"students"`), []byte(`"readers"`), 1))
	f.Add([]byte(`{"log":"AA==","ipns":"AA==","epochs":[null],"batches":[{"seed":null}]}`))
	k.Root, k.NextLog = nil, make([]byte, 32)
	add(k)
	p, err := Init(f.TempDir(), "Radio", []string{"en"})
	if err != nil {
		f.Fatal(err)
	}
	defer p.Close()
	add(p.keys)
	roots := p.roots
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseKeyring(b)
		if err != nil {
			if !errors.Is(err, errKeyring) {
				t.Fatal(err)
			}
			return
		}
		p := &Publisher{keys: k, roots: roots}
		for i := range k.Batches {
			g, err := p.grantOf(&p.keys.Batches[i])
			if err != nil || len(g.Epochs) == 0 || len(g.Epochs) > maxEpochs {
				t.Fatalf("%d epochs, %v", len(g.Epochs), err)
			}
		}
		once, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKeyring(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("means something else when it is written again: %v", err)
		}
	})
}

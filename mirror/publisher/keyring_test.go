package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
)

// TestDamagedKeyring: a key of which a part is missing is not filled up with zeros, and
// what contradicts itself is not gone on with.
func TestDamagedKeyring(t *testing.T) {
	k := keyring{Root: random(), Log: random(), IPNS: random(), Epochs: []channel.EpochKey{{1}, {2}}}
	k.Batches = []batch{{Seed: channel.Seed{3}, Name: "readers"}, {Seed: channel.Seed{4}, Name: "students", Until: 1}}
	whole, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseKeyring(whole); err != nil {
		t.Fatal(err)
	}
	key := func(first string) string { return "[" + first + strings.Repeat(",0", 31) + "]" }
	for name, c := range map[string][2]string{
		"a short epoch key":     {key("2"), "[2,0]"},
		"a long epoch key":      {key("2"), "[0," + key("2")[1:]},
		"no epoch key":          {key("2"), "null"},
		"a number missing":      {key("2"), strings.Replace(key("2"), "0", "null", 1)},
		"a short seed":          {key("4"), "[4]"},
		"no seed":               {`"seed":` + key("4") + ",", ""},
		"a seed twice":          {key("4"), key("3")},
		"a name twice":          {`"students"`, `"readers"`},
		"a name of two lines":   {`"students"`, `"stu\ndents"`},
		"revoked before all":    {`"until":1`, `"until":-1`},
		"revoked in the future": {`"until":1`, `"until":3`},
		"no epochs":             {key("1") + "," + key("2"), ""},
		"no log key":            {`"log":`, `"blog":`},
	} {
		bad := bytes.Replace(whole, []byte(c[0]), []byte(c[1]), 1)
		if bytes.Equal(bad, whole) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := parseKeyring(bad); !errors.Is(err, errKeyring) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "keys", "keys.json")
	raw, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.Replace(raw, []byte("],"), []byte(",1],"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(p.dir); !errors.Is(err, errKeyring) {
		t.Errorf("opened: %v", err)
	}
}

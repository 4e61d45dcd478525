package relay

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

// FuzzRelayConfig: whatever relay.toml says is refused in one line that quotes none of its
// secrets, or has limits that are some, and means the same when it is written anew.
func FuzzRelayConfig(f *testing.F) {
	line := wire.Pull{Host: "relay.example", Port: 443, Pin: channel.Pin{1}, Channel: channel.ID{2}}.String()
	_, secret, _ := strings.Cut(line, "443/")
	f.Add(string(defaultConfig))
	f.Add(strings.ReplaceAll(string(defaultConfig), "\n#", "\n")) // all that its comments show
	f.Add("listen = [\":443\"]\npull = [\"" + line + "\"]\nwitness = true\nrate_mbit = 0.5\nmonth_gb = 1e9\n")
	f.Add("pull = [" + line + "]")
	f.Add("pull = [\"" + line + "\nx\"]")
	f.Add("edition_mb = 9223372036854775807\nrate_mbit = nan\n")
	f.Add("requests_per_second = 9223372036854775807\nconnections = -1\n[s3]\nendpoint = \"https://s3.example\"\nbucket = \"b\"\npoll_seconds = 9223372036\n")
	f.Add("[[dns_zones]]\nname = \"n.example\"\nns = [\"ns1.n.example=192.0.2.1\"]\n[[dns_secondary]]\nkey = \"k\"\nnotify = \"192.0.2.2\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		c, err := parseConfig("relay.toml", text)
		if err == nil {
			_, err = c.PullLines()
		}
		if err != nil {
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v", err)
			}
			return
		}
		l, tr, th := c.Limits().withDefaults(), c.Traffic(), c.Throttle().withDefaults()
		if min(l.Edition, l.Channel, l.Total, l.Incoming) <= 0 || l.Edition > l.Channel || l.Edition > l.Total || l.Edition > l.Incoming {
			t.Fatalf("%+v", l)
		}
		if tr.PerSecond < 0 || tr.PerMonth < 0 || c.S3.Poll() < 0 {
			t.Fatalf("%+v, every %v", tr, c.S3.Poll())
		}
		for _, n := range []int{th.PerAddress, th.PerBatch, th.PerIntake} {
			if r := newRates[int](n); (r == nil) != (n < 0) || r != nil && !r.allow(1) {
				t.Fatalf("%d a second let nobody in", n)
			}
		}
		var out bytes.Buffer
		if err := toml.NewEncoder(&out).Encode(c); err != nil {
			t.Fatal(err)
		}
		if again, err := parseConfig("relay.toml", out.String()); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("written anew: %v\n%+v\n%+v", err, c, again)
		}
	})
}

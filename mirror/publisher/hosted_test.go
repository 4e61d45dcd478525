package publisher

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
	"tamizdat/transport/dns"
)

const hostedZone = "n.example"

// withHosted is a publisher with a zone on a name server as its target.
func withHosted(t *testing.T, pointer bool) (*Publisher, *testservers.Primary) {
	t.Helper()
	srv := testservers.NewPrimary(t, hostedZone)
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := os.WriteFile(filepath.Join(p.dir, "tsig"), []byte(srv.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.AddHosted(TargetConfig{Name: "zone", DNS: hostedZone + "@" + srv.Addr, Credentials: "tsig", Pointer: pointer}); err != nil {
		t.Fatal(err)
	}
	oneEpoch(p) // another one's grants would be in the zone for a week
	return p, srv
}

func packDay(t *testing.T, p *Publisher, i, days int) {
	t.Helper()
	if _, err := p.Pack([]bundle.Article{story(i)}, time.Unix(1_700_100_000, 0).AddDate(0, 0, days)); err != nil {
		t.Fatal(err)
	}
}

func pushHosted(t *testing.T, p *Publisher) Pushed {
	t.Helper()
	to, err := p.Targets(&netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Push(t.Context(), to, nil)[0]
}

var ownerLine = regexp.MustCompile(`(?m)^(\S+)(?: \d+)? IN TXT`)

// owners are the names of TXT records in the zone file of what is published.
func owners(t *testing.T, p *Publisher, pointer bool) []string {
	t.Helper()
	var file bytes.Buffer
	n, err := p.Zone(&file, dns.Zone{Name: hostedZone}, pointer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range ownerLine.FindAllStringSubmatch(file.String(), -1) {
		out = append(out, m[1]+"."+hostedZone+".")
	}
	slices.Sort(out)
	if len(out) != n {
		t.Errorf("%d records in the file, and %d were counted", len(out), n)
	}
	return out
}

// TestHostedWindow: what is in the zone is what would be in a zone file, whatever
// has come and gone since.
func TestHostedWindow(t *testing.T) {
	for _, pointer := range []bool{false, true} {
		p, srv := withHosted(t, pointer)
		for i, day := range []int{0, 1, 2, 9, 10} {
			packDay(t, p, i, day)
			r := pushHosted(t, p)
			if r.Err != nil || r.Editions != 1 || r.Newest != uint64(i) {
				t.Fatalf("%+v", r)
			}
			if want := (pointer && i > 0) || i >= 3; (r.Removed > 0) != want {
				t.Errorf("pointer %v, edition %d: %d removed", pointer, i, r.Removed)
			}
			if got, want := srv.Names(), owners(t, p, pointer); !slices.Equal(got, want) {
				t.Errorf("pointer %v, edition %d: %d names instead of %d", pointer, i, len(got), len(want))
			}
		}
		// The note of what is there is lost.
		if err := os.RemoveAll(filepath.Join(p.dir, hostedDir)); err != nil {
			t.Fatal(err)
		}
		packDay(t, p, 5, 30)
		if r := pushHosted(t, p); r.Err != nil || r.Removed == 0 {
			t.Errorf("pointer %v, %+v", pointer, r)
		}
		if got, want := srv.Names(), owners(t, p, pointer); !slices.Equal(got, want) {
			t.Errorf("pointer %v, note lost: %d names instead of %d", pointer, len(got), len(want))
		}
		before := len(srv.Updates())
		if r := pushHosted(t, p); r.Err != nil || r.Editions != 0 || len(srv.Updates()) != before {
			t.Errorf("again: %+v", r)
		}
	}
}

// TestPointerIsSmall: the comment on inDNS and the manual speak of some 400
// records.
func TestPointerIsSmall(t *testing.T) {
	p, _ := withHosted(t, true)
	packDay(t, p, 0, 0)
	if n := len(owners(t, p, true)); n < 300 || n > 450 {
		t.Errorf("%d records", n)
	}
}

// TestHostedGoesOn: a push that was cut off leaves no head; the next one, of
// another process, finishes it, and what was begun is removed in its time.
func TestHostedGoesOn(t *testing.T) {
	p, srv := withHosted(t, false)
	packDay(t, p, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	srv.Before = func(_ int, m *mdns.Msg) (int, bool) {
		if m.Opcode == mdns.OpcodeUpdate && len(srv.Updates()) == 2 && ctx.Err() == nil {
			cancel()
			return 0, true
		}
		return 0, false
	}
	to, err := p.Targets(&netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Push(ctx, to, nil)[0]; r.Err == nil || len(srv.Updates()) != 2 {
		t.Fatalf("%+v after %d updates", r, len(srv.Updates()))
	}
	head := p.Channel().Label() + "." + hostedZone + "."
	if slices.Contains(srv.Names(), head) {
		t.Error("there is a head")
	}
	dir := p.dir
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, dir)
	// It never gets there: the next edition does, a long time later.
	packDay(t, p, 1, 20)
	if r := pushHosted(t, p); r.Err != nil || r.Editions != 1 || r.Removed == 0 {
		t.Errorf("%+v", r)
	}
	if got, want := srv.Names(), owners(t, p, false); !slices.Equal(got, want) {
		t.Errorf("%d names instead of %d", len(got), len(want))
	}
}

// TestHostedRefused: a refusal ends the push, at once, and is told in one line.
func TestHostedRefused(t *testing.T) {
	p, srv := withHosted(t, false)
	packDay(t, p, 0, 0)
	updates := 0
	srv.Before = func(_ int, m *mdns.Msg) (int, bool) {
		if m.Opcode != mdns.OpcodeUpdate {
			return 0, false
		}
		updates++
		return mdns.RcodeRefused, false
	}
	r := pushHosted(t, p)
	if !errors.Is(r.Err, transport.ErrRefused) || !Final(r.Err) || updates != 1 || strings.Contains(r.Err.Error(), "\n") {
		t.Errorf("after %d updates: %v", updates, r.Err)
	}
}

func TestHostedConfig(t *testing.T) {
	for line, want := range map[string]string{
		`dns = "hidden.test@192.0.2.1"`:                                                          "dns needs credentials",
		`dns = "hidden.test"` + "\ncredentials = \"k\"":                                          "ZONE@ADDRESS",
		`dns = "hidden.test@ns.hidden.test"` + "\ncredentials = \"k\"":                           "ZONE@ADDRESS",
		`dns = "a name@192.0.2.1"` + "\ncredentials = \"k\"":                                     "zone's name",
		`dns = "` + strings.Repeat("x", 31) + `@192.0.2.1"` + "\ncredentials = \"k\"":            "zone's name",
		`mirror = "x"` + "\npointer = true":                                                      "pointer is for dns",
		`dns = "hidden.test@192.0.2.1"` + "\ncredentials = \"k\"\nurl = \"https://hidden.test\"": "url is for static mirrors",
		`dns = "hidden.test@192.0.2.1"` + "\ncredentials = \"k\"\nmirror = \"x\"":                "needs one of",
	} {
		dir := t.TempDir()
		text := "name = \"River\"\n[[target]]\nname = \"t\"\n" + line + "\n"
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadConfig(dir)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", line, err)
		}
	}
	for s, want := range map[string]string{
		"N.example.@192.0.2.53":           "n.example 192.0.2.53:53",
		"n.example@192.0.2.53:5353":       "n.example 192.0.2.53:5353",
		"n.example@2001:db8::1":           "n.example [2001:db8::1]:53",
		"n.example@[2001:db8::1]":         "n.example [2001:db8::1]:53",
		"n.example@[2001:db8::1]:5353":    "n.example [2001:db8::1]:5353",
		"n.example@ns1.host.example:5353": "n.example ns1.host.example:5353",
	} {
		zone, server, err := parseHosted(s)
		if err != nil || zone+" "+server != want {
			t.Errorf("%s: %s %s, %v", s, zone, server, err)
		}
	}
}

// TestZoneSerial: each zone file has a larger serial than the one before, whatever
// the clock says.
func TestZoneSerial(t *testing.T) {
	p, _ := withHosted(t, false)
	now := time.Unix(1_800_000_000, 0)
	for i, at := range []time.Time{now, now, now.Add(-24 * time.Hour), now.Add(time.Hour)} {
		want := []uint32{1_800_000_000, 1_800_000_001, 1_800_000_002, 1_800_003_600}[i]
		if got, err := p.zoneSerial(at); err != nil || got != want {
			t.Errorf("%d: %d instead of %d, %v", i, got, want, err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, serialFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.zoneSerial(now); err == nil {
		t.Error("damaged, and not told")
	}
}

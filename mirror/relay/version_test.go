package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport/dns"
)

func openedRecords(t *testing.T, r *Relay, zones ...dns.Zone) *Records {
	t.Helper()
	rs, err := r.Records(zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rs.Close() })
	return rs
}

// TestSerial: the serial stays while the content does, and only grows, over
// restarts and whatever the clock says.
func TestSerial(t *testing.T) {
	dir := t.TempDir()
	p := newPress(t, "serial")
	zone := dns.Zone{Name: "n.example"}
	serial := func(zones ...dns.Zone) uint32 {
		t.Helper()
		r := start(t, Config{Dir: dir})
		rs := openedRecords(t, r, zones...)
		n, _ := rs.Version()
		if err := rs.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r := start(t, Config{Dir: dir})
	push(t, r, p.edition(t, 0))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	before := uint32(time.Now().Unix()) - 60
	first := serial(zone)
	if first < before {
		t.Errorf("serial %d is not the time", first)
	}
	if again := serial(zone); again != first {
		t.Errorf("the same content has serials %d and %d", first, again)
	}
	other := serial(dns.Zone{Name: "n.example", NS: []dns.NS{{Host: "ns1.host.example"}}})
	if other <= first {
		t.Errorf("other name servers under serial %d after %d", other, first)
	}
	// The clock went back by a year since.
	name := filepath.Join(dir, serialFile)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var saved savedVersion
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	saved.Serial += 365 * 86400
	if text, err = json.Marshal(saved); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if late := serial(zone); late != saved.Serial+1 {
		t.Errorf("serial %d after %d", late, saved.Serial)
	}
	// A damaged file is told, not counted from nothing.
	if err := os.WriteFile(name, text[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, Config{Dir: dir}).Records(zone); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
}

// TestWatchedVersions: a new edition makes a new version without anybody asking,
// and a snapshot stays what it was, files and all.
func TestWatchedVersions(t *testing.T) {
	r := start(t, Config{Limits: Limits{Channel: 20_000}}) // the newest edition only
	p := newPress(t, "watched")
	push(t, r, p.edition(t, 0))
	rs := openedRecords(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); rs.Watch(ctx) }()
	defer func() { cancel(); <-done }()
	first, newer := rs.Version()
	snap, err := rs.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if snap.Serial != first {
		t.Errorf("snapshot of %d instead of %d", snap.Serial, first)
	}
	old := rs.list(p.ch)[0]
	second := p.edition(t, 0)
	push(t, r, second)
	<-newer
	if now, _ := rs.Version(); now <= first {
		t.Errorf("serial %d after %d", now, first)
	}
	head, err := rs.Named(t.Context(), p.ch.Label())
	if err != nil || !bytes.Equal(head, second.head.Compact()) {
		t.Errorf("head: %v", err)
	}
	n, seen := 0, map[string]bool{}
	for e, err := range snap.Entries {
		if err != nil {
			t.Fatal(err)
		}
		if n++; seen[e.Label] {
			t.Errorf("%s twice", e.Label)
		}
		seen[e.Label] = true
		if !e.Named && record.NameOf(e.Data).Label() != e.Label {
			t.Errorf("%s: another record", e.Label)
		}
		if e.Label == p.ch.Label() && bytes.Equal(e.Data, head) {
			t.Error("the snapshot has the new head")
		}
	}
	if n < 20 || !seen[p.ch.Label()] {
		t.Errorf("%d entries", n)
	}
	snap.Release()
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if old.users != 0 {
		t.Errorf("the old edition's file has %d users left", old.users)
	}
	if got := rs.list(p.ch)[0].users; got != 1 {
		t.Errorf("the new one's has %d", got)
	}
}

func TestSecondariesConfig(t *testing.T) {
	dir := t.TempDir()
	good := "hmac-sha256:n.example:" + strings.Repeat("QUJD", 8)
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{"good": {good, 0o600}, "open": {good, 0o644}, "bad": {"secret " + good, 0o600}} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(f.text), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		list []SecondaryConfig
		keys int
		tell []string
		bad  string
	}{
		"none":    {},
		"two":     {list: []SecondaryConfig{{Key: "good", Notify: "192.0.2.1"}, {Key: filepath.Join(dir, "good"), Notify: "[2001:db8::1]:5353"}}, keys: 1, tell: []string{"192.0.2.1:53", "[2001:db8::1]:5353"}},
		"six":     {list: []SecondaryConfig{{Key: "good", Notify: "2001:db8::1"}}, keys: 1, tell: []string{"[2001:db8::1]:53"}},
		"silent":  {list: []SecondaryConfig{{Key: "good"}}, keys: 1},
		"no key":  {list: []SecondaryConfig{{Notify: "192.0.2.1"}}, bad: "number 1"},
		"missing": {list: []SecondaryConfig{{Key: "good"}, {Key: "gone"}}, bad: "number 2"},
		"open":    {list: []SecondaryConfig{{Key: "open"}}, bad: "chmod 600"},
		"no tsig": {list: []SecondaryConfig{{Key: "bad"}}, bad: "no tsig key"},
		"address": {list: []SecondaryConfig{{Key: "good", Notify: "ns1.host.example"}}, bad: "ADDRESS:PORT"},
		"zone":    {list: []SecondaryConfig{{Key: "good", Zones: []string{"N.example."}}}, keys: 1},
		"foreign": {list: []SecondaryConfig{{Key: "good", Notify: "192.0.2.1", Zones: []string{"other.example"}}}, bad: "not all among"},
		"many":    {list: make([]SecondaryConfig, maxSecondaries+1), bad: "more than"},
	} {
		got, err := FileConfig{DNSZone: "n.example", DNSSecondaries: c.list}.Secondaries(dir)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "QUJD") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(got.Keys) != c.keys || len(got.Tell) != len(c.tell) {
			t.Errorf("%s: %d keys, %d to tell, %v", name, len(got.Keys), len(got.Tell), err)
			continue
		}
		for i, to := range got.Tell {
			if to.Addr != c.tell[i] || to.Key != got.Keys[0] {
				t.Errorf("%s: %s", name, to.Addr)
			}
		}
	}
}

func TestZones(t *testing.T) {
	c := FileConfig{
		Host: "192.0.2.9", DNSZone: "n.example", DNSNS: []string{"ns1.host.example", "a.n.example=192.0.2.1"},
		DNSZones: []ZoneConfig{{Name: "m.example", NS: []string{"ns2.host.example"}}, {Name: "o.example"}},
	}
	own := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}
	show := func(c FileConfig) string {
		zones, err := c.Zones(own...)
		if err != nil {
			return "refused"
		}
		var out []string
		for _, z := range zones {
			line := z.Name
			for _, ns := range z.NS {
				line += fmt.Sprint(" ", ns.Host, ns.Addrs)
			}
			out = append(out, line)
		}
		return strings.Join(out, "; ")
	}
	for _, x := range []struct {
		name string
		c    FileConfig
		want string
	}{
		{"each its own", c, "n.example ns1.host.example[] a.n.example[192.0.2.1]; m.example ns2.host.example[]; o.example ns.o.example[192.0.2.9]"},
		{"by flag", c.OnlyZones([]string{"M.example.", "p.example"}), "M.example. ns2.host.example[]; p.example ns.p.example[192.0.2.9]"},
		{"by flag, with dns_ns", FileConfig{DNSNS: []string{"ns1.host.example"}}.OnlyZones([]string{"p.example"}), "p.example ns1.host.example[]"},
		{"by flags, with dns_ns", FileConfig{DNSNS: []string{"ns1.host.example"}}.OnlyZones([]string{"p.example", "q.example"}), "refused"},
		{"a host by name", FileConfig{Host: "relay.example.org", DNSZone: "n.example"}, "n.example relay.example.org[198.51.100.1]"},
		{"with a port", FileConfig{Host: "relay.example.org:8443", DNSZone: "n.example"}, "n.example relay.example.org[198.51.100.1]"},
		{"by address, with a port", FileConfig{Host: "[2001:db8::9]:8443", DNSZone: "n.example"}, "n.example ns.n.example[2001:db8::9]"},
		{"that is the zone", FileConfig{Host: "N.example.", DNSZone: "n.example"}, "n.example ns.n.example[198.51.100.1]"},
		{"that only this house knows", FileConfig{Host: "server", DNSZone: "n.example"}, "n.example ns.n.example[198.51.100.1]"},
		{"that readers hide", FileConfig{Host: "relay.example.org", ECH: "www.example.org", DNSZone: "n.example"}, "n.example ns.n.example[198.51.100.1]"},
		{"no host", FileConfig{DNSZone: "n.example"}, "n.example ns.n.example[198.51.100.1]"},
		{"no host, listening on one address", FileConfig{DNSZone: "n.example", DNSListen: "198.51.100.2:53"}, "n.example ns.n.example[198.51.100.2]"},
		{"no host, listening on one behind another", FileConfig{DNSZone: "n.example", DNSListen: "127.0.0.1:5353"}, "n.example ns.n.example[198.51.100.1]"},
		{"without", FileConfig{}, ""},
		{"no address", FileConfig{DNSZone: "n.example", DNSNS: []string{"a=b"}}, "refused"},
		{"of nothing", FileConfig{DNSNS: []string{"ns1.host.example"}}, "refused"},
		{"too many", FileConfig{DNSZones: make([]ZoneConfig, maxZones+1)}, "refused"},
	} {
		if got := show(x.c); got != x.want {
			t.Errorf("%s: %s", x.name, got)
		}
	}
}

// rotten is a file whose bytes have changed.
type rotten struct{ blob }

func (rotten) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

// Every record of every edition is found by its name, also where the file of the
// edition that is asked first has rotted and another one has it.
func TestRecordsOfAllEditions(t *testing.T) {
	r := start(t, Config{})
	p := newPress(t, "all of them")
	for range 3 {
		push(t, r, p.edition(t, 0))
	}
	rs := openedRecords(t, r)
	count := func() (found, lost, shared int) {
		for i, f := range rs.list(p.ch) {
			for name := range f.index.Names() {
				switch rec, err := rs.Record(t.Context(), name); {
				case err != nil:
					lost++
				case record.NameOf(rec) != name:
					t.Fatal("another record")
				default:
					found++
				}
				if i > 0 {
					if _, err := rs.list(p.ch)[0].index.Record(rotten{}, name); err == nil {
						shared++
					}
				}
			}
		}
		return found, lost, shared
	}
	found, lost, shared := count()
	if found < 150 || lost > 0 || shared < 50 {
		t.Errorf("%d records found, %d not, %d in two editions", found, lost, shared)
	}
	newest := rs.list(p.ch)[0]
	newest.file = rotten{newest.file}
	left, gone, _ := count()
	if left < shared || gone == 0 || gone > 100 {
		t.Errorf("%d records found, %d not, %d in two editions", left, gone, shared)
	}
	head, err := rs.Named(t.Context(), p.ch.Label())
	if want := newest.e.head.Compact(); err != nil || !bytes.Equal(head, want) {
		t.Errorf("head: %v", err)
	}
	for _, label := range []string{"nothing", "_dnslink.nothing", ""} {
		if _, err := rs.Named(t.Context(), label); err == nil {
			t.Errorf("%q is there", label)
		}
	}
}

// TestLabelsOfOthers: all channels are in one zone, and no publisher gets another's root
// note or grants out of it by grants of the same names, wherever his channel stands in
// the list. When the one who was first is carried no more, the next has the name.
func TestLabelsOfOthers(t *testing.T) {
	var log lockedBuffer
	r := start(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	evil, good := newPress(t, "evil"), newPress(t, "good")
	if err := errors.Join(r.carried.add(evil.ch), r.carried.add(good.ch)); err != nil {
		t.Fatal(err)
	}
	rootNote, grant, early := good.ch.RootLabel(1), good.batch.GrantName(good.ch), strings.Repeat("a", 26)
	theirs := noise(1, 4096)
	claim := func(names ...string) *sheet {
		grants := map[string][]byte{}
		for _, name := range names {
			grants[name] = theirs
		}
		return evil.granting(t, 0, "<p>Nothing.</p>", grants)
	}
	// What stands under a label, asked for and as part of the zone.
	whose := func(rs *Records, label string) []byte {
		t.Helper()
		asked, err := rs.Named(t.Context(), label)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := rs.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Release()
		n := 0
		for e, err := range snap.Entries {
			if err != nil {
				t.Fatal(err)
			}
			if e.Label == label {
				if n++; n > 1 || !bytes.Equal(e.Data, asked) {
					t.Errorf("%s: the zone as a whole has something else", label)
				}
			}
		}
		if n == 0 {
			t.Errorf("%s: it is not in the zone as a whole", label)
		}
		return asked
	}
	top := func(data []byte) []byte { return record.NewTree(record.Large, data).Top() }
	rs := openedRecords(t, r)
	push(t, r, claim(rootNote, early))
	if !bytes.Equal(whose(rs, rootNote), top(theirs)) {
		t.Error("a name that nobody else has")
	}
	push(t, r, good.edition(t, 0))
	if !bytes.Equal(whose(rs, rootNote), top(good.notes[0])) {
		t.Error("the root note is not that of the channel")
	}
	push(t, r, claim(rootNote, early, grant))
	for label, want := range map[string][]byte{rootNote: good.notes[0], grant: noise(99, 4096), early: theirs} {
		if !bytes.Equal(whose(rs, label), top(want)) {
			t.Errorf("%s went to the other", label)
		}
	}
	if !strings.Contains(log.String(), "channel="+evil.ch.String()+" other="+good.ch.String()+" names=2") {
		t.Errorf("log: %s", log.String())
	}
	if err := os.WriteFile(filepath.Join(r.cfg.Dir, carriedFile), []byte(good.ch.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whose(rs, early), top(noise(98, 4096))) {
		t.Error("the name stays with one that is carried no more")
	}
}

// Grants take of the room that a channel has in DNS as texts do, each as often as it has a
// name.
func TestGrantsTakeRoom(t *testing.T) {
	r := start(t, Config{})
	p := newPress(t, "many grants")
	const grants, size = 400, 60_000
	for i := range 4 { // of 24 MB
		names := map[string][]byte{}
		for k := range grants {
			names[record.NameOf([]byte(fmt.Sprint(k))).Label()] = noise(uint64(i), size)
		}
		push(t, r, p.granting(t, 0, "<p>Nothing.</p>", names))
	}
	sum, n := int64(0), 0
	for _, f := range openedRecords(t, r).list(p.ch) {
		if f.index != nil {
			sum, n = sum+f.bytes, n+1
		}
	}
	if n != 2 || sum < int64(n*grants*size) || sum > recordBytes {
		t.Errorf("%d editions with %d bytes are in dns", n, sum)
	}
}

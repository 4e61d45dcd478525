package dns

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/record"
)

// A zone file, read by another implementation, holds the very records.
func TestWriteZone(t *testing.T) {
	w := newWorld(t)
	var file bytes.Buffer
	zone := Zone{Name: testZone, Serial: 2026112301, NS: []NS{{Host: "ns." + testZone, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, {Host: "ns.elsewhere.example"}}}
	if err := WriteZone(&file, zone, w.store.All()); err != nil {
		t.Fatal(err)
	}
	longest := 0
	for line := range strings.Lines(file.String()) {
		if _, value, ok := strings.Cut(line, " IN TXT "); ok {
			longest = max(longest, len(value)-1)
		}
	}
	if longest < 3200 || longest > 4000 {
		t.Errorf("a value of %d characters: Route 53 takes 4,000", longest)
	}
	got := map[string][]byte{}
	counts := map[uint16]int{}
	p := mdns.NewZoneParser(bytes.NewReader(file.Bytes()), "", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		counts[rr.Header().Rrtype]++
		switch rr := rr.(type) {
		case *mdns.SOA:
			if rr.Serial != zone.Serial || rr.Minttl != 60 {
				t.Errorf("SOA %v", rr)
			}
		case *mdns.TXT:
			for _, s := range rr.Txt {
				if len(txtBytes(t, &mdns.TXT{Txt: []string{s}})) > 255 {
					t.Error("string over 255 bytes")
				}
			}
			got[rr.Hdr.Name] = txtBytes(t, rr)
		}
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	if counts[mdns.TypeSOA] != 1 || counts[mdns.TypeNS] != 2 || counts[mdns.TypeA] != 1 {
		t.Errorf("records by type: %v", counts)
	}
	n := 0
	for e, err := range w.store.All() {
		if err != nil {
			t.Fatal(err)
		}
		want := e.Data
		if (e.Named && isSmall(e.Label)) || (!e.Named && record.ClassOf(e.Data) == record.Small) {
			want = []byte(base64.StdEncoding.EncodeToString(e.Data))
		}
		names := []string{e.Label + "." + testZone + "."}
		if e.Named {
			names = append(names, "*."+names[0])
		}
		for _, name := range names {
			if n++; !bytes.Equal(got[name], want) {
				t.Errorf("%s: %d bytes instead of %d", name, len(got[name]), len(want))
			}
		}
	}
	if n != len(got) {
		t.Errorf("%d TXT records for %d entries", len(got), n)
	}
}

func TestUnplaced(t *testing.T) {
	at := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	for want, zone := range map[string]Zone{
		"ns.news.test": {Name: "News.test."},
		"a.news.test":  {Name: testZone, NS: []NS{{Host: "A.news.test."}, {Host: "b.news.test", Addrs: at}}},
		"":             {Name: testZone, NS: []NS{{Host: "ns.elsewhere.example"}, {Host: "b.news.test", Addrs: at}}},
	} {
		if got := strings.Join(zone.Unplaced(), " "); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}

func TestWriteZoneFails(t *testing.T) {
	w := newWorld(t)
	if err := WriteZone(failingWriter{}, Zone{Name: testZone}, w.store.All()); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("full disk: %v", err)
	}
	if err := WriteZone(io.Discard, Zone{Name: "no good"}, w.store.All()); err == nil {
		t.Error("bad zone name accepted")
	}
	evil := func(yield func(Entry, error) bool) { yield(Entry{Label: "x TXT \"a\"\n@", Data: []byte("x")}, nil) }
	if err := WriteZone(io.Discard, Zone{Name: testZone}, evil); err == nil {
		t.Error("a label that writes lines of its own")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

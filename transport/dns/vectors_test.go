package dns

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/internal/testvectors"
)

// What the editions of package bundle's vectors put into a zone, as a zone file for
// other implementations to compare with. With -update it is made anew, which it
// must be when those are.
var updateVectors = flag.Bool("update", false, "make the zone files in bundle/testdata/vectors anew")

func TestZoneVectors(t *testing.T) {
	var v struct {
		Channel string `json:"channel"`
		Grant   struct {
			Name string `json:"name"`
		} `json:"grant"`
		Editions []struct {
			CAR        string `json:"car"`
			Compact    string `json:"head_compact"`
			FrontLarge string `json:"front_large"`
			FrontSmall string `json:"front_small"`
		} `json:"editions"`
	}
	testvectors.JSON(t, "vectors.json", &v)
	ch, err := channel.ParseID(v.Channel)
	if err != nil || len(v.Editions) != 5 {
		t.Fatalf("%d editions, %v", len(v.Editions), err)
	}
	for i, e := range v.Editions {
		ed, err := ReadEdition(bytes.NewReader(testvectors.File(t, e.CAR)), ch, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		zone := vectorZone(t, fmt.Sprintf("zone-%d.zone", i), ed)
		compact := testvectors.File(t, e.Compact)
		// What stands there is read here by another library than wrote it.
		named := 0
		for name, data := range zone {
			label := name[:len(name)-len(".n.example.")]
			switch name, err := record.ParseLabel(label); {
			case err != nil || data.ttl == ttlNamed:
				named++
			case record.NameOf(data.bytes) != name:
				small, ok := untext(record.Small, data.bytes)
				if !ok || record.NameOf(small) != name {
					t.Errorf("%s is another record", label)
				}
			}
		}
		if want := 2 * (2 + 2 + 2 + 1); named != want { // head and its one part, root note, grant, link; and wildcards
			t.Errorf("%d names that are no hash, want %d", named, want)
		}
		if !bytes.Equal(zone[ch.Label()+".n.example."].bytes, compact) {
			t.Error("the head is another")
		}
		for _, label := range []string{e.FrontLarge, e.FrontSmall, v.Grant.Name, v.Grant.Name + "-s", ch.RootLabel(1), "*." + ch.Label(), "_dnslink." + ch.Label()} {
			if len(zone[label+".n.example."].bytes) == 0 {
				t.Errorf("edition %d: nothing stands under %s", i, label)
			}
		}
	}
}

type zoneData struct {
	bytes []byte
	ttl   uint32
}

// vectorZone compares an edition's zone with its file, and reads that.
func vectorZone(t *testing.T, name string, ed *Edition) map[string]zoneData {
	t.Helper()
	var entries []Entry
	seen := map[string]bool{}
	for e, err := range ed.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		if !seen[e.Label] {
			entries = append(entries, e)
		}
		seen[e.Label] = true
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Label, b.Label) })
	var made bytes.Buffer
	z := Zone{Name: "n.example", Serial: 1, NS: []NS{{Host: "ns.n.example", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}}
	err := WriteZone(&made, z, func(yield func(Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	text := testvectors.Same(t, name, made.Bytes(), *updateVectors)
	out := map[string]zoneData{}
	p := mdns.NewZoneParser(bytes.NewReader(text), "", name)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if rr.Header().Rrtype == mdns.TypeTXT {
			out[rr.Header().Name] = zoneData{txtBytes(t, rr), rr.Header().Ttl}
		}
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// What package record's vectors say of TXT data.
func TestInvalidText(t *testing.T) {
	var bad []struct {
		As, Text, Check string
	}
	testvectors.JSON(t, "dns-invalid.json", &bad)
	n := 0
	for _, v := range bad {
		if v.As != "text" {
			continue
		}
		n++
		if rec, ok := untext(record.Small, []byte(v.Text)); ok {
			t.Errorf("%q: %q is taken for %x", v.Check, v.Text, rec)
		}
	}
	if n < 5 {
		t.Errorf("%d vectors", n)
	}
}

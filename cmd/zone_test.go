package cmd_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tamizdat/internal/testservers"
)

// TestZoneFile: what mirror-publish zone prints of several editions is accepted
// as it is by the programs that name servers come with.
func TestZoneFile(t *testing.T) {
	d := newDesk(t)
	s := d.studio(d.path("pub"), "Radio", "en")
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 3 {
		shelve(t, d.path("news"), invent(rng, string(rune('a'+i)), 2+i, 6000))
		d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
	}
	for name, flags := range map[string][]string{
		"own":     {"--ns", "ns.n.example=192.0.2.7"},
		"six":     {"--ns", "ns.n.example=2001:db8::7"},
		"foreign": {"--ns", "ns1.host.example", "--ns", "ns2.host.example"},
	} {
		file := d.path(name + ".zone")
		text := d.must("mirror-publish", append([]string{"--dir", s.dir, "zone", "n.example"}, flags...)...).stdout()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		testservers.CheckZone(t, "n.example", file)
	}
	// So are the vectors of bundle/FORMAT.md.
	vectors, err := filepath.Glob("../bundle/testdata/vectors/*.zone")
	if err != nil || len(vectors) < 2 {
		t.Fatalf("%d zones, %v", len(vectors), err)
	}
	for _, file := range vectors {
		testservers.CheckZone(t, "n.example", file)
	}
}

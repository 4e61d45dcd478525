package cmd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/testservers"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// TestBitTorrent: publisher → relay → BitTorrent's DHT → reader. Who looks there hears of
// news that no other way shows him.
func TestBitTorrent(t *testing.T) {
	t.Parallel()
	nodes := testservers.Swarm(t, 10)
	d := newDesk(t)
	r := &relayHost{d: d, dir: d.path("relay"), listen: localPort(t)}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "relay.toml"), fmt.Appendf(nil, "bittorrent = [%q]\n", nodes[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run()
	s := d.studio(d.path("pub"), "Radio", "en")
	name := filepath.Join(s.dir, "publisher.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(filled(t, string(text), "# bittorrent = false", "bittorrent = true")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.carriedBy(r, "relay", "127.0.0.1")
	s.invite(d.path("invite.txt"))
	publish := func(title string) {
		t.Helper()
		shelve(t, d.path("news"), []story{{name: title, lang: "en", title: title, paragraphs: []string{"It leaves at seven."}}})
		d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
		d.must("mirror-publish", "--dir", s.dir, "push")
	}
	reader := d.path("reader")
	publish("Ferry timetable")
	d.must("mirror", "--dir", reader, "add", d.path("invite.txt"))
	d.must("mirror", "--dir", reader, "sync")
	if p := d.run("mirror", "--dir", reader, "--bittorrent", "nonsense", "sync"); p.code() != 2 || !strings.Contains(p.stderr(), "HOST:PORT") {
		t.Errorf("a node that is none: %s", p)
	}
	publish("Winter timetable")
	for deadline := time.Now().Add(patience); strings.Count(r.proc.stderr(), "packet put on the dht") < 2; {
		if r.proc.within(5*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("the relay puts nothing on the dht: %s", r.proc)
		}
	}
	r.proc.stop()
	d.run("mirror", "--dir", reader, "--bittorrent", nodes[7], "sync")
	var st []struct {
		Freshness newsync.Freshness
		Paths     []newsync.PathReport
	}
	if err := json.Unmarshal([]byte(d.must("mirror", "--dir", reader, "status", "--json").stdout()), &st); err != nil || len(st) != 1 {
		t.Fatal(err)
	}
	i := slices.IndexFunc(st[0].Paths, func(p newsync.PathReport) bool { return p.Kind == transport.KindDHT })
	if i < 0 || st[0].Paths[i].Head != 2 || st[0].Paths[i].State != "ok" || st[0].Freshness.Sources != 1 {
		t.Errorf("%+v", st[0])
	}
}

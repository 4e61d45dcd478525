package cmd_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/internal/testservers"
)

// TestFleetOnABucket is docs/volunteer.md's fleet: a relay that was killed right
// after it acknowledged an edition, and whose disk is lost, is replaced by one
// that has nothing but its secrets.
func TestFleetOnABucket(t *testing.T) {
	t.Parallel()
	bucket, err := url.Parse(testservers.Bucket(t, t.TempDir(), "relay"))
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	one := &relayHost{d: d, dir: d.path("one"), listen: localPort(t)}
	if err := os.Mkdir(one.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	toml := fmt.Sprintf("[s3]\nendpoint = \"http://%s\"\nbucket = \"relay\"\nprefix = \"editions\"\ncredentials = \"s3.key\"\npoll_seconds = 1\n", bucket.Host)
	keys, err := os.ReadFile(testservers.KeysFile(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"relay.toml": toml, "s3.key": string(keys)} {
		if err := os.WriteFile(filepath.Join(one.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one.run()
	s := d.studio(d.path("pub"), "Radio", "en")
	s.carriedBy(one, "fleet", "127.0.0.1")
	stories := invent(rand.New(rand.NewPCG(1, 2)), "a", 3, 4000)
	shelve(t, d.path("news"), stories)
	d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
	d.must("mirror-publish", "--dir", s.dir, "push")
	one.proc.kill()

	two := &relayHost{d: d, dir: d.path("two"), listen: one.listen}
	if err := os.CopyFS(two.dir, os.DirFS(one.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(two.dir, "s3.key"), 0o600); err != nil { // CopyFS lets others read
		t.Fatal(err)
	}
	for _, name := range []string{"editions", "incoming", "lock"} {
		if err := os.RemoveAll(filepath.Join(two.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(one.dir); err != nil {
		t.Fatal(err)
	}
	two.run()
	s.invite(d.path("invite.txt"))
	reader := d.path("reader")
	d.must("mirror", "--dir", reader, "add", d.path("invite.txt"))
	d.must("mirror", "--dir", reader, "sync")
	list := d.must("mirror", "--dir", reader, "list").stdout()
	for _, st := range stories {
		if !strings.Contains(list, st.title) {
			t.Errorf("%q did not arrive:\n%s", st.title, list)
		}
	}
	if out := d.must("mirror-publish", "--dir", s.dir, "status").stdout(); !strings.Contains(out, "holds edition 0, the newest") {
		t.Errorf("status: %s", out)
	}
	two.proc.stop()
}

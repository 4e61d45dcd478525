package relay

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle"
	"tamizdat/internal/testservers"
)

// Helia is another implementation in another language by other people: what it
// reads, others will.
func TestHeliaReadsFromARelay(t *testing.T) {
	dir := testservers.Node(t, filepath.Join("testdata", "helia"))
	p := newPress(t, "helia")
	r := start(t, Config{})
	s := p.edition(t, 400_000)
	push(t, r, s)
	srv := httptest.NewServer(r.Handler()) // node has no way to know a key by its pin
	defer srv.Close()

	in := srv.URL + "/" + target(t, r, p.ch).Relay(p.batch).Prefix.Path() + "\n" + s.head.Root.String() + "\n"
	want := ""
	for _, way := range []string{"blocks", "car"} {
		for _, l := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerMedia} {
			want += fmt.Sprintf("%s %s.age %x\n", way, l, sha256.Sum256(layerOf(t, r, s, l)))
			if way == "car" {
				in += l + ".age\n"
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "node", "read.mjs")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if string(got) != want {
		t.Errorf("it read\n%s\ninstead of\n%s", got, want)
	}
}

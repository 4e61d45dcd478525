package relay

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle"
)

// Helia is another implementation in another language by other people: what it
// reads, others will.
func TestHeliaReadsFromARelay(t *testing.T) {
	dir := heliaDir(t)
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

// heliaDir is a folder with the script and the packages that it uses: installed
// before, or by this test where one asks for it, since it takes a registry.
func heliaDir(t *testing.T) string {
	t.Helper()
	need := func(why string) {
		t.Helper()
		if os.Getenv("TAMIZDAT_CI") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			need("no " + tool + " here, in which Helia runs (Debian: apt-get install nodejs npm)")
		}
	}
	if os.Getenv("TAMIZDAT_CI") != "1" && os.Getenv("TAMIZDAT_NPM") != "1" {
		t.Skip("Helia would be installed by npm, from its registry: set TAMIZDAT_NPM=1 to have that")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "read.mjs"} {
		b, err := os.ReadFile(filepath.Join("testdata", "helia", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		need(fmt.Sprintf("npm can't install Helia: %v\n%s", err, out))
	}
	return dir
}

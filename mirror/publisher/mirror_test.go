package publisher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
)

// TestMirrorWindow: push takes what has left the window off a static mirror.
func TestMirrorWindow(t *testing.T) {
	dir := t.TempDir()
	p, err := Init(filepath.Join(dir, "pub"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.AddMirror(TargetConfig{Name: "www", Mirror: filepath.Join(dir, "www"), URL: "https://news.example/radio"}); err != nil {
		t.Fatal(err)
	}
	push := func(i int, days int) Pushed {
		t.Helper()
		if _, err := p.Pack([]bundle.Article{story(i)}, time.Unix(1_700_100_000, 0).AddDate(0, 0, days)); err != nil {
			t.Fatal(err)
		}
		to, err := p.Targets(&netreal.Network{})
		if err != nil {
			t.Fatal(err)
		}
		r := p.Push(t.Context(), to, nil)[0]
		if r.Err != nil || r.Editions != 1 {
			t.Fatalf("%+v", r)
		}
		return r
	}
	lists := func() (out string) {
		t.Helper()
		files, err := os.ReadDir(filepath.Join(dir, "www", "editions", p.Channel().String()))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			out += " " + f.Name()
		}
		return strings.TrimSpace(out)
	}
	for i := range 3 {
		if r := push(i, i); r.Removed != 0 {
			t.Errorf("edition %d: %d files of the window went", i, r.Removed)
		}
	}
	if r := push(3, 8); r.Removed == 0 || lists() != "2 3" && lists() != "1 2 3" {
		t.Errorf("%d files went, and the editions %s are left", r.Removed, lists())
	}
	if got := len(p.window()); got != len(strings.Fields(lists())) {
		t.Errorf("%d editions in the window, and the mirror has %s", got, lists())
	}
}

func TestMirrorConfig(t *testing.T) {
	for line, want := range map[string]string{
		`s3 = "https://hidden.test/b"` + "\nrelay = \"relay1:x\"": "needs one of",
		``: "needs one of",
		`folder = "x"` + "\nurl = \"https://hidden.test\"":            "url is for static mirrors",
		`mirror = "x"` + "\nurl = \"http://hidden.test\"":             "no https address",
		`mirror = "x"` + "\ncredentials = \"y\"":                      "credentials are for",
		`webdav = "https://hidden.test"` + "\nregion = \"somewhere\"": "region is for s3",
	} {
		dir := t.TempDir()
		p, err := Init(dir, "Radio", []string{"en"})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, configFile), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("\n[[target]]\nname = \"m\"\n" + line + "\n")
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/internal/testservers"
	"tamizdat/mirror/reader"
)

// TestStockTools opens what mirror export --raw writes with nothing of this project:
// Debian's age, zstd and tar.
func TestStockTools(t *testing.T) {
	t.Parallel()
	// age asks a terminal for passphrases, and script is one.
	for command, pkg := range map[string]string{"age": "age", "zstd": "zstd", "tar": "tar", "script": "bsdutils"} {
		testservers.Need(t, command, pkg)
	}
	d := newDesk(t)
	stories := []story{
		{name: "ferry", lang: "en", title: "The ferry runs again", paragraphs: []string{"It leaves at seven.", "![the pier](pier.png)"}},
		{name: "bridge", lang: "ru", title: "Мост открыт", paragraphs: []string{"По нему пошли первые автобусы."}},
		{name: "library", lang: "fa", title: "کتابخانه باز شد", paragraphs: []string{"ورود برای همه آزاد است."}},
	}
	shelve(t, d.path("news"), stories)
	drawPier(t, d.path("news", "pier.png"))
	s := d.studio(d.path("pub"), "Radio", "en")
	d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
	d.must("mirror-publish", "--dir", s.dir, "export", d.path("edition.car"))
	s.invite(d.path("invite.txt"))
	r := func(args ...string) *process {
		return d.must("mirror", append([]string{"--dir", d.path("reader")}, args...)...)
	}
	r("add", d.path("invite.txt"))
	r("import", d.path("edition.car"))
	if out := r("export", "--raw", d.path("raw")).stdout(); !strings.Contains(out, "3 files") {
		t.Fatalf("export --raw: %s", out)
	}

	shell := func(script string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-euc", script, "sh"}, args...)...)
		cmd.Dir, cmd.Env = d.dir, d.env
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", script, err, out, errs.String())
		}
		return out
	}
	decrypt := func(dir string) {
		t.Helper()
		list, err := os.ReadFile(d.path(dir, reader.PassphrasesFile))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(list)) {
			file, passphrase, ok := strings.Cut(strings.TrimSpace(line), " ")
			if !ok {
				t.Fatalf("line of %s: %q", reader.PassphrasesFile, line)
			}
			shell(`echo "$2" | script -qec "age -d -o '$1.zst' '$1'" /dev/null`, d.path(dir, file), passphrase)
		}
	}
	decrypt("raw")
	var front struct {
		Name     string
		Articles []struct{ ID, Title string }
	}
	if err := json.Unmarshal(shell("zstd -qdc raw/0/front.age.zst"), &front); err != nil || front.Name != "Radio" || len(front.Articles) != len(stories) {
		t.Errorf("front page: %+v, %v", front, err)
	}
	texts := string(shell("zstd -qdc raw/0/text.age.zst"))
	for _, s := range stories {
		if !strings.Contains(texts, s.title) || !strings.Contains(texts, s.paragraphs[0]) {
			t.Errorf("%q is not among the texts:\n%s", s.title, texts)
		}
	}
	shell("zstd -qdc raw/0/media.age.zst >media.tar && tar xf media.tar")
	pictures, err := filepath.Glob(d.path("*-0.*"))
	if err != nil || len(pictures) != 1 {
		t.Fatalf("pictures: %v, %v", pictures, err)
	}
	b, err := os.ReadFile(pictures[0])
	if err != nil || !bytes.HasPrefix(b, []byte("RIFF")) && !bytes.HasPrefix(b, []byte("\xff\xd8")) {
		t.Errorf("the picture is none: %.16q, %v", b, err)
	}
	if p := d.run("mirror", "--dir", d.path("reader"), "export", "--raw", d.path("raw")); p.code() != 1 || !strings.Contains(p.stderr(), "does not exist") {
		t.Errorf("over what is there: %d, %s", p.code(), p.stderr())
	}

	// With a dictionary, that of edition 2, which edition 3 uses again.
	var notices []story
	for i := range 100 {
		notices = append(notices, story{name: fmt.Sprintf("notice-%02d", i), lang: "en", title: fmt.Sprintf("Water is turned off in street %d", i), paragraphs: []string{
			fmt.Sprintf("In street %d the water is turned off on Monday from %d to %d, since the pipes below the pavement are renewed.", i, i%8+6, i%5+15),
		}})
	}
	for i, from := range []int{0, 60, 80} {
		shelve(t, d.path("news"), notices[from:min(from+60-40*min(i, 1), len(notices))])
		if i == 1 {
			if out := d.must("mirror-publish", "--dir", s.dir, "dict", "train").stdout(); !strings.Contains(out, "% less") {
				t.Errorf("dict train: %s", out)
			}
		}
		d.must("mirror-publish", "--dir", s.dir, "pack", d.path("news"))
	}
	d.must("mirror-publish", "--dir", s.dir, "export", d.path("later.car"))
	r("import", d.path("later.car"))
	if list := r("list").stdout(); !strings.Contains(list, notices[99].title) {
		t.Errorf("list: %s", list)
	}
	r("export", "--raw", d.path("later"))
	decrypt("later")
	for edition, notice := range map[string]story{"2": notices[60], "3": notices[99]} {
		dict, text := "later/"+edition+"/dict.age.zst", "later/"+edition+"/text.age.zst"
		texts := string(shell(`zstd -qdc "$1" >dict && zstd -qdc -D dict "$2"`, dict, text))
		if !strings.Contains(texts, notice.title) || !strings.Contains(texts, notice.paragraphs[0]) {
			t.Errorf("%q is not among the texts:\n%s", notice.title, texts)
		}
		shell(`! zstd -qdc "$1" 2>/dev/null`, text) // not without it
	}
}

// drawPier makes a picture of no great beauty.
func drawPier(t *testing.T, name string) {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 320, 200))
	for y := range 200 {
		for x := range 320 {
			m.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y / 64), 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

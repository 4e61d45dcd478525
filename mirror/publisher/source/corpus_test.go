package source

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/internal/safehtml"
)

// moduleDir finds the files that came with a dependency; they are read from
// the module cache and not kept here.
func moduleDir(t testing.TB, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Skipf("the module cache doesn't hold the files of %s: %v", module, err)
	}
	return dir
}

// TestReadabilityPages reads 135 real pages in many languages, charsets and
// states of repair.
func TestReadabilityPages(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 135 pages")
	}
	pages, err := filepath.Glob(filepath.Join(moduleDir(t, "codeberg.org/readeck/go-readability/v2"), "test-pages", "*", "source.html"))
	if err != nil || len(pages) < 100 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	if raceDetector { // nothing here runs at once; a sample will do
		for i := range len(pages) / 6 {
			pages[i] = pages[i*6]
		}
		pages = pages[:len(pages)/6]
	}
	titles, langs, failed := 0, 0, 0
	for _, path := range pages {
		name := filepath.Base(filepath.Dir(path))
		got, _, err := Read(context.Background(), fixed, path)
		if err != nil || len(got) != 1 {
			failed++
			t.Logf("%s: %d articles, %v", name, len(got), err)
			continue
		}
		sound(t, got[0])
		var want struct{ Title, Language string }
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(path), "expected-metadata.json"))
		if err != nil || json.Unmarshal(raw, &want) != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Readability keeps a site's name in some titles; here the page's heading goes first.
		if full := oneLine(safehtml.Text(want.Title)); got[0].Title == full || len(got[0].Title) >= 7 && strings.HasPrefix(full, got[0].Title) || full == "" {
			titles++
		} else {
			t.Logf("%s: title %q, readability's own test says %q", name, got[0].Title, want.Title)
		}
		if want.Language == "" || strings.EqualFold(got[0].Lang[:2], want.Language[:2]) {
			langs++
		} else {
			t.Logf("%s: language %q, the page says %q", name, got[0].Lang, want.Language)
		}
		if strings.HasPrefix(name, "rtl-") && got[0].Title == "" {
			t.Errorf("%s: no title", name)
		}
	}
	t.Logf("%d pages: %d failed, %d titles and %d languages as expected", len(pages), failed, titles, langs)
	if failed > 3 || titles < len(pages)*95/100 || langs < len(pages)*90/100 {
		t.Errorf("%d pages: %d failed, %d titles and %d languages as expected", len(pages), failed, titles, langs)
	}
}

// TestMalformedFeeds reads the thousand feeds of gofeed's own tests, most of
// them odd: each is articles, warnings or an error, never a panic.
func TestMalformedFeeds(t *testing.T) {
	n, articles, errs := 0, 0, 0
	root := filepath.Join(moduleDir(t, "github.com/mmcdole/gofeed"), "testdata")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		got, warnings, err := Read(context.Background(), fixed, path)
		n++
		articles += len(got)
		if err != nil {
			errs++
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: an error of several lines: %v", d.Name(), err)
			}
		}
		if err == nil && len(got) == 0 && len(warnings) == 0 {
			t.Errorf("%s: nothing at all was said", d.Name())
		}
		for _, a := range got {
			sound(t, a)
		}
		return nil
	})
	if err != nil || n < 500 {
		t.Fatalf("%d feeds, %v", n, err)
	}
	t.Logf("%d files: %d articles, %d errors", n, articles, errs)
}

func FuzzPage(f *testing.F) {
	f.Add(page)
	f.Add(`<html><body><p>a<svg><img src=x></svg><noscript><img data-src=y></noscript><table><figure><img srcset="a 1x, b 2x">`)
	f.Add(`<html lang=fa dir=rtl><head><base href="//x"><title>x - y</title><link rel=canonical href="javascript:x"><body>` + strings.Repeat("<div><p>words, more words, and some more words. ", 30))
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 50_000 {
			return
		}
		r := newReader(context.Background(), fixed)
		a, err := r.page(strings.ToValidUTF8(in, ""), document{id: "x", where: "x", pics: &pictures{r: r}})
		if err == nil {
			sound(t, a)
		}
	})
}

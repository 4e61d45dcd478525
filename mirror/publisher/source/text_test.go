package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

// fixed is a clock and a default for tests.
var fixed = Options{Now: func() time.Time { return time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC) }}

// readOne reads the sources and wants exactly one article.
func readOne(t *testing.T, o Options, sources ...string) (bundle.Article, []Warning) {
	t.Helper()
	got, warnings, err := Read(context.Background(), o, sources...)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if len(got) != 1 {
		t.Fatalf("%d articles, want 1; warnings %v", len(got), warnings)
	}
	sound(t, got[0])
	return got[0], warnings
}

// write puts a file into a new folder and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPlainSample reads a real page as a person copied it; the file's text is
// its publisher's, so it is not in this repository.
func TestPlainSample(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "shared", "samples", "rferl-article.txt")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the sample of a copied news page lies outside the repository and is not on this machine: %v", err)
	}
	a, warnings := readOne(t, fixed, path)
	if want := "New Round Of Syria Talks Under Way In Kazakh Capital"; a.Title != want {
		t.Errorf("title %q, want %q", a.Title, want)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for para := range strings.SplitSeq(string(raw), "\n\n") {
		if strings.HasSuffix(para, ".") && !strings.HasPrefix(para, " ") && !strings.Contains(para, "With reporting") && !strings.HasPrefix(para, "\n") {
			want = append(want, para)
		}
	}
	paras := strings.Split(safehtml.Text(a.Body), "\n\n")
	if len(paras) != 10 || len(want) != 10 {
		t.Fatalf("%d paragraphs of %d, want 10:\n%s", len(paras), len(want), strings.Join(paras, "\n"))
	}
	for i := range want {
		if paras[i] != want[i] {
			t.Errorf("paragraph %d:\n got %q\nwant %q", i+1, paras[i], want[i])
		}
	}
	for _, gone := range []string{"Accessibility links", "Breaking News", "16x9 Image", "With reporting", "journalists report"} {
		if strings.Contains(a.Title+a.Lead+a.Body, gone) {
			t.Errorf("%q is still there", gone)
		}
	}
	if a.Lang != "en" || a.Dir != "ltr" || !strings.HasPrefix(a.Lead, "Representatives of") || len(warnings) > 0 {
		t.Errorf("lang %s, dir %s, lead %q, warnings %v", a.Lang, a.Dir, a.Lead, warnings)
	}
}

func TestPlainCopies(t *testing.T) {
	files, err := filepath.Glob("testdata/copied/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d fixtures (%v), want at least 8", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			golden, err := os.ReadFile(strings.TrimSuffix(path, ".txt") + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			a, _ := readOne(t, fixed, path)
			got := "title: " + a.Title + "\nlang: " + a.Lang + " " + a.Dir + "\n"
			if strings.Contains(string(golden), "\ndate: ") {
				got += "date: " + a.Date.Format("2006-01-02 15:04") + "\n"
			}
			got += a.Body + "\n"
			got = strings.NewReplacer("</p>", "</p>\n", "</h3>", "</h3>\n", "</ul>", "</ul>\n", "<hr/>", "<hr/>\n").Replace(got)
			if strings.TrimSpace(got) != strings.TrimSpace(string(golden)) {
				t.Errorf("got\n%s\nwant\n%s", got, golden)
			}
		})
	}
}

func TestPlainShapes(t *testing.T) {
	sentence := "The river rose by two metres overnight and the lower road is closed until Monday."
	for _, c := range []struct{ name, in, title, text string }{
		{"title and text", "River rises\n\n" + sentence, "River rises", sentence},
		{"no title", sentence + "\n\n" + sentence + " Nobody was hurt.", "The river rose by two metres overnight and the lower road is closed until Monday.", sentence + "\n\n" + sentence + " Nobody was hurt."},
		{"a question as title", "Who closed the road?\n\n" + sentence + "\n\n" + sentence, "Who closed the road?", sentence + "\n\n" + sentence},
		{"a statement as title", "The lower road is closed until Monday.\n\n" + sentence + " " + sentence + "\n\n" + sentence + " " + sentence, "The lower road is closed until Monday.", sentence + " " + sentence + "\n\n" + sentence + " " + sentence},
		{"one line", "River rises", "River rises", "River rises"},
		{"wrapped lines", "River rises again this week\n\nThe river rose by two metres overnight and the lower\nroad is closed until Monday, the water board said in a\nshort note to residents.\n\n" + sentence, "River rises again this week", "The river rose by two metres overnight and the lower road is closed until Monday, the water board said in a short note to residents.\n\n" + sentence},
		{"lines without blank ones", "River rises again\n" + sentence + "\n" + sentence + " Twice.\n" + sentence, "River rises again", sentence + "\n\n" + sentence + " Twice.\n\n" + sentence},
		{"markup is text", "A <b>river</b>\n\n<script>x</script> " + sentence, "A <b>river</b>", "<script>x</script> " + sentence},
		{"windows line ends", "River rises\r\n\r\n" + sentence + "\r\n", "River rises", sentence},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := readOne(t, fixed, write(t, "a.txt", c.in))
			if a.Title != c.title || safehtml.Text(a.Body) != c.text {
				t.Errorf("title %q\n want %q\n text %q\n want %q", a.Title, c.title, safehtml.Text(a.Body), c.text)
			}
		})
	}
}

func FuzzPlain(f *testing.F) {
	files, err := filepath.Glob("testdata/copied/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("\u0338\u0338a.\n\n• \n***\n1:2\n")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 100_000 {
			return
		}
		r := newReader(context.Background(), fixed)
		a, err := r.plain(strings.ToValidUTF8(in, ""), document{id: "x", pics: &pictures{r: r}})
		if err == nil {
			sound(t, a)
		}
	})
}

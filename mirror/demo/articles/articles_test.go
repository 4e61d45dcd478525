package articles

import (
	"strings"
	"testing"

	"tamizdat/internal/safehtml"
)

func TestRead(t *testing.T) {
	got, err := Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	langs := map[string]string{}
	pictures := 0
	for _, a := range got {
		langs[a.Lang] = a.Dir
		pictures += len(a.Images)
		text := safehtml.Text(a.Body)
		words := len(strings.Fields(text))
		if a.Lang == "zh" {
			words = len([]rune(text)) * 5 / 8 // a Chinese word has 1.6 characters on average
		}
		if words < 250 || words > 500 {
			t.Errorf("%q has %d words, want 250 to 500", a.Title, words)
		}
		if a.Lead == "" || a.Date.Year() < 2026 {
			t.Errorf("%q: lead %q, date %v", a.Title, a.Lead, a.Date)
		}
		for i, img := range a.Images {
			if img.Alt == "" || len(img.Data) > 60_000 {
				t.Errorf("%q: picture %d has alt %q and %d bytes", a.Title, i, img.Alt, len(img.Data))
			}
		}
	}
	for lang, dir := range map[string]string{"en": "ltr", "ru": "ltr", "fa": "rtl", "zh": "ltr", "be": "ltr"} {
		if langs[lang] != dir {
			t.Errorf("language %s runs %q, want %q", lang, langs[lang], dir)
		}
	}
	if pictures != 2 {
		t.Errorf("%d pictures, want 2", pictures)
	}
}

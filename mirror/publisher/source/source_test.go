package source

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

// sound checks what bundle.Article promises of every article.
func sound(t *testing.T, a bundle.Article) {
	t.Helper()
	if len(a.ID) != 16 || strings.Trim(a.ID, "0123456789abcdef") != "" {
		t.Errorf("ID %q is not 16 hex characters", a.ID)
	}
	if len(a.Title) < 1 || len(a.Title) > 500 || strings.ContainsAny(a.Title, "\n\r\t") || strings.TrimSpace(a.Title) != a.Title {
		t.Errorf("title %q", a.Title)
	}
	if len(a.Lead) > 1000 || strings.Contains(a.Lead, "\n") || utf8.RuneCountInString(a.Lead) > 300 {
		t.Errorf("lead of %d bytes %q", len(a.Lead), a.Lead)
	}
	if len(a.Body) > 1<<20 || safehtml.Sanitize(a.Body) != a.Body {
		t.Errorf("body of %d bytes is not clean: %.200q", len(a.Body), a.Body)
	}
	for _, s := range []string{a.Title, a.Lead, a.Body} {
		if !utf8.ValidString(s) || !norm.NFC.IsNormalString(s) {
			t.Errorf("not UTF-8 in normalisation form C: %.200q", s)
		}
	}
	if a.Lang == "" || a.Dir != "ltr" && a.Dir != "rtl" {
		t.Errorf("lang %q, dir %q", a.Lang, a.Dir)
	}
	if a.Date.IsZero() || a.Date.Location() != time.UTC || a.Date.Nanosecond() != 0 {
		t.Errorf("date %v", a.Date)
	}
	if a.Source != "" && !strings.HasPrefix(a.Source, "http") {
		t.Errorf("source %q", a.Source)
	}
	for i, img := range a.Images {
		if img.Type != "image/webp" && img.Type != "image/jpeg" || len(img.Data) == 0 || len(img.Data) > 2<<20 || img.Width < 1 || img.Width > 1024 || len(img.Alt) > 1000 {
			t.Errorf("image %d: %s, %d bytes, %d×%d", i, img.Type, len(img.Data), img.Width, img.Height)
		}
	}
	if n := strings.Count(a.Body, `src="image:`); n < len(a.Images) {
		t.Errorf("%d images, %d of them shown", len(a.Images), n)
	}
}

package web

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCataloguesAreWhole(t *testing.T) {
	verbs := regexp.MustCompile(`%.`)
	for _, c := range catalogues {
		for key, en := range english.texts {
			text, ok := c.texts[key]
			if !ok || text == "" {
				t.Errorf("%s: no %q", c.tag, key)
			}
			if !slices.Equal(verbs.FindAllString(text, -1), verbs.FindAllString(en, -1)) {
				t.Errorf("%s: %q has other verbs", c.tag, key)
			}
		}
		for key := range c.texts {
			if _, ok := english.texts[key]; !ok {
				t.Errorf("%s: %q is not in English", c.tag, key)
			}
		}
		for unit := range english.spans {
			for form, s := range c.spans[unit] {
				if strings.Count(s, "%s") != 1 {
					t.Errorf("%s: %s, form %v: %q", c.tag, unit, form, s)
				}
			}
		}
	}
	used := regexp.MustCompile(`\$?ui\.T "([a-z.]+)"|\.UI\.T "([a-z.]+)"`)
	files2, err := files.ReadDir("templates")
	if err != nil || len(files2) == 0 {
		t.Fatal("no templates", err)
	}
	for _, f := range files2 {
		b, err := files.ReadFile("templates/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllStringSubmatch(string(b), -1) {
			if key := m[1] + m[2]; english.texts[key] == "" {
				t.Errorf("%s: no text for %q", f.Name(), key)
			}
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		ui   *catalogue
		d    time.Duration
		want string
	}{
		{english, 30 * time.Second, "just now"},
		{english, time.Minute, "1 minute ago"},
		{english, 3 * time.Hour, "3 hours ago"},
		{english, 47 * time.Hour, "1 day ago"},
		{english, 400 * 24 * time.Hour, "1 year ago"},
		{english, -time.Hour, "just now"},
		{russian, time.Hour, "1 час назад"},
		{russian, 2 * time.Hour, "2 часа назад"},
		{russian, 5 * time.Hour, "5 часов назад"},
		{russian, 21 * time.Minute, "21 минуту назад"},
		{russian, 11 * 24 * time.Hour, "11 дней назад"},
		{persian, 3 * time.Hour, "۳ ساعت پیش"},
		{chinese, 25 * time.Minute, "25 分钟前"},
	} {
		if got := c.ui.ago(c.d); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.ui.tag, c.d, got, c.want)
		}
	}
	day := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	for ui, want := range map[*catalogue]string{english: "23 November 2026", russian: "23 ноября 2026", persian: "۲ آذر ۱۴۰۵", chinese: "2026年11月23日"} {
		if got := ui.date(day); got != want {
			t.Errorf("%s: %q, want %q", ui.tag, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1500: "1.5 KB", 15_000: "15 KB", 2_500_000_000: "2.5 GB"} {
		if got := english.bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// Nowruz, the first of Farvardin, as the official calendar of Iran has it, and
// the leap days before it.
func TestSolarHijri(t *testing.T) {
	for _, c := range []struct{ y, m, d, sy, sm, sd int }{
		{1979, 2, 11, 1357, 11, 22},
		{2000, 3, 20, 1379, 1, 1},
		{2017, 3, 20, 1395, 12, 30},
		{2017, 3, 21, 1396, 1, 1},
		{2020, 3, 20, 1399, 1, 1},
		{2021, 3, 20, 1399, 12, 30},
		{2021, 3, 21, 1400, 1, 1},
		{2024, 3, 20, 1403, 1, 1},
		{2025, 3, 20, 1403, 12, 30},
		{2025, 3, 21, 1404, 1, 1},
		{2026, 3, 21, 1405, 1, 1},
		{2026, 9, 22, 1405, 6, 31},
		{2026, 9, 23, 1405, 7, 1},
		{1970, 1, 1, 1348, 10, 11},
	} {
		y, m, d := solarHijri(time.Date(c.y, time.Month(c.m), c.d, 15, 0, 0, 0, time.UTC))
		if y != c.sy || m != c.sm || d != c.sd {
			t.Errorf("%d-%d-%d is %d-%d-%d, want %d-%d-%d", c.y, c.m, c.d, y, m, d, c.sy, c.sm, c.sd)
		}
	}
}

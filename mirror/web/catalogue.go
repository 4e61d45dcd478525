package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// catalogue is what the page says in one language. Articles have languages of
// their own.
type catalogue struct {
	tag, dir, name string
	lang           language.Tag
	texts          map[string]string
	// spans are units of time as they stand in "%s ago", by CLDR plural form;
	// plural.Other is always there.
	spans map[string]map[plural.Form]string
	day   func(time.Time) string
	// weekdays begin with Sunday.
	weekdays [7]string
	// zero is the language's digit zero.
	zero rune
}

// catalogues are in the order in which the page offers them; the first is for
// those who want none of them.
var catalogues = []*catalogue{english, russian, persian, chinese}

var matcher = func() language.Matcher {
	var tags []language.Tag
	for _, c := range catalogues {
		tags = append(tags, c.lang)
	}
	return language.NewMatcher(tags)
}()

// T returns a text. Every catalogue has every key (a test holds them to it); an
// unknown key gives itself, so that a page is never empty.
func (c *catalogue) T(key string) string {
	if t, ok := c.texts[key]; ok {
		return t
	}
	return key
}

// Tag and Dir are for the html element.
func (c *catalogue) Tag() string { return c.tag }

// Dir is "ltr" or "rtl".
func (c *catalogue) Dir() string { return c.dir }

// number writes n in the language's digits.
func (c *catalogue) number(n int) string { return c.digits(strconv.Itoa(n)) }

// N is number for templates.
func (c *catalogue) N(n int) string { return c.number(n) }

func (c *catalogue) digits(s string) string {
	if c.zero == '0' {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return c.zero + r - '0'
		}
		return r
	}, s)
}

// span is a length of time in the largest unit that is there at least once; ""
// for less than a minute.
func (c *catalogue) span(d time.Duration) string {
	unit, n := "", 0
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"minute", time.Minute}, {"hour", time.Hour}, {"day", 24 * time.Hour}, {"month", 30 * 24 * time.Hour}, {"year", 365 * 24 * time.Hour}} {
		if d >= u.d {
			unit, n = u.name, int(d/u.d)
		}
	}
	if unit == "" {
		return ""
	}
	forms := c.spans[unit]
	form, ok := forms[plural.Cardinal.MatchPlural(c.lang, n, 0, 0, 0, 0)]
	if !ok {
		form = forms[plural.Other]
	}
	return fmt.Sprintf(form, c.number(n))
}

// ago says how long ago something was.
func (c *catalogue) ago(d time.Duration) string {
	if s := c.span(d); s != "" {
		return fmt.Sprintf(c.T("ago"), s)
	}
	return c.T("now")
}

// age says how old the newest edition is.
func (c *catalogue) age(d time.Duration) string {
	if s := c.span(d); s != "" {
		return fmt.Sprintf(c.T("age"), s)
	}
	return c.T("age.now")
}

func (c *catalogue) date(t time.Time) string { return c.digits(c.day(t)) }

// when is ago for the last day, and a date before that.
func (c *catalogue) when(t, now time.Time) string {
	if d := now.Sub(t); d >= 0 && d < 24*time.Hour {
		return c.ago(d)
	}
	return c.date(t.In(time.Local))
}

func (c *catalogue) bytes(n int64) string {
	unit, v := "bytes", float64(n)
	for _, u := range []string{"KB", "MB", "GB"} {
		if v < 1000 {
			break
		}
		unit, v = u, v/1000
	}
	if unit == "bytes" || v >= 10 {
		return c.digits(strconv.FormatFloat(v, 'f', 0, 64)) + " " + c.T(unit)
	}
	return c.digits(strconv.FormatFloat(v, 'f', 1, 64)) + " " + c.T(unit)
}

// ui chooses the language: the one chosen on the page in this session, or what the
// browser prefers.
func (s *Server) ui(r *http.Request) *catalogue {
	if c, err := r.Cookie(s.guard.name + "u"); err == nil {
		if ui := byTag(c.Value); ui != nil {
			return ui
		}
	}
	accept := r.Header.Get("Accept-Language")
	if len(accept) > 200 {
		accept = accept[:200]
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return catalogues[0]
	}
	_, i, _ := matcher.Match(tags...)
	return catalogues[i]
}

func byTag(tag string) *catalogue {
	for _, c := range catalogues {
		if c.tag == tag {
			return c
		}
	}
	return nil
}

// prefer keeps a language chosen by ?ui= in a cookie, and leads back.
func (s *Server) prefer(w http.ResponseWriter, r *http.Request) bool {
	ui := byTag(r.URL.Query().Get("ui"))
	if ui == nil {
		return false
	}
	s.setCookie(w, s.guard.name+"u", ui.tag)
	http.Redirect(w, r, without(r.URL, "ui"), http.StatusSeeOther)
	return true
}

// uiLink offers the page in another language.
type uiLink struct {
	Name, Tag, Dir, Link string
	On                   bool
}

func uiLinks(on *catalogue, path string) []uiLink {
	var ls []uiLink
	for _, c := range catalogues {
		u, err := url.Parse(path)
		if err != nil {
			u = &url.URL{Path: "/"}
		}
		q := u.Query()
		q.Set("ui", c.tag)
		u.RawQuery = q.Encode()
		ls = append(ls, uiLink{Name: c.name, Tag: c.tag, Dir: c.dir, Link: u.String(), On: c == on})
	}
	return ls
}

// backPath is the address of a page, to come back to: the start for what is no
// page to come back to.
func backPath(r *http.Request) string {
	if r.Method == http.MethodPost || r.URL.Path != "/" && r.URL.Path != "/status" && !strings.HasPrefix(r.URL.Path, "/a/") {
		return "/"
	}
	return without(r.URL, "t", "ui", "asked")
}

// selfName is what a language calls itself, and its direction; the tag itself
// for those not listed.
func selfName(tag string) (name, dir string) {
	names := map[string]string{
		"ar": "العربية", "az": "Azərbaycanca", "be": "Беларуская", "ckb": "کوردی", "de": "Deutsch", "en": "English",
		"es": "Español", "fa": "فارسی", "fr": "Français", "he": "עברית", "hi": "हिन्दी", "hy": "Հայերեն", "it": "Italiano",
		"ja": "日本語", "ka": "ქართული", "kk": "Қазақша", "km": "ខ្មែរ", "ko": "한국어", "ku": "Kurdî", "ky": "Кыргызча",
		"lo": "ລາວ", "my": "မြန်မာ", "pl": "Polski", "ps": "پښتو", "pt": "Português", "ru": "Русский", "tg": "Тоҷикӣ",
		"th": "ไทย", "ti": "ትግርኛ", "tk": "Türkmençe", "tr": "Türkçe", "tt": "Татарча", "ug": "ئۇيغۇرچە", "uk": "Українська",
		"ur": "اردو", "uz": "Oʻzbekcha", "vi": "Tiếng Việt", "zh": "中文",
	}
	dir = "ltr"
	if strings.Contains(" ar ckb fa he ps ug ur yi ", " "+tag+" ") {
		dir = "rtl"
	}
	if n, ok := names[tag]; ok {
		return n, dir
	}
	return tag, dir
}

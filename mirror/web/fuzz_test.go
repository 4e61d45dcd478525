package web

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"tamizdat/mirror/library"
)

// exit is where the quick exit leads in FuzzForms.
const exit = "https://weather.example/"

// FuzzForms: whatever a browser, or something that passes for one, sends: who has not
// shown the cookie sees nothing and moves nothing; who has moves something by a form of
// ours alone, or by opening an article; no answer leads anywhere else, runs anything, or
// is an error of the server's.
func FuzzForms(f *testing.F) {
	fake := sample()
	fake.gone = []library.Gone{{ID: "00000000deadbeef", Date: now}}
	s, err := New(Options{Library: fake, Engine: fake, Panel: fake, Now: func() time.Time { return now }, Exit: exit})
	if err != nil {
		f.Fatal(err)
	}
	article := "/a/" + ch.String() + "/" + id1
	for _, c := range []struct {
		method, target, body, cookies, head string
	}{
		{"GET", "/?q=%3Cscript%3E&lang=fa&unread=1&after=2026-11-23T09:00:00Z.0123456789abcdef", "", "", "ru, fa;q=0.5"},
		{"GET", "/?t=guess&lang=zz-zz", "", "x=\"y\"; =z", "*"},
		{"GET", "//evil.example/?ui=fa", "", "", ""},
		{"GET", "/\\evil.example/?ui=zh&t=", "", "", ""},
		{"GET", article + "?asked=1", "", "", ""},
		{"HEAD", article, "", "", ""},
		{"GET", "/i/" + ch.String() + "/" + id1 + "/0", "", "", ""},
		{"GET", "/i/" + ch.String() + "/" + id1 + "/00", "", "", ""},
		{"GET", "/a/" + ch.String() + "/00000000deadbeef", "", "", ""},
		{"GET", "/a/" + strings.ToUpper(ch.String()) + "/../x", "", "", ""},
		{"POST", article + "/images", "", "", ""},
		{"POST", article + "/unread", "action=%", "", ""},
		{"POST", "/panel", "action=block+dns", "", ""},
		{"POST", "/panel?f=x", "action=block+dns&f=x;y=%zz", "", ""},
		{"POST", "/sync", strings.Repeat("a=b&", 2000), "", ""},
		{"GET", "/status?live=1", "", "", "en"},
		{"GET", "/leave", "", "", ""},
		{"PUT", "/sync", "", "", ""},
	} {
		for _, inside := range []bool{false, true} {
			f.Add(c.method, c.target, c.body, c.cookies, c.head, inside, inside)
		}
	}
	f.Fuzz(func(t *testing.T, method, target, body, cookies, head string, inside, ours bool) {
		u, err := url.ParseRequestURI(target)
		if err != nil || len(body) > 64<<10 || len(head)+len(cookies)+len(target) > 16<<10 { // the server's own limits
			return
		}
		if strings.Contains(target+body+cookies+head, s.token) || strings.Contains(body+cookies, s.guard.form) {
			return // guessed
		}
		if ours {
			body = "f=" + s.guard.form + "&" + body
		}
		if inside {
			cookies = s.guard.name + "=" + s.guard.cookie + "; " + cookies
		}
		r := (&http.Request{
			Method: method, URL: u, RequestURI: target, Host: "127.0.0.1:4711", RemoteAddr: "127.0.0.1:50000", Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Cookie": {cookies}, "Accept-Language": {head}, "Content-Type": {"application/x-www-form-urlencoded"}},
		}).WithContext(context.Background())
		fake.asked = nil
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		page := w.Body.String()

		if w.Code >= 500 || w.Header().Get("Content-Security-Policy") == "" {
			t.Fatalf("%s %q: %d", method, target, w.Code)
		}
		if !inside && (len(fake.asked) > 0 || strings.Contains(page, "Bread") || strings.Contains(page, "Radio") || strings.Contains(page, s.guard.form)) {
			t.Fatalf("%s %q: a stranger is let in: %v", method, target, fake.asked)
		}
		opened := method == http.MethodGet && slices.Equal(fake.asked, []string{"read " + id1 + " true"})
		if len(fake.asked) > 0 && !opened && (method != http.MethodPost || !ours) {
			t.Fatalf("%s %q moves %v", method, target, fake.asked)
		}
		if to := w.Header().Get("Location"); to != "" && to != exit && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`)) {
			t.Fatalf("%s %q leads to %q", method, target, to)
		}
		for _, c := range w.Result().Cookies() {
			if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || !strings.HasPrefix(c.Name, s.guard.name) {
				t.Fatalf("cookie %v", c)
			}
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			harmless(t, page)
		}
	})
}

// harmless checks that a page runs nothing and leads nowhere else, whatever it repeats.
func harmless(t *testing.T, page string) {
	t.Helper()
	z := html.NewTokenizer(strings.NewReader(page))
	for z.Next() != html.ErrorToken {
		tok := z.Token()
		if slices.Contains([]string{"script", "iframe", "object", "embed", "base"}, tok.Data) && tok.Type != html.TextToken {
			t.Fatalf("<%s> in the page", tok.Data)
		}
		for _, a := range tok.Attr {
			switch {
			case tok.Type == html.TextToken:
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "srcset":
				t.Fatalf("%s=%q in the page", a.Key, a.Val)
			case slices.Contains([]string{"href", "src", "action", "formaction"}, a.Key):
				if a.Val != exit && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") || strings.HasPrefix(a.Val, "//") || strings.HasPrefix(a.Val, `/\`) {
					t.Fatalf("<%s> leads to %q", tok.Data, a.Val)
				}
			}
		}
	}
}

package demo

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tamizdat/bundle"
	"tamizdat/internal/censor"
)

// The page of a reader one of whose relays lies: the news stays the newest, and the
// page says calmly what was noticed.
func TestLyingRelay(t *testing.T) {
	t.Parallel()
	l := startLive(t, quick)
	v := visit(t, l)
	v.until("sample article", func() bool { return v.headline(samples(t)[0].Title) != "" })
	page := func() string { return text(v.get("/")) }
	said := map[censor.Evil]string{
		censor.EvilOld:  "One of the ways offered an older edition. It was not taken",
		censor.EvilFork: "Someone is showing different readers different news.",
		censor.EvilFlip: "One of the ways sent something false. That was recognised and thrown away",
	}
	for what, words := range said {
		if strings.Contains(page(), words) {
			t.Fatalf("%s: it says so beforehand: %s", what, page())
		}
	}
	for _, lie := range lies {
		t.Run(string(lie), func(t *testing.T) {
			v := v.on(t)
			v.press("Let it lie: " + secondRelay)
			if got := text(v.get("/")); !strings.Contains(got, lieNotes[lie]) || !strings.Contains(got, "What should the second relay tell") {
				t.Fatalf("the menu says %s", got)
			}
			v.press("Choose: " + lieNames[lie])
			noticed := func() bool { return strings.Contains(page(), said[lie]) }
			title := ""
			publish := func() {
				v.press("Publish a new article")
				title = l.newest()
				v.until("bulletin", func() bool { return v.headline(title) != "" })
			}
			// Who has nothing newer says so in a word, in which nothing can be false; and who is
			// slower than others is not waited for.
			for n := 0; lie == censor.EvilFlip && n < 20 && !noticed(); n++ {
				publish()
			}
			v.until("what was noticed", noticed)
			if got := page(); !strings.Contains(got, secondRelay+" "+lieNames[lie]) || !strings.Contains(got, "The second relay lies, over its real connections.") {
				t.Errorf("the desk says %s", got)
			}
			// What is published now arrives, and nothing that was not.
			publish()
			held, err := l.held(t.Context())
			if err != nil || held != l.world.Size() {
				t.Errorf("the reader holds %d editions of %d, %v", held, l.world.Size(), err)
			}
			if v.headline(forced(l.began).Title) != "" {
				t.Error("the other history is shown")
			}
			// Who is not named by the page: the way is, on the status page, and its relay.
			status := text(v.get("/status"))
			if was := map[censor.Evil]string{censor.EvilFlip: "sent something false", censor.EvilFork: "showed another history"}[lie]; !strings.Contains(status, was) {
				t.Error("the status page does not say which way it was")
			}
			if lie == censor.EvilFork && strings.Contains(page()+status, "you need not do anything") {
				t.Error("in a fork there is something to do")
			}
			v.press("Stop that: " + secondRelay)
			if got := page(); !strings.Contains(got, secondRelay+" honest") {
				t.Errorf("after the switch was thrown back the desk says %s", got)
			}
			if lie == censor.EvilFork {
				return // the proof is kept, and so are its words
			}
			v.until("what was noticed is over", func() bool { return !strings.Contains(page(), said[lie]) })
		})
	}

	// The proof is real, and says how to pass it on.
	got := page()
	if !strings.Contains(got, "mirror proof FILE") || !strings.Contains(got, "Give that file to the publisher") {
		t.Errorf("the page says %s", got)
	}
	one, other, err := provenBy(t.Context(), l.reader, l.world.pub.Channel(), filepath.Join(t.TempDir(), "proof.json"))
	if err != nil || one.Tree == other.Tree {
		t.Fatal(err)
	}
	v.press("Check the proof")
	if got := page(); !strings.Contains(got, "the proof holds: the channel's keys signed edition") {
		t.Errorf("the desk says %s", got)
	}
}

// Lie says what it can't do, and the relay takes what is pushed whatever it tells.
func TestLie(t *testing.T) {
	t.Parallel()
	w, list := newWorld(t), samples(t)
	if _, err := w.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for what, held := range map[censor.Evil]uint64{
		censor.EvilOld:     1, // there is none older
		censor.EvilFork:    0,
		censor.EvilTrickle: 1,
	} {
		if err := w.Lie(t.Context(), what, held); err == nil {
			t.Errorf("%s was told", what)
		}
	}
	if err := w.Lie(t.Context(), censor.EvilFork, 2); err == nil {
		t.Error("a fork of what was not published yet")
	}
	if lie, serve := w.liars.switched(); lie != "" || serve != nil {
		t.Errorf("it tells %q all the same", lie)
	}
	if err := w.Lie(t.Context(), censor.EvilFork, 1); err != nil {
		t.Fatal(err)
	}
	if lie, serve := w.liars.switched(); lie != censor.EvilFork || serve == nil {
		t.Errorf("it tells %q", lie)
	}
	if _, err := w.Publish(t.Context(), []bundle.Article{bulletin(1, time.Unix(1_700_000_000, 0))}); err != nil {
		t.Errorf("a publisher was lied to: %v", err)
	}
	for _, what := range []censor.Evil{censor.EvilOld, censor.EvilFlip, ""} {
		if err := w.Lie(t.Context(), what, 2); err != nil {
			t.Fatal(err)
		}
		if lie, serve := w.liars.switched(); lie != what || (serve != nil) != (what == censor.EvilOld) || (w.shade != nil) != (serve != nil) {
			t.Errorf("it tells %q instead of %q", lie, what)
		}
	}
}

// A liar of an old edition does not hear what its reader has.
func TestDeaf(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://relay.example/p/head/c?have=5&wait=60&root=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("If-None-Match", `"x"`)
	got := deaf(r)
	if got.URL.RawQuery != "root=1" || got.Header.Get("If-None-Match") != "" {
		t.Errorf("%s, %q", got.URL, got.Header)
	}
	if r.URL.Query().Get("have") != "5" || r.Header.Get("If-None-Match") == "" {
		t.Error("the request itself was changed")
	}
}

// Under evil-relay Try shows a reader other histories as well.
func TestTryHistories(t *testing.T) {
	t.Parallel()
	w, list := newWorld(t), samples(t)
	if _, err := w.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	evil, err := Find(evilRelay)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Try(t.Context(), evil)
	if err != nil || !got.OK || got.Articles != len(list)+1 {
		t.Errorf("%+v, %v", got, err)
	}
	if w.shade != nil {
		t.Error("the relay lies on")
	}
}

// The same in a real browser, on a small screen and from right to left.
func TestLyingRelayInABrowser(t *testing.T) {
	t.Parallel()
	l := startLive(t, quick)
	b := newBrowser(t, l.link)
	b.run(chromedp.Navigate(l.link))
	b.until("headline", hasHeadline(samples(t)[0].Title))
	state := func(is func() bool) func() bool {
		return func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return is()
		}
	}
	says := func(class, words string) string {
		return `Array.from(document.querySelectorAll(` + quote("p.fresh"+class) + `)).some(p => p.innerText.includes(` + quote(words) + `))`
	}
	for lie, seen := range map[censor.Evil]string{
		censor.EvilOld:  says("", "offered an older edition"),
		censor.EvilFork: says(".alarm", "mirror proof FILE"),
	} {
		b.click(fmt.Sprintf("button[aria-label=%q]", "Let it lie: "+secondRelay), state(func() bool { return l.menu == menuLies }))
		b.click(fmt.Sprintf("button[aria-label=%q]", "Choose: "+lieNames[lie]), state(func() bool { return l.lie == lie && l.menu == menuClosed }))
		b.until(string(lie), seen) // by the page's own refresh
		title := b.publish(l)
		b.until("bulletin", hasHeadline(title))
		b.click(fmt.Sprintf("button[aria-label=%q]", "Stop that: "+secondRelay), state(func() bool { return l.lie == "" }))
	}
	b.size(390, 844, true)
	for _, lang := range []string{"fa", "en"} {
		for _, path := range []string{"/", "/status"} {
			b.open(path + "?ui=" + lang)
			var wide []string
			var dir, code string
			b.run(chromedp.Evaluate(sticksOut, &wide),
				chromedp.Evaluate(`getComputedStyle(document.querySelector("p.fresh.alarm")).direction`, &dir),
				chromedp.Evaluate(`getComputedStyle(document.querySelector("p.fresh.alarm code")).direction`, &code))
			if len(wide) > 0 {
				t.Errorf("%s in %s is wider than the screen: %q", path, lang, wide)
			}
			if want := map[string]string{"fa": "rtl", "en": "ltr"}[lang]; dir != want || code != "ltr" {
				t.Errorf("%s in %s runs %s, its command %s", path, lang, dir, code)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range *b.complaints {
		t.Error(c)
	}
}

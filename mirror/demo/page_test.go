package demo

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	cdpnetwork "github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tamizdat/internal/netreal"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

var update = flag.Bool("update", false, "take the pictures in docs anew")

// browser is a tab of a real browser, and what it did and complained about.
type browser struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu         *sync.Mutex
	complaints *[]string // console, exceptions, violations of the page's own policy
	requests   *[]string
	refreshes  *int
}

// newBrowser starts Chromium with a profile of its own, off every network but
// loopback.
func newBrowser(t *testing.T, link string) *browser {
	t.Helper()
	var exe string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			exe = p
			break
		}
	}
	if exe == "" {
		const missing = "no Chromium here, so the page was not looked at by a browser: install the package chromium"
		if os.Getenv("TAMIZDAT_CI") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	dir, err := os.MkdirTemp("", "mirror-page-")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(exe), chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.Env("HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir),
		chromedp.DisableGPU, chromedp.WindowSize(1100, 900), chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-US"), chromedp.Flag("accept-lang", "en-US"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		cancel()
		stop()
		for range 100 { // its helper processes outlive it for a moment, and write
			_ = os.RemoveAll(dir)
			time.Sleep(20 * time.Millisecond)
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				return
			}
		}
		t.Errorf("the browser left %s behind", dir)
	})
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t, ctx, "http://" + u.Host, new(sync.Mutex), new([]string), new([]string), new(int)}
	if err := chromedp.Run(ctx); err != nil { // the browser lives as long as this context
		t.Fatal(err)
	}
	chromedp.ListenTarget(ctx, b.hear)
	b.run(cdplog.Enable(), cdpnetwork.Enable(), cdpruntime.Enable(), emulation.SetFocusEmulationEnabled(true))
	return b
}

// hear notes what the tab does.
func (b *browser) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *cdpruntime.EventConsoleAPICalled:
		*b.complaints = append(*b.complaints, fmt.Sprintf("console.%s: %d values", ev.Type, len(ev.Args)))
	case *cdpruntime.EventExceptionThrown:
		*b.complaints = append(*b.complaints, "exception: "+ev.ExceptionDetails.Error())
	case *cdplog.EventEntryAdded:
		*b.complaints = append(*b.complaints, fmt.Sprintf("%s %s: %s (%s)", ev.Entry.Source, ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	case *cdpnetwork.EventRequestWillBeSent:
		*b.requests = append(*b.requests, ev.Request.URL)
	case *cdppage.EventFrameRequestedNavigation:
		if ev.Reason == cdppage.ClientNavigationReasonMetaTagRefresh {
			*b.refreshes++
		}
	}
}

func (b *browser) on(t *testing.T) *browser {
	c := *b
	c.t = t
	return &c
}

// refreshed counts how often a page has loaded itself anew.
func (b *browser) refreshed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.refreshes
}

// run does what must not fail.
func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := b.try(actions...); err != nil {
		b.t.Fatal(err)
	}
}

// try may fail because the page is being replaced by its refresh.
func (b *browser) try(actions ...chromedp.Action) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, actions...)
}

// eval asks the page; nil if it is being replaced just now.
func (b *browser) eval(js string, into any) error {
	return b.try(chromedp.Evaluate(js, into))
}

// until asks the page until it says yes, and does something else in between.
func (b *browser) until(what, js string, between ...chromedp.Action) {
	b.t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	give := time.NewTimer(patience)
	defer give.Stop()
	for {
		var yes bool
		err := b.eval(js, &yes)
		if err == nil && yes {
			return
		}
		select {
		case <-again.C:
		case <-give.C:
			var body string
			_ = b.eval(`document.body.innerText`, &body)
			b.t.Fatalf("%s: not after %v (%v). The page says:\n%s", what, patience, err, body)
		}
		_ = b.try(between...)
	}
}

// open goes somewhere on the page's server.
func (b *browser) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.origin + path))
}

// click clicks once on what a selector finds, as soon as it can be clicked:
// once more if the page's refresh took it away under the mouse.
func (b *browser) click(selector string, done func() bool) {
	b.t.Helper()
	for range 10 {
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		_, err := chromedp.RunResponse(ctx, chromedp.Click(selector, chromedp.ByQuery, chromedp.NodeVisible))
		cancel()
		if done() {
			return
		}
		b.t.Logf("clicking %s again: %v", selector, err)
	}
	b.t.Fatalf("a click on %s did nothing", selector)
}

// only clicks until one kind of path is left.
func (b *browser) only(l *live, kind string) {
	b.t.Helper()
	for _, k := range Kinds {
		verb, want := "Block", true
		if k == kind {
			verb, want = "Unblock", false
		}
		if l.censor.Blocked(k) != want {
			b.click(fmt.Sprintf("button[aria-label=%q]", verb+": "+kindNames[k]), func() bool { return l.censor.Blocked(k) == want })
		}
	}
}

// publish clicks on the button and returns the new title.
func (b *browser) publish(l *live) string {
	b.t.Helper()
	before := l.newest()
	b.click(".panel .buttons button", func() bool { return l.newest() != before })
	return l.newest()
}

func quote(s string) string {
	q, _ := json.Marshal(s)
	return string(q)
}

// hasHeadline is true on a page that lists a title.
func hasHeadline(title string) string {
	return `Array.from(document.querySelectorAll("main h2 a, main h3 a")).some(a => a.textContent === ` + quote(title) + `)`
}

// follow clicks on a headline of the front page.
func (b *browser) follow(title string) {
	b.t.Helper()
	b.open("/")
	b.until("headline "+title, hasHeadline(title))
	var href string
	b.run(chromedp.Evaluate(`Array.from(document.querySelectorAll("main h2 a, main h3 a")).find(a => a.textContent === `+quote(title)+`).getAttribute("href")`, &href))
	b.click(`a[href="`+href+`"]`, func() bool {
		var there bool
		return b.eval(`location.pathname === `+quote(href)+` && document.querySelector("h1").textContent === `+quote(title), &there) == nil && there
	})
}

// size makes the window another one's.
func (b *browser) size(width, height int64, mobile bool) {
	b.t.Helper()
	b.run(emulation.SetDeviceMetricsOverride(width, height, 1, mobile))
}

// scheme is what the person has chosen in the system.
func (b *browser) scheme(name string) {
	b.t.Helper()
	b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}))
}

// The page in a real browser, as a person would use it.
func TestPage(t *testing.T) {
	t.Parallel()
	l := startLive(t, quick)
	b := newBrowser(t, l.link)
	list := samples(t)
	var paths []string // of one page of each sort

	t.Run("enter", func(t *testing.T) {
		b := b.on(t)
		b.run(chromedp.Navigate(l.link))
		var address, title string
		var history int
		b.run(chromedp.Location(&address), chromedp.Title(&title), chromedp.Evaluate(`history.length`, &history))
		if address != b.origin+"/" {
			t.Errorf("the address bar shows %q: the way in must not stay there", address)
		}
		if title != "Notes" {
			t.Errorf("the tab says %q", title)
		}
		for _, a := range list {
			b.until("headline "+a.Title, hasHeadline(a.Title))
		}
		var cookies []*cdpnetwork.Cookie
		b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
			cookies, err = cdpnetwork.GetCookies().Do(ctx)
			return err
		}))
		for _, c := range cookies {
			if !c.HTTPOnly || !c.Session || c.SameSite != cdpnetwork.CookieSameSiteStrict || strings.Contains(l.link, c.Value) {
				t.Errorf("a cookie is kept, shared or the way in itself: %+v", c)
			}
		}
		if len(cookies) == 0 {
			t.Error("no cookie: the next page would be closed")
		}
	})

	t.Run("one open path", func(t *testing.T) {
		b := b.on(t)
		b.only(l, "") // none
		title := b.publish(l)
		var there bool
		b.run(chromedp.Evaluate(hasHeadline(title), &there))
		if there {
			t.Fatal("a bulletin arrived while every path was blocked")
		}
		// Behind the page's back, so that nothing but its own refresh can show what follows.
		if err := (panel{l.Live}).Do(t.Context(), "open "+transport.KindDNS); err != nil {
			t.Fatal(err)
		}
		b.until("bulletin over DNS alone", hasHeadline(title))
		// Once nothing is on its way it stops that, or what is typed into the search would be lost.
		b.until("a page that stands still", `document.readyState === "complete" && document.querySelectorAll("meta[http-equiv=refresh]").length === 0`)
		if b.refreshed() == 0 {
			t.Error("the page shows the bulletin without having loaded itself anew")
		}
		b.follow(title)
		b.until("its text", `document.querySelector(".text")?.innerText.length > 100`, chromedp.Reload())
		b.open("/")
		for _, k := range Kinds {
			if l.censor.Blocked(k) {
				b.click(fmt.Sprintf("button[aria-label=%q]", "Unblock: "+kindNames[k]), func() bool { return !l.censor.Blocked(k) })
			}
		}
	})

	t.Run("articles", func(t *testing.T) {
		pictured, rtl := 0, 0
		for _, a := range list {
			b := b.on(t)
			b.follow(a.Title)
			var path string
			b.run(chromedp.Evaluate(`location.pathname`, &path))
			paths = append(paths, path)
			if n := len(a.Images); n > 0 {
				pictured++
				b.until("pictures", fmt.Sprintf(`document.images.length === %d && Array.from(document.images).every(i => i.complete && i.naturalWidth > 0 && i.alt !== "")`, n))
			}
			var dir, lang string
			b.run(chromedp.Evaluate(`getComputedStyle(document.querySelector(".text")).direction`, &dir),
				chromedp.Evaluate(`document.querySelector("article").lang`, &lang))
			if dir != a.Dir || lang != a.Lang {
				t.Errorf("%q runs %s in %q, want %s in %q", a.Title, dir, lang, a.Dir, a.Lang)
			}
			if dir == "rtl" {
				rtl++
			}
		}
		if pictured == 0 || rtl == 0 {
			t.Errorf("%d articles with pictures, %d from right to left: this tested nothing", pictured, rtl)
		}
	})

	t.Run("a censor by name", func(t *testing.T) {
		b := b.on(t)
		playing := func(name string) func() bool {
			return func() bool { return l.plays().Name == name }
		}
		button := func(label string) string {
			var at int
			b.until(label, fmt.Sprintf(`(window.at = Array.from(document.querySelectorAll(".panel .buttons form")).findIndex(f => f.textContent === %s)) >= 0`, quote(label)))
			b.run(chromedp.Evaluate(`window.at`, &at))
			return fmt.Sprintf(".panel .buttons form:nth-child(%d) button", at+1)
		}
		opened := func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.menu != menuClosed
		}
		b.open("/")
		b.click(button("Choose what the censor does"), opened)
		b.size(390, 844, true)
		var wide []string
		b.run(chromedp.Evaluate(sticksOut, &wide))
		if len(wide) > 0 {
			t.Errorf("the menu is wider than the screen: %q", wide)
		}
		b.run(emulation.ClearDeviceMetricsOverride())
		b.click(`button[aria-label="Choose: udp-drop"]`, playing("udp-drop"))
		b.click(button("Add a second one"), opened)
		b.click(`button[aria-label="Add: tls-sni-rst"]`, playing("udp-drop+tls-sni-rst"))
		title := b.publish(l)
		b.until("bulletin under both", hasHeadline(title))
		b.size(390, 844, true)
		b.run(chromedp.Evaluate(sticksOut, &wide))
		if len(wide) > 0 {
			t.Errorf("the desk is wider than the screen: %q", wide)
		}
		b.run(emulation.ClearDeviceMetricsOverride())
		b.click(`button[aria-label="Lift: tls-sni-rst"]`, playing("udp-drop"))
		b.click(`button[aria-label="Lift: udp-drop"]`, playing("open"))
	})

	t.Run("schemes", func(t *testing.T) {
		b := b.on(t)
		defer b.scheme("")
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			for _, path := range append([]string{"/", "/status"}, paths[0]) {
				b.open(path)
				var paper, ink float64
				b.run(chromedp.Evaluate(brightness("backgroundColor"), &paper), chromedp.Evaluate(brightness("color"), &ink))
				if dark := paper < 0.2 && ink > 0.7; dark != (scheme == "dark") || !dark && (paper < 0.9 || ink > 0.2) {
					t.Errorf("%s, %s: background %.2f, text %.2f", path, scheme, paper, ink)
				}
			}
		}
	})

	t.Run("narrow", func(t *testing.T) {
		b := b.on(t)
		b.size(390, 844, true)
		defer b.run(emulation.ClearDeviceMetricsOverride())
		for _, path := range append([]string{"/", "/status", "/?q=zzzz", "/nowhere"}, paths...) {
			b.open(path)
			var wide []string
			b.run(chromedp.Evaluate(sticksOut, &wide))
			if len(wide) > 0 {
				t.Errorf("%s is wider than the screen: %q", path, wide)
			}
		}
	})

	t.Run("without JavaScript", func(t *testing.T) {
		b := b.on(t)
		b.run(emulation.SetScriptExecutionDisabled(true))
		defer b.run(emulation.SetScriptExecutionDisabled(false))
		b.open("/")
		b.only(l, transport.KindTCP)
		title := b.publish(l)
		b.until("bulletin", hasHeadline(title))
		b.follow(title)
	})

	t.Run("quiet", func(t *testing.T) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range *b.complaints {
			if !strings.Contains(c, "/nowhere") { // a page that is not there says 404, and the browser repeats it
				t.Error(c)
			}
		}
		for _, r := range *b.requests {
			if !strings.HasPrefix(r, b.origin+"/") {
				t.Errorf("a request went to %s", r)
			}
		}
		if len(*b.requests) < 20 {
			t.Errorf("%d requests were seen: this tested nothing", len(*b.requests))
		}
	})
}

// brightness is of one of the page's colours, 0 to 1.
func brightness(property string) string {
	return `(c => (0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]) / 255)(getComputedStyle(document.body).` + property + `.match(/\d+/g).map(Number))`
}

// sticksOut lists what reaches beyond the window, but for what scrolls in itself.
const sticksOut = `(() => {
	const scrolls = e => { for (; e && e !== document.body; e = e.parentElement) { if (/auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX)) return true } return false };
	const width = document.documentElement.clientWidth, out = [];
	if (document.documentElement.scrollWidth > width) out.push("page: " + document.documentElement.scrollWidth);
	if (window.innerWidth > 390) out.push("window: " + window.innerWidth);
	for (const e of document.querySelectorAll("body *")) {
		const r = e.getBoundingClientRect();
		if (r.width > 0 && (r.right > width + 1 || r.left < -1) && !scrolls(e)) out.push(e.tagName + "." + e.className + ": " + r.left + " to " + r.right);
	}
	return out;
})()`

// The pictures of README and docs: the reader's page, and the demo's with the
// censor at work. Run with -update to take them anew.
func TestPictures(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	if !*update {
		for _, name := range []string{"page.png", "demo.png"} {
			info, err := os.Stat(filepath.Join(docs, name))
			if err != nil || info.Size() < 10_000 || info.Size() > 300_000 {
				t.Errorf("%s: %v, or not 10 to 300 KB; take it anew with -update", name, err)
			}
		}
		return
	}
	l := startLive(t, usual)
	b := newBrowser(t, l.link)
	b.run(chromedp.Navigate(l.link))
	for _, a := range samples(t) {
		b.until("headline", hasHeadline(a.Title))
	}
	b.scheme("light")
	plain := readersPage(t, l)
	b.size(1100, 1400, false)
	b.run(chromedp.Navigate(plain))
	b.picture(filepath.Join(docs, "page.png"), 1100, 1400)
	if err := l.Play("udp-drop"); err != nil {
		t.Fatal(err)
	}
	b.open("/")
	title := b.publish(l)
	b.until("bulletin", hasHeadline(title))
	b.open("/")
	b.size(1100, 1300, false)
	b.picture(filepath.Join(docs, "demo.png"), 1100, 1300)
}

// readersPage serves the page of the demo's reader as mirror open does.
func readersPage(t *testing.T, l *live) (link string) {
	t.Helper()
	s, err := web.New(web.Options{Library: l.reader.Library(), Engine: l.reader.Engine(t.Context())})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&netreal.Network{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.URL(ln.Addr())
}

// picture writes what the window shows.
func (b *browser) picture(name string, width, height float64) {
	b.t.Helper()
	var png []byte
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = cdppage.CaptureScreenshot().WithFormat(cdppage.CaptureScreenshotFormatPng).
			WithClip(&cdppage.Viewport{Width: width, Height: height, Scale: 1}).Do(ctx)
		return err
	}))
	if err := os.WriteFile(name, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

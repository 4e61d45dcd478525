package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

var (
	ch  = channel.IDOf([]byte("a channel"))
	now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// fake is a Library and an Engine in memory. The real library has tests of its own.
type fake struct {
	lacks    []Lacks
	mu       sync.Mutex
	metas    []library.Meta
	heads    []library.Headline
	articles map[string]bundle.Article
	images   map[int]bundle.Image
	st       Status
	err      error
	busy     bool
	gone     []library.Gone
	asked    []string // what was asked of the engine, and of the library to change
	query    library.Query
}

func (f *fake) Channels(context.Context) (ids []channel.ID, err error) {
	for _, m := range f.metas {
		ids = append(ids, m.Channel)
	}
	return ids, f.err
}

func (f *fake) Meta(_ context.Context, ch channel.ID) (library.Meta, error) {
	for _, m := range f.metas {
		if m.Channel == ch {
			return m, nil
		}
	}
	return library.Meta{}, transport.ErrNotFound
}

func (f *fake) Headlines(_ context.Context, q library.Query) iter.Seq2[library.Headline, error] {
	f.query = q
	return func(yield func(library.Headline, error) bool) {
		for i, h := range f.heads {
			if q.Limit > 0 && i == q.Limit || !yield(h, nil) {
				return
			}
		}
	}
}

func (f *fake) Headline(_ context.Context, c channel.ID, id string) (library.Headline, error) {
	for _, h := range f.heads {
		if h.ID == id && h.Channel == c {
			return h, nil
		}
	}
	return library.Headline{}, transport.ErrNotFound
}

func (f *fake) SetRead(_ context.Context, _ channel.ID, id string, read bool) error {
	f.note("read", id, read)
	return nil
}

func (f *fake) Gone(context.Context, channel.ID) ([]library.Gone, error) { return f.gone, f.err }

func (f *fake) note(a ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.TrimSpace(fmt.Sprintln(a...)))
}

func (f *fake) Article(_ context.Context, _ channel.ID, id string) (bundle.Article, error) {
	if a, ok := f.articles[id]; ok {
		return a, nil
	}
	return bundle.Article{}, transport.ErrNotFound
}

func (f *fake) Image(_ context.Context, _ channel.ID, _ string, n int) (bundle.Image, error) {
	if i, ok := f.images[n]; ok {
		return i, nil
	}
	return bundle.Image{}, transport.ErrNotFound
}
func (f *fake) Status(context.Context) Status                          { return f.st }
func (f *fake) Lacks(context.Context) []Lacks                          { return f.lacks }
func (f *fake) Sync(context.Context)                                   { f.note("sync") }
func (f *fake) FetchText(_ context.Context, _ channel.ID, id string)   { f.note("text", id) }
func (f *fake) FetchImages(_ context.Context, _ channel.ID, id string) { f.note("images", id) }
func (f *fake) View(context.Context) PanelView {
	return PanelView{Busy: f.busy, Title: "Demo", Switches: []Switch{{Name: "DNS", Action: "block dns", Label: "Block", State: "open", On: true}}, Buttons: []Button{{"publish", "Publish a new article"}}}
}

func (f *fake) Do(_ context.Context, action string) error {
	if action != "block dns" {
		return errors.New("no such action")
	}
	f.note("do", action)
	return nil
}

func headline(id, title, lang, dir string) library.Headline {
	h := library.Headline{Channel: ch, Text: true}
	h.Entry = bundle.Entry{ID: id, Title: title, Lead: "Lead of " + title, Lang: lang, Dir: dir, Date: now.Add(-3 * time.Hour)}
	return h
}

const (
	id1 = "0123456789abcdef"
	id2 = "fedcba9876543210"
)

func sample() *fake {
	return &fake{
		metas: []library.Meta{{Channel: ch, Name: "Radio Example", Langs: []string{"en", "fa"}, Edition: 4, Date: now.Add(-3 * time.Hour), Headlines: 2, Unread: 2}},
		heads: []library.Headline{headline(id1, "Bread is dearer", "en", "ltr"), headline(id2, "نان گران شد", "fa", "rtl")},
		articles: map[string]bundle.Article{id1: {
			ID: id1, Body: `<p>One <a href="https://example.org/x">two</a>.</p><p><img src="image:0" alt="A loaf"></p><p><img src="image:1" alt="An oven"></p>`,
		}},
		images: map[int]bundle.Image{0: {Type: "image/webp", Width: 640, Height: 480, Data: []byte("RIFF")}},
	}
}

// browser is a client that keeps cookies and shows Sec-Fetch-Site, as browsers do.
type browser struct {
	t       *testing.T
	s       *Server
	cookies map[string]string
	head    http.Header
	host    string
}

func visit(t *testing.T, f *fake, change ...func(*Options)) *browser {
	t.Helper()
	o := Options{Library: f, Engine: f, Now: func() time.Time { return now }}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, s: s, cookies: map[string]string{}, head: http.Header{}, host: "127.0.0.1:4711"}
	if r := b.do("GET", "/?t="+s.token, nil); r.Code != http.StatusSeeOther || r.Header().Get("Location") != "/" {
		t.Fatalf("first visit: %d to %q", r.Code, r.Header().Get("Location"))
	}
	return b
}

func (b *browser) do(method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Host, r.RemoteAddr = b.host, "127.0.0.1:50000"
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range b.cookies {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	for k, v := range b.head {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	b.s.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.MaxAge > 0 || !c.Expires.IsZero() {
			b.t.Errorf("cookie %v", c)
		}
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return w
}

func (b *browser) get(path string, code int) *html.Node {
	b.t.Helper()
	w := b.do("GET", path, nil)
	if w.Code != code {
		b.t.Fatalf("GET %s: %d, want %d", path, w.Code, code)
	}
	n, err := html.Parse(w.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *browser) post(path string, form url.Values) int {
	b.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	form.Set("f", b.s.guard.form)
	return b.do("POST", path, form).Code
}

// find returns the elements of a name that have all of the attributes "k=v".
func find(n *html.Node, name string, attrs ...string) (found []*html.Node) {
	for d := range n.Descendants() {
		if d.Type != html.ElementNode || d.Data != name {
			continue
		}
		ok := true
		for _, a := range attrs {
			k, v, _ := strings.Cut(a, "=")
			ok = ok && attr(d, k) == v
		}
		if ok {
			found = append(found, d)
		}
	}
	return found
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func TestWhoComesIn(t *testing.T) {
	b := visit(t, sample())
	b.get("/", 200)
	closed := func(what string, r *httptest.ResponseRecorder, code int) {
		t.Helper()
		if r.Code != code || strings.Contains(r.Body.String(), "Bread") || strings.Contains(r.Body.String(), b.s.token) {
			t.Errorf("%s: %d %.80q", what, r.Code, r.Body)
		}
	}
	good := b.cookies
	b.cookies = map[string]string{}
	closed("no cookie", b.do("GET", "/", nil), 403)
	closed("no cookie, article", b.do("GET", "/a/"+ch.String()+"/"+id1, nil), 403)
	closed("no cookie, picture", b.do("GET", "/i/"+ch.String()+"/"+id1+"/0", nil), 403)
	closed("no cookie, unknown page", b.do("GET", "/nowhere", nil), 403)
	closed("wrong token", b.do("GET", "/?t="+b.s.token[1:], nil), 403)
	closed("empty token", b.do("GET", "/?t=", nil), 403)
	b.cookies = map[string]string{b.s.guard.name: b.s.token}
	closed("the token as a cookie", b.do("GET", "/", nil), 403)
	b.cookies = map[string]string{}
	closed("the cookie as a token", b.do("GET", "/?t="+b.s.guard.cookie, nil), 403)
	closed("token by POST", b.do("POST", "/?t="+b.s.token, url.Values{}), 403)
	b.cookies = good
	for _, host := range []string{"evil.example:4711", "127.0.0.1", "localhost.evil.example:80", "127.0.0.1.evil.example:4711", "10.0.0.1:4711", "[::2]:1", "127.0.0.1:0", "127.0.0.1:x"} {
		b.host = host
		closed("host "+host, b.do("GET", "/", nil), 421)
	}
	for _, host := range []string{"localhost:4711", "[::1]:4711", "127.0.0.1:1"} {
		b.host = host
		b.get("/", 200)
	}
	r := httptest.NewRequest("GET", "http://127.0.0.1:4711/", nil) // httptest's RemoteAddr is 192.0.2.1
	w := httptest.NewRecorder()
	b.s.ServeHTTP(w, r)
	closed("from another machine", w, 421)

	// The token leads back to the page that was asked for, never elsewhere.
	for path, want := range map[string]string{"/status?t=%s": "/status", "/?q=a&t=%s": "/?q=a", "//evil.example/?t=%s": "/evil.example/"} {
		if got := b.do("GET", fmt.Sprintf(path, b.s.token), nil).Header().Get("Location"); got != want {
			t.Errorf("%s leads to %q", path, got)
		}
	}
	if u := b.s.URL(&net.TCPAddr{IP: net.IPv6loopback, Port: 80}); u != "http://[::1]:80/?t="+b.s.token || len(b.s.token) < 43 {
		t.Errorf("link %q", u)
	}
}

func TestHeaders(t *testing.T) {
	b := visit(t, sample())
	for _, path := range []string{"/", "/status", "/style.css", "/nowhere", "/leave", "/i/" + ch.String() + "/" + id1 + "/0"} {
		h := b.do("GET", path, nil).Header()
		for k, v := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"Referrer-Policy":         "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if h.Get(k) != v {
				t.Errorf("%s: %s is %q", path, k, h.Get(k))
			}
		}
		if path == "/leave" {
			b = visit(t, sample())
		}
	}
}

func TestMethods(t *testing.T) {
	f := sample()
	b := visit(t, f)
	for _, m := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"} {
		if c := b.do(m, "/", nil).Code; c != 405 {
			t.Errorf("%s: %d", m, c)
		}
	}
	if w := b.do("HEAD", "/", nil); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
	for _, p := range []string{"/sync", "/panel", "/a/" + ch.String() + "/" + id1 + "/images"} {
		b.get(p, 404)
	}
	if len(f.asked) != 0 {
		t.Errorf("a GET did %q", f.asked)
	}
	if c := b.post("/", nil); c != 404 {
		t.Errorf("POST /: %d", c)
	}
}

func TestForeignPosts(t *testing.T) {
	f := sample()
	b := visit(t, f)
	form := func() url.Values { return url.Values{"f": {b.s.guard.form}} }
	for name, h := range map[string]http.Header{
		"cross-site": {"Sec-Fetch-Site": {"cross-site"}}, "same-site": {"Sec-Fetch-Site": {"same-site"}}, "none": {"Sec-Fetch-Site": {"none"}},
		"origin": {"Origin": {"https://evil.example"}}, "other port": {"Origin": {"http://127.0.0.1:1"}}, "https": {"Origin": {"https://127.0.0.1:4711"}},
		"both": {"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://evil.example"}},
	} {
		b.head = h
		if c := b.do("POST", "/sync", form()).Code; c != 403 {
			t.Errorf("%s: %d", name, c)
		}
	}
	b.head = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	for _, bad := range []url.Values{{}, {"f": {""}}, {"f": {b.s.token}}, {"f": {b.s.guard.cookie}}, {"f": {strings.Repeat("x", 10_000)}}} {
		if c := b.do("POST", "/sync", bad).Code; c != 403 {
			t.Errorf("form %.20v: %d", bad, c)
		}
	}
	if c := b.do("POST", "/sync?f="+b.s.guard.form, url.Values{}).Code; c != 403 {
		t.Errorf("form token in the address: %d", c)
	}
	if len(f.asked) != 0 {
		t.Fatalf("a foreign POST did %q", f.asked)
	}
	for _, h := range []http.Header{{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"null"}}, {"Origin": {"http://127.0.0.1:4711"}}, {}} {
		b.head = h
		if c := b.do("POST", "/sync", form()).Code; c != 303 {
			t.Errorf("own page with %v: %d", h, c)
		}
	}
	if len(f.asked) != 3 {
		t.Errorf("own POSTs did %q", f.asked)
	}
}

func TestList(t *testing.T) {
	f := sample()
	b := visit(t, f)
	n := b.get("/", 200)
	if got := text(find(n, "title")[0]); got != "Notes" {
		t.Errorf("title %q", got)
	}
	leads := find(find(n, "section", "class=leads")[0], "article")
	if len(leads) != 2 || attr(leads[0], "lang") != "en" || attr(leads[1], "lang") != "fa" || attr(leads[1], "dir") != "rtl" {
		t.Fatalf("%d leads", len(leads))
	}
	if got := text(leads[0]); got != "Bread is dearer Lead of Bread is dearer new 3 hours ago" {
		t.Errorf("headline %q", got)
	}
	if len(find(n, "a", "href=/a/"+ch.String()+"/"+id2)) != 1 {
		t.Error("no link to the article")
	}
	if got := text(find(n, "p", "class=age")[0]); got != "Newest edition: 3 hours old" {
		t.Errorf("age %q", got)
	}
	if len(find(n, "main", "id=main")) != 1 || len(find(n, "a", "href=#main")) != 1 || len(find(n, "nav")) < 3 || len(find(n, "a", "href=/leave")) != 1 || len(find(n, "script")) != 0 || len(find(n, "style")) != 0 || len(find(n, "meta", "http-equiv=refresh")) != 0 {
		t.Error("structure")
	}
	for d := range n.Descendants() {
		for _, k := range []string{"href", "src", "action"} {
			if v := attr(d, k); v != "" && (v[0] != '/' && v[0] != '#' || strings.HasPrefix(v, "//")) {
				t.Errorf("%s leads away: %q", d.Data, v)
			}
		}
		if attr(d, "style") != "" || attr(d, "onclick") != "" {
			t.Error("the policy forbids this attribute")
		}
	}
	b.get("/?lang=FA-IR&q=+bread+&unread=1", 200)
	if want := (library.Query{Lang: "fa", Search: "bread", Unread: true, Limit: pageSize + 1}); f.query != want {
		t.Errorf("query %+v", f.query)
	}
	b.get("/", 200)
	if f.query.Lang != "fa" {
		t.Error("the chosen language is forgotten")
	}
	b.get("/?lang=all", 200)
	if f.query.Lang != "" {
		t.Errorf("all languages are %q", f.query.Lang)
	}
	b.get("/?lang=%22%3E%3Cscript%3E&q="+strings.Repeat("x", 5000), 200)
	if f.query.Lang != "" || len(f.query.Search) != maxQuery {
		t.Errorf("query %+v", f.query)
	}
	b.get("/?after=nonsense", 404)
	b.get("/?after=-1", 404)
}

func TestPages(t *testing.T) {
	f := sample()
	f.heads = nil
	for i := range 100 {
		f.heads = append(f.heads, headline(fmt.Sprintf("%016x", i), fmt.Sprint("Number ", i), "en", "ltr"))
	}
	n := visit(t, f).get("/", 200)
	if got := len(find(n, "article")); got != pageSize {
		t.Errorf("%d headlines on a page", got)
	}
	if len(find(n, "a", "rel=next")) != 1 {
		t.Error("no way to older headlines")
	}
}

func TestEmptyStates(t *testing.T) {
	for want, change := range map[string]func(*fake){
		"empty.nochannel": func(f *fake) { f.metas, f.heads = nil, nil },
		"empty.waiting":   func(f *fake) { f.heads = nil },
	} {
		f := sample()
		change(f)
		if got := text(visit(t, f).get("/", 200)); !strings.Contains(got, english.T(want+".text")) {
			t.Errorf("%s: %q", want, got)
		}
	}
	f := sample()
	f.heads = nil
	n := visit(t, f).get("/?q=zzz", 200)
	if !strings.Contains(text(n), english.T("empty.nothing")) || len(find(n, "a", "href=/?lang=all")) != 1 || attr(find(n, "input", "name=q")[0], "value") != "zzz" {
		t.Error("nothing found")
	}
	f.err = fmt.Errorf("open: %w", library.ErrDamaged)
	if got := text(visit(t, f).get("/", 500)); !strings.Contains(got, english.T("damaged.title")) || strings.Contains(got, "open:") {
		t.Errorf("damaged: %q", got)
	}
	f.err = library.ErrFull
	visit(t, f).get("/status", 507)
}

func TestArticle(t *testing.T) {
	f := sample()
	b := visit(t, f)
	path := "/a/" + ch.String() + "/" + id1
	n := b.get(path, 200)
	if !slices.Equal(f.asked, []string{"read " + id1 + " true"}) {
		t.Errorf("opening did %q", f.asked)
	}
	imgs := find(n, "img")
	if len(imgs) != 1 || attr(imgs[0], "src") != "/i/"+ch.String()+"/"+id1+"/0" || attr(imgs[0], "alt") != "A loaf" || attr(imgs[0], "width") != "640" {
		t.Errorf("%d pictures", len(imgs))
	}
	if got := text(find(n, "span", "class=nopicture")[0]); got != "Picture: An oven" {
		t.Errorf("missing picture %q", got)
	}
	if len(find(n, "form", "action="+path+"/images")) != 1 {
		t.Error("no way to fetch the pictures")
	}
	if len(find(n, "a", "href=https://example.org/x")) != 0 || !strings.Contains(text(find(n, "li", "id=link-1")[0]), "https://example.org/x") {
		t.Error("a link of the text leads outside, or is lost")
	}
	w := b.do("GET", "/i/"+ch.String()+"/"+id1+"/0", nil)
	if w.Code != 200 || w.Header().Get("Content-Type") != "image/webp" || w.Body.String() != "RIFF" {
		t.Errorf("picture: %d %v", w.Code, w.Header())
	}
	f.images[2] = bundle.Image{Type: "image/svg+xml", Data: []byte("<svg/>")}
	for _, bad := range []string{"1", "2", "-1", "00", "x", "100", "99999999999999999999"} {
		b.get("/i/"+ch.String()+"/"+id1+"/"+bad, 404)
	}
	for _, bad := range []string{"/a/" + ch.String() + "/" + id1[1:], "/a/" + ch.String() + "/0000000000000000", "/a/x/" + id1, "/a/" + ch.String() + "/0123456789ABCDEF", "/a/" + strings.ToUpper(ch.String()) + "/" + id1} {
		if !strings.Contains(text(b.get(bad, 404)), english.T("missing.title")) {
			t.Error(bad)
		}
	}
	n = b.get("/a/"+ch.String()+"/"+id2, 200)
	if a := find(n, "article")[0]; attr(a, "dir") != "rtl" || attr(a, "lang") != "fa" || !strings.Contains(text(n), english.T("notext")) {
		t.Error("an article without text")
	}
	if len(find(n, "form", "action=/a/"+ch.String()+"/"+id2+"/text")) != 1 {
		t.Error("no way to fetch the text first")
	}
	f.st.Syncing = true
	if n = b.get("/a/"+ch.String()+"/"+id2+"?asked=1", 200); !strings.Contains(text(n), english.T("notext.asked")) {
		t.Errorf("the text is on its way: %q", text(n))
	}
	f.st.Syncing = false
	f.asked = nil
	for action, want := range map[string]string{"unread": "read " + id1 + " false", "read": "read " + id1 + " true", "images": "images " + id1, "text": "text " + id1} {
		f.asked = nil
		if c := b.post(path+"/"+action, nil); c != 303 || !slices.Equal(f.asked, []string{want}) {
			t.Errorf("%s: %d did %q", action, c, f.asked)
		}
	}
	// What the page says of pictures that were asked for is what goes on.
	said := func() string { return text(find(b.get(path+"?asked=1", 200), "section", "class=message")[0]) }
	if got := said(); !strings.Contains(got, english.T("pictures.failed")) || !strings.Contains(got, english.T("pictures.fetch")) {
		t.Errorf("asked for in vain: %q", got)
	}
	f.st.Fetching = []string{id1}
	if got := said(); got != english.T("pictures.asked") {
		t.Errorf("being fetched: %q", got)
	}
	f.st.Fetching = []string{id2}
	if got := said(); strings.Contains(got, english.T("pictures.asked")) {
		t.Errorf("those of another article are being fetched: %q", got)
	}
	if c := b.post(path+"/explode", nil); c != 404 {
		t.Errorf("unknown action: %d", c)
	}
	if c := b.post("/a/"+ch.String()+"/0000000000000000/images", nil); c != 404 {
		t.Errorf("pictures of nothing: %d", c)
	}
}

func TestHostileArticle(t *testing.T) {
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>' onmouseover='x`
	f := sample()
	h := headline(id1, evil, evil, evil)
	h.Lead, h.Source = evil, `javascript:alert(1)//`+evil
	f.heads = []library.Headline{h}
	f.metas[0].Name, f.metas[0].Langs = evil, []string{evil, "en", "fa"}
	f.st = Status{Fresh: []Fresh{{Channel: ch, Name: evil, Freshness: newsync.Freshness{Forked: true}}, {Name: evil}}, Events: []Event{{What: newsync.EventAsked, Path: evil}, {What: evil, Path: evil}, {What: newsync.EventBrought, Stage: evil}}, Paths: []PathStatus{{Name: evil, Kind: evil, State: 99}}}
	f.articles[id1] = bundle.Article{Body: `<p onclick="x()" style="position:fixed">Text<script>alert(1)</script></p><a href="javascript:alert(1)">a</a><a href="https://a.example/&quot;&gt;&lt;script&gt;">b</a>` +
		`<img src="https://evil.example/t.gif"><img src="image:0" alt='"><script>x</script>' onload=x><img src="image:-1"><img src="image:0/../../leave"><iframe src="/leave"></iframe><svg><style><img src=x onerror=x></style></svg><form action="/sync"><button>x</button></form><base href="//evil.example/"><meta http-equiv="refresh" content="0;url=//evil.example"><p dir="ltr&quot;" lang='"x'>q</p>`}
	b := visit(t, f)
	var nodes []*html.Node
	for _, p := range []string{"/", "/status", "/a/" + ch.String() + "/" + id1, "/?q=" + url.QueryEscape(evil)} {
		nodes = append(nodes, b.get(p, 200))
	}
	for _, n := range nodes {
		for d := range n.Descendants() {
			if d.Type != html.ElementNode {
				continue
			}
			if slices.Contains([]string{"script", "iframe", "svg", "object", "base", "style", "embed"}, d.Data) {
				t.Errorf("<%s> came through", d.Data)
			}
			for _, a := range d.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcset" {
					t.Errorf("<%s %s> came through", d.Data, a.Key)
				}
				if (a.Key == "src" || a.Key == "href" || a.Key == "action") && (a.Val == "" || a.Val[0] != '/' && a.Val[0] != '#' || strings.HasPrefix(a.Val, "//")) {
					t.Errorf("<%s %s=%q> leads away", d.Data, a.Key, a.Val)
				}
				if a.Key == "lang" && a.Val != "" && safeLang(a.Val) == "" || a.Key == "dir" && a.Val != "ltr" && a.Val != "rtl" && a.Val != "auto" {
					t.Errorf("<%s %s=%q>", d.Data, a.Key, a.Val)
				}
			}
			if d.Data == "form" && attr(d, "method") != "post" && attr(d, "role") != "search" || d.Data == "meta" && attr(d, "http-equiv") != "" {
				t.Errorf("<%s> of the article came through", d.Data)
			}
		}
	}
	if !strings.Contains(text(nodes[2]), evil) || !strings.Contains(text(nodes[2]), "Text") {
		t.Error("text was lost")
	}
	if got := find(nodes[2], "img"); len(got) != 1 || attr(got[0], "src") != "/i/"+ch.String()+"/"+id1+"/0" {
		t.Errorf("%d pictures", len(got))
	}
}

func TestStatus(t *testing.T) {
	f := sample()
	f.st = Status{LastSync: now.Add(-time.Minute), Paths: []PathStatus{
		{Name: "relay 198.51.100.7:443 quic", Kind: transport.KindQUIC, State: PathBlocked},
		{Name: "zone a.example", Kind: transport.KindDNS, State: PathWorking, Last: now.Add(-2 * time.Hour), Bytes: 1_260_000, Head: 5, Seen: now.Add(-5 * time.Minute)},
	}}
	got := text(visit(t, f).get("/status", 200))
	for _, want := range []string{"Last looked for news: 1 minute ago", "Newest edition: 3 hours old", "23 November 2026", "blocked Newest it showed: not yet Last brought something: not yet Brought: 0 bytes", "working Newest it showed: Edition 4 5 minutes ago Last brought something: 2 hours ago Brought: 1.3 MB", english.T("status.one")} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	f.st.Paths = f.st.Paths[:1]
	if !strings.Contains(text(visit(t, f).get("/status", 200)), english.T("status.blocked")) {
		t.Error("nothing is said though no path works")
	}
	f.metas[0].Date = now.AddDate(3, 0, 0)
	for _, p := range []string{"/", "/status"} {
		if got := text(visit(t, f).get(p, 200)); !strings.Contains(got, english.T("clock")) || !strings.Contains(got, "just now") {
			t.Errorf("%s: a clock three years off: %q", p, got)
		}
	}
}

// Where only DNS works, the page says what is still to come takes, before and while
// it comes.
func TestStatusOfCost(t *testing.T) {
	f := sample()
	cost := transport.Cost{Queries: 1234, Up: 123_400, Down: 1_400_000, Time: 150 * time.Second}
	f.lacks = []Lacks{{Channel: ch, Lacking: newsync.Lacking{Articles: 12, Bytes: 1_260_000, Cost: cost}}}
	for _, ui := range catalogues {
		b := visit(t, f)
		b.head = http.Header{"Accept-Language": {ui.tag}}
		got := text(b.get("/status", 200))
		for _, part := range append([]string{ui.T("lacks"), ui.T("cost"), ui.number(12)}, ui.cost(cost)...) {
			if part == "" || !strings.Contains(got, part) {
				t.Errorf("%s: no %q in %q", ui.tag, part, got)
			}
		}
	}
	f.lacks, f.st = nil, Status{Syncing: true, Work: Work{Stage: "text", Cost: cost, Left: cost.Time}}
	got := text(visit(t, f).get("/status", 200))
	for _, want := range []string{"about 1234 DNS questions", "123 KB up, 1.4 MB down", "about 2 minutes left"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is there %d times in %q", want, strings.Count(got, want), got)
		}
	}
}

// A liar has its own words, in all four languages, and nobody is left alone with
// them.
func TestStatusOfALiar(t *testing.T) {
	f := sample()
	f.st = Status{Paths: []PathStatus{
		{Name: "relay 198.51.100.7:443 quic", Kind: transport.KindQUIC, State: PathLied, Bytes: 5000},
		{Name: "dns n.example", Kind: transport.KindDNS, State: PathResting},
	}}
	seen := map[string]bool{}
	for _, ui := range catalogues {
		b := visit(t, f)
		b.head = http.Header{"Accept-Language": {ui.tag}}
		n := b.get("/status", 200)
		state := find(n, "span", "class=state lied")
		if len(state) != 1 || text(state[0]) != ui.T("path.lied") || text(state[0]) == ui.T("path.resting") || !strings.Contains(text(n), ui.T("status.lied")) {
			t.Errorf("%s: %q", ui.tag, text(n))
		}
		seen[ui.T("path.lied")] = true
	}
	if len(seen) != len(catalogues) {
		t.Errorf("words %v", seen)
	}
	f.st.Paths = f.st.Paths[1:]
	if got := text(visit(t, f).get("/status", 200)); strings.Contains(got, english.T("status.lied")) || !strings.Contains(got, english.T("path.resting")) {
		t.Errorf("nobody lied: %q", got)
	}
}

func TestPanel(t *testing.T) {
	f := sample()
	if c := visit(t, f).post("/panel", url.Values{"action": {"block dns"}}); c != 404 {
		t.Errorf("without a panel: %d", c)
	}
	b := visit(t, f, func(o *Options) { o.Panel, o.Refresh = f, 5*time.Second })
	n := b.get("/", 200)
	if len(find(n, "meta", "http-equiv=refresh")) != 0 || len(find(n, "form", "action=/panel")) != 2 || len(find(n, "input", "value=block dns")) != 1 {
		t.Error("the panel is not shown")
	}
	f.busy = true
	for path, want := range map[string]int{
		"/": 1, "/?lang=en": 1, "/status": 1, "/?q=word": 0, "/a/" + ch.String() + "/" + id1: 0,
	} {
		if got := len(find(b.get(path, 200), "meta", "http-equiv=refresh")); got != want {
			t.Errorf("%s, something is on its way: loads itself anew %d times, want %d", path, got, want)
		}
	}
	f.asked = nil
	if c := b.post("/panel", url.Values{"action": {"block dns"}}); c != 303 || !slices.Equal(f.asked, []string{"do block dns"}) {
		t.Errorf("%d did %q", c, f.asked)
	}
	if c := b.post("/panel", url.Values{"action": {"no"}}); c != 400 {
		t.Errorf("unknown action: %d", c)
	}
}

// lastWord is a panel that has nothing more to wait for, since just then something came.
type lastWord struct{ *fake }

func (p lastWord) View(ctx context.Context) PanelView {
	p.st.Paths = append(p.st.Paths, PathStatus{Name: "late", Kind: "dns", State: PathWorking, Older: true})
	p.heads = append(p.heads, headline("00000000000000ff", "Came just now", "en", "ltr"))
	return p.fake.View(ctx)
}

// TestPanelIsAskedFirst: a page that does not load itself anew has on it what its panel
// did not have to wait for any more.
func TestPanelIsAskedFirst(t *testing.T) {
	f := sample()
	n := visit(t, f, func(o *Options) { o.Panel, o.Refresh = lastWord{f}, 5*time.Second }).get("/", 200)
	if len(find(n, "meta", "http-equiv=refresh")) != 0 {
		t.Fatal("it loads itself anew")
	}
	for _, want := range []string{english.T("status.older"), "Came just now"} {
		if !strings.Contains(text(n), want) {
			t.Errorf("without %q", want)
		}
	}
}

func TestLeave(t *testing.T) {
	b := visit(t, sample())
	b.get("/?lang=fa", 200)
	w := b.do("GET", "/leave", nil)
	if w.Code != 200 || len(b.cookies) != 0 || strings.Contains(w.Body.String(), "/status") {
		t.Errorf("%d, cookies %v", w.Code, b.cookies)
	}
	b.get("/", 403)
	b = visit(t, sample(), func(o *Options) { o.Exit = "https://weather.example/" })
	if w := b.do("GET", "/leave", nil); w.Code != 303 || w.Header().Get("Location") != "https://weather.example/" || len(b.cookies) != 0 {
		t.Errorf("%d to %q", w.Code, w.Header().Get("Location"))
	}
}

func TestInterfaceLanguage(t *testing.T) {
	b := visit(t, sample())
	for accept, want := range map[string]string{"": "en", "ru-RU,ru;q=0.9,en;q=0.8": "ru", "fa": "fa", "fa-AF": "fa", "zh-TW": "zh", "zh-CN,zh;q=0.9": "zh", "sw": "en", "uk,ru;q=0.5": "ru", "*;;;": "en", strings.Repeat("a,", 5000): "en"} {
		b.head = http.Header{"Accept-Language": {accept}}
		n := b.get("/status", 200)
		if h := find(n, "html")[0]; attr(h, "lang") != want || attr(h, "dir") != map[bool]string{true: "rtl", false: "ltr"}[want == "fa"] {
			t.Errorf("%.30q gives %q", accept, attr(h, "lang"))
		}
	}
	b.head = http.Header{"Accept-Language": {"ru"}}
	if w := b.do("GET", "/status?ui=fa", nil); w.Code != 303 || w.Header().Get("Location") != "/status" {
		t.Errorf("%d to %q", w.Code, w.Header().Get("Location"))
	}
	n := b.get("/", 200)
	if attr(find(n, "html")[0], "lang") != "fa" || !strings.Contains(text(n), "۳ ساعت پیش") {
		t.Error("the language chosen on the page does not hold")
	}
	b.get("/?ui=xx", 200)
}

func TestServe(t *testing.T) {
	b := visit(t, sample())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.s.Serve(ctx, ln) }()
	jar := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := jar.Get(b.s.URL(ln.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	if r.StatusCode != 303 {
		t.Errorf("status %d", r.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if b.s.Serve(t.Context(), everywhere{ln}) == nil {
		t.Error("served on an address that others reach")
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("a refused listener stays open")
	}
}

// everywhere says that it listens on all of the machine's addresses.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 80} }

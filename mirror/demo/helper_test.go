package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/mirror/demo/articles"
)

// patience bounds one wait. Nothing is timed by it: it is there so that a path
// that never delivers fails with what the reader's page says, not with a
// timeout of the whole run.
const patience = 3 * time.Minute

// TestMain lets more tests run at once than there are processors: most of them
// wait for what a censor drops, each in a world of its own.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := errors.Join(flag.Set("test.parallel", "4"), os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// read reads the built-in articles once: making their pictures small takes seconds
// under the race detector.
var read = sync.OnceValues(func() ([]bundle.Article, error) { return articles.Read(context.Background()) })

// samples are the articles that the demo publishes when it is given no source.
func samples(t *testing.T) []bundle.Article {
	t.Helper()
	list, err := read()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(list)
}

func newWorld(t *testing.T) *World {
	t.Helper()
	w, err := NewWorld(t.Context(), &netreal.Network{}, "Radio Example", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("the world did not close: %v", err)
		}
	})
	return w
}

// live is the demo's page on loopback.
type live struct {
	*Live
	link    string        // that a person would be given
	changed chan struct{} // has something in it after the page may have changed
}

// quick is for readers who have little to wait for.
var quick = pace{every: time.Second, patience: usual.patience}

// startLive shows the demo's page until the test ends.
func startLive(t *testing.T, pace pace) *live {
	t.Helper()
	w := newWorld(t)
	list := samples(t)
	for i := range list {
		list[i].Date = time.Now().UTC().Add(-time.Duration(i+1) * time.Hour).Truncate(time.Second)
	}
	l := &live{changed: make(chan struct{}, 1)}
	pace.changed = func() {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
	var err error
	if l.Live, err = newLive(t.Context(), w, list, discard, pace); err != nil {
		t.Fatal(err)
	}
	ln, err := (&netreal.Network{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(errors.Join(err, l.Close()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- l.Serve(ctx, ln, func(url string) { ready <- url }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Errorf("the page did not close: %v", err)
		}
	})
	select {
	case l.link = <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("the page was not served: %v", err)
	}
	return l
}

// newest is the title of the article published last.
func (l *Live) newest() string {
	l.world.mu.Lock()
	defer l.world.mu.Unlock()
	return l.world.articles[len(l.world.articles)-1].Title
}

// visitor is a browser without any of a browser's comforts: it keeps cookies,
// follows redirects and fills in forms.
type visitor struct {
	t      *testing.T
	live   *live
	client *http.Client
	origin string
}

// visit opens the link that a person is given.
func visit(t *testing.T, l *live) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(l.link)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DialContext: (&netreal.Network{}).Dial}
	t.Cleanup(tr.CloseIdleConnections)
	v := &visitor{t, l, &http.Client{Jar: jar, Transport: tr}, "http://" + u.Host}
	v.get(l.link[len(v.origin):])
	return v
}

// on is the visitor in a test within his test.
func (v *visitor) on(t *testing.T) *visitor {
	c := *v
	c.t = t
	return &c
}

func (v *visitor) get(path string) *html.Node {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.origin+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(req)
}

func (v *visitor) do(req *http.Request) *html.Node {
	v.t.Helper()
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	doc, err := html.Parse(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		v.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		v.t.Fatalf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, text(doc))
	}
	return doc
}

// press presses the button with this name as a screen reader would say it, on
// the front page.
func (v *visitor) press(name string) *html.Node {
	v.t.Helper()
	var names []string
	for n := range v.get("/").Descendants() {
		if n.DataAtom != atom.Form || attr(n, "method") != "post" {
			continue
		}
		fields, said := url.Values{}, ""
		for m := range n.Descendants() {
			switch m.DataAtom {
			case atom.Input:
				fields.Set(attr(m, "name"), attr(m, "value"))
			case atom.Button:
				if said = attr(m, "aria-label"); said == "" {
					said = text(m)
				}
			}
		}
		if names = append(names, said); said != name {
			continue
		}
		req, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.origin+attr(n, "action"), strings.NewReader(fields.Encode()))
		if err != nil {
			v.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return v.do(req)
	}
	v.t.Fatalf("no button %q among %q", name, names)
	return nil
}

// only throws the switches so that one kind of path is left.
func (v *visitor) only(kind string) {
	v.t.Helper()
	page := text(v.get("/"))
	for _, k := range Kinds {
		blocked := strings.Contains(page, kindNames[k]+" blocked")
		switch {
		case k != kind && !blocked:
			v.press("Block: " + kindNames[k])
		case k == kind && blocked:
			v.press("Unblock: " + kindNames[k])
		}
	}
}

// headline returns where a headline leads, "" while it is not in the list.
func (v *visitor) headline(title string) string {
	v.t.Helper()
	for n := range v.get("/").Descendants() {
		if n.DataAtom == atom.A && text(n) == title {
			return attr(n, "href")
		}
	}
	return ""
}

// until asks again whenever something happened, and fails with what the status
// page says.
func (v *visitor) until(what string, ok func() bool) {
	v.t.Helper()
	give := time.NewTimer(patience)
	defer give.Stop()
	for !ok() {
		select {
		case <-v.live.changed:
		case <-v.t.Context().Done():
			v.t.Fatal(v.t.Context().Err())
		case <-give.C:
			v.t.Fatalf("%s: not after %v. The status page:\n%s", what, patience, text(v.get("/status")))
		}
	}
}

// text is what a node says, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for m := range n.Descendants() {
		if m.Type == html.TextNode && m.Parent.DataAtom != atom.Style {
			fmt.Fprintf(&b, "%s ", m.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// Package web is the reader's page: what is in the library, shown by the
// browser that is on the device already.
//
// It listens on loopback only and trusts nothing that knocks there. Other
// programs and other users of the machine can reach the port too, and so can
// any website open in the same browser, by a form or by a name that resolves to
// 127.0.0.1; hence the random token, the cookie, the check of the Host header and
// of where a POST comes from (guard.go). Nothing on a page comes from or
// leads to anywhere else, no script runs, and the page says "Notes" to whoever
// looks over the shoulder at the tab bar.
//
// One file a page: list.go, article.go, image.go, status.go, panel.go (the
// demo's switches), message.go (errors and empty states). Each has a template of
// its name. fresh.go says how fresh the news is, events.go what happened.
// catalogue.go and the files ui_*.go hold what the page says, in
// English, Russian, Persian and Chinese.
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
)

// Library is what the page shows. All methods may be called at once.
// *library.Library is one.
type Library interface {
	Channels(ctx context.Context) ([]channel.ID, error)
	Meta(ctx context.Context, ch channel.ID) (library.Meta, error)
	Headlines(ctx context.Context, q library.Query) iter.Seq2[library.Headline, error]
	Headline(ctx context.Context, ch channel.ID, id string) (library.Headline, error)
	SetRead(ctx context.Context, ch channel.ID, id string, read bool) error
	Gone(ctx context.Context, ch channel.ID) ([]library.Gone, error)
}

var _ Library = (*library.Library)(nil)

// Engine is what stands behind the page. All methods may be called at once and
// none waits for a network. An error that wraps transport.ErrNotFound means "has
// not arrived"; any other is shown as trouble on this device.
type Engine interface {
	// Article returns an article whose text has arrived. Its Images may lack Data.
	Article(ctx context.Context, ch channel.ID, id string) (bundle.Article, error)
	// Image returns picture n of an article.
	Image(ctx context.Context, ch channel.ID, id string, n int) (bundle.Image, error)
	// Status tells how things stand now.
	Status(ctx context.Context) Status
	// Lacks tells what has not come of each channel's texts.
	Lacks(ctx context.Context) []Lacks
	// Sync starts to look for news if that is not going on already, and returns.
	// The work goes on after ctx has ended; so does that of FetchImages.
	Sync(ctx context.Context)
	// FetchText sees to it that the text of one article comes before all others, and
	// starts to look for news if that is not going on already.
	FetchText(ctx context.Context, ch channel.ID, id string)
	// FetchImages starts to fetch the pictures of one article, and no others, and
	// returns; from then on until it is over, Status names the article.
	FetchImages(ctx context.Context, ch channel.ID, id string)
}

// Options says how to make a Server. Library and Engine are needed, the rest
// may be zero.
type Options struct {
	Library Library
	Engine  Engine
	// Panel, if not nil, is shown above the list.
	Panel Panel
	// Refresh, if not zero, makes the status page load itself anew, and the list
	// while the panel is busy: for the demo. Whole seconds.
	Refresh time.Duration
	// Exit is where the quick exit leads: an ordinary website. Empty leads to an
	// empty page of ours, which touches no network.
	Exit string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Logger; nil discards. It is never given titles, queries or the token.
	Logger *slog.Logger
}

// Server is the page as an http.Handler. It may be served on several listeners.
type Server struct {
	o     Options
	token string
	guard *guard
	pages map[string]*template.Template
	mux   *http.ServeMux
	log   *slog.Logger
	style []byte
}

//go:embed templates/*.html static/style.css
var files embed.FS

// New makes a Server with a new random token.
func New(o Options) (*Server, error) {
	if o.Library == nil || o.Engine == nil {
		return nil, errors.New("web: a library and an engine are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, log: o.Logger, pages: map[string]*template.Template{}, mux: http.NewServeMux()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	token := make([]byte, 32)
	_, _ = rand.Read(token) // never fails
	s.token = base64.RawURLEncoding.EncodeToString(token)
	s.guard = newGuard(s.token)
	for _, name := range []string{"list", "article", "status", "message"} {
		t, err := template.New("layout.html").Funcs(template.FuncMap{
			"args": func(a ...any) []any { return a },
			"inc":  func(n int) int { return n + 1 },
		}).ParseFS(files, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("web: %w", err)
		}
		s.pages[name] = t
	}
	var err error
	if s.style, err = files.ReadFile("static/style.css"); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.mux.HandleFunc("GET /{$}", s.list)
	s.mux.HandleFunc("GET /a/{channel}/{id}", s.article)
	s.mux.HandleFunc("GET /i/{channel}/{id}/{n}", s.image)
	s.mux.HandleFunc("GET /status", s.status)
	s.mux.HandleFunc("GET /style.css", s.stylesheet)
	s.mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent) // browsers ask by themselves; none is less telling than any
	})
	s.mux.HandleFunc("GET /leave", s.leave)
	s.mux.HandleFunc("POST /sync", s.sync)
	s.mux.HandleFunc("POST /a/{channel}/{id}/{action}", s.articleAction)
	s.mux.HandleFunc("POST /panel", s.panel)
	s.mux.HandleFunc("/", s.notFound)
	return s, nil
}

var _ http.Handler = (*Server)(nil)

// URL is the link to give to the reader: it holds the token. addr is what the
// listener says.
func (s *Server) URL(addr net.Addr) string {
	return (&url.URL{Scheme: "http", Host: addr.String(), Path: "/", RawQuery: "t=" + s.token}).String()
}

// Serve answers on ln until ctx ends, and closes it. It refuses a listener
// that is not on loopback.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if a, ok := ln.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		_ = ln.Close()
		return errors.New("the reader's page is for this device alone: give it an address on loopback")
	}
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // it would name addresses
	}
	stop := context.AfterFunc(ctx, func() { _ = h.Close() })
	defer stop()
	err := h.Serve(ln)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	if !localHost(r.Host) || !fromLoopback(r.RemoteAddr) {
		// DNS rebinding, or a proxy that shouldn't be there: no word about what this is.
		http.Error(w, "misdirected request", http.StatusMisdirectedRequest)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if !s.guard.sameOrigin(r) {
			s.message(w, r, http.StatusForbidden, "forbidden")
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if r.Method != http.MethodPost && r.URL.Query().Has("t") && s.enter(w, r) {
		return
	}
	if !s.guard.known(r) {
		s.message(w, r, http.StatusForbidden, "forbidden")
		return
	}
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
		if err := r.ParseForm(); err != nil || !s.guard.knownForm(r.PostForm.Get("f")) {
			s.message(w, r, http.StatusForbidden, "forbidden")
			return
		}
	} else if s.prefer(w, r) {
		return
	}
	s.mux.ServeHTTP(w, r)
}

// page is what every template is given.
type page struct {
	UI   *catalogue
	Form string // the forms' token
	// Path is where this page is, for links that come back to it.
	Path string
	// Refresh is in seconds; 0 for none.
	Refresh int
	// Inside: the reader has shown the cookie, so there is a way around.
	Inside bool
	Langs  []uiLink
	Body   any
}

// render runs the template before anything is sent, so that an error never
// leaves half a page.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, body any) {
	p := page{UI: s.ui(r), Path: backPath(r), Inside: s.guard.known(r), Body: body}
	if p.Inside {
		p.Form = s.guard.form
	}
	p.Langs = uiLinks(p.UI, p.Path)
	if l, ok := body.(listPage); name == "status" || ok && l.Lively {
		p.Refresh = int(s.o.Refresh / time.Second)
	}
	if st, ok := body.(statusPage); ok && st.Refresh > 0 {
		p.Refresh = st.Refresh
	}
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, p); err != nil {
		s.log.Error("a page could not be made", "page", name, "error", err)
		http.Error(w, p.UI.T("trouble.title"), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", p.UI.tag)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes())
	}
}

func (s *Server) stylesheet(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(s.style)
}

// now is the clock, but never earlier than the newest news: a device whose
// clock is behind must not see news of the future.
func (s *Server) now(newest time.Time) time.Time {
	if now := s.o.Now(); now.After(newest) {
		return now
	}
	return newest
}

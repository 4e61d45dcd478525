package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

type articlePage struct {
	item
	Source  string
	Body    template.HTML
	Links   []string // addresses of the text's links, which are not links here
	Missing int      // pictures that have not arrived
	NoText  bool
	Asked   bool // the pictures have been asked for in vain
	Coming  bool // the pictures are being fetched
	Syncing bool
}

// maxPictures bounds how many pictures of one article are shown.
const maxPictures = 100

func (s *Server) article(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	ch, id, ok := articlePath(r)
	if !ok {
		s.notFound(w, r)
		return
	}
	h, err := s.o.Library.Headline(ctx, ch, id)
	if errors.Is(err, transport.ErrNotFound) {
		s.noArticle(w, r, ch, id)
		return
	} else if err != nil {
		s.trouble(w, r, err)
		return
	}
	_, newest, err := s.metas(ctx)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	m, err := s.o.Library.Meta(ctx, ch)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	st := s.o.Engine.Status(ctx) // before the pictures are looked for: they may come meanwhile
	v := articlePage{
		item: newItem(s.ui(r), h, nil, s.now(newest)), Source: h.Source,
		Asked: r.URL.Query().Get("asked") == "1", Coming: slices.Contains(st.Fetching, id), Syncing: st.Syncing,
	}
	v.Channel = m.Name
	v.At = s.ui(r).date(h.Date.In(time.Local))
	if !h.Corrected.IsZero() {
		v.Corrected = fmt.Sprintf(s.ui(r).T("corrected"), s.ui(r).date(h.Corrected.In(time.Local)))
	}
	a, err := s.o.Engine.Article(ctx, ch, id)
	switch {
	case errors.Is(err, transport.ErrNotFound):
		v.NoText = true
	case err != nil:
		s.trouble(w, r, err)
		return
	default:
		v.Body, v.Links, v.Missing = s.body(ctx, s.ui(r), ch, id, a)
		// Opening is reading. This is the one GET that changes something: it needs
		// the cookie, which no foreign site can make the browser send.
		if !h.Read && r.Method == http.MethodGet {
			if err := s.o.Library.SetRead(ctx, ch, id, true); err != nil {
				s.log.Warn("an article could not be marked as read", "error", err)
			} else {
				v.Read = true
			}
		}
	}
	s.render(w, r, http.StatusOK, "article", v)
}

// noArticle says of an article that is not here whether its publisher took it back.
func (s *Server) noArticle(w http.ResponseWriter, r *http.Request, ch channel.ID, id string) {
	gone, err := s.o.Library.Gone(r.Context(), ch)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	i := slices.IndexFunc(gone, func(g library.Gone) bool { return g.ID == id })
	if i < 0 {
		s.notFound(w, r)
		return
	}
	ui := s.ui(r)
	s.render(w, r, http.StatusGone, "message", messagePage{
		ui.T("gone.title"), fmt.Sprintf(ui.T("gone.text"), ui.date(gone[i].Date.In(time.Local))), ui.T("gone.todo"),
	})
}

// articleAction does what the buttons below an article say.
func (s *Server) articleAction(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	ch, id, ok := articlePath(r)
	if !ok {
		s.notFound(w, r)
		return
	}
	if _, err := s.o.Library.Headline(ctx, ch, id); errors.Is(err, transport.ErrNotFound) {
		s.notFound(w, r)
		return
	} else if err != nil {
		s.trouble(w, r, err)
		return
	}
	back := "/a/" + ch.String() + "/" + id
	switch r.PathValue("action") {
	case "read", "unread":
		if err := s.o.Library.SetRead(ctx, ch, id, r.PathValue("action") == "read"); err != nil {
			s.trouble(w, r, err)
			return
		}
		back = "/"
	case "text":
		s.o.Engine.FetchText(ctx, ch, id)
		back += "?asked=1"
	case "images":
		s.o.Engine.FetchImages(ctx, ch, id)
		back += "?asked=1"
	default:
		s.notFound(w, r)
		return
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// articlePath reads the channel and the article of an address. IDs are 16
// lower-case hexadecimal characters.
func articlePath(r *http.Request) (channel.ID, string, bool) {
	ch, err := channel.ParseID(r.PathValue("channel"))
	id := r.PathValue("id")
	return ch, id, err == nil && len(id) == 16 && strings.Trim(id, "0123456789abcdef") == ""
}

// body makes a page's HTML of an article's: sanitised again, pictures from this
// server, links turned into numbered notes. A link that can be clicked by
// mistake would tell the open internet, and whoever watches it, what is being
// read here; so addresses are text to be copied.
func (s *Server) body(ctx context.Context, ui *catalogue, ch channel.ID, id string, a bundle.Article) (out template.HTML, links []string, missing int) {
	root := &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}
	nodes, err := html.ParseFragment(strings.NewReader(safehtml.Sanitize(a.Body)), root)
	if err != nil {
		return template.HTML("<p>" + html.EscapeString(safehtml.Text(a.Body)) + "</p>"), nil, 0
	}
	for _, n := range nodes {
		root.AppendChild(n)
	}
	var pictures, anchors []*html.Node
	for n := range root.Descendants() {
		switch {
		case n.Type == html.ElementNode && n.DataAtom == atom.Img:
			pictures = append(pictures, n)
		case n.Type == html.ElementNode && n.DataAtom == atom.A:
			anchors = append(anchors, n)
		}
	}
	seen := map[string]int{}
	for _, n := range anchors {
		href := attr(n, "href")
		n.Data, n.DataAtom, n.Attr = "span", atom.Span, nil
		if href == "" {
			continue
		}
		if seen[href] == 0 {
			links = append(links, href)
			seen[href] = len(links)
		}
		note := element("a", "class", "note", "href", "#link-"+strconv.Itoa(seen[href]))
		note.AppendChild(&html.Node{Type: html.TextNode, Data: ui.number(seen[href])})
		sup := element("sup")
		sup.AppendChild(note)
		n.AppendChild(sup)
	}
	for i, n := range pictures {
		if !s.picture(ctx, ui, ch, id, a, n, i) {
			missing++
		}
	}
	var b strings.Builder
	for n := root.FirstChild; n != nil; n = n.NextSibling {
		if err := html.Render(&b, n); err != nil {
			return "", nil, 0
		}
	}
	return template.HTML(b.String()), links, missing
}

// picture points an <img src="image:N"> at this server, or puts its description
// in its place if it has not arrived.
func (s *Server) picture(ctx context.Context, ui *catalogue, ch channel.ID, id string, a bundle.Article, n *html.Node, i int) bool {
	alt := attr(n, "alt")
	num, err := strconv.Atoi(strings.TrimPrefix(attr(n, "src"), "image:"))
	if err == nil && num >= 0 && num < maxPictures && i < maxPictures {
		if alt == "" && num < len(a.Images) {
			alt = a.Images[num].Alt
		}
		if img, err := s.o.Engine.Image(ctx, ch, id, num); err == nil {
			n.Attr = element("img", "src", "/i/"+ch.String()+"/"+id+"/"+strconv.Itoa(num), "alt", alt, "decoding", "async").Attr
			if img.Width > 0 && img.Height > 0 { // so that nothing jumps when it appears
				n.Attr = append(n.Attr, html.Attribute{Key: "width", Val: strconv.Itoa(img.Width)},
					html.Attribute{Key: "height", Val: strconv.Itoa(img.Height)})
			}
			return true
		}
	}
	text := ui.T("picture.missing")
	if alt != "" {
		text = ui.T("picture") + ": " + alt
	}
	*n = html.Node{
		Parent: n.Parent, PrevSibling: n.PrevSibling, NextSibling: n.NextSibling,
		Type: html.ElementNode, Data: "span", DataAtom: atom.Span, Attr: []html.Attribute{{Key: "class", Val: "nopicture"}},
	}
	n.AppendChild(&html.Node{Type: html.TextNode, Data: text})
	return false
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func element(name string, attrs ...string) *html.Node {
	n := &html.Node{Type: html.ElementNode, Data: name, DataAtom: atom.Lookup([]byte(name))}
	for i := 0; i < len(attrs); i += 2 {
		n.Attr = append(n.Attr, html.Attribute{Key: attrs[i], Val: attrs[i+1]})
	}
	return n
}

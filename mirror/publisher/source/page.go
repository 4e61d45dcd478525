package source

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	readability "codeberg.org/readeck/go-readability/v2"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

// maxElements bounds readability's work on one page.
const maxElements = 60_000

// page imports a saved web page: readability finds the article and what the
// page says of it.
func (r *reader) page(text string, d document) (bundle.Article, error) {
	doc, err := html.ParseWithOptions(strings.NewReader(text), html.ParseOptionEnableScripting(false))
	if err != nil {
		return bundle.Article{}, fmt.Errorf("its markup can't be read: %w", err)
	}
	meta := inspect(doc)
	heading := loneHeading(doc)
	if saved := savedFrom.FindStringSubmatch(text[:min(len(text), 4096)]); meta.source == "" && saved != nil {
		meta.source = saved[1]
	}
	prune(doc)
	for n := range doc.Descendants() {
		if n.DataAtom == atom.Img && n.Namespace == "" {
			if ref := bestSource(n); ref != "" {
				setAttr(n, "src", d.pics.hold(ref))
			}
		}
	}
	var page *url.URL
	if u := canonicalURL(meta.source); u != "" {
		page, _ = url.Parse(u)
	}
	var found readability.Article
	err = guard("page", func() error {
		p := readability.NewParser()
		p.MaxElemsToParse = maxElements
		var err error
		found, err = p.ParseAndMutate(doc, page)
		return err
	})
	if err != nil {
		return bundle.Article{}, fmt.Errorf("%w: no article is found in the page", ErrNoArticles)
	}
	if found.Node == nil {
		return bundle.Article{}, fmt.Errorf("%w: no article is found in the page", ErrNoArticles)
	}
	var body strings.Builder
	if err := found.RenderHTML(&body); err != nil {
		return bundle.Article{}, err
	}
	f := draft{
		title: firstOf(found.Title(), meta.title), lead: meta.lead, lang: firstOf(found.Language(), meta.lang),
		source: meta.source, key: d.id, date: d.date, page: true,
	}
	// A page's title often names the site as well; its only big heading does not.
	if title := oneLine(f.title); heading != "" && len(heading) < len(title) && strings.Contains(title, heading) {
		f.title = heading
	}
	if t, err := found.PublishedTime(); err == nil {
		if t, ok := sane(t); ok {
			f.date = t
		}
	} else if !meta.date.IsZero() {
		f.date = meta.date
	}
	if f.body, f.images, err = d.pics.embed(body.String()); err != nil {
		return bundle.Article{}, err
	}
	if text := safehtml.Text(f.body); text == "" || len(f.images) == 0 && weight(text) < minPage {
		return bundle.Article{}, fmt.Errorf("%w: no article is found in the page", ErrNoArticles)
	}
	return r.finish(f)
}

// minPage is the weight of a text below which a page holds no article: an
// error message, a redirect, a consent form.
const minPage = 40

// weight counts letters, those of scripts that write a word with one as three.
func weight(text string) int {
	n := 0
	for _, c := range text {
		switch {
		case c >= 0x2E80:
			n += 3
		case c > ' ':
			n++
		}
	}
	return n
}

// loneHeading is the text of a page's h1 if it has exactly one.
func loneHeading(doc *html.Node) string {
	text, n := "", 0
	for h := range doc.Descendants() {
		if h.DataAtom != atom.H1 || h.Namespace != "" {
			continue
		}
		if n++; n > 1 {
			return ""
		}
		var b strings.Builder
		for t := range h.Descendants() {
			if t.Type == html.TextNode {
				b.WriteString(t.Data)
			}
		}
		text = oneLine(b.String())
	}
	return text
}

// savedFrom is the comment browsers put into pages they save.
var savedFrom = regexp.MustCompile(`<!-- saved from url=\(\d+\)(https?://\S+) -->`)

// pageMeta is what a page's head says of it.
type pageMeta struct {
	title, lead, lang, source string
	date                      time.Time
}

// inspect reads the head's statements before readability changes the tree.
func inspect(doc *html.Node) pageMeta {
	var m pageMeta
	ogURL := ""
	for n := range doc.Descendants() {
		switch n.DataAtom {
		case atom.Html:
			m.lang = firstOf(attr(n, "lang"), attr(n, "xml:lang"))
		case atom.Link:
			if strings.EqualFold(attr(n, "rel"), "canonical") && m.source == "" {
				m.source = canonicalURL(attr(n, "href"))
			}
		case atom.Meta:
			key := strings.ToLower(firstOf(attr(n, "property"), attr(n, "name"), attr(n, "itemprop")))
			val := attr(n, "content")
			switch key {
			case "og:url":
				ogURL = canonicalURL(val)
			case "og:description", "description", "twitter:description":
				m.lead = firstOf(m.lead, oneLine(val))
			case "og:title":
				m.title = firstOf(m.title, val)
			case "article:published_time", "datepublished", "date", "pubdate", "dc.date":
				if t, ok := parseDate(val); ok && m.date.IsZero() {
					m.date = t
				}
			}
		case atom.Time:
			if t, ok := parseDate(attr(n, "datetime")); ok && m.date.IsZero() {
				m.date = t
			}
		}
	}
	m.source = firstOf(m.source, ogURL)
	return m
}

// leftover matches classes and ids of parts that stand amid a news page's text
// and are not the text.
var leftover = regexp.MustCompile(`(?i)^(?:.*also-read.*|.*read-also.*|.*readmore.*|media-block-wrap|wsw__embed|.*share-?-?(?:box|bar|buttons?|links?)|social-?share.*|comments?(?:-section|-list|-area)?|media-download.*|.*newsletter.*|.*related-(?:articles|posts|stories|content|links).*|.*cookie-?(?:banner|notice|consent).*|.*breadcrumbs?)$`)

// prune removes what readability tends to keep: "read also" boxes, embeds,
// share buttons, comments.
func prune(doc *html.Node) {
	var gone []*html.Node
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.DataAtom == atom.Html || n.DataAtom == atom.Body || n.DataAtom == atom.Main || n.DataAtom == atom.Article {
			continue
		}
		drop := n.DataAtom == atom.Aside || leftover.MatchString(attr(n, "id")) && attr(n, "id") != ""
		for class := range strings.FieldsSeq(attr(n, "class")) {
			drop = drop || leftover.MatchString(class)
		}
		if drop {
			gone = append(gone, n)
		}
	}
	for _, n := range gone {
		if n.Parent != nil {
			n.Parent.RemoveChild(n)
		}
	}
}

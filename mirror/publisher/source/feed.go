package source

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/mmcdole/gofeed"
	"github.com/mmcdole/gofeed/atom"
	jsonfeed "github.com/mmcdole/gofeed/json"
	"github.com/mmcdole/gofeed/rss"
	"golang.org/x/net/html"

	"tamizdat/internal/safehtml"
)

// feed reads the items of an RSS, Atom or JSON feed that sniff recognised. d
// says where it lies; d.pics is a pattern for each item's own.
func (r *reader) feed(text string, d document) error {
	f, err := parseFeed(xmlUTF8(text))
	if err != nil {
		return err
	}
	if len(f.Items) == 0 {
		// Well-formed and empty: a new feed, or one that lost its items.
		r.warn(d.where, errors.New("the feed is well-formed and has no items"))
		return nil
	}
	before, failed := len(r.articles), error(nil)
	lang := f.Language
	for i, item := range f.Items {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if r.full {
			break
		}
		where := fmt.Sprintf("%s item %d", d.where, i+1)
		if err := r.item(item, lang, where, d); err != nil {
			if r.ctx.Err() != nil {
				return err
			}
			failed = err
			r.warn(where, err)
		}
	}
	if len(r.articles) == before && failed != nil && !r.full {
		return fmt.Errorf("%w in any of the feed's %d items: %w", ErrNoArticles, len(f.Items), failed)
	}
	return nil
}

// parseFeed is gofeed.Parser.Parse, but for the detection: that one looks at
// 4 KiB only, which no longer JSON feed passes.
func parseFeed(text string) (feed *gofeed.Feed, err error) {
	err = guard("feed", func() error {
		var perr error
		switch gofeed.DetectFeedType(strings.NewReader(text)) {
		case gofeed.FeedTypeRSS:
			var f *rss.Feed
			if f, perr = (&rss.Parser{}).Parse(strings.NewReader(text)); perr == nil {
				feed, perr = (&gofeed.DefaultRSSTranslator{}).Translate(f)
			}
		case gofeed.FeedTypeAtom:
			var f *atom.Feed
			if f, perr = (&atom.Parser{}).Parse(strings.NewReader(text)); perr == nil {
				feed, perr = (&gofeed.DefaultAtomTranslator{}).Translate(f)
			}
		case gofeed.FeedTypeJSON:
			var f *jsonfeed.Feed
			if f, perr = (&jsonfeed.Parser{}).Parse(strings.NewReader(text)); perr == nil {
				feed, perr = (&gofeed.DefaultJSONTranslator{}).Translate(f)
			}
		default:
			return ErrNotFeed
		}
		if perr != nil {
			return fmt.Errorf("%w: %s", ErrNotFeed, oneLine(perr.Error()))
		}
		if feed == nil {
			return ErrNotFeed
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return feed, nil
}

var (
	anyTag    = regexp.MustCompile(`<[a-zA-Z/!][^<>]*>`)
	blankLine = regexp.MustCompile(`\n[ \t\r]*\n\s*`)
)

// item makes an article of one item, of the full text it carries.
func (r *reader) item(it *gofeed.Item, lang, where string, d document) error {
	body, lead := it.Content, ""
	if plain := safehtml.Text(asHTML(it.Description)); len(plain) > len(safehtml.Text(asHTML(body))) {
		body = it.Description
	} else if plain != "" {
		lead = plain
	}
	body = asHTML(body)
	if safehtml.Text(body) == "" {
		return fmt.Errorf("%w: the item has no text", ErrNoArticles)
	}
	f := draft{title: plainTitle(it.Title), lead: lead, lang: itemLang(it, lang)}
	for _, t := range []*time.Time{it.PublishedParsed, it.UpdatedParsed} {
		if t != nil && f.date.IsZero() {
			if s, ok := sane(*t); ok {
				f.date = s
			}
		}
	}
	if f.date.IsZero() {
		f.date = d.date
	}
	pics := pictures{r: r, where: where, fsys: d.pics.fsys, dir: d.pics.dir, base: d.pics.base}
	link, err := url.Parse(strings.TrimSpace(it.Link))
	if err == nil && d.pics.base != nil {
		link = d.pics.base.ResolveReference(link)
		pics.base = link
	}
	if err == nil {
		f.source = link.String()
	}
	f.key = cmp.Or(it.GUID, d.id+"\n"+f.title)
	if canonicalURL(f.source) == "" && canonicalURL(it.GUID) != "" {
		f.source = it.GUID
	}
	pics.lead = picture(it)
	if strings.Contains(body, "<img") {
		pics.lead = "" // enclosures mostly repeat the text's first picture in another size
	}
	if f.body, f.images, err = pics.embed(body); err != nil {
		return err
	}
	a, err := r.finish(f)
	if err != nil {
		return err
	}
	r.add(where, a)
	return nil
}

// picture is the address of an item's own picture, if it has one.
func picture(it *gofeed.Item) string {
	for _, e := range it.Enclosures {
		if e != nil && strings.HasPrefix(strings.ToLower(e.Type), "image/") && e.URL != "" {
			return e.URL
		}
	}
	for _, name := range []string{"content", "thumbnail"} {
		for _, e := range it.Extensions["media"][name] {
			if kind := e.Attrs["type"] + e.Attrs["medium"]; e.Attrs["url"] != "" && (strings.HasPrefix(kind, "image") || name == "thumbnail") {
				return e.Attrs["url"]
			}
		}
	}
	if it.Image != nil {
		return it.Image.URL
	}
	return ""
}

// itemLang prefers an item's dc:language.
func itemLang(it *gofeed.Item, feed string) string {
	if it.DublinCoreExt != nil && len(it.DublinCoreExt.Language) > 0 {
		if l := canonicalLang(it.DublinCoreExt.Language[0]); l != "" {
			return l
		}
	}
	return feed
}

// asHTML makes HTML of a feed's text, which is HTML in some feeds and plain in others.
func asHTML(s string) string {
	s = strings.TrimSpace(s)
	if anyTag.MatchString(s) || s == "" {
		return s
	}
	var b strings.Builder
	for _, para := range blankLine.Split(html.UnescapeString(s), -1) {
		b.WriteString("<p>" + html.EscapeString(strings.TrimSpace(para)) + "</p>")
	}
	return b.String()
}

// plainTitle drops markup and entities that feeds leave in titles.
func plainTitle(s string) string {
	if anyTag.MatchString(s) || strings.Contains(s, "&") {
		return safehtml.Text(s)
	}
	return s
}

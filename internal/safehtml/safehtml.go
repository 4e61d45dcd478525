// Package safehtml holds the HTML subset in which article bodies are written,
// and nothing outside it.
//
// A body is written by a publisher's source (a web page, a feed: hostile input)
// and shown on a reader's page, so it is cleaned twice: when it is packed, and
// again when it is shown, because the first cleaning happened on somebody
// else's machine. The subset is text with structure: paragraphs, headings,
// lists, quotes, code, emphasis, tables, figures, links to http and https, and
// pictures that travel with the article as <img src="image:N">. There is no
// script, no style, no class, no form, no foreign URL that a browser would
// fetch by itself.
//
// bluemonday enforces the subset. Before it, a tree pass brings ordinary web
// markup (div, section, h1, center …) into the subset's shape, so that
// cleaning loses markup, not paragraphs.
package safehtml

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

const (
	// MaxBody is the largest result of Sanitize in bytes, the limit of an
	// article's body.
	MaxBody = 1 << 20
	// MaxInput is how much of its input Sanitize looks at, in bytes.
	MaxInput = 4 * MaxBody
	// maxPasses bounds the search for a fixed point; real markup needs two,
	// fuzzing found none that needs more than four.
	maxPasses = 6
)

// linkRel is what every link says: no referrer, no window handle, no vote.
const linkRel = "nofollow noopener noreferrer"

var (
	imageRef = regexp.MustCompile(`^image:(?:0|[1-9][0-9]{0,3})$`)
	webURL   = regexp.MustCompile(`^(?i:https?)://[^\s/?#]`)
	langTag  = regexp.MustCompile(`^[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,7}$`)
	dirValue = regexp.MustCompile(`^(?:ltr|rtl|auto)$`)
	cellSpan = regexp.MustCompile(`^[1-9][0-9]?$`)
)

// policy is built once: building it costs more than cleaning an article. A
// bluemonday policy may be used by many goroutines once built.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "h2", "h3", "h4", "ul", "ol", "li", "blockquote", "pre", "code",
		"em", "strong", "i", "b", "br", "hr", "figure", "figcaption", "sub", "sup", "bdi", "bdo",
		"table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption")
	p.AllowAttrs("dir").Matching(dirValue).Globally()
	p.AllowAttrs("lang").Matching(langTag).Globally()
	p.AllowAttrs("href").Matching(webURL).OnElements("a")
	p.AllowAttrs("rel").Matching(regexp.MustCompile("^" + linkRel + "$")).OnElements("a")
	p.AllowAttrs("src").Matching(imageRef).OnElements("img")
	p.AllowAttrs("alt").OnElements("img")
	p.AllowAttrs("colspan", "rowspan").Matching(cellSpan).OnElements("th", "td")
	p.AllowURLSchemes("http", "https", "image")
	p.RequireParseableURLs(true)
	return p
})

// Sanitize returns the body in the safe subset, at most MaxBody bytes of valid
// UTF-8 and balanced markup. It is idempotent: Sanitize(Sanitize(x)) ==
// Sanitize(x). Input beyond MaxInput is ignored, and what would not fit MaxBody
// is cut at a paragraph; callers who must not lose text check the length first.
// It never fails: markup that can't be brought to rest becomes plain text.
func Sanitize(body string) string {
	body = cut(strings.ToValidUTF8(body, "\uFFFD"), MaxInput)
	// A result counts only when cleaning it again changes nothing. HTML's
	// parsing rules (adoption agency, foster parenting) don't promise that after
	// one pass, and text that changes meaning on the second parse is what
	// mutation XSS is made of.
	for range maxPasses {
		next, ok := pass(body)
		if !ok {
			break
		}
		if next == body {
			return body
		}
		body = next
	}
	return asText(body)
}

// pass cleans once; ok is false if the markup can't be parsed (nested too deep).
func pass(body string) (string, bool) {
	root, err := parse(body)
	if err != nil {
		return "", false
	}
	tidy(root)
	var out strings.Builder
	for n := root.FirstChild; n != nil; n = n.NextSibling {
		var one strings.Builder
		if err := html.Render(&one, n); err != nil {
			return "", false
		}
		clean := policy().Sanitize(one.String())
		if out.Len()+len(clean) > MaxBody {
			break
		}
		out.WriteString(clean)
	}
	return out.String(), true
}

// asText is the last resort: the words of the body as paragraphs, which are a
// fixed point of pass.
func asText(body string) string {
	var out strings.Builder
	for para := range strings.SplitSeq(Text(body), "\n") {
		para = strings.TrimSpace(para)
		if para == "" {
			continue
		}
		p := "<p>" + html.EscapeString(para) + "</p>"
		if out.Len()+len(p) > MaxBody {
			break
		}
		out.WriteString(p)
	}
	if again, ok := pass(out.String()); !ok || again != out.String() {
		return ""
	}
	return out.String()
}

// parse reads body as what stands inside a <div>; the returned node's children
// are its nodes.
func parse(body string) (*html.Node, error) {
	context := &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}
	// Scripting off: <noscript> then holds elements instead of text that would
	// turn into elements when parsed once more.
	nodes, err := html.ParseFragmentWithOptions(strings.NewReader(body), context, html.ParseOptionEnableScripting(false))
	if err != nil {
		return nil, err
	}
	root := &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}
	for _, n := range nodes {
		root.AppendChild(n)
	}
	return root, nil
}

// cut shortens s to at most n bytes at a rune boundary.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// attr returns the value of an attribute, "" if absent.
func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Namespace == "" && a.Key == key {
			return a.Val
		}
	}
	return ""
}

// keepAttrs drops every attribute but those named.
func keepAttrs(n *html.Node, keys ...string) {
	n.Attr = slices.DeleteFunc(n.Attr, func(a html.Attribute) bool {
		return a.Namespace != "" || !slices.Contains(keys, a.Key)
	})
}

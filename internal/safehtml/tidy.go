package safehtml

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// dropped elements vanish with all they hold: their text is not prose.
var dropped = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Template: true, atom.Iframe: true, atom.Object: true,
	atom.Embed: true, atom.Applet: true, atom.Svg: true, atom.Math: true, atom.Head: true, atom.Title: true,
	atom.Button: true, atom.Select: true, atom.Textarea: true, atom.Input: true, atom.Audio: true,
	atom.Video: true, atom.Canvas: true, atom.Noembed: true, atom.Noframes: true, atom.Frameset: true,
	atom.Datalist: true, atom.Progress: true, atom.Meter: true, atom.Dialog: true, atom.Xmp: true,
	atom.Plaintext: true, atom.Map: true,
}

// blocks are the subset's elements that stand between paragraphs, not in them.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.Ul: true, atom.Ol: true, atom.Li: true,
	atom.Blockquote: true, atom.Pre: true, atom.Hr: true, atom.Figure: true, atom.Figcaption: true,
	atom.Table: true, atom.Thead: true, atom.Tbody: true, atom.Tfoot: true, atom.Tr: true, atom.Th: true,
	atom.Td: true, atom.Caption: true,
}

// boxes are elements outside the subset that stand for a paragraph or for a
// group of blocks.
var boxes = map[atom.Atom]bool{
	atom.Div: true, atom.Section: true, atom.Article: true, atom.Main: true, atom.Header: true, atom.Footer: true,
	atom.Aside: true, atom.Nav: true, atom.Center: true, atom.Details: true, atom.Summary: true, atom.Address: true,
	atom.Dl: true, atom.Dt: true, atom.Dd: true, atom.Form: true, atom.Fieldset: true, atom.Legend: true,
	atom.Hgroup: true, atom.Body: true, atom.Html: true, atom.Search: true, atom.Menu: true, atom.Dir: true,
}

// renamed elements have a near relative in the subset.
var renamed = map[atom.Atom]atom.Atom{
	atom.H1: atom.H2, atom.H5: atom.H4, atom.H6: atom.H4, atom.Kbd: atom.Code, atom.Samp: atom.Code,
	atom.Tt: atom.Code, atom.Listing: atom.Pre, atom.Cite: atom.I, atom.Dfn: atom.I, atom.Var: atom.I,
}

// tidy brings the children of root into the subset's shape. Depth is bounded by
// the parser (512 open elements).
func tidy(root *html.Node) {
	tidyChildren(root)
	wrapLoose(root)
}

func tidyChildren(parent *html.Node) {
	for n := parent.FirstChild; n != nil; {
		next := n.NextSibling
		switch {
		case n.Type == html.TextNode:
		case n.Type != html.ElementNode, n.Namespace != "", dropped[n.DataAtom]:
			parent.RemoveChild(n)
		default:
			tidyElement(parent, n)
		}
		n = next
	}
}

func tidyElement(parent, n *html.Node) {
	if to, ok := renamed[n.DataAtom]; ok {
		n.DataAtom, n.Data = to, to.String()
	}
	tidyChildren(n)
	switch {
	case n.DataAtom == atom.Img:
		if !imageRef.MatchString(attr(n, "src")) {
			parent.RemoveChild(n)
			return
		}
		keepAttrs(n, "src", "alt")
	case n.DataAtom == atom.A:
		if !webURL.MatchString(attr(n, "href")) {
			unwrap(parent, n)
			return
		}
		keepAttrs(n, "href", "dir", "lang")
		n.Attr = append(n.Attr, html.Attribute{Key: "rel", Val: linkRel})
	case boxes[n.DataAtom]:
		if holdsBlock(n) {
			wrapLoose(n)
			unwrap(parent, n)
			return
		}
		// A box of words alone is a paragraph.
		n.DataAtom, n.Data = atom.P, "p"
		keepAttrs(n, "dir", "lang")
		fallthrough
	case n.DataAtom == atom.P, n.DataAtom == atom.H2, n.DataAtom == atom.H3, n.DataAtom == atom.H4:
		if empty(n) {
			parent.RemoveChild(n)
		}
	}
}

// unwrap puts n's children in its place.
func unwrap(parent, n *html.Node) {
	for c := n.FirstChild; c != nil; c = n.FirstChild {
		n.RemoveChild(c)
		parent.InsertBefore(c, n)
	}
	parent.RemoveChild(n)
}

// wrapLoose puts runs of text and inline elements among root's children into
// paragraphs.
func wrapLoose(root *html.Node) {
	var p *html.Node
	for n := root.FirstChild; n != nil; {
		next := n.NextSibling
		blank := n.Type == html.TextNode && strings.TrimSpace(n.Data) == ""
		switch {
		case n.Type == html.ElementNode && (blocks[n.DataAtom] || holdsBlock(n)):
			p = nil
		case p == nil && (blank || n.DataAtom == atom.Br):
			root.RemoveChild(n) // nothing between blocks
		default:
			if p == nil {
				p = &html.Node{Type: html.ElementNode, DataAtom: atom.P, Data: "p"}
				root.InsertBefore(p, n)
			}
			root.RemoveChild(n)
			p.AppendChild(n)
		}
		n = next
	}
}

// holdsBlock reports whether a block stands anywhere inside n.
func holdsBlock(n *html.Node) bool {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && blocks[d.DataAtom] {
			return true
		}
	}
	return false
}

// empty reports whether n shows nothing.
func empty(n *html.Node) bool {
	for d := range n.Descendants() {
		if d.Type == html.TextNode && strings.TrimSpace(d.Data) != "" || d.DataAtom == atom.Img {
			return false
		}
	}
	return true
}

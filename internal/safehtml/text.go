package safehtml

import (
	"strings"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Text returns the words of an HTML body as plain text: a blank line between
// blocks, a line break for br, list items and table rows, a tab between cells,
// white space folded but in pre, control characters dropped. What Sanitize
// drops with its content is not in it. At most MaxInput bytes of the body are
// read. Markup that can't be parsed gives what a tokenizer sees as text.
func Text(body string) string {
	body = cut(strings.ToValidUTF8(body, "\uFFFD"), MaxInput)
	root, err := parse(body)
	if err != nil {
		return tokenText(body)
	}
	w := &textWriter{}
	w.children(root, false)
	return strings.TrimSpace(w.b.String())
}

// textWriter writes words and owes white space: what separates two words is
// decided when the second comes.
type textWriter struct {
	b    strings.Builder
	owed string
}

func (w *textWriter) owe(space string) {
	if w.b.Len() > 0 && rank(space) > rank(w.owed) {
		w.owed = space
	}
}

func rank(space string) int {
	switch space {
	case "":
		return 0
	case " ":
		return 1
	case "\t":
		return 2
	case "\n":
		return 3
	}
	return 4 // a blank line
}

func (w *textWriter) write(s string) {
	w.b.WriteString(w.owed)
	w.owed = ""
	w.b.WriteString(s)
}

func (w *textWriter) children(n *html.Node, pre bool) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.node(c, pre)
	}
}

func (w *textWriter) node(n *html.Node, pre bool) {
	switch {
	case n.Type == html.TextNode:
		w.text(n.Data, pre)
		return
	case n.Type != html.ElementNode, n.Namespace != "", dropped[n.DataAtom]:
		return
	}
	around := ""
	switch {
	case n.DataAtom == atom.Br:
		w.owe("\n")
		return
	case n.DataAtom == atom.Li, n.DataAtom == atom.Tr:
		around = "\n"
	case n.DataAtom == atom.Td, n.DataAtom == atom.Th:
		around = "\t"
	case blocks[n.DataAtom], boxes[n.DataAtom], renamed[n.DataAtom] == atom.H2, renamed[n.DataAtom] == atom.H4:
		around = "\n\n"
	}
	w.owe(around)
	w.children(n, pre || n.DataAtom == atom.Pre)
	w.owe(around)
}

func (w *textWriter) text(s string, pre bool) {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
	if pre {
		if s != "" {
			w.write(s)
		}
		return
	}
	// strings.Fields would fold no-break spaces too, which hold words together.
	isSpace := func(r rune) bool { return r == ' ' || r == '\n' || r == '\t' || r == '\r' || r == '\f' || r == '\v' }
	if s != "" && isSpace(rune(s[0])) {
		w.owe(" ")
	}
	for i, word := range strings.FieldsFunc(s, isSpace) {
		if i > 0 {
			w.owe(" ")
		}
		w.write(word)
	}
	if s != "" && isSpace(rune(s[len(s)-1])) {
		w.owe(" ")
	}
}

// tokenText is Text without a tree, for markup nested beyond the parser's limit.
func tokenText(body string) string {
	w := &textWriter{}
	skip := ""
	for z := html.NewTokenizer(strings.NewReader(body)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return strings.TrimSpace(w.b.String())
		case html.TextToken:
			if skip == "" {
				w.text(string(z.Text()), false)
			}
		case html.StartTagToken:
			name, _ := z.TagName()
			if a := atom.Lookup(name); a == atom.Script || a == atom.Style {
				skip = string(name)
			} else if blocks[a] || boxes[a] {
				w.owe("\n\n")
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == skip {
				skip = ""
			}
		}
	}
}

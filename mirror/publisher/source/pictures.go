package source

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"tamizdat/bundle"
)

// placeholder stands for a picture's address while readability works, which
// would otherwise resolve, move or drop it. The host can't exist (RFC 6761).
const placeholder = "https://picture.invalid/"

// pictures finds and converts the pictures of one document.
type pictures struct {
	r     *reader
	where string
	// fsys and dir are where local references lead; nil fsys: none are followed.
	fsys fs.FS
	dir  string
	// base is the address of a fetched feed's item: pictures are fetched.
	// Nil: pictures on the web are left out.
	base *url.URL
	// lead is a picture to put first unless the text has it already.
	lead, leadAlt string

	refs   []string // what placeholders stand for
	images []bundle.Image
	index  map[string]int // by reference; -1: tried in vain
	remote int            // left out because they are on the web
}

// hold returns a placeholder for a reference.
func (p *pictures) hold(ref string) string {
	p.refs = append(p.refs, ref)
	return placeholder + strconv.Itoa(len(p.refs)-1) + ".jpg"
}

// embed replaces the pictures of an HTML body by <img src="image:N" alt>, and
// removes those that can't be had. It is called once a document.
func (p *pictures) embed(body string) (string, []bundle.Image, error) {
	if len(body) > 4*MaxFile/16 { // beyond any article: 4 MiB of markup
		return "", nil, fmt.Errorf("%w: the text is over 1 MiB", ErrTooLarge)
	}
	context := &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}
	nodes, err := html.ParseFragmentWithOptions(strings.NewReader(body), context, html.ParseOptionEnableScripting(false))
	if err != nil {
		return "", nil, fmt.Errorf("its markup is nested too deep: %w", err)
	}
	for _, n := range nodes {
		context.AppendChild(n)
	}
	p.index = map[string]int{}
	var imgs []*html.Node
	for n := range context.Descendants() {
		if n.DataAtom == atom.Img && n.Namespace == "" {
			imgs = append(imgs, n)
		}
	}
	if p.lead != "" && !slices.ContainsFunc(imgs, func(n *html.Node) bool { return p.ref(n) == p.lead }) {
		img := &html.Node{Type: html.ElementNode, Data: "img", DataAtom: atom.Img, Attr: []html.Attribute{{Key: "src", Val: p.lead}, {Key: "alt", Val: p.leadAlt}}}
		fig := &html.Node{Type: html.ElementNode, Data: "figure", DataAtom: atom.Figure}
		fig.AppendChild(img)
		context.InsertBefore(fig, context.FirstChild)
		imgs = append([]*html.Node{img}, imgs...)
	}
	for _, n := range imgs {
		if err := p.r.ctx.Err(); err != nil {
			return "", nil, err
		}
		alt := clipBytes(oneLine(attr(n, "alt")), maxAlt)
		i := p.load(p.ref(n), alt)
		if i < 0 {
			removeWithFigure(n)
			continue
		}
		n.Attr = []html.Attribute{{Key: "src", Val: "image:" + strconv.Itoa(i)}, {Key: "alt", Val: alt}}
	}
	if p.remote > 0 {
		p.r.warn(p.where, fmt.Errorf("pictures on the web are left out (%d); only those of a feed's address are fetched", p.remote))
	}
	var out strings.Builder
	for n := context.FirstChild; n != nil; n = n.NextSibling {
		if err := html.Render(&out, n); err != nil {
			return "", nil, err
		}
	}
	return out.String(), p.images, nil
}

// removeWithFigure removes a picture, and its figure when that showed nothing
// else: a caption without its picture misleads.
func removeWithFigure(n *html.Node) {
	for up := n.Parent; up != nil; up = up.Parent {
		if up.DataAtom != atom.Figure {
			continue
		}
		others := 0
		for d := range up.Descendants() {
			if d.DataAtom == atom.Img || d.DataAtom == atom.Blockquote || d.DataAtom == atom.Table || d.DataAtom == atom.Pre {
				others++
			}
		}
		if others == 1 && up.Parent != nil {
			up.Parent.RemoveChild(up)
			return
		}
	}
	n.Parent.RemoveChild(n)
}

// ref returns what an img refers to.
func (p *pictures) ref(n *html.Node) string {
	src := attr(n, "src")
	if rest, ok := strings.CutPrefix(src, placeholder); ok {
		if i, err := strconv.Atoi(strings.TrimSuffix(rest, ".jpg")); err == nil && i >= 0 && i < len(p.refs) {
			return p.refs[i]
		}
		return ""
	}
	return bestSource(n)
}

// bestSource is the address of an img, also of one whose page loads it late.
func bestSource(n *html.Node) string {
	src := strings.TrimSpace(attr(n, "src"))
	if src != "" && !strings.HasPrefix(src, "data:") {
		return src
	}
	for _, key := range []string{"data-src", "data-original", "data-lazy-src", "data-url"} {
		if v := strings.TrimSpace(attr(n, key)); v != "" {
			return v
		}
	}
	for _, key := range []string{"srcset", "data-srcset"} {
		if f := strings.Fields(attr(n, key)); len(f) > 0 {
			return strings.TrimSuffix(f[0], ",")
		}
	}
	return src
}

// load returns the index of a picture among p.images, -1 if it can't be had.
func (p *pictures) load(ref, alt string) int {
	if ref == "" || p.r.o.NoImages {
		return -1
	}
	if i, ok := p.index[ref]; ok {
		return i
	}
	p.index[ref] = -1
	if len(p.images) >= MaxImages {
		p.r.warn(p.where, fmt.Errorf("%w: more than %d pictures; one is left out", ErrTooLarge, MaxImages))
		return -1
	}
	data, err := p.fetch(ref)
	if errors.Is(err, errRemote) {
		p.remote++
		return -1
	}
	if err != nil {
		p.r.warn(p.where, fmt.Errorf("%s is left out: %w", pictureName(ref), err))
		return -1
	}
	img, err := convert(data)
	if errors.Is(err, errTiny) {
		return -1
	}
	if err != nil {
		p.r.warn(p.where, fmt.Errorf("%s is left out: %w", pictureName(ref), err))
		return -1
	}
	img.Alt = alt
	p.images = append(p.images, img)
	p.index[ref] = len(p.images) - 1
	return len(p.images) - 1
}

// pictureName is a picture in warnings: a file by its name, as the text has it.
func pictureName(ref string) string {
	if strings.HasPrefix(ref, "data:") {
		return "a picture inside the text"
	}
	return fmt.Sprintf("the picture %q", clip(oneLine(shown(ref)), 100))
}

var errRemote = errors.New("it is on the web")

// fetch returns the bytes a reference leads to.
func (p *pictures) fetch(ref string) ([]byte, error) {
	if meta, enc, ok := strings.Cut(ref, ","); ok && strings.HasPrefix(meta, "data:image/") && strings.HasSuffix(meta, ";base64") {
		if len(enc) > MaxImageFile/3*4 {
			return nil, fmt.Errorf("%w: over %d MiB", ErrTooLarge, MaxImageFile>>20)
		}
		return base64.StdEncoding.DecodeString(enc)
	}
	u, err := url.Parse(ref)
	if err != nil {
		return nil, errors.New("its address can't be read")
	}
	if p.base != nil {
		return p.r.fetchPicture(p.base.ResolveReference(u))
	}
	switch {
	case u.Scheme == "http", u.Scheme == "https", u.Scheme == "" && u.Host != "":
		return nil, errRemote
	case u.Scheme != "", p.fsys == nil:
		return nil, errors.New("its address is neither a file beside the text nor http")
	}
	name := path.Join(p.dir, u.Path)
	if path.IsAbs(u.Path) || !fs.ValidPath(name) {
		return nil, errors.New("it lies outside the folder")
	}
	data, _, err := readFile(p.fsys, name, MaxImageFile)
	return data, err
}

// besideText finds pictures that belong to a plain text file by their name:
// flood.txt has flood.jpg, flood-1.png, flood_2.webp, in that order.
func (p *pictures) besideText(stem string) []string {
	if p.fsys == nil || stem == "" {
		return nil
	}
	entries, err := fs.ReadDir(p.fsys, p.dir)
	if err != nil || len(entries) > maxEntries {
		return nil
	}
	var names []string
	for _, e := range entries { // sorted by name
		switch strings.ToLower(path.Ext(e.Name())) {
		case ".jpg", ".jpeg", ".png", ".gif", ".webp":
		default:
			continue
		}
		rest, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), path.Ext(e.Name())), stem)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if n := strings.TrimLeft(rest, "-_"); rest == "" || n != rest && strings.Trim(n, "0123456789") == "" && n != "" {
			names = append(names, (&url.URL{Path: e.Name()}).EscapedPath())
		}
	}
	return names
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Namespace == "" && a.Key == key {
			return a.Val
		}
	}
	return ""
}

func setAttr(n *html.Node, key, val string) {
	for i := range n.Attr {
		if n.Attr[i].Namespace == "" && n.Attr[i].Key == key {
			n.Attr[i].Val = val
			return
		}
	}
	n.Attr = append(n.Attr, html.Attribute{Key: key, Val: val})
}

package safehtml

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/html"
)

func TestSanitize(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"paragraphs stay", `<p>One <em>two</em>.</p><p>Three</p>`, `<p>One <em>two</em>.</p><p>Three</p>`},
		{"plain words become a paragraph", `one &amp; two`, `<p>one &amp; two</p>`},
		{"script goes with its text", `<p>a<script>alert(1)</script>b</p>`, `<p>ab</p>`},
		{"style goes with its text", `<style>p{}</style><p style="color:red" class=x onclick="y()">a</p>`, `<p>a</p>`},
		{"boxes become paragraphs", `<div>one</div><div>two <b>three</b></div>`, `<p>one</p><p>two <b>three</b></p>`},
		{"a box of blocks opens", `<section>lead<p>one</p><div><div>two</div></div></section>`, `<p>lead</p><p>one</p><p>two</p>`},
		{"headings move into range", `<h1>a</h1><h2>b</h2><h6>c</h6>`, `<h2>a</h2><h2>b</h2><h4>c</h4>`},
		{"links", `<p><a href="https://a.example/x?y=1&amp;z" onclick=x target=_blank rel=opener>t</a></p>`, `<p><a href="https://a.example/x?y=1&amp;z" rel="nofollow noopener noreferrer">t</a></p>`},
		{"a link elsewhere is only words", `<p><a href="javascript:alert(1)">t</a> <a href="/x">u</a> <a href="data:text/html,x">v</a> <a href="//h/">w</a></p>`, `<p>t u v w</p>`},
		{"own images", `<figure><img src="image:3" alt="A &quot;dam&quot;" onerror=x><figcaption>Dam</figcaption></figure>`, `<figure><img src="image:3" alt="A &#34;dam&#34;"/><figcaption>Dam</figcaption></figure>`},
		{"foreign images", `<p>a<img src="https://a.example/x.png"><img src="image:-1"><img src="image:01"><img src="data:image/png;base64,AA">b</p>`, `<p>ab</p>`},
		{"direction and language", `<p dir="rtl" lang="fa">سلام <bdi>x</bdi></p><p dir="up" lang="x y">z</p>`, `<p dir="rtl" lang="fa">سلام <bdi>x</bdi></p><p>z</p>`},
		{"tables", `<table border=1><tr><th colspan=2 width=3>a<tr><td>b<td>c</table>`, `<table><tbody><tr><th colspan="2">a</th></tr><tr><td>b</td><td>c</td></tr></tbody></table>`},
		{"foreign markup", `<p>a<svg><script>x</script><a href="https://b/">c</a></svg><math><mi>d</mi></math>e</p>`, `<p>ae</p>`},
		{"forms and frames", `<form action=/x>a<input value=b><button>c</button></form><iframe src=https://d/>e</iframe>`, `<p>a</p>`},
		{"comments and doctype", `<!doctype html><!-- <p>x</p> --><p>a</p><?php x ?>`, `<p>a</p>`},
		{"nothing stays open", `<p><b>a`, `<p><b>a</b></p>`},
		{"nothing closes what it did not open", `a</div></section></table>b`, `<p>ab</p>`},
		{"empty paragraphs go", `<p> </p><p>a</p><div><br></div>`, `<p>a</p>`},
		{"bad UTF-8", "<p>a\xffb</p>", "<p>a\uFFFDb</p>"},
		{"entities are not markup", `<p>&lt;script&gt;x&lt;/script&gt;</p>`, `<p>&lt;script&gt;x&lt;/script&gt;</p>`},
		{"lists, quotes, code", `<ul><li>a</li></ul><blockquote><p>b</p></blockquote><pre><code>c  d</code></pre><p>x<sub>1</sub><br/>y</p><hr/>`, `<ul><li>a</li></ul><blockquote><p>b</p></blockquote><pre><code>c  d</code></pre><p>x<sub>1</sub><br/>y</p><hr/>`},
		{"empty", ``, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Sanitize(c.in); got != c.want {
				t.Errorf("Sanitize(%q)\n got %s\nwant %s", c.in, got, c.want)
			}
		})
	}
}

func TestSanitizeBounds(t *testing.T) {
	long := Sanitize(strings.Repeat("<p>"+strings.Repeat("a", 1000)+"</p>", 2000))
	if len(long) > MaxBody || len(long) < MaxBody-2000 {
		t.Errorf("a body of 2 MB became %d bytes; want just under %d", len(long), MaxBody)
	}
	if !strings.HasSuffix(long, "a</p>") {
		t.Errorf("cut inside a paragraph: …%q", long[len(long)-20:])
	}
	deep := Sanitize(strings.Repeat("<blockquote>", 100_000) + "words" + strings.Repeat("</blockquote>", 100_000))
	if deep != "<p>words</p>" {
		t.Errorf("markup nested 100,000 deep became %.80q", deep)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`<h2>Title</h2><p>One
		 two<br>three</p><ul><li>a</li><li>b</li></ul>`, "Title\n\nOne two\nthree\n\na\nb"},
		{`<p>in<b>di</b>visible <i> x</i> y</p>`, "indivisible x y"},
		{`<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>`, "a\tb\nc"},
		{`<p>&lt;b&gt; &amp;</p><script>x</script>`, "<b> &"},
		{`<pre>a  b
c</pre>`, "a  b\nc"},
		{"<p>می\u200cشود\u00a0x\x07</p>", "می\u200cشود\u00a0x"},
		{"", ""},
	} {
		if got := Text(c.in); got != c.want {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// hostile are inputs that broke sanitizers before, in this project's words.
var hostile = []string{
	`<p>one</p>`,
	`<svg><style><img src=x onerror=alert(1)></style></svg>`,
	`<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">`,
	`<noscript><p title="</noscript><img src=x onerror=alert(1)>">`,
	`<a href="https://a.example/"><p>a<a href="https://b.example/">b</p></a>c`,
	`<table><a href="https://a.example/">x<tr><td><table><p>y</table>z</table>w`,
	`<b><i><p>1</b>2</i>3</p>4`,
	`<img src="image:0" alt="&lt;script&gt;"><IMG SRC=image:1>`,
	`<p dir=rtl lang=fa>&#x202e;x</p>`,
	`<select><option><style></option></select><img src=image:0>`,
	`<template><p>x</template><textarea></p><script>`,
	`<a href=" https://x">a</a><a href="HTTPS://x/%zz">b</a><a href="https://x y">c</a>`,
	"<p>\x00\x0b\xff</p><pre>\n\na</pre><pre>\n\n\nb</pre>",
	`<li>a<li>b<td>c<caption>d<tr>e<figcaption>f`,
	`<h1><h1><div><h2><p></h1>x`,
	`<p><b>a<div>b</b>c</div>d</p><br><hr>`,
	`<plaintext><p>a`, `<xmp><p>a</xmp>`, `<frameset><frame src=x>`, `</p></br>`,
}

func FuzzSanitize(f *testing.F) {
	if len(hostile) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := Sanitize(in)
		if again := Sanitize(out); again != out {
			t.Errorf("not idempotent:\n in %q\n 1  %q\n 2  %q", in, out, again)
		}
		if !utf8.ValidString(out) || len(out) > MaxBody {
			t.Errorf("%d bytes, valid UTF-8 %t", len(out), utf8.ValidString(out))
		}
		check(t, out)
		Text(in)
	})
}

// check parses a cleaned body as a browser with scripts on would and refuses
// everything outside the subset; it shares no list with the code under test.
func check(t *testing.T, body string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader("<!doctype html><body><div>" + body + "</div>"))
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	allowed := strings.Fields("html head body div p h2 h3 h4 ul ol li blockquote pre code em strong i b a br hr figure figcaption " +
		"img table thead tbody tfoot tr th td caption sub sup bdi bdo")
	for n := range doc.Descendants() {
		if n.Type == html.CommentNode || n.Namespace != "" {
			t.Errorf("%q holds a comment or foreign markup", body)
		}
		if n.Type != html.ElementNode {
			continue
		}
		if !slices.Contains(allowed, n.Data) {
			t.Errorf("<%s> survived in %q", n.Data, body)
		}
		for _, a := range n.Attr {
			ok := false
			switch n.Data + "." + a.Key {
			case "a.href":
				ok = strings.HasPrefix(strings.ToLower(a.Val), "http://") || strings.HasPrefix(strings.ToLower(a.Val), "https://")
			case "a.rel":
				ok = a.Val == "nofollow noopener noreferrer"
			case "img.src":
				ok = strings.HasPrefix(a.Val, "image:") && !strings.Contains(a.Val, "/")
			case "img.alt", "td.colspan", "td.rowspan", "th.colspan", "th.rowspan":
				ok = true
			default:
				ok = a.Key == "dir" || a.Key == "lang"
			}
			if !ok {
				t.Errorf("<%s %s=%q> survived in %q", n.Data, a.Key, a.Val, body)
			}
		}
		if n.Data == "a" && !slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "rel" }) {
			t.Errorf("a link without rel in %q", body)
		}
	}
}

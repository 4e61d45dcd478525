package source

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFeed: whatever a feed says, its articles are sound.
func FuzzFeed(f *testing.F) {
	f.Add(`<rss version="2.0"><channel><title>x</title><language>ru</language><item><title>Река вышла из берегов</title><link>https://a.example/1</link><description>&lt;p&gt;Вода поднялась на метр.&lt;script&gt;x&lt;/script&gt;</description><pubDate>Mon, 02 Jan 2006 15:04:05 MST</pubDate></item></channel></rss>`)
	f.Add(`<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="fa"><entry><title type="html">a &amp;lt;b&gt;</title><link href="javascript:x"/><content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>words, more words, and some more words</p></div></content><updated>2006-01-02T15:04:05Z</updated></entry></feed>`)
	f.Add(`{"version":"https://jsonfeed.org/version/1.1","title":"x","items":[{"id":"1","url":"https://a.example/1","title":"y","content_html":"<p>words, more words</p>","date_published":"2006-01-02T15:04:05Z"}]}`)
	f.Add(`<?xml version="1.0" encoding="koi8-r"?><!DOCTYPE rss [<!ENTITY a "&b;&b;"><!ENTITY b "xxxx">]><rss><channel><item><title>&a;</title></item></channel></rss>`)
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 50_000 {
			return
		}
		r := newReader(context.Background(), fixed) // without a base nothing is fetched
		_ = r.feed(strings.ToValidUTF8(in, ""), document{id: "x", where: "x", pics: &pictures{r: r}})
		for _, a := range r.articles {
			sound(t, a)
		}
	})
}

// FuzzMarkdown: whatever a file and its front matter say, the article is sound.
func FuzzMarkdown(f *testing.F) {
	f.Add("---\ntitle: \"River\ndate: 2026-13-01\nlang: xx-\n---\n# A\n\n![x](javascript:y)\n\n| a | b |\n|---|\n| <script> |\n")
	f.Add("+++\ntitle = 'x'\nbody = \"\"\"\na\n+++\ntext and more text")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 50_000 {
			return
		}
		r := newReader(context.Background(), fixed)
		if a, err := r.markdown(strings.ToValidUTF8(in, ""), document{id: "x", where: "x", pics: &pictures{r: r}}); err == nil {
			sound(t, a)
		}
	})
}

// FuzzDecode: bytes in any charset become UTF-8, at most three times as long, or an
// error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\xff\xfeh\x00i\x00"), "")
	f.Add([]byte("<?xml version=\"1.0\" encoding=\"windows-1251\"?>\xcf\xf0\xe8\xe2\xe5\xf2"), "text/xml")
	f.Add([]byte("<meta charset=big5>\xa4\xa4\xa4\xe5"), "text/html; charset=gb18030")
	f.Add([]byte("\xef\xbb\xbfx"), "text/plain; charset=iso-2022-jp")
	f.Fuzz(func(t *testing.T, data []byte, contentType string) {
		text, err := decode(data, contentType)
		if err != nil {
			return
		}
		if !utf8.ValidString(text) || len(text) > 3*len(data)+16 || strings.ContainsRune(text, 0) {
			t.Fatalf("%d bytes from %d", len(text), len(data))
		}
	})
}

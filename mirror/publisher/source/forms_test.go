package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

func TestMarkdown(t *testing.T) {
	a, warnings := readOne(t, fixed, write(t, "a.md", "---\ntitle: \"The \\\"long\\\" dam\"\ndate: 2021-02-03T04:05:06+03:00\nlang: en-GB\nsource: https://News.example:443/a?utm_source=x&id=7#top\ntags: [a, b]\n---\n\n# The \"long\" dam\n\nFirst *paragraph* with [a link](https://a.example/).\n\n- one\n- two\n\n<script>x()</script><b onclick=y>bold</b>\n"))
	want := bundle.Article{
		ID: a.ID, Title: `The "long" dam`, Lead: "First paragraph with a link.", Lang: "en-GB", Dir: "ltr",
		Date: time.Date(2021, 2, 3, 1, 5, 6, 0, time.UTC), Source: "https://news.example/a?id=7",
	}
	if a.Title != want.Title || a.Lead != want.Lead || a.Lang != want.Lang || !a.Date.Equal(want.Date) || a.Source != want.Source {
		t.Errorf("got %+v\nwant %+v", a, want)
	}
	if strings.Contains(a.Body, "<h2>") || strings.Contains(a.Body, "script") || !strings.Contains(a.Body, "<li>two</li>") || !strings.Contains(a.Body, "<b>bold</b>") {
		t.Errorf("body %s", a.Body)
	}
	if len(warnings) != 0 {
		t.Errorf("warnings %v", warnings)
	}

	plain, _ := readOne(t, fixed, write(t, "b.md", "# Only a heading\n\nWords."))
	if plain.Title != "Only a heading" || plain.Source != "" || plain.Body != "<p>Words.</p>\n" && plain.Body != "<p>Words.</p>" {
		t.Errorf("got %+v", plain)
	}
	toml, _ := readOne(t, fixed, write(t, "c.md", "+++\ntitle = 'Under pluses'\ndate = 2020-01-02\n+++\nWords.\n"))
	if toml.Title != "Under pluses" || toml.Date.Year() != 2020 {
		t.Errorf("got %+v", toml)
	}
	if _, _, err := Read(context.Background(), fixed, write(t, "d.md", "---\ntitle: x\n\nWords")); err == nil {
		t.Error("front matter without end was accepted")
	}
}

const page = `<!DOCTYPE html>
<!-- saved from url=(0031)https://wrong.example/elsewhere -->
<html lang="ru"><head><meta charset="utf-8"><title>Мост открыт после ремонта – Районные вести</title>
<link rel="canonical" href="https://vesti.example/a/31415.html?fbclid=abc">
<meta property="og:title" content="Мост открыт после ремонта">
<meta name="description" content="Движение по мосту возобновили на две недели раньше срока.">
<meta property="article:published_time" content="2022-05-06T10:00:00+03:00">
</head><body>
<nav><ul><li><a href="/">Главная</a><li><a href="/n">Новости</a></ul></nav>
<div id="content"><h1>Мост открыт после ремонта</h1>
<div id="article-content"><div class="wsw">
<p>Движение по мосту через реку возобновили в понедельник утром, на две недели раньше, чем обещали строители, сообщили в районной администрации.</p>
<div class="wsw__embed"><p>Код скопирован, ширина, высота, прямая ссылка на видео и ещё немного слов.</p></div>
<p>Опоры укрепили, полотно положили заново, а пешеходную дорожку расширили почти вдвое, поэтому теперь по ней можно проехать и с коляской.</p>
<div class="media-block also-read"><a href="/a/2.html"><h4>Читайте также: Почему мост закрыли</h4></a></div>
<figure><img src="page_files/bridge.png" alt="Мост утром" onload="x()"><figcaption>Мост в день открытия</figcaption></figure>
<p>Грузовики тяжелее двадцати тонн по-прежнему поедут в объезд: испытания под нагрузкой назначены только на конец месяца, уточнили дорожники.</p>
<p>Следующий ремонт запланирован через двадцать пять лет, если весенние паводки не окажутся сильнее обычных, говорят инженеры.</p>
</div></div></div>
<div id="comments"><p>Наконец-то открыли, сколько можно было ездить через соседний посёлок, надоело.</p></div>
<footer><p>Все права защищены</p></footer><script>track()</script></body></html>`

func TestPage(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("page.html", []byte(page))
	save("page_files/bridge.png", testPNG(t, 1100, 110))
	save("page_files/other.html", []byte(page))
	a, warnings := readOne(t, fixed, dir)
	if a.Title != "Мост открыт после ремонта" || a.Lang != "ru" || a.Source != "https://vesti.example/a/31415.html" ||
		a.Lead != "Движение по мосту возобновили на две недели раньше срока." || !a.Date.Equal(time.Date(2022, 5, 6, 7, 0, 0, 0, time.UTC)) {
		t.Errorf("got %q %s %s %q %v", a.Title, a.Lang, a.Source, a.Lead, a.Date)
	}
	text := safehtml.Text(a.Body)
	for _, s := range []string{"в понедельник утром", "с коляской", "двадцати тонн", "паводки", "Мост в день открытия"} {
		if !strings.Contains(text, s) {
			t.Errorf("%q is missing in %s", s, text)
		}
	}
	for _, s := range []string{"Код скопирован", "Читайте", "Наконец-то", "Все права", "Главная", "onload"} {
		if strings.Contains(a.Body, s) {
			t.Errorf("%q is left in %s", s, a.Body)
		}
	}
	if len(a.Images) != 1 || a.Images[0].Width != 1024 || a.Images[0].Height != 102 || a.Images[0].Alt != "Мост утром" || !strings.Contains(a.Body, `<img src="image:0" alt="Мост утром"/>`) {
		t.Errorf("%d images in %s", len(a.Images), a.Body)
	}
	if len(warnings) != 0 {
		t.Errorf("warnings %v", warnings)
	}
}

func TestCharsets(t *testing.T) {
	ru := "Река вышла из берегов\n\nНочью вода поднялась на два метра, и нижнюю дорогу закрыли до понедельника, сообщили спасатели. Жителей трёх улиц переселили в школу."
	fa := "آب رودخانه بالا آمد\n\nآب رودخانه دیشب دو متر بالا آمد و جاده پایین تا روز دوشنبه بسته است. مردم سه خیابان به مدرسه برده شدند و کسی آسیب ندید."
	zh := "河水上涨\n\n昨夜河水上涨两米，下游道路封闭到星期一，三条街的居民被转移到学校，没有人员受伤。消防队说，水位将在周末以前回落。"
	page := func(charset, text string) string {
		title, body, _ := strings.Cut(text, "\n\n")
		return `<html><head><meta http-equiv="Content-Type" content="text/html; charset=` + charset + `"><title>` + title + `</title></head><body><article><h1>` + title + `</h1><p>` + body + `</p><p>` + body + `</p></article></body></html>`
	}
	// windows-1256 lacks Persian's own ye and kaf; pages in it used the Arabic ones.
	fa1256 := strings.NewReplacer("ی", "ي", "ک", "ك").Replace(fa)
	for _, c := range []struct {
		name, file, text, want string
		enc                    encoding.Encoding
		lang                   string
	}{
		{"windows-1251", "a.txt", ru, ru, charmap.Windows1251, "ru"},
		{"koi8-r", "a.txt", ru, ru, charmap.KOI8R, "ru"},
		{"windows-1256", "a.txt", fa1256, fa1256, charmap.Windows1256, ""},
		{"gb18030", "a.txt", zh, zh, simplifiedchinese.GB18030, "zh"},
		{"utf-16 with bom", "a.txt", ru, ru, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "ru"},
		{"utf-16be with bom", "a.txt", zh, zh, unicode.UTF16(unicode.BigEndian, unicode.UseBOM), "zh"},
		{"utf-16 without bom", "a.txt", ru, ru, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), "ru"},
		{"utf-8 with bom", "a.txt", "\ufeff" + fa, fa, encoding.Nop, "fa"},
		{"decomposed", "a.txt", strings.ReplaceAll(ru, "ё", "е\u0308"), ru, encoding.Nop, "ru"},
		{"meta windows-1251", "a.html", page("windows-1251", ru), ru, charmap.Windows1251, "ru"},
		{"meta gbk", "a.htm", page("gb2312", zh), zh, simplifiedchinese.GBK, "zh"},
		{"meta windows-1256", "a.html", page("windows-1256", fa1256), fa1256, charmap.Windows1256, ""},
		{"a meta that lies", "a.html", page("iso-8859-1", ru), ru, encoding.Nop, "ru"},
		{"a page without meta", "a.html", strings.ReplaceAll(page("x", ru), "charset=x", ""), ru, charmap.Windows1251, "ru"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := c.enc.NewEncoder().String(c.text)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := readOne(t, fixed, write(t, c.file, raw))
			title, body, _ := strings.Cut(c.want, "\n\n")
			if a.Title != title || !strings.Contains(safehtml.Text(a.Body), body) {
				t.Errorf("title %q, text %q", a.Title, safehtml.Text(a.Body))
			}
			if c.lang != "" && a.Lang != c.lang {
				t.Errorf("language %q, want %q", a.Lang, c.lang)
			}
		})
	}
}

func TestSniffing(t *testing.T) {
	story := "River rises\n\nThe river rose by two metres overnight and the lower road is closed until Monday."
	for _, c := range []struct{ name, text string }{
		{"page.txt", page}, {"story.html", story}, {"story", story}, {"front.txt", "---\ntitle: Top\n---\nWords here."}, {"feed.txt", rssFeed}, {"feed.html", atomFeed}, {"feed.md", jsonFeedText},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := Read(context.Background(), fixed, write(t, c.name, c.text))
			if err != nil || len(got) == 0 || strings.ContainsAny(got[0].Title, "<{") {
				t.Errorf("%d articles, %v", len(got), err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"x.pdf", "%PDF-1.7 …", "can't read PDF; give .md, .html, .txt, a feed or a folder"},
		{"x.docx", "PK\x03\x04abc", "can't read an office document or zip archive"},
		{"x.txt", "%PDF-1.7 …", "can't read PDF"},
		{"x.txt", "", "empty file"},
		{"x.txt", "a\x00b\x01\x00\x02", "binary"},
		{"x.csv", "a,b\n1,2\n", "can't read csv"},
		{"x.png", "\x89PNG\r\n", "a picture alone"},
		{"x.xml", "<note><to>you</to></note>", "not a feed"},
		{"x.json", `{"a":1}`, "not a feed"},
		{"x.xml", "temporarily", "not a feed"},
		{"x.rss", `<?xml version="1.0"?><rss version="2.0"><channel><title>cut`, ""},
		{"x.html", "<!doctype html><title>x</title><body><script>1</script></body>", "article"},
	} {
		got, warnings, err := Read(context.Background(), fixed, write(t, c.name, c.text))
		if c.want == "" { // no panic, no article
			if len(got) > 0 || err == nil && len(warnings) == 0 {
				t.Errorf("%s: %d articles, %v", c.name, len(got), err)
			}
			continue
		}
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %d articles, error %v, want one line with %q", c.name, len(got), err, c.want)
		}
	}
	for _, c := range []struct {
		source string
		is     error
		want   string
	}{
		{filepath.Join(t.TempDir(), "missing.md"), os.ErrNotExist, "check the spelling"},
		{t.TempDir(), ErrNoArticles, "no articles"},
		{"https://a.example/feed", ErrNoClient, "give a file"},
		{"ftp://a.example/feed", nil, "http or https"},
		{"gopher://a.example", nil, "http or https"},
	} {
		_, _, err := Read(context.Background(), fixed, c.source)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.source, err, c.want)
		}
	}
	if _, _, err := Read(context.Background(), fixed); err == nil {
		t.Error("no sources, no error")
	}
	big := write(t, "big.txt", "")
	if err := os.Truncate(big, MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(context.Background(), fixed, big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file over the limit: %v", err)
	}
	for _, c := range []struct {
		name string
		n    int
	}{{"long.txt", 45_000}, {"long.md", 21_000}} {
		if _, _, err := Read(context.Background(), fixed, write(t, c.name, "Title\n\n"+strings.Repeat("A sentence that is repeated very often in this file. ", c.n))); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s, a text over 1 MiB: %v", c.name, err)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	outside := write(t, "secret.md", "# Outside\n\nMust not be read.")
	for name, text := range map[string]string{
		"b.md": "# B\n\nSecond.", "a.md": "# A\n\nFirst.", "sub/c.md": "# C\n\nThird. ![x](../pic.png) ![y](../../../etc/passwd)",
		".hidden.md": "# H\n\nHidden.", ".git/d.md": "# D\n\nHidden.", "x.pdf": "%PDF-1", "notes.css": "p{}",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pic.png"), testPNG(t, 64, 48), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.md")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "linkdir")); err != nil {
		t.Fatal(err)
	}
	got, warnings, err := Read(context.Background(), fixed, dir)
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, a := range got {
		sound(t, a)
		titles = append(titles, a.Title)
	}
	if !slices.Equal(titles, []string{"A", "B", "C"}) {
		t.Errorf("articles %v", titles)
	}
	if len(got[2].Images) != 1 {
		t.Errorf("%d images, want the one inside the folder", len(got[2].Images))
	}
	var about []string
	for _, w := range warnings {
		about = append(about, filepath.Base(w.Source))
	}
	slices.Sort(about)
	if want := []string{"c.md", "link.md", "linkdir", "x.pdf"}; !slices.Equal(about, want) {
		t.Errorf("warnings about %v, want %v: %v", about, want, warnings)
	}

	limited := fixed
	limited.MaxArticles = 2
	got, warnings, err = Read(context.Background(), limited, dir, dir)
	if err != nil || len(got) != 2 || !slices.ContainsFunc(warnings, func(w Warning) bool { return errors.Is(w.Err, ErrTooLarge) }) {
		t.Errorf("limit of 2: %d articles, %v, %v", len(got), warnings, err)
	}

	// One bad source doesn't take the others along.
	got, _, err = Read(context.Background(), fixed, filepath.Join(dir, "x.pdf"), filepath.Join(dir, "a.md"), filepath.Join(dir, "none"))
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "PDF") || !strings.Contains(err.Error(), "none") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%d articles, %v", len(got), err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, _, err := Read(ctx, fixed, dir); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("cancelled: %d articles, %v", len(got), err)
	}
}

func TestIdentity(t *testing.T) {
	id := func(source string) string {
		a, _ := readOne(t, fixed, write(t, "a.md", "---\nsource: "+source+"\n---\n# T\n\nWords."))
		return a.ID
	}
	first := id("https://a.example/story/1")
	for _, same := range []string{"http://www.a.example/story/1#c", "https://A.example:443/story/1?utm_campaign=x"} {
		if id(same) != first {
			t.Errorf("%s is taken for another story", same)
		}
	}
	for _, other := range []string{"https://a.example/story/2", "https://b.example/story/1", "https://a.example/story/1?page=2"} {
		if id(other) == first {
			t.Errorf("%s is taken for the same story", other)
		}
	}
	path := write(t, "s.md", "# One\n\nWords.")
	before, _ := readOne(t, fixed, path)
	if err := os.Chtimes(path, time.Now(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	touched, _ := readOne(t, fixed, path)
	if Fingerprint(before) != Fingerprint(touched) || before.ID != touched.ID {
		t.Error("a touched file counts as changed")
	}
	if err := os.WriteFile(path, []byte("# One\n\nOther words."), 0o600); err != nil {
		t.Fatal(err)
	}
	corrected, _ := readOne(t, fixed, path)
	if corrected.ID != before.ID || Fingerprint(corrected) == Fingerprint(before) {
		t.Error("a corrected file has another ID, or the same fingerprint")
	}
	with := before
	with.Images = []bundle.Image{{Type: "image/webp", Data: []byte("x")}}
	if Fingerprint(with) == Fingerprint(before) {
		t.Error("a new picture doesn't count as a change")
	}
}

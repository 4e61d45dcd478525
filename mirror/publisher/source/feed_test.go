package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/safehtml"
)

const rssFeed = `<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:media="http://search.yahoo.com/mrss/"><channel>
<title>District News</title><link>https://news.example/</link><language>en-us</language>
<item><title>Dam &amp;amp; road reopened</title><link>/a/1.html?utm_source=rss</link><pubDate>Thu, 01 Aug 2019 10:20:30 +0300</pubDate>
<description>Short text of the item.</description>
<content:encoded><![CDATA[<p>The dam and the road over it were reopened on Thursday.</p><p><img src="/pic/one_w250_r1.png" alt="The dam"> Traffic is light.</p><script>x()</script>]]></content:encoded></item>
<item><title>Only a description</title><link>https://news.example/a/2.html</link><description>First part.

Second part &amp; more of it.</description><enclosure url="https://news.example/pic/two.png" type="image/png" length="1"/></item>
<item><title>Nothing inside</title><link>https://news.example/a/3.html</link></item>
<item><title>No link</title><guid isPermaLink="false">tag:news.example,2019:4</guid><description>Words without an address.</description></item>
</channel></rss>`

const atomFeed = `<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xml:lang="fa"><title>خبرها</title><id>urn:x</id><updated>2020-01-02T03:04:05Z</updated>
<entry><title>آب به قنات بازگشت</title><id>urn:y</id><link href="https://khabar.example/1"/><updated>2020-01-02T03:04:05Z</updated><content type="html">&lt;p&gt;آب پس از سی سال به قنات روستا بازگشت و باغ‌ها سیراب شدند.&lt;/p&gt;</content></entry></feed>`

// jsonFeedText has more than 4 KiB, so that looking at its beginning isn't enough.
var jsonFeedText = func() string {
	var items []string
	for i := range 40 {
		items = append(items, fmt.Sprintf(`{"id":"%d","url":"https://news.example/j/%d","title":"Новость дня","content_html":"<p>Дорогу вдоль реки открыли после ремонта, сообщили в управлении.</p>","date_published":"2021-02-03T04:05:06Z"}`, i, i))
	}
	return `{"version":"https://jsonfeed.org/version/1.1","title":"News","language":"ru","items":[` + strings.Join(items, ",") + `]}`
}()

func testPNG(t testing.TB, w, h int) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{uint8(x), uint8(y), 90, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fixCRC mends the checksum of a PNG's header after it was changed.
func fixCRC(png []byte) {
	binary.BigEndian.PutUint32(png[29:], crc32.ChecksumIEEE(png[12:29]))
}

func TestFeedFiles(t *testing.T) {
	got, warnings, err := Read(context.Background(), fixed, write(t, "feed.xml", rssFeed))
	if err != nil || len(got) != 3 {
		t.Fatalf("%d articles, %v", len(got), err)
	}
	for _, a := range got {
		sound(t, a)
	}
	a := got[0]
	if a.Title != "Dam & road reopened" || a.Lead != "Short text of the item." || a.Lang != "en-US" || !a.Date.Equal(time.Date(2019, 8, 1, 7, 20, 30, 0, time.UTC)) {
		t.Errorf("got %+v", a)
	}
	if text := safehtml.Text(a.Body); !strings.Contains(text, "reopened on Thursday") || !strings.Contains(text, "Traffic") || strings.Contains(text, "x()") {
		t.Errorf("text %q", text)
	}
	if text := safehtml.Text(got[1].Body); text != "First part.\n\nSecond part & more of it." {
		t.Errorf("text %q", text)
	}
	if len(warnings) == 0 || !strings.Contains(fmt.Sprint(warnings), "item 3") {
		t.Errorf("warnings %v", warnings)
	}

	got, _, err = Read(context.Background(), fixed, write(t, "feed.json", jsonFeedText))
	if err != nil || len(got) != 40 || got[0].Lang != "ru" || got[0].Source != "https://news.example/j/0" {
		t.Errorf("JSON feed: %d articles, %v", len(got), err)
	}
	b, _ := readOne(t, fixed, write(t, "feed.atom", atomFeed))
	if b.Lang != "fa" || b.Dir != "rtl" || b.Title != "آب به قنات بازگشت" {
		t.Errorf("Atom feed: %+v", b)
	}
	cp1251 := "<?xml version=\"1.0\" encoding=\"windows-1251\"?><rss version=\"2.0\"><channel><title>x</title><item><title>\xc4\xee\xf0\xee\xe3\xe0</title><link>https://a.example/1</link><description>\xc4\xee\xf0\xee\xe3\xf3 \xee\xf2\xea\xf0\xfb\xeb\xe8.</description></item></channel></rss>"
	c, _ := readOne(t, fixed, write(t, "feed.rss", cp1251))
	if c.Title != "Дорога" || c.Body != "<p>Дорогу открыли.</p>" {
		t.Errorf("windows-1251 feed: %+v", c)
	}
	empty := strings.Split(rssFeed, "<item>")[0] + "</channel></rss>"
	got, warnings, err = Read(context.Background(), fixed, write(t, "feed.xml", empty))
	if err != nil || len(got) != 0 || len(warnings) != 1 {
		t.Errorf("empty feed: %d articles, %v, %v", len(got), warnings, err)
	}
}

func TestFeedURL(t *testing.T) {
	wide := 0
	mux := http.NewServeMux()
	answer := func(path, kind string, body []byte) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Write(body)
		})
	}
	answer("/feed", "application/rss+xml", []byte(rssFeed))
	answer("/short", "application/rss+xml", []byte("unavailable"))
	answer("/rubbish", "application/rss+xml", []byte("temporarily out of news"))
	answer("/page", "text/html", []byte(page))
	answer("/none", "application/rss+xml", nil)
	answer("/huge", "application/rss+xml", bytes.Repeat([]byte("<rss>"), (MaxFile/5)+10))
	mux.HandleFunc("/pic/", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "_w1023_") {
			wide++
		}
		w.Write(testPNG(t, 80, 60))
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/feed", http.StatusFound) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	o := fixed
	o.Client = srv.Client()

	for _, path := range []string{"/feed", "/moved"} {
		got, _, err := Read(context.Background(), o, srv.URL+path)
		if err != nil || len(got) != 3 {
			t.Fatalf("%s: %d articles, %v", path, len(got), err)
		}
		if got[0].Source != srv.URL+"/a/1.html" || len(got[0].Images) != 1 || got[0].Images[0].Alt != "The dam" {
			t.Errorf("source %q, %d images", got[0].Source, len(got[0].Images))
		}
	}
	if wide != 2 {
		t.Errorf("%d pictures were asked for in the size needed, want 2", wide)
	}
	for path, want := range map[string]string{
		"/short": "11 bytes", "/rubbish": "not a feed", "/page": "web page", "/none": "0 bytes", "/huge": "too large",
		"/gone": "404", "/loop": "too many redirects", "/file": "not https",
	} {
		got, _, err := Read(context.Background(), o, srv.URL+path+"?token=hush")
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %d articles, %v; want one line with %q and no token", path, len(got), err, want)
		}
	}
	if _, _, err := Read(context.Background(), o, srv.URL+"/rubbish"); !errors.Is(err, ErrNotFeed) {
		t.Errorf("rubbish: %v", err)
	}
	none := o
	none.NoImages = true
	if got, _, err := Read(context.Background(), none, srv.URL+"/feed"); err != nil || len(got[0].Images) != 0 {
		t.Errorf("without images: %v", err)
	}
}

func TestImages(t *testing.T) {
	jpg := func(w, h, turn int) []byte {
		m := image.NewRGBA(image.Rect(0, 0, w, h))
		for y := range h { // left half red, right half blue
			for x := range w {
				c := color.RGBA{220, 20, 20, 255}
				if x >= w/2 {
					c = color.RGBA{20, 20, 220, 255}
				}
				m.Set(x, y, c)
			}
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, m, nil); err != nil {
			t.Fatal(err)
		}
		exif := []byte("Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(rune(turn)) + "\x00\x00GPS 12.34 secret")
		seg := append([]byte{0xFF, 0xE1, 0, byte(len(exif) + 2)}, exif...)
		return append(append([]byte{0xFF, 0xD8}, seg...), b.Bytes()[2:]...)
	}
	img, err := convert(jpg(2048, 256, 1))
	if err != nil || img.Width != 1024 || img.Height != 128 || img.Type != "image/webp" || bytes.Contains(img.Data, []byte("secret")) {
		t.Errorf("JPEG: %v %d×%d %s", err, img.Width, img.Height, img.Type)
	}
	img, err = convert(jpg(128, 2048, 6))
	if err != nil || img.Width != 1024 || img.Height != 64 {
		t.Errorf("turned JPEG: %v %d×%d, want 1024×64", err, img.Width, img.Height)
	}
	// Red stood left; the camera was turned so that left is up (6) or down (8).
	for turn, redUp := range map[int]bool{6: true, 8: false} {
		src, _, err := image.Decode(bytes.NewReader(jpg(200, 100, turn)))
		if err != nil {
			t.Fatal(err)
		}
		m := upright(shrink(src, true), orientation(jpg(200, 100, turn)))
		if r, _, b, _ := m.At(50, 10).RGBA(); (r > b) != redUp {
			t.Errorf("orientation %d: red on top %t, want %t", turn, r > b, redUp)
		}
	}
	var g bytes.Buffer
	if err := gif.Encode(&g, image.NewPaletted(image.Rect(0, 0, 40, 40), color.Palette{color.Black, color.White}), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := convert(g.Bytes()); err != nil {
		t.Errorf("GIF: %v", err)
	}
	if _, err := convert(img.Data); err != nil {
		t.Errorf("WebP: %v", err)
	}
	// A PNG header of 60,000 × 60,000 pixels: refused before allocation.
	bomb := bytes.Clone(testPNG(t, 30, 30))
	copy(bomb[16:24], []byte{0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60})
	fixCRC(bomb)
	if _, err := convert(bomb); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a picture of 3.6 gigapixels: %v", err)
	}
	if _, err := convert(testPNG(t, 1, 1)); !errors.Is(err, errTiny) {
		t.Errorf("a tracking pixel: %v", err)
	}
	for _, bad := range [][]byte{nil, []byte("GIF89a"), testPNG(t, 50, 50)[:60], jpg(50, 50, 1)[:300]} {
		if _, err := convert(bad); err == nil {
			t.Errorf("%d damaged bytes became a picture", len(bad))
		}
	}

	dir := t.TempDir()
	text := "River rises\n\nThe river rose by two metres overnight and the lower road is closed until Monday."
	for name, data := range map[string][]byte{
		"flood.txt": []byte(text), "flood.png": testPNG(t, 64, 64), "flood-2.jpg": jpg(64, 64, 1), "flooding.png": testPNG(t, 64, 64),
		"inline.md": []byte("# T\n\n![d](data:image/png;base64," + base64.StdEncoding.EncodeToString(testPNG(t, 32, 32)) + ") ![w](https://a.example/x.png) ![same](flood.png) ![same](flood.png) ![abs](/etc/x.png) ![gone](gone.png)"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, warnings, err := Read(context.Background(), fixed, dir)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d articles, %v", len(got), err)
	}
	for _, a := range got {
		sound(t, a)
	}
	if len(got[0].Images) != 2 || !strings.HasPrefix(got[0].Body, `<figure><img src="image:`) {
		t.Errorf("flood.txt has %d images: %s", len(got[0].Images), got[0].Body)
	}
	if len(got[1].Images) != 2 || strings.Count(got[1].Body, `src="image:1"`) != 2 {
		t.Errorf("inline.md has %d images: %s", len(got[1].Images), got[1].Body)
	}
	if len(warnings) != 3 {
		t.Errorf("%d warnings, want 3 (on the web, outside, gone): %v", len(warnings), warnings)
	}
}

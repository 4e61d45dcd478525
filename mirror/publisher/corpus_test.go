package publisher

import (
	"bytes"
	"encoding/gob"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/publisher/source"
)

// The news that sizes are measured with: the pages that the readability module tests
// itself with, real ones of many sites and languages, read by our own importer from
// the module cache; nothing of them is kept here. They are long ones, and few, so
// they are cut at paragraphs into articles of a few kilobytes, no sentence twice, and
// shuffled over the days: those of some pages over the first trainedAfter, those of the
// others over the rest. Photos are made by formula and go through the importer as well.

const (
	days          = 20
	textsADay     = 40
	photosADay    = 10
	pieceBytes    = 1600 // of HTML, about
	pieceMost     = 32 << 10
	corpusStarted = 1_750_000_000
)

// dayOf is when day n's edition is packed.
func dayOf(n int) time.Time { return time.Unix(corpusStarted+int64(n)*86_400, 0).UTC() }

// corpusFile spares a second run the minute that preparing takes.
var corpusFile = flag.String("corpus", "", "a file to keep the prepared articles in for later runs of DaysBeside and OpenBeside")

// readCorpus returns the articles of each day.
func readCorpus(t testing.TB) (out [][]bundle.Article) {
	t.Helper()
	if f, err := os.Open(*corpusFile); err == nil {
		defer f.Close()
		if err := gob.NewDecoder(f).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	out = makeCorpus(t)
	if *corpusFile != "" {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(out); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*corpusFile, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func makeCorpus(t testing.TB) (out [][]bundle.Article) {
	t.Helper()
	return withPhotos(readTexts(t), readPhotos(t, days*photosADay))
}

// readTexts are the articles of each day, without pictures.
func readTexts(t testing.TB) (out [][]bundle.Article) {
	t.Helper()
	var pages [][]bundle.Article
	seen := map[string]bool{}
	for _, path := range readabilityPages(t) {
		got, _, err := source.Read(t.Context(), source.Options{Now: func() time.Time { return dayOf(0) }}, path)
		if err != nil {
			continue // some hold nothing to read
		}
		var page []bundle.Article
		for _, a := range got {
			a.Images = nil
			page = append(page, cut(t, a)...)
		}
		again := false // some pages are there twice
		for _, a := range page {
			again = again || seen[a.Body]
			seen[a.Body] = true
		}
		if !again && len(page) > 0 {
			pages = append(pages, page)
		}
	}
	// What a dictionary is trained on, and what it is measured with, have no page in
	// common: it would know that page's words and turns.
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(pages), func(i, j int) { pages[i], pages[j] = pages[j], pages[i] })
	var pieces []bundle.Article
	for _, n := range []int{trainedAfter * textsADay, (days - trainedAfter) * textsADay} {
		var part []bundle.Article
		for len(part) < n && len(pages) > 0 {
			part, pages = append(part, pages[0]...), pages[1:]
		}
		if len(part) < n {
			t.Fatalf("the pages gave %d articles instead of at least %d", len(part), n)
		}
		r.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		pieces = append(pieces, part[:n]...)
	}
	for d := range days {
		day := pieces[d*textsADay : (d+1)*textsADay]
		for i := range day {
			day[i].Date = dayOf(d).Add(-time.Duration(i+1) * 20 * time.Minute)
			day[i].ID = fmt.Sprintf("%016x", r.Uint64())
			day[i].Source = fmt.Sprintf("https://news.example/%d/%s", day[i].Date.Year(), day[i].ID[:6])
		}
		out = append(out, day)
	}
	return out
}

func withPhotos(out [][]bundle.Article, photos []bundle.Image) [][]bundle.Article {
	for i, p := range photos {
		a := &out[i/photosADay][i%photosADay*textsADay/photosADay]
		a.Images = []bundle.Image{p}
		a.Body = `<p><img src="image:0" alt="` + p.Alt + `"/></p>` + a.Body
	}
	return out
}

func readabilityPages(t testing.TB) []string {
	t.Helper()
	const module = "codeberg.org/readeck/go-readability/v2"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Skipf("the module cache doesn't hold the files of %s: %v", module, err)
	}
	pages, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(out)), "test-pages", "*", "source.html"))
	if err != nil || len(pages) < 100 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	return pages
}

// cut makes several articles of a long one. What is too short for one is left out, and
// what is too long and has no paragraphs: one page is a table of 187 kB, which would be
// most of its day.
func cut(t testing.TB, a bundle.Article) (out []bundle.Article) {
	t.Helper()
	nodes, err := html.ParseFragment(strings.NewReader(a.Body), &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body})
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	blocks := blocksOf(t, nodes)
	for i, block := range blocks {
		body.WriteString(block)
		if body.Len() < pieceBytes && (i < len(blocks)-1 || body.Len() < pieceBytes/2) {
			continue
		}
		if body.Len() > pieceMost {
			body.Reset()
			continue
		}
		p := a
		p.Title = title(a.Title, len(out)+1)
		p.Body = safehtml.Sanitize(body.String())
		p.Lead = lead(safehtml.Text(p.Body))
		out = append(out, p)
		body.Reset()
	}
	return out
}

// blocksOf renders the paragraphs of a body, those of long sections one by one.
func blocksOf(t testing.TB, nodes []*html.Node) (out []string) {
	t.Helper()
	for _, n := range nodes {
		var b strings.Builder
		if err := html.Render(&b, n); err != nil {
			t.Fatal(err)
		}
		section := n.DataAtom == atom.Div || n.DataAtom == atom.Section || n.DataAtom == atom.Article
		if b.Len() > pieceBytes && section {
			out = append(out, blocksOf(t, slices.Collect(n.ChildNodes()))...)
			continue
		}
		out = append(out, b.String())
	}
	return out
}

func title(s string, part int) string {
	if part == 1 {
		return s
	}
	r := []rune(s)
	return string(r[:min(len(r), 60)]) + fmt.Sprintf(" (%d)", part)
}

// lead is the beginning of a text, as a feed's description would have it.
func lead(text string) string {
	line := []rune(strings.Join(strings.Fields(text), " "))
	return string(line[:min(len(line), 120)])
}

// readPhotos makes n photos, 640 pixels wide, and has the importer read them.
func readPhotos(t testing.TB, n int) (out []bundle.Image) {
	t.Helper()
	dir := t.TempDir()
	var md strings.Builder
	for i := range n {
		name := fmt.Sprintf("photo%d.jpg", i)
		if err := os.WriteFile(filepath.Join(dir, name), photo(t, uint64(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		md.Reset()
		fmt.Fprintf(&md, "# Photo %d\n\nWhat can be seen on it.\n\n![Photo %d](%s)\n", i, i, name)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.md", i)), []byte(md.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, _, err := source.Read(t.Context(), source.Options{Lang: "en", MaxArticles: n}, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range got {
		out = append(out, a.Images...)
	}
	if len(out) != n {
		t.Fatalf("%d photos of %d", len(out), n)
	}
	return out
}

// photo is a JPEG of hills under a sky: noise of several octaves, as landscapes have
// it, and a grain as of a sensor.
func photo(t testing.TB, seed uint64) []byte {
	t.Helper()
	const w, h = 640, 427
	r := rand.New(rand.NewPCG(seed, 7))
	var grid [4][64 * 64]float64
	for o := range grid {
		for i := range grid[o] {
			grid[o][i] = r.Float64()
		}
	}
	at := func(o int, x, y float64) float64 {
		xi, yi := int(x), int(y)
		fx, fy := x-float64(xi), y-float64(yi)
		v := func(x, y int) float64 { return grid[o][(y&63)*64+x&63] }
		top := v(xi, yi)*(1-fx) + v(xi+1, yi)*fx
		return top*(1-fy) + (v(xi, yi+1)*(1-fx)+v(xi+1, yi+1)*fx)*fy
	}
	tone := [3]float64{0.6 + r.Float64()*0.4, 0.6 + r.Float64()*0.4, 0.6 + r.Float64()*0.4}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			s, sum := 0.0, 0.0
			for o := range grid {
				f := math.Exp2(float64(o)) / 64
				s += at(o, float64(x)*f, float64(y)*f) / math.Exp2(float64(o))
				sum += 1 / math.Exp2(float64(o))
			}
			s /= sum
			if horizon := at(0, float64(x)/200, 0)*0.3 + 0.25; float64(y)/h < horizon {
				s = 0.75 + 0.25*float64(y)/h + s*0.1
			}
			grain := (r.Float64() - 0.5) * 0.25
			var c [3]uint8
			for i := range c {
				c[i] = uint8(255 * min(1, max(0, s*tone[i]+grain)))
			}
			img.Set(x, y, color.RGBA{c[0], c[1], c[2], 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 92}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

package library

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// big makes a library of 20,000 articles of about 300 words over a vocabulary of
// 20,000 words of 2 to 10 letters in which, as in a language, few are frequent.
func big(b *testing.B) (string, *Library) {
	b.Helper()
	dir := b.TempDir()
	l := open(b, dir, "")
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 8, 20_000)
	text := func(n int) string {
		var s strings.Builder
		for range n {
			s.WriteString(nth(zipf.Uint64()) + " ")
		}
		return s.String()
	}
	for ed := range 200 {
		f := &bundle.Front{Channel: chA, Edition: uint64(ed)}
		for i := range 100 {
			f.Articles = append(f.Articles, bundle.Entry{
				ID: fmt.Sprintf("%016x", ed*100+i), Title: text(8), Lead: text(20),
				Lang: "ru", Dir: "ltr", Edition: uint64(ed), Date: time.Unix(int64(1_700_000_000+ed*86_400+i), 0),
			})
		}
		if err := l.SetFront(b.Context(), chA, f); err != nil {
			b.Fatal(err)
		}
		for _, e := range f.Articles {
			if err := l.IndexText(b.Context(), chA, e.ID, text(300)); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir, l
}

// nth returns the same made-up word for the same number.
func nth(n uint64) string {
	r := rand.New(rand.NewPCG(n, 3))
	w := make([]rune, 2+r.IntN(9))
	for i := range w {
		w[i] = 'а' + r.Int32N(32)
	}
	return string(w)
}

func Benchmark20000(b *testing.B) {
	dir, l := big(b)
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			if n := len(titles(b, l, Query{Limit: 40})); n != 40 {
				b.Fatal(n)
			}
		}
	})
	for name, q := range map[string]string{
		"rare": nth(19_321), "frequent": nth(0), "two frequent": nth(1) + " " + nth(22), "short prefix": "сто", "none": "нетникогда",
	} {
		b.Run("search "+name, func(b *testing.B) {
			for b.Loop() {
				titles(b, l, Query{Search: q, Limit: 40})
			}
		})
	}
	b.Run("page after unlocking", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			_ = l.Close()
			b.StartTimer()
			l = open(b, dir, "")
			titles(b, l, Query{Limit: 40})
		}
	})
}

func BenchmarkPutBlocks(b *testing.B) {
	l := open(b, b.TempDir(), "")
	data := make([]byte, 65_552)
	n := 0
	b.SetBytes(32 * 65_552)
	for b.Loop() {
		var bs []bundle.Checked
		for range 32 {
			n++
			copy(data, fmt.Sprint(n))
			d := append([]byte(nil), data...)
			bs = append(bs, checked(b, transport.Block{CID: rawCID(d), Data: d})...)
		}
		if err := l.PutBlocks(b.Context(), chA, 1, bs); err != nil {
			b.Fatal(err)
		}
	}
}

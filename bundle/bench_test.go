package bundle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
)

// day is a day's edition: 40 texts of some 2 KB and 10 photos of 80 KB.
func day() Input {
	in := Input{Channel: channel.ID{7}, Name: "Radio", Langs: []string{"ru"}, Key: channel.EpochKey{9}, RootVersion: 1, Date: time.Unix(1_700_100_000, 0)}
	for i := range 40 {
		a := article(i)
		var b strings.Builder
		for j := range 8 {
			fmt.Fprintf(&b, "<p>Абзац %d статьи %d: %x, и ещё несколько обычных слов, которые повторяются.</p>", j, i, noise(uint64(i*8+j), 40))
		}
		a.Body = b.String()
		if i%4 == 0 {
			a.Images = []Image{{Type: "image/webp", Width: 1024, Height: 683, Data: noise(uint64(1000+i), 80_000)}}
		}
		in.Articles = append(in.Articles, a)
	}
	return in
}

func BenchmarkPackDay(b *testing.B) {
	in := day()
	for b.Loop() {
		if _, err := Pack(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenFront(b *testing.B) {
	in := day()
	p, err := Pack(in)
	if err != nil {
		b.Fatal(err)
	}
	v := volume(in, p, blocksOf(p))
	for b.Loop() {
		if _, err := v.Front(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenAllTexts(b *testing.B) {
	in := day()
	p, err := Pack(in)
	if err != nil {
		b.Fatal(err)
	}
	v := volume(in, p, blocksOf(p))
	for b.Loop() {
		for i := range p.Front.Articles {
			if _, err := v.Article(&p.Front.Articles[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

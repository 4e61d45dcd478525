package censorlab

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"tamizdat/bundle"
)

// A world's channel: so many editions lie behind its newest one, its front page
// holds so many headlines (about 8 KiB).
const (
	editions  = 3
	headlines = 24
)

var langs = []string{"en", "ru", "fa", "zh"}

var stories = []struct{ lang, dir, title, lead, body string }{
	{"en", "ltr", "The night train keeps its timetable (%s)", "Nobody had expected it after the flood.", "The stationmaster wrote the times on the wall in chalk and stood beside them until the last carriage had left. "},
	{"ru", "ltr", "На площади снова читают вслух (%s)", "Книги приносят из дома.", "Сначала пришли трое, потом двор, а к вечеру стульев уже не хватало, и люди слушали стоя. "},
	{"fa", "rtl", "نانوایی محله دوباره باز شد (%s)", "صف از سپیده‌دم شکل گرفت.", "نانوا گفت آرد کم است اما تا ظهر برای همه نان هست و کسی دست خالی نمی‌رود. "},
	{"zh", "ltr", "老桥重新通行(%s)", "修桥的人来自河两岸。", "第一天过桥的大多是老人，他们走得很慢，在桥中间停下来看水。"},
}

// News is what edition n says: eight articles, two of them with a picture, all
// from the hours before now.
func News(n int, now time.Time) []bundle.Article {
	var out []bundle.Article
	for i := range 8 {
		s := stories[i%len(stories)]
		mark := fmt.Sprintf("%d.%d", n+1, i+1)
		a := bundle.Article{
			ID: fmt.Sprintf("%08x%08x", n, i), Title: fmt.Sprintf(s.title, mark), Lead: s.lead,
			Body: "<p>" + strings.Repeat(s.body, 12+i) + mark + "</p>", Lang: s.lang, Dir: s.dir,
			Date: now.UTC().Add(-time.Duration(i+1) * time.Minute).Truncate(time.Second),
		}
		if i < 2 {
			a.Images = []bundle.Image{{Type: "image/jpeg", Alt: "a square at dusk", Width: 800, Height: 600, Data: noise(uint64(n*16+i), 45_000)}}
		}
		out = append(out, a)
	}
	return out
}

// noise is n bytes that don't compress, as pictures don't.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

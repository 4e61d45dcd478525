package transporttest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"tamizdat/bundle"
)

// stories are what Articles varies. The numbers keep editions apart.
var stories = []struct{ lang, dir, title, lead, body string }{
	{"en", "ltr", "The ferry runs again (%d)", "After nine weeks the crossing is open.", "The first boat left at dawn with forty people and two goats. "},
	{"ru", "ltr", "В школе снова топят (%d)", "Котёл починили за ночь.", "Дети сняли шапки только к третьему уроку, а учитель — к пятому. "},
	{"fa", "rtl", "باران به دشت رسید (%d)", "کشاورزان می‌گویند به‌موقع بود.", "رودخانه پس از سه سال دوباره تا پل بالا آمد و کودکان به تماشا رفتند. "},
	{"zh", "ltr", "山路修通了(%d)", "货车不用再绕行。", "清晨第一辆车开过时，路边的人都停下来看。"},
}

// Articles are the news of edition n: one in each of four languages, the first
// with two pictures that take several blocks. Editions share no article.
func Articles(n int) []bundle.Article {
	var out []bundle.Article
	for i, s := range stories {
		a := bundle.Article{
			ID: fmt.Sprintf("%08x%08x", n, i), Title: fmt.Sprintf(s.title, n), Lead: s.lead,
			Body: "<p>" + strings.Repeat(s.body, 4+n%3) + "</p>", Lang: s.lang, Dir: s.dir,
			Date: Start.Add(time.Duration(n)*time.Hour - time.Duration(i+1)*time.Minute), Source: fmt.Sprintf("https://news.example/%d/%d", n, i),
		}
		if i == 0 {
			for j, size := range []int{90_000, 150_000} {
				a.Images = append(a.Images, bundle.Image{
					Type: "image/jpeg", Alt: "the landing stage", Width: 900, Height: 600, Data: Noise(uint64(n*10+j), size),
				})
			}
		}
		out = append(out, a)
	}
	return out
}

// Long is an article whose text alone takes several blocks.
func Long(n int) bundle.Article {
	a := Brief(n)
	a.ID = fmt.Sprintf("%08xffffffff", n)
	a.Title = fmt.Sprintf("All names of the petition (%d)", n)
	a.Body = "<p>" + base64.StdEncoding.EncodeToString(Noise(uint64(n)+9000, 150_000)) + "</p>"
	return a
}

// Brief is one small article without pictures, for long histories.
func Brief(n int) bundle.Article {
	return bundle.Article{
		ID: fmt.Sprintf("%08xeeeeeeee", n), Title: fmt.Sprintf("Prices at the market, day %d", n), Lead: "Onions are dear.",
		Body: fmt.Sprintf("<p>Flour cost %d and salt nothing, since there was none.</p>", 30+n), Lang: "en", Dir: "ltr",
		Date: Start.Add(time.Duration(n)*time.Hour - 30*time.Minute),
	}
}

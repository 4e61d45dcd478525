package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"tamizdat/bundle"
)

// bulletins are what the demo's button publishes, in turn.
var bulletins = []struct{ lang, dir, title, lead, body string }{
	{
		"en", "ltr", "Bulletin %d: packed at %s", "This text did not exist when you threw the switches.",
		"<p>This text did not exist when you threw the switches. A publisher abroad packed it into a new edition, signed it, and pushed it to every target.</p><p>If you can read it, at least one way to you was open. The status page says which.</p>",
	},
	{
		"ru", "ltr", "Сводка %d: упакована в %s", "Когда вы щёлкали переключателями, этого текста ещё не было.",
		"<p>Когда вы щёлкали переключателями, этого текста ещё не было. Издатель за границей собрал новый выпуск, подписал его и разослал по всем направлениям.</p><p>Раз вы это читаете, хотя бы один путь к вам был открыт. Какой именно, видно на странице состояния.</p>",
	},
	{
		"fa", "rtl", "خبرنامهٔ %d: بسته‌بندی در %s", "وقتی کلیدها را زدید، این متن هنوز نوشته نشده بود.",
		"<p>وقتی کلیدها را زدید، این متن هنوز نوشته نشده بود. ناشری در بیرون از کشور شمارهٔ تازه را بست، امضا کرد و به همهٔ مقصدها فرستاد.</p><p>اگر آن را می‌خوانید، دست‌کم یک راه باز بوده است. صفحهٔ وضعیت نشان می‌دهد کدام راه.</p>",
	},
	{
		"zh", "ltr", "快讯第 %d 期：打包于 %s", "您拨动开关的时候，这篇文字还不存在。",
		"<p>您拨动开关的时候，这篇文字还不存在。境外的发布者把它打包成新的一期，签名之后推送到所有目标。</p><p>您能读到它，说明至少有一条路是通的。状态页会告诉您是哪一条。</p>",
	},
}

// bulletin is the n-th new article, counted from 1.
func bulletin(n int, now time.Time) bundle.Article {
	b := bulletins[(n-1)%len(bulletins)]
	id := sha256.Sum256(fmt.Appendf(nil, "bulletin %d", n))
	return bundle.Article{
		ID: hex.EncodeToString(id[:8]), Title: fmt.Sprintf(b.title, n, now.Format(time.TimeOnly)), Lead: b.lead,
		Body: b.body, Lang: b.lang, Dir: b.dir, Date: now.UTC().Truncate(time.Second),
	}
}

package web

import (
	"fmt"
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

var persian = &catalogue{
	tag: "fa", dir: "rtl", name: "فارسی", lang: language.Persian, zero: '۰',
	day: func(t time.Time) string {
		months := [...]string{"فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور", "مهر", "آبان", "آذر", "دی", "بهمن", "اسفند"}
		y, m, d := solarHijri(t)
		return fmt.Sprintf("%d %s %d", d, months[m-1], y)
	},
	spans: map[string]map[plural.Form]string{
		"minute": {plural.Other: "%s دقیقه"}, "hour": {plural.Other: "%s ساعت"}, "day": {plural.Other: "%s روز"},
		"month": {plural.Other: "%s ماه"}, "year": {plural.Other: "%s سال"},
	},
	texts: map[string]string{
		"name": "یادداشت‌ها", "skip": "رفتن به متن", "leave": "خروج", "home": "صفحهٔ اول", "status": "وضعیت", "menu": "صفحه‌ها",
		"interface": "زبان این صفحه", "all": "همه", "languages": "زبان‌ها", "search": "جست‌وجو", "search.do": "پیدا کن",
		"found": "یافته‌ها", "unread": "فقط نخوانده‌ها", "unread.off": "نمایش همه", "new": "تازه", "headline": "فعلاً فقط عنوان",
		"ago": "%s پیش", "now": "همین حالا", "age": "تازه‌ترین شماره: %s پیش", "age.now": "تازه‌ترین شماره: همین حالا",
		"clock":   "به نظر می‌رسد ساعت این دستگاه درست نیست. خبرها با این حال نشان داده می‌شوند، ولی شاید زمانشان دقیق نباشد.",
		"syncing": "در حال جست‌وجوی خبر …", "sync": "همین حالا دنبال خبر بگرد", "next": "قدیمی‌ترها", "first": "بازگشت به تازه‌ترین‌ها",
		"lead": "تازه‌ترین", "rest": "بیشتر", "pictures": "همراه با عکس",
		"bytes": "بایت", "KB": "کیلوبایت", "MB": "مگابایت", "GB": "گیگابایت",

		"empty.nochannel": "هنوز چیزی برای خواندن نیست", "empty.nochannel.text": "این کتابخانه هیچ کانالی را دنبال نمی‌کند. خبرها با دعوت‌نامه می‌آیند: آن را با دستور «mirror add» اضافه کنید و به این‌جا برگردید.",
		"empty.waiting": "هنوز چیزی نرسیده است", "empty.waiting.text": "کانال شناخته شده است؛ خبرها در راه‌اند یا راه‌ها فعلاً بسته‌اند. لازم نیست کاری بکنید: تلاش خودبه‌خود ادامه دارد. هرچه برسد همین‌جا می‌ماند.",
		"empty.nothing": "چیزی پیدا نشد", "empty.nothing.text": "در این دستگاه عنوان یا متنی با این واژه‌ها نیست، یا در این گزینش چیزی نمانده است.", "empty.clear": "نمایش همه",

		"back": "بازگشت به فهرست", "source": "نشانی انتشار", "source.warn": "باز کردن این نشانی شما را به اینترنت آزاد می‌برد. هر کس اتصال شما را زیر نظر دارد آن را می‌بیند.",
		"links": "نشانی‌هایی که در متن آمده‌اند", "picture": "عکس", "picture.missing": "عکس هنوز نرسیده است",
		"pictures.missing": "عکس‌های این مطلب هنوز نرسیده‌اند.", "pictures.fetch": "دریافت عکس‌ها", "pictures.asked": "عکس‌ها در حال دریافت‌اند. کمی بعد صفحه را دوباره باز کنید.",
		"notext": "متن هنوز نرسیده است", "notext.text": "فعلاً فقط عنوان این‌جاست. همین‌که یکی از راه‌ها باز شود، متن هم می‌رسد.",
		"mark.unread": "علامت به‌عنوان نخوانده", "links.warn": "به شکل متن نشان داده شده‌اند تا اشتباهی باز نشوند.",

		"status.title": "وضعیت", "status.channels": "کانال‌ها", "status.paths": "راه‌ها", "status.none": "هنوز هیچ راهی شناخته نشده است.",
		"status.last": "آخرین جست‌وجوی خبر: %s", "status.never": "از زمان شروع برنامه هنوز دنبال خبر نگشته است.",
		"status.blocked": "اکنون هیچ راهی باز نیست. آنچه رسیده همچنان خواندنی است و تلاش خودبه‌خود ادامه دارد.",
		"status.one":     "یک راه باز کافی است: همهٔ راه‌ها همان خبرهای بررسی‌شده را می‌آورند.",
		"edition":        "شماره", "articles": "مطلب‌ها", "unread.count": "نخوانده", "nothing.yet": "هنوز چیزی نرسیده است", "of": "از",
		"path": "راه", "kind": "نوع", "state": "وضعیت", "last": "آخرین دریافت", "brought": "آورده", "never": "هنوز نه",
		"path.working": "باز", "path.blocked": "بسته", "path.resting": "در استراحت", "path.untried": "هنوز آزموده نشده",
		"kind.quic": "رله، QUIC", "kind.tcp": "رله، TCP", "kind.gateway": "درگاه", "kind.ipfs": "IPFS", "kind.dns": "DNS", "kind.file": "فایل",
		"forked": "هشدار: این کانال به خوانندگان مختلف تاریخچه‌های متفاوتی نشان داده است. این نشانهٔ حمله است. مدرک آن نگه داشته شده است.",

		"forbidden.title": "این صفحه بسته است", "forbidden.text": "فقط با پیوندی باز می‌شود که برنامه هنگام شروع نشان می‌دهد، و فقط روی همین دستگاه.", "forbidden.todo": "برنامه را دوباره اجرا کنید و پیوند تازه را باز کنید. چیزی از دست نرفته است.",
		"missing.title": "این‌جا نیست", "missing.text": "شاید ناشر آن را پس گرفته باشد، یا نشانی اشتباهی دارد.", "missing.todo": "بقیهٔ مطالب در صفحهٔ اول است.",
		"trouble.title": "در این دستگاه مشکلی پیش آمد", "trouble.text": "صفحه آماده نشد. هیچ چیز به جایی فرستاده نشده و شما کار اشتباهی نکرده‌اید.", "trouble.todo": "یک بار دیگر امتحان کنید. اگر درست نشد، برنامه را ببندید و دوباره اجرا کنید.",
		"damaged.title": "بخشی از کتابخانه آسیب دیده است", "damaged.text": "چیزی که روی این دستگاه ذخیره شده بود دیگر خوانده نمی‌شود. هیچ چیز به جایی فرستاده نشده و خبر دروغی به جای آن نشان داده نمی‌شود.", "damaged.todo": "برنامه را ببندید و دوباره اجرا کنید. اگر درست نشد، کتابخانه را پاک کنید و دعوت‌نامه را دوباره اضافه کنید: خبرها از نو دریافت می‌شوند.",
		"full.title": "حافظه پر است", "full.text": "روی این دستگاه جایی برای ذخیرهٔ چیز بیشتری نیست.", "full.todo": "کمی جا باز کنید و دوباره امتحان کنید. آنچه رسیده هنوز این‌جاست.",
		"panel.title": "نشد", "panel.text": "کلید کار نکرد.", "panel.todo": "برگردید و دوباره امتحان کنید.",
	},
}

// solarHijri converts a day to the Solar Hijri calendar of Iran and
// Afghanistan: by the 33-year rule, which agrees with the official calendar
// from 1178 to 1633 (1799 to 2255).
func solarHijri(t time.Time) (year, month, day int) {
	// Days since 1 Farvardin 1 (22 March 622, Gregorian reckoned back).
	n := int(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix()/86_400) + 492_268
	start := func(y int) int { return 365*(y-1) + (8*y+21)/33 }
	year = n/366 + 1
	for start(year+1) <= n {
		year++
	}
	n -= start(year)
	if n < 186 {
		return year, n/31 + 1, n%31 + 1
	}
	return year, (n-186)/30 + 7, (n-186)%30 + 1
}

package source

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestLanguage(t *testing.T) {
	for _, c := range []struct{ declared, text, fallback, lang, dir string }{
		{"", "Сегодня вечером мы поехали к реке, чтобы посмотреть, высока ли вода.", "", "ru", "ltr"},
		{"", "Сьогодні ввечері ми поїхали до річки, щоб подивитися, чи висока її вода.", "", "uk", "ltr"},
		{"", "Сёння ўвечары мы паехалі да ракі, каб паглядзець, ці высокая вада.", "", "be", "ltr"},
		{"", "Бүгін кешке біз өзенге барып, судың қаншалықты көтерілгенін көрдік.", "", "kk", "ltr"},
		{"", "Бүгүн кечинде биз дарыяга барып, суунун көтөрүлгөнүн көрдүк, жаңы көпүрө да бар.", "", "ky", "ltr"},
		{"", "Имрӯз бегоҳӣ мо ба лаби дарё рафтем, то бубинем, ки об чӣ қадар баланд шудааст ва ҳаво чӣ гуна аст.", "", "tg", "ltr"},
		{"", "امشب به کنار رودخانه رفتیم تا ببینیم آب چقدر بالا آمده است.", "", "fa", "rtl"},
		{"", "ذهبنا هذا المساء إلى ضفة النهر لنرى كم ارتفعت المياه في المدينة.", "", "ar", "rtl"},
		{"", "نن ماښام موږ د سیند غاړې ته لاړو چې وګورو اوبه څومره لوړې شوې دي.", "", "ps", "rtl"},
		{"", "آج شام ہم دریا کے کنارے گئے تاکہ دیکھیں کہ پانی کتنا بلند ہوا ہے۔", "", "ur", "rtl"},
		{"", "今天晚上我们去河边看水位有多高。", "", "zh", "ltr"},
		{"", "今夜、川の水がどれほど高いかを見に行きました。", "", "ja", "ltr"},
		{"", "오늘 저녁에 우리는 강물이 얼마나 높은지 보러 갔다.", "", "ko", "ltr"},
		{"", "הערב הלכנו אל הנהר לראות כמה גבוהים המים.", "", "he", "rtl"},
		{"", strings.Repeat("The water in the river is higher than it was and the road to the town is closed. ", 4), "", "en", "ltr"},
		{"", "Heute Abend gingen wir zum Fluss, um zu sehen, wie hoch das Wasser steht.", "", "und", "ltr"},
		{"", "Heute Abend gingen wir zum Fluss, um zu sehen, wie hoch das Wasser steht.", "de", "de", "ltr"},
		{"", "Сегодня вечером мы поехали к реке.", "en", "ru", "ltr"},
		{"", "Heute Abend gingen wir zum Fluss, um zu sehen.", "ru", "und", "ltr"},
		{"en", "Сегодня вечером мы поехали к реке, чтобы посмотреть.", "", "ru", "ltr"},
		{"ru_RU", "Сегодня вечером мы поехали к реке, чтобы посмотреть.", "", "ru-RU", "ltr"},
		{"prs", "امشب به کنار رودخانه رفتیم تا ببینیم آب چقدر بالا آمده است.", "", "prs", "rtl"},
		{"zh-cn", "今天晚上我们去河边看水位有多高。", "", "zh-CN", "ltr"},
		{"zh-TW", "今天晚上我們去河邊看水位有多高，道路已經封閉，居民轉移到學校。", "", "zh-TW", "ltr"},
		{"kk-Latn", "Bügın keşke bız özenge baryp, sudyñ qanşalyqty köterılgenın kördık.", "", "kk-Latn", "ltr"},
		{"not a tag!", "Сегодня вечером мы поехали к реке, чтобы посмотреть.", "", "ru", "ltr"},
		{"", "123 456", "", "und", "ltr"},
	} {
		if lang, dir := languageAndDir(c.declared, c.text, canonicalLang(c.fallback)); lang != c.lang || dir != c.dir {
			t.Errorf("declared %q, default %q, %q: %s %s, want %s %s", c.declared, c.fallback, c.text, lang, dir, c.lang, c.dir)
		}
	}
}

func TestParseDate(t *testing.T) {
	day := time.Date(2019, 8, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in   string
		want time.Time
	}{
		{"2019-08-01", day},
		{"2019-08-01T10:20:30+03:00", day.Add(7*time.Hour + 20*time.Minute + 30*time.Second)},
		{"2019-08-01 10:20:30 +0300", day.Add(7*time.Hour + 20*time.Minute + 30*time.Second)},
		{"01.08.2019 10:20", day.Add(10*time.Hour + 20*time.Minute)},
		{"August 1, 2019 10:20 GMT", day.Add(10*time.Hour + 20*time.Minute)},
		{"Thursday, August 1, 2019", day},
		{"1 Aug 2019", day},
		{"1 августа 2019, 10:20", day.Add(10*time.Hour + 20*time.Minute)},
		{"1 серпня 2019", day},
		{"1 тамыз 2019", day},
		{"2019年8月1日", day},
	} {
		if got, ok := parseDate(c.in); !ok || !got.Equal(c.want) {
			t.Errorf("%q is %v, %t; want %v", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{"", "13:45", "1 apple 2019", "2019-13-01", "0001-01-01", "In 2019 August 1", "32.01.2019"} {
		if got, ok := parseDate(in); ok {
			t.Errorf("%q was read as %v", in, got)
		}
	}
}

func TestClip(t *testing.T) {
	long := "The first sentence is here. The second is by a Dr. Nobody of the U.N. who says a lot. " + strings.Repeat("More and more words follow ", 30)
	if got, want := clip(long, 120), "The first sentence is here. The second is by a Dr. Nobody of the U.N. who says a lot."; got != want {
		t.Errorf("clip: %q", got)
	}
	for _, s := range []string{strings.Repeat("слово ", 200), strings.Repeat("字", 700), strings.Repeat("a", 900), "short"} {
		for _, n := range []int{10, 140, 300} {
			if got := clip(s, n); utf8.RuneCountInString(got) > n || got == "" || !utf8.ValidString(got) {
				t.Errorf("clip to %d runes: %d %q", n, utf8.RuneCountInString(got), got)
			}
		}
		if got := clipBytes(s, 100); len(got) > 100 || !utf8.ValidString(got) {
			t.Errorf("clipBytes: %d bytes", len(got))
		}
	}
}

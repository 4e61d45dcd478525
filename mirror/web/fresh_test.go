package web

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// TestMain sets the zone once, before anything runs that asks for it.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// Every verdict has its words, in all four languages, and they name no thing
// that only we know.
func TestFreshWords(t *testing.T) {
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	const day = 24 * time.Hour // now is a Monday, 12:00
	for name, c := range map[string]struct {
		f     newsync.Freshness
		alarm bool
		want  [4]string // en, ru, fa, zh
	}{
		"current": {
			newsync.Freshness{Verdict: newsync.VerdictCurrent, Sources: 3, Answered: 3, Checked: at(5 * time.Minute), Signed: at(time.Hour)},
			false,
			[4]string{
				"Checked 5 minutes ago in 3 different ways. You have the newest news.", "Проверено 5 минут назад, независимых источников: 3. У вас самые свежие новости.",
				"بررسی: ۵ دقیقه پیش، با ۳ منبع مستقل. تازه‌ترین خبرها را دارید.", "5 分钟前通过 3 个独立来源核对过。您看到的是最新的新闻。",
			},
		},
		"nothing newer": {
			newsync.Freshness{Verdict: newsync.VerdictNothingNewer, Sources: 2, Answered: 3, Checked: at(5 * time.Minute), Signed: at(30 * time.Hour)},
			false,
			[4]string{"Checked 5 minutes ago in 3 different ways. Nothing newer.", "независимых источников: 3. Ничего новее нет.", "با ۳ منبع مستقل. چیز تازه‌تری نیست.", "3 个独立来源核对过。没有更新的内容。"},
		},
		"nothing newer, one": {
			newsync.Freshness{Verdict: newsync.VerdictNothingNewer, Answered: 1, Checked: at(0), Signed: at(30 * time.Hour)},
			false,
			[4]string{"Checked just now, in one way only. Nothing newer.", "только одним путём", "فقط از یک راه", "刚刚核对过，只通过一条通路。"},
		},
		"one source": {
			newsync.Freshness{Verdict: newsync.VerdictOneSource, Sources: 1, Answered: 1, Checked: at(2 * time.Hour), Signed: at(time.Hour)},
			false,
			[4]string{"Checked 2 hours ago. Only one source says", "Только один источник", "فقط یک منبع", "只有一个来源"},
		},
		"behind": {
			newsync.Freshness{Verdict: newsync.VerdictBehind, Answered: 1, Checked: at(time.Hour), Signed: at(time.Hour)},
			false,
			[4]string{"There is newer news", "Есть новости свежее", "خبرهای تازه‌تری هست", "有更新的新闻"},
		},
		"unchecked": {
			newsync.Freshness{Verdict: newsync.VerdictUnchecked, Checked: at(5 * day), Signed: at(5 * day)},
			false,
			[4]string{"Last checked 5 days ago. There may be newer news.", "Последняя проверка: 5 дней назад.", "آخرین بررسی: ۵ روز پیش.", "上次核对：5 天前。"},
		},
		"from a file": {
			newsync.Freshness{Verdict: newsync.VerdictUnchecked, File: at(0), Signed: at(day)},
			false,
			[4]string{
				"Nobody was asked yet whether there is newer news. From a file, just now. A file can’t tell", "Из файла, только что. Файл не может знать",
				"از یک فایل، همین حالا.", "来自文件，刚刚。",
			},
		},
		"from a file, and nobody can be reached": {
			newsync.Freshness{Verdict: newsync.VerdictUnreached, Checked: at(3 * time.Hour), File: at(time.Minute), Signed: at(day)},
			false,
			[4]string{
				"Nobody could be reached since 09:00 today. What you see is from Sunday. From a file, 1 minute ago.", "Из файла, 1 минуту назад.",
				"از یک فایل، ۱ دقیقه پیش.", "来自文件，1 分钟前。",
			},
		},
		"never checked": {
			newsync.Freshness{Verdict: newsync.VerdictUnchecked, Signed: at(day)},
			false,
			[4]string{"Nobody was asked yet", "Ещё никого не спрашивали", "هنوز از کسی پرسیده نشده", "还没有问过"},
		},
		"unreached": {
			newsync.Freshness{Verdict: newsync.VerdictUnreached, Checked: at(6 * day), Signed: at(7 * day)},
			false,
			[4]string{
				"Nobody could be reached since Tuesday. What you see is from 16 November 2026.", "Последний ответ: вторник. Дата того, что вы видите: 16 ноября 2026",
				"آخرین پاسخ: سه‌شنبه. تاریخ آنچه می‌بینید: ۲۵ آبان ۱۴۰۵", "自星期二以来联系不上任何来源。您看到的内容来自2026年11月16日。",
			},
		},
		"unreached today": {
			newsync.Freshness{Verdict: newsync.VerdictUnreached, Checked: at(3 * time.Hour), Signed: at(day)},
			false,
			[4]string{"since 09:00 today. What you see is from Sunday.", "сегодня в 09:00. Дата того, что вы видите: воскресенье.", "امروز ساعت ۰۹:۰۰", "今天 09:00"},
		},
		"never reached": {
			newsync.Freshness{Verdict: newsync.VerdictUnreached},
			false,
			[4]string{"Nobody could be reached so far. It is tried again by itself.", "Пока никто не ответил.", "تاکنون هیچ‌کس پاسخ نداده است.", "至今联系不上任何来源。"},
		},
		"reached by file only": {
			newsync.Freshness{Verdict: newsync.VerdictUnreached, Signed: at(day)},
			false,
			[4]string{"so far. What you see is from Sunday.", "Дата того, что вы видите: воскресенье.", "یکشنبه", "您看到的内容来自星期日。"},
		},
		"frozen": {
			newsync.Freshness{Verdict: newsync.VerdictFrozen, Sources: 2, Answered: 2, Checked: at(time.Minute), Signed: at(6 * day)},
			true,
			[4]string{"You may be kept from newer news. The newest that anybody shows you is from Tuesday.", "Возможно, от вас скрывают", "پنهان می‌کنند", "可能有人不让您看到更新的新闻"},
		},
		"fork": {
			newsync.Freshness{Verdict: newsync.VerdictCurrent, Sources: 2, Answered: 2, Forked: true, Checked: at(0), Signed: at(time.Hour)},
			true,
			[4]string{"Someone is showing different readers different news. Do not trust", "разным читателям разные новости", "خبرهای متفاوت", "不同的读者展示不同的新闻"},
		},
		"seen by witnesses": {
			newsync.Freshness{Verdict: newsync.VerdictCurrent, Sources: 2, Answered: 2, Checked: at(0), Signed: at(time.Hour), Witnessed: channel.Witnessed{Seen: 2, Of: 3, Quorum: 2}},
			false,
			[4]string{"You have the newest news. Seen by 2 of 3 witnesses.", "Это видели свидетели: 2 из 3.", "۲ از ۳ شاهد این را دیده‌اند.", "已有 2 个见证者看到（共 3 个）。"},
		},
		"seen by too few witnesses": {
			newsync.Freshness{Verdict: newsync.VerdictOneSource, Checked: at(0), Signed: at(time.Hour), Witnessed: channel.Witnessed{Seen: 0, Of: 3, Quorum: 2}},
			false,
			[4]string{
				"Seen by 0 of 3 witnesses, where this channel asks for 2: it is less certain that everyone is shown the same.", "0 из 3, а каналу нужно 2",
				"۰ از ۳ شاهد این را دیده‌اند و این کانال ۲ شاهد", "已有 0 个见证者看到（共 3 个），本频道要求 2 个",
			},
		},
		"stolen key replaced": {
			newsync.Freshness{Verdict: newsync.VerdictCurrent, Sources: 2, Answered: 2, Rekeyed: true, Checked: at(0), Signed: at(time.Hour)},
			false,
			[4]string{"has replaced a stolen key. What was signed with it", "заменил украденный ключ", "دزدیده شده بود", "更换了被盗的密钥"},
		},
		"clock behind": {
			newsync.Freshness{Verdict: newsync.VerdictOneSource, ClockBehind: true, Checked: at(0), Signed: at(-3 * 365 * day)},
			true,
			[4]string{english.T("clock"), russian.T("clock"), persian.T("clock"), chinese.T("clock")},
		},
		"clock ahead": {
			newsync.Freshness{Verdict: newsync.VerdictFrozen, ClockOff: true, Checked: at(0), Signed: at(3 * 365 * day)},
			true,
			[4]string{"its clock may be ahead", "часы могут спешить", "ساعتش جلو باشد", "时钟可能快了"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := sample()
			f.st = Status{Fresh: []Fresh{{Channel: ch, Name: "Radio Example", Freshness: c.f}}}
			for i, ui := range catalogues {
				b := visit(t, f)
				b.head = http.Header{"Accept-Language": {ui.tag}}
				for _, path := range []string{"/", "/status"} {
					n := b.get(path, 200)
					var lines []string
					alarm := false
					for _, p := range find(n, "p") {
						if class := strings.Fields(attr(p, "class")); len(class) > 0 && class[0] == "fresh" {
							lines = append(lines, text(p))
							alarm = alarm || slices.Contains(class, "alarm")
						}
					}
					got := strings.Join(lines, " ")
					if !strings.Contains(got, c.want[i]) || alarm != c.alarm {
						t.Errorf("%s in %s: alarm %v, %q", path, ui.tag, alarm, got)
					}
					if strings.Contains(got, "%!") || strings.Contains(got, "fresh.") {
						t.Errorf("%s in %s: %q", path, ui.tag, got)
					}
					for _, jargon := range []string{"head ", "fork", "checkpoint", "path", "node", "sync"} {
						if strings.Contains(strings.ToLower(got), jargon) {
							t.Errorf("%q is a word of ours: %q", jargon, got)
						}
					}
					if dir := attr(find(n, "html")[0], "dir"); dir != ui.dir {
						t.Errorf("%s is written %s", ui.tag, dir)
					}
					if code := find(n, "code"); c.f.Forked && (len(code) == 0 || attr(code[0], "dir") != "ltr" || text(code[0]) != "mirror proof FILE") {
						t.Errorf("%s in %s: no command for the proof", path, ui.tag)
					}
				}
			}
			lines, alarm := FreshWords(c.f, now)
			if got := strings.Join(lines, " "); !strings.Contains(got, c.want[0]) || alarm != c.alarm {
				t.Errorf("on a terminal: alarm %v, %q", alarm, got)
			}
		})
	}
}

// Several channels are told apart, and nothing is said where nothing is known.
func TestFreshOfSeveral(t *testing.T) {
	f := sample()
	other := ch
	other[0] ^= 1
	f.st = Status{Fresh: []Fresh{
		{Channel: ch, Name: "Radio Example", Freshness: newsync.Freshness{Verdict: newsync.VerdictOneSource, Checked: now}},
		{Channel: other, Freshness: newsync.Freshness{Verdict: newsync.VerdictUnchecked}},
	}}
	got := text(find(visit(t, f).get("/", 200), "div", "class=freshness")[0])
	for _, want := range []string{"Radio Example Checked", other.String()[:8] + " Nobody was asked"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	f.st.Fresh = []Fresh{{Channel: ch, Freshness: newsync.Freshness{Verdict: newsync.VerdictNothing}}}
	if n := find(visit(t, f).get("/", 200), "div", "class=freshness"); len(n) != 0 {
		t.Errorf("something is said about nothing: %q", text(n[0]))
	}
}

func TestFreshFigures(t *testing.T) {
	f := sample()
	f.st = Status{Fresh: []Fresh{{Channel: ch, Freshness: newsync.Freshness{
		Verdict: newsync.VerdictCurrent, Sources: 3, Answered: 4, Checked: now.Add(-time.Minute), Signed: now.Add(-2 * time.Hour), Known: true, Usual: 7 * time.Hour,
	}}}}
	got := text(find(visit(t, f).get("/status", 200), "dl")[0])
	for _, want := range []string{"Last answer 1 minute ago", "Sources that agree 3", "Signed 2 hours ago", "Usually something new after 7 hours"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestEvents(t *testing.T) {
	f := sample()
	relay := "relay 198.51.100.7:443 quic"
	f.st = Status{Syncing: true, Work: Work{Stage: "text", Bytes: 120_000, From: relay, More: 2, Rate: 30_000, Left: 150 * time.Second}, Events: []Event{
		{At: now, What: EventStart},
		{At: now.Add(time.Second), What: newsync.EventAsked, Path: relay, Stage: "head"},
		{At: now.Add(2 * time.Second), What: EventFirst, Path: relay, Stage: "head"},
		{At: now.Add(3 * time.Second), What: newsync.EventBrought, Path: "dns n.example", Stage: "text"},
		{At: now.Add(4 * time.Second), What: "of a later version", Path: relay},
	}}
	b := visit(t, f)
	n := b.get("/status", 200)
	var rows []string
	for _, li := range find(find(n, "ol", "class=events")[0], "li") {
		rows = append(rows, text(li))
	}
	want := []string{"12:00:03 dns n.example brings texts", "12:00:02 " + relay + " answered first", "12:00:01 " + relay + " asked", "12:00:00 looking for news"}
	if !slices.Equal(rows, want) {
		t.Errorf("events %q", rows)
	}
	if got := text(find(n, "p", "role=status")[0]); got != "Looking for news now … texts 120 KB from \u2068"+relay+"\u2069 and 2 more 30 KB a second about 2 minutes left" {
		t.Errorf("what goes on: %q", got)
	}
	// Loading itself anew is asked for by a link, and ends with the work.
	refresh := func(path string) int { return len(find(b.get(path, 200), "meta", "http-equiv=refresh")) }
	if refresh("/status") != 0 || refresh("/status?live=1") != 1 || len(find(n, "a", "href=/status?live=1")) != 1 {
		t.Error("following live")
	}
	f.st.Syncing = false
	if refresh("/status?live=1") != 0 {
		t.Error("nothing goes on, and the page loads itself anew")
	}
	b.head = http.Header{"Accept-Language": {"fa"}}
	got := text(find(b.get("/status", 200), "ol", "class=events")[0])
	if !strings.Contains(got, "۱۲:۰۰:۰۲ "+relay+" پیش از همه پاسخ داد") {
		t.Errorf("in Persian: %q", got)
	}
	// Bounded, whatever the engine gives.
	f.st.Events = slices.Repeat([]Event{{At: now, What: newsync.EventAsked, Path: relay}}, 3*MaxEvents)
	if got := len(find(find(b.get("/status", 200), "ol", "class=events")[0], "li")); got != MaxEvents {
		t.Errorf("%d events", got)
	}
}

// How long it still takes, and from where it comes, in all four languages.
func TestWorkWords(t *testing.T) {
	for _, c := range []struct {
		ui   *catalogue
		w    Work
		want string
	}{
		{english, Work{Stage: "text"}, "texts"},
		{english, Work{Stage: "text", From: "p", Left: time.Second}, "texts|from p|less than a minute left"},
		{english, Work{Stage: "images", From: "p", More: 1, Left: time.Hour}, "pictures|from p and 1 more|about 1 hour left"},
		{russian, Work{Stage: "text", From: "p", Left: 21 * time.Minute}, "тексты|через p|ещё примерно 21 минуту"},
		{russian, Work{Stage: "text", From: "p", More: 3, Left: time.Second}, "тексты|через p и ещё 3|осталось меньше минуты"},
		{persian, Work{Stage: "text", From: "p", More: 2, Left: 5 * time.Minute}, "متن‌ها|از p و ۲ راه دیگر|حدود ۵ دقیقه مانده"},
		{chinese, Work{Stage: "text", From: "p", More: 2, Left: 2 * time.Minute}, "正文|来自 p 和另外 2 条通路|大约还需 2 分钟"},
		{english, Work{Stage: "of a later version", Left: time.Hour}, ""},
	} {
		got := strings.NewReplacer("\u2068", "", "\u2069", "").Replace(strings.Join(c.ui.work(c.w), "|"))
		if got != c.want {
			t.Errorf("%s, %+v: %q, want %q", c.ui.tag, c.w, got, c.want)
		}
	}
}

// Every event and stage of the engine has its words.
func TestEventsHaveWords(t *testing.T) {
	keys := []string{EventFirst, EventStart, EventNew, EventSame, EventFile, EventNobody, EventIncomplete, EventPictures, EventPictured, EventUnpictured, EventLimit}
	keys = append(keys, newsync.EventAsked, newsync.EventAnswered, newsync.EventTurned, newsync.EventDoubled, newsync.EventFailed, newsync.EventDropped, newsync.EventLied)
	for _, stage := range []string{"head", "headlines", "text", "images", "rest"} {
		keys = append(keys, newsync.EventBrought+"."+stage)
		if english.texts["stage."+stage] == "" {
			t.Errorf("no words for stage %q", stage)
		}
	}
	for _, k := range keys {
		if english.texts["event."+k] == "" {
			t.Errorf("no words for event %q", k)
		}
	}
	for _, k := range []string{transport.KindQUIC, transport.KindTCP, transport.KindGateway, transport.KindIPFS, transport.KindDNS, transport.KindFile} {
		if english.texts["kind."+k] == "" {
			t.Errorf("no words for kind %q", k)
		}
	}
}

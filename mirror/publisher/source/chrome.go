package source

import (
	"regexp"
	"strings"
	"unicode"
)

// What surrounds an article on a news page, as it looks once copied as text.
// Whole lines are looked up in lists; the patterns catch what varies. The lists
// hold what news sites in general say, in the languages most often mirrored;
// where they know nothing, the shape of the text still decides (text.go).

// lineKind is what one line of copied text is.
type lineKind int

const (
	lineShort  lineKind = iota // words without a sentence: title, subheading, label, name
	lineProse                  // part of an article by its shape
	lineNav                    // a label of the page
	lineTail                   // a label behind which the article is over
	lineTeaser                 // a label behind which another story's title comes
	lineMedia                  // what is left of a picture or player
	lineCredit                 // who wrote or reported
	lineDate                   // when
	lineBoiler                 // rights, cookies, subscriptions
	lineRule                   // a divider
)

// labels are lines of page furniture: lower case, without punctuation around.
var labels = lines(`
accessibility links|skip to content|skip to main content|skip to main|skip to search|skip to navigation|main navigation|navigation|menu|main menu|home|home page|search|
close|open menu|back|back to top|go back|next|previous|breaking|breaking news|latest|latest news|news|top news|top stories|world|politics|business|economy|opinion|sports|sport|
culture|video|videos|audio|podcasts|photo|photos|gallery|live|watch live|listen|listen live|listen to this article|log in|login|sign in|sign up|register|my account|subscribe|
newsletter|newsletters|print|print this|print article|copy link|link copied|embed|download|advertisement|advertising|ad|sponsored|share on facebook|share on twitter|share on x|
facebook|twitter|x|telegram|whatsapp|instagram|youtube|email|e-mail|viber|vk|rss|messenger|follow us|contact|contact us|language|languages|english|settings|load more|show more|
see more|read|enlarge|play|pause|mute|unmute|no media source currently available|the code has been copied to your clipboard|the url has been copied to your clipboard|
embed share|width|height|px|auto|direct link|pop-out player|search site|by topic|all sections|updated|published|text size|reading mode|add to favorites|save|bookmark|
перейти к основному содержанию|перейти к содержанию|перейти к контенту|перейти к поиску|перейти к навигации|ссылки для упрощенного доступа|ссылки доступности|доступность|вернуться|вернуться на главную|
вернуться к основному содержанию|меню|главное меню|главная|главная страница|на главную|поиск|искать|назад|вперед|далее|новости|последние новости|все новости|лента новостей|срочно|срочные новости|срочная новость|
политика|экономика|общество|мир|в мире|в стране|культура|спорт|мнения|мнение|видео|аудио|фото|фотогалерея|подкасты|подкаст|эфир|прямой эфир|смотреть|слушать|войти|вход|регистрация|
личный кабинет|подписаться|подписка|рассылка|печать|распечатать|версия для печати|скопировать ссылку|ссылка скопирована|код скопирован|реклама|на правах рекламы|вконтакте|одноклассники|телеграм|
ютуб|почта|контакты|обратная связь|язык|русский|показать еще|показать больше|загрузить еще|закрыть|открыть меню|увеличить|скачать|сохранить|в избранное|читать|обновлено|опубликовано|размер шрифта|
перейти до основного змісту|головна|новини|останні новини|пошук|політика|економіка|суспільство|світ|відео|друк|реклама|увійти|меню сайту|галоўная|навіны|апошнія навіны|пошук па сайце|палітыка|грамадства|эканоміка|відэа|
басты бет|жаңалықтар|соңғы жаңалықтар|іздеу|саясат|қоғам|экономика жаңалықтары|мәдениет|бейне|мәзір|бөлісу|жазылу|басып шығару|
رفتن به محتوای اصلی|رفتن به محتوا|پرش به محتوا|لینک‌های دسترسی|لینک‌های قابل دسترسی|لینکهای قابلیت دسترسی|خانه|صفحه اصلی|صفحه نخست|جستجو|جست‌وجو|منو|فهرست|اخبار|تازه‌ترین خبرها|آخرین اخبار|آخرین خبرها|
خبر فوری|فوری|سیاست|سیاسی|اقتصاد|اقتصادی|جامعه|اجتماعی|جهان|ایران|فرهنگ|فرهنگ و هنر|ورزش|ورزشی|ویدیو|ویدئو|عکس|صدا|پادکست|پخش زنده|چاپ|نسخه چاپی|ارسال|کپی لینک|لینک کپی شد|تبلیغات|آگهی|ورود|ثبت نام|
عضویت|خبرنامه|فیسبوک|فیس‌بوک|توییتر|تلگرام|واتساپ|اینستاگرام|یوتیوب|ایمیل|تماس با ما|زبان|فارسی|بازگشت|بعدی|قبلی|اندازه متن|ذخیره|دانلود|به‌روزشده|
跳到主要内容|跳转到主要内容|跳至内容|无障碍链接|無障礙鏈接|首页|首頁|主页|导航|导航菜单|菜单|搜索|搜尋|返回|返回顶部|返回首页|上一页|下一页|新闻|新聞|最新消息|最新新闻|突发新闻|即时新闻|要闻|国际|国内|政治|经济|经济新闻|财经|社会|文化|
体育|观点|评论员|视频|音频|图片|图集|播客|直播|登录|注册|订阅|打印|打印本页|复制链接|链接已复制|广告|微信|微博|朋友圈|脸书|推特|电报|邮件|联系我们|语言|中文|简体|繁体|简体中文|繁體中文|字号|大字|小字|收藏|下载|关闭|更多|查看更多|加载更多|扫一扫|扫码阅读|
انتقل إلى المحتوى|الرئيسية|الصفحة الرئيسية|بحث|القائمة|أخبار|آخر الأخبار|عاجل|سياسة|اقتصاد|رياضة|ثقافة|فيديو|طباعة|إعلان|اشترك
`)

// endings are labels behind which other stories, comments and the site's own
// words follow.
var endings = lines(`
related|related stories|related articles|related news|related topics|related content|more from|more news|most popular|most read|trending|recommended|
recommended for you|you may also like|you might also like|editors picks|editor's picks|comments|leave a comment|join the discussion|share|share this|share this article|share this story|about us|about the author|about this site|tags|topics|keywords|
follow us on|our newsletter|latest stories|top comments|in other news|
материалы по теме|новости по теме|похожие материалы|похожие новости|другие новости|другие материалы|еще по теме|популярное|самое популярное|самое читаемое|читаемое|рекомендуем|
выбор редакции|комментарии|комментировать|оставить комментарий|обсуждение|поделиться|поделиться в соцсетях|о нас|об авторе|о проекте|о сайте|теги|ключевые слова|темы|подписывайтесь на нас|
схожі новини|коментарі|поділитися|про нас|популярне|теги статті|камэнтары|каментары|падзяліцца|пра нас|пікірлер|біз туралы|танымал|тағы оқыңыз|
مطالب مرتبط|اخبار مرتبط|خبرهای مرتبط|گزارش‌های مرتبط|پربازدیدترین|پربازدیدترین‌ها|پربیننده‌ترین|پیشنهاد ما|نظرات|نظر بدهید|دیدگاه|دیدگاه‌ها|هم‌رسانی|همرسانی|اشتراک‌گذاری|به اشتراک بگذارید|درباره ما|درباره نویسنده|برچسب‌ها|کلیدواژه‌ها|ما را دنبال کنید|
相关|相关新闻|相关报道|相关文章|相关内容|相关链接|更多新闻|更多报道|热门|热门新闻|热门文章|热点|为您推荐|编辑推荐|评论|网友评论|发表评论|分享|分享到|分享本文|关于我们|关于作者|关于本站|标签|关键词|关注我们|
مواضيع ذات صلة|التعليقات|شارك|من نحن|الأكثر قراءة
`)

// teasers stand amid the text as often as behind it.
var teasers = lines(`
read more|see also|read also|also read|read next|more on this|more on this story|more on the topic|читайте также|смотрите также|по теме|читать далее|читайте також|чытайце таксама|глядзіце таксама|оқи отырыңыз|
بیشتر بخوانید|بیشتر در این باره|延伸阅读|推荐阅读|阅读更多|另请阅读|另见|اقرأ أيضا
`)

func lines(list string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.SplitSeq(strings.ReplaceAll(list, "\n", ""), "|") {
		if w = bare(w); w != "" {
			m[w] = true
		}
	}
	return m
}

// bare is a line reduced to compare it with a list: lower case, no bullets,
// counts, punctuation or symbols around it.
func bare(s string) string {
	s = strings.TrimFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsMark(r)
	})
	s = strings.ReplaceAll(strings.ToLower(s), "ё", "е")
	return strings.Join(strings.Fields(s), " ")
}

var (
	// "16x9 Image", "Фото: агентство", "图：…", "0:00 / 2:31", "720p".
	mediaLine = regexp.MustCompile(`(?i)^(?:\d{1,4}\s?[x×:]\s?\d{1,4}\s+(?:image|photo|video|picture|фото|изображение|видео|عکس|تصویر|图|图片)s?|` +
		`(?:image|photo|picture|video|audio|graphic|illustration|file photo|caption|фото|изображение|иллюстрация|видео|снимок|сурет|фота|عکس|تصویر|عکس آرشیوی|ویدیو|图片|图|图为|配图|视频|资料图片?)\s*[:：/|].*|` +
		`(?:image|photo|video|фото|видео|عکس|图片)\s*(?:\d+|by\s.*|credit.*|courtesy.*|source.*|来源.*)|` +
		`\(?(?:file photo|archive photo|архивное фото|иллюстративное фото|عکس آرشیوی|资料图|资料图片)\)?|` +
		`[\d:]{4,8}\s*/\s*[-\d:]{4,8}|\d{3,4}p(?:\s*\|.*)?)$`)
	creditLine = regexp.MustCompile(`(?i)^(?:by\s|(?:with\s+)?(?:additional\s+)?reporting\s+(?:by|from)\s|with\s+(?:contributions?|material|files|information|reports?)\s+(?:by|from)\s|(?:written|reported|edited|compiled|translated|prepared|produced)\s+by\s|editing\s+by\s|` +
		`(?:based\s+on|adapted\s+from)\s|(?:sources?|author|authors|editor|reporter|correspondent)\s*[:：]|` +
		`(?:автор|авторы|автор текста|текст|источник|источники|редактор|корреспондент|подготовил[аи]?|перевод|аўтар|аўтары|крыніца|рэдактар|джерело|автори|дереккөз|авторы мен редакторы|редакторы)\s*[:：—–-]|` +
		`(?:по материалам|по информации|при участии|с участием|с использованием материалов|при подготовке|паводле матэрыялаў|з выкарыстаннем|за матеріалами|за участі|материалдары бойынша)\s|подготовил[аи]?\s|` +
		`(?:منبع|منابع|نویسنده|خبرنگار|گزارشگر|ویراستار|مترجم|تهیه و تنظیم)\s*[:：]|(?:با گزارش|گزارش از|با استفاده از گزارش|به قلم|بر اساس گزارش‌های)\s?|` +
		`[（(]?(?:来源|來源|文章来源|信息来源|记者|記者|本报记者|本台记者|编辑|編輯|责任编辑|责编|作者|撰稿|撰文|翻译|校对|审核)\s*[:：\s/|].*|(?:综合|据).{0,24}(?:报道|消息|电)[）)]?$|` +
		`(?:المصدر|بقلم|تقرير)\s*[:：])`)
	// Labels that stand before a date, a number of minutes, a counter.
	stampLabel = regexp.MustCompile(`(?i)^(?:published|posted|updated|last updated|created|date|time|опубликовано|обновлено|дата|дата публикации|время|апублікавана|абноўлена|жарияланды|жаңартылды|оновлено|опубліковано|تاریخ انتشار|تاریخ|انتشار|به‌روزرسانی|به‌روز شده در|发布时间|发布于|发表于|更新时间|时间|日期)\s*(?:at|on|в|در)?\s*[:：—–-]?\s*`)
	jalali     = regexp.MustCompile(`^(?:(?:یک|دو|سه|چهار|پنج)?[\s‌]*شنبه|جمعه)?[،,\s]*[۰-۹0-9]{1,2}\s+(?:فروردین|اردیبهشت|خرداد|تیر|مرداد|شهریور|مهر|آبان|آذر|دی|بهمن|اسفند)(?:\s+(?:ماه\s+)?[۰-۹0-9]{4})?`)
	counter    = regexp.MustCompile(`(?i)^[\d۰-۹]+\s*(?:min(?:ute)?s?(?:\s+(?:read|ago))?|hours?\s+ago|days?\s+ago|views?|shares?|comments?|мин(?:ут[аы]?)?(?:\s+(?:чтения|назад))?|час(?:а|ов)?\s+назад|просмотр\S*|комментари\S*|دقیقه.*|ساعت پیش|نظر|بازدید|分钟.*|小时前|次阅读|条评论|阅读|评论)$|^(?:阅读|浏览|点击|评论|просмотров|комментариев|views|comments|بازدید|نظرات)\s*[:：(（]\s*[\d۰-۹]+.*$`)
	webLine    = regexp.MustCompile(`^(?:https?://|www\.)\S+$|^\S+@\S+\.\S+$|^@\w+$`)
	boiler     = regexp.MustCompile(`(?i)(?:©|\(c\)\s*\d{4}|all rights reserved|\bcookies?\b.*\b(?:use|uses|accept|consent|agree|experience)\b|\b(?:use|uses|accept)\b.*\bcookies?\b|terms of (?:use|service)|privacy policy|subscribe to (?:our|the)|sign up (?:for|to)|follow us on|enable javascript|javascript is|your browser does not|reprinted with|may not be (?:reproduced|republished)|` +
		`все права защищены|усе правы абаронены|всі права захищені|барлық құқық|при (?:использовании|перепечатке|цитировании) материалов|гиперссылка обязательна|подписывайтесь на|подпишитесь на|файлы cookie|политика конфиденциальности|пользовательское соглашение|сообщите нам об ошибке|выделите.*ctrl|` +
		`(?:تمامی|کلیه|همه) حقوق|نقل مطالب.*ذکر منبع|استفاده از مطالب|ما را (?:در|دنبال)|در خبرنامه|کوکی|حریم خصوصی|` +
		`版权所有|版權所有|保留所有权利|未经.{0,12}(?:许可|授权)|转载请注明|请注明出处|关注我们的|扫描二维码|订阅我们|隐私政策|使用条款|جميع الحقوق)`)
	// aboutUs is how sites describe themselves at the foot of each page.
	aboutUs = regexp.MustCompile(`(?i)(?:\b(?:we|our|us)\b.*\b(?:provide|bring|deliver|report|newsroom|journalis\w+|mission|independent|uncensored|readers)\b|\bjournalists\b.*\b(?:languages|countries|audiences?)\b|\bis (?:an?|the) (?:independent|non-?profit|public|news|online)\b.*\b(?:organi[sz]ation|agency|outlet|publication|broadcaster|service|website|newspaper|magazine)\b|` +
		`(?:^|\s)(?:мы|наш\S*|нас)\s.*(?:журналист|редакци|независим|новост|рассказыва|читател)|(?:независимое|общественное|интернет-)\S*\s*(?:издание|сми|медиа)|сайт создан|сетевое издание|зарегистрировано|` +
		`(?:^|\s)(?:мы|наш\S*)\s.*(?:журналіст|рэдакцы|незалежн|навін)|(?:^|\s)біз.*(?:тәуелсіз|журналис|жаңалық)|` +
		`(?:^|\s)(?:ما|رسانه|وب‌سایت|این سایت|خبرگزاری)\s.*(?:خبرنگاران|مستقل|آزاد|بی‌طرف|روزنامه‌نگار|اخبار)|` +
		`(?:我们|本网|本台|本站|本报).*(?:新闻|记者|报道|独立|读者|资讯)|(?:是一家|是一个).*(?:媒体|新闻|网站|通讯社))`)
	ruleLine   = regexp.MustCompile(`^[\s*_\-–—=~•·.#+]{3,}$|^\*$`)
	bulletLine = regexp.MustCompile(`^(?:[•▪◦‣●○■·]\s*|[*-]\s+)`)
)

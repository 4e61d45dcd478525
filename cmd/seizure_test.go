package cmd_test

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"tamizdat/bundle/channel"
)

const (
	secretName = "Зарничный Перезвон Lanternbrook"
	secretZone = "kitesail.example"
)

// secretStories are what must not be found on a seized disk.
var secretStories = []story{
	{name: "orchard", lang: "en", title: "Hillside orchard reopens beneath Thornwick cliffs", paragraphs: []string{
		"Grandmothers and schoolchildren harvested quinces together on Saturday, when the abandoned orchard beneath Thornwick was reopened after eleven winters. Volunteers had straightened the terraces with wheelbarrows and borrowed shovels.",
		"Whoever carried baskets uphill was rewarded with marmalade. The beekeepers promised honeycombs for everybody by midsummer, provided the thunderstorms stay away.",
	}},
	{name: "tramway", lang: "ru", title: "Трамвайщики вернули на маршрут деревянный вагон", paragraphs: []string{
		"Отреставрированный вагон проехал по набережной в воскресенье. Пассажиры аплодировали вагоновожатому, а фотографы выстроились вдоль перекрёстка, чтобы запечатлеть первое возвращение.",
		"Плотники восстанавливали скамейки вручную четырнадцать месяцев. Кондукторша раздавала сувенирные билетики, напечатанные на старинном станке.",
	}},
	{name: "weavers", lang: "fa", title: "قالی‌بافان روستای کوهستانی نمایشگاه برپا کردند", paragraphs: []string{
		"هنرمندان سالخورده و دانش‌آموزان جوان نخستین نمایشگاه گلیم‌های رنگارنگ را در کاروانسرای بازسازی‌شده برپا کردند. بازدیدکنندگان از روستاهای همسایه آمدند.",
		"برگزارکنندگان می‌گویند درآمد فروش برای خریداری کتابخانهٔ سیار هزینه خواهد شد و سپاسگزاری کردند.",
	}},
	{name: "kites", lang: "zh", title: "风筝匠人在江畔举办夜间放飞会", paragraphs: []string{
		"春分前夜，数百只纸鸢挂着灯笼从江畔缓缓升起，孩子们沿着石阶追逐光影。老匠人说，他糊了整整一个冬天的竹骨绢面。",
		"放飞会结束后，街坊们把剩下的糯米团分给了摆渡的船夫。",
	}},
	{name: "harbour", lang: "de", title: "Leuchtturmwärterin öffnet Vogelbeobachtungsstation", paragraphs: []string{
		"Die ehemalige Leuchtturmwärterin zeigt Besuchern Brandseeschwalben und Austernfischer. Fernrohre verleiht der Heimatverein unentgeltlich.",
	}},
}

// otherStories share no rare word with them. What both runs leave on disk is the
// programs' own.
var otherStories = []story{
	{name: "bread", lang: "en", title: "A bakery bakes", paragraphs: []string{"The baker got up at four. The bread was good and all of it was sold by noon."}},
	{name: "chleb", lang: "ru", title: "Пекарня печёт", paragraphs: []string{"Пекарь встал в четыре. Хлеб был хорош, и к обеду его раскупили."}},
}

// TestSeizure copies the disks of a relay and of a reader, with the programs
// running, after a kill and after their end, and looks for words of the articles.
func TestSeizure(t *testing.T) {
	t.Parallel()
	other := newSeized(t, "Plain Name", otherStories)
	other.stop()
	usual := other.disk()

	s := newSeized(t, secretName, secretStories)
	words := phrases(secretStories)
	common := newScanner(words).find(usual)
	words = slices.DeleteFunc(words, func(w string) bool { return slices.Contains(common, fold(w)) })
	if len(words) < 150 {
		t.Fatalf("only %d phrases are left to look for; the programs' own files hold %q", len(words), common)
	}
	for _, want := range []string{"schoolchildren", "отреставрированный", "纸鸢挂着"} {
		if !slices.Contains(words, want) {
			t.Errorf("%q is not looked for", want)
		}
	}
	blind := newScanner(append(slices.Clone(words), s.secrets...))
	spy := newScanner(append(append(slices.Clone(words), s.secrets...), s.whereabouts...))
	look := func(when string) {
		t.Helper()
		for _, place := range []struct {
			name  string
			files map[string]string
			scan  *scanner
		}{
			{"relay", tree(t, s.relay.dir), blind},
			{"reader", tree(t, s.reader), spy},
			{"temporary files", tree(t, s.device.tmp), spy},
			{"home folder", tree(t, s.device.home), spy},
			{"open files of the relay", openFiles(t, s.relay.proc), blind},
			{"open files of the reader", openFiles(t, s.page), spy},
		} {
			for name, content := range place.files {
				for _, found := range place.scan.find(map[string]string{name: content}) {
					t.Errorf("%s: %s: %s holds %q", when, place.name, name, found)
				}
			}
		}
	}
	look("while they run")
	s.page.kill()
	s.relay.proc.kill()
	look("after a kill")
	s.device.must("mirror", "--dir", s.reader, "list")
	s.relay.run()
	s.stop()
	look("after their end")

	// The scanner does find what is there.
	// (In the publisher's folder an edition's description is in the clear.)
	publishers := spy.find(tree(t, s.pub.dir))
	for _, st := range secretStories {
		if !slices.Contains(publishers, fold(st.title)) {
			t.Errorf("%q is in the publisher's folder and was not found", st.title)
		}
	}
	noise := tree(t, s.reader)["data"]
	if len(noise) < 100_000 {
		t.Fatalf("the library has %d bytes", len(noise))
	}
	for _, plant := range []string{"Schoolchildren", "ОТРЕСТАВРИРОВАННЫЙ", "перекресткА", "برگزارکنندگان", "纸鸢挂着", "schoolchil" + "\u200c" + "dren", "leuchtturmwärterin"} {
		for form, encoded := range map[string]string{
			"UTF-8": plant, "UTF-16LE": wide(plant, false), "UTF-16BE": wide(plant, true),
		} {
			for _, at := range []int{50_000, 50_001} {
				disk := map[string]string{"data": noise[:at] + encoded + noise[at:]}
				if found := spy.find(disk); len(found) == 0 {
					t.Errorf("%q in %s at %d was not found", plant, form, at)
				}
			}
		}
	}
	for name, planted := range map[string]string{"seed": string(s.seed), "invite": strings.ToLower(s.invite), "address": s.relay.listen} {
		if found := spy.find(map[string]string{"data": noise[:1000] + planted + noise[1000:]}); len(found) == 0 {
			t.Errorf("the %s was not found", name)
		}
	}
}

// seized is a relay and a reader whose disks are looked at. The publisher works
// on another device.
type seized struct {
	desk, device *desk
	pub          *studio
	relay        *relayHost
	reader       string
	page         *process

	invite string
	seed   []byte
	// secrets must be on neither disk, whereabouts not on the reader's.
	secrets, whereabouts []string
}

func newSeized(t *testing.T, name string, stories []story) *seized {
	t.Helper()
	s := &seized{desk: newDesk(t), device: newDesk(t)}
	listen, nameServer := localPort(t), localPort(t)
	s.relay = &relayHost{
		d: s.device, dir: s.device.path("relay"), listen: listen,
		flags: []string{"--dns", secretZone, "--dns-listen", nameServer},
	}
	s.relay.run()
	s.pub = s.desk.studio(s.desk.path("pub"), name, "en,ru,fa,zh")
	toml := filepath.Join(s.pub.dir, "publisher.toml")
	text, err := os.ReadFile(toml)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(toml, append(text, fmt.Sprintf("\nzones = [%q]\n", secretZone+"@"+nameServer)...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.pub.carriedBy(s.relay, "first", "127.0.0.1")
	shelve(t, s.desk.path("news"), stories)
	s.desk.must("mirror-publish", "--dir", s.pub.dir, "pack", s.desk.path("news"))
	s.desk.must("mirror-publish", "--dir", s.pub.dir, "push")
	s.invite = strings.TrimSpace(s.pub.invite(s.desk.path("invite")))
	s.learn(t, listen, nameServer)

	s.reader = s.device.path("reader")
	s.device.must("mirror", "--dir", s.reader, "add", s.desk.path("invite"))
	s.device.must("mirror", "--dir", s.reader, "sync")
	last := stories[len(stories)-1]
	first := strings.Fields(last.title)
	list := s.device.must("mirror", "--dir", s.reader, "list", "--search", first[len(first)-1])
	if !strings.Contains(list.stdout(), last.title) {
		t.Fatalf("the search does not find %q: %s", last.title, list)
	}
	s.device.must("mirror", "--dir", s.reader, "read", strings.Fields(list.stdout())[0])
	s.browse(t, first[len(first)-1], last.title)
	return s
}

// learn takes down what the disks must not hold besides articles.
func (s *seized) learn(t *testing.T, listen, nameServer string) {
	t.Helper()
	inv, err := channel.ParseInvite(s.invite)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Places.Relays) != 1 || len(inv.Places.Zones) != 1 {
		t.Fatalf("the invite names %d relays and %d zones", len(inv.Places.Relays), len(inv.Places.Zones))
	}
	keys, err := os.ReadFile(filepath.Join(s.pub.dir, "keys", "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ring any
	if err := json.Unmarshal(keys, &ring); err != nil {
		t.Fatal(err)
	}
	found := keysIn(ring)
	s.seed = inv.Seed[:]
	if !slices.Contains(found, string(s.seed)) || len(found) < 20 {
		t.Fatalf("%d keys were found in the publisher's ring, and the invite's seed is to be one of them", len(found))
	}
	for _, k := range found {
		s.secrets = append(s.secrets, forms(k)...)
	}
	s.secrets = append(s.secrets, secretName, "Lanternbrook", "Перезвон")
	body := strings.TrimPrefix(s.invite, "TAMIZDAT:")
	for i := 0; i+16 <= len(body); i += 16 {
		s.secrets = append(s.secrets, body[i:i+16])
	}
	r := inv.Places.Relays[0]
	s.whereabouts = []string{"127.0.0.1", listen, nameServer, secretZone, "kitesail", s.pub.channel.String(), r.Prefix.Path()}
	s.whereabouts = append(s.whereabouts, forms(string(s.pub.channel[:]))...)
	s.whereabouts = append(s.whereabouts, forms(string(r.Prefix[:]))...)
	s.whereabouts = append(s.whereabouts, forms(string(r.Pin[:]))...)
}

// keysIn finds all keys in decoded JSON: strings that are 32 bytes in some
// encoding.
func keysIn(v any) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			out = append(out, keysIn(x)...)
		}
	case []any:
		if len(v) == 32 {
			b := make([]byte, 0, 32)
			for _, x := range v {
				if n, ok := x.(float64); ok {
					b = append(b, byte(n))
				}
			}
			if len(b) == 32 {
				return []string{string(b)}
			}
		}
		for _, x := range v {
			out = append(out, keysIn(x)...)
		}
	case string:
		for _, dec := range []func(string) ([]byte, error){
			base64.StdEncoding.DecodeString, base64.RawURLEncoding.DecodeString, hex.DecodeString,
			base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString,
		} {
			if b, err := dec(v); err == nil && len(b) == 32 {
				return []string{string(b)}
			}
		}
	}
	return out
}

// rawMark begins a needle that is looked for byte by byte.
const rawMark = "\x00raw:"

// forms are the ways a key is written down.
func forms(key string) []string {
	b := []byte(key)
	return []string{
		rawMark + key, hex.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b),
	}
}

// browse opens the reader's page, searches, and reads an article; the page
// stays open.
func (s *seized) browse(t *testing.T, search, title string) {
	t.Helper()
	s.page = s.device.start("", nil, "mirror", "--dir", s.reader, "open")
	for !strings.Contains(s.page.stdout(), "\n") {
		if s.page.within(5 * time.Millisecond) {
			t.Fatalf("no page: %s", s.page)
		}
	}
	address := s.page.find(t, `(http://\S+)`)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	get := func(u string) string {
		t.Helper()
		resp, err := client.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("the page answers %s, %v", resp.Status, err)
		}
		return string(b)
	}
	front := get(address)
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(front, `href="/a/`)
	if i < 0 || !strings.Contains(front, title) {
		t.Fatalf("the page does not show %q:\n%s", title, front)
	}
	href, _, _ := strings.Cut(front[i+len(`href="`):], `"`)
	ref, err := base.Parse(href)
	if err != nil {
		t.Fatal(err)
	}
	get(ref.String())
	ref.Path, ref.RawQuery = "/", url.Values{"q": {search}}.Encode()
	get(ref.String())
}

func (s *seized) stop() {
	s.page.stop()
	s.relay.proc.stop()
}

// disk is everything that relay and reader left on their devices.
func (s *seized) disk() map[string]string { return tree(s.device.t, s.device.dir) }

// openFiles reads the files that a process has open, deleted ones too; nothing
// where the system does not show them, or if the process has ended.
func openFiles(t *testing.T, p *process) map[string]string {
	t.Helper()
	out := map[string]string{}
	if runtime.GOOS != "linux" || p.ended() {
		return out
	}
	dir := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if b, err := os.ReadFile(name); err == nil {
			link, _ := os.Readlink(name)
			out[link] = string(b)
		}
	}
	return out
}

// phrases are the titles, sentences and words of eight letters or more, and of
// Chinese all runs of four characters.
func phrases(stories []story) []string {
	var out []string
	for _, s := range stories {
		out = append(out, s.title)
		for _, text := range append([]string{s.title}, s.paragraphs...) {
			for _, sentence := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(".。!?؟", r) }) {
				out = append(out, strings.TrimSpace(sentence))
			}
			for _, w := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.In(r, unicode.L, unicode.M) && r != '\u200c' }) {
				runes := []rune(w)
				if unicode.Is(unicode.Han, runes[0]) {
					for i := 0; i+4 <= len(runes); i++ {
						out = append(out, string(runes[i:i+4]))
					}
				} else if len([]rune(fold(w))) >= 8 {
					out = append(out, strings.ToLower(w))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fold evens out what a search index may have evened out.
func fold(s string) string { return string(foldRunes(nil, []rune(s))) }

func foldRunes(dst, src []rune) []rune {
	for _, r := range src {
		if r < 0x80 {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			dst = append(dst, r)
			continue
		}
		switch r = unicode.ToLower(r); r {
		case 'ё':
			r = 'е'
		case 'ي', 'ى':
			r = 'ی'
		case 'ك':
			r = 'ک'
		case 'ٔ', '\u200c', '\u200d', '\u00ad':
			continue
		}
		dst = append(dst, r)
	}
	return dst
}

// scanner looks for phrases in bytes, whatever letters they are in: UTF-8,
// UTF-16 of both byte orders at even and odd places, in any case.
type scanner struct {
	byHead map[[4]rune][]string // folded phrases by their first four letters
	fourth [1 << 16]bool        // what letters may stand fourth
	raw    []string
}

func newScanner(phrases []string) *scanner {
	s := &scanner{byHead: map[[4]rune][]string{}}
	for _, p := range phrases {
		if raw, ok := strings.CutPrefix(p, rawMark); ok {
			s.raw = append(s.raw, raw)
			continue
		}
		p = fold(p)
		r := []rune(p)
		head := [4]rune(r) // a phrase of fewer letters is a mistake: it panics
		if !slices.Contains(s.byHead[head], p) {
			s.byHead[head] = append(s.byHead[head], p)
			s.fourth[r[3]&0xffff] = true
		}
	}
	return s
}

// find lists the phrases that occur in files or their names, folded.
func (s *scanner) find(files map[string]string) []string {
	found := map[string]bool{}
	for name, content := range files {
		for _, b := range []string{name, content} {
			for _, raw := range s.raw {
				if strings.Contains(b, raw) {
					found[fmt.Sprintf("%x", raw)] = true
				}
			}
			s.runes([]rune(b), found)
			for at := range 2 {
				if len(b) > at {
					little, big := units(b[at:])
					s.runes(little, found)
					s.runes(big, found)
				}
			}
		}
	}
	out := []string{}
	for p := range found {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func (s *scanner) runes(text []rune, found map[string]bool) {
	text = foldRunes(make([]rune, 0, len(text)), text)
	for i := 0; i+4 <= len(text); i++ {
		if !s.fourth[text[i+3]&0xffff] {
			continue
		}
		for _, p := range s.byHead[[4]rune(text[i:])] {
			end := min(len(text), i+utf8.RuneCountInString(p))
			if string(text[i:end]) == p {
				found[p] = true
			}
		}
	}
}

// units reads bytes as UTF-16 of both byte orders. Phrases lie in the basic
// plane, where a unit is a letter.
func units(b string) (little, big []rune) {
	for i := 0; i+1 < len(b); i += 2 {
		little = append(little, rune(b[i])|rune(b[i+1])<<8)
		big = append(big, rune(b[i])<<8|rune(b[i+1]))
	}
	return little, big
}

func wide(s string, big bool) string {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			out = append(out, byte(u>>8), byte(u))
		} else {
			out = append(out, byte(u), byte(u>>8))
		}
	}
	return string(out)
}

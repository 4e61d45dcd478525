package source

import (
	"strings"
	"unicode"

	"golang.org/x/text/language"
)

// canonicalLang returns the canonical BCP 47 spelling of a tag, "" if it is
// none or says nothing. "en_US" and "zh-cn" are understood.
func canonicalLang(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 35 {
		return ""
	}
	tag, err := language.Parse(s)
	if err != nil {
		return ""
	}
	if base, conf := tag.Base(); conf == language.No || base.String() == "und" || base.String() == "mul" {
		return ""
	}
	return tag.String()
}

// languageOf decides an article's BCP 47 tag.
// What the document declares holds unless its script is not the text's: page
// templates often say "en" whatever they carry. Then letters that only one
// language has decide; then the default; then a guess by script.
func languageOf(declared, text, fallback string) string {
	seen := letters(text)
	declared = canonicalLang(declared)
	if declared != "" && (seen.total < 20 || sameScript(declared, seen.main)) {
		return declared
	}
	guess, sure := seen.language(text)
	switch {
	case guess != "" && sure:
		return guess
	case fallback != "" && (seen.total < 20 || sameScript(fallback, seen.main)):
		return fallback
	case guess != "":
		return guess
	}
	return "und"
}

// languageAndDir is languageOf with the direction of the text, "ltr" or "rtl".
func languageAndDir(declared, text, fallback string) (tag, dir string) {
	tag = languageOf(declared, text, fallback)
	main := letters(text).main
	if tag != "und" {
		if s, conf := language.Make(tag).Script(); conf != language.No {
			main = s.String()
		}
	}
	switch main {
	case "Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg":
		return tag, "rtl"
	}
	return tag, "ltr"
}

// sameScript reports whether text in the script is what the tag promises.
func sameScript(tag, script string) bool {
	s, conf := language.Make(tag).Script()
	if conf == language.No || script == "" {
		return true
	}
	want := s.String()
	switch want {
	case "Hans", "Hant", "Jpan", "Hanb":
		return script == "Hani" || script == "Kana"
	case "Kore":
		return script == "Hang" || script == "Hani"
	}
	// Several languages are written in two scripts, and their tags seldom say so.
	base, _ := language.Make(tag).Base()
	switch base.String() {
	case "sr", "uz", "kk", "tt", "az", "ku", "pa", "tg", "mn", "ky", "crh", "ug":
		return script == "Latn" || script == "Cyrl" || script == "Arab" || script == want
	}
	return script == want
}

// scripts are the ones told apart, with the name of ISO 15924.
var scripts = []struct {
	name  string
	table *unicode.RangeTable
	guess string // the language to suppose
}{
	{"Latn", unicode.Latin, ""},
	{"Cyrl", unicode.Cyrillic, "ru"},
	{"Arab", unicode.Arabic, "ar"},
	{"Hani", unicode.Han, "zh"},
	{"Kana", unicode.Hiragana, "ja"},
	{"Kana", unicode.Katakana, "ja"},
	{"Hang", unicode.Hangul, "ko"},
	{"Hebr", unicode.Hebrew, "he"},
	{"Geor", unicode.Georgian, "ka"},
	{"Armn", unicode.Armenian, "hy"},
	{"Grek", unicode.Greek, "el"},
	{"Deva", unicode.Devanagari, "hi"},
	{"Beng", unicode.Bengali, "bn"},
	{"Thai", unicode.Thai, "th"},
	{"Mymr", unicode.Myanmar, "my"},
	{"Tibt", unicode.Tibetan, "bo"},
	{"Khmr", unicode.Khmer, "km"},
	{"Laoo", unicode.Lao, "lo"},
	{"Ethi", unicode.Ethiopic, "am"},
	{"Thaa", unicode.Thaana, "dv"},
	{"Syrc", unicode.Syriac, "syr"},
	{"Taml", unicode.Tamil, "ta"},
}

// script returns the ISO 15924 name of a letter's script, "" if none of ours.
func script(r rune) string {
	for _, s := range scripts {
		if unicode.Is(s.table, r) {
			return s.name
		}
	}
	return ""
}

// census is how often a text's letters occur.
type census struct {
	count  map[rune]int // lower case
	by     map[string]int
	total  int
	main   string // the script of most letters
	mainLn int
}

// letters counts the letters of the first 64 KiB.
func letters(text string) census {
	c := census{count: map[rune]int{}, by: map[string]int{}}
	for i, r := range text {
		if i > 64<<10 {
			break
		}
		if r < 'A' || !unicode.IsLetter(r) {
			continue
		}
		s := script(r)
		c.total++
		c.count[unicode.ToLower(r)]++
		c.by[s]++
	}
	for _, s := range scripts { // the table's order breaks ties
		if c.by[s.name] > c.mainLn {
			c.main, c.mainLn = s.name, c.by[s.name]
		}
	}
	return c
}

// of is how many of a thousand letters of the main script are among set.
func (c census) of(set string) int {
	n := 0
	for _, r := range set {
		n += c.count[r]
	}
	return n * 1000 / max(1, c.mainLn)
}

// language guesses by letters. sure: only one language (of those that are
// published in) writes so.
func (c census) language(text string) (tag string, sure bool) {
	if c.total == 0 {
		return "", false
	}
	switch c.main {
	case "Cyrl":
		return c.cyrillic()
	case "Arab":
		return c.arabic()
	case "Hani", "Kana":
		if c.by["Kana"]*20 > c.by["Hani"] { // Japanese has kana in every sentence
			return "ja", true
		}
		return "zh", true
	case "Latn":
		return c.latin(text)
	}
	for _, s := range scripts {
		if s.name == c.main {
			return s.guess, s.guess != ""
		}
	}
	return "", false
}

// The thresholds are in letters of a thousand; a name or quotation in another
// language stays below.
func (c census) cyrillic() (string, bool) {
	switch {
	case c.of("ў") >= 3:
		return "be", true
	case c.of("їєґ") >= 3 && c.of("ыэё") < 3:
		return "uk", true
	case c.of("ҳҷӣӯ") >= 5:
		return "tg", true
	case c.of("җ") >= 1 && c.of("әөү") >= 5:
		return "tt", true
	case c.of("әғқұі") >= 20:
		return "kk", true
	case c.of("ҙҡҫ") >= 3:
		return "ba", true
	case c.of("ўқғҳ") >= 8:
		return "uz", true
	case c.of("өү") >= 8 && c.of("ң") >= 1:
		return "ky", true
	case c.of("өү") >= 15:
		return "mn", true
	case c.of("ѓќѕ") >= 2 && c.of("ј") >= 5:
		return "mk", true
	case c.of("ђћџљњј") >= 8:
		return "sr", true
	case c.of("ъ") >= 8 && c.of("ыэё") == 0:
		return "bg", true
	case c.of("ӏ") >= 5:
		return "ce", true
	case c.of("ыэё") >= 5:
		return "ru", true
	}
	return "ru", false
}

func (c census) arabic() (string, bool) {
	switch {
	case c.of("ټډړږښګڼۍېځڅ") >= 8:
		return "ps", true
	case c.of("ڭۇۆۈۋې") >= 15:
		return "ug", true
	case c.of("ٹڈڑںےہھ") >= 15:
		return "ur", true
	case c.of("ڕڵۆێ") >= 8:
		return "ckb", true
	case c.of("پچژگکی") >= 15:
		return "fa", true
	case c.of("ةيكىأإ") >= 15:
		return "ar", true
	}
	return "ar", false
}

func (c census) latin(text string) (string, bool) {
	switch {
	case c.of("ə") >= 10:
		return "az", true
	case c.of("ğışİ") >= 20 && c.of("ı") >= 5:
		return "tr", true
	}
	// English has no letter of its own but says "the" in every sentence.
	words, the := 0, 0
	for w := range strings.FieldsSeq(strings.ToLower(text[:min(len(text), 16<<10)])) {
		words++
		switch w {
		case "the", "and", "of", "to", "that", "with":
			the++
		}
	}
	if words >= 8 && the*100 >= words*8 && c.by["Latn"] == c.total && c.of("abcdefghijklmnopqrstuvwxyz") >= 985 {
		return "en", words >= 40
	}
	return "", false
}

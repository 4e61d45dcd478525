package library

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits on what is indexed and asked.
const (
	maxIndexed  = 2 << 20 // bytes of one article's plain text
	maxSearch   = 400     // bytes of a query
	maxWords    = 16      // words of a query
	maxWordSize = 128     // bytes of a folded word; the rest is cut
)

// word is a maximal run of letters and digits after folding.
type word struct {
	runes []rune
	// dense: of a script that puts no spaces between words.
	dense bool
	// marked: it may have parts that make one letter.
	marked bool
}

// foldWords cuts text into words and takes off what people leave out, or type in
// another way, when they search: case, accents, ё for е, Arabic vowel signs,
// zero-width joiners and non-joiners, the two kinds of yeh and kaf, the three
// kinds of digits, full-width forms. Vowel signs of other scripts (Devanagari,
// Thai) stay: words differ by them.
func foldWords(text string) []word {
	var words []word
	var cur word
	flush := func() {
		if len(cur.runes) > 0 {
			words = append(words, cur)
			cur = word{}
		}
	}
	for _, r := range norm.NFKD.String(cases.Fold().String(text)) {
		if dense, ok := isPlain(r); ok {
			if len(cur.runes) > 0 && dense != cur.dense {
				flush()
			}
			if !dense {
				r = foldRune(r)
			}
			cur.dense = dense
			cur.runes = append(cur.runes, r)
			continue
		}
		switch {
		case r == 0x306 && len(cur.runes) > 0 && cur.runes[len(cur.runes)-1] == 'и':
			cur.runes[len(cur.runes)-1] = 'й' // a letter of its own, unlike ё
			continue
		case unicode.Is(unicode.Cf, r), r == 'ـ', // joiners, directions, soft hyphen; tatweel
			r >= 0x300 && r <= 0x36F,                                         // accents
			r >= 0x591 && r <= 0x5C7 && unicode.Is(unicode.Mn, r),            // Hebrew points
			unicode.Is(unicode.Arabic, r) && unicode.Is(unicode.Mn, r),       // Arabic signs
			r >= 0x64B && r <= 0x65F, r == 0x670, r >= 0xFE00 && r <= 0xFE0F: // shared ones; variation selectors
			continue
		}
		r = foldRune(r)
		if !unicode.In(r, unicode.L, unicode.N, unicode.M) {
			flush()
			continue
		}
		if d := isDense(r); len(cur.runes) > 0 && d != cur.dense && !unicode.Is(unicode.M, r) {
			flush()
			cur.dense = d
		} else if len(cur.runes) == 0 {
			cur.dense = d
		}
		cur.runes = append(cur.runes, r)
		cur.marked = true
	}
	flush()
	for i := range words { // Hangul and kana back to one rune a letter
		if !words[i].marked {
			continue
		}
		words[i].runes = []rune(norm.NFC.String(string(words[i].runes)))
	}
	return words
}

// isPlain reports whether r is one of the letters that most text is made of, of
// which nothing is to be looked up: Latin, Cyrillic, Arabic and Chinese ones,
// and the common digits; and whether its script is dense.
func isPlain(r rune) (dense, ok bool) {
	switch {
	case r < 0x80:
		return false, 'a' <= r && r <= 'z' || '0' <= r && r <= '9'
	case r < 0x620:
		return false, 0x400 <= r && r <= 0x481
	case r < 0x64B:
		return false, r != 'ـ'
	}
	return true, 0x4E00 <= r && r <= 0x9FFF
}

func foldRune(r rune) rune {
	if r < 0x620 {
		return r
	}
	switch r {
	case 'ي', 'ى', 'ې', 'ے':
		return 'ی'
	case 'ك', 'ڪ':
		return 'ک'
	case 'ة', 'ہ', 'ھ', 'ە':
		return 'ه'
	}
	if unicode.Is(unicode.Nd, r) && r > unicode.MaxASCII {
		// Decimal digits come in aligned runs of ten that start with the zero.
		zero := r
		for zero > r-9 && unicode.Is(unicode.Nd, zero-1) {
			zero--
		}
		if r-zero <= 9 {
			return '0' + r - zero
		}
	}
	return r
}

func isDense(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer,
		unicode.Myanmar) || r == 'ー'
}

// indexText is what goes into the index for text: folded words with spaces
// between them. Of dense scripts each pair of neighbours is a word, and the last
// letter alone, so that a search for one letter can be a search by prefix.
func indexText(text string) string {
	if len(text) > maxIndexed {
		text = text[:maxIndexed]
	}
	var b strings.Builder
	b.Grow(len(text))
	for _, w := range foldWords(text) {
		if !w.dense {
			b.WriteString(cut(string(w.runes)))
			b.WriteByte(' ')
			continue
		}
		for i := range w.runes {
			b.WriteString(string(w.runes[i:min(i+2, len(w.runes))]))
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// matchExpr makes an FTS5 expression of what somebody typed: all words, in
// any order, the longer ones as prefixes (no language's endings are known
// here). Each word is quoted and holds only letters and digits, so nothing typed is syntax. It is
// empty if there is nothing to look for.
func matchExpr(query string) string {
	if len(query) > maxSearch {
		query = query[:maxSearch]
	}
	var terms []string
	for _, w := range foldWords(query) {
		if len(terms) == maxWords {
			break
		}
		if !w.dense || len(w.runes) == 1 {
			term := `"` + cut(string(w.runes)) + `"`
			if isStem(w) {
				term += "*"
			}
			terms = append(terms, term)
			continue
		}
		var pairs []string
		for i := range len(w.runes) - 1 {
			pairs = append(pairs, string(w.runes[i:i+2]))
		}
		terms = append(terms, `"`+strings.Join(pairs, " ")+`"`)
	}
	return strings.Join(terms, " AND ")
}

// isStem tells whether a word is long enough to stand for those that begin with
// it. A short prefix has much of the index behind it and says little.
func isStem(w word) bool {
	switch {
	case w.dense || unicode.Is(unicode.Hangul, w.runes[0]):
		return true
	case w.runes[0] <= unicode.MaxLatin1:
		return len(w.runes) >= 4
	}
	return len(w.runes) >= 3
}

// cut bounds a word, at a whole rune.
func cut(w string) string {
	if len(w) <= maxWordSize {
		return w
	}
	return strings.ToValidUTF8(w[:maxWordSize], "")
}

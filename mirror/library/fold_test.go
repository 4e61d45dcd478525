package library

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// TestPlainLetters sees that letters of which foldWords knows without a look
// into Unicode's tables come out as the tables have them: each rune of the
// planes that hold letters, and many of them together.
func TestPlainLetters(t *testing.T) {
	check := func(text string) {
		t.Helper()
		got, want := foldWords(text), lookedUp(text)
		if !slices.EqualFunc(got, want, func(a, b word) bool { return a.dense == b.dense && slices.Equal(a.runes, b.runes) }) {
			t.Fatalf("%+q: %v instead of %v", text, got, want)
		}
	}
	plain := 0
	for r := rune(0); r < 0x30000; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		if _, ok := isPlain(r); ok {
			plain++
		}
		check("a" + string(r) + "и" + string(r) + "桥")
	}
	if plain < 20_000 {
		t.Errorf("%d plain letters", plain)
	}
	luck := rand.New(rand.NewPCG(1, 2))
	ranges := [][2]rune{
		{0, 0x7f},
		{0xa0, 0x24f},
		{0x300, 0x36f},
		{0x370, 0x52f},
		{0x590, 0x6ff},
		{0x900, 0x97f},
		{0xe00, 0xe7f},
		{0x1100, 0x11ff},
		{0x2000, 0x206f},
		{0x3040, 0x30ff},
		{0x4e00, 0x4fff},
		{0xac00, 0xacff},
		{0xf900, 0xfaff},
		{0xff00, 0xffef},
	}
	for range 20_000 {
		var b strings.Builder
		for range 1 + luck.IntN(12) {
			in := ranges[luck.IntN(len(ranges))]
			b.WriteRune(in[0] + luck.Int32N(in[1]-in[0]+1))
		}
		check(b.String())
	}
}

// lookedUp is foldWords with a look into the tables for each rune.
func lookedUp(text string) []word {
	var words []word
	var cur word
	flush := func() {
		if len(cur.runes) > 0 {
			words = append(words, cur)
			cur = word{}
		}
	}
	for _, r := range norm.NFKD.String(cases.Fold().String(text)) {
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
	}
	flush()
	for i := range words { // Hangul and kana back to one rune a letter
		words[i].runes = []rune(norm.NFC.String(string(words[i].runes)))
	}
	return words
}

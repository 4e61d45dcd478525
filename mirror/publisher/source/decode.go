package source

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gogs/chardet"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	xunicode "golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

var xmlEncoding = regexp.MustCompile(`^(\s*<\?xml[^>]*?encoding\s*=\s*)(?:"([A-Za-z0-9._:-]+)"|'([A-Za-z0-9._:-]+)')`)

// decode returns data as UTF-8 without BOM. It believes, in this order: a BOM;
// valid UTF-8 (other charsets don't look like it by chance, whatever a stale
// meta says); the server's charset; an XML declaration or HTML meta; the shape
// of UTF-16; at last the frequency of letters.
func decode(data []byte, contentType string) (string, error) {
	enc, err := findEncoding(data, contentType)
	if err != nil {
		return "", err
	}
	if enc != nil {
		// No charset here more than triples in UTF-8, so MaxFile bounds this too.
		out, _, err := transform.Bytes(enc.NewDecoder(), data)
		if err != nil {
			return "", fmt.Errorf("its charset can't be read: %w", err)
		}
		data = out
	}
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	if bytes.IndexByte(data, 0) >= 0 {
		return "", fmt.Errorf("can't read binary data; %w", ErrUnreadable)
	}
	text := string(data)
	if bad := strings.Count(text, "\uFFFD"); bad > 16 && bad > len(text)/50 {
		return "", errors.New("its charset can't be told; save it as UTF-8")
	}
	return strings.ToValidUTF8(text, "\uFFFD"), nil
}

// findEncoding returns nil for UTF-8.
func findEncoding(data []byte, contentType string) (encoding.Encoding, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\xEF\xBB\xBF")):
		return nil, nil
	case bytes.HasPrefix(data, []byte("\xFF\xFE")), bytes.HasPrefix(data, []byte("\xFE\xFF")):
		return xunicode.UTF16(xunicode.LittleEndian, xunicode.UseBOM), nil
	}
	if e := utf16Shape(data); e != nil {
		return e, nil
	}
	if utf8.Valid(data) {
		return nil, nil
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("can't read binary data; %w", ErrUnreadable)
	}
	if m := xmlEncoding.FindSubmatch(data[:min(len(data), 1024)]); m != nil {
		if e, _ := charset.Lookup(string(m[2]) + string(m[3])); e != nil {
			return e, nil
		}
	}
	// certain: the server's charset or a meta, and not the windows-1252 that
	// HTML falls back to. A meta that says UTF-8 was found wrong above.
	if e, name, certain := charset.DetermineEncoding(data, contentType); certain && name != "utf-8" {
		return e, nil
	}
	// A few broken bytes in a text that is otherwise UTF-8 are damage, not
	// another charset.
	if ok := utf8Share(data); ok > 0.98 {
		return nil, nil
	}
	return byLetters(data)
}

// utf16Shape finds UTF-16 without a BOM: in any text with spaces, line ends or
// digits every other byte of these is zero.
func utf16Shape(data []byte) encoding.Encoding {
	if len(data) < 16 || len(data)%2 != 0 {
		return nil
	}
	var even, odd int
	sample := data[:min(len(data), 8192)&^1]
	for i := 0; i+1 < len(sample); i += 2 {
		if sample[i] == 0 && sample[i+1] != 0 {
			even++
		}
		if sample[i+1] == 0 && sample[i] != 0 {
			odd++
		}
	}
	least := max(2, len(sample)/100)
	switch {
	case odd >= least && even == 0:
		return xunicode.UTF16(xunicode.LittleEndian, xunicode.IgnoreBOM)
	case even >= least && odd == 0:
		return xunicode.UTF16(xunicode.BigEndian, xunicode.IgnoreBOM)
	}
	return nil
}

// utf8Share is the part of the bytes beyond ASCII that are valid UTF-8.
func utf8Share(data []byte) float64 {
	good, bad := 0, 0
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n == 1:
			bad++
		case n > 1:
			good += n
		}
		data = data[n:]
	}
	if good+bad == 0 {
		return 1
	}
	return float64(good) / float64(good+bad)
}

// byLetters lets the charset detector propose, and takes its best proposal
// under which the text is letters and not debris.
func byLetters(data []byte) (encoding.Encoding, error) {
	sample := data[:min(len(data), 64<<10)]
	results, err := chardet.NewTextDetector().DetectAll(sample)
	if err != nil {
		results = nil
	}
	names := make([]string, 0, len(results)+3)
	for _, res := range results {
		if res.Confidence >= 10 {
			names = append(names, strings.ReplaceAll(res.Charset, "GB-18030", "gb18030"))
		}
	}
	names = append(names, "windows-1251", "windows-1256", "gb18030")
	var best encoding.Encoding
	bestScore := -1.0
	for i, name := range names {
		e, _ := charset.Lookup(name)
		if e == nil {
			continue
		}
		out, _, err := transform.Bytes(e.NewDecoder(), sample)
		if err != nil {
			continue
		}
		// Later proposals must be clearly better.
		if s := plausible(string(out)) - 0.02*float64(i); s > bestScore {
			best, bestScore = e, s
		}
	}
	if best == nil || bestScore < 0.3 {
		return nil, errors.New("its charset can't be told; save it as UTF-8")
	}
	return best, nil
}

// plausible scores decoded text: words of one script in one case pattern are
// good, replacement characters, symbols amid letters and rare letters bad.
func plausible(s string) float64 {
	letters, bad, total := 0, 0, 0
	var prev rune
	for _, r := range s {
		if r < 0x80 {
			prev = r
			continue
		}
		total++
		switch {
		case r == utf8.RuneError, unicode.Is(unicode.Co, r), unicode.IsControl(r):
			bad += 5
		case unicode.IsUpper(r) && unicode.IsLower(prev):
			bad += 2 // "пРИВЕТ" is KOI8 read as windows-1251, or the reverse
		case unicode.IsLetter(r) && unicode.IsLetter(prev) && script(r) != script(prev):
			bad += 2
		case unicode.IsLetter(r), unicode.IsMark(r), r == '\u200c':
			letters++
			if script(r) == "Latn" || script(r) == "" {
				bad++ // accents in every word: single-byte charsets read as Latin-1
			}
		case unicode.In(r, unicode.Punct, unicode.Zs):
		default:
			bad++
		}
		prev = r
	}
	if total == 0 {
		return 0
	}
	return float64(letters-bad) / float64(total)
}

// xmlUTF8 rewrites an XML declaration to match text that is UTF-8 by now, so
// that the feed parser doesn't convert it a second time.
func xmlUTF8(text string) string {
	return xmlEncoding.ReplaceAllString(text, `${1}"utf-8"`)
}

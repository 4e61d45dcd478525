package source

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

// The lengths bundle.Article allows, and what a lead should be.
const (
	maxTitle     = 500  // bytes
	maxLead      = 1000 // bytes
	maxLeadRunes = 300
	maxAlt       = 1000 // bytes
)

// draft is an article as one of the importers found it.
type draft struct {
	title  string // plain text; "" takes the first sentence
	lead   string // plain text; "" takes the first paragraph
	body   string // HTML with <img src="image:N">, not yet sanitised
	lang   string // as declared, "" if not
	date   time.Time
	source string // as declared, "" if not
	key    string // names the article without a source address
	images []bundle.Image
	page   bool // it was a web page
}

// finish makes an article of a draft: everything bundle.Article promises is
// seen to here, for all importers.
func (r *reader) finish(f draft) (bundle.Article, error) {
	if len(f.body) > safehtml.MaxBody {
		return bundle.Article{}, fmt.Errorf("%w: the text is over %d MiB", ErrTooLarge, safehtml.MaxBody>>20)
	}
	body := nfcHTML(f.body)
	text := safehtml.Text(body)
	if text == "" && len(f.images) == 0 {
		return bundle.Article{}, fmt.Errorf("%w: there is no text", ErrNoArticles)
	}
	a := bundle.Article{Title: oneLine(f.title), Body: body, Images: f.images}
	if a.Title == "" {
		a.Title = clip(firstSentence(oneLine(firstParagraph(text))), 140)
	}
	a.Title = clipBytes(a.Title, maxTitle)
	if a.Title == "" {
		return bundle.Article{}, errors.New("there is no title; put one on the first line")
	}
	a.Body = dropTitle(a.Body, a.Title, leadingHeading)
	if f.page { // there, markup says little: a title may stand in a paragraph
		a.Body = dropTitle(a.Body, a.Title, leadingParagraph)
	}
	text = safehtml.Text(a.Body)
	a.Lead = oneLine(f.lead)
	if a.Lead == "" || a.Lead == a.Title {
		a.Lead = oneLine(firstParagraph(text))
	}
	a.Lead = clipBytes(clip(a.Lead, maxLeadRunes), maxLead)
	a.Lang, a.Dir = languageAndDir(f.lang, a.Title+"\n"+text, r.o.Lang)
	if f.date.IsZero() {
		f.date = r.o.Now()
	}
	a.Date = f.date.UTC().Truncate(time.Second)
	if u := canonicalURL(f.source); u != "" {
		a.Source = u
		a.ID = idOf("url", identity(u))
	} else {
		a.ID = idOf("path", f.key)
	}
	return a, nil
}

// Fingerprint is a hash of what a reader sees of an article: everything but
// its date, which for files without one is only when the file was last
// written. Two articles of one ID and one fingerprint need not be packed twice.
func Fingerprint(a bundle.Article) [32]byte {
	h := sha256.New()
	put := func(b []byte) { // length first, so that no two lists of fields agree by chance
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, s := range []string{"tamizdat article 1", a.ID, a.Title, a.Lead, a.Body, a.Lang, a.Dir, a.Source} {
		put([]byte(s))
	}
	for _, img := range a.Images {
		put([]byte(img.Type))
		put([]byte(img.Alt))
		put(img.Data)
	}
	return [32]byte(h.Sum(nil))
}

// idOf is the first 8 bytes of a SHA-256 in hex. kind keeps addresses and paths apart.
func idOf(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + "\n" + name))
	return hex.EncodeToString(sum[:8])
}

var trackers = regexp.MustCompile(`^(?:utm_.*|fbclid|gclid|yclid|mc_[ce]id|igshid|ref_src|_openstat|at_(?:medium|campaign).*|withmediaplayer|nocache)$`)

// canonicalURL returns an http or https address without fragment, default port
// and trackers; "" for anything else, and for a bare host, which is no article.
func canonicalURL(s string) string {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || len(s) > 2000 {
		return ""
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return ""
	}
	u.Host = strings.ToLower(u.Host)
	if p := u.Port(); u.Scheme == "http" && p == "80" || u.Scheme == "https" && p == "443" {
		u.Host = strings.TrimSuffix(u.Host, ":"+p)
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		parts := slices.DeleteFunc(strings.Split(u.RawQuery, "&"), func(p string) bool {
			key, _, _ := strings.Cut(p, "=")
			return p == "" || trackers.MatchString(strings.ToLower(key))
		})
		u.RawQuery = strings.Join(parts, "&")
	}
	u.ForceQuery = false
	if strings.Trim(u.Path, "/") == "" && u.RawQuery == "" {
		return ""
	}
	return u.String()
}

// identity is a canonical address reduced to what names the story: a site that
// moves to https, or drops its www, has the same stories.
func identity(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	return strings.TrimPrefix(rest, "www.")
}

// nfcHTML sanitises HTML and brings it into normalisation form C. The form
// must hold for the whole string, and one combining mark (U+0338) would compose
// with a tag's own ">" and break it, so text loses that mark where it hurts.
func nfcHTML(body string) string {
	body = safehtml.Sanitize(body)
	if norm.NFC.IsNormalString(body) {
		return body
	}
	body = strings.ReplaceAll(body, "\u0338", "")
	return safehtml.Sanitize(norm.NFC.String(body))
}

// oneLine is plain text on one line: NFC, white space folded, control and
// direction-override characters gone.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), r >= 0x202A && r <= 0x202E, r == 0xFEFF, r == 0x00AD, r == utf8.RuneError:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.Join(strings.Fields(norm.NFC.String(s)), " ")
}

func firstParagraph(text string) string {
	for para := range strings.SplitSeq(text, "\n\n") {
		if strings.TrimSpace(para) != "" {
			return para
		}
	}
	return ""
}

// firstSentence ends at the first full stop that ends a sentence.
func firstSentence(s string) string {
	if i := sentenceEnd(s, 0); i > 0 {
		return s[:i]
	}
	return s
}

// sentenceEnd returns the index behind the first sentence end at or after from
// bytes, 0 if none.
func sentenceEnd(s string, from int) int {
	for i, c := range s {
		if !strings.ContainsRune(".!?…。！？؟۔।։", c) {
			continue
		}
		end := i + utf8.RuneLen(c)
		for { // closing quotes belong to it
			q, n := utf8.DecodeRuneInString(s[end:])
			if n == 0 || !strings.ContainsRune("\"'”’»)”』」", q) {
				break
			}
			end += n
		}
		wide := c > 0x2FFF
		if end >= from && (end == len(s) || wide || s[end] == ' ' && !abbreviated(s[:i], s[end+1:])) {
			return end
		}
	}
	return 0
}

// abbreviated reports whether a stop ends an abbreviation or initial: a short
// capitalised or single-letter word before it, or no capital after it.
func abbreviated(before, after string) bool {
	word := before[strings.LastIndexAny(before, " (\"«")+1:]
	if utf8.RuneCountInString(word) <= 2 && !strings.ContainsFunc(word, unicode.IsDigit) {
		return true
	}
	next, _ := utf8.DecodeRuneInString(after)
	return unicode.IsLower(next)
}

// clip shortens plain text to n runes: at the last sentence end in the second
// half, else at a word with an ellipsis.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	short := string([]rune(s)[:n-1])
	end := 0
	for {
		next := sentenceEnd(short, end+1)
		if next <= end || next == len(short) {
			break
		}
		end = next
	}
	if end > len(short)/3 {
		return short[:end]
	}
	if i := strings.LastIndexByte(short, ' '); i > len(short)/2 {
		short = short[:i]
	}
	return strings.TrimRight(short, " ,;:–—-،、，") + "…"
}

// clipBytes shortens to at most n bytes at a rune boundary, with an ellipsis.
func clipBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimSpace(s[:n]) + "…"
}

var (
	leadingHeading   = regexp.MustCompile(`^\s*<h[2-4][^>]*>.*?</h[2-4]>\s*`)
	leadingParagraph = regexp.MustCompile(`^\s*<p(?:\s[^>]*)?>.*?</p>\s*`)
)

// dropTitle removes a first heading (or what first finds) that says the title again.
func dropTitle(body, title string, first *regexp.Regexp) string {
	h := first.FindString(body)
	if h != "" && strings.EqualFold(oneLine(safehtml.Text(h)), title) && len(h) < len(body) {
		return safehtml.Sanitize(body[len(h):])
	}
	return body
}

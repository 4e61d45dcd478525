package source

import (
	"fmt"
	"html"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

// maxLines bounds the work on one plain text; an article has some dozens.
const maxLines = 20_000

// plain imports plain text as a person copies it from a browser: the title is
// found, what the page had around the article is dropped.
func (r *reader) plain(text string, d document) (bundle.Article, error) {
	if len(text) > 2*safehtml.MaxBody || strings.Count(text, "\n") > maxLines {
		return bundle.Article{}, fmt.Errorf("%w: the text is over %d MiB or %d lines", ErrTooLarge, safehtml.MaxBody>>20, maxLines)
	}
	p := parsePlain(text)
	f := draft{title: p.title, body: p.html(), key: d.id, date: d.date}
	if !p.date.IsZero() {
		f.date = p.date
	}
	f.source = p.source
	pics := d.pics.besideText(d.stem)
	for i := len(pics) - 1; i >= 0; i-- {
		f.body = `<figure><img src="` + html.EscapeString(pics[i]) + `" alt=""></figure>` + f.body
	}
	var err error
	if f.body, f.images, err = d.pics.embed(f.body); err != nil {
		return bundle.Article{}, err
	}
	return r.finish(f)
}

// plainText is a copied article taken apart.
type plainText struct {
	title  string
	parts  []part
	date   time.Time // found near the title
	source string    // an address on a line of its own
}

// part is one block of the body.
type part struct {
	tag  string // p, h3, li or hr
	text string
}

func (p plainText) html() string {
	var b strings.Builder
	for i, x := range p.parts {
		switch x.tag {
		case "hr":
			b.WriteString("<hr>")
			continue
		case "li":
			if i == 0 || p.parts[i-1].tag != "li" {
				b.WriteString("<ul>")
			}
		}
		b.WriteString("<" + x.tag + ">" + html.EscapeString(x.text) + "</" + x.tag + ">")
		if x.tag == "li" && (i+1 == len(p.parts) || p.parts[i+1].tag != "li") {
			b.WriteString("</ul>")
		}
	}
	return b.String()
}

// textLine is one line (a paragraph, mostly) of the input.
type textLine struct {
	text   string
	bullet bool
	kind   lineKind
	cols   int // width in Latin letters; a Han character counts two
	words  int
	ends   bool // ends a sentence
}

// parsePlain works from shape first: an article is a run of lines that are
// sentences; what stands before and behind it is short and isn't. The lists of
// chrome.go only settle what shape leaves open.
func parsePlain(text string) plainText {
	ls := splitLines(text)
	var p plainText
	if len(ls) == 0 {
		return p
	}
	start := bodyStart(ls)
	if start < 0 { // no sentence anywhere: a note of a few words
		for _, l := range ls {
			switch {
			case l.kind != lineShort && l.kind != lineProse:
			case p.title == "":
				p.title = l.text
			default:
				p.parts = append(p.parts, part{"p", l.text})
			}
		}
		if len(p.parts) == 0 && p.title != "" {
			p.parts = []part{{"p", p.title}}
		}
		return p
	}
	title := findTitle(ls, start)
	if title == start {
		start++
	}
	if title >= 0 {
		p.title = strings.TrimSpace(bulletLine.ReplaceAllString(ls[title].text, ""))
	}
	end := bodyEnd(ls, start)
	for i, l := range ls {
		if l.kind == lineDate && p.date.IsZero() && (i < start || i >= end) {
			p.date, _ = parseDate(stampLabel.ReplaceAllString(l.text, ""))
		}
		if p.source == "" && webLine.MatchString(l.text) && canonicalURL(l.text) != "" && i < start {
			p.source = l.text
		}
	}
	from := start
	if title >= 0 {
		from = title + 1
	}
	for i := from; i < end; i++ {
		if x, ok := bodyPart(ls, i, start, end); ok && x.text != p.title {
			p.parts = append(p.parts, x)
		}
	}
	return p
}

// bodyPart says what line i is in the body; ok is false for what is dropped.
func bodyPart(ls []textLine, i, start, end int) (part, bool) {
	l := ls[i]
	switch {
	case i < start: // between title and text: a deck, or byline, place, section
		long := l.cols >= 45 && (l.words >= 6 || l.cols >= l.words*8)
		return part{"p", l.text}, l.kind == lineProse || l.kind == lineShort && long
	case l.bullet && (l.kind == lineProse || l.kind == lineShort):
		friends := i > start && ls[i-1].bullet || i+1 < end && ls[i+1].bullet
		text := strings.TrimSpace(bulletLine.ReplaceAllString(l.text, ""))
		if l.kind == lineShort && !friends {
			return part{}, false
		}
		return part{"li", text}, text != ""
	case l.kind == lineProse:
		return part{"p", l.text}, true
	case l.kind == lineRule:
		return part{"hr", ""}, i > start && i+1 < end
	case l.kind != lineShort, i > start && ls[i-1].kind == lineTeaser:
		return part{}, false
	case l.ends:
		return part{"p", l.text}, true
	}
	// A short line amid the text is a subheading if text follows it, and a
	// leftover if more short lines do.
	next := i + 1
	for next < end && ls[next].kind != lineShort && ls[next].kind != lineProse {
		next++
	}
	if next < end && (ls[next].kind == lineProse || ls[next].ends || ls[next].bullet) && (l.words >= 2 || l.cols >= 8) && l.cols <= 120 {
		return part{"h3", strings.TrimRight(l.text, ":：")}, true
	}
	return part{}, false
}

// wrapMargin is the widest line that can be the work of a program that breaks
// lines; a browser's copy has a paragraph a line.
const wrapMargin = 110

// splitLines cuts text into paragraphs, joining lines that were wrapped.
func splitLines(text string) []textLine {
	text = norm.NFC.String(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n\n", "\v", "\n", "\f", "\n\n").Replace(text))
	var groups [][]string // lines between blank ones
	widest, fresh := 0, true
	for raw := range strings.SplitSeq(text, "\n") {
		line := oneLine(raw)
		if line == "" {
			fresh = true
			continue
		}
		own := bulletLine.MatchString(line) || ruleLine.MatchString(line)
		if fresh || own {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], line)
		widest, fresh = max(widest, columns(line)), own
	}
	var out []textLine
	for _, group := range groups {
		if widest <= wrapMargin {
			group = unwrapped(group)
		}
		for _, line := range group {
			out = append(out, classify(line))
		}
	}
	return out
}

// unwrapped joins a line with the next where a program that fills lines would
// have broken them: the next word did not fit. A group in which most such
// breaks fall at sentence ends is paragraphs of like length instead.
func unwrapped(group []string) []string {
	margin, breaks, open := 0, 0, 0
	for _, g := range group {
		margin = max(margin, columns(g))
	}
	if margin < 50 {
		return group
	}
	full := func(i int) bool {
		word, _, _ := strings.Cut(group[i+1], " ")
		if r, n := utf8.DecodeRuneInString(word); isWide(r) {
			word = word[:n]
		}
		return columns(group[i])+1+columns(word) > margin-2
	}
	for i := range len(group) - 1 {
		if full(i) {
			breaks++
			if !endsSentence(group[i]) {
				open++
			}
		}
	}
	if breaks == 0 || open*2 < breaks {
		return group
	}
	var out []string
	var para strings.Builder
	for i, line := range group {
		para.WriteString(line)
		if i+1 == len(group) || !full(i) {
			out = append(out, para.String())
			para.Reset()
			continue
		}
		a, _ := utf8.DecodeLastRuneInString(line)
		if b, _ := utf8.DecodeRuneInString(group[i+1]); !isWide(a) || !isWide(b) {
			para.WriteByte(' ')
		}
	}
	return out
}

// classify says what one line is, as far as it alone tells.
func classify(s string) textLine {
	l := textLine{text: s, bullet: bulletLine.MatchString(s), cols: columns(s), words: len(strings.Fields(s)), ends: endsSentence(s)}
	word := strings.TrimSpace(bulletLine.ReplaceAllString(s, ""))
	key := bare(word)
	sentence := l.ends && l.cols >= 60
	switch {
	case ruleLine.MatchString(s):
		l.kind = lineRule
	case endings[key]:
		l.kind = lineTail
	case teasers[key]:
		l.kind = lineTeaser
	case key == "", counter.MatchString(word), webLine.MatchString(word), labels[key], !l.ends && teaserLine(word):
		l.kind = lineNav
	case l.cols <= 160 && mediaLine.MatchString(word):
		l.kind = lineMedia
	case l.cols <= 90 && !sentence && isStamp(word):
		l.kind = lineDate
	case l.cols <= 130 && !sentence && creditLine.MatchString(word):
		l.kind = lineCredit
	case l.cols <= 400 && boiler.MatchString(s):
		l.kind = lineBoiler
	case !l.ends && l.cols <= 100 && crumbs(s):
		l.kind = lineNav
	case l.ends && (l.cols >= 40 || l.words >= 7), l.cols >= 120:
		l.kind = lineProse
	}
	return l
}

// teaserLine reports whether a line is a label and the title of another story:
// "Read also: …".
func teaserLine(s string) bool {
	i := strings.IndexAny(s, ":：")
	return i > 0 && (teasers[bare(s[:i])] || endings[bare(s[:i])])
}

// isStamp reports whether a short line is a date, a time, or either behind a label.
func isStamp(s string) bool {
	s = stampLabel.ReplaceAllString(s, "")
	if _, ok := parseDate(s); ok {
		return true
	}
	return jalali.MatchString(s) || counter.MatchString(s) || clock.MatchString(s) && columns(s) <= 30
}

// crumbs reports whether a line is a row of labels: Home > News > World.
func crumbs(s string) bool {
	for _, sep := range []string{" > ", " » ", " › ", " | ", " · ", " • ", " / ", " \\ ", "|"} {
		fields := strings.Split(s, sep)
		if len(fields) < 3 {
			continue
		}
		long := 0
		for _, f := range fields {
			if columns(f) > 28 {
				long++
			}
		}
		if long <= 1 {
			return true
		}
	}
	return false
}

// endsSentence looks for a full stop of any script at the end, behind closing
// quotes and brackets.
func endsSentence(s string) bool {
	s = strings.TrimRight(s, "\"'”’»)）」』】›] \u200f\u200e")
	r, _ := utf8.DecodeLastRuneInString(s)
	return strings.ContainsRune(".!?…。！？؟۔।։", r)
}

// columns is the width of a line in Latin letters.
func columns(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.IsMark(r), r == '\u200c', r == '\u200d':
		case isWide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

func isWide(r rune) bool {
	if r < 0x1100 {
		return false
	}
	k := width.LookupRune(r).Kind()
	return k == width.EastAsianWide || k == width.EastAsianFullwidth
}

package source

import (
	"strings"
	"unicode"
)

// bodyStart is the first line that belongs to the article's text, -1 if none
// looks like it.
func bodyStart(ls []textLine) int {
	first := -1
	for i, l := range ls {
		if l.kind != lineProse {
			continue
		}
		if first < 0 {
			first = i
		}
		// A sentence that stands alone amid labels (a teaser, a notice) is not
		// the start if text begins further down.
		for j := i + 1; j < len(ls) && j <= i+4; j++ {
			if ls[j].kind == lineProse {
				return i
			}
		}
	}
	return first
}

// findTitle returns the line of the title: of the short lines before the text
// the one whose words the text uses, which is long enough, and which stands
// first; start itself if the text's first line is one; -1 if there is none.
func findTitle(ls []textLine, start int) int {
	used := vocabulary(ls[start:])
	times := map[string]int{}
	for _, l := range ls[:start] {
		times[bare(l.text)]++
	}
	scores := make([]float64, start)
	best := 0.0
	for i, l := range ls[:start] {
		if l.kind != lineShort && !(l.kind == lineProse && l.cols <= 180) {
			continue
		}
		s := overlap(l.text, used) * 2
		switch {
		case l.cols < 12:
			s += 0.1
		case l.cols < 20 || l.words < 3 && l.cols < l.words*12:
			s += 0.4
		case l.cols <= 150:
			s++
		default:
			s += 0.5
		}
		if times[bare(l.text)] > 1 { // the window's title and the heading
			s += 0.3
		}
		if l.bullet {
			s -= 0.5
		}
		s += 0.4 / float64(start-i)
		scores[i] = s
		best = max(best, s)
	}
	// A question or a short statement in the place of the title, and nothing
	// better before it.
	first := ls[start]
	if best < 1.3 && first.cols <= 110 && start+1 < len(ls) && sentenceEnd(first.text, 0) == len(first.text) && startsLonger(ls, start) {
		return start
	}
	if best < 0.6 {
		return -1
	}
	for i, s := range scores {
		if s >= best*0.75 {
			return i
		}
	}
	return -1
}

// startsLonger reports whether the text after line i runs in paragraphs much
// longer than it, so that the line is a headline and not a paragraph.
func startsLonger(ls []textLine, i int) bool {
	n, sum := 0, 0
	for _, l := range ls[i+1:] {
		if l.kind == lineProse {
			n++
			sum += l.cols
		}
	}
	return n >= 1 && sum/n >= ls[i].cols*3/2
}

// bodyEnd is the index behind the last line of the text.
func bodyEnd(ls []textLine, start int) int {
	total := 0
	for _, l := range ls[start:] {
		if l.kind == lineProse {
			total += l.cols
		}
	}
	end, read := len(ls), 0
	for i := start; i < len(ls); i++ {
		l := ls[i]
		// Behind most of the text a credit or a label of what comes next closes
		// the article; before that the same line is only a leftover.
		if read*100 >= total*60 {
			switch l.kind {
			case lineTail:
				end = i
			case lineTeaser: // a list of other stories, not one box amid the text
				if i+2 < len(ls) && ls[i+1].kind == lineShort && ls[i+2].kind == lineShort && !ls[i+1].ends {
					end = i
				}
			case lineCredit:
				if closing(ls, i) {
					end = i
				}
			default: // goes on
			}
			if end < len(ls) {
				break
			}
		}
		if l.kind == lineProse {
			read += l.cols
		}
	}
	// What the site says of itself, after the last paragraph.
	for end > start {
		l := ls[end-1]
		last := l.kind == lineProse || l.kind == lineShort && l.ends
		if last && !(end-1 > start && aboutUs.MatchString(l.text) && apart(ls, end-1)) {
			break
		}
		if l.kind == lineShort && l.bullet && end-2 >= start && ls[end-2].bullet && ls[end-2].kind == lineProse {
			break // the last item of a list
		}
		end--
	}
	return max(end, start+1)
}

// closing reports whether what follows a credit is no longer the article: at
// most three paragraphs of anything.
func closing(ls []textLine, i int) bool {
	n := 0
	for _, l := range ls[i+1:] {
		if l.kind == lineProse {
			n++
		}
	}
	return n <= 3
}

// apart reports whether line i is set off from the text before it by something
// that is not text.
func apart(ls []textLine, i int) bool {
	return i > 0 && ls[i-1].kind != lineProse || i == len(ls)-1
}

// vocabulary is the set of word beginnings (of alphabetic scripts) and
// character pairs (of Han and kana) of the prose.
func vocabulary(ls []textLine) map[string]bool {
	used := map[string]bool{}
	for _, l := range ls {
		if l.kind == lineProse {
			for _, t := range terms(l.text) {
				used[t] = true
			}
		}
	}
	return used
}

// terms cuts text into what titles and texts have in common: the first five
// letters of words of four or more (endings inflect), and pairs of wide letters.
func terms(s string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && r != '\u200c'
	}) {
		rs := []rune(w)
		if isWide(rs[0]) {
			for i := 0; i+1 < len(rs); i++ {
				out = append(out, string(rs[i:i+2]))
			}
		} else if len(rs) >= 4 {
			out = append(out, string(rs[:min(5, len(rs))]))
		}
	}
	return out
}

// overlap is the part of the line's terms that the text uses.
func overlap(line string, used map[string]bool) float64 {
	ts := terms(line)
	if len(ts) == 0 {
		return 0
	}
	n := 0
	for _, t := range ts {
		if used[t] {
			n++
		}
	}
	return float64(n) / float64(len(ts))
}

package source

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	"golang.org/x/text/unicode/norm"

	"tamizdat/bundle"
	"tamizdat/internal/safehtml"
)

// markdown renders CommonMark with tables and bare links. HTML in it passes,
// since everything is sanitised afterwards. A converter may be shared.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.Table, extension.Linkify),
	goldmark.WithRendererOptions(html.WithUnsafe()),
)

var firstH1 = regexp.MustCompile(`(?s)^\s*<h1[^>]*>(.*?)</h1>`)

// markdown imports a Markdown document: front matter (optional), then text. The
// title is the front matter's, else the first heading, else the first sentence.
func (r *reader) markdown(text string, d document) (bundle.Article, error) {
	meta, text, bad, err := splitFrontMatter(norm.NFC.String(text))
	if err != nil {
		return bundle.Article{}, err
	}
	for _, n := range bad {
		r.warn(d.where, fmt.Errorf("line %d of its front matter can't be read; write it as key: value, with both quotation marks or none", n))
	}
	var out bytes.Buffer
	if err := guard("markdown", func() error { return markdown.Convert([]byte(text), &out) }); err != nil {
		return bundle.Article{}, err
	}
	body := out.String()
	f := draft{
		title: meta["title"], lead: firstOf(meta["lead"], meta["description"], meta["summary"]),
		lang: firstOf(meta["lang"], meta["language"]), source: firstOf(meta["source"], meta["url"], meta["canonical"]),
		key: d.id, date: d.date,
	}
	if t, ok := parseDate(meta["date"]); ok {
		f.date = t
	} else if meta["date"] != "" {
		r.warn(d.where, errors.New("its date can't be read; write it as 2006-01-02 or 2006-01-02T15:04:05Z"))
	}
	if f.lang != "" && f.lang != "und" && canonicalLang(f.lang) == "" {
		r.warn(d.where, errors.New("its lang is no language tag and is ignored; write ru or pt-BR"))
	}
	if m := firstH1.FindStringSubmatch(body); m != nil && (f.title == "" || oneLine(safehtml.Text(m[1])) == oneLine(f.title)) {
		f.title = safehtml.Text(m[1])
		body = body[len(m[0]):]
	}
	if img := meta["image"]; img != "" {
		d.pics.lead = img
	}
	f.body, f.images, err = d.pics.embed(body)
	if err != nil {
		return bundle.Article{}, err
	}
	return r.finish(f)
}

func firstOf(ss ...string) string {
	for _, s := range ss {
		if s = strings.TrimSpace(s); s != "" {
			return s
		}
	}
	return ""
}

// splitFrontMatter takes the "key: value" lines between two lines of "---" (or
// "key = value" between "+++") off the text. Only flat keys are of use here;
// lists and nested values are skipped, not refused. bad are the numbers, from 1
// after the opening line, of lines that are none of that; at most maxBadLines.
func splitFrontMatter(text string) (meta map[string]string, body string, bad []int, err error) {
	meta = map[string]string{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	trimmed := strings.TrimLeft(text, "\n ")
	fence, sep := "---", ":"
	if strings.HasPrefix(trimmed, "+++\n") {
		fence, sep = "+++", "="
	} else if !strings.HasPrefix(trimmed, "---\n") {
		return meta, text, nil, nil
	}
	head, body, ok := strings.Cut("\n"+trimmed[len(fence)+1:], "\n"+fence+"\n")
	if !ok {
		if head, ok = strings.CutSuffix("\n"+trimmed[len(fence)+1:], "\n"+fence); !ok {
			if fence == "---" && !strings.Contains(strings.SplitN(trimmed, "\n", 3)[1], sep) {
				return meta, text, nil, nil // a rule across the page, not front matter
			}
			return nil, "", nil, fmt.Errorf("its front matter has no closing %s line", fence)
		}
	}
	block := false // in a value of several lines
	for n, line := range strings.Split(head, "\n") {
		if strings.TrimSpace(line) == "" || strings.ContainsAny(line[:1], " \t#-[]{}") || block && sep == "=" {
			block = block && !strings.HasSuffix(line, `"""`)
			continue
		}
		key, value, ok := strings.Cut(line, sep)
		if !ok {
			bad = badLine(bad, n)
			continue
		}
		value = strings.TrimSpace(value)
		block = strings.HasPrefix(value, `"""`) && !strings.HasSuffix(value[3:], `"""`)
		if q := value; !block && q != "" && strings.ContainsAny(q[:1], `"'`) && (len(q) < 2 || q[len(q)-1] != q[0]) && !strings.Contains(q[1:], q[:1]) {
			bad = badLine(bad, n)
		}
		for _, q := range []string{`"`, `'`} {
			if len(value) >= 2 && strings.HasPrefix(value, q) && strings.HasSuffix(value, q) {
				value = strings.ReplaceAll(value[1:len(value)-1], `\`+q, q)
				break
			}
		}
		meta[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return meta, body, bad, nil
}

// maxBadLines is how many lines of one front matter are complained of.
const maxBadLines = 3

func badLine(bad []int, n int) []int {
	if len(bad) < maxBadLines {
		bad = append(bad, n)
	}
	return bad
}

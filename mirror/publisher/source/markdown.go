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
	meta, text, err := splitFrontMatter(norm.NFC.String(text))
	if err != nil {
		return bundle.Article{}, err
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
// lists and nested values are skipped, not refused.
func splitFrontMatter(text string) (map[string]string, string, error) {
	meta := map[string]string{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	trimmed := strings.TrimLeft(text, "\n ")
	fence, sep := "---", ":"
	if strings.HasPrefix(trimmed, "+++\n") {
		fence, sep = "+++", "="
	} else if !strings.HasPrefix(trimmed, "---\n") {
		return meta, text, nil
	}
	head, body, ok := strings.Cut("\n"+trimmed[len(fence)+1:], "\n"+fence+"\n")
	if !ok {
		if head, ok = strings.CutSuffix("\n"+trimmed[len(fence)+1:], "\n"+fence); !ok {
			if fence == "---" && !strings.Contains(strings.SplitN(trimmed, "\n", 3)[1], sep) {
				return meta, text, nil // a rule across the page, not front matter
			}
			return nil, "", fmt.Errorf("its front matter has no closing %s line", fence)
		}
	}
	for line := range strings.SplitSeq(head, "\n") {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, sep)
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		for _, q := range []string{`"`, `'`} {
			if len(value) >= 2 && strings.HasPrefix(value, q) && strings.HasSuffix(value, q) {
				value = strings.ReplaceAll(value[1:len(value)-1], `\`+q, q)
				break
			}
		}
		meta[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return meta, body, nil
}

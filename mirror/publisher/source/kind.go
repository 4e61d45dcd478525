package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/mmcdole/gofeed"
)

// kind is what a document turned out to be.
type kind int

const (
	kindUnknown kind = iota
	kindText
	kindMarkdown
	kindHTML
	kindFeed
	kindImage   // stands beside articles
	kindIgnored // stands beside articles and is no business of ours
)

// byName guesses from a file's name; only a hint, sniff has the last word.
func byName(name string) kind {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown":
		return kindMarkdown
	case ".html", ".htm", ".xhtml":
		return kindHTML
	case ".txt", ".text":
		return kindText
	case ".xml", ".rss", ".atom", ".json":
		return kindFeed
	case ".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".heic", ".svg", ".bmp", ".tif", ".tiff", ".ico":
		return kindImage
	case ".css", ".js", ".toml", ".yaml", ".yml", ".ini", ".lock", ".car", ".bak", ".swp", ".part", ".db",
		".woff", ".woff2", ".mp3", ".mp4", ".ogg", ".webm", ".m4a":
		return kindIgnored
	}
	if strings.HasSuffix(name, "~") {
		return kindIgnored
	}
	return kindUnknown
}

// magic are the beginnings of files that people give by mistake, with what to
// call them.
var magic = []struct{ prefix, what string }{
	{"%PDF-", "PDF"},
	{"PK\x03\x04", "an office document or zip archive"},
	{"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old office document"},
	{`{\rtf`, "RTF"},
	{"\x1f\x8b", "compressed data"},
	{"BZh", "compressed data"},
	{"\xFD7zXZ", "compressed data"},
	{"\x28\xB5\x2F\xFD", "compressed data"},
	{"\x89PNG", "a picture alone"},
	{"\xFF\xD8\xFF", "a picture alone"},
	{"GIF8", "a picture alone"},
	{"\x7fELF", "a program"},
	{"MZ\x90\x00", "a program"},
	{"SQLite format 3", "a database"},
	{"age-encryption.org/", "an encrypted file"},
}

var (
	htmlStart = regexp.MustCompile(`(?i)^(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!doctype\s+html|<(?:html|head|body|title|meta)[\s>])`)
	// A fragment of HTML in a file that says it is HTML, or a whole document
	// without its first tags.
	htmlTag     = regexp.MustCompile(`(?i)<(?:p|div|article|section|main|h[1-6]|ul|ol|table|blockquote|br|img|a\s)[^<>]*>`)
	xmlStart    = regexp.MustCompile(`^<(?:\?xml|rss|feed|rdf|!DOCTYPE\s+rss|[A-Za-z0-9]+:RDF)`)
	frontMatter = regexp.MustCompile(`^(?:---|\+\+\+)[ \t]*\r?\n`)
)

// sniff says what the bytes are and returns them as UTF-8. contentType is the
// server's word, "" for a file. The error names the mistake.
func sniff(data []byte, name, contentType string) (kind, string, error) {
	for _, m := range magic {
		if bytes.HasPrefix(data, []byte(m.prefix)) {
			return kindUnknown, "", fmt.Errorf("can't read %s; %w", m.what, ErrUnreadable)
		}
	}
	if bytes.HasPrefix(data, []byte("RIFF")) && len(data) > 12 && string(data[8:12]) == "WEBP" {
		return kindUnknown, "", fmt.Errorf("can't read a picture alone; %w", ErrUnreadable)
	}
	text, err := decode(data, contentType)
	if err != nil {
		return kindUnknown, "", err
	}
	head := strings.TrimSpace(text[:min(len(text), 64<<10)])
	if head == "" {
		return kindUnknown, "", fmt.Errorf("%w in an empty file", ErrNoArticles)
	}
	if strings.HasPrefix(head, "{") && jsonFeed(text) {
		return kindFeed, text, nil
	}
	if xmlStart.MatchString(head) || strings.HasPrefix(head, "<!--") {
		switch gofeed.DetectFeedType(strings.NewReader(xmlUTF8(head))) {
		case gofeed.FeedTypeRSS, gofeed.FeedTypeAtom:
			return kindFeed, text, nil
		}
	}
	hint := byName(name)
	if media, _, err := mime.ParseMediaType(contentType); err == nil && hint == kindUnknown {
		switch {
		case slices.Contains([]string{"text/html", "application/xhtml+xml"}, media):
			hint = kindHTML
		case media == "text/markdown":
			hint = kindMarkdown
		}
	}
	switch {
	case htmlStart.MatchString(head):
		return kindHTML, text, nil
	case hint == kindFeed:
		return kindUnknown, "", fmt.Errorf("%w: neither RSS, Atom nor JSON Feed", ErrNotFeed)
	case frontMatter.MatchString(head):
		return kindMarkdown, text, nil
	case hint == kindHTML && htmlTag.MatchString(head):
		return kindHTML, text, nil
	case hint == kindMarkdown:
		return kindMarkdown, text, nil
	case hint == kindText, hint == kindHTML, hint == kindUnknown && path.Ext(name) == "":
		return kindText, text, nil
	}
	return kindUnknown, "", fmt.Errorf("can't read %s; %w", strings.TrimPrefix(strings.ToLower(path.Ext(name)), "."), ErrUnreadable)
}

// jsonFeed reports whether text is a JSON Feed (jsonfeed.org/version/1, 1.1).
func jsonFeed(text string) bool {
	var f struct {
		Version string            `json:"version"`
		Items   []json.RawMessage `json:"items"`
	}
	return json.Unmarshal([]byte(text), &f) == nil && strings.Contains(f.Version, "jsonfeed.org/")
}

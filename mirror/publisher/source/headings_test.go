package source

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestPageHeading: a lone heading that the title holds is the title, and does
// not stand in the text again.
func TestPageHeading(t *testing.T) {
	text := strings.Repeat("<p>The ferry crosses the bay every hour now, and every half hour on market days.</p>", 4)
	html := "<!doctype html><html lang=en><head><title>Ferry crosses hourly | Harbour Notes</title></head><body><article>" +
		"<h1>Ferry crosses hourly</h1><p>Ferry crosses hourly</p>" + text + "</article></body></html>"
	a, _ := readOne(t, fixed, write(t, "a.html", html))
	if a.Title != "Ferry crosses hourly" || strings.Contains(a.Body, "crosses hourly") {
		t.Errorf("title %q, body %s", a.Title, a.Body)
	}
	two := strings.Replace(html, "</article>", "<h1>Ferry</h1></article>", 1)
	if a, _ := readOne(t, fixed, write(t, "b.html", two)); a.Title == "Ferry" {
		t.Error("one of two headings became the title")
	}
}

func TestShortPage(t *testing.T) {
	_, _, err := Read(context.Background(), fixed, write(t, "a.html", "<!doctype html><html><title>Oops</title><body><p>Please wait a moment.</p></body></html>"))
	if !errors.Is(err, ErrNoArticles) {
		t.Errorf("error: %v", err)
	}
}

// TestFrontMatterWarnings: what can't be read is said, and the article is read.
func TestFrontMatterWarnings(t *testing.T) {
	for head, want := range map[string]string{
		"title The gate":             "line 1 of its front matter",
		"title: ok\ndate\n":          "line 2 of its front matter",
		"title: \"The gate":          "line 1 of its front matter",
		"title: ok\nlang: not a tag": "its lang is no language tag",
	} {
		a, warnings := readOne(t, fixed, write(t, "a.md", "---\n"+head+"\n---\nThe gate is open again.\n"))
		if len(warnings) != 1 || !strings.Contains(warnings[0].String(), want) {
			t.Errorf("%q: warnings %v", head, warnings)
		}
		if a.Body == "" {
			t.Errorf("%q: no text", head)
		}
	}
	if _, warnings := readOne(t, fixed, write(t, "b.md", "---\ntitle: ok\ntags:\n- a\n  b: c\n# note\n\nlang: en\n---\nWords.\n")); len(warnings) != 0 {
		t.Errorf("warnings %v", warnings)
	}
	_, warnings := readOne(t, fixed, write(t, "c.md", "# T\n\nWords ![x](pics/none.png)\n"))
	if len(warnings) != 1 || !strings.Contains(warnings[0].String(), "pics/none.png") {
		t.Errorf("warnings %v", warnings)
	}
}

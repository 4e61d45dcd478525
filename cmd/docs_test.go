package cmd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link finds the targets of Markdown's links and images, without fragments.
var link = regexp.MustCompile(`\]\(([^)\s#]+)[^)]*\)`)

// TestDocsLinks: every file that README and the pages in docs link to is there.
func TestDocsLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil || len(pages) < 4 {
		t.Fatalf("pages in docs: %d, %v", len(pages), err)
	}
	local := 0
	for _, page := range append(pages, filepath.Join("..", "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], ":") { // an address
				continue
			}
			local++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
	if local < 8 {
		t.Errorf("only %d links to files found: does the pattern still fit?", local)
	}
}

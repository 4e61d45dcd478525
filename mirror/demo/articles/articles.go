// Package articles holds the sample articles that the demo packs when it is
// given no source: short news in several languages and both directions of
// writing, one with two pictures.
//
// They are invented: no person, place or institution in them is a real one. The
// pictures are drawn by draw.go ("go generate" makes them again).
package articles

import (
	"context"
	"embed"
	"fmt"

	"tamizdat/bundle"
	"tamizdat/mirror/publisher/source"
)

//go:generate go run draw.go

// FS holds the articles as a publisher would keep them: Markdown files with
// front matter, and pictures beside them.
//
//go:embed *.md *.jpg *.png
var FS embed.FS

// Read returns the articles as source reads them, in the order of their file
// names. It fails only if ctx ends or the program was built with damaged files.
func Read(ctx context.Context) ([]bundle.Article, error) {
	found, warnings, err := source.ReadFS(ctx, source.Options{}, FS)
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		return nil, fmt.Errorf("sample articles: %s", warnings[0])
	}
	return found, nil
}

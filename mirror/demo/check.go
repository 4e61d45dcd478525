package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/reader"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// Row is how one path did alone, all others blocked.
type Row struct {
	Path string `json:"path"`
	OK   bool   `json:"ok"`
	// Milliseconds since the reader began; 0 if that point was not reached.
	ToHead      float64 `json:"to_head_ms"`
	ToHeadlines float64 `json:"to_headlines_ms"`
	ToText      float64 `json:"to_text_ms"`
	// Bytes on the wire, both ways; for a file, the bytes read from it.
	Bytes    int64  `json:"bytes"`
	Articles int    `json:"articles"`
	Images   int    `json:"images"`
	Error    string `json:"error,omitempty"`
}

// checkTimeout bounds one row.
const checkTimeout = 2 * time.Minute

// Check lets a fresh reader fetch the news over each path alone and compares
// every article with what the publisher packed.
func (w *World) Check(ctx context.Context) ([]Row, error) {
	invite, err := w.Invite()
	if err != nil {
		return nil, err
	}
	rows := make([]Row, 0, len(Kinds))
	for _, kind := range Kinds {
		row := Row{Path: kindNames[kind]}
		if err := w.checkPath(ctx, kind, invite, &row); err != nil {
			row.Error = err.Error()
		} else {
			row.OK = true
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (w *World) checkPath(ctx context.Context, kind, invite string, row *Row) (err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	censor := w.Switches()
	censor.Only(kind)
	dir := filepath.Join(w.dir, "reader-"+kind)
	r, err := reader.Open(ctx, reader.Config{
		Dir: dir, Network: censor, Resolvers: w.resolvers, Log: w.log,
		TextOnly: kind == transport.KindDNS, // or it would wait for a wide path to open
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(), os.RemoveAll(dir)) }()
	ch, _, err := r.Add(ctx, invite)
	if err != nil {
		return err
	}
	var res *newsync.Result
	if kind == transport.KindFile {
		err = r.Import(ctx, w.Stick(), func(_ channel.ID, got *newsync.Result) { res = got })
	} else {
		res, err = r.Sync(ctx, ch)
	}
	if res != nil {
		row.ToHead, row.ToHeadlines, row.ToText = millis(res.ToHead), millis(res.ToHeadlines), millis(res.ToText)
		row.Bytes = censor.Bytes()
		if kind == transport.KindFile {
			row.Bytes = res.Bytes
		}
	}
	if err != nil {
		return err
	}
	return w.compare(ctx, r, ch, kind, row)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// compare checks every article that the publisher packed against what arrived.
func (w *World) compare(ctx context.Context, r *reader.Reader, ch channel.ID, kind string, row *Row) error {
	if len(w.articles) == 0 {
		return errors.New("nothing was published")
	}
	latest := map[string]*bundle.Article{}
	for i := range w.articles {
		latest[w.articles[i].ID] = &w.articles[i]
	}
	for id, want := range latest {
		got, err := r.Shelf().Article(ctx, ch, id)
		if err != nil {
			return fmt.Errorf("article %s: %w", id, err)
		}
		if got.Title != want.Title || got.Body != safehtml.Sanitize(want.Body) {
			return fmt.Errorf("article %s is not what was published", id)
		}
		row.Articles++
		if kind == transport.KindDNS {
			continue // DNS carries no images
		}
		for i := range want.Images {
			img, err := r.Shelf().Image(ctx, ch, id, i)
			if err != nil {
				return fmt.Errorf("article %s, image %d: %w", id, i, err)
			}
			if string(img.Data) != string(want.Images[i].Data) {
				return fmt.Errorf("article %s: image %d is not what was published", id, i)
			}
			row.Images++
		}
	}
	return nil
}

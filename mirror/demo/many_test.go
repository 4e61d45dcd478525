package demo

import (
	"fmt"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/publisher/source"
	"tamizdat/transport"
)

// TestNothingPackedIsLost: more articles than a front page holds, many of them
// older than its window, still all reach a reader who joins later.
func TestNothingPackedIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var many []bundle.Article
	for i := range 2*bundle.DefaultKeep + 10 {
		many = append(many, bundle.Article{
			ID: fmt.Sprintf("%016x", i+1), Title: fmt.Sprintf("Report %d", i), Body: fmt.Sprintf("<p>Body of report %d.</p>", i),
			Lang: "en", Dir: "ltr", Date: time.Date(2015+i%10, 1, 1+i%28, 0, 0, 0, 0, time.UTC),
		})
	}
	made, err := w.Publish(t.Context(), many)
	if err != nil {
		t.Fatal(err)
	}
	if made.Editions != 3 || made.Articles != len(many) {
		t.Errorf("%d editions of %d articles", made.Editions, made.Articles)
	}
	late := bundle.Article{
		ID: "ffffffffffffffff", Title: "An old story, packed last", Body: "<p>It is from long ago.</p>",
		Lang: "en", Dir: "ltr", Date: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if _, err := w.Publish(t.Context(), []bundle.Article{late}); err != nil {
		t.Fatal(err)
	}
	if again := w.pub.Fresh(append(many, late)); len(again) != 0 {
		t.Errorf("%d articles would be packed again: %x", len(again), source.Fingerprint(again[0]))
	}
	invite, err := w.Invite()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{transport.KindTCP, transport.KindFile} {
		row := Row{}
		if err := w.checkPath(t.Context(), kind, invite, &row); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if row.Articles != len(many)+1 {
			t.Errorf("%s: %d articles", kind, row.Articles)
		}
	}
}

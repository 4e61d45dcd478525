package publisher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport/file"
)

func story(i int) bundle.Article {
	return bundle.Article{
		ID: fmt.Sprintf("%016x", i), Title: fmt.Sprintf("Story %d", i), Body: "<p>Text.</p>", Lang: "en", Dir: "ltr",
		Date: time.Unix(1_700_000_000+int64(i), 0).UTC(),
	}
}

func packStory(t *testing.T, p *Publisher, i int) {
	t.Helper()
	if _, err := p.Pack([]bundle.Article{story(i)}, time.Unix(1_700_100_000+int64(i), 0)); err != nil {
		t.Fatal(err)
	}
}

func reopen(t *testing.T, dir string) *Publisher {
	t.Helper()
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// TestCopiedFolder: of two copies of a channel's folder that both pack, only one
// can go on; a stale copy can't pack at all.
func TestCopiedFolder(t *testing.T) {
	dir := t.TempDir()
	first, err := Init(filepath.Join(dir, "a"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	packStory(t, first, 1)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"copy", "stale"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(dir, "a"))); err != nil {
			t.Fatal(err)
		}
	}
	target := []Target{{Name: "stick", Publisher: file.Folder{Dir: filepath.Join(dir, "stick")}}}
	a := reopen(t, filepath.Join(dir, "a"))
	packStory(t, a, 2)
	if r := a.Push(t.Context(), target, nil); r[0].Err != nil || r[0].Editions != 2 {
		t.Fatalf("%+v", r)
	}
	if _, err := a.CheckTargets(t.Context(), target); err != nil {
		t.Errorf("its own target: %v", err)
	}
	other := reopen(t, filepath.Join(dir, "copy"))
	packStory(t, other, 3)
	packStory(t, other, 4)
	if r := other.Push(t.Context(), target, nil); !errors.Is(r[0].Err, ErrOtherHistory) || !Final(r[0].Err) {
		t.Errorf("push of the other history: %v", r[0].Err)
	}
	if _, err := other.CheckTargets(t.Context(), target); !errors.Is(err, ErrOtherHistory) {
		t.Errorf("check of the other history: %v", err)
	}
	if _, err := reopen(t, filepath.Join(dir, "stale")).CheckTargets(t.Context(), target); !errors.Is(err, ErrAhead) {
		t.Errorf("check of the stale copy: %v", err)
	}
}

func TestPackAgain(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	packStory(t, p, 1)
	if _, err := p.Pack([]bundle.Article{story(1)}, p.Date(0)); !errors.Is(err, ErrNothingNew) || p.Size() != 1 {
		t.Errorf("the same again: %v, %d editions", err, p.Size())
	}
	corrected := story(1)
	corrected.Title = "Story 1, corrected"
	made, err := p.Pack([]bundle.Article{corrected, story(2)}, time.Now())
	if err != nil || made.Articles != 2 || len(p.Front().Articles) != 2 {
		t.Errorf("corrected: %+v, %v, %d headlines", made, err, len(p.Front().Articles))
	}
}

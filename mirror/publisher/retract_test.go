package publisher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/transport/file"
	"tamizdat/transport/transporttest"
)

func TestRetract(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pub")
	p, err := Init(dir, "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_200_000, 0)
	source := []bundle.Article{story(1), story(2), story(3)}
	if _, err := p.Pack(source, now); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Retract([]string{story(9).ID}, now); !errors.Is(err, ErrNoArticle) || p.Size() != 1 {
		t.Errorf("an unknown article: %v, %d editions", err, p.Size())
	}
	if _, err := p.Retract([]string{story(2).ID, story(9).ID}, now); !errors.Is(err, ErrNoArticle) || p.Size() != 1 {
		t.Errorf("one of two is unknown: %v, %d editions", err, p.Size())
	}
	made, err := p.Retract([]string{story(2).ID, story(2).ID}, now)
	if err != nil || made.Edition != 1 || made.Editions != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	gone := []string{story(2).ID}
	stands := func(want ...int) {
		t.Helper()
		var ids []string
		for _, a := range p.Front().Articles {
			ids = append(ids, a.ID)
		}
		for _, i := range want {
			if !slices.Contains(ids, story(i).ID) {
				t.Errorf("story %d is not on the front page", i)
			}
		}
		if len(ids) != len(want) || len(p.Articles()) != len(want) || !slices.Equal(p.Front().Gone, gone) {
			t.Errorf("%d headlines, %d articles, gone %q", len(ids), len(p.Articles()), p.Front().Gone)
		}
	}
	stands(1, 3)
	if _, err := p.Retract(gone, now); !errors.Is(err, ErrNoArticle) {
		t.Errorf("twice: %v", err)
	}

	// The same source, by another process: it is left out, also with a new text.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, dir)
	if made, err := p.Pack(source, now); !errors.Is(err, ErrNothingNew) || !slices.Equal(made.Gone, gone) || made.Unchanged != 2 || p.Size() != 2 {
		t.Errorf("%+v, %v, %d editions", made, err, p.Size())
	}
	changed := story(2)
	changed.Body = "<p>Another text.</p>"
	made, err = p.Pack([]bundle.Article{story(1), changed, story(4)}, now)
	if err != nil || made.Articles != 1 || made.Unchanged != 1 || !slices.Equal(made.Gone, gone) {
		t.Errorf("%+v, %v", made, err)
	}
	stands(1, 3, 4) // every later edition says again what is gone

	// On purpose it comes back: as no correction, since it was not there.
	for _, name := range []string{"", "000", story(1).ID, "ffff"} {
		if _, err := p.Restore(name); !errors.Is(err, ErrNotGone) {
			t.Errorf("restore of %q: %v", name, err)
		}
	}
	// Twelve zeros begin every story's ID; only one is gone, so it is meant.
	if id, err := p.Restore(story(2).ID[:12]); err != nil || id != story(2).ID {
		t.Errorf("restore: %q, %v", id, err)
	}
	made, err = p.Pack([]bundle.Article{changed}, now)
	if err != nil || made.Articles != 1 || made.Corrected != 0 || made.Gone != nil {
		t.Errorf("%+v, %v", made, err)
	}
	gone = nil
	stands(1, 2, 3, 4)
	if _, err := p.Pack(source[:1], now); !errors.Is(err, ErrNothingNew) {
		t.Error(err)
	}
	if _, err := p.Retract([]string{story(2).ID}, now); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestTooMuchTakenBack: of more than a front page has room for the newest count.
func TestTooMuchTakenBack(t *testing.T) {
	p := &Publisher{}
	f := &bundle.Front{}
	for i := range bundle.MaxGone {
		f.Gone = append(f.Gone, story(i).ID)
	}
	p.editions = []edition{{Front: f}}
	got := p.goneWith([]string{story(5000).ID}, nil)
	if len(got) != bundle.MaxGone || got[0] != story(1).ID || got[len(got)-1] != story(5000).ID {
		t.Errorf("%d, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	// What fell off is still known here.
	p.editions = append(p.editions, edition{Front: &bundle.Front{Gone: got}})
	if fresh := p.Fresh([]bundle.Article{story(0)}); len(fresh) != 0 {
		t.Error("an article comes back that was taken back long ago")
	}
}

// TestBroughtBackUnseen: what an edition has brought back of which only the log knows
// is not taken back again: the next front page that is here says what is gone.
func TestBroughtBackUnseen(t *testing.T) {
	a, b := story(1).ID, story(2).ID
	front := func(gone ...string) edition { return edition{Front: &bundle.Front{Gone: gone}} }
	full := make([]string, bundle.MaxGone)
	for i := range full {
		full[i] = story(100 + i).ID
	}
	hollow := edition{Hash: make([]byte, 32)}
	for name, c := range map[string]struct {
		editions []edition
		want     []string
	}{
		"still gone":           {[]edition{front(a, b), hollow}, []string{a, b}},
		"one is back":          {[]edition{front(a, b), hollow, front(b)}, []string{b}},
		"all are":              {[]edition{front(a, b), hollow, hollow, front()}, nil},
		"gone again":           {[]edition{front(a), hollow, front(), front(a)}, []string{a}},
		"no room to name more": {[]edition{front(a), hollow, front(full...)}, append([]string{a}, full...)},
		"nothing was unseen":   {[]edition{front(a), front(full...), front(b)}, append(append([]string{a}, full...), b)},
	} {
		p := &Publisher{editions: c.editions}
		if _, gone := p.standing(); !slices.Equal(gone, c.want) {
			t.Errorf("%s: %d are gone instead of %d", name, len(gone), len(c.want))
		}
	}
}

func TestCorrected(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	first, second := time.Unix(1_700_200_000, 0).UTC(), time.Unix(1_700_300_000, 0).UTC()
	if made, err := p.Pack([]bundle.Article{story(1), story(2)}, first); err != nil || made.Corrected != 0 {
		t.Fatalf("%+v, %v", made, err)
	}
	changed := story(1)
	changed.Body = "<p>A better text.</p>"
	made, err := p.Pack([]bundle.Article{changed, story(2), story(3)}, second)
	if err != nil || made.Articles != 2 || made.Corrected != 1 || made.Unchanged != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	for _, a := range p.Front().Articles {
		want := time.Time{}
		if a.ID == changed.ID {
			want = second
		}
		if !a.Corrected.Equal(want) {
			t.Errorf("%s is corrected at %v, want %v", a.ID, a.Corrected, want)
		}
	}
	// It stays so on the front pages to come.
	packStory(t, p, 4)
	if i := slices.IndexFunc(p.Front().Articles, func(a bundle.Entry) bool { return a.ID == changed.ID }); i < 0 || !p.Front().Articles[i].Corrected.Equal(second) {
		t.Error("the next edition has forgotten that it was corrected")
	}
}

func TestArticleByName(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := story(1), story(2)
	a.ID, a.Source, b.ID = "aaaa000000000001", "https://notes.example/1", "aaaa000000000002"
	if _, err := p.Pack([]bundle.Article{a, b}, time.Unix(1_700_200_000, 0)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		a.ID: a.ID, "AAAA000000000002": b.ID, a.Source: a.ID, "aaaa": "several", "aaa": "", "": "", "bbbb": "", "https://notes.example/": "",
	} {
		got, err := p.Article(name)
		switch {
		case want == "several" && (err == nil || errors.Is(err, ErrNoArticle)), want == "" && !errors.Is(err, ErrNoArticle):
			t.Errorf("%q: %q, %v", name, got.ID, err)
		case len(want) == 16 && (err != nil || got.ID != want):
			t.Errorf("%q: %q, %v, want %q", name, got.ID, err, want)
		}
	}
}

// TestExportWithoutWhatIsGone: what was taken back travels no further with our own
// files, as far as no other article lies in its blocks.
func TestExportWithoutWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	p, err := Init(filepath.Join(dir, "pub"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var big []bundle.Article
	for i := range 2 {
		a := story(i)
		a.Body = fmt.Sprintf("<p>%x</p>", transporttest.Noise(uint64(i), 300<<10))
		big = append(big, a)
	}
	now := time.Unix(1_700_200_000, 0)
	if _, err := p.Pack(big, now); err != nil {
		t.Fatal(err)
	}
	export := func(name string) (size int64) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := p.Export(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if src, err := file.Open(name); err != nil || src.Damage() != nil {
			t.Fatal(err, src.Damage())
		}
		return info.Size()
	}
	packStory(t, p, 5)
	before := export("before.car")
	if _, err := p.Retract([]string{big[0].ID}, now); err != nil {
		t.Fatal(err)
	}
	if after := export("after.car"); after > before-150_000 || after < before/3 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	changed := story(1)
	if _, err := p.Pack([]bundle.Article{changed}, now); err != nil {
		t.Fatal(err)
	}
	if after := export("corrected.car"); after > before/3 {
		t.Errorf("%d bytes before, %d when nothing of it stands", before, after)
	}
}

// TestRetractSignsNoNumberTwice: a folder that may not pack may not take back either:
// one whose recovery was cut off, and one without the log key in force.
func TestRetractSignsNoNumberTwice(t *testing.T) {
	b := newBacked(t)
	if _, err := b.p.Pack([]bundle.Article{story(1), story(2)}, transporttest.Start); err != nil {
		t.Fatal(err)
	}
	old := b.backup("backup")
	d, err := b.p.Rotate(Rotation{NewLog: true, Good: 1})
	if err == nil {
		err = b.p.UseRoot(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.pack(1)
	p := reopen(t, old)
	found, err := p.Find(t.Context(), &netreal.Network{})
	if err == nil {
		err = p.Adopt(found)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, p *Publisher, want error) {
		t.Helper()
		size := p.Size()
		if made, err := p.Retract([]string{story(2).ID}, transporttest.Start.Add(5*time.Hour)); !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v", name, made, err)
		}
		if _, err := os.Stat(p.jsonName(size)); p.Size() != size || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: edition %d was made: %v", name, size, err)
		}
	}
	refused("without the log key", p, errNoLogKey)
	hollow(b.p, 1)
	refused("cut off", b.p, errTorn)
}

// hollow leaves of edition n what a recovery that could not fetch it does: its hash.
func hollow(p *Publisher, n uint64) {
	e := &p.editions[n]
	*e = edition{Hash: e.hash[:], Generation: e.generation, hash: e.hash, generation: e.generation}
}

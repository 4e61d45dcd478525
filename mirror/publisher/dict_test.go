package publisher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport/file"
)

// chatty is a story that has much in common with all others.
func chatty(i int) bundle.Article {
	a := story(i)
	a.Body = fmt.Sprintf("<p>The council of the town met for the %d. time and spoke about the bridge, the ferry and the market, but did not decide on any of these.</p>", i)
	if i%2 == 0 {
		a.Lang = "de"
		a.Body = fmt.Sprintf("<p>Der Rat der Stadt kam zum %d. Mal zusammen und sprach von der Brücke, der Fähre und dem Markt, beschloss aber nichts von alledem.</p>", i)
	}
	return a
}

// packBulletins packs n stories as edition day.
func packBulletins(t *testing.T, p *Publisher, day, n int) {
	t.Helper()
	var articles []bundle.Article
	for i := range n {
		articles = append(articles, chatty(day*100+i))
	}
	if _, err := p.Pack(articles, time.Unix(1_700_100_000+int64(day)*3600, 0)); err != nil {
		t.Fatal(err)
	}
}

// opened reads an edition as a reader does: the CID of its dictionary's file, and how
// many texts it has.
func opened(t *testing.T, p *Publisher, n uint64) (dict string, texts int) {
	t.Helper()
	vol, err := p.volume(n)
	if err != nil {
		t.Fatal(err)
	}
	d, err := vol.Directory()
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Layers[bundle.LayerDict]; c.Defined() {
		dict = c.String()
	}
	f, err := vol.Front()
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Articles {
		if e := &f.Articles[i]; e.Edition == n {
			if a, err := vol.Article(e); err != nil || !strings.HasPrefix(a.Title, "Story") {
				t.Fatalf("edition %d: %v", n, err)
			}
			texts++
		}
	}
	return dict, texts
}

func TestTrainAndPack(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en", "de"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	oneEpoch(p) // a new one would have its own dictionary
	if _, err := p.TrainDictionary(); !errors.Is(err, bundle.ErrFewArticles) {
		t.Errorf("of nothing: %v", err)
	}
	for day := range 3 {
		packBulletins(t, p, day, 40)
	}
	tr, err := p.TrainDictionary()
	if err != nil {
		t.Fatal(err)
	}
	if tr.Articles != 120 || tr.Tested != 24 || tr.After >= tr.Before || tr.File == 0 {
		t.Errorf("%+v", tr)
	}
	if info, err := os.Stat(filepath.Join(p.dir, dictName)); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("it holds articles, and others can read it: %v, %v", info.Mode(), err)
	}
	dicts := map[uint64]string{}
	for day := 3; day < 6; day++ {
		packBulletins(t, p, day, 40)
		dicts[uint64(day)], _ = opened(t, p, uint64(day))
	}
	if dicts[3] == "" || dicts[4] != dicts[3] || dicts[5] != dicts[3] {
		t.Errorf("one file for three editions: %v", dicts)
	}
	// Without news that has something to gain it is left out, and used again later.
	if _, err := p.Pack([]bundle.Article{{ID: "00000000000fffff", Title: "Story", Body: "<p>x</p>", Lang: "en", Dir: "ltr", Date: time.Unix(1, 0)}}, time.Unix(1_700_200_000, 0)); err != nil {
		t.Fatal(err)
	}
	packBulletins(t, p, 30, 40)
	if again, n := opened(t, p, 7); again != dicts[3] || n != 40 {
		t.Errorf("later: %s, %d texts", again, n)
	}
	// A revoked batch could open the old one: a new epoch has its own.
	if _, err := p.Invite("them"); err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke("them"); err != nil {
		t.Fatal(err)
	}
	packBulletins(t, p, 31, 40)
	if fresh, n := opened(t, p, 8); fresh == "" || fresh == dicts[3] || n != 40 {
		t.Errorf("in a new epoch: %s, %d texts", fresh, n)
	}

	// A stick holds it once, with all that needs it.
	name := filepath.Join(t.TempDir(), "stick.car")
	if err := p.Export(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	src, err := file.Open(name)
	if err != nil || src.Damage() != nil {
		t.Fatal(err, src.Damage())
	}
	vol, err := p.volume(4)
	if err != nil {
		t.Fatal(err)
	}
	vol.Get = src.Block
	for i := range p.editions[4].Front.Articles {
		if e := &p.editions[4].Front.Articles[i]; e.Edition == 4 {
			if _, err := vol.Article(e); err != nil {
				t.Fatal(err)
			}
		}
	}

	if had, err := p.DropDictionary(); !had || err != nil {
		t.Error(had, err)
	}
	if had, err := p.DropDictionary(); had || err != nil {
		t.Error(had, err)
	}
	packBulletins(t, p, 32, 40)
	if d, _ := opened(t, p, 9); d != "" {
		t.Error("used though it was dropped")
	}
	if err := os.WriteFile(filepath.Join(p.dir, dictName), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pack([]bundle.Article{chatty(99)}, time.Unix(1_700_300_000, 0)); !errors.Is(err, bundle.ErrDictionary) || p.Size() != 10 {
		t.Errorf("a damaged one: %v", err)
	}
}

// What was taken back or replaced is not in the next dictionary's making.
func TestTrainOnWhatStands(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en", "de"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	packBulletins(t, p, 0, 5)
	packBulletins(t, p, 1, 5)
	corrected := chatty(3)
	corrected.Title = "Story, corrected"
	if _, err := p.Pack([]bundle.Article{corrected}, time.Unix(1_700_200_000, 0)); err != nil {
		t.Fatal(err)
	}
	p.editions[2].Front.Gone = []string{chatty(4).ID}
	articles, editions, err := p.recent()
	if err != nil || editions != 3 {
		t.Fatal(editions, err)
	}
	var ids, titles []string
	for _, a := range articles {
		ids, titles = append(ids, a.ID), append(titles, a.Title)
	}
	if len(ids) != 9 || slices.Contains(ids, chatty(4).ID) || slices.Contains(titles, chatty(3).Title) || !slices.Contains(titles, corrected.Title) {
		t.Errorf("%q %q", ids, titles)
	}
	if articles[0].ID[13] > articles[len(articles)-1].ID[13] {
		t.Errorf("not the newest last: %q", ids)
	}
}

// Nothing is known of an edition that a recovery could not fetch: the others make the
// dictionary, and lend their file.
func TestDictionaryPastHollowEditions(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en", "de"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for day := range 3 {
		packBulletins(t, p, day, 40)
	}
	hollow(p, 1)
	if tr, err := p.TrainDictionary(); err != nil || tr.Articles != 80 {
		t.Fatalf("%+v, %v", tr, err)
	}
	packBulletins(t, p, 3, 40)
	packBulletins(t, p, 4, 40)
	hollow(p, 4)
	if d, file, err := p.dictionary(); err != nil || d == nil || file == nil || file.Edition != 3 {
		t.Errorf("%v, %+v, %v", d, file, err)
	}
}

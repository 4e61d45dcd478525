package library

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// TestFrontsInAnyOrder: what is shown in the end follows from the front pages, not
// from the order in which they come: an article stands if the newest edition of it is
// newer than the newest edition that took it back.
func TestFrontsInAnyOrder(t *testing.T) {
	ctx := t.Context()
	front := func(edition uint64, gone []string, in map[string]uint64) *bundle.Front {
		f := &bundle.Front{Channel: chA, Edition: edition, Date: time.Unix(1_700_000_000+int64(edition)*3600, 0), Gone: gone}
		for id, of := range in {
			e := entry(id, fmt.Sprintf("%s of %d", id, of), "")
			e.Edition = of
			f.Articles = append(f.Articles, e)
		}
		return f
	}
	fronts := []*bundle.Front{
		front(0, nil, map[string]uint64{"a": 0, "b": 0, "c": 0, "d": 0}),
		front(1, []string{"a", "b"}, map[string]uint64{"c": 0, "d": 0}),
		front(2, []string{"a"}, map[string]uint64{"b": 2, "c": 0, "d": 0}), // b is back
		front(3, []string{"a", "b"}, map[string]uint64{"c": 0, "d": 0}),    // and gone again
		{Channel: chA, Edition: 4, Date: time.Unix(1_700_020_000, 0), Gone: []string{"a", "b"}, Replaces: map[string]string{"e": "d"}},
	}
	e := entry("e", "e of 4", "")
	e.Edition = 4
	fronts[4].Articles = []bundle.Entry{e}
	want := []string{"c of 0", "e of 4"}
	orders := 0
	var try func(order, left []int)
	try = func(order, left []int) {
		if len(left) == 0 {
			orders++
			l, err := Memory(ctx, nil)
			check(t, err)
			defer l.Close()
			for _, i := range order {
				check(t, l.SetFront(ctx, chA, fronts[i]))
			}
			for _, i := range order { // and once more: nothing changes
				check(t, l.SetFront(ctx, chA, fronts[i]))
			}
			got := titles(t, l, Query{})
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("in the order %v: %q, want %q", order, got, want)
			}
			return
		}
		for i, n := range left {
			try(append(slices.Clone(order), n), slices.Delete(slices.Clone(left), i, i+1))
		}
	}
	try(nil, []int{0, 1, 2, 3, 4})
	if orders != 120 {
		t.Fatalf("%d orders", orders)
	}
}

// TestAnotherTitleForTheSameText: front pages must say the same of a text. Where they don't,
// the newest counts, in whatever order they come, and the search finds what is shown.
func TestAnotherTitleForTheSameText(t *testing.T) {
	ctx := t.Context()
	front := func(edition uint64, title string) *bundle.Front {
		return &bundle.Front{Channel: chA, Edition: edition, Date: time.Unix(1_700_000_000+int64(edition)*3600, 0), Articles: []bundle.Entry{entry("a", title, "")}}
	}
	for _, order := range [][]int{{0, 1}, {1, 0}, {0, 1, 0}} {
		l, err := Memory(ctx, nil)
		check(t, err)
		defer l.Close()
		for _, i := range order {
			check(t, l.SetFront(ctx, chA, []*bundle.Front{front(0, "Minister resigns"), front(1, "Minister stays")}[i]))
		}
		for search, want := range map[string][]string{"": {"Minister stays"}, "resigns": nil, "stays": {"Minister stays"}} {
			if got := titles(t, l, Query{Search: search}); !slices.Equal(got, want) {
				t.Errorf("%v: %q finds %q, want %q", order, search, got, want)
			}
		}
	}
}

func TestGone(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	l := open(t, dir, "")
	put := func(edition uint64, gone []string, entries ...bundle.Entry) {
		t.Helper()
		f := &bundle.Front{Channel: chA, Edition: edition, Date: time.Unix(1_700_000_000, 0).Add(time.Duration(edition) * 24 * time.Hour), Gone: gone}
		for _, e := range entries {
			e.Edition = edition
			f.Articles = append(f.Articles, e)
		}
		check(t, l.SetFront(ctx, chA, f))
	}
	tell := func(want ...string) []Gone {
		t.Helper()
		all, err := l.Gone(ctx, chA)
		check(t, err)
		var ids []string
		for _, g := range all {
			ids = append(ids, g.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("gone are %q, want %q", ids, want)
		}
		return all
	}
	put(0, nil, entry("1", "one", "platypus"), entry("2", "two", ""))
	check(t, l.SetRead(ctx, chA, "1", true))
	tell()
	put(1, []string{"1", "never here"})
	if g := tell("1"); g[0].Channel != chA || g[0].Date.Unix() != 1_700_000_000+24*3600 {
		t.Errorf("%+v", g)
	}
	if m, err := l.Meta(ctx, chA); err != nil || m.GoneLately != 1 || m.Headlines != 1 {
		t.Errorf("meta %+v, %v", m, err)
	}
	if got := titles(t, l, Query{Search: "platypus"}); got != nil {
		t.Errorf("search finds %q", got)
	}
	_, err := l.Headline(ctx, chA, "1")
	wantErr(t, err, transport.ErrNotFound)

	// It survives that the library is closed, and is told for a week.
	check(t, l.Close())
	l = open(t, dir, "")
	put(0, nil, entry("1", "one", ""), entry("2", "two", ""))
	tell("1")
	put(9, []string{"1"})
	if m, err := l.Meta(ctx, chA); err != nil || m.GoneLately != 0 {
		t.Errorf("after a week: %+v, %v", m, err)
	}
	tell("1")

	// Brought back on purpose: as an article that nobody has read.
	put(10, nil, entry("1", "one again", ""))
	tell()
	put(9, []string{"1"}) // late
	tell()
	h, err := l.Headline(ctx, chA, "1")
	check(t, err)
	if h.Read || h.Title != "one again" {
		t.Errorf("%+v", h)
	}
	check(t, l.Remove(ctx, chA))
	for _, table := range []string{"gone", "loose", "said"} {
		var n int
		check(t, l.db.QueryRow(`SELECT count(*) FROM `+table).Scan(&n))
		if n != 0 {
			t.Errorf("%d rows of %s are left of a channel that was removed", n, table)
		}
	}
}

// TestLoose: where deleted and corrected articles lay is told until their blocks are
// dropped, and of what they said nothing is kept.
func TestLoose(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	one := entry("1", "wombat", "wombat")
	one.Text, one.Source = bundle.Span{Offset: 10, Size: 20}, "https://wombat.example/1"
	one.Images = []bundle.ImageEntry{{Type: "image/webp", Width: 1, Height: 1, Span: bundle.Span{Offset: 30, Size: 40}}}
	two := entry("2", "wombat", "")
	two.Text = bundle.Span{Offset: 30, Size: 5}
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Articles: []bundle.Entry{one, two}}))
	two.Edition, two.Title, two.Corrected = 1, "two corrected", time.Unix(1_700_000_000, 0).UTC()
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Edition: 1, Gone: []string{"1"}, Articles: []bundle.Entry{two}}))
	if h, err := l.Headline(ctx, chA, "2"); err != nil || !h.Corrected.Equal(two.Corrected) {
		t.Errorf("%+v, %v", h, err)
	}
	loose, err := l.Loose(ctx, chA)
	check(t, err)
	if len(loose) != 2 || loose[0].Text != (bundle.Span{Offset: 30, Size: 5}) || loose[1].Text != one.Text || len(loose[1].Images) != 1 || loose[1].Images[0].Span != one.Images[0].Span {
		t.Fatalf("%+v", loose)
	}
	var said int
	check(t, l.db.QueryRow(`SELECT count(*) FROM loose WHERE instr(CAST(spans AS TEXT), 'wombat')`).Scan(&said))
	if said != 0 {
		t.Error("what was deleted can still be read")
	}

	a, b, shared := block(10, "a"), block(10, "b"), block(10, "c")
	check(t, l.PutBlocks(ctx, chA, 0, checked(t, a, b, shared)))
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, shared)))
	check(t, l.DropLoose(ctx, chA, 0, []cid.Cid{a.CID, shared.CID, block(1, "unknown").CID}))
	has, err := l.Has(ctx, a.CID, b.CID, shared.CID)
	check(t, err)
	if !slices.Equal(has, []bool{false, true, true}) {
		t.Errorf("left are %v", has)
	}
	if loose, err := l.Loose(ctx, chA); err != nil || len(loose) != 0 {
		t.Errorf("still loose: %+v, %v", loose, err)
	}
	check(t, l.DropLoose(ctx, chB, 0, nil))
}

// TestLibraryOfBefore opens a library that was made before there were these tables.
func TestLibraryOfBefore(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := open(t, dir, "")
	_, err := l.db.Exec(`DROP TABLE gone; DROP TABLE loose; DROP TABLE said`)
	check(t, err)
	check(t, l.Close())
	l = open(t, dir, "")
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Articles: []bundle.Entry{entry("1", "one", "")}}))
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Edition: 1, Gone: []string{"1"}}))
	if all, err := l.Gone(ctx, chA); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

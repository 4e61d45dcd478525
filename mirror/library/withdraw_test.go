package library

import (
	"slices"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// TestWithdraw: what came with editions from one on is gone, for search as well, and
// nothing else; an edition of the same number may come again with other news.
func TestWithdraw(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	at := func(e bundle.Entry, edition uint64) bundle.Entry {
		e.Edition, e.Lang, e.Dir, e.Date = edition, "en", "ltr", time.Unix(1_700_000_000+int64(edition), 0).UTC()
		return e
	}
	first, second, third := at(entry("1111111111111111", "River", "water"), 1), at(entry("2222222222222222", "Bridge", "stone"), 2), at(entry("3333333333333333", "Ferry", "wood"), 3)
	front := func(edition uint64, name string, entries ...bundle.Entry) *bundle.Front {
		return &bundle.Front{V: 1, Channel: chA, Name: name, Edition: edition, Date: time.Unix(1_700_000_000+int64(edition), 0).UTC(), Articles: entries}
	}
	check(t, l.SetFront(ctx, chA, front(1, "Radio", first)))
	check(t, l.SetFront(ctx, chA, front(3, "Thief", third, second, first)))
	other := front(3, "Other", third)
	other.Channel = chB
	check(t, l.SetFront(ctx, chB, other))
	check(t, l.IndexText(ctx, chA, second.ID, "a word of the thief's: granite"))
	check(t, l.SetRead(ctx, chA, second.ID, true))
	check(t, l.IndexText(ctx, chA, first.ID, "a word of the publisher's: marble"))
	shared, own, kept := block(100, "shared"), block(200, "own"), block(300, "kept")
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, shared, kept)))
	check(t, l.PutBlocks(ctx, chA, 2, checked(t, shared, own)))

	for _, want := range []int{2, 0} { // once more does no harm
		if n, err := l.Withdraw(ctx, chA, 2); err != nil || n != want {
			t.Fatalf("%d headlines, %v", n, err)
		}
	}
	if got := titles(t, l, Query{Channel: chA}); !slices.Equal(got, []string{"River"}) {
		t.Errorf("headlines left: %v", got)
	}
	for _, word := range []string{"granite", "stone"} {
		if got := titles(t, l, Query{Search: word, Channel: chA}); len(got) != 0 {
			t.Errorf("%q still finds %v", word, got)
		}
	}
	if got := titles(t, l, Query{Channel: chB}); len(got) != 1 {
		t.Errorf("the other channel has %v", got)
	}
	// What is left is found as before, and to be tried again: it may lack blocks now.
	if got := titles(t, l, Query{Search: "marble", Channel: chA}); !slices.Equal(got, []string{"River"}) {
		t.Errorf("a search finds %v", got)
	}
	if h, err := l.Headline(ctx, chA, first.ID); err != nil || h.Text {
		t.Errorf("%+v, %v", h, err)
	}
	has, err := l.Has(ctx, shared.CID, own.CID, kept.CID)
	if err != nil || !slices.Equal(has, []bool{true, false, true}) {
		t.Errorf("blocks held: %v, %v", has, err)
	}
	if m, err := l.Meta(ctx, chA); err != nil || m.Edition != 0 || !m.Date.IsZero() || m.Headlines != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	again := at(entry("2222222222222222", "Bridge, truly", "stone"), 2)
	check(t, l.SetFront(ctx, chA, front(2, "Radio", again, first)))
	if h, err := l.Headline(ctx, chA, again.ID); err != nil || h.Title != again.Title || h.Read || h.Text {
		t.Errorf("%+v, %v", h, err)
	}
	if m, err := l.Meta(ctx, chA); err != nil || m.Name != "Radio" || m.Edition != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if n, err := l.Withdraw(ctx, chA, 0); err != nil || n != 2 {
		t.Errorf("all of it: %d headlines, %v", n, err)
	}
	if n, err := l.Withdraw(ctx, channel.ID{99}, 0); err != nil || n != 0 {
		t.Errorf("of an unknown channel: %d headlines, %v", n, err)
	}
	if _, err := l.Withdraw(ctx, chA, 1<<63); err == nil {
		t.Error("an edition number out of range was taken")
	}
}

// TestWithdrawWhatIsSaid: an edition that is withdrawn takes along what it has added
// to older ones, and what it has said anew of their articles. What others have said,
// before or after, stays; and what went comes again.
func TestWithdrawWhatIsSaid(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	at := func(id, title string, edition uint64) bundle.Entry {
		e := entry(id, title, title)
		e.Edition = edition
		return e
	}
	front := func(edition uint64, entries ...bundle.Entry) {
		t.Helper()
		check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Edition: edition, Articles: entries}))
	}
	has := func(want ...string) {
		t.Helper()
		got := titles(t, l, Query{Channel: chA})
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("headlines are %q, want %q", got, want)
		}
	}
	bridge, ferry, river := at("1", "bridge", 1), at("2", "ferry", 1), at("3", "river", 2)
	front(1, bridge, ferry)
	front(2, river, bridge, ferry)
	front(10, at("4", "forged", 1), at("1", "bridge, forged", 1), at("3", "river, forged", 9), ferry)
	shared, own := block(100, "shared"), block(200, "own")
	check(t, l.PutBlocks(ctx, chA, 2, checked(t, shared, own)))
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, shared)))
	has("bridge, forged", "ferry", "forged", "river, forged")
	for _, want := range []int{3, 0} {
		if n, err := l.Withdraw(ctx, chA, 10, 2); err != nil || n != want {
			t.Fatalf("%d headlines, %v", n, err)
		}
	}
	has("ferry")
	if got := titles(t, l, Query{Search: "forged"}); len(got) != 0 {
		t.Errorf("a search finds %q", got)
	}
	if left, err := l.Has(ctx, shared.CID, own.CID); err != nil || !slices.Equal(left, []bool{true, false}) {
		t.Errorf("blocks held: %v, %v", left, err)
	}
	front(2, river, bridge, ferry)
	has("bridge", "ferry", "river")
	front(3, bridge)
	if n, err := l.Withdraw(ctx, chA, 3); err != nil || n != 0 {
		t.Errorf("what was said before goes: %d headlines, %v", n, err)
	}
}

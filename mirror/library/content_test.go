package library

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

func titles(t testing.TB, l *Library, q Query) []string {
	t.Helper()
	var ts []string
	for h, err := range l.Headlines(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, h.Title)
	}
	return ts
}

func TestBlocks(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	a, b, c := block(100, "a"), block(65_717, "b"), block(1, "c")
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, a, b, a)))
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, b)))
	check(t, l.PutBlocks(ctx, chA, 2, checked(t, a)))
	check(t, l.PutBlocks(ctx, chB, 1, checked(t, a)))
	check(t, l.PutBlocks(ctx, chA, 1, nil))
	var n int
	check(t, l.db.QueryRow(`SELECT count(*) FROM block`).Scan(&n))
	if n != 2 {
		t.Errorf("%d blocks stored instead of 2", n)
	}
	has, err := l.Has(ctx, a.CID, c.CID, b.CID)
	check(t, err)
	if !slices.Equal(has, []bool{true, false, true}) {
		t.Errorf("has %v", has)
	}
	_, err = l.Block(ctx, c.CID)
	wantErr(t, err, transport.ErrNotFound)
	count := func(ch channel.ID, ed uint64) (n int) {
		for _, err := range l.EditionBlocks(ctx, ch, ed) {
			check(t, err)
			check(t, l.SetNote(ctx, "in the loop", []byte("x"))) // must not deadlock
			n++
		}
		return n
	}
	if count(chA, 1) != 2 || count(chA, 2) != 1 || count(chB, 1) != 1 || count(chB, 2) != 0 {
		t.Error("editions have other blocks")
	}
	if ids, err := l.Channels(ctx); err != nil || len(ids) != 0 {
		t.Errorf("channels without state: %v, %v", ids, err)
	}
	check(t, l.DropEdition(ctx, chA, 1))
	if has, err = l.Has(ctx, a.CID, b.CID); err != nil || !has[0] || has[1] {
		t.Errorf("after dropping an edition: %v, %v", has, err)
	}
	if err := l.PutBlocks(ctx, chA, 1<<63, checked(t, a)); err == nil {
		t.Error("an edition number out of range was stored")
	}
}

func TestDamagedBlockIsFetchedAgain(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	a, b := block(5000, "a"), block(100, "b")
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, a)))
	check(t, l.PutBlocks(ctx, chA, 2, checked(t, a, b)))
	_, err := l.db.Exec(`UPDATE block SET data = zeroblob(5000) WHERE cid = ?`, a.CID.Bytes())
	check(t, err)
	_, err = l.Block(ctx, a.CID)
	wantErr(t, err, transport.ErrNotFound)
	has, err := l.Has(ctx, a.CID)
	check(t, err)
	if has[0] {
		t.Error("a damaged block still counts as stored")
	}
	for got, err := range l.EditionBlocks(ctx, chA, 2) {
		check(t, err)
		if got.CID != b.CID {
			t.Error("a damaged block was yielded")
		}
	}
	check(t, l.PutBlocks(ctx, chA, 2, checked(t, a)))
	for _, ed := range []uint64{1, 2} {
		found := false
		for got, err := range l.EditionBlocks(ctx, chA, ed) {
			check(t, err)
			found = found || got.CID == a.CID && bytes.Equal(got.Data, a.Data)
		}
		if !found {
			t.Errorf("edition %d lacks the block that came back", ed)
		}
	}
}

func TestFront(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	put := func(edition uint64, f bundle.Front, entries ...bundle.Entry) {
		t.Helper()
		f.Channel, f.Edition, f.Name = chA, edition, fmt.Sprint("front ", edition)
		for _, e := range entries {
			e.Edition, e.Date = edition, e.Date.Add(time.Duration(edition)*time.Hour)
			f.Articles = append(f.Articles, e)
		}
		check(t, l.SetFront(ctx, chA, &f))
	}
	want := func(ts ...string) {
		t.Helper()
		if got := titles(t, l, Query{}); !slices.Equal(got, ts) {
			t.Fatalf("got %q, want %q", got, ts)
		}
	}
	put(1, bundle.Front{}, entry("1", "one", ""), entry("2", "two", ""), entry("3", "three", "wombat"))
	check(t, l.IndexText(ctx, chA, "3", "platypus"))
	check(t, l.SetRead(ctx, chA, "2", true))
	put(2, bundle.Front{}, entry("4", "four", ""))
	want("four", "three", "two", "one")

	put(3, bundle.Front{}, entry("3", "three corrected", ""))
	want("three corrected", "four", "two", "one")
	if got := titles(t, l, Query{Search: "platypus"}); got != nil {
		t.Errorf("the old text of a corrected article is found: %q", got)
	}
	put(2, bundle.Front{Gone: []string{"3"}}, entry("3", "three of old", ""), entry("4", "four", "")) // late
	want("three corrected", "four", "two", "one")
	if m, err := l.Meta(ctx, chA); err != nil || m.Edition != 3 || m.Name != "front 3" || m.Unread != 3 {
		t.Errorf("meta %+v, %v", m, err)
	}

	put(4, bundle.Front{Gone: []string{"3", "unknown"}, Replaces: map[string]string{"5": "2"}}, entry("5", "five", ""))
	want("five", "four", "one")
	h, err := l.Headline(ctx, chA, "5")
	check(t, err)
	if !h.Read {
		t.Error("what replaces a read article is not read")
	}
	_, err = l.Headline(ctx, chA, "3")
	wantErr(t, err, transport.ErrNotFound)
	wantErr(t, l.IndexText(ctx, chA, "3", "x"), transport.ErrNotFound)
	var left int
	check(t, l.db.QueryRow(`SELECT count(*) FROM find_data WHERE instr(block, CAST('wombat' AS BLOB)) OR instr(block, CAST('latypus' AS BLOB))`).Scan(&left))
	if left != 0 {
		t.Error("words of an article that is gone are still in the index")
	}
	f := &bundle.Front{Channel: chB}
	if err := l.SetFront(ctx, chA, f); err == nil {
		t.Error("a foreign front was stored")
	}
}

func TestRemove(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	shared, own := block(10, "s"), block(20_000, "o")
	for _, ch := range []channel.ID{chA, chB} {
		check(t, l.SetState(ctx, ch, []byte("s")))
		check(t, l.SetNote(ctx, ch.String()+"/n", []byte("n")))
		check(t, l.SetFront(ctx, ch, &bundle.Front{Channel: ch, Articles: []bundle.Entry{entry("1", "title", "")}}))
		check(t, l.PutBlocks(ctx, ch, 1, checked(t, shared)))
	}
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, own)))
	check(t, l.Remove(ctx, chA))
	check(t, l.Remove(ctx, chA))
	ids, err := l.Channels(ctx)
	check(t, err)
	if !slices.Equal(ids, []channel.ID{chB}) {
		t.Errorf("channels %v", ids)
	}
	has, err := l.Has(ctx, shared.CID, own.CID)
	check(t, err)
	if !has[0] || has[1] {
		t.Errorf("blocks left: %v", has)
	}
	_, err = l.Note(ctx, chA.String()+"/n")
	wantErr(t, err, transport.ErrNotFound)
	if _, err = l.Note(ctx, chB.String()+"/n"); err != nil {
		t.Error(err)
	}
	if got := titles(t, l, Query{Search: "title"}); len(got) != 1 {
		t.Errorf("search finds %q", got)
	}
}

func TestNotes(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	check(t, l.SetNote(ctx, "k", []byte{}))
	if v, err := l.Note(ctx, "k"); err != nil || len(v) != 0 {
		t.Errorf("%q, %v", v, err)
	}
	check(t, l.SetNote(ctx, "k", nil))
	_, err := l.Note(ctx, "k")
	wantErr(t, err, transport.ErrNotFound)
	for key, size := range map[string]int{"": 1, strings.Repeat("k", MaxKey+1): 1, "k": MaxNote + 1, "\xff": 1} {
		if l.SetNote(ctx, key, make([]byte, size)) == nil {
			t.Errorf("a note of %d bytes under a key of %d was stored", size, len(key))
		}
	}
}

func TestSearch(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	articles := []struct{ id, lang, title, body string }{
		{"ru", "ru", "Ёжик в тумане", "Война и мир. Самолёты летели над посёлком."},
		{"fa", "fa", "روزنامه‌نگاران آزاد شدند", "می‌خواهم کتاب‌های فارسی بخوانم در سال ۱۴۰۴"},
		{"ar", "ar", "حرية الصحافة", "كتابٌ جديد عن المدينة"},
		{"zh", "zh-Hans", "新闻自由受到威胁", "记者在北京被拘留。"},
		{"ja", "ja", "ガラスの記事", "東京タワー"},
		{"en", "en-GB", "Café owners résumé work", "The naïve coöperation of STRAẞE and Straße; it's 50% done."},
		{"ko", "ko", "언론의 자유", "서울에서"},
	}
	f := &bundle.Front{Channel: chA}
	for _, a := range articles {
		e := entry(a.id, a.title, "")
		e.Lang = a.lang
		f.Articles = append(f.Articles, e)
	}
	check(t, l.SetFront(ctx, chA, f))
	for _, a := range articles {
		check(t, l.IndexText(ctx, chA, a.id, a.body))
	}
	for query, want := range map[string]string{
		"ежик": "ru", "ЁЖИК": "ru", "самолеты посёлком": "ru", "войн": "ru", "воина": "",
		"روزنامه نگاران": "", "روزنامه‌نگاران": "fa", "روزنامهنگاران": "fa", "ميخواهم": "fa", "كتابهاى": "fa", "1404": "fa", "١٤٠٤": "fa",
		"حریه": "ar", "كتاب": "ar fa", "المدينه": "ar",
		"新闻": "zh", "闻自": "zh", "自由": "zh", "胁": "zh", "北京 记者": "zh", "京北": "", "新 闻": "zh", "由自": "",
		"ガラス": "ja", "カラス": "", "東京タワー": "ja", "ｶﾞﾗｽ": "ja",
		"cafe": "en", "RESUME": "en", "strasse": "en", "naive cooperation": "en", "50": "en",
		"자유":      "ko",
		"nothing": "", "\"": "", "*": "", "   ": "",
		`cafe" OR "work`: "", "cafe OR work": "", "cafe NOT work": "", "head:cafe": "", "NEAR(cafe work)": "", "cafe*": "en", "owne": "en", "own": "", "-cafe": "en",
		"cafe)": "en", "(cafe": "en", "cafe\x00work": "en", "^cafe": "en", "{head body}:cafe": "", "\xff\xfecafe": "en", "cafe; DROP TABLE find": "",
		strings.Repeat("café ", 500): "en", strings.Repeat("x", 100_000): "",
	} {
		var ids []string
		for h, err := range l.Headlines(ctx, Query{Search: query}) {
			if err != nil {
				t.Fatalf("%.40q: %v", query, err)
			}
			ids = append(ids, h.ID)
		}
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%.40q finds %q, want %q", query, got, want)
		}
	}
	if got := titles(t, l, Query{Search: "新闻", Lang: "ru"}); got != nil {
		t.Errorf("search ignores the language: %q", got)
	}
	if got := titles(t, l, Query{Lang: "ZH"}); len(got) != 1 {
		t.Errorf("language by primary subtag: %q", got)
	}
}

func FuzzMatchExpr(f *testing.F) {
	for _, s := range []string{"a b", `"`, "新闻", "a\x00", "می‌خواهم", "NEAR(", "\xf0\x28"} {
		f.Add(s)
	}
	l := open(f, f.TempDir(), "")
	f.Fuzz(func(t *testing.T, s string) {
		for _, err := range l.Headlines(t.Context(), Query{Search: s, Limit: 1}) {
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}

func TestListing(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	f := &bundle.Front{Channel: chA}
	for i := range 250 {
		e := entry(fmt.Sprintf("%03d", i), fmt.Sprint(i), "")
		e.Date = time.Unix(int64(1000+i/10), 0) // tens share a second
		f.Articles = append(f.Articles, e)
	}
	check(t, l.SetFront(ctx, chA, f))
	check(t, l.SetFront(ctx, chB, &bundle.Front{Channel: chB, Articles: []bundle.Entry{entry("1", "other", "")}}))
	all := titles(t, l, Query{Channel: chA})
	if len(all) != 250 || all[0] != "249" || all[249] != "0" {
		t.Fatalf("%d headlines, %v", len(all), all)
	}
	var paged []string
	q := Query{Channel: chA, Limit: 7}
	for range 100 {
		n := 0
		for h, err := range l.Headlines(ctx, q) {
			check(t, err)
			check(t, l.SetRead(ctx, chA, h.ID, h.ID < "010")) // must not deadlock
			paged = append(paged, h.Title)
			n++
			c, err := ParseCursor(h.Cursor().String())
			check(t, err)
			q.After = c
		}
		if n == 0 {
			break
		}
	}
	if !slices.Equal(paged, all) {
		t.Error("pages together are not the whole")
	}
	if got := titles(t, l, Query{Channel: chA, Unread: true}); len(got) != 240 {
		t.Errorf("%d unread", len(got))
	}
	if got := titles(t, l, Query{Channel: chA, Before: time.Unix(1001, 0)}); len(got) != 10 {
		t.Errorf("%d before", len(got))
	}
	if got := titles(t, l, Query{}); len(got) != 251 {
		t.Errorf("%d in all", len(got))
	}
	for _, bad := range []string{"", "0", "-1", " 1", "1x", "01", "99999999999999999999"} {
		if _, err := ParseCursor(bad); err == nil {
			t.Errorf("cursor %q accepted", bad)
		}
	}
}

package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// What was taken back is said in all four languages: above the list, and to whoever
// goes where it was; and nothing of what it said.
func TestTakenBack(t *testing.T) {
	f := sample()
	f.metas[0].GoneLately = 2
	f.gone = []library.Gone{{Channel: ch, ID: "00000000000000aa", Date: now.Add(-24 * time.Hour)}}
	for i, ui := range catalogues {
		b := visit(t, f)
		b.head = http.Header{"Accept-Language": {ui.tag}}
		list := text(find(b.get("/", 200), "div", "class=freshness")[0])
		want := [4]string{
			"Articles that their publisher took back lately: 2. They were deleted here.", "отозвал статей: 2.", "پس گرفته است: ۲.", "最近撤回的文章：2 篇",
		}[i]
		if !strings.Contains(list, want) {
			t.Errorf("%s: %q", ui.tag, list)
		}
		page := text(find(b.get("/a/"+ch.String()+"/00000000000000aa", 410), "main")[0])
		want = [4]string{"with the edition of 22 November 2026", "22 ноября 2026", "۱ آذر ۱۴۰۵", "2026年11月22日"}[i]
		if !strings.Contains(page, ui.T("gone.title")) || !strings.Contains(page, want) || strings.Contains(page, "%!") {
			t.Errorf("%s: %q", ui.tag, page)
		}
	}
	b := visit(t, f)
	b.get("/a/"+ch.String()+"/00000000000000bb", 404)
	b.get("/a/"+ch.String()+"/"+id1, 200)
	if b.get("/", 200); len(find(b.get("/?q=bread", 200), "div", "class=freshness")) != 1 {
		t.Error("in a search it is not said")
	}
	// Of several channels each is named.
	other := channel.IDOf([]byte("another"))
	f.metas = append(f.metas, library.Meta{Channel: other, Name: "Other", GoneLately: 1})
	if got := text(b.get("/", 200)); !strings.Contains(got, "Radio Example Articles that") || !strings.Contains(got, "Other Articles that") {
		t.Errorf("%q", got)
	}
	f.metas[0].GoneLately, f.metas[1].GoneLately = 0, 0
	if got := text(b.get("/", 200)); strings.Contains(got, "took back") {
		t.Errorf("nothing was taken back: %q", got)
	}
}

func TestCorrected(t *testing.T) {
	f := sample()
	for i := range f.heads {
		f.heads[i].Corrected = now.Add(-2 * time.Hour)
	}
	for i, ui := range catalogues {
		b := visit(t, f)
		b.head = http.Header{"Accept-Language": {ui.tag}}
		want := [4]string{"corrected 2 hours ago", "исправлено: 2 часа назад", "تصحیح: ۲ ساعت پیش", "更正于2 小时前"}[i]
		said := find(b.get("/", 200), "span", "class=dot corrected")
		if len(said) != 2 || text(said[0]) != want {
			t.Errorf("%s: %d, %q", ui.tag, len(said), text(said[0]))
		}
		said = find(b.get("/a/"+ch.String()+"/"+id1, 200), "span", "class=dot corrected")
		want = [4]string{"corrected 23 November 2026", "исправлено: 23 ноября 2026", "تصحیح: ۲ آذر ۱۴۰۵", "更正于2026年11月23日"}[i]
		if len(said) != 1 || text(said[0]) != want {
			t.Errorf("%s: %d, %q", ui.tag, len(said), text(said[0]))
		}
	}
	f.heads[0].Corrected = time.Time{}
	if got := text(visit(t, f).get("/a/"+ch.String()+"/"+id1, 200)); strings.Contains(got, "corrected") {
		t.Errorf("as it was first published: %q", got)
	}
}

// A way that lied or offered something old is told calmly, and once.
func TestOddWays(t *testing.T) {
	f := sample()
	f.st.Paths = []PathStatus{
		{Name: "a", Kind: transport.KindQUIC, State: PathLied},
		{Name: "b", Kind: transport.KindTCP, State: PathLied},
		{Name: "c", Kind: transport.KindDNS, State: PathWorking, Older: true},
		{Name: "d", Kind: transport.KindDNS, State: PathWorking},
	}
	for _, ui := range catalogues {
		b := visit(t, f)
		b.head = http.Header{"Accept-Language": {ui.tag}}
		for _, path := range []string{"/", "/status"} {
			n := b.get(path, 200)
			for _, key := range []string{"status.lied", "status.older"} {
				if strings.Count(text(n), ui.T(key)) != 1 {
					t.Errorf("%s, %s, %s: %q", path, ui.tag, key, text(n))
				}
			}
			if len(find(n, "p", "class=fresh alarm")) != 0 {
				t.Errorf("%s, %s: it alarms", path, ui.tag)
			}
		}
	}
	f.st.Paths = append(f.st.Paths[3:],
		PathStatus{Name: "e", Kind: transport.KindTCP, State: PathLied, Past: true},
		PathStatus{Name: "f", Kind: transport.KindTCP, State: PathWorking, Older: true, Past: true})
	if got := text(visit(t, f).get("/", 200)); strings.Contains(got, english.T("status.lied")) || strings.Contains(got, english.T("status.older")) {
		t.Errorf("nothing is odd: %q", got)
	}
}

package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
)

const (
	pageSize  = 40
	maxQuery  = 200 // characters of a search
	leadCount = 3   // headlines shown large on the first page
)

type listPage struct {
	Panel *panelView
	// Age of the newest edition in words, "" if there is none.
	Age string
	// ClockWrong: the newest news is from the future.
	ClockWrong bool
	Syncing    bool
	// Fresh says how fresh the news is, the most urgent first.
	Fresh []freshLine
	// Gone says that something was taken back, a line a channel.
	Gone []freshLine
	// Lively: load anew after Options.Refresh.
	Lively bool
	// Empty is "", or which empty state to show.
	Empty string

	Search, Lang string
	Unread       bool
	Langs        []langChip
	UnreadLink   string
	Clear        string // leads to the list without search and filter

	Leads, Rest []item
	Next, First string
}

type langChip struct {
	Name, Tag, Link string
	Dir             string
	On              bool
}

// item is a headline as templates show it.
type item struct {
	Link              string
	Title, Lead       string
	Lang, Dir         string // safe values; Lang may be empty
	When, ISO         string
	Corrected         string // when, "" for never
	Channel           string // its name, if there are several
	Read, Text        bool
	Pictures          int
	ChannelID, ID, At string
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	ctx, ui := r.Context(), s.ui(r)
	q := r.URL.Query()
	v := listPage{Search: clip(strings.TrimSpace(q.Get("q")), maxQuery), Lang: s.langFilter(w, r), Unread: q.Get("unread") == "1"}
	// The panel is asked before all else: what it knows to have come stands then on a page
	// that does not load itself anew.
	if s.o.Panel != nil {
		v.Panel = newPanelView(s.o.Panel.View(ctx))
		v.Lively = v.Panel.Busy && v.Search == "" && !q.Has("after")
	}
	metas, newest, err := s.metas(ctx)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	now := s.now(newest)
	status := s.o.Engine.Status(ctx)
	v.Syncing = status.Syncing
	v.ClockWrong = s.clockWrong(status, newest)
	if !newest.IsZero() {
		v.Age = ui.age(now.Sub(newest))
	}
	v.Fresh = append(ui.freshLines(status.Fresh, s.o.Now()), ui.oddLines(status.Paths)...)
	v.Gone = ui.goneLines(metas)
	v.Langs = langChips(ui, metas, v.Lang, q)
	v.UnreadLink = link(q, "unread", map[bool]string{true: "", false: "1"}[v.Unread], "after")

	query := library.Query{Lang: v.Lang, Unread: v.Unread, Search: v.Search, Limit: pageSize + 1}
	if after := q.Get("after"); after != "" {
		if query.After, err = library.ParseCursor(after); err != nil {
			s.message(w, r, http.StatusNotFound, "missing")
			return
		}
		v.First = link(q, "after", "")
	}
	names := map[channel.ID]string{}
	for _, m := range metas {
		names[m.Channel] = m.Name
	}
	var items []item
	var last library.Cursor
	for h, err := range s.o.Library.Headlines(ctx, query) {
		if err != nil {
			s.trouble(w, r, err)
			return
		}
		if len(items) == pageSize {
			v.Next = link(q, "after", last.String())
			break
		}
		items = append(items, newItem(ui, h, names, now))
		last = h.Cursor()
	}
	filtered := v.Search != "" || v.Lang != "" || v.Unread || v.First != ""
	n := 0
	if !filtered {
		n = min(leadCount, len(items))
	}
	v.Leads, v.Rest = items[:n], items[n:]
	switch {
	case len(items) > 0:
	case len(metas) == 0:
		v.Empty = "empty.nochannel"
	case filtered:
		v.Empty = "empty.nothing"
		v.Clear = "/?lang=all"
	default:
		v.Empty = "empty.waiting"
	}
	s.render(w, r, http.StatusOK, "list", v)
}

// metas returns what is known of each channel, and the date of the newest edition.
func (s *Server) metas(ctx context.Context) (ms []library.Meta, newest time.Time, err error) {
	ids, err := s.o.Library.Channels(ctx)
	if err != nil {
		return nil, newest, err
	}
	for _, id := range ids {
		m, err := s.o.Library.Meta(ctx, id)
		if err != nil {
			return nil, newest, err
		}
		if m.Date.After(newest) {
			newest = m.Date
		}
		ms = append(ms, m)
	}
	return ms, newest, nil
}

func newItem(ui *catalogue, h library.Headline, names map[channel.ID]string, now time.Time) item {
	it := item{
		Link: "/a/" + h.Channel.String() + "/" + url.PathEscape(h.ID), Title: h.Title, Lead: h.Lead,
		Lang: safeLang(h.Lang), Dir: safeDir(h.Dir), When: ui.when(h.Date, now), ISO: h.Date.UTC().Format(time.RFC3339),
		Read: h.Read, Text: h.Text, Pictures: len(h.Images),
		ChannelID: h.Channel.String(), ID: h.ID,
	}
	if !h.Corrected.IsZero() {
		it.Corrected = fmt.Sprintf(ui.T("corrected"), ui.when(h.Corrected, now))
	}
	if len(names) > 1 {
		it.Channel = names[h.Channel]
	}
	return it
}

// goneLines say of each channel that something was taken back lately.
func (c *catalogue) goneLines(metas []library.Meta) (lines []freshLine) {
	for _, m := range metas {
		if m.GoneLately == 0 || len(lines) >= maxFresh {
			continue
		}
		l := freshLine{Text: fmt.Sprintf(c.T("gone.lately"), c.number(m.GoneLately))}
		if len(metas) > 1 {
			l.Channel = Fresh{Channel: m.Channel, Name: m.Name}.name()
		}
		lines = append(lines, l)
	}
	return lines
}

// langFilter is the language chosen in the address, or the one chosen last in
// this session; "" for all.
func (s *Server) langFilter(w http.ResponseWriter, r *http.Request) string {
	name := s.guard.name + "l"
	if q := r.URL.Query(); q.Has("lang") {
		lang := primaryLang(q.Get("lang"))
		if lang == "all" {
			lang = ""
		}
		s.setCookie(w, name, lang)
		return lang
	}
	if c, err := r.Cookie(name); err == nil {
		return primaryLang(c.Value)
	}
	return ""
}

// langChips are links to each language that a channel says it writes in, if
// there are two or more.
func langChips(ui *catalogue, metas []library.Meta, on string, q url.Values) []langChip {
	var tags []string
	for _, m := range metas {
		for _, l := range m.Langs {
			if p := primaryLang(l); p != "" && !slices.Contains(tags, p) {
				tags = append(tags, p)
			}
		}
	}
	if len(tags) < 2 {
		return nil
	}
	chips := []langChip{{Name: ui.T("all"), Tag: ui.tag, Dir: ui.dir, Link: link(q, "lang", "all", "after"), On: on == ""}}
	for _, t := range tags {
		name, dir := selfName(t)
		chips = append(chips, langChip{Name: name, Tag: t, Dir: dir, Link: link(q, "lang", t, "after"), On: t == on})
	}
	return chips
}

// link is the list's address with one parameter changed ("" takes it away) and
// others dropped.
func link(q url.Values, key, value string, drop ...string) string {
	out := url.Values{}
	for _, k := range []string{"q", "lang", "unread", "after"} {
		if v := q.Get(k); v != "" && !slices.Contains(drop, k) {
			out.Set(k, clip(v, maxQuery))
		}
	}
	out.Del(key)
	if value != "" {
		out.Set(key, value)
	}
	if len(out) == 0 {
		return "/"
	}
	return "/?" + out.Encode()
}

func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// safeLang returns a language tag, or "" if it isn't one.
func safeLang(tag string) string {
	if len(tag) > 35 || tag == "und" || primaryLang(tag) == "" {
		return ""
	}
	for _, r := range tag {
		if r != '-' && (r >= utf8.RuneSelf || !isAlnum(byte(r))) {
			return ""
		}
	}
	return tag
}

func isAlnum(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }

// primaryLang returns the primary subtag in lower case, "" if there is none.
func primaryLang(tag string) string {
	p, _, _ := strings.Cut(strings.ToLower(tag), "-")
	if len(p) < 2 || len(p) > 8 || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return p
}

// safeDir returns a direction; unknown ones let the browser look at the text.
func safeDir(dir string) string {
	if dir == "rtl" || dir == "ltr" {
		return dir
	}
	return "auto"
}

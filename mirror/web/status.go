package web

import (
	"net/http"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	newsync "tamizdat/mirror/sync"
)

// Status is how things stand.
type Status struct {
	// Paths are the ways in, in the order in which to show them.
	Paths []PathStatus
	// Syncing: it is looking for news now.
	Syncing bool
	// LastSync is when it last finished looking; zero for never.
	LastSync time.Time
	// ClockWrong: the device's clock is known to be far off.
	ClockWrong bool
	// Fresh is how fresh each channel's news is.
	Fresh []Fresh
	// Work is what is going on now, if Syncing.
	Work Work
	// Fetching are the articles whose pictures are being fetched, by ID.
	Fetching []string
	// Events are what happened last, oldest first, MaxEvents at most.
	Events []Event
}

// Lacks is what has not come of a channel's texts.
type Lacks struct {
	Channel channel.ID
	newsync.Lacking
}

// PathState says how a path does.
type PathState int

// The states of a path.
const (
	PathUntried PathState = iota
	PathWorking
	PathBlocked
	PathResting // failed lately, or can't be used on this network; tried again later
	PathLied    // sent what keys or hashes prove false; for a day it is asked last
	PathForked  // showed another history, signed with the channel's keys; as PathLied
)

// key is the word of the catalogue and the class of the style sheet.
func (p PathState) key() string {
	switch p {
	case PathWorking:
		return "working"
	case PathBlocked:
		return "blocked"
	case PathResting:
		return "resting"
	case PathLied:
		return "lied"
	case PathForked:
		return "forked"
	case PathUntried:
	}
	return "untried"
}

// PathStatus is how one path does.
type PathStatus struct {
	Name, Kind string // see transport.Path
	State      PathState
	// Last is when something last arrived by it; zero for never. Bytes is how
	// much did.
	Last  time.Time
	Bytes int64
	// Head is the number of editions that the newest head shown by it covers, Seen
	// when it showed that: zero for never.
	Head uint64
	Seen time.Time
	// Older: it answered last with something older than is here.
	Older bool
	// Past: where it leads to has since done as it should, by another way.
	Past bool
}

// lies and late are what is still to be said of it. Of who showed another history it is not
// said that he lies, and that there is nothing to do: which one is true nobody knows, and
// there is an alarm.
func (p PathStatus) lies() bool { return p.State == PathLied && !p.Past }
func (p PathStatus) late() bool { return p.Older && !p.Past }

type statusPage struct {
	Channels   []channelRow
	Paths      []pathRow
	Syncing    bool
	Last       string
	ClockWrong bool
	Working    int
	Lied       bool // some path did
	Older      bool // some path offered something old
	// Work is what is going on, in parts.
	Work   []string
	Events []eventRow
	// Live: the page loads itself anew while news is being looked for, as the
	// reader asked by a link.
	Live bool
	// Refresh is in seconds, 0 for the server's own.
	Refresh int
}

// liveSeconds is how often the page loads itself anew while it is followed live.
const liveSeconds = 2

type channelRow struct {
	Name, ID, Age, At string
	Edition           string
	Articles, Unread  string
	Nothing           bool
	// Lines say how fresh it is, the rest are the figures behind them.
	Lines                            []freshLine
	Sources, Checked, Signed, Rhythm string
	// Lacks is how many texts have not come, Cost what that takes over DNS alone, in
	// parts.
	Lacks string
	Cost  []string
}

type pathRow struct {
	Name, Kind, State, Class, Last, Bytes string
	// Edition is the newest that it showed, Seen when.
	Edition, Seen string
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	ctx, ui := r.Context(), s.ui(r)
	metas, newest, err := s.metas(ctx)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	now := s.now(newest)
	st := s.o.Engine.Status(ctx)
	v := statusPage{
		Syncing: st.Syncing, ClockWrong: s.clockWrong(st, newest),
		Work: ui.work(st.Work), Events: ui.eventRows(st.Events), Live: r.URL.Query().Get("live") == "1",
	}
	if v.Live && v.Syncing {
		v.Refresh = liveSeconds
	}
	if !st.LastSync.IsZero() {
		v.Last = ui.ago(s.now(st.LastSync).Sub(st.LastSync))
	}
	lacks := s.o.Engine.Lacks(ctx)
	for _, m := range metas {
		row := s.channelRow(ui, m, st.Fresh, now)
		row.lacks(ui, m.Channel, lacks)
		v.Channels = append(v.Channels, row)
	}
	for _, p := range st.Paths {
		row := pathRow{Name: p.Name, Kind: ui.T("kind." + p.Kind), State: ui.T("path." + p.State.key()), Class: p.State.key(), Bytes: ui.bytes(p.Bytes)}
		if !p.Last.IsZero() {
			row.Last = ui.ago(s.now(p.Last).Sub(p.Last))
		}
		if p.Head > 0 && !p.Seen.IsZero() {
			row.Edition, row.Seen = ui.number(int(p.Head-1)), ui.ago(s.now(p.Seen).Sub(p.Seen))
		}
		if p.State == PathWorking {
			v.Working++
		}
		v.Lied, v.Older = v.Lied || p.lies(), v.Older || p.late()
		v.Paths = append(v.Paths, row)
	}
	s.render(w, r, http.StatusOK, "status", v)
}

// clockWrong reports whether a warning is due that no line about freshness gives.
func (s *Server) clockWrong(st Status, newest time.Time) bool {
	return len(st.Fresh) == 0 && (st.ClockWrong || newest.After(s.o.Now().Add(24*time.Hour)))
}

func (s *Server) channelRow(ui *catalogue, m library.Meta, fresh []Fresh, now time.Time) channelRow {
	row := channelRow{
		Name: m.Name, ID: m.Channel.String(), Edition: ui.number(int(m.Edition)),
		Articles: ui.number(m.Headlines), Unread: ui.number(m.Unread), Nothing: m.Date.IsZero(),
	}
	if !m.Date.IsZero() {
		row.Age, row.At = ui.age(now.Sub(m.Date)), ui.date(m.Date.In(time.Local))
	}
	for _, f := range fresh {
		if f.Channel != m.Channel {
			continue
		}
		row.Lines, row.Sources = ui.fresh(f.Freshness, s.o.Now()), ui.number(f.Sources)
		if !f.Checked.IsZero() {
			row.Checked = ui.ago(s.o.Now().Sub(f.Checked))
		}
		if !f.Signed.IsZero() {
			row.Signed = ui.when(f.Signed, now)
		}
		if f.Known {
			row.Rhythm = ui.span(f.Usual)
		}
	}
	return row
}

func (row *channelRow) lacks(ui *catalogue, ch channel.ID, ls []Lacks) {
	for _, l := range ls {
		if l.Channel == ch && l.Articles > 0 {
			row.Lacks, row.Cost = ui.number(l.Articles), ui.cost(l.Cost)
		}
	}
}

// sync starts to look for news and shows how it goes.
func (s *Server) sync(w http.ResponseWriter, r *http.Request) {
	s.o.Engine.Sync(r.Context())
	http.Redirect(w, r, "/status?live=1", http.StatusSeeOther)
}

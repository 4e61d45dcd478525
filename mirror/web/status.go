package web

import (
	"net/http"
	"time"
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
	// Forked names channels of which two different histories were seen.
	Forked []string
}

// PathState says how a path does.
type PathState int

// The states of a path.
const (
	PathUntried PathState = iota
	PathWorking
	PathBlocked
	PathResting // failed lately, or can't be used on this network; tried again later
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
}

type statusPage struct {
	Channels   []channelRow
	Paths      []pathRow
	Syncing    bool
	Last       string
	ClockWrong bool
	Forked     []string
	Working    int
}

type channelRow struct {
	Name, ID, Age, At   string
	Edition             string
	Articles, Unread    string
	Nothing, FromFuture bool
}

type pathRow struct {
	Name, Kind, State, Class, Last, Bytes string
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
	v := statusPage{Syncing: st.Syncing, Forked: st.Forked, ClockWrong: st.ClockWrong || newest.After(s.o.Now().Add(24*time.Hour))}
	if !st.LastSync.IsZero() {
		v.Last = ui.ago(s.now(st.LastSync).Sub(st.LastSync))
	}
	for _, m := range metas {
		row := channelRow{
			Name: m.Name, ID: m.Channel.String(), Edition: ui.number(int(m.Edition)),
			Articles: ui.number(m.Headlines), Unread: ui.number(m.Unread), Nothing: m.Date.IsZero(),
		}
		if !m.Date.IsZero() {
			row.Age, row.At = ui.age(now.Sub(m.Date)), ui.date(m.Date.In(time.Local))
		}
		v.Channels = append(v.Channels, row)
	}
	for _, p := range st.Paths {
		row := pathRow{Name: p.Name, Kind: ui.T("kind." + p.Kind), State: ui.T("path." + p.State.key()), Class: p.State.key(), Bytes: ui.bytes(p.Bytes)}
		if !p.Last.IsZero() {
			row.Last = ui.ago(s.now(p.Last).Sub(p.Last))
		}
		if p.State == PathWorking {
			v.Working++
		}
		v.Paths = append(v.Paths, row)
	}
	s.render(w, r, http.StatusOK, "status", v)
}

// sync starts to look for news and shows how it goes.
func (s *Server) sync(w http.ResponseWriter, r *http.Request) {
	s.o.Engine.Sync(r.Context())
	http.Redirect(w, r, "/status", http.StatusSeeOther)
}

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tamizdat/internal/cli"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/reader"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
)

type statusCmd struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// channelStatus is one channel in `mirror status --json`.
type channelStatus struct {
	Channel   channel.ID           `json:"channel"`
	Name      string               `json:"name,omitempty"`
	Edition   *uint64              `json:"edition,omitempty"`
	Packed    *time.Time           `json:"packed,omitempty"`
	Signed    *time.Time           `json:"signed,omitempty"`
	Headlines int                  `json:"headlines"`
	Unread    int                  `json:"unread"`
	FirstTime bool                 `json:"first_time"`
	Forks     int                  `json:"forks"`
	Lacks     newsync.Lacking      `json:"lacks"` // of texts
	Freshness newsync.Freshness    `json:"freshness"`
	Paths     []newsync.PathReport `json:"paths"`
}

// Run shows how things stand, without asking anybody.
func (c *statusCmd) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	ids, err := r.Library().Channels(e.ctx)
	if err != nil {
		return err
	}
	all := []channelStatus{}
	for _, ch := range ids {
		st, err := status(e, r, ch)
		if err != nil {
			return err
		}
		all = append(all, st)
	}
	if c.JSON {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	if len(all) == 0 {
		return reader.ErrNoChannel
	}
	for _, st := range all {
		st.print(e)
	}
	return nil
}

func status(e *env, r *reader.Reader, ch channel.ID) (channelStatus, error) {
	st := channelStatus{Channel: ch, Paths: []newsync.PathReport{}}
	view, err := newsync.View(e.ctx, r.Library(), ch)
	if err != nil {
		return st, err
	}
	st.Forks, st.FirstTime = len(view.Evidence()), view.FirstTime()
	if h := view.Head(); h != nil {
		st.Edition, st.Packed, st.Signed = &h.Edition, &h.Date, &h.Time
	}
	if m, err := r.Library().Meta(e.ctx, ch); err == nil {
		st.Name, st.Headlines, st.Unread = m.Name, m.Headlines, m.Unread
	}
	if st.Freshness, err = r.Freshness(e.ctx, ch); err != nil {
		return st, err
	}
	if st.Lacks, err = r.Lacks(e.ctx, ch); err != nil {
		return st, err
	}
	reports, err := newsync.Reports(e.ctx, r.Library(), ch)
	if reports != nil {
		st.Paths = reports
	}
	return st, err
}

func (st channelStatus) print(e *env) {
	fmt.Fprintf(e.out, "channel %s  %s\n", st.Channel, plain(st.Name))
	if st.Edition == nil {
		fmt.Fprintln(e.out, "  nothing has arrived yet; mirror sync fetches it")
	} else {
		fmt.Fprintf(e.out, "  edition %d, packed %s; %d headlines, %d unread\n", *st.Edition, ago(*st.Packed), st.Headlines, st.Unread)
	}
	if l := st.Lacks; l.Articles > 0 {
		fmt.Fprintf(e.out, "  %s still missing, %s", cli.Count(l.Articles, "text"), cli.Bytes(l.Bytes))
		if l.Cost.Queries > 0 {
			fmt.Fprintf(e.out, "; if only DNS works: %s", costWords(l.Cost))
		}
		fmt.Fprintln(e.out)
	}
	f := st.Freshness
	f.ClockBehind, f.ClockOff = false, false // clock says it with figures
	lines, alarm := web.FreshWords(f, time.Now())
	for i, l := range lines {
		if alarm && i == 0 { // the most urgent comes first
			l = "WARNING: " + l
		}
		fmt.Fprintln(e.out, "  "+l)
	}
	if st.Signed != nil {
		st.clock(e)
	}
	for _, p := range st.Paths {
		line := fmt.Sprintf("  %-6s  %s", p.State, p.Name)
		if !p.At.IsZero() {
			line += ", " + ago(p.At)
		}
		if p.Error != "" {
			line += ": " + p.Error
		}
		fmt.Fprintln(e.out, plain(strings.ReplaceAll(line, "\n", "; ")))
	}
}

const (
	// staleAfter is when silence is more than a publisher's holiday.
	staleAfter = 30 * 24 * time.Hour
)

// clock warns of news that does not fit this device's clock. Which of the two
// is wrong can't be known here: the news is shown either way.
func (st channelStatus) clock(e *env) {
	switch age := time.Since(*st.Signed); {
	case age < -newsync.ClockSlack:
		fmt.Fprintln(e.out, "  WARNING: this was signed in the future by this device's clock: look at its date and time")
	case age > staleAfter:
		fmt.Fprintf(e.out, "  WARNING: nothing newer for %d days: every way in may be blocked, or this device's clock is ahead\n", int(age.Hours()/24))
	}
}

// ago says how long ago t was, for people.
func ago(t time.Time) string {
	d := time.Since(t)
	n, unit := 0, ""
	switch {
	case d < -time.Minute:
		return "in the future by this device's clock: the clock is wrong"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		n, unit = int(d.Minutes()), "minute"
	case d < 48*time.Hour:
		n, unit = int(d.Hours()), "hour"
	default:
		n, unit = int(d.Hours()/24), "day"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s ago", n, unit)
}

type wipeCmd struct {
	Yes bool `help:"Don't ask."`
}

// Run destroys the library.
func (c *wipeCmd) Run(e *env) (err error) { return wipe(e, c.Yes) }

package web

import (
	"fmt"
	"strings"
	"time"

	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// MaxEvents is how many of the newest events Status should hold.
const MaxEvents = 50

// Event is one thing that happened while looking for news.
type Event struct {
	At time.Time
	// What is one of sync's Event constants or of those below.
	What string
	// Path names the path that did it, "" if none did.
	Path string
	// Stage is that of sync.Progress.
	Stage string
	// Cost is what the stage takes, of EventCost only.
	Cost transport.Cost
}

// What happens besides what single paths do.
const (
	EventFirst      = "first"      // it answered before all others
	EventStart      = "start"      // looking for news began
	EventNew        = "new"        // it ended with a newer edition
	EventSame       = "same"       // it ended, and nobody had anything newer
	EventFile       = "file"       // a file was taken in, and it has nothing newer
	EventNobody     = "nobody"     // it ended without an answer
	EventIncomplete = "incomplete" // it ended, and some of the news is missing
	EventPictures   = "pictures"   // the pictures of one article were asked for
	EventPictured   = "pictured"   // they are here
	EventUnpictured = "unpictured" // they, or some of them, did not come
	EventCost       = "cost"       // only narrow ways are open, and what is to come takes so much
	EventLimit      = "limit"      // it ended at the limit that the reader set
)

// Work is what is going on now.
type Work struct {
	// Stage is that of sync.Progress, "" if nothing is going on.
	Stage string
	// Bytes have arrived, Rate is in bytes a second.
	Bytes, Rate int64
	// From is the path that brought something of this stage first, "" for none so
	// far; More others have done so since.
	From string
	More int
	// Left is about how long the stage still takes; 0 if unknown.
	Left time.Duration
	// Cost is what is left, where only narrow ways are open; see sync.Progress.
	Cost transport.Cost
}

type eventRow struct{ At, ISO, Path, Text string }

// eventRows are what happened last, newest first.
func (c *catalogue) eventRows(es []Event) (rows []eventRow) {
	for i := len(es) - 1; i >= 0 && len(rows) < MaxEvents; i-- {
		e := es[i]
		key := "event." + e.What
		if e.What == newsync.EventBrought {
			key += "." + e.Stage
		}
		text, ok := c.texts[key]
		if !ok {
			continue // of a newer engine
		}
		if cost := c.cost(e.Cost); len(cost) > 0 {
			text += ": " + strings.Join(cost, ", ")
		}
		rows = append(rows, eventRow{
			At: c.digits(e.At.In(time.Local).Format("15:04:05")), ISO: e.At.UTC().Format(time.RFC3339), Path: e.Path, Text: text,
		})
	}
	return rows
}

// work says what is going on, in the parts of one line: what, how much, from
// where, how fast, how long still.
func (c *catalogue) work(w Work) (parts []string) {
	stage, ok := c.texts["stage."+w.Stage]
	if !ok {
		return nil
	}
	parts = append(parts, stage)
	if w.Bytes > 0 {
		parts = append(parts, c.bytes(w.Bytes))
	}
	from := "\u2068" + w.From + "\u2069" // isolated: it is written from the left whatever the language
	switch {
	case w.From == "":
	case w.More == 0:
		parts = append(parts, fmt.Sprintf(c.T("work.from"), from))
	default:
		parts = append(parts, fmt.Sprintf(c.T("work.more"), from, c.number(w.More)))
	}
	if w.Rate > 0 {
		parts = append(parts, c.bytes(w.Rate)+c.T("persecond"))
	}
	if w.Cost.Queries > 0 {
		return append(parts, c.cost(w.Cost)...)
	}
	if left := c.left(w.Left); left != "" {
		parts = append(parts, left)
	}
	return parts
}

// left says how long something still takes, "" if that is not known.
func (c *catalogue) left(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Minute:
		return c.T("work.soon")
	}
	return fmt.Sprintf(c.T("work.left"), c.span(d))
}

// cost says what something takes over DNS alone: questions, bytes, time.
func (c *catalogue) cost(w transport.Cost) (parts []string) {
	if w.Queries == 0 {
		return nil
	}
	return []string{
		fmt.Sprintf(c.T("cost.queries"), c.number(int(w.Queries))),
		fmt.Sprintf(c.T("cost.bytes"), c.bytes(w.Up), c.bytes(w.Down)), c.left(w.Time),
	}
}

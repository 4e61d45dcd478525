package web

import (
	"fmt"
	"slices"
	"time"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
)

// Fresh is how fresh the news of one channel is.
type Fresh struct {
	Channel channel.ID
	Name    string
	newsync.Freshness
}

// maxFresh bounds the lines above the list: a reader follows few channels.
const maxFresh = 8

// freshLine is one thing said about freshness.
type freshLine struct {
	// Class is "good", "" or "alarm".
	Class string
	// Channel is its name, if there are several.
	Channel string
	Text    string
	// Code is a command to type, "" for none.
	Code string
}

// proofCommand writes what proves a fork.
const proofCommand = "mirror proof FILE"

// FreshWords says in English how fresh a channel's news is, for a terminal: a
// line each, the most urgent first. alarm marks those that a person must not miss.
func FreshWords(f newsync.Freshness, now time.Time) (lines []string, alarm bool) {
	for _, l := range english.fresh(f, now) {
		text := l.Text
		if l.Code != "" {
			text += " " + l.Code
		}
		lines, alarm = append(lines, text), alarm || l.Class == "alarm"
	}
	return lines, alarm
}

// fresh says it in short sentences, without words that only we know.
func (c *catalogue) fresh(f newsync.Freshness, now time.Time) (lines []freshLine) {
	add := func(class, text, code string) { lines = append(lines, freshLine{Class: class, Text: text, Code: code}) }
	if f.Forked {
		add("alarm", c.T("fresh.forked"), proofCommand)
		add("", c.T("fresh.proof"), "")
	}
	if f.Rekeyed {
		add("", c.T("fresh.rekeyed"), proofCommand)
	}
	say := func(key string, args ...any) string { return fmt.Sprintf(c.T(key), args...) }
	checked := c.ago(now.Sub(f.Checked))
	switch f.Verdict {
	case newsync.VerdictNothing:
	case newsync.VerdictCurrent:
		add("good", say("fresh.current", checked, c.number(f.Sources)), "")
	case newsync.VerdictNothingNewer:
		if f.Answered > 1 {
			add("", say("fresh.nothing", checked, c.number(f.Answered)), "")
		} else {
			add("", say("fresh.nothing.one", checked), "")
		}
	case newsync.VerdictOneSource:
		add("", say("fresh.one", checked), "")
	case newsync.VerdictBehind:
		add("", say("fresh.behind", checked), "")
	case newsync.VerdictUnchecked:
		if f.Checked.IsZero() {
			add("", c.T("fresh.unasked"), "")
		} else {
			add("", say("fresh.unchecked", checked), "")
		}
	case newsync.VerdictUnreached:
		switch {
		case f.Signed.IsZero():
			add("", c.T("fresh.unreached.nothing"), "")
		case f.Checked.IsZero():
			add("", say("fresh.unreached.ever", c.moment(f.Signed, now)), "")
		default:
			add("", say("fresh.unreached", c.moment(f.Checked, now), c.moment(f.Signed, now)), "")
		}
	case newsync.VerdictFrozen:
		add("alarm", say("fresh.frozen", c.moment(f.Signed, now)), "")
	}
	if w := f.Witnessed; w.Of > 0 {
		if w.Met() {
			add("", say("fresh.witnessed", c.number(w.Seen), c.number(w.Of)), "")
		} else {
			add("", say("fresh.unwitnessed", c.number(w.Seen), c.number(w.Of), c.number(w.Quorum)), "")
		}
	}
	if f.FirstTime {
		add("", c.T("fresh.first"), "")
	}
	if !f.File.IsZero() {
		add("", say("fresh.file", c.ago(now.Sub(f.File))), "")
	}
	switch {
	case f.ClockBehind:
		add("alarm", c.T("clock"), "")
	case f.ClockOff:
		add("", c.T("fresh.clockoff"), "")
	}
	return lines
}

// freshLines is fresh for all channels.
func (c *catalogue) freshLines(all []Fresh, now time.Time) (out []freshLine) {
	for _, f := range all {
		for _, l := range c.fresh(f.Freshness, now) {
			if len(all) > 1 {
				l.Channel = f.name()
			}
			if len(out) < maxFresh {
				out = append(out, l)
			}
		}
	}
	return out
}

// oddLines say calmly what some way in did wrong, once for all ways: nothing false
// is shown because of it, and there is nothing to do.
func (c *catalogue) oddLines(paths []PathStatus) (lines []freshLine) {
	if slices.ContainsFunc(paths, PathStatus.lies) {
		lines = append(lines, freshLine{Text: c.T("status.lied")})
	}
	if slices.ContainsFunc(paths, PathStatus.late) {
		lines = append(lines, freshLine{Text: c.T("status.older")})
	}
	return lines
}

// name is the channel's, or the beginning of its ID.
func (f Fresh) name() string {
	if f.Name != "" {
		return f.Name
	}
	return f.Channel.String()[:8]
}

// moment says when something was, as people name a point in time: the hour
// today, the day of the week in the last week, a date before that.
func (c *catalogue) moment(t, now time.Time) string {
	t, now = t.In(time.Local), now.In(time.Local)
	day := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC) }
	switch days := int(day(now).Sub(day(t)) / (24 * time.Hour)); {
	case days == 0:
		return fmt.Sprintf(c.T("today"), c.digits(t.Format("15:04")))
	case days > 0 && days < 7:
		return c.weekdays[t.Weekday()]
	}
	return c.date(t)
}

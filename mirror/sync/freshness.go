package sync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Verdict is what can be said about how fresh the news on this device is.
type Verdict string

// The verdicts, worst last but one: a fork stands beside them all.
const (
	// VerdictNothing: no head has arrived yet.
	VerdictNothing Verdict = "nothing"
	// VerdictCurrent: at least two independent sources lately showed the head that
	// is held and no newer one, and it is no older than usual.
	VerdictCurrent Verdict = "current"
	// VerdictNothingNewer: somebody answered and nobody had anything newer; the
	// news is older than usual, but not by so much that it is alarming.
	VerdictNothingNewer Verdict = "nothing newer"
	// VerdictOneSource: only one source shows that this is the newest.
	VerdictOneSource Verdict = "one source"
	// VerdictBehind: a newer head was shown, but what it names has not come through.
	VerdictBehind Verdict = "behind"
	// VerdictUnchecked: nobody was asked lately.
	VerdictUnchecked Verdict = "unchecked"
	// VerdictUnreached: those that were asked last did not answer.
	VerdictUnreached Verdict = "unreached"
	// VerdictFrozen: sources answer, but the newest that they show is so old that
	// newer news may be kept from this reader.
	VerdictFrozen Verdict = "frozen"
)

const (
	// lately is how long the newest answer counts: two of the longest intervals
	// between syncs (mirror/reader).
	lately = 6 * time.Hour
	// together is how far apart answers may lie that are counted together: those of
	// one sync. Else a single relay that goes on saying "nothing newer" would speak
	// for others that have been blocked since.
	together = 10 * time.Minute
	// outage is how long after the last answer a path may still fail before that
	// means that nobody can be reached: paths that go on failing in a sync that
	// somebody else answered are none.
	outage = 10 * time.Minute
	// ClockSlack is how far behind signed time a device's clock may be before the
	// reader is told.
	ClockSlack = 10 * time.Minute
	// farOff is an age of the news at which a wrong clock is as likely as silence.
	farOff = 30 * 24 * time.Hour

	// When the rhythm of a channel is not known, news is old after this.
	defaultUsual = 24 * time.Hour
	defaultLate  = 48 * time.Hour
	// Bounds of both when it is known.
	minUsual, minLate = time.Hour, 6 * time.Hour
	maxLate           = 30 * 24 * time.Hour
	// minGaps is how many intervals make a rhythm, maxGaps how many of the newest
	// ones count.
	minGaps, maxGaps = 3, 30
)

// Freshness is what is known about how new the news of one channel is. It is
// judged from what is on the device alone; see [Judge].
//
// A head is signed when an edition is packed, and again when the publisher sends a
// sign of life, which not all do: so an old signature alone does not tell a silent
// publisher from a reader who is kept from the news. The channel's own rhythm tells
// what is alarming.
type Freshness struct {
	Verdict Verdict `json:"verdict"`
	// Sources is how many independent sources lately showed the head that is held,
	// Answered how many lately answered with any head. What can fall together is
	// one: the QUIC and TCP paths of a host, a DNS zone through whatever resolver,
	// all IPFS peers. A file is none: it can't know what has come out since.
	Sources  int `json:"sources"`
	Answered int `json:"answered"`
	// Checked is when the newest answer came, zero for never; File, when a file last
	// brought or held the head that is held, if that was after the newest answer.
	Checked time.Time `json:"checked,omitzero"`
	File    time.Time `json:"file,omitzero"`
	// Tried is when a path, files apart, last did anything, be it that it failed.
	Tried time.Time `json:"tried,omitzero"`
	// FirstTime: nothing is here with which older editions than the first one that came
	// could be compared.
	FirstTime bool `json:"first_time"`
	// Packed is when the edition was packed whose news is shown, Signed the newest signed
	// time; if the newest edition's front page has not come, Packed as well.
	Packed time.Time `json:"packed,omitzero"`
	Signed time.Time `json:"signed,omitzero"`
	// Age is how old Signed is; 0 if the device's clock is behind it.
	Age time.Duration `json:"-"`
	// Usual is the age that news of this channel usually reaches before there is
	// newer news; Late is the age that is alarming. Known: both come from its past
	// editions and are no guess.
	Usual time.Duration `json:"-"`
	Late  time.Duration `json:"-"`
	Known bool          `json:"rhythm_known"`
	// Forked: a contradicting history was shown, signed with the channel's keys.
	// The evidence is in the view.
	Forked bool `json:"forked"`
	// Rekeyed: what this device was shown before was signed with a log key that the
	// channel's root keys have replaced since, and was left out. The evidence is in
	// the view.
	Rekeyed bool `json:"rekeyed"`
	// Witnessed says how many of the channel's witnesses have seen the head that is
	// held: that others are shown the same.
	Witnessed channel.Witnessed `json:"witnesses"`
	// ClockBehind: the device's clock shows a time before the newest signature.
	// ClockOff: the clock may be ahead, since the news seems very old.
	ClockBehind bool `json:"clock_behind"`
	ClockOff    bool `json:"clock_off"`
}

// Alarming reports whether a person should be told before anything else.
func (f Freshness) Alarming() bool { return f.Forked || f.Verdict == VerdictFrozen }

// Shown is the news that is here: that of the newest edition whose front page is.
type Shown struct {
	// Size is the number of editions up to it, 0 if there is none.
	Size uint64
	// Packed are the times at which it and the editions that its front page names were
	// packed, its own first, the others in any order: the channel's rhythm.
	Packed []time.Time
}

// Judge says how fresh the news is. reports are those of the channel's paths
// (Reports), shown is what is here (Shelf.Shown); now is the device's clock.
func Judge(view *channel.View, reports []PathReport, shown Shown, now time.Time) Freshness {
	f := Freshness{
		Verdict: VerdictNothing, Witnessed: view.Witnessed(), FirstTime: view.FirstTime() && view.Size() > 1,
		Forked: view.Forked(), Rekeyed: !view.Forked() && len(view.Evidence()) > 0,
	}
	h := view.Head()
	tree := ""
	if h != nil {
		tree = treeMark(h)
	}
	newest := f.answers(view.Size(), tree, reports, now)
	if h == nil {
		if f.silent(reports, now) {
			f.Verdict = VerdictUnreached
		}
		return f
	}
	f.Packed, f.Signed = h.Date, h.Time
	if shown.Size < view.Size() && len(shown.Packed) > 0 {
		// A head alone is no news, however new it is.
		f.Packed, f.Signed = shown.Packed[0], shown.Packed[0]
	}
	f.Age = max(0, now.Sub(f.Signed))
	f.ClockBehind = now.Add(ClockSlack).Before(h.Time)
	f.ClockOff = f.Age > farOff
	f.Usual, f.Late, f.Known = rhythm(shown.Packed, h.Date)
	switch {
	case f.silent(reports, now):
		f.Verdict = VerdictUnreached
	case f.Checked.IsZero() || now.Sub(f.Checked) > lately:
		f.Verdict = VerdictUnchecked
	case newest > view.Size():
		f.Verdict = VerdictBehind
	case f.Age > f.Late:
		f.Verdict = VerdictFrozen
	case shown.Size < view.Size():
		f.Verdict = VerdictBehind
	case f.Sources == 1:
		f.Verdict = VerdictOneSource
	case f.Sources > 1 && f.Age <= f.Usual && !f.Forked:
		f.Verdict = VerdictCurrent
	default:
		f.Verdict = VerdictNothingNewer
	}
	return f
}

// answers counts who showed what lately, and returns the size of the newest head
// shown. A time after now is of a clock that was wrong then, and counts as none.
func (f *Freshness) answers(held uint64, tree string, reports []PathReport, now time.Time) (newest uint64) {
	past := func(t time.Time) bool { return !t.IsZero() && !t.After(now.Add(ClockSlack)) }
	for _, r := range reports {
		if r.State != stateLied && r.Kind != transport.KindFile && past(r.Seen) && r.Seen.After(f.Checked) {
			f.Checked = r.Seen
		}
	}
	f.Tried = f.Checked
	var showed, answered [][]string
	for _, r := range reports {
		if r.Kind == transport.KindFile {
			newest = max(newest, f.file(r, held, tree, past))
			continue
		}
		if past(r.At) && r.At.After(f.Tried) {
			f.Tried = r.At
		}
		if r.State == stateLied || !past(r.Seen) || f.Checked.Sub(r.Seen) > together {
			continue
		}
		answered = append(answered, sourcesOf(r))
		if r.shows(held, tree) {
			showed = append(showed, sourcesOf(r))
		}
		newest = max(newest, r.Head)
	}
	f.Sources, f.Answered = independent(showed), independent(answered)
	return newest
}

// independent is how many of those that depend on these can be picked so that no two
// share anything; too few rather than too many.
func independent(sources [][]string) (n int) {
	slices.SortStableFunc(sources, func(a, b []string) int { return len(a) - len(b) })
	taken := map[string]bool{}
	for _, of := range sources {
		if slices.ContainsFunc(of, func(s string) bool { return taken[s] }) {
			continue
		}
		n++
		for _, s := range of {
			taken[s] = true
		}
	}
	return n
}

// file takes in the report of a file: it says where the news is from, and nothing
// about what is newest, unless it names something newer itself.
func (f *Freshness) file(r PathReport, held uint64, tree string, past func(time.Time) bool) (newer uint64) {
	switch {
	case r.State == stateLied || !past(r.Seen):
	case r.Head > held:
		return r.Head
	case r.shows(held, tree) && r.Seen.After(f.Checked) && r.Seen.After(f.File):
		f.File = r.Seen
	}
	return 0
}

// shows reports whether the newest head that a path showed is the one held.
func (r PathReport) shows(held uint64, tree string) bool {
	return r.Head == held && held > 0 && (r.Tree == "" || r.Tree == tree)
}

// silent reports whether those that were asked last did not answer: something
// failed well after the last answer, and nothing has arrived since.
func (f *Freshness) silent(reports []PathReport, now time.Time) bool {
	reached, failed, open := f.Checked, time.Time{}, false
	for _, r := range reports {
		switch {
		case r.Kind == transport.KindFile: // it reaches nobody
		case r.At.After(now.Add(ClockSlack)):
		case r.State == stateOK:
			open = true
			if r.At.After(reached) {
				reached = r.At
			}
		case r.State == stateFailed && r.At.After(failed):
			failed = r.At
		}
	}
	if !open && failed.After(reached) {
		return true // not one path is left that did not fail the last time
	}
	return failed.After(reached.Add(outage)) || reached.IsZero() && !failed.IsZero()
}

// sourcesOf names what a path depends on: paths of one source fall together.
func sourcesOf(r PathReport) []string {
	if r.Source != "" {
		return strings.Split(r.Source, "\n")
	}
	return []string{sourceOf(r)}
}

// sharesSource reports whether two paths depend on the same thing.
func sharesSource(a, b PathReport) bool {
	of := sourcesOf(b)
	return slices.ContainsFunc(sourcesOf(a), func(s string) bool { return slices.Contains(of, s) })
}

func sourceOf(r PathReport) string {
	name := strings.Fields(r.Name)
	switch r.Kind {
	case transport.KindQUIC, transport.KindTCP, transport.KindGateway:
		if len(name) > 1 { // "relay HOST:PORT quic", "gateway HOST"
			if host, _, err := net.SplitHostPort(name[1]); err == nil {
				return "host " + host
			}
			return "host " + name[1]
		}
	case transport.KindDNS:
		if len(name) > 1 { // "dns ZONE via RESOLVERS"
			return "zone " + name[1]
		}
	case transport.KindIPFS, transport.KindFile:
		return r.Kind
	}
	return r.Kind + " " + r.Name
}

// rhythm is after which age there usually is newer news, and after which it is
// alarming that there is none: three usual intervals, and half as long again as
// the longest pause of late.
func rhythm(packed []time.Time, newest time.Time) (usual, late time.Duration, known bool) {
	all := append(slices.Clone(packed), newest)
	slices.SortFunc(all, time.Time.Compare)
	all = slices.CompactFunc(all, time.Time.Equal)
	all = all[max(0, len(all)-maxGaps-1):]
	if len(all) <= minGaps {
		return defaultUsual, defaultLate, false
	}
	gaps := make([]time.Duration, len(all)-1)
	for i := range gaps {
		gaps[i] = all[i+1].Sub(all[i])
	}
	slices.Sort(gaps)
	median, longest := gaps[len(gaps)/2], gaps[len(gaps)-1]
	late = min(max(3*median, longest+longest/2, minLate), maxLate)
	return min(max(median+median/2, minUsual), late), late, true
}

// Shown returns what is here of a channel. It reads the library alone.
func (s Shelf) Shown(ctx context.Context, ch channel.ID) (shown Shown, err error) {
	view, err := View(ctx, s.Library, ch)
	if err != nil || view.Head() == nil {
		return shown, err
	}
	h := view.Head()
	known, err := loadEditions(ctx, s.Library, ch)
	if err != nil {
		return shown, err
	}
	newest := editionInfo{}
	for n, info := range known {
		if info.Front && n >= newest.Number && (n < h.Edition || n == h.Edition && info.Root == h.Root.String()) {
			newest = info
		}
	}
	if !newest.Front {
		return shown, nil
	}
	shown.Size = newest.Number + 1
	vol, err := newest.volume(view)
	if err != nil {
		return shown, nil //nolint:nilerr // no key any more: nothing to learn from
	}
	vol.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, s.Library, c) }
	front, err := vol.Front()
	if errors.Is(err, bundle.ErrMissing) {
		return shown, nil
	}
	if err != nil {
		return shown, fmt.Errorf("front page: %w", err)
	}
	shown.Packed = append(shown.Packed, front.Date)
	for _, p := range front.Past {
		shown.Packed = append(shown.Packed, p.Date)
	}
	return shown, nil
}

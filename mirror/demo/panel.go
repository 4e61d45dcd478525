package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tamizdat/internal/censor"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// View implements web.Panel.
func (p panel) View(ctx context.Context) web.PanelView {
	st := p.reader.Engine(ctx).Status(ctx)
	_, waiting := p.waiting(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	v := web.PanelView{
		Title: "The censor's desk",
		Intro: p.intro(waiting),
		Lines: p.tell(st.Events),
	}
	add := func(action, label string) { v.Buttons = append(v.Buttons, web.Button{Action: action, Label: label}) }
	if p.menu != menuClosed { // it must stand still, so it isn't Busy
		v.Switches = p.choices()
		add(actClose, "Close the menu")
		return v
	}
	v.Busy = waiting || p.unnoticed(st)
	add(actPublish, "Publish a new article")
	if waiting && p.censor.Blocked(transport.KindFile) {
		add(actStick, "Hand over a stick")
	}
	switch len(p.playing) {
	case 0:
		add(actInstead, "Choose what the censor does")
	case 1:
		add(actInstead, "Choose something else")
		add(actBeside, "Add a second one")
	default:
		add(actInstead, "Choose something else")
	}
	if forked(st) {
		add(actProof, "Check the proof")
	}
	for _, name := range p.playing {
		if s, ok := censor.Lookup(name); ok {
			v.Switches = append(v.Switches, web.Switch{
				Name: name, State: "played", Detail: strings.TrimSpace(about(s) + " " + Note(name)), Action: actLift + name, Label: "Lift",
			})
		}
	}
	first := firstNow(p.inVain(st.Events))
	for _, k := range Kinds {
		v.Switches = append(v.Switches, p.way(k, st.Paths, first))
	}
	v.Switches = append(v.Switches, p.liar())
	return v
}

// liar is the switch of the second relay. p.mu is held.
func (p panel) liar() web.Switch {
	if p.lie == "" {
		return web.Switch{Name: secondRelay, On: true, State: "honest", Action: actLies, Label: "Let it lie"}
	}
	return web.Switch{Name: secondRelay, State: lieNames[p.lie], Detail: lieNotes[p.lie], Action: actHonest, Label: "Stop that"}
}

// forked reports whether the reader holds proof of a second history.
func forked(st web.Status) bool {
	return slices.ContainsFunc(st.Fresh, func(f web.Fresh) bool { return f.Forked })
}

// unnoticed reports whether the reader has still to find out what the second relay
// does: until then the page loads itself anew. p.mu is held.
func (p panel) unnoticed(st web.Status) bool {
	some := func(is func(web.PathStatus) bool) bool { return slices.ContainsFunc(st.Paths, is) }
	switch p.lie {
	case censor.EvilOld:
		return !some(func(s web.PathStatus) bool { return s.Older && !s.Past })
	case censor.EvilFork:
		return !forked(st)
	case censor.EvilFlip:
		return !some(func(s web.PathStatus) bool { return s.State == web.PathLied && !s.Past })
	default:
		return false
	}
}

// way is the switch of one kind of path: open, blocked by hand, or stopped by
// the censor whatever the hand does. p.mu is held.
func (p panel) way(kind string, paths []web.PathStatus, first string) web.Switch {
	sw := web.Switch{Name: kindNames[kind], On: true, State: "open", Action: actBlock + kind, Label: "Block"}
	switch {
	case kind == transport.KindFile && p.pulled:
		sw.On, sw.State, sw.Action, sw.Label = false, "taken out", actOpen+kind, "Put back"
	case p.censor.Blocked(kind):
		sw.On, sw.State, sw.Action, sw.Label = false, "blocked", actOpen+kind, "Unblock"
	case kind != transport.KindFile && !slices.Contains(leaves(p.what), kind):
		sw.On, sw.State, first = false, "stopped by the censor", ""
	}
	if kind != transport.KindFile || sw.On { // of a stick that is not there is nothing to tell
		parts := doing(kind, sw.On, paths, first)
		if n := damage(p.censor.Done(kind)); n != "" {
			parts = append(parts, "the censor: "+n)
		}
		sw.Detail = strings.Join(parts, "; ")
	}
	return sw
}

// intro says what stands at the desk and what to do next. p.mu is held.
func (p panel) intro(waiting bool) string {
	switch p.menu {
	case menuInstead:
		return "What should the censor do? Most of these were measured in some country. It begins at once, for open connections too."
	case menuBeside:
		return "What should the censor do besides " + p.playing[0] + "? It begins at once, for open connections too."
	case menuLies:
		return "What should the second relay tell its readers? Publishers it goes on serving as before. The other relay, DNS and IPFS are honest."
	case menuClosed:
	}
	if p.lie != "" && len(p.playing) == 0 {
		return "The second relay lies, over its real connections. The news is still the newest: what comes is checked, whoever brings it. What the reader noticed stands above his list."
	}
	if len(p.playing) == 0 {
		return "Let the censor do what some state does, or block ways by hand; then publish. The new article still arrives while any one way is open."
	}
	open := leaves(p.what)
	stopped := func(k string) bool { return p.censor.Blocked(k) }
	left := slices.DeleteFunc(slices.Clone(open), stopped)
	var s strings.Builder
	switch {
	case len(open) == 0 && waiting:
		s.WriteString("Nothing can be reached: the new article cannot arrive over any line. What has arrived before can still be read, and a friend's stick would bring the rest.")
	case len(open) == 0:
		s.WriteString("Nothing can be reached. What has arrived before can still be read; what is published now can come on a stick only.")
	case len(left) == 0:
		fmt.Fprintf(&s, "The censor would leave %s, but that is blocked by hand.", list(open))
	case len(left) == len(Kinds)-1:
		s.WriteString("Every way stays open somewhere; the reader has to find out where.")
	default:
		fmt.Fprintf(&s, "What the censor leaves: %s.", list(left))
	}
	s.WriteString(" What you block by hand is blocked as well.")
	return s.String()
}

// list names kinds of path as people write lists.
func list(kinds []string) string {
	said := make([]string, len(kinds))
	for i, k := range kinds {
		said[i] = kindNames[k]
	}
	if n := len(said); n > 1 {
		return strings.Join(said[:n-1], ", ") + " and " + said[n-1]
	}
	return strings.Join(said, "")
}

// damage says what the middleboxes have done, to packets and to connections.
func damage(done map[censor.Action]int) string {
	var parts []string
	for _, w := range []struct {
		a    censor.Action
		verb string
	}{
		{censor.Drop, "dropped"},
		{censor.Reset, "reset"},
		{censor.Freeze, "frozen"},
		{censor.Inject, "answered by the censor"},
		{censor.Spoil, "altered"},
		{censor.Pace, "slowed down"},
	} {
		if n := done[w.a]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, w.verb))
		}
	}
	return strings.Join(parts, ", ")
}

// about is a scenario in a few sentences.
func about(s censor.Scenario) string {
	said := s.Summary + "."
	if first, _, _ := strings.Cut(said, ","); !strings.Contains(first, "-only") { // that is a scenario's name
		said = strings.ToUpper(said[:1]) + said[1:]
	}
	if s.Seen != "" {
		said += " Seen: " + s.Seen + "."
	}
	return said
}

// choices are the rows of the open menu. The first one leads out of it, or whoever
// has no mouse would reach that last. p.mu is held.
func (p panel) choices() (rows []web.Switch) {
	if p.menu == menuLies {
		rows = append(rows, web.Switch{
			Name: "As it is", State: "stays", On: true, Detail: "The second relay goes on as before.", Action: actClose, Label: "Close",
		})
		for _, lie := range lies {
			rows = append(rows, web.Switch{Name: lieNames[lie], Detail: lieNotes[lie], Action: actLie + string(lie), Label: "Choose"})
		}
		return rows
	}
	if len(p.playing) > 0 {
		rows = append(rows, web.Switch{
			Name: "As it is", State: "stays", On: true, Detail: "The censor goes on with " + strings.Join(p.playing, " and ") + ".",
			Action: actClose, Label: "Close",
		})
	}
	for _, s := range Playable() {
		row := web.Switch{Name: s.Name, Detail: about(s), Action: actPlay + s.Name, Label: "Choose"}
		played := slices.Contains(p.playing, s.Name) || len(p.playing) == 0 && s.Name == "open"
		switch {
		case played && s.Name == "open":
			row.State, row.Action, row.Label = "played", actClose, "Close"
		case played:
			row.State, row.Action, row.Label = "played", actLift+s.Name, "Lift"
		case p.menu == menuBeside:
			if _, err := Find(p.playing[0] + "+" + s.Name); err != nil || s.Name == "open" {
				continue
			}
			row.Label = "Add"
		}
		row.On = len(leaves(s)) > 0
		if row.State == "" {
			row.State = effect(s)
		}
		rows = append(rows, row)
	}
	return rows
}

// effect says in a few words which ways over the line a scenario leaves.
func effect(s censor.Scenario) string {
	left := leaves(s)
	closed := slices.DeleteFunc(slices.Clone(Kinds), func(k string) bool { return k == transport.KindFile || slices.Contains(left, k) })
	switch {
	case len(left) == 0:
		return "leaves nothing"
	case len(closed) == 0:
		return "leaves every way"
	case len(left) == 1:
		return "leaves " + list(left) + " alone"
	case len(left) <= len(closed):
		return "leaves " + list(left)
	}
	return "stops " + list(closed)
}

// doing says how the paths of one kind do. Of one that is not open any more it
// does not say that it answers: that was before.
func doing(kind string, open bool, paths []web.PathStatus, first string) (parts []string) {
	var bytes int64
	state := web.PathUntried
	rank := map[web.PathState]int{web.PathUntried: 0, web.PathResting: 1, web.PathBlocked: 2, web.PathLied: 3, web.PathForked: 3, web.PathWorking: 4}
	ahead := false
	for _, s := range paths {
		if s.Kind != kind {
			continue
		}
		bytes += s.Bytes
		if rank[s.State] > rank[state] {
			state = s.State
		}
		ahead = ahead || s.Name == first
	}
	if ahead && open {
		parts = append(parts, "answered first")
	} else {
		switch state {
		case web.PathWorking:
			if open {
				parts = append(parts, "answers")
			}
		case web.PathBlocked:
			parts = append(parts, "no answer")
		case web.PathResting:
			parts = append(parts, "resting")
		case web.PathLied:
			parts = append(parts, "sent something false")
		case web.PathForked:
			parts = append(parts, "showed another history")
		case web.PathUntried:
		}
	}
	if bytes > 0 {
		parts = append(parts, fmt.Sprintf("%d KB brought", (bytes+999)/1000))
	}
	return parts
}

// firstNow is the path that answered before all others in the newest sync in
// which one did, "" if the newest ended without an answer.
func firstNow(es []web.Event) string {
	for _, e := range slices.Backward(es) {
		switch e.What {
		case web.EventFirst:
			return e.Path
		case web.EventNobody:
			return ""
		}
	}
	return ""
}

// words are the engine's choices for the panel. What each poll repeats (who was
// asked, that there is nothing new) is on the status page.
var words = map[string]string{
	newsync.EventTurned:           "has something newer",
	newsync.EventBrought + "head": "brings what is newest", newsync.EventBrought + "headlines": "brings headlines",
	newsync.EventBrought + "text": "brings texts", newsync.EventBrought + "images": "brings pictures", newsync.EventBrought + "rest": "brings the rest",
	newsync.EventDoubled: "helps out where another is slow", newsync.EventFailed: "failed; it is tried again later",
	newsync.EventDropped: "failed too often; left alone for now", newsync.EventLied: "sent something false; not used any more",
	web.EventNew: "the reader has something new", web.EventNobody: "nobody answered", web.EventIncomplete: "some of the news has not come through yet",
}

// inVain is the events with what the desk did itself taken out: a sync that was
// cut short because something happened here is not told as one that failed. One
// that was ended by the reader's patience before anybody had answered is called
// what it was; the engine knows only that it was cut short. p.mu is held.
func (p panel) inVain(es []web.Event) []web.Event {
	es = slices.Clone(es)
	answered := true // of a sync that began before es nothing is known
	for i, e := range es {
		switch e.What {
		case web.EventStart:
			answered = false
		case web.EventFirst, newsync.EventAnswered:
			answered = true
		case web.EventIncomplete, web.EventNobody:
			switch {
			case p.cut(e.At):
				es[i].What = ""
			case !answered:
				es[i].What = web.EventNobody
			}
		}
	}
	return es
}

// tell is what happened last, at the desk and in the engine, newest last. Of what
// repeats itself only the newest is told. p.mu is held.
func (p panel) tell(events []web.Event) []string {
	all := slices.Clone(p.lines)
	said := map[string]bool{}
	for _, e := range slices.Backward(p.inVain(events)) {
		at := e.At.Add(-p.what.Clock) // the desk's clock is right
		if at.Before(p.began) || time.Until(at) > time.Minute {
			continue // of when the reader had another clock
		}
		text := words[e.What]
		switch e.What {
		case newsync.EventBrought:
			text = words[e.What+e.Stage]
		case web.EventCost:
			text = fmt.Sprintf("only DNS works: the texts take about %d questions, %d kB up and %d kB down", e.Cost.Queries, (e.Cost.Up+999)/1000, (e.Cost.Down+999)/1000)
		}
		if text == "" || e.What == newsync.EventFailed && e.Path == stickName {
			continue // a stick that is not there fails each time
		}
		if e.Path != "" {
			text = e.Path + ": " + text
		}
		if !said[text] {
			said[text] = true
			all = append(all, told{at, text})
		}
	}
	slices.SortStableFunc(all, func(a, b told) int { return a.at.Compare(b.at) })
	var out []string
	for _, t := range all[max(0, len(all)-maxLines):] {
		out = append(out, t.at.Format("15:04:05 ")+t.text)
	}
	return out
}

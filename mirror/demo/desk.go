package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/censor"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// panel is the demo's part of the page: the censor's desk.
type panel struct{ *Live }

var _ web.Panel = panel{}

// menu says which menu is open.
type menu int

const (
	menuClosed menu = iota
	menuInstead
	menuBeside // a second scenario beside the one that is played
	menuLies   // what the second relay tells
)

// Actions of the desk, as View offers them. Those with a blank take the name of
// a kind of path or of a scenario.
const (
	actPublish = "publish"
	actStick   = "stick"
	actInstead = "menu instead"
	actBeside  = "menu beside"
	actLies    = "menu lies"
	actClose   = "menu close"
	actProof   = "proof"
	actHonest  = "honest"
	actBlock   = "block "
	actOpen    = "open "
	actPlay    = "play "
	actLift    = "lift "
	actLie     = "lie "
)

// Do implements web.Panel.
func (p panel) Do(ctx context.Context, action string) error {
	verb, what, _ := strings.Cut(action, " ")
	switch {
	case action == actPublish:
		return p.publish(ctx)
	case action == actStick:
		return p.handOver(ctx)
	case action == actProof:
		return p.checkProof(ctx)
	case action == actHonest:
		return p.tellLie(ctx, "")
	case verb+" " == actLie && slices.Contains(lies, censor.Evil(what)):
		return p.tellLie(ctx, censor.Evil(what))
	case action == actInstead, action == actBeside, action == actLies, action == actClose:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.menu = map[string]menu{actInstead: menuInstead, actBeside: menuBeside, actLies: menuLies, actClose: menuClosed}[action]
		return nil // nothing has changed for the reader
	case verb+" " == actPlay:
		return p.play(what)
	case verb+" " == actLift:
		return p.lift(what)
	case verb+" " == actBlock && known(what):
		p.block(what, true)
		p.say("%s is blocked by hand", kindNames[what])
	case verb+" " == actOpen && known(what):
		p.block(what, false)
		p.say("%s is open again", kindNames[what])
	default:
		return errors.New("no such switch")
	}
	p.nudge()
	return nil
}

// block throws a switch by hand.
func (p panel) block(kind string, blocked bool) {
	p.censor.Block(kind, blocked)
	if kind == transport.KindFile {
		p.mu.Lock()
		p.pulled = false // from now on it is where the person put it
		p.mu.Unlock()
	}
}

// Play lets the censor do what the scenario of that name says, or a pair "a+b",
// instead of what it does. Find knows the names; "open" lifts everything.
func (l *Live) Play(name string) error {
	what, err := Find(name)
	if err != nil {
		return err
	}
	names := strings.Split(what.Name, "+")
	if what.Name == "open" {
		names = nil
	}
	l.set(names, what)
	return nil
}

// play is a choice from the open menu.
func (p panel) play(name string) error {
	p.mu.Lock()
	if len(p.playing) > 0 && p.menu == menuBeside && !slices.Contains(p.playing, name) && name != "open" {
		name = p.playing[0] + "+" + name
	}
	p.mu.Unlock()
	return p.Play(name)
}

// lift takes one scenario away.
func (p panel) lift(name string) error {
	p.mu.Lock()
	left := slices.DeleteFunc(slices.Clone(p.playing), func(n string) bool { return n == name })
	same := len(left) == len(p.playing)
	p.mu.Unlock()
	switch {
	case same:
		return errors.New("that scenario is not played")
	case len(left) == 0:
		return p.Play("open")
	}
	return p.Play(left[0])
}

// set plays a scenario. While one is played the stick is out, or it would bring
// everything whatever the censor does.
func (l *Live) set(names []string, what censor.Scenario) {
	l.mu.Lock()
	l.playing, l.what, l.menu = names, what, menuClosed
	switch out := l.censor.Blocked(transport.KindFile); {
	case len(names) > 0 && !out:
		l.pulled = true
		l.censor.Block(transport.KindFile, true)
	case len(names) == 0 && l.pulled:
		l.pulled = false
		l.censor.Block(transport.KindFile, false)
	}
	l.censor.Play(what)
	l.mu.Unlock()
	if len(names) == 0 {
		l.say("the censor has gone home: nothing is done any more")
	} else {
		l.say("the censor now plays %s", strings.Join(names, " and "))
	}
	l.nudge()
}

// publish packs a new bulletin and pushes it everywhere: the publisher is
// abroad, where nothing is blocked.
func (p panel) publish(ctx context.Context) error {
	p.mu.Lock()
	p.bulletins++
	n := p.bulletins
	p.mu.Unlock()
	b := bulletin(n, time.Now())
	made, err := p.world.Publish(ctx, []bundle.Article{b})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.last, p.edition = b.ID, made.Edition
	p.mu.Unlock()
	p.say("edition %d published, with bulletin %d", made.Edition, n)
	p.nudge()
	return nil
}

// handOver lets the reader import the stick, once: a friend came by. A sync that
// is under way makes room for it.
func (p panel) handOver(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case p.hands <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := <-done; err != nil {
		return err
	}
	p.say("a friend came by with a stick, and the reader imported it")
	return nil
}

// told is one line of what went on.
type told struct {
	at   time.Time
	text string
}

// maxLines bounds what the panel tells.
const maxLines = 8

func (l *Live) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, told{time.Now(), fmt.Sprintf(format, args...)})
	l.lines = l.lines[max(0, len(l.lines)-maxLines):]
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/reader"
	"tamizdat/mirror/relay"
	newsync "tamizdat/mirror/sync"
	wire "tamizdat/transport/relay"
)

// secondRelay is the directory of the relay that lies when it is told to.
const secondRelay = "second relay"

// lies are those that the desk's switch has, in the order in which it shows them.
var lies = []censor.Evil{censor.EvilOld, censor.EvilFork, censor.EvilFlip}

// lieNames say in a few words what the relay then does.
var lieNames = map[censor.Evil]string{
	censor.EvilOld:  "serves an old edition",
	censor.EvilFork: "serves another history",
	censor.EvilFlip: "flips bits",
}

// lieNotes say how it is done, and what a person should see.
var lieNotes = map[censor.Evil]string{
	censor.EvilOld: "As a relay that was cut off from its publisher, or was told to keep people from the news: whatever readers have, it shows the edition before the newest. " +
		"The newest stays, and a calm line says that an older one was offered.",
	censor.EvilFork: "A publisher who was forced to has signed a second edition of the same number, with the channel's own keys. " +
		"The first one stays, the proof is kept, and the page says how to pass it on.",
	censor.EvilFlip: "One bit in each thousand bytes of all that it says. Nothing of that is shown; others bring the news, and a calm line says that something false came.",
}

// errNoneOlder: there is only one edition so far, so none is older.
var errNoneOlder = errors.New("there is only one edition so far; publish another one first")

// Lie lets the second relay tell all readers one of these lies from now on, "" for
// none. Older and other histories are real ones, signed with the channel's keys: a
// second relay with the keys of the first serves them, in its stead and over the
// same connections. held is how many editions the reader has whom another history
// is to contradict; who has none would have to believe it.
func (w *World) Lie(ctx context.Context, what censor.Evil, held uint64) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var shadow *relay.Relay
	switch size := w.pub.Size(); what {
	case censor.EvilOld:
		if size < 2 {
			return errNoneOlder
		}
		shadow, err = w.shadow(ctx, size-1, nil)
	case censor.EvilFork:
		if held == 0 || held > size {
			return errors.New("the reader has no news yet that could be contradicted")
		}
		shadow, err = w.shadow(ctx, held-1, []bundle.Article{forced(time.Now())})
	case censor.EvilFlip, "":
	default:
		return fmt.Errorf("the second relay can't play %s", what)
	}
	if err != nil {
		return err
	}
	var serve http.Handler
	if shadow != nil {
		serve = shadow.Handler()
	}
	w.liars.tell(what, serve)
	old := w.shade
	if w.shade = shadow; old != nil {
		return old.Close()
	}
	return nil
}

// shadow starts a relay with the second relay's keys, to which a copy of the
// publisher pushes its first editions and then, if there are articles, one of them.
func (w *World) shadow(ctx context.Context, editions uint64, articles []bundle.Article) (r *relay.Relay, err error) {
	w.shades++
	name := filepath.Join(w.dir, "shadow "+strconv.Itoa(w.shades))
	if err := os.CopyFS(name, secrets{os.DirFS(filepath.Join(w.dir, secondRelay))}); err != nil {
		return nil, err
	}
	r, err = relay.New(relay.Config{
		Dir: name, Network: w.network, Log: w.log, Listen: []string{netip.AddrPortFrom(host(2), 0).String()},
	})
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	line, err := r.Target(w.pub.Channel())
	if err != nil {
		return nil, err
	}
	p, err := w.copied(name+" publisher", editions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if len(articles) > 0 {
		if _, err := p.Pack(articles, time.Now()); err != nil {
			return nil, err
		}
	}
	to, err := wire.NewPublisher(w.network, line)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, res := range p.Push(ctx, []publisher.Target{{Name: "shadow", Publisher: to}}, nil) {
		errs = append(errs, res.Err)
	}
	return r, errors.Join(errs...)
}

// copied opens a copy of the publisher's folder as it stood with so many editions.
// w.mu is held.
func (w *World) copied(dir string, editions uint64) (*publisher.Publisher, error) {
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(w.dir, "publisher"))); err != nil {
		return nil, err
	}
	for n := editions; n < w.pub.Size(); n++ {
		for _, ext := range []string{".car", ".json"} {
			if err := os.Remove(filepath.Join(dir, "editions", strconv.FormatUint(n, 10)+ext)); err != nil {
				return nil, err
			}
		}
	}
	return publisher.Open(dir)
}

// secrets is a relay's folder with nothing in it but what makes it that relay.
type secrets struct{ fs.FS }

// ReadDir implements fs.ReadDirFS.
func (s secrets) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(s.FS, name)
	return slices.DeleteFunc(all, func(e fs.DirEntry) bool {
		return !slices.Contains([]string{"relay.secret", "intake.secret", "tls.key", "tls.crt"}, e.Name())
	}), err
}

// forced is what a publisher says who was made to.
func forced(now time.Time) bundle.Article {
	return bundle.Article{
		ID: "f02ced00f02ced00", Title: "Nothing has happened", Lead: "There is no cause for concern.",
		Body: "<p>There is no cause for concern. What you may have heard to the contrary has not happened.</p>",
		Lang: "en", Dir: "ltr", Date: now.UTC().Truncate(time.Second),
	}
}

// held is how many editions the demo's reader has.
func (l *Live) held(ctx context.Context) (uint64, error) {
	v, err := newsync.View(ctx, l.reader.Library(), l.world.pub.Channel())
	if err != nil {
		return 0, err
	}
	return v.Size(), nil
}

// tellLie throws the switch. Whatever the relay said before, the reader is to ask it
// again: he would leave a liar alone for a day.
func (p panel) tellLie(ctx context.Context, what censor.Evil) error {
	if what == censor.EvilOld && p.world.Size() < 2 {
		if err := p.publish(ctx); err != nil {
			return err
		}
	}
	held, err := p.held(ctx)
	if err != nil {
		return err
	}
	if err := p.world.Lie(ctx, what, held); err != nil {
		return err
	}
	p.mu.Lock()
	p.lie, p.menu, p.pardon = what, menuClosed, true
	p.mu.Unlock()
	if what == "" {
		p.say("the second relay is honest again, and the reader has forgotten what it did")
	} else {
		p.say("the second relay now lies: it %s", lieNames[what])
	}
	p.nudge()
	return nil
}

// forgive lets the reader forget who lied, if the switch was thrown. Call it while
// no sync is under way, which would remember.
func (l *Live) forgive(ctx context.Context) {
	l.mu.Lock()
	yes := l.pardon
	l.pardon = false
	l.mu.Unlock()
	if !yes {
		return
	}
	if err := newsync.Pardon(ctx, l.reader.Library(), l.world.pub.Channel()); err != nil {
		l.log.Warn("the reader does not forget", "error", err)
	}
}

// checkProof writes the proof of a fork to a file, as mirror proof does, and checks
// it as whoever gets it would, with nothing else at hand.
func (p panel) checkProof(ctx context.Context) error {
	name := filepath.Join(p.world.dir, "proof.json")
	one, other, err := provenBy(ctx, p.reader, p.world.pub.Channel(), name)
	if err != nil {
		return err
	}
	p.say("the proof holds: the channel's keys signed edition %d (%s) and, against it, edition %d (%s)", one.Edition, shortRoot(one), other.Edition, shortRoot(other))
	return nil
}

// provenBy has a reader write the proof that he holds to a file, and checks it; it
// returns the newest contradiction.
func provenBy(ctx context.Context, r *reader.Reader, ch channel.ID, name string) (one, other *channel.Head, err error) {
	if _, _, err := r.Proof(ctx, ch, name); err != nil {
		return nil, nil, err
	}
	got, found, err := reader.CheckProof(name)
	if err != nil {
		return nil, nil, err
	}
	if got != ch {
		return nil, nil, errors.New("the proof is of another channel")
	}
	last := found[len(found)-1]
	return last.One, last.Other, nil
}

// shortRoot is the end of an edition's root CID, by which people can tell two apart.
func shortRoot(h *channel.Head) string {
	root := h.Root.String()
	return "…" + root[max(0, len(root)-8):]
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/reader"
	"tamizdat/mirror/web"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// Live is the demo as a person sees it: the reader's page, with a panel of
// switches and a button that publishes.
type Live struct {
	world  *World
	reader *reader.Reader
	censor *Switches
	log    *slog.Logger
	wake   chan struct{}

	mu        sync.Mutex
	lines     []string
	bulletins int // published by the button
	// last is the article published last, and the edition that brings it; told is
	// the edition whose arrival the panel has told.
	last          string
	edition, told uint64
}

// pollEvery is how often the demo's reader looks for news; a real one's
// interval is minutes.
const pollEvery = 3 * time.Second

// NewLive publishes the first articles and opens a reader with an invite.
func NewLive(ctx context.Context, w *World, first []bundle.Article, log *slog.Logger) (*Live, error) {
	l := &Live{world: w, censor: w.Switches(), log: log, wake: make(chan struct{}, 1)}
	made, err := w.Publish(ctx, first)
	if err != nil {
		return nil, err
	}
	l.last, l.edition = first[len(first)-1].ID, made.Edition
	invite, err := w.Invite()
	if err != nil {
		return nil, err
	}
	stick := stick{dir: w.Stick(), censor: l.censor}
	l.reader, err = reader.Open(ctx, reader.Config{
		Dir: filepath.Join(w.dir, "reader"), Network: l.censor, Resolvers: w.resolvers, Log: log,
		Extra: []transport.Path{{
			Name: "stick", Kind: transport.KindFile, Heads: stick, Blocks: stick,
			Hints: transport.Hints{Batch: 64, Parallel: 1, Patience: time.Second},
		}},
	})
	if err != nil {
		return nil, err
	}
	if _, err := l.reader.Add(ctx, invite); err != nil {
		return nil, errors.Join(err, l.reader.Close())
	}
	return l, nil
}

// Serve shows the page on ln until ctx ends. ready is given its address.
func (l *Live) Serve(ctx context.Context, ln net.Listener, ready func(url string)) error {
	s, err := web.New(web.Options{
		Library: l.reader.Library(), Engine: l.reader.Engine(ctx), Panel: panel{l}, Refresh: pollEvery, Logger: l.log,
	})
	if err != nil {
		return err
	}
	var poll sync.WaitGroup
	poll.Go(func() { l.poll(ctx) })
	ready(s.URL(ln.Addr()))
	err = s.Serve(ctx, ln)
	poll.Wait()
	return err
}

// Close closes the reader.
func (l *Live) Close() error { return l.reader.Close() }

// poll looks for news every few seconds, and anew when something happened: a
// sync that waits on a path just blocked would notice after a minute only.
func (l *Live) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- l.reader.SyncAll(one, nil) }()
		var err error
		woken := false
		select {
		case err = <-done:
		case <-l.wake:
			woken = true
			cancel()
			err = <-done // what has arrived is kept
		}
		cancel()
		l.tellArrival(ctx)
		if woken {
			continue
		}
		if err != nil && ctx.Err() == nil {
			l.log.Info("sync failed", "error", err)
		}
		select {
		case <-tick.C:
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

// waiting reports whether the article published last has not arrived yet, and
// which edition brings it.
func (l *Live) waiting(ctx context.Context) (edition uint64, yes bool) {
	l.mu.Lock()
	id, edition := l.last, l.edition
	l.mu.Unlock()
	h, err := l.reader.Library().Headline(ctx, l.world.pub.Channel(), id)
	return edition, err != nil || !h.Text
}

// tellArrival tells once that the newest edition is here.
func (l *Live) tellArrival(ctx context.Context) {
	edition, waiting := l.waiting(ctx)
	l.mu.Lock()
	tell := !waiting && edition > l.told
	if tell {
		l.told = edition
	}
	l.mu.Unlock()
	if tell {
		l.say("edition %d has arrived", edition)
	}
}

func (l *Live) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// maxLines bounds what the panel tells.
const maxLines = 5

func (l *Live) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, time.Now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
	l.lines = l.lines[max(0, len(l.lines)-maxLines):]
}

// panel is the demo's part of the page.
type panel struct{ *Live }

var _ web.Panel = panel{}

// View implements web.Panel.
func (p panel) View(ctx context.Context) web.PanelView {
	v := web.PanelView{
		Title:   "The censor's desk",
		Intro:   "Block what you like, then publish: the new article still arrives while any one way is open.",
		Buttons: []web.Button{{Action: "publish", Label: "Publish a new article"}},
	}
	for _, k := range Kinds {
		sw := web.Switch{Name: kindNames[k], On: !p.censor.Blocked(k), State: "open", Action: "block " + k, Label: "Block"}
		if !sw.On {
			sw.State, sw.Action, sw.Label = "blocked", "open "+k, "Unblock"
		}
		v.Switches = append(v.Switches, sw)
	}
	_, v.Busy = p.waiting(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	v.Lines = append(v.Lines, p.lines...)
	return v
}

// Do implements web.Panel.
func (p panel) Do(ctx context.Context, action string) error {
	verb, kind, _ := strings.Cut(action, " ")
	switch {
	case action == "publish":
		return p.publish(ctx)
	case verb == "block" && known(kind):
		p.censor.Block(kind, true)
		p.say("%s is blocked", kindNames[kind])
	case verb == "open" && known(kind):
		p.censor.Block(kind, false)
		p.say("%s is open again", kindNames[kind])
	default:
		return errors.New("no such switch")
	}
	p.nudge()
	return nil
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

// stick is the folder of CAR files as a path that the censor can take away. It
// is read anew each time, since editions are added while the demo runs.
type stick struct {
	dir    string
	censor *Switches
}

var (
	_ transport.Heads  = stick{}
	_ transport.Blocks = stick{}
)

func (s stick) open() (*file.Source, error) {
	if s.censor.Blocked(transport.KindFile) {
		return nil, transport.ErrBlocked
	}
	return file.Open(s.dir)
}

// Head implements transport.Heads.
func (s stick) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	src, err := s.open()
	if err != nil {
		return nil, err
	}
	return src.Head(ctx, ch, have)
}

// RootNote implements transport.Heads.
func (s stick) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	src, err := s.open()
	if err != nil {
		return nil, err
	}
	return src.RootNote(ctx, ch, version)
}

// Grant implements transport.Heads.
func (s stick) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	src, err := s.open()
	if err != nil {
		return nil, err
	}
	return src.Grant(ctx, ch, name)
}

// Fetch implements transport.Blocks.
func (s stick) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	src, err := s.open()
	if err != nil {
		return func(yield func(transport.Block, error) bool) { yield(transport.Block{}, err) }
	}
	return src.Fetch(ctx, r)
}

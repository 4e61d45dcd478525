package demo

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/censor"
	"tamizdat/mirror/reader"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// Live is the demo as a person sees it: the reader's page, with a panel of
// switches, a menu of what censors do, and a button that publishes.
type Live struct {
	world  *World
	reader *reader.Reader
	pace   pace
	censor *Stage
	log    *slog.Logger
	wake   chan struct{}
	hands  chan chan error // sticks handed over, each with where to say how it went

	mu        sync.Mutex
	lines     []told
	bulletins int // published by the button
	// playing are the names of the scenarios on, two at most, what both of them
	// together; menu tells whether a further one is being chosen.
	playing []string
	what    censor.Scenario
	menu    menu
	// lie is what the second relay tells by the desk's switch, "" for the truth;
	// pardon: the reader is to forget who lied.
	lie    censor.Evil
	pardon bool
	// pulled: the stick was taken out because a scenario began.
	pulled bool
	began  time.Time
	// cuts are when the desk cut a sync short, and when that had ended, by the
	// reader's clock; the newest maxCuts.
	cuts [][2]time.Time
	// last is the article published last, and the edition that brings it; told is
	// the edition whose arrival the panel has told.
	last          string
	edition, told uint64
}

// pace is how fast the demo's reader goes about it.
type pace struct {
	// every is how often it looks for news; a real one's interval is minutes.
	every time.Duration
	// patience ends a sync that has been at it for so long; what has arrived is
	// kept. A real reader waits for minutes before it says that nobody answered:
	// too long for somebody who watches.
	patience time.Duration
	// changed, if not nil, is called when the page may have something else to
	// show: the engine did something, a sync ended. It must not block.
	changed func()
}

var usual = pace{every: 3 * time.Second, patience: 20 * time.Second, changed: func() {}}

// NewLive publishes the first articles and opens a reader with an invite.
func NewLive(ctx context.Context, w *World, first []bundle.Article, log *slog.Logger) (*Live, error) {
	return newLive(ctx, w, first, log, usual)
}

func newLive(ctx context.Context, w *World, first []bundle.Article, log *slog.Logger, pace pace) (*Live, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Live{world: w, pace: pace, censor: w.Stage(uint64(time.Now().UnixNano())), log: log, wake: make(chan struct{}, 1), hands: make(chan chan error), began: time.Now()}
	l.what, _ = censor.Lookup("open")
	made, err := w.Publish(ctx, first)
	if err != nil {
		return nil, err
	}
	l.last, l.edition = first[len(first)-1].ID, made.Edition
	invite, err := w.Invite()
	if err != nil {
		return nil, err
	}
	stick := stick{dir: w.Stick(), censor: l.censor.Switches}
	l.reader, err = reader.Open(ctx, reader.Config{
		Dir: filepath.Join(w.dir, "reader"), Network: l.censor, Resolvers: w.resolvers, Log: log, Now: l.censor.Now,
		Progress: func(p newsync.Progress) {
			if p.Event != "" {
				pace.changed()
			}
		},
		Extra: []transport.Path{{
			Name: stickName, Kind: transport.KindFile, Heads: stick, Blocks: stick,
			Hints: transport.Hints{Batch: 64, Parallel: 1, Patience: time.Second},
		}},
	})
	if err != nil {
		return nil, err
	}
	if _, _, err := l.reader.Add(ctx, invite); err != nil {
		return nil, errors.Join(err, l.reader.Close())
	}
	return l, nil
}

// Serve shows the page on ln until ctx ends. ready is given its address.
func (l *Live) Serve(ctx context.Context, ln net.Listener, ready func(url string)) error {
	s, err := web.New(web.Options{
		Library: l.reader.Library(), Engine: l.reader.Engine(ctx), Panel: panel{l},
		Refresh: l.pace.every, Now: l.censor.Now, Logger: l.log,
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
	tick := time.NewTicker(l.pace.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		l.forgive(ctx)
		one, cancel := context.WithTimeout(ctx, l.pace.patience)
		done := make(chan error, 1)
		go func() { done <- l.reader.SyncAll(one, nil) }()
		var err error
		var hand chan error
		woken := false
		select {
		case err = <-done:
		case <-l.wake:
			woken = true
			err = l.cutShort(cancel, done)
		case hand = <-l.hands:
			err = l.cutShort(cancel, done)
		}
		cancel()
		l.takeStick(ctx, hand)
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
		case hand = <-l.hands:
			l.takeStick(ctx, hand)
			l.tellArrival(ctx)
		case <-ctx.Done():
		}
	}
}

// maxCuts bounds what is remembered of syncs cut short: a page tells of no more
// events than that.
const maxCuts = web.MaxEvents

// cutShort ends a sync because something happened at the desk; what has arrived
// is kept.
func (l *Live) cutShort(cancel func(), done chan error) error {
	from := l.censor.Now()
	cancel()
	err := <-done
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts = append(l.cuts, [2]time.Time{from, l.censor.Now()})
	l.cuts = l.cuts[max(0, len(l.cuts)-maxCuts):]
	return err
}

// cut reports whether a sync that ended at that time was cut short. l.mu is held.
func (l *Live) cut(at time.Time) bool {
	return slices.ContainsFunc(l.cuts, func(c [2]time.Time) bool { return !at.Before(c[0]) && !at.After(c[1]) })
}

// takeStick imports what somebody handed over.
func (l *Live) takeStick(ctx context.Context, hand chan error) {
	if hand != nil {
		hand <- l.reader.Import(ctx, l.world.Stick(), nil)
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
	l.pace.changed()
}

func (l *Live) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

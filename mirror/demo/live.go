package demo

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/censor"
	"tamizdat/mirror/reader"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// Live is the demo as a person sees it: the reader's page, with a panel of
// switches, a menu of what censors do, and a button that publishes.
type Live struct {
	world  *World
	reader *reader.Reader
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
	// pulled: the stick was taken out because a scenario began.
	pulled bool
	began  time.Time
	// last is the article published last, and the edition that brings it; told is
	// the edition whose arrival the panel has told.
	last          string
	edition, told uint64
}

// pollEvery is how often the demo's reader looks for news; a real one's
// interval is minutes.
const pollEvery = 3 * time.Second

// pollPatience ends a sync that has been at it for so long; what has arrived is
// kept. A real reader waits for minutes before it says that nobody answered:
// too long for somebody who watches.
const pollPatience = 20 * time.Second

// NewLive publishes the first articles and opens a reader with an invite.
func NewLive(ctx context.Context, w *World, first []bundle.Article, log *slog.Logger) (*Live, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Live{world: w, censor: w.Stage(uint64(time.Now().UnixNano())), log: log, wake: make(chan struct{}, 1), hands: make(chan chan error), began: time.Now()}
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
		Extra: []transport.Path{{
			Name: stickName, Kind: transport.KindFile, Heads: stick, Blocks: stick,
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
		Library: l.reader.Library(), Engine: l.reader.Engine(ctx), Panel: panel{l},
		Refresh: pollEvery, Now: l.censor.Now, Logger: l.log,
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
		one, cancel := context.WithTimeout(ctx, pollPatience)
		done := make(chan error, 1)
		go func() { done <- l.reader.SyncAll(one, nil) }()
		var err error
		var hand chan error
		woken := false
		select {
		case err = <-done:
		case <-l.wake:
			woken = true
			cancel()
			err = <-done // what has arrived is kept
		case hand = <-l.hands:
			cancel()
			err = <-done
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
}

func (l *Live) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

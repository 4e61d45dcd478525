package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/mirror/library"
	"tamizdat/mirror/reader"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// Trial is how a new reader with all ways did under a scenario. Its Path is what
// brought the texts.
type Trial struct {
	Scenario string `json:"scenario"`
	Row
	// Delivered names the path that brought most of each stage: "head",
	// "headlines", "text", "images".
	Delivered map[string]string `json:"delivered,omitempty"`
}

const (
	// tryTimeout bounds a sync under a scenario: a hostile resolver is slow.
	tryTimeout = 5 * time.Minute
	// vainTimeout bounds one that can't succeed.
	vainTimeout = 10 * time.Second
)

// Try lets a new reader fetch the news under a scenario and compares every
// article with what was packed. Where the scenario leaves no way open it checks
// that nothing arrives and that the reader is told so, and then hands over the
// stick. A trial that failed says why in Error.
func (w *World) Try(ctx context.Context, s censor.Scenario) (Trial, error) {
	t := Trial{Scenario: s.Name}
	invite, err := w.Invite()
	if err != nil {
		return t, err
	}
	stage := w.Stage(1)
	stage.Play(s)
	defer w.liars.set(censor.Far{})
	if err := w.try(ctx, stage, s, invite, &t); err != nil {
		t.Error = err.Error()
		return t, ctx.Err()
	}
	t.OK = true
	return t, nil
}

func (w *World) try(ctx context.Context, stage *Stage, s censor.Scenario, invite string, t *Trial) (err error) {
	open := leaves(s)
	kind := transport.KindTCP // as far as compare is concerned: with images
	if slices.Equal(open, []string{transport.KindDNS}) {
		kind = transport.KindDNS
	}
	dir := filepath.Join(w.dir, "reader-scenario")
	r, err := reader.Open(ctx, reader.Config{
		Dir: dir, Network: stage, Resolvers: w.resolvers, Log: w.log, Now: stage.Now, TextOnly: kind == transport.KindDNS,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(), os.RemoveAll(dir)) }()
	ch, _, err := r.Add(ctx, invite)
	if err != nil {
		return err
	}
	var res *newsync.Result
	if len(open) > 0 {
		ctx, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		res, err = r.Sync(ctx, ch)
	} else {
		res, err = w.tryStick(ctx, r, ch)
	}
	t.Bytes = stage.Bytes()
	if res != nil {
		t.ToHead, t.ToHeadlines, t.ToText = millis(res.ToHead), millis(res.ToHeadlines), millis(res.ToText)
		t.Delivered, t.Path = res.Delivered, res.Delivered["text"]
	}
	if err != nil {
		return err
	}
	if s.Name == evilRelay {
		if err := w.tryHistories(ctx, stage, r, ch); err != nil {
			return err
		}
	}
	return w.compare(context.WithoutCancel(ctx), r, ch, kind, &t.Row)
}

// evilRelay is the scenario in which the second relay lies.
const evilRelay = "evil-relay"

// tryHistories has the second relay show a reader who has the news what it can't show
// a new one, who would have nothing to hold it against: an older edition, and another
// history. The reader has to keep the newest edition, and to notice.
func (w *World) tryHistories(ctx context.Context, stage *Stage, r *reader.Reader, ch channel.ID) (err error) {
	honest, _ := censor.Lookup("open")
	stage.Play(honest) // one lie at a time
	if _, err := w.Publish(ctx, []bundle.Article{bulletin(1, time.Now())}); err != nil {
		return err
	}
	if _, err := r.Sync(ctx, ch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Lie(context.WithoutCancel(ctx), "", 0)) }()
	for _, lie := range []censor.Evil{censor.EvilOld, censor.EvilFork} {
		if err := w.tryLie(ctx, lie, r, ch); err != nil {
			return fmt.Errorf("the relay %s: %w", lieNames[lie], err)
		}
	}
	_, _, err = provenBy(ctx, r, ch, filepath.Join(w.dir, "proof.json"))
	return err
}

// maxLookouts bounds how often a reader looks for news before he has to have met the
// relay that lies: others may be so quick that it is not heard.
const maxLookouts = 20

func (w *World) tryLie(ctx context.Context, lie censor.Evil, r *reader.Reader, ch channel.ID) error {
	size := w.Size()
	if err := w.Lie(ctx, lie, size); err != nil {
		return err
	}
	for range maxLookouts {
		if err := newsync.Pardon(ctx, r.Library(), ch); err != nil {
			return err
		}
		res, err := r.Sync(ctx, ch)
		if err != nil {
			return err
		}
		if res.Head == nil || res.Head.Size != size {
			return errors.New("the reader does not hold the newest edition any more")
		}
		if lie == censor.EvilFork && res.Fork || lie == censor.EvilOld && slices.ContainsFunc(res.Paths, newsync.PathReport.Older) {
			return nil
		}
	}
	return errors.New("the reader has not noticed")
}

// tryStick is for a reader whom nothing can reach.
func (w *World) tryStick(ctx context.Context, r *reader.Reader, ch channel.ID) (*newsync.Result, error) {
	vain, cancel := context.WithTimeout(ctx, w.vain)
	defer cancel()
	if _, err := r.Sync(vain, ch); err == nil {
		return nil, errors.New("the reader was told that all is well while nothing could be reached")
	}
	for _, err := range r.Library().Headlines(ctx, library.Query{Channel: ch}) {
		if err != nil {
			return nil, err
		}
		return nil, errors.New("news arrived though no way was open")
	}
	f, err := r.Freshness(ctx, ch)
	if err != nil {
		return nil, err
	}
	if f.Verdict != newsync.VerdictNothing && f.Verdict != newsync.VerdictUnreached && f.Verdict != newsync.VerdictUnchecked {
		return nil, fmt.Errorf("the reader is told %q of news that never came", f.Verdict)
	}
	var res *newsync.Result
	err = r.Import(ctx, w.Stick(), func(_ channel.ID, got *newsync.Result) { res = got })
	return res, err
}

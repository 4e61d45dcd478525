package reader

import (
	"context"
	"errors"
	"slices"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
)

// Sync brings one channel up to date. The result is never nil. ErrDayLimit if
// nothing may be fetched any more today.
func (r *Reader) Sync(ctx context.Context, ch channel.ID) (*newsync.Result, error) {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	return r.spend(ctx, web.EventStart, web.EventSame, func(e *newsync.Engine) (*newsync.Result, error) { return e.Sync(ctx, ch) })
}

// Images brings the pictures of one article, whatever TextOnly says, within the
// limits. The result is never nil. Errors are those of the engine's Images, or
// ErrDayLimit.
func (r *Reader) Images(ctx context.Context, ch channel.ID, id string) (*newsync.Result, error) {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	return r.spend(ctx, web.EventPictures, web.EventPictured, func(e *newsync.Engine) (*newsync.Result, error) { return e.Images(ctx, ch, id) })
}

// spend does something that costs data: start and same are the events of its
// beginning and of an end without a better one. r.syncing is held.
func (r *Reader) spend(ctx context.Context, start, same string, do func(*newsync.Engine) (*newsync.Result, error)) (*newsync.Result, error) {
	r.begin(start)
	budget, err := r.budget(ctx)
	if err != nil {
		r.end(nil, err, same)
		return &newsync.Result{}, err
	}
	m := meter{r: r, ctx: context.WithoutCancel(ctx)}
	if r.cfg.DayBytes > 0 {
		budget.Charge = m.charge(budget.Bytes)
	}
	res, err := do(r.engine(ctx, r.paths, budget, m.heard))
	if noted := m.settle(res.Received); err == nil {
		err = noted
	}
	r.end(res, err, same)
	return res, err
}

// fromFile is Sync over a file, which costs nothing and is no look for news.
func (r *Reader) fromFile(ctx context.Context, ch channel.ID, ways newsync.Ways) (*newsync.Result, error) {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	r.begin(web.EventStart)
	res, err := r.engine(ctx, ways, newsync.Budget{TextOnly: r.cfg.TextOnly}, r.heard).Sync(ctx, ch)
	r.end(res, err, web.EventFile)
	return res, err
}

func (r *Reader) engine(ctx context.Context, ways newsync.Ways, budget newsync.Budget, progress func(newsync.Progress)) *newsync.Engine {
	return &newsync.Engine{
		Library: r.lib, Ways: ways, Log: r.log, Progress: progress, Budget: budget,
		Now: r.cfg.Now, Network: r.network(ctx), Langs: r.cfg.Langs, Tapped: r.waitedFor,
	}
}

// ErrNoChannel: no invite was added yet.
var ErrNoChannel = errors.New("no channel yet; add an invite with mirror add")

// SyncAll brings all channels up to date, one after the other. One channel's
// failure doesn't keep the others.
func (r *Reader) SyncAll(ctx context.Context, each func(channel.ID, *newsync.Result, error)) error {
	ids, err := r.lib.Channels(ctx)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return ErrNoChannel
	}
	var errs []error
	for _, ch := range ids {
		res, err := r.Sync(ctx, ch)
		if each != nil {
			each(ch, res, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// claim takes the right to begin a sync, unless one runs or is about to.
func (r *Reader) claim() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed || r.active {
		return false
	}
	r.claimed = true
	return true
}

func (r *Reader) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claimed = false
}

func (r *Reader) begin(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active, r.answered, r.costed, r.work = true, false, false, web.Work{}
	r.add(web.Event{What: what})
}

// end notes how a sync ended; res is nil if it did not even begin, same what is
// to be said if it brought nothing.
func (r *Reader) end(res *newsync.Result, err error, same string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active, r.work = false, web.Work{}
	if same == web.EventSame { // else nobody was asked for news
		r.lastSync = r.cfg.Now()
	}
	what := same
	switch {
	case errors.Is(err, newsync.ErrBudget):
		what = web.EventLimit
	case same == web.EventPictured && err != nil:
		what = web.EventUnpictured
	case same == web.EventPictured:
	case res == nil || res.Unreached || errors.Is(err, newsync.ErrNoPath):
		what = web.EventNobody
	case err != nil || res.ImagesMissing:
		what = web.EventIncomplete
	case res.New:
		what = web.EventNew
	case res.Answered == 0 && same == web.EventSame:
		what = web.EventNobody // liars alone, or a file beside the paths
	}
	r.add(web.Event{What: what})
}

// add keeps the newest events. r.mu is held.
func (r *Reader) add(e web.Event) {
	e.At = r.cfg.Now()
	r.events = append(r.events, e)
	r.events = r.events[max(0, len(r.events)-web.MaxEvents):]
}

// maxTapped bounds how many texts are to come first, the newest.
const maxTapped = 32

// tap puts an article's text before all others.
func (r *Reader) tap(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tapped = slices.DeleteFunc(r.tapped, func(o string) bool { return o == id })
	r.tapped = append(r.tapped, id)
	r.tapped = r.tapped[max(0, len(r.tapped)-maxTapped):]
}

// waitedFor is the engine's Tapped.
func (r *Reader) waitedFor() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tapped)
}

// Lacks says what has not come of a channel's texts, and what that takes where only
// DNS works. It asks nobody.
func (r *Reader) Lacks(ctx context.Context, ch channel.ID) (newsync.Lacking, error) {
	return newsync.Lacks(ctx, r.lib, r.paths, ch)
}

// heard is the engine's Progress.
func (r *Reader) heard(p newsync.Progress) {
	r.mu.Lock()
	w := web.Work{Stage: p.Stage, Bytes: p.Bytes, Rate: p.Rate, Left: p.Left, Cost: p.Cost}
	if w.Stage == r.work.Stage {
		w.From, w.More = r.work.From, r.work.More
		if p.Event != "" { // it says nothing of what is left
			w.Left, w.Cost = r.work.Left, r.work.Cost
		}
	}
	switch {
	case p.Event != newsync.EventBrought:
	case w.From == "":
		w.From = p.Path
	default:
		w.More++
	}
	if p.Cost.Queries > 0 && !r.costed {
		r.costed = true
		r.add(web.Event{What: web.EventCost, Stage: p.Stage, Cost: p.Cost})
	}
	r.work = w
	if p.Event != "" {
		e := web.Event{What: p.Event, Path: p.Path, Stage: p.Stage}
		if p.Event == newsync.EventAnswered && !r.answered {
			r.answered, e.What = true, web.EventFirst
		}
		r.add(e)
	}
	r.mu.Unlock()
	if r.cfg.Progress != nil {
		r.cfg.Progress(p)
	}
}

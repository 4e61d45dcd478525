package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// Engine is the reader as its page sees it. Background work ends with ctx.
func (r *Reader) Engine(ctx context.Context) web.Engine { return engine{r, ctx} }

type engine struct {
	r *Reader
	// life bounds what goes on after a request of the page has ended.
	life context.Context //nolint:containedctx // it is the program's, not a call's
}

var _ web.Engine = engine{}

// Article implements web.Engine.
func (e engine) Article(ctx context.Context, ch channel.ID, id string) (bundle.Article, error) {
	a, err := e.r.Shelf().Article(ctx, ch, id)
	if err != nil {
		return bundle.Article{}, notFound(err)
	}
	return *a, nil
}

// Image implements web.Engine.
func (e engine) Image(ctx context.Context, ch channel.ID, id string, n int) (bundle.Image, error) {
	img, err := e.r.Shelf().Image(ctx, ch, id, n)
	if err != nil {
		return bundle.Image{}, notFound(err)
	}
	return *img, nil
}

// notFound says in the page's terms that something has not arrived.
func notFound(err error) error {
	if errors.Is(err, bundle.ErrMissing) {
		return fmt.Errorf("%w: %w", transport.ErrNotFound, err)
	}
	return err
}

// Sync implements web.Engine.
func (e engine) Sync(context.Context) {
	if !e.r.claim() {
		return
	}
	go func() {
		defer e.r.release()
		if err := e.r.SyncAll(e.life, nil); err != nil {
			e.r.log.Info("sync ended early", "error", err)
		}
	}()
}

// maxFetching bounds how many articles' pictures wait for their turn.
const maxFetching = 32

// FetchImages implements web.Engine. It waits for a sync that runs.
func (e engine) FetchImages(_ context.Context, ch channel.ID, id string) {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if slices.Contains(e.r.fetching, id) || len(e.r.fetching) >= maxFetching {
		return
	}
	e.r.fetching = append(e.r.fetching, id)
	go func() {
		if _, err := e.r.Images(e.life, ch, id); err != nil {
			e.r.log.Info("pictures did not come", "error", err)
		}
		e.r.mu.Lock()
		defer e.r.mu.Unlock()
		e.r.fetching = slices.DeleteFunc(e.r.fetching, func(o string) bool { return o == id })
	}()
}

// FetchText implements web.Engine. A sync that runs takes it up.
func (e engine) FetchText(ctx context.Context, _ channel.ID, id string) {
	e.r.tap(id)
	e.Sync(ctx)
}

// Status implements web.Engine.
func (e engine) Status(ctx context.Context) web.Status {
	r := e.r
	r.mu.Lock()
	st := web.Status{Syncing: r.active || r.claimed, LastSync: r.lastSync, Work: r.work, Events: slices.Clone(r.events), Fetching: slices.Clone(r.fetching)}
	r.mu.Unlock()
	ids, err := r.lib.Channels(ctx)
	if err != nil {
		return st
	}
	for _, ch := range ids {
		f, err := r.Freshness(ctx, ch)
		if err != nil {
			continue
		}
		st.ClockWrong = st.ClockWrong || f.ClockBehind
		st.Fresh = append(st.Fresh, web.Fresh{Channel: ch, Name: r.channelName(ctx, ch), Freshness: f})
		reports, err := newsync.Reports(ctx, r.lib, ch)
		if err != nil {
			continue
		}
		for _, p := range reports {
			st.Paths = append(st.Paths, pathStatus(p))
		}
	}
	return st
}

// lacksFor is how long an answer of Lacks holds: it looks at every headline.
const lacksFor = 5 * time.Second

// Lacks implements web.Engine.
func (e engine) Lacks(ctx context.Context) []web.Lacks {
	r := e.r
	r.mu.Lock()
	said, at := r.lacking, r.lackingAt
	r.mu.Unlock()
	if !at.IsZero() && time.Since(at) < lacksFor {
		return said
	}
	ids, err := r.lib.Channels(ctx)
	if err != nil {
		return nil
	}
	var out []web.Lacks
	for _, ch := range ids {
		if l, err := r.Lacks(ctx, ch); err == nil {
			out = append(out, web.Lacks{Channel: ch, Lacking: l})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lacking, r.lackingAt = out, time.Now()
	return out
}

func (r *Reader) channelName(ctx context.Context, ch channel.ID) string {
	if m, err := r.lib.Meta(ctx, ch); err == nil && m.Name != "" {
		return m.Name
	}
	return ch.String()[:8]
}

func pathStatus(p newsync.PathReport) web.PathStatus {
	st := web.PathStatus{Name: p.Name, Kind: p.Kind, Bytes: p.Bytes, Last: p.At, Head: p.Head, Seen: p.Seen, Older: p.Older(), Past: p.Past}
	switch p.State {
	case "ok":
		st.State = web.PathWorking
	case "failed":
		st.State, st.Last = web.PathBlocked, time.Time{}
	case "lied":
		if st.State, st.Last = web.PathLied, (time.Time{}); p.Forked() {
			st.State = web.PathForked
		}
	case "slow":
		st.State, st.Last = web.PathResting, time.Time{}
	}
	return st
}

package static

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Prune implements transport.Pruner. It goes by the lists in editions/ alone,
// so files that no push of ours wrote stay, and an edition whose push was never
// finished goes too.
func (p *Publisher) Prune(ctx context.Context, ch channel.ID, keep []uint64) (removed int, err error) {
	drop, err := p.superseded(ctx, ch, keep)
	if err != nil || len(drop) == 0 {
		return 0, err
	}
	err = p.run(ctx, "remove old editions", func() error {
		used := map[cid.Cid]bool{}
		for _, n := range keep {
			list, err := p.list(ctx, ch, n)
			if err != nil && !errors.Is(err, transport.ErrNotFound) { // it was never pushed here
				return err
			}
			for _, c := range list {
				used[c] = true
			}
		}
		for _, n := range drop {
			some, err := p.drop(ctx, ch, n, used)
			removed += some
			if err != nil {
				return fmt.Errorf("edition %d: %w", n, err)
			}
		}
		return nil
	})
	return removed, err
}

// superseded lists the editions that are there and not in keep, none before the
// head that makes them old is there.
func (p *Publisher) superseded(ctx context.Context, ch channel.ID, keep []uint64) ([]uint64, error) {
	if len(keep) == 0 {
		return nil, nil
	}
	files, err := p.store.List(ctx, editionDir+ch.String())
	if err != nil {
		return nil, err
	}
	var drop []uint64
	for name := range files {
		n, err := strconv.ParseUint(name, 10, 63)
		if err == nil && strconv.FormatUint(n, 10) == name && n < slices.Max(keep) && !slices.Contains(keep, n) {
			drop = append(drop, n)
		}
	}
	if len(drop) == 0 {
		return nil, nil
	}
	slices.Sort(drop)
	intro, err := p.opening(ctx, ch)
	if err != nil {
		return nil, err
	}
	roots, err := channel.ParseRoots(ch, intro.RootNotes)
	if err != nil {
		return nil, err
	}
	head, err := roots.Head(intro.Head)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(keep, head.Edition) {
		return nil, fmt.Errorf("edition %d, which is the newest there, would go: %w", head.Edition, transport.ErrRefused)
	}
	return drop, nil
}

// drop removes what only edition n has, and its list last: until then a run
// that was interrupted begins again.
func (p *Publisher) drop(ctx context.Context, ch channel.ID, n uint64, used map[cid.Cid]bool) (int, error) {
	list, err := p.list(ctx, ch, n)
	if err != nil {
		return 0, err
	}
	var removed atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, c := range list {
		if used[c] {
			continue
		}
		g.Go(func() error {
			if err := p.store.Delete(gctx, blockDir+c.String()); err != nil {
				return err
			}
			removed.Add(1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return int(removed.Load()), err
	}
	return int(removed.Load()) + 1, p.store.Delete(ctx, listName(ch, n))
}

// list reads editions/<channel>/<n>. A list that can't be read in full counts
// for nothing: blocks would go that are still used.
func (p *Publisher) list(ctx context.Context, ch channel.ID, n uint64) ([]cid.Cid, error) {
	name := listName(ch, n)
	b, err := p.store.Get(ctx, name, maxList)
	if err != nil {
		return nil, err
	}
	text, whole := strings.CutSuffix(string(b), "\n")
	if !whole {
		return nil, errList
	}
	var out []cid.Cid
	for line := range strings.SplitSeq(text, "\n") {
		c, err := cid.Decode(line)
		if err != nil || c.String() != line || bundle.CheckCID(c) != nil {
			return nil, errList
		}
		out = append(out, c)
	}
	return out, nil
}

// errList: pushing the edition again writes its list anew.
var errList = errors.New("its list of blocks in editions/ is damaged; nothing was removed")

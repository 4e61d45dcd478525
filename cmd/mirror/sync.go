package main

import (
	"errors"
	"fmt"
	"slices"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	"tamizdat/mirror/reader"
	newsync "tamizdat/mirror/sync"
)

type syncCmd struct {
	dataFlags
	langFlags
}

// Run fetches what is new on all channels. Stopping at a limit is no failure: it
// was asked for.
func (c *syncCmd) Run(e *env) (err error) {
	if err := e.limits(c.dataFlags, c.langFlags); err != nil {
		return err
	}
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	var failed []error
	err = r.SyncAll(e.ctx, func(ch channel.ID, res *newsync.Result, err error) {
		e.meter.Done()
		if res.Head != nil {
			e.report(ch, res, "no way answered")
		}
		if !errors.Is(err, newsync.ErrBudget) {
			failed = append(failed, err)
			return
		}
		if errors.Is(err, reader.ErrDayLimit) {
			fmt.Fprintf(e.out, "%s: today's limit is used up; nothing more is fetched before tomorrow\n", ch.String()[:8])
			return
		}
		fmt.Fprintf(e.out, "%s: stopped at your limit; mirror sync goes on from here\n", ch.String()[:8])
	})
	if errors.Is(err, newsync.ErrBudget) {
		return errors.Join(failed...)
	}
	return err
}

// report is a line on what a sync did; none says why nothing is known of what is
// newest, if nobody answered.
func (e *env) report(ch channel.ID, res *newsync.Result, none string) {
	if res.Fork {
		fmt.Fprintf(e.out, "%s: WARNING: someone is showing different readers different news; see mirror status\n", ch.String()[:8])
	}
	if res.Withdrawn > 0 {
		fmt.Fprintf(e.out, "%s: WARNING: %s taken back: the publisher has replaced a stolen key, and they were not the publisher's; see mirror status\n", ch.String()[:8], cli.Count(res.Withdrawn, "article"))
	}
	what := none + "; still edition"
	switch {
	case res.New:
		what = "edition"
	case slices.ContainsFunc(res.Paths, func(p newsync.PathReport) bool { return p.State != "lied" && p.Head > res.Head.Size }):
		what = "there is newer news, but it has not come through; still edition"
	case res.Answered > 0:
		what = "nothing newer than edition"
	}
	fmt.Fprintf(e.out, "%s: %s %d of %s; %s, %s, %s\n", ch.String()[:8], what, res.Head.Edition,
		res.Head.Date.Local().Format("2 Jan 2006 15:04"), cli.Count(res.Blocks, "block"), cli.Bytes(res.Bytes), cli.Count(res.Articles, "article"))
	if res.Gone > 0 {
		fmt.Fprintf(e.out, "%s: %s taken back by the publisher, and deleted here\n", ch.String()[:8], cli.Count(res.Gone, "article"))
	}
	if res.Corrected > 0 {
		fmt.Fprintf(e.out, "%s: %s corrected by the publisher; the list says which\n", ch.String()[:8], cli.Count(res.Corrected, "article"))
	}
	if res.ImagesMissing {
		fmt.Fprintf(e.out, "%s: images are still missing; they come when a wide way is open\n", ch.String()[:8])
	}
}

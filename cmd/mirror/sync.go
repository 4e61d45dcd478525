package main

import (
	"fmt"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	newsync "tamizdat/mirror/sync"
)

type syncCmd struct{}

// Run fetches what is new on all channels.
func (c *syncCmd) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	return r.SyncAll(e.ctx, func(ch channel.ID, res *newsync.Result, err error) {
		if res.Head != nil {
			e.report(ch, res)
		}
	})
}

// report is a line on what a sync did.
func (e *env) report(ch channel.ID, res *newsync.Result) {
	if res.Fork {
		fmt.Fprintf(e.out, "%s: WARNING: somebody showed a different history of this channel, signed with its key; the proof is kept\n", ch.String()[:8])
	}
	what := "nothing newer than edition"
	switch {
	case res.New:
		what = "edition"
	case res.Unreached:
		what = "no way answered; still edition"
	}
	fmt.Fprintf(e.out, "%s: %s %d of %s; %s, %s, %s\n", ch.String()[:8], what, res.Head.Edition,
		res.Head.Date.Local().Format("2 Jan 2006 15:04"), cli.Count(res.Blocks, "block"), cli.Bytes(res.Bytes), cli.Count(res.Articles, "article"))
	if res.ImagesMissing {
		fmt.Fprintf(e.out, "%s: images are still missing; they come when a wide way is open\n", ch.String()[:8])
	}
}

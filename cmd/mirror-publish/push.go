package main

import (
	"errors"
	"fmt"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type pushCmd struct {
	Targets   []string `arg:"" optional:"" name:"target" help:"Names from publisher.toml (default: all)."`
	Heartbeat bool     `help:"Sign the newest edition again first, with the time of now: readers see then that there was nothing newer. For days without news."`
}

// Returned when a target failed; the rows have said why.
var (
	errPush      = errors.New("not every target has the newest edition; run push again, it goes on where it stopped")
	errPushFinal = errors.New("not every target has the newest edition")
	errUnseen    = errors.New("the newest edition arrived, but too few witnesses have seen it: readers are told so; run push again when they can be reached")
)

// Run pushes to all targets at once.
func (c *pushCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	targets, err := p.Targets(e.network, c.Targets...)
	if err != nil {
		return err
	}
	targets = append(targets, p.Aside(e.network, targets)...)
	if c.Heartbeat {
		if err := checkTargets(e, p); err != nil { // it says that there is nothing newer
			return err
		}
		if err := p.Heartbeat(e.ctx, targets, time.Now()); err != nil {
			return err
		}
	}
	bars := cli.NewMeter(e.err)
	results := p.Push(e.ctx, targets, func(target string, edition uint64, held, total int64) {
		bars.Set(fmt.Sprintf("%s, edition %d", target, edition), held, total)
	})
	bars.Done()
	failed, again := false, false
	for i, r := range results {
		switch {
		case r.Err != nil && targets[i].Witness && !publisher.Final(r.Err): // what counts is how many have seen it
			fmt.Fprintf(e.out, "%s: %s\n", r.Target, cli.OneLine(r.Err))
		case r.Err != nil:
			failed = true
			again = again || !publisher.Final(r.Err)
			fmt.Fprintf(e.out, "%s: failed: %s\n", r.Target, cli.OneLine(r.Err))
		case targets[i].Aside: // how many have seen it is said below
		case targets[i].Witness:
			fmt.Fprintf(e.out, "%s: has seen edition %d\n", r.Target, p.Size()-1)
		case r.Editions == 0:
			fmt.Fprintf(e.out, "%s: holds edition %d already\n", r.Target, r.Newest)
		default:
			fmt.Fprintf(e.out, "%s: edition %d arrived (%s sent)\n", r.Target, r.Newest, cli.Bytes(r.Bytes))
		}
		if r.Removed > 0 {
			fmt.Fprintf(e.out, "%s: %s of old editions removed\n", r.Target, cli.Count(r.Removed, "piece"))
		}
	}
	seen, err := witnessed(e, p)
	if err != nil {
		return err
	}
	unnamed, err := p.Unnamed()
	if err != nil {
		return err
	}
	if len(unnamed) > 0 {
		fmt.Fprintf(e.err, "%d of the witnesses were named after edition %d was packed, which can't carry what they sign; run mirror-publish pack first, also without news, and push again\n", len(unnamed), p.Size()-1)
	}
	switch {
	case failed && again:
		return errPush
	case failed:
		return errPushFinal
	case !seen.Met() && len(unnamed) == 0:
		return errUnseen
	}
	return nil
}

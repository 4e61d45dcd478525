package main

import (
	"errors"
	"fmt"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type pushCmd struct {
	Targets []string `arg:"" optional:"" name:"target" help:"Names from publisher.toml (default: all)."`
}

// Returned when a target failed; the rows have said why.
var (
	errPush      = errors.New("not every target has the newest edition; run push again, it goes on where it stopped")
	errPushFinal = errors.New("not every target has the newest edition")
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
	bars := cli.NewMeter(e.err)
	results := p.Push(e.ctx, targets, func(target string, edition uint64, held, total int64) {
		bars.Set(fmt.Sprintf("%s, edition %d", target, edition), held, total)
	})
	bars.Done()
	failed, again := false, false
	for _, r := range results {
		switch {
		case r.Err != nil:
			failed = true
			again = again || !publisher.Final(r.Err)
			fmt.Fprintf(e.out, "%s: failed: %s\n", r.Target, cli.OneLine(r.Err))
		case r.Editions == 0:
			fmt.Fprintf(e.out, "%s: holds edition %d already\n", r.Target, r.Newest)
		default:
			fmt.Fprintf(e.out, "%s: edition %d arrived (%s sent)\n", r.Target, r.Newest, cli.Bytes(r.Bytes))
		}
		if r.Removed > 0 {
			fmt.Fprintf(e.out, "%s: %s of old editions removed\n", r.Target, cli.Count(r.Removed, "piece"))
		}
	}
	switch {
	case failed && again:
		return errPush
	case failed:
		return errPushFinal
	}
	return nil
}

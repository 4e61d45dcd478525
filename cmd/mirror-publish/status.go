package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type statusCmd struct {
	Editions int `help:"How many of the newest editions to list." default:"10"`
}

// Run shows what is packed and what arrived.
func (c *statusCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	fmt.Fprintf(e.out, "channel %s\nname    %s\n", p.Channel(), p.Config().Name)
	for _, b := range p.Batches() {
		if b.Revoked {
			b.Name += ", revoked"
		}
		fmt.Fprintf(e.out, "batch   %s\n", b.Name)
	}
	if p.Size() == 0 {
		fmt.Fprintln(e.out, "no edition yet; run mirror-publish pack SOURCE")
		return nil
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "edition\tpacked\tlayers")
	for n := p.Size(); n > 0 && p.Size()-n < uint64(c.Editions); n-- {
		sizes := p.EditionSizes(n - 1)
		line := ""
		for _, layer := range slices.Sorted(maps.Keys(sizes)) {
			line += fmt.Sprintf("%s %s  ", layer, cli.Bytes(sizes[layer]))
		}
		packed := "not here"
		if at := p.Date(n - 1); !at.IsZero() {
			packed = at.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", n-1, packed, line)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if _, err := witnessed(e, p); err != nil {
		return err
	}
	if len(p.Config().Targets) == 0 {
		fmt.Fprintln(e.out, "no target yet; add a relay with mirror-publish target NAME")
		return nil
	}
	return c.targets(e, p)
}

func (c *statusCmd) targets(e *env, p *publisher.Publisher) error {
	targets, err := p.Targets(e.network)
	if err != nil {
		return err
	}
	rows := make([]string, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			size, err := p.Holds(e.ctx, t)
			switch {
			case t.Witness:
				rows[i] = "a witness"
			case err != nil:
				rows[i] = "unreachable: " + cli.OneLine(err)
			case size == 0:
				rows[i] = "holds nothing yet"
			case size < p.Size():
				rows[i] = fmt.Sprintf("holds edition %d, %d behind", size-1, p.Size()-size)
			default:
				rows[i] = fmt.Sprintf("holds edition %d, the newest", size-1)
			}
			if c, ok := t.Publisher.(io.Closer); ok {
				_ = c.Close() // it only read
			}
		})
	}
	wg.Wait()
	for i, t := range targets {
		fmt.Fprintf(e.out, "%s: %s\n", t.Name, rows[i])
	}
	return nil
}

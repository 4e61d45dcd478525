package main

import (
	"fmt"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type rootWitnessCmd struct {
	Draft  string   `arg:"" help:"The file to write the draft to." type:"path"`
	Key    []string `arg:"" optional:"" help:"Each witness from then on, by its key (NAME+ID+KEY), as mirror-relay address --witness prints it; none, to go without."`
	Quorum int      `help:"How many of them should have seen an edition (default: more than half)." placeholder:"K"`
}

// Run drafts the next root note.
func (c *rootWitnessCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	var witnesses []channel.Witness
	for i, s := range c.Key {
		w, err := channel.ParseWitness(s)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		witnesses = append(witnesses, w)
	}
	switch {
	case c.Quorum < 0 || c.Quorum > len(witnesses):
		return cli.Usage("--quorum is 1 to %d, the number of witnesses", len(witnesses))
	case c.Quorum == 0 && len(witnesses) > 0:
		c.Quorum = len(witnesses)/2 + 1
	}
	d, err := p.SetWitnesses(witnesses, c.Quorum)
	if err != nil {
		return err
	}
	if err := publisher.SaveDraft(c.Draft, d); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "root note %d drafted in %s: %d of %d witnesses should see an edition\n", d.Note.Version, c.Draft, c.Quorum, len(witnesses))
	lacking(e, p, d, c.Draft)
	return nil
}

// showWitnesses lists those of the newest root note, and what a witness has to know.
func showWitnesses(e *env, p *publisher.Publisher) {
	fmt.Fprintf(e.out, "the log's key, for witnesses that are no relays:\n  %s\n", p.Roots().LogVKey())
	witnesses, quorum := p.Witnesses()
	if len(witnesses) > 0 {
		fmt.Fprintf(e.out, "%d of %d witnesses should see an edition\n", quorum, len(witnesses))
	}
	for _, w := range witnesses {
		fmt.Fprintf(e.out, "  witness %s\n", w.VKey())
	}
}

// witnessed says who has seen the newest edition; nothing if there are no witnesses.
func witnessed(e *env, p *publisher.Publisher) (channel.Witnessed, error) {
	w, missing, err := p.Witnessed()
	if err != nil || w.Of == 0 {
		return w, err
	}
	fmt.Fprintf(e.out, "edition %d is seen by %d of %d witnesses (%d should)\n", p.Size()-1, w.Seen, w.Of, w.Quorum)
	for _, m := range missing {
		fmt.Fprintf(e.out, "  not by %s\n", m.VKey())
	}
	return w, nil
}

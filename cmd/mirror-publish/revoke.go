package main

import (
	"errors"
	"fmt"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type revokeCmd struct {
	Batch string `arg:"" help:"Name of the batch, as it was given to invite --batch."`
}

// Run revokes a batch.
func (c *revokeCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	switch err := p.Revocable(c.Batch); {
	case errors.Is(err, publisher.ErrRevoked):
		return fmt.Errorf("%w; push tells relays that have not heard yet", err)
	case err != nil:
		return err
	}
	if err := checkTargets(e, p); err != nil { // the epoch that begins may have begun there, with another key
		return err
	}
	if err := p.Revoke(c.Batch); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s is revoked: it can't open what is packed from now on\n", c.Batch)
	fmt.Fprintln(e.err, "pack and push now, also without news: the edition that is out still opens with it, and your relays become mere websites to it with the push; what it could open so far, and every copy of it, stays open")
	return nil
}

package main

import (
	"fmt"

	"tamizdat/internal/cli"
)

type inviteCmd struct {
	Batch string `help:"Name of the readers who share this invite; one that is new takes one of sixteen places (more with batches in publisher.toml). A batch can be revoked as a whole." default:"readers"`
	QR    string `help:"Also write it as a QR code." placeholder:"FILE.png|FILE.svg" name:"qr" type:"path"`
	Show  bool   `help:"Also show it as a QR code here, to be scanned from the screen."`
}

// Run prints an invite.
func (c *inviteCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	inv, err := p.Invite(c.Batch)
	if err != nil {
		return err
	}
	text := inv.String()
	if c.QR != "" || c.Show {
		q, err := newQR(text)
		if err != nil {
			return err
		}
		if c.QR != "" {
			if err := writeQR(c.QR, q); err != nil {
				return err
			}
			fmt.Fprintf(e.err, "QR code in %s\n", c.QR)
		}
		if c.Show {
			if err := drawQR(e.err, q.Bitmap()); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(e.out, text)
	pl := inv.Places
	if len(pl.Relays)+len(pl.Zones)+len(pl.Peers)+len(pl.Gateways)+len(pl.Mirrors) == 0 {
		fmt.Fprintln(e.err, "this invite names no way in yet: its readers need files; add a relay first (mirror-publish target NAME)")
	}
	return nil
}

package main

import (
	"fmt"
	"io"

	"tamizdat/internal/cli"

	"github.com/skip2/go-qrcode"

	"tamizdat/internal/durable"
)

type inviteCmd struct {
	Batch string `help:"Name of the readers who share this invite; one that is new takes one of sixteen places. A batch can be revoked as a whole." default:"readers"`
	QR    string `help:"Also write it as a QR code." placeholder:"FILE.png" name:"qr" type:"path"`
}

// qrSize is the picture's side in pixels.
const qrSize = 768

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
	if c.QR != "" {
		png, err := qrcode.Encode(text, qrcode.Medium, qrSize)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(c.QR, 0o600, func(w io.Writer) error { _, err := w.Write(png); return err }); err != nil {
			return err
		}
		fmt.Fprintf(e.err, "QR code in %s\n", c.QR)
	}
	fmt.Fprintln(e.out, text)
	pl := inv.Places
	if len(pl.Relays)+len(pl.Zones)+len(pl.Peers)+len(pl.Gateways)+len(pl.Mirrors) == 0 {
		fmt.Fprintln(e.err, "this invite names no way in yet: its readers need files; add a relay first (mirror-publish target NAME)")
	}
	return nil
}

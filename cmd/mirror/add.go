package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
)

type addCmd struct {
	Invite string `arg:"" help:"The invite (TAMIZDAT:...), a text file that holds it, or - for standard input."`
}

// maxInviteFile bounds what is read of a file that holds an invite.
const maxInviteFile = 16 << 10

// Run makes the library follow the invite's channel.
func (c *addCmd) Run(e *env) (err error) {
	text, err := c.text(e)
	if err != nil {
		return err
	}
	if _, err := channel.ParseInvite(text); err != nil { // before a library is made
		return hint(err)
	}
	r, err := e.open(true)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	ch, err := r.Add(e.ctx, text)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "channel %s added; fetch its news with: mirror sync\n", ch)
	return nil
}

// text is the invite itself, wherever it stands: an invite among a process's
// arguments can be seen by others on the device, a file can't.
func (c *addCmd) text(e *env) (string, error) {
	if c.Invite == "-" {
		b, err := io.ReadAll(io.LimitReader(e.in, maxInviteFile))
		return string(b), err
	}
	if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(c.Invite)), "TAMIZDAT") {
		return c.Invite, nil
	}
	f, err := os.Open(c.Invite)
	if errors.Is(err, os.ErrNotExist) {
		return "", cli.Usage("%q is neither an invite nor a file", short(c.Invite))
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInviteFile))
	if err != nil {
		return "", err
	}
	if i := strings.Index(strings.ToUpper(string(b)), "TAMIZDAT:"); i >= 0 {
		return string(b[i:]), nil
	}
	return "", fmt.Errorf("%w; to take in an edition file, use mirror import", channel.ErrNotInvite)
}

// short keeps a mistyped invite out of the terminal's history of errors.
func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// hint adds what to do about a bad invite.
func hint(err error) error {
	if errors.Is(err, channel.ErrInviteTyped) {
		return fmt.Errorf("%w; copy it again, whole, from TAMIZDAT: to its last letter", err)
	}
	return err
}

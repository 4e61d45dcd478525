package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
)

type addCmd struct {
	Invite []string `arg:"" help:"The invite (TAMIZDAT:...), a text file that holds it, or - for standard input."`
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
	ch, known, err := r.Add(e.ctx, text)
	if err != nil {
		return err
	}
	if known {
		fmt.Fprintf(e.out, "channel %s was here already; this invite's ways in are used from now on, too; fetch its news with: mirror sync\n", ch)
		return nil
	}
	fmt.Fprintf(e.out, "channel %s added; fetch its news with: mirror sync\n", ch)
	return nil
}

// text is the invite itself, wherever it stands: an invite among a process's
// arguments can be seen by others on the device, a file can't. No error repeats
// what may be an invite.
func (c *addCmd) text(e *env) (string, error) {
	given := strings.Join(c.Invite, " ") // spaces within an invite do no harm
	if given == "-" {
		b, err := io.ReadAll(io.LimitReader(e.in, maxInviteFile))
		if err != nil {
			return "", err
		}
		return inviteIn(string(b))
	}
	if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(given)), "TAMIZDAT") {
		return given, nil
	}
	if bare(given) {
		return "", errBare
	}
	f, err := os.Open(given)
	if errors.Is(err, os.ErrNotExist) || err != nil && len(given) > maxNamed {
		return "", cli.Usage("%s is neither an invite nor a file", named(given))
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInviteFile))
	if err != nil {
		return "", err
	}
	return inviteIn(string(b))
}

// inviteIn reports whether there is an invite in a text, whole or not.
func inviteIn(text string) (string, error) {
	if _, err := channel.ParseInvite(text); !errors.Is(err, channel.ErrNotInvite) {
		return text, nil
	}
	if bare(text) {
		return "", errBare
	}
	return "", fmt.Errorf("%w; to take in an edition file, use mirror import", channel.ErrNotInvite)
}

// errBare is the answer to an invite that lost its beginning.
var errBare = cli.Usage("an invite begins with TAMIZDAT: and this does not; put it in front")

// bare reports whether s is an invite without its first word: a long run of
// base32 and nothing else.
func bare(s string) bool {
	s = strings.ToUpper(strings.Join(strings.Fields(s), ""))
	return len(s) > 60 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// maxNamed is the longest name that an error repeats whole.
const maxNamed = 40

// named is a file's name as an error may repeat it: what could be a piece of an
// invite is not.
func named(s string) string {
	if len(s) > maxNamed || strings.Contains(s, ":") && strings.ToUpper(s) == s {
		return "what you gave"
	}
	return strconv.Quote(s)
}

// short is the beginning of s.
func short(s string) string {
	if len(s) > maxNamed {
		return s[:maxNamed] + "…"
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

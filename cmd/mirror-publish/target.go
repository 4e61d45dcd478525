package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
	wire "tamizdat/transport/relay"
)

type relayCmd struct {
	Name    string `arg:"" help:"What you call the relay."`
	Replace bool   `help:"Give the target of that name a new line (the relay has moved, or has a new key)."`
}

// Run reads the relay's line from standard input: a secret has no place among
// a process's arguments.
func (c *relayCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	line, err := readRelayLine(e.in)
	if err != nil {
		return err
	}
	if line == "" {
		return cli.Usage("paste the line of mirror-relay address, or pipe it in")
	}
	done := "added"
	if c.Replace {
		err, done = p.ReplaceTarget(c.Name, line), "has its new line"
	} else {
		err = p.AddTarget(c.Name, line)
	}
	if errors.Is(err, publisher.ErrTargetExists) {
		return fmt.Errorf("%w; --replace gives it this line", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "target %q %s\n", c.Name, done)
	return nil
}

// maxRelayLine bounds what is read of a relay's line, in bytes.
const maxRelayLine = 4096

// readRelayLine reads until the line is whole: a terminal or a mail may have
// wrapped it, so that a line break alone does not end it. An empty line does.
func readRelayLine(in io.Reader) (string, error) {
	var text strings.Builder
	buf := make([]byte, 1024)
	for text.Len() < maxRelayLine {
		n, err := in.Read(buf)
		text.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		raw := text.String()
		line := strings.Join(strings.Fields(raw), "")
		if _, err := wire.ParseTarget(line); err == nil && strings.HasSuffix(raw, "\n") {
			break
		}
		const scheme = "relay1:"
		if strings.HasSuffix(raw, "\n\n") || line != "" && strings.HasSuffix(raw, "\n") && !strings.HasPrefix(line, scheme[:min(len(scheme), len(line))]) {
			break
		}
	}
	return strings.Join(strings.Fields(text.String()), ""), nil
}

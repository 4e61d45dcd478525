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

	Mirror string `help:"Instead of a relay, a static mirror: a folder that a web server shows." placeholder:"DIR" type:"path" xor:"kind"`
	Git    string `help:"A static mirror in a git working copy, which is committed and pushed to its upstream." placeholder:"DIR" type:"path" xor:"kind"`
	S3     string `help:"A static mirror in a bucket." name:"s3" placeholder:"https://ENDPOINT/BUCKET" xor:"kind"`
	WebDAV string `help:"A static mirror in a WebDAV folder." name:"webdav" placeholder:"URL" xor:"kind"`
	DNS    string `help:"A DNS zone on a name server that takes updates (RFC 2136)." name:"dns" placeholder:"ZONE@ADDRESS[:PORT]" xor:"kind"`

	Witness string `help:"A witness that is no relay: where it takes checkpoints (C2SP tlog-witness)." placeholder:"URL" xor:"kind"`

	Credentials string `help:"File of the bucket's keys (as Amazon's tools have it), of USER:PASSWORD for WebDAV, or of the TSIG key for DNS." placeholder:"FILE" type:"path"`
	Pointer     bool   `help:"Put only what leads to the headlines into DNS: for providers with small quotas."`
	Region      string `help:"The bucket's region, if the store doesn't tell."`
	URL         string `help:"Where readers find the static mirror: invites and grants then name it." placeholder:"URL"`
}

// Run adds what the flags name, or else reads the relay's line from standard input: a secret has no place among
// a process's arguments.
func (c *relayCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	if c.Mirror+c.Git+c.S3+c.WebDAV+c.DNS != "" {
		return c.addMirror(e, p)
	}
	if c.Witness != "" {
		if err := p.AddWitness(c.Name, c.Witness); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "target %q added\n", c.Name)
		fmt.Fprintln(e.err, "its key has to be in the root note, too: mirror-publish root witness")
		return nil
	}
	if c.Credentials+c.Region+c.URL != "" || c.Pointer {
		return cli.Usage("name the static mirror or zone, too: --mirror, --s3, --webdav, --git or --dns")
	}
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

func (c *relayCmd) addMirror(e *env, p *publisher.Publisher) error {
	if c.Replace {
		return cli.Usage("--replace is for relays; edit publisher.toml")
	}
	add := p.AddMirror
	if c.DNS != "" {
		add = p.AddHosted
	}
	err := add(publisher.TargetConfig{
		Name: c.Name, DNS: c.DNS, Pointer: c.Pointer, Mirror: c.Mirror, Git: c.Git, S3: c.S3, WebDAV: c.WebDAV, Credentials: c.Credentials, Region: c.Region, URL: c.URL,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "target %q added\n", c.Name)
	switch {
	case c.DNS != "":
		fmt.Fprintln(e.err, "name the zone in zones of publisher.toml, too: invites then lead readers there")
	case c.URL == "":
		fmt.Fprintln(e.err, "no --url: invites won't lead readers there")
	}
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

package main

import (
	"fmt"
	"time"

	"tamizdat/internal/cli"
)

type zoneCmd struct {
	Zone string `arg:"" help:"The zone's name, at most 30 characters."`
}

// Run prints the zone file.
func (c *zoneCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	return p.Zone(e.out, c.Zone, time.Now())
}

type exportCmd struct {
	File string `arg:"" help:"The CAR file to write." type:"path"`
}

// Run writes the newest edition.
func (c *exportCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	if err := p.Export(e.ctx, c.File); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "edition %d written to %s; readers add it with: mirror import FILE\n", p.Size()-1, c.File)
	return nil
}

package main

import (
	"fmt"
	"time"
)

type zoneCmd struct {
	Zone string `arg:"" help:"The zone's name, at most 30 characters."`
}

// Run prints the zone file.
func (c *zoneCmd) Run(e *env) error {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Zone(e.out, c.Zone, time.Now())
}

type exportCmd struct {
	File string `arg:"" help:"The CAR file to write." type:"path"`
}

// Run writes the newest edition.
func (c *exportCmd) Run(e *env) error {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Export(e.ctx, c.File); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "edition %d written to %s; readers add it with: mirror import FILE\n", p.Size()-1, c.File)
	return nil
}

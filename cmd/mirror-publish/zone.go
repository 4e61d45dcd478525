package main

import (
	"fmt"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/transport/dns"
)

type zoneCmd struct {
	Zone string   `arg:"" help:"The zone's name, at most 30 characters."`
	NS   []string `help:"Name servers of the zone; with its address if the name lies in the zone." name:"ns" placeholder:"HOST[=ADDRESS]"`

	Pointer bool `help:"Only what leads to the headlines: for providers with small quotas."`
}

// Run prints the zone file.
func (c *zoneCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	zone := dns.Zone{Name: c.Zone}
	for _, s := range c.NS {
		ns, err := dns.ParseNS(s)
		if err != nil {
			return cli.Usage("--ns %s: give HOST=ADDRESS", ns.Host)
		}
		zone.NS = append(zone.NS, ns)
	}
	if len(c.NS) == 0 {
		fmt.Fprintf(e.err, "no name server given: the file names ns.%s, without an address; most servers want --ns HOST[=ADDRESS]\n", c.Zone)
	}
	names, err := p.Zone(e.out, zone, c.Pointer, time.Now())
	if err != nil {
		return err
	}
	hint := ""
	if !c.Pointer {
		hint = "; for a provider that counts them, --pointer makes fewer"
	}
	fmt.Fprintf(e.err, "%s%s\n", cli.Count(names, "record"), hint)
	return nil
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

package main

import (
	"fmt"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type initCmd struct {
	Folder string   `arg:"" optional:"" help:"Folder to make it in (default: --dir)." type:"path"`
	Name   string   `required:"" help:"The channel's name, as readers see it." placeholder:"\"Radio Example\""`
	Lang   []string `help:"Its languages (BCP 47)." placeholder:"ru,en"`
}

// Run makes a channel.
func (c *initCmd) Run(e *env) error {
	dir := e.dir
	if c.Folder != "" {
		dir = c.Folder
	}
	langs, err := publisher.ParseLangs(c.Lang...)
	if err != nil {
		return cli.Usage("--lang: %w", err)
	}
	p, err := publisher.Init(dir, c.Name, langs)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "channel %s\n", p.Channel())
	fmt.Fprintf(e.err, "made in %s; back up this folder now, whole: who has its keys can speak as this channel, and without them nobody can\n", dir)
	fmt.Fprintf(e.err, "next: mirror-publish pack SOURCE, and give the channel's line above to a relay's volunteer\n")
	return p.Close()
}

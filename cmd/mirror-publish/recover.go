package main

import (
	"fmt"
	"strings"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type recoverCmd struct {
	Targets []string `arg:"" optional:"" name:"target" help:"Names from publisher.toml (default: all)."`
	Yes     bool     `help:"Take it: you made these editions yourself, after the backup."`

	PutAside bool `help:"Take it also where this folder has packed since, under the same numbers: its own editions go to editions/left-out."`

	LoseBatches bool `help:"Take it also if batches of readers were made after the backup, whose keys are nowhere else."`
}

// Run shows what the targets hold that the folder lacks, and takes it if told so.
func (c *recoverCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	found, err := p.Find(e.ctx, e.network, c.Targets...)
	if err != nil {
		return err
	}
	for _, err := range found.Unread {
		fmt.Fprintf(e.err, "note: it may hold more: %s\n", cli.OneLine(err))
	}
	fmt.Fprintf(e.out, "%s holds %s that this folder lacks, signed with this channel's keys:\n", found.Target, cli.Count(len(found.Editions), "edition"))
	if len(found.Also) > 0 {
		fmt.Fprintf(e.out, "  shown by %s, too\n", strings.Join(found.Also, ", "))
	}
	c.editions(e, found.Editions)
	c.keys(e, found)
	if len(found.Aside) > 0 {
		fmt.Fprintf(e.out, "this folder has given the same numbers to %s of its own, packed from the backup:\n", cli.Count(len(found.Aside), "edition"))
		c.editions(e, found.Aside)
	}
	if !c.Yes {
		fmt.Fprintln(e.err, "nothing was changed. If you made all of these after the backup, run it again with --yes. If you did not, somebody else has the log key: see docs/publisher.md")
		return nil
	}
	if found.Lost > 0 && !c.LoseBatches {
		return fmt.Errorf("nothing was changed: %d batches of readers were made after this backup, and whoever was invited with one of them can't read what is packed next; put a newer keys/keys.json in its place and recover again or, if there is none, add --lose-batches and give them new invites", found.Lost)
	}
	if len(found.Aside) > 0 && !c.PutAside {
		return fmt.Errorf("nothing was changed: what this folder has packed since is not what %s holds, and only one of the two can go on; to go on from there add --put-aside, and pack these articles again afterwards", found.Target)
	}
	if len(found.Retract) > 0 { // said before: a crash in between would forget it
		fmt.Fprintf(e.err, "the editions that are put aside took back %s: before you push, run mirror-publish retract %s\n", cli.Count(len(found.Retract), "article"), strings.Join(found.Retract, " "))
	}
	if err := p.Adopt(found); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "recovered: the next edition is number %d\n", p.Size())
	fmt.Fprintln(e.err, "batches that were handed out after the backup have lost their names, and invite gives them out as if nobody had them: who then shares one with earlier readers is revoked with them; to be sure have more (batches in publisher.toml)")
	return nil
}

func (c *recoverCmd) editions(e *env, list []publisher.FoundEdition) {
	for _, ed := range list {
		if ed.Known {
			fmt.Fprintf(e.out, "  edition %d, packed %s, %s\n", ed.Number, ed.Date.Local().Format(time.DateTime), cli.Count(ed.Articles, "article"))
		} else {
			fmt.Fprintf(e.out, "  edition %d, of which only the hash is left\n", ed.Number)
		}
	}
}

func (c *recoverCmd) keys(e *env, f *publisher.Found) {
	for _, k := range []struct {
		n    int
		what string
	}{{f.RootNotes, "root note"}, {f.Epochs, "epoch key"}, {f.Revoked, "revocation"}} {
		if k.n > 0 {
			fmt.Fprintf(e.out, "  %s\n", cli.Count(k.n, k.what))
		}
	}
	if f.Lost > 0 {
		fmt.Fprintf(e.out, "  %d batches of readers, whose keys are lost: they were made after the backup\n", f.Lost)
	}
}

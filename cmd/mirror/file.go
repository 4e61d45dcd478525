package main

import (
	"fmt"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	"tamizdat/mirror/reader"
	newsync "tamizdat/mirror/sync"
)

type exportCmd struct {
	File    string `arg:"" optional:"" help:"The CAR file to write." type:"path" placeholder:"FILE"`
	Raw     string `help:"Write the layers into this new folder instead, with their passphrases, for stock age, zstd and tar." type:"path" placeholder:"DIR"`
	Channel string `help:"The first letters of the channel's ID, if there are several." placeholder:"ID"`
}

// Run writes the newest edition to a file, or its layers to a folder.
func (c *exportCmd) Run(e *env) (err error) {
	if (c.File == "") == (c.Raw == "") {
		return cli.Usage("name either a CAR file to write, or a folder with --raw")
	}
	r, ch, err := e.openChannel(c.Channel)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	if c.Raw != "" {
		return c.layers(e, r, ch)
	}
	missing, err := r.Export(e.ctx, ch, c.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "written to %s; it is encrypted: whoever gets it needs an invite of their own\n", c.File)
	if missing > 0 {
		fmt.Fprintf(e.err, "not in it, since not here either: %s\n", cli.Count(missing, "block"))
	}
	return nil
}

func (c *exportCmd) layers(e *env, r *reader.Reader, ch channel.ID) error {
	files, missing, err := r.ExportLayers(e.ctx, ch, c.Raw)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s written to %s, and what opens them to %s: whoever gets that folder can read it\n", cli.Count(files, "file"), c.Raw, reader.PassphrasesFile)
	if missing > 0 {
		fmt.Fprintf(e.err, "not written, since not wholly here: %s\n", cli.Count(missing, "layer"))
	}
	return nil
}

type importCmd struct {
	File string `arg:"" help:"A CAR file, or a folder of them." type:"path"`
}

// Run takes in what a file holds.
func (c *importCmd) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	return r.Import(e.ctx, c.File, func(ch channel.ID, res *newsync.Result) {
		e.meter.Done()
		if res.Head != nil {
			e.report(ch, res, "nothing newer in the file")
		}
	})
}

type proofCmd struct {
	File    string `arg:"" help:"The file to write, or to check." type:"path"`
	Check   bool   `help:"Check a file that somebody else wrote; nothing of yours is opened or told."`
	Channel string `help:"The first letters of the channel's ID, if there are several." placeholder:"ID"`
}

// Run writes the evidence held to a file, or checks such a file.
func (c *proofCmd) Run(e *env) (err error) {
	if c.Check {
		return c.check(e)
	}
	r, ch, err := e.openChannel(c.Channel)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	n, left, err := r.Proof(e.ctx, ch, c.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s written to %s: both sides are signed with the channel's keys\n", cli.Count(n, "contradiction"), c.File)
	if left > 0 {
		fmt.Fprintf(e.err, "%s more would convince nobody else yet, since the other history could not be fetched, and left out; sync, and write it again\n", cli.Count(left, "contradiction"))
	}
	fmt.Fprintln(e.err, "it names the channel's ID, so it tells whoever sees it that you read this channel; your invite is not in it")
	return nil
}

func (c *proofCmd) check(e *env) error {
	ch, found, err := reader.CheckProof(c.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "proven: the keys of channel %s signed histories that contradict each other\n", ch)
	for _, f := range found {
		if f.One == nil {
			fmt.Fprintf(e.out, "  %s, by a log key that the root keys have replaced, and left it out\n", stated(f.Other))
			continue
		}
		fmt.Fprintf(e.out, "  %s, and %s\n", stated(f.One), stated(f.Other))
	}
	return nil
}

func stated(h *channel.Head) string {
	return fmt.Sprintf("edition %d of %s, signed %s", h.Edition, h.Root, h.Time.UTC().Format("2006-01-02 15:04:05"))
}

// openChannel opens the reader and finds the channel that a person means.
func (e *env) openChannel(prefix string) (*reader.Reader, channel.ID, error) {
	r, err := e.open(false)
	if err != nil {
		return nil, channel.ID{}, err
	}
	ch, err := r.Resolve(e.ctx, prefix)
	if err != nil {
		cli.Close(r, &err)
		return nil, channel.ID{}, err
	}
	return r, ch, nil
}

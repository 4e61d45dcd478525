package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type rootCmd struct {
	Show    rootShowCmd    `cmd:"" help:"Show which root keys the channel has, and how many must sign."`
	New     rootNewCmd     `cmd:"" help:"Make a root key in a file; do it on a machine without network."`
	Rotate  rootRotateCmd  `cmd:"" help:"Draft the root note that puts other root keys in place."`
	Witness rootWitnessCmd `cmd:"" help:"Draft the root note that names other witnesses."`
	Sign    rootSignCmd    `cmd:"" help:"Sign a draft with a root key; do it where the key is."`
	Use     rootUseCmd     `cmd:"" help:"Put a draft in place that enough keys have signed."`
}

type rootShowCmd struct{}

// Run shows the newest root note.
func (c *rootShowCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	keys, threshold := p.RootKeys()
	fmt.Fprintf(e.out, "root note %d: %d of %s must sign the next one\n", p.Roots().Version(), threshold, cli.Count(len(keys), "key"))
	for _, k := range keys {
		where := ""
		if k.Here {
			where = "  (in this folder)"
		}
		fmt.Fprintf(e.out, "  %s%s\n", publisher.RootKeyLine(k.Public), where)
	}
	showWitnesses(e, p)
	return nil
}

type rootNewCmd struct {
	File string `arg:"" help:"The file to make; whoever has it has the key." type:"path"`
}

// Run makes a root key. It opens no channel.
func (c *rootNewCmd) Run(e *env) error {
	pub, err := publisher.NewRootKey(c.File)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, publisher.RootKeyLine(pub))
	fmt.Fprintf(e.err, "the line above goes to the publisher's machine; %s stays here, with a copy on paper or on a second stick\n", c.File)
	return nil
}

type rootRotateCmd struct {
	Draft     string   `arg:"" help:"The file to write the draft to." type:"path"`
	Key       []string `help:"A root key that holds from then on, as root new printed it; once for each. \"here\" is the one in this folder. Without any they stay as they are." placeholder:"KEY" sep:"none"`
	Threshold int      `help:"How many of them must sign the note after that (default: more than half)." placeholder:"N"`
	NewLog    bool     `help:"Put a new log key in place: the answer to a stolen one. What the old key signed that is not in this folder counts for nothing then." name:"new-log"`
	LastGood  *uint64  `help:"With --new-log: the last edition of this folder that was yours; the ones after it are left out, too (default: all were)." placeholder:"EDITION" name:"last-good"`
}

// Run drafts the next root note.
func (c *rootRotateCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	change, err := c.rotation(p)
	if err != nil {
		return err
	}
	d, err := p.Rotate(change)
	if err != nil {
		return err
	}
	if err := publisher.SaveDraft(c.Draft, d); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "root note %d drafted in %s: %d of %s must sign what follows it\n", d.Note.Version, c.Draft, d.Note.Threshold, cli.Count(len(d.Note.RootKeys), "key"))
	if c.NewLog {
		fmt.Fprintf(e.out, "it names a new log key, generation %d, which goes on from the first %s\n", d.Note.Log.Generation, cli.Count(int(d.Note.Log.Base), "edition"))
	}
	lacking(e, p, d, c.Draft)
	return nil
}

// rotation is what the flags say.
func (c *rootRotateCmd) rotation(p *publisher.Publisher) (r publisher.Rotation, err error) {
	switch {
	case len(c.Key) == 0 && !c.NewLog:
		return r, cli.Usage("say what changes: --key for each root key from then on, --new-log for a new log key, or both")
	case len(c.Key) == 0 && c.Threshold != 0:
		return r, cli.Usage("--threshold goes with --key")
	case c.LastGood != nil && !c.NewLog:
		return r, cli.Usage("--last-good goes with --new-log")
	}
	for _, s := range c.Key {
		k, err := c.key(p, s)
		if err != nil {
			return r, err
		}
		r.Keys = append(r.Keys, k)
	}
	if r.Threshold = c.Threshold; r.Threshold == 0 {
		r.Threshold = len(r.Keys)/2 + 1
	}
	r.NewLog, r.Good = c.NewLog, p.Whole()
	if c.LastGood != nil {
		r.Good = *c.LastGood + 1
	}
	return r, nil
}

func (c *rootRotateCmd) key(p *publisher.Publisher, s string) (ed25519.PublicKey, error) {
	if s != "here" {
		return publisher.ParseRootKeyLine(s)
	}
	if here := hereKeys(p); len(here) > 0 {
		return here[0].Public, nil
	}
	return nil, errors.New("there is no root key in this folder")
}

// lacking says what a draft still needs, and what to do next.
func lacking(e *env, p *publisher.Publisher, d *channel.Draft, file string) {
	old, next := p.Lacking(d)
	if old+next == 0 {
		fmt.Fprintf(e.err, "it is signed by enough keys; next: mirror-publish root use %s\n", file)
		return
	}
	fmt.Fprintf(e.err, "it still needs signatures: %d of the present root keys, %d of the new ones; carry it to them: mirror-publish root sign %s KEYFILE\n", old, next, file)
}

type rootSignCmd struct {
	Draft string `arg:"" help:"The draft; the signature is added to it." type:"existingfile"`
	Key   string `arg:"" help:"The root key's file." type:"existingfile"`
}

// Run signs. It opens no channel.
func (c *rootSignCmd) Run(e *env) error {
	d, err := publisher.LoadDraft(c.Draft)
	if err != nil {
		return err
	}
	key, err := publisher.LoadRootKey(c.Key)
	if err != nil {
		return err
	}
	if err := d.Sign(key); err != nil {
		return err
	}
	if err := publisher.SaveDraft(c.Draft, d); err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	fmt.Fprintf(e.out, "signed with %s:\n\n%s", publisher.RootKeyLine(public), d.Note.Text())
	if !slices.ContainsFunc(d.Note.RootKeys, func(k ed25519.PublicKey) bool { return k.Equal(public) }) {
		fmt.Fprintln(e.err, "this draft does not name that key: its signature counts only if the key leaves with this note; if it is to stay, or to come, it is the wrong key or the wrong draft")
	}
	return nil
}

type rootUseCmd struct {
	Draft string `arg:"" help:"The draft." type:"existingfile"`
}

// Run makes a draft the newest root note.
func (c *rootUseCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	d, err := publisher.LoadDraft(c.Draft)
	if err != nil {
		return err
	}
	if err := checkRoots(e, p, d); err != nil {
		return err
	}
	held, gone := len(hereKeys(p)), p.TakenBack()
	if err := p.UseRoot(d); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "root note %d holds from now on; the next pack and push carry it to readers, also without news\n", p.Roots().Version())
	if again := slices.DeleteFunc(gone, func(id string) bool { _, err := p.Article(id); return err != nil }); len(again) > 0 {
		fmt.Fprintf(e.err, "the editions that are left out took back %s, which readers would have again: before you push, run mirror-publish retract %s\n", cli.Count(len(again), "article"), strings.Join(again, " "))
	}
	if p.Unsaid() {
		fmt.Fprintln(e.err, "a new log key is in place. Pack and push at once: until they hear of it, readers believe the old one")
	}
	if held > len(hereKeys(p)) {
		fmt.Fprintln(e.err, "the root key that was in this folder was destroyed: it has no use any more. Copies of the folder may still hold it")
	}
	return nil
}

func hereKeys(p *publisher.Publisher) (here []publisher.RootKey) {
	keys, _ := p.RootKeys()
	for _, k := range keys {
		if k.Here {
			here = append(here, k)
		}
	}
	return here
}

// checkRoots keeps a stale or copied folder from putting a second root note in place under
// one number.
func checkRoots(e *env, p *publisher.Publisher, d *channel.Draft) error {
	return ask(e, p, func(ctx context.Context, targets []publisher.Target) ([]error, error) {
		return p.CheckRoots(ctx, targets, d)
	})
}

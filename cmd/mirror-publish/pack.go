package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/publisher/source"
)

type packCmd struct {
	Sources []string `arg:"" optional:"" name:"source" help:"Folder, .md, .html or .txt file, or RSS, Atom or JSON feed (file or URL). Default: sources of publisher.toml."`
	Restore []string `help:"Bring an article back that was taken back, by its ID." placeholder:"ID"`
}

// maxArticles bounds what one run reads into memory.
const maxArticles = 10_000

// Run makes one new edition of what is new.
func (c *packCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	sources := c.Sources
	if len(sources) == 0 {
		sources = p.Config().Sources
	}
	if len(sources) == 0 {
		return cli.Usage("name a source: a folder, a file, or a feed's address")
	}
	opts := source.Options{MaxArticles: maxArticles, Client: e.httpClient(), Log: e.log}
	if langs := p.Config().Langs; len(langs) > 0 {
		opts.Lang = langs[0]
	}
	articles, warnings, readErr := source.Read(e.ctx, opts, sources...)
	for _, w := range warnings {
		fmt.Fprintf(e.err, "note: %s\n", w)
	}
	if len(articles) == 0 && readErr != nil {
		return readErr
	}
	if err := restore(p, c.Restore, articles); err != nil {
		return err
	}
	now := time.Now()
	if len(p.Fresh(articles)) > 0 || p.Owes(now) {
		if err := checkTargets(e, p); err != nil {
			return err
		}
		tellPause(e, p, now)
	}
	made, err := p.Pack(articles, now)
	if made != nil {
		tellWithheld(e, made)
	}
	switch {
	case errors.Is(err, publisher.ErrNothingNew):
		fmt.Fprintf(e.out, "nothing new: %s packed before, and not changed since\n", cli.Count(made.Unchanged, "article"))
		return readErr
	case err != nil:
		return err
	}
	if made.Editions > 1 {
		fmt.Fprintf(e.out, "%d editions, since a front page holds only so many headlines; the newest:\n", made.Editions)
	}
	fmt.Fprintf(e.out, "edition %d: %s, %s (%s text, %s images)\n", made.Edition, cli.Count(made.Articles, "article"),
		cli.Bytes(made.Total), cli.Bytes(made.Sizes["text"]), cli.Bytes(made.Sizes["media"]))
	if made.Corrected > 0 {
		fmt.Fprintf(e.out, "%s corrected: the new text takes the old one's place, and is marked\n", cli.Count(made.Corrected, "article"))
	}
	if made.Unchanged > 0 {
		fmt.Fprintf(e.out, "%s packed before, and not changed since\n", cli.Count(made.Unchanged, "article"))
	}
	return readErr
}

// tellPause doubts the clock where the newest edition is of the future, or of long ago.
func tellPause(e *env, p *publisher.Publisher, now time.Time) {
	if _, strange := p.Pause(now); strange {
		n := p.Size() - 1
		fmt.Fprintf(e.err, "note: by this machine's clock it is %s, and edition %d was packed on %s; if the clock is wrong, set it and pack again before you push\n",
			now.Local().Format(time.DateOnly), n, p.Date(n).Local().Format(time.DateOnly))
	}
}

// checkTargets keeps a stale or copied folder from signing a second history.
func checkTargets(e *env, p *publisher.Publisher) error { return ask(e, p, p.CheckTargets) }

// ask puts a question to all targets, and names those that may hold more than this folder,
// for all that is known.
func ask(e *env, p *publisher.Publisher, question func(context.Context, []publisher.Target) (doubts []error, err error)) error {
	if len(p.Config().Targets) == 0 {
		return nil
	}
	targets, err := p.Targets(e.network)
	if err != nil {
		return err
	}
	doubts, err := question(e.ctx, targets)
	for _, err := range doubts {
		fmt.Fprintf(e.err, "note: it is not known what this target holds: %s\n", cli.OneLine(err))
	}
	return err
}

// httpClient fetches feeds through the one network seam.
func (e *env) httpClient() *http.Client {
	return &http.Client{
		Timeout: 2 * time.Minute,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return e.network.Dial(ctx, network, addr)
			},
			TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2: true,
		},
	}
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type listCmd struct{}

// Run lists what has been packed and stands.
func (c *listCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	all := p.Articles()
	for _, a := range all {
		fmt.Fprintf(e.out, "%s  %s  %-7s %s\n", a.ID, a.Date.Local().Format("2006-01-02 15:04"), a.Lang, a.Title)
	}
	if len(all) == 0 {
		fmt.Fprintln(e.err, "nothing has been packed yet; run mirror-publish pack SOURCE")
	}
	return nil
}

type retractCmd struct {
	Articles []string `arg:"" name:"article" help:"The article's ID as mirror-publish list prints it, its beginning, or its source address."`
}

// Run takes articles back.
func (c *retractCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	var ids []string
	var said []bundle.Entry
	for _, name := range c.Articles {
		a, err := p.Article(name)
		if errors.Is(err, publisher.ErrNoArticle) {
			return fmt.Errorf("%q: %w; mirror-publish list shows all", name, err)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		ids, said = append(ids, a.ID), append(said, a)
	}
	if err := checkTargets(e, p); err != nil {
		return err
	}
	now := time.Now()
	tellPause(e, p, now)
	made, err := p.Retract(ids, now)
	if err != nil {
		return err
	}
	for _, a := range said {
		fmt.Fprintf(e.out, "edition %d takes back: %s  %s\n", made.Edition, a.ID, a.Title)
	}
	fmt.Fprintln(e.err, "push now: readers delete it when they next look for news; copies that were made outside the program stay, and pack leaves it out from now on")
	return nil
}

// restore lets the next packing bring articles back.
func restore(p *publisher.Publisher, names []string, articles []bundle.Article) error {
	for _, name := range names {
		id, err := p.Restore(name)
		if err != nil {
			return fmt.Errorf("--restore %s: %w", name, err)
		}
		found := false
		for _, a := range articles {
			found = found || a.ID == id
		}
		if !found {
			return fmt.Errorf("--restore %s: the sources don't hold that article; name the file or feed that does", name)
		}
	}
	return nil
}

// tellWithheld names the articles that were left out since they had been taken back.
func tellWithheld(e *env, made *publisher.Packing) {
	if len(made.Gone) > 0 {
		fmt.Fprintf(e.err, "note: taken back before, and left out: %s; pack --restore ID brings one back\n", strings.Join(made.Gone, ", "))
	}
}

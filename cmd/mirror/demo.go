package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/cli"
	"tamizdat/mirror/demo"
	"tamizdat/mirror/demo/articles"
	"tamizdat/mirror/publisher/source"
)

type demoCmd struct {
	Check    bool     `help:"No page: fetch over each path alone, all others blocked, or under --scenario over all; and compare."`
	Scenario string   `help:"What the censor does: a name, two joined by +, or \"list\" for all names." placeholder:"NAME"`
	Source   []string `help:"Publish these instead of the built-in articles: folders, files, feeds (files, no addresses)." placeholder:"SOURCE"`
	JSON     bool     `help:"With --check: print JSON." name:"json"`
	Listen   string   `help:"Loopback address of the page." default:"127.0.0.1:0" placeholder:"127.0.0.1:PORT"`
}

// errCheck is returned when a row failed; the rows have said why.
var errCheck = errors.New("not every path delivered the news")

// Run runs the demo.
func (c *demoCmd) Run(e *env) error {
	if c.JSON && !c.Check {
		return cli.Usage("--json goes with --check")
	}
	if slices.ContainsFunc(c.Source, func(s string) bool { return strings.Contains(s, "://") }) {
		return cli.Usage("the demo takes files and folders only; save the feed to a file first")
	}
	switch c.Scenario {
	case "":
	case "list":
		return listScenarios(e)
	default:
		if _, err := demo.Find(c.Scenario); err != nil {
			return cli.Usage("%v; --scenario list names all", err)
		}
	}
	// quic-go prints a hint about the system's UDP buffers on each start; a demo
	// on loopback does not need it.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		return err
	}
	list, err := c.articles(e)
	if err != nil {
		return err
	}
	w, err := demo.NewWorld(e.ctx, e.network, "Radio Example", e.log)
	if err != nil {
		return err
	}
	if c.Check {
		err = c.check(e, w, list)
	} else {
		err = c.live(e, w, list)
	}
	return errors.Join(err, w.Close())
}

func (c *demoCmd) articles(e *env) ([]bundle.Article, error) {
	opts := source.Options{Log: e.log}
	var list []bundle.Article
	var warnings []source.Warning
	var err error
	if len(c.Source) > 0 {
		list, warnings, err = source.Read(e.ctx, opts, c.Source...)
	} else {
		list, err = articles.Read(e.ctx)
	}
	for _, w := range warnings {
		fmt.Fprintf(e.err, "note: %s\n", w)
	}
	if err == nil && len(list) == 0 {
		err = source.ErrNoArticles
	}
	return list, err
}

func (c *demoCmd) check(e *env, w *demo.World, list []bundle.Article) error {
	if _, err := w.Publish(e.ctx, list); err != nil {
		return err
	}
	if c.Scenario != "" {
		return c.try(e, w)
	}
	rows, err := w.Check(e.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(e, rows)
	} else {
		err = printRows(e, rows)
	}
	for _, r := range rows {
		if !r.OK {
			return errors.Join(errCheck, err)
		}
	}
	return err
}

// errTrial is returned when a trial failed; its row has said why.
var errTrial = errors.New("the news did not arrive")

// try is check under a scenario.
func (c *demoCmd) try(e *env, w *demo.World) error {
	s, err := demo.Find(c.Scenario)
	if err != nil {
		return err
	}
	t, err := w.Try(e.ctx, s)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(e, t)
	} else {
		err = printTrial(e, t)
	}
	if !t.OK {
		return errors.Join(errTrial, err)
	}
	return err
}

func printTrial(e *env, r demo.Trial) error {
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\t\tbrought by\thead\theadlines\ttext\tbytes\tarticles\timages\t")
	ok := "ok"
	if !r.OK {
		ok = "FAILED"
	}
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", r.Scenario, ok, cmp.Or(r.Path, "-"), took(r.ToHead), took(r.ToHeadlines),
		took(r.ToText), cli.Bytes(r.Bytes), r.Articles, r.Images, r.Error)
	return t.Flush()
}

// listScenarios prints a line for each scenario that the demo plays.
func listScenarios(e *env) error {
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for _, s := range demo.Playable() {
		fmt.Fprintf(t, "%s\t%s\n", s.Name, s.Summary)
	}
	return t.Flush()
}

func printJSON(e *env, v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printRows(e *env, rows []demo.Row) error {
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "path alone\t\thead\theadlines\ttext\tbytes\tarticles\timages\t")
	for _, r := range rows {
		ok := "ok"
		if !r.OK {
			ok = "FAILED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", r.Path, ok, took(r.ToHead), took(r.ToHeadlines), took(r.ToText),
			cli.Bytes(r.Bytes), r.Articles, r.Images, r.Error)
	}
	return t.Flush()
}

func took(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// live shows the page.
func (c *demoCmd) live(e *env, w *demo.World, list []bundle.Article) error {
	for i := range list { // a front page of today
		list[i].Date = time.Now().UTC().Add(-time.Duration(i+1) * time.Hour).Truncate(time.Second)
	}
	l, err := demo.NewLive(e.ctx, w, list, e.log)
	if err != nil {
		return err
	}
	if c.Scenario != "" {
		if err := l.Play(c.Scenario); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	ln, err := listenLoopback(e, c.Listen)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	err = l.Serve(e.ctx, ln, func(url string) {
		fmt.Fprintln(e.out, url)
		fmt.Fprintln(e.err, "open this address in a browser on this machine; Ctrl-C ends the demo and deletes what it made")
	})
	return errors.Join(err, l.Close())
}

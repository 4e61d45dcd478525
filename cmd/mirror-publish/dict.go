package main

import (
	"errors"
	"fmt"

	"tamizdat/bundle"
	"tamizdat/internal/cli"
	"tamizdat/mirror/publisher"
)

type dictCmd struct {
	Train dictTrainCmd `cmd:"" help:"Make a dictionary from the newest editions' articles; later editions use it where it makes them smaller."`
	Drop  dictDropCmd  `cmd:"" help:"Use none from the next edition on."`
}

type dictTrainCmd struct{}

// Run makes a dictionary.
func (c *dictTrainCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	t, err := p.TrainDictionary()
	switch {
	case errors.Is(err, bundle.ErrFewArticles):
		return fmt.Errorf("%w; train again when more is published", err)
	case errors.Is(err, publisher.ErrNoGain):
		return fmt.Errorf("%w; nothing has changed", err)
	case err != nil:
		return err
	}
	fmt.Fprintf(e.out, "a dictionary of %s made from %s\n", cli.Bytes(int64(t.Size)), cli.Count(t.Articles, "article"))
	fmt.Fprintf(e.out, "the newest %d of them, with one made of the others: %s instead of %s, %d %% less\n",
		t.Tested, cli.Bytes(int64(t.After)), cli.Bytes(int64(t.Before)), 100*(t.Before-t.After)/t.Before)
	fmt.Fprintf(e.out, "the next edition brings it, %s more; those after it use it again\n", cli.Bytes(int64(t.File)))
	return nil
}

type dictDropCmd struct{}

// Run drops the dictionary.
func (c *dictDropCmd) Run(e *env) (err error) {
	p, err := e.open()
	if err != nil {
		return err
	}
	defer cli.Close(p, &err)
	switch had, err := p.DropDictionary(); {
	case err != nil:
		return err
	case !had:
		fmt.Fprintln(e.out, "there is no dictionary")
	default:
		fmt.Fprintln(e.out, "editions go without a dictionary from the next one on")
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/cli"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/library"
	"tamizdat/mirror/reader"
)

type listCmd struct {
	Lang   string `help:"Only this language." placeholder:"TAG"`
	Search string `help:"Only what holds all these words." placeholder:"WORDS"`
	Unread bool   `help:"Only what was not read yet."`
	N      int    `help:"How many." default:"50" short:"n"`
}

// Run prints headlines, newest first: ID, date, language, title.
func (c *listCmd) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	n := 0
	for h, err := range r.Library().Headlines(e.ctx, library.Query{Lang: c.Lang, Search: c.Search, Unread: c.Unread, Limit: c.N}) {
		if err != nil {
			return err
		}
		n++
		fmt.Fprintf(e.out, "%s  %s  %-7s %s%s\n", h.ID, h.Date.Local().Format("2006-01-02 15:04"), h.Lang, plain(h.Title), corrected(h.Corrected, "  [corrected %s]", "2006-01-02 15:04"))
	}
	if err := tellGone(e, r); err != nil {
		return err
	}
	switch {
	case n == 0 && (c.Lang != "" || c.Search != "" || c.Unread):
		fmt.Fprintln(e.err, "no headline here is like that; mirror list shows all")
	case n == 0:
		fmt.Fprintln(e.err, "no headlines; mirror sync fetches what is new")
	}
	return nil
}

// corrected puts a date into a format, nothing for the zero date.
func corrected(at time.Time, format, layout string) string {
	if at.IsZero() {
		return ""
	}
	return fmt.Sprintf(format, at.Local().Format(layout))
}

// tellGone says what was taken back lately: a person looks for what was here.
func tellGone(e *env, r *reader.Reader) error {
	ids, err := r.Library().Channels(e.ctx)
	if err != nil {
		return err
	}
	for _, ch := range ids {
		m, err := r.Library().Meta(e.ctx, ch)
		if err != nil {
			return err
		}
		if m.GoneLately > 0 {
			fmt.Fprintf(e.err, "%s: %s taken back by the publisher lately, and deleted here\n", ch.String()[:8], cli.Count(m.GoneLately, "article"))
		}
	}
	return nil
}

type readCmd struct {
	ID string `arg:"" help:"The article's ID as mirror list prints it, or its beginning."`
}

// Run prints one article as plain text.
func (c *readCmd) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	h, err := find(e, r, strings.ToLower(c.ID))
	if err != nil {
		return err
	}
	a, err := r.Shelf().Article(e.ctx, h.Channel, h.ID)
	if errors.Is(err, bundle.ErrMissing) {
		return errors.New("only the headline has arrived so far; mirror sync fetches the text")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s\n\n", plain(a.Title))
	const layout = "2 January 2006 15:04"
	fmt.Fprintf(e.out, "%s%s\n\n", a.Date.Local().Format(layout), corrected(a.Corrected, ", corrected %s", layout))
	fmt.Fprintln(e.out, plain(safehtml.Text(a.Body)))
	if a.Source != "" {
		fmt.Fprintf(e.out, "\nFirst published at %s (opening it shows your interest to whoever watches)\n", plain(a.Source))
	}
	return r.Library().SetRead(e.ctx, h.Channel, h.ID, true)
}

// minID is how many letters of an ID say which article is meant.
const minID = 4

func find(e *env, r *reader.Reader, id string) (library.Headline, error) {
	if len(id) < minID {
		return library.Headline{}, cli.Usage("name at least %d letters of the ID; mirror list shows them", minID)
	}
	var found []library.Headline
	for h, err := range r.Library().Headlines(e.ctx, library.Query{}) {
		if err != nil {
			return library.Headline{}, err
		}
		if strings.HasPrefix(h.ID, id) {
			found = append(found, h)
		}
	}
	switch len(found) {
	case 0:
		if err := takenBack(e, r, id); err != nil {
			return library.Headline{}, err
		}
		return library.Headline{}, fmt.Errorf("no article %q; mirror list shows what is here", short(id))
	case 1:
		return found[0], nil
	}
	return library.Headline{}, errors.New("several articles begin so; name more letters")
}

// takenBack is an error that says so if an article was here until its publisher took
// it back, nil if not.
func takenBack(e *env, r *reader.Reader, id string) error {
	ids, err := r.Library().Channels(e.ctx)
	if err != nil {
		return err
	}
	for _, ch := range ids {
		gone, err := r.Library().Gone(e.ctx, ch)
		if err != nil {
			return err
		}
		for _, g := range gone {
			if strings.HasPrefix(g.ID, id) {
				return fmt.Errorf("the publisher took this article back (edition of %s), and it was deleted here", g.Date.Local().Format("2 January 2006"))
			}
		}
	}
	return nil
}

// plain keeps a publisher's text from talking to the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

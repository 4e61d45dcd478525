package cmd_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/publisher"
)

// TestPublishersClock: who packs by a clock that does not fit the newest edition is told.
func TestPublishersClock(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if err := os.WriteFile(d.path("news.txt"), []byte("The tide tables\n\nThey are printed again."), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := publisher.Init(d.path("pub"), "Radio Example", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	article := bundle.Article{ID: "0123456789abcdef", Title: "Ahead", Lang: "en", Dir: "ltr", Body: "<p>Of its time.</p>", Date: time.Now().UTC()}
	if _, err := p.Pack([]bundle.Article{article}, time.Now().AddDate(10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	said := d.must("mirror-publish", "--dir", "pub", "pack", "news.txt").stderr()
	if !regexp.MustCompile(`^note: by this machine's clock it is \S+, and edition 0 was packed on \S+; if the clock is wrong, set it`).MatchString(said) {
		t.Errorf("pack says: %s", said)
	}
}

// TestClock: to a reader whose clock is three years off, news is three years
// away the other way. It is shown all the same, with a warning.
func TestClock(t *testing.T) {
	t.Parallel()
	const years = 3 * 365 * 24 * time.Hour
	for _, c := range []struct {
		name   string
		off    time.Duration // of the news, seen from the reader
		status string        // "": no warning
	}{
		{"right", 0, ""},
		{"behind", years, "WARNING: .*in the future by this device's clock"},
		{"ahead", -years, "WARNING: nothing newer for 109[45] days.*clock is ahead"},
	} {
		if c.off <= 0 && brief() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			now := time.Now().Add(c.off)
			p, err := publisher.Init(d.path("pub"), "Radio Example", []string{"en"})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			article := bundle.Article{
				ID: "0123456789abcdef", Title: "The lighthouse keeps time", Lang: "en", Dir: "ltr",
				Body: "<p>Its lamp turns once a minute.</p>", Date: now.UTC().Truncate(time.Second),
			}
			if _, err := p.Pack([]bundle.Article{article}, now); err != nil {
				t.Fatal(err)
			}
			if err := p.Export(t.Context(), d.path("news.car")); err != nil {
				t.Fatal(err)
			}
			inv, err := p.Invite("readers")
			if err != nil {
				t.Fatal(err)
			}
			d.checked(d.feed(inv.String(), "mirror", "--dir", "reader", "add", "-"))
			d.must("mirror", "--dir", "reader", "import", "news.car")
			list := d.must("mirror", "--dir", "reader", "list").stdout()
			id, _, _ := strings.Cut(list, " ")
			if !strings.Contains(list, article.Title) {
				t.Fatalf("the list is:\n%s", list)
			}
			if text := d.must("mirror", "--dir", "reader", "read", id).stdout(); !strings.Contains(text, "turns once a minute") {
				t.Errorf("the article reads:\n%s", text)
			}
			status := d.must("mirror", "--dir", "reader", "status").stdout()
			if warned := strings.Contains(status, "WARNING"); warned != (c.status != "") || !regexp.MustCompile(c.status).MatchString(status) {
				t.Errorf("the status says:\n%s", status)
			}
		})
	}
}

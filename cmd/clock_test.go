package cmd_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/publisher"
)

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

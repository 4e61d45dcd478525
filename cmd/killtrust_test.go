package cmd_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestKillTrust kills a publisher at random moments of what he does seldom, with keys,
// root notes and backups. The same command, run again, must succeed or say that it was
// done; then the channel goes on, and no number that was pushed means another edition.
func TestKillTrust(t *testing.T) {
	t.Parallel()
	k := newKilling(t)
	for n := range 4 {
		shelve(t, k.path(fmt.Sprintf("news-%d", n)), invent(k.rng, fmt.Sprint(n), 3, 2<<10))
	}
	k.pub = k.studio("pub", "Radio Example", "en")
	config := k.path("pub", "publisher.toml")
	text, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, append(text, "\n[[target]]\nname = \"stick\"\nfolder = \"../stick\"\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	publish := func(args ...string) *process {
		t.Helper()
		return k.must("mirror-publish", append([]string{"--dir", "pub"}, args...)...)
	}
	publish("invite", "--batch", "teachers")
	publish("pack", "news-0")
	publish("push")
	cp := func(from, to string) {
		t.Helper()
		if err := os.CopyFS(k.path(to), os.DirFS(k.path(from))); err != nil {
			t.Fatal(err)
		}
	}
	cp("pub", "old")
	publish("pack", "news-1")
	publish("push")
	publish("root", "rotate", "draft", "--new-log")
	// A backup that has packed while its target could not be seen.
	if err := os.Rename(k.path("stick"), k.path("away")); err != nil {
		t.Fatal(err)
	}
	k.must("mirror-publish", "--dir", "old", "pack", "news-2")
	if err := os.Rename(k.path("away"), k.path("stick")); err != nil {
		t.Fatal(err)
	}
	dirs := []string{"pub", "old", "stick"}
	for _, dir := range dirs {
		cp(dir, "first-"+dir)
	}

	for _, c := range []struct {
		dir, done string
		args      []string
	}{
		{"pub", "revoked already", []string{"revoke", "teachers"}},
		{"pub", "", []string{"root", "rotate", "another", "--new-log", "--last-good", "0"}},
		{"pub", "", []string{"root", "use", "draft"}},
		{"pub", "nothing new", []string{"pack", "news-2"}},
		{"old", "nothing to recover", []string{"recover", "--yes", "--put-aside"}},
	} {
		args := append([]string{"--dir", c.dir}, c.args...)
		step := strings.Join(c.args, " ")
		kills := 8
		if brief() {
			kills = 1
		}
		for n := range kills + 1 { // the first one is not killed, and says how long it takes
			for _, dir := range dirs {
				if err := os.RemoveAll(k.path(dir)); err != nil {
					t.Fatal(err)
				}
				cp("first-"+dir, dir)
			}
			pushed := k.heads("stick")
			if n == 0 {
				k.took[step] = k.must("mirror-publish", args...).took.Seconds()
			} else {
				k.victim(step, "mirror-publish", args...)
				if p := k.run("mirror-publish", args...); p.code() != 0 && (c.done == "" || !strings.Contains(p.stderr()+p.stdout(), c.done)) {
					t.Fatalf("%s, after a kill: %s", step, p)
				}
			}
			if p := k.run("mirror-publish", "--dir", c.dir, "pack", "news-3"); p.code() != 0 {
				t.Fatalf("%s, and then: %s", step, p)
			}
			if p := k.run("mirror-publish", "--dir", c.dir, "push"); p.code() != 0 {
				t.Fatalf("%s, and then: %s", step, p)
			}
			out, here := k.heads("stick"), k.heads(c.dir+"/editions")
			if len(out) <= len(pushed) {
				t.Errorf("%s: nothing new is on the stick", step)
			}
			for n, leaf := range pushed {
				if !bytes.Equal(out[n], leaf) {
					t.Errorf("%s: edition %d was pushed and is another one now", step, n)
				}
			}
			for n, leaf := range here {
				if o, ok := out[n]; ok && !bytes.Equal(o, leaf) {
					t.Errorf("%s: edition %d is two things", step, n)
				}
			}
		}
	}
	t.Logf("%d kills, %d of them hit a command at work", k.kills, k.hits)
	if !brief() && k.hits*2 <= k.kills {
		t.Errorf("only %d of %d kills hit a command at work", k.hits, k.kills)
	}
}

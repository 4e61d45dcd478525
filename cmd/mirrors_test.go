package cmd_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/internal/testservers"
)

// TestStaticMirrors is docs/publisher.md's section on static mirrors, as typed:
// each kind is filled by push, and a reader who has nothing but an invite reads
// from it. The readers' side is on plain HTTP, which loopback alone allows:
// HTTPS is mirror/sync's and transport/static's to test.
func TestStaticMirrors(t *testing.T) {
	t.Parallel()
	type place struct {
		flags []string // of mirror-publish target
		dir   string   // what a web server shows
		url   string   // where readers find it; a file server over dir if empty
	}
	for kind, set := range map[string]func(t *testing.T, d *desk) place{
		"folder": func(_ *testing.T, d *desk) place {
			return place{flags: []string{"--mirror", d.path("www")}, dir: d.path("www")}
		},
		"git": func(t *testing.T, d *desk) place {
			return place{flags: []string{"--git", clone(t, d)}, dir: d.path("pages")}
		},
		"webdav": func(t *testing.T, d *desk) place {
			if err := os.MkdirAll(d.path("dav", "news"), 0o700); err != nil {
				t.Fatal(err)
			}
			url, secret := testservers.WebDAV(t, d.path("dav"), nil)
			return place{flags: []string{"--webdav", url + "/dav/news", "--credentials", secret}, dir: d.path("dav", "news")}
		},
		"s3": func(t *testing.T, _ *desk) place {
			url := testservers.Bucket(t, t.TempDir(), "news")
			return place{flags: []string{"--s3", url, "--credentials", testservers.KeysFile(t)}, url: url}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			p := set(t, d)
			if p.url == "" {
				srv := httptest.NewServer(http.FileServer(http.Dir(p.dir)))
				t.Cleanup(srv.Close)
				p.url = srv.URL
			}
			s := d.studio(d.path("pub"), "Radio", "en")
			pub := func(args ...string) *process {
				t.Helper()
				return d.must("mirror-publish", append([]string{"--dir", s.dir}, args...)...)
			}
			pub(append([]string{"target", "pages", "--url", p.url}, p.flags...)...)
			s.invite(d.path("invite.txt"))
			d.must("mirror", "--dir", d.path("reader"), "add", d.path("invite.txt"))
			for i, title := range []string{"Ferry timetable", "Winter timetable"} {
				shelve(t, d.path("news"), []story{{name: title, lang: "en", title: title, paragraphs: []string{"It leaves at seven."}}})
				pub("pack", d.path("news"))
				if out := pub("push").stdout(); !strings.Contains(out, "pages: edition "+string(rune('0'+i))+" arrived") {
					t.Errorf("push: %s", out)
				}
				if out := pub("push").stdout(); !strings.Contains(out, "already") {
					t.Errorf("push again: %s", out)
				}
				d.must("mirror", "--dir", d.path("reader"), "sync")
				id := d.must("mirror", "--dir", d.path("reader"), "list").find(t, `^(\S{4})\S*  .*`+title)
				if out := d.must("mirror", "--dir", d.path("reader"), "read", id).stdout(); !strings.Contains(out, "It leaves at seven.") {
					t.Errorf("read: %s", out)
				}
			}
			if out := pub("status").stdout(); !strings.Contains(out, "pages: holds edition 1, the newest") {
				t.Errorf("status: %s", out)
			}
			if kind == "git" {
				if n := git(t, d.path("pages"), "rev-list", "--count", "@{upstream}"); n != "3" {
					t.Errorf("the remote has %s commits", n)
				}
			}
		})
	}
}

// clone makes a working copy whose branch has an upstream.
func clone(t *testing.T, d *desk) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		const missing = "no git here, so no working copy was written: install the package git"
		if os.Getenv("TAMIZDAT_CI") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	d.env = append(d.env, gitEnv...)
	remote, dir := d.path("remote.git"), d.path("pages")
	git(t, d.dir, "init", "--quiet", "--bare", "--initial-branch", "main", remote)
	git(t, d.dir, "clone", "--quiet", remote, dir)
	git(t, dir, "config", "user.name", "Test")
	git(t, dir, "config", "user.email", "test@example.org")
	if err := os.WriteFile(filepath.Join(dir, ".nojekyll"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", ".nojekyll")
	git(t, dir, "commit", "--quiet", "--message", "begin")
	git(t, dir, "push", "--quiet", "--set-upstream", "origin", "main")
	return dir
}

// gitEnv keeps the configuration of who runs the test out of it.
var gitEnv = []string{"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1"}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), gitEnv...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out))
}

package publisher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport/transporttest"
)

// pushTo pushes to the named targets of publisher.toml.
func pushTo(t *testing.T, p *Publisher, names ...string) {
	t.Helper()
	to, err := p.Targets(&netreal.Network{}, names...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Push(t.Context(), to, nil) {
		if r.Err != nil {
			t.Fatalf("%s: %v", r.Target, r.Err)
		}
	}
}

// packHours packs articles of transporttest, with pictures.
func packHours(t *testing.T, p *Publisher, hours ...int) {
	t.Helper()
	for _, n := range hours {
		if _, err := p.Pack(transporttest.Articles(n), transporttest.Start.Add(time.Duration(n)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
}

// mirrorTargets makes an empty static mirror of each kind, without a URL for readers.
var mirrorTargets = map[string]func(t *testing.T) TargetConfig{
	"folder": func(t *testing.T) TargetConfig { return TargetConfig{Mirror: filepath.Join(t.TempDir(), "www")} },
	"git": func(t *testing.T) TargetConfig {
		testservers.Need(t, "git", "git")
		t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
		t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
		dir := t.TempDir()
		for _, args := range [][]string{{"init", "--quiet", "--initial-branch", "main"}, {"config", "user.name", "Test"}, {"config", "user.email", "test@example.org"}} {
			if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("git %s: %v\n%s", args[0], err, out)
			}
		}
		return TargetConfig{Git: dir}
	},
	"webdav": func(t *testing.T) TargetConfig {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "news"), 0o700); err != nil {
			t.Fatal(err)
		}
		url, secret := testservers.WebDAV(t, dir, nil)
		return TargetConfig{WebDAV: url + "/dav/news", Credentials: secret}
	},
	"s3": func(t *testing.T) TargetConfig {
		return TargetConfig{S3: testservers.Bucket(t, t.TempDir(), "news"), Credentials: testservers.KeysFile(t)}
	},
}

// TestRecoverFromMirrors: a static mirror is read back out of its store, whatever it is
// and whether readers are led there or not.
func TestRecoverFromMirrors(t *testing.T) {
	for name, mk := range mirrorTargets {
		t.Run(name, func(t *testing.T) {
			b := newBacked(t)
			cfg := b.p.Config()
			target := mk(t)
			target.Name = "mirror"
			cfg.Targets = []TargetConfig{target}
			if err := b.p.Configure(cfg); err != nil {
				t.Fatal(err)
			}
			packHours(t, b.p, 0)
			pushTo(t, b.p)
			old := b.backup("backup")
			packHours(t, b.p, 1, 2)
			pushTo(t, b.p)
			p, found := recovered(t, reopen(t, old))
			if found.Target != "mirror" || len(found.Editions) != 2 || !found.Editions[0].Known || found.Also != nil {
				t.Errorf("%s, %v, %+v", found.Target, found.Also, found.Editions)
			}
			if !slices.Equal(p.history(p.Size()).Leaves(), b.p.history(3).Leaves()) {
				t.Errorf("another log, of %d editions", p.Size())
			}
			packHours(t, p, 3)
			pushTo(t, p)
		})
	}
}

// TestRecoverByURL: where the store can't be opened, since its password is not in the
// backup, the mirror is read as its readers do; and if there is no way at all, that is told.
func TestRecoverByURL(t *testing.T) {
	b := newBacked(t)
	cfg := b.p.Config()
	cfg.Targets = []TargetConfig{{Name: "bucket", S3: "https://127.0.0.1:1/news", Credentials: "keys/nothing", URL: "https://127.0.0.1:1"}}
	if err := b.p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	from, err := b.p.readBack(t.Context(), &netreal.Network{}, b.p.cfg.Targets[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := from.close(); err != nil {
		t.Fatal(err)
	}
	cfg.Targets[0].URL = ""
	if err := b.p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := b.p.Find(t.Context(), &netreal.Network{}); !errors.Is(err, ErrNotBehind) || !strings.Contains(err.Error(), "bucket: ") {
		t.Errorf("%v", err)
	}
}

// furthestBacked is a channel with two folders and two mirrors as targets.
func furthestBacked(t *testing.T) (b *backed, dir func(name string) string) {
	t.Helper()
	b = newBacked(t)
	dir = func(name string) string { return filepath.Join(b.dir, name) }
	cfg := b.p.Config()
	cfg.Targets = []TargetConfig{
		{Name: "slow", Mirror: dir("slow")},
		{Name: "stick", Folder: dir("stick")},
		{Name: "shelf", Folder: dir("shelf")},
		{Name: "www", Mirror: dir("www")},
	}
	if err := b.p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	return b, dir
}

// TestRecoverTheFurthest: of several targets the one that holds the most counts, or
// another that shows the same where that is damaged; never one that holds less.
func TestRecoverTheFurthest(t *testing.T) {
	b, dir := furthestBacked(t)
	packHours(t, b.p, 0)
	pushTo(t, b.p)
	old := b.backup("backup")
	packHours(t, b.p, 1)
	pushTo(t, b.p, "slow")
	packHours(t, b.p, 2)
	pushTo(t, b.p, "stick", "shelf")
	p := reopen(t, old)
	find := func(names ...string) *Found {
		t.Helper()
		found, err := p.Find(t.Context(), &netreal.Network{}, names...)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if f := find(); f.Target != "stick" || !slices.Equal(f.Also, []string{"shelf"}) || f.head.Edition != 2 {
		t.Errorf("%s and %v, edition %d", f.Target, f.Also, f.head.Edition)
	}
	if f := find("slow", "www"); f.Target != "slow" || f.Also != nil || f.head.Edition != 1 {
		t.Errorf("of those named: %s and %v, edition %d", f.Target, f.Also, f.head.Edition)
	}
	spoil := func(name string) {
		t.Helper()
		car := filepath.Join(dir(name), "edition-000002.car")
		whole, err := os.ReadFile(car)
		if err == nil {
			err = os.WriteFile(car, whole[:len(whole)-1], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	spoil("stick")
	if f := find(); f.Target != "shelf" || f.head.Edition != 2 {
		t.Errorf("one is damaged: %s, edition %d", f.Target, f.head.Edition)
	}
	spoil("shelf")
	before := snapshot(t, old)
	if f, err := p.Find(t.Context(), &netreal.Network{}); f != nil || err == nil || !strings.Contains(err.Error(), "stick: ") || !strings.Contains(err.Error(), "shelf: ") {
		t.Errorf("both are damaged: found %v, %v", f != nil, err)
	}
	if !slices.Equal(before, snapshot(t, old)) {
		t.Error("something was taken all the same")
	}
}

// TestRecoverAgainstEachOther: where one target shows something else than the one that
// holds the most, nothing is taken, unless that one is left out.
func TestRecoverAgainstEachOther(t *testing.T) {
	b, _ := furthestBacked(t)
	packHours(t, b.p, 0)
	pushTo(t, b.p)
	old, copied := b.backup("backup"), b.backup("copy")
	other := reopen(t, copied)
	packHours(t, other, 7)
	pushTo(t, other, "www")
	packHours(t, b.p, 1, 2)
	pushTo(t, b.p, "stick")
	p := reopen(t, old)
	if f, err := p.Find(t.Context(), &netreal.Network{}); f != nil || !errors.Is(err, ErrOtherHistory) || !strings.HasPrefix(err.Error(), "www: ") {
		t.Errorf("found %v, %v", f != nil, err)
	}
	if f, err := p.Find(t.Context(), &netreal.Network{}, "stick", "slow"); err != nil || f.Target != "stick" {
		t.Errorf("found %v, %v", f != nil, err)
	}
}

// TestRecoverShortOfAZone: a zone, out of which no whole edition can be read, shows that
// more was signed than what is found.
func TestRecoverShortOfAZone(t *testing.T) {
	p, _ := withHosted(t, false)
	cfg := p.Config()
	cfg.Targets = append(cfg.Targets, TargetConfig{Name: "stick", Folder: filepath.Join(t.TempDir(), "stick")})
	if err := p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	packDay(t, p, 0, 0)
	pushTo(t, p)
	old := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(old, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	q := reopen(t, old)
	packDay(t, p, 1, 1)
	pushTo(t, p)
	if err := os.WriteFile(filepath.Join(old, "tsig"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := q.Find(t.Context(), &netreal.Network{}); err != nil || len(f.Unread) != 1 || !strings.HasPrefix(f.Unread[0].Error(), "zone: ") {
		t.Errorf("a zone that can't be asked: found %v, %v", f != nil, err)
	}
	if err := errors.Join(os.Remove(filepath.Join(old, "tsig")), os.Link(filepath.Join(p.dir, "tsig"), filepath.Join(old, "tsig"))); err != nil {
		t.Fatal(err)
	}
	if f, err := q.Find(t.Context(), &netreal.Network{}); err != nil || f.Target != "stick" || f.Unread != nil {
		t.Errorf("both have the same: found %v, %v", f != nil, err)
	}
	packDay(t, p, 2, 2)
	pushTo(t, p, "zone")
	for _, names := range [][]string{nil, {"zone"}} {
		if f, err := q.Find(t.Context(), &netreal.Network{}, names...); f != nil || !errors.Is(err, errBeyond) || !strings.HasPrefix(err.Error(), "zone: it shows edition 2,") {
			t.Errorf("%v: found %v, %v", names, f != nil, err)
		}
	}
	if f, err := q.Find(t.Context(), &netreal.Network{}, "stick"); err != nil || f.head.Edition != 1 {
		t.Errorf("without it: found %v, %v", f != nil, err)
	}
}

// TestRecoverNamesWhoIsWrong: where one target agrees with this folder, and another shows
// something else, that one is named.
func TestRecoverNamesWhoIsWrong(t *testing.T) {
	b, _ := furthestBacked(t)
	cfg := b.p.Config()
	cfg.Targets = cfg.Targets[1:3] // stick and shelf
	if err := b.p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	packHours(t, b.p, 0)
	pushTo(t, b.p)
	copied := reopen(t, b.backup("copy"))
	packHours(t, b.p, 1)
	packHours(t, b.p, 2)
	pushTo(t, b.p, "stick")
	packStory(t, copied, 20)
	pushTo(t, copied, "shelf")
	_, err := b.p.Find(t.Context(), &netreal.Network{})
	if !errors.Is(err, ErrOtherHistory) || !strings.HasPrefix(err.Error(), "shelf: it holds another history than stick and this folder") {
		t.Error(err)
	}
}

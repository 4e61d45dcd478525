package publisher

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// claiming is the newest head as if it needed that root note, signed by somebody.
func claiming(t *testing.T, p *Publisher, version uint64) *channel.Head {
	t.Helper()
	old, err := p.headOf(p.Size() - 1)
	if err != nil {
		t.Fatal(err)
	}
	leaf := old.Leaf
	leaf.RootVersion = version
	head, err := channel.SignHead(leaf, old.Path, old.Generation, old.Time, ed25519.NewKeyFromSeed(random()))
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// withNotes has the root notes of a folder.
type withNotes struct{ of *Publisher }

func (n withNotes) RootNote(_ context.Context, _ channel.ID, version uint64) ([]byte, error) {
	if version > n.of.roots.Version() {
		return nil, transport.ErrNotFound
	}
	return n.of.notes[version-1], nil
}

func showing(name string, head *channel.Head, of *Publisher) Target {
	return Target{Name: name, Publisher: &shelf{head: head.Text()}, notes: func(context.Context) (*notesIn, error) {
		return &notesIn{withNotes{of}, func() error { return nil }}, nil
	}}
}

// anotherRootKey puts a root note in place that names one more key.
func anotherRootKey(t *testing.T, p *Publisher) {
	t.Helper()
	d := anotherKeysDraft(t, p)
	if err := p.UseRoot(d); err != nil {
		t.Fatal(err)
	}
}

func anotherKeysDraft(t *testing.T, p *Publisher) *channel.Draft {
	t.Helper()
	next := ed25519.NewKeyFromSeed(random()).Public().(ed25519.PublicKey)
	d, err := p.Rotate(Rotation{Keys: append(slices.Clone(p.Roots().Last().RootKeys), next), Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// copyFolder copies a channel's folder, with its credentials.
func copyFolder(t *testing.T, to, from string) {
	t.Helper()
	if err := errors.Join(os.CopyFS(to, os.DirFS(from)), os.Chmod(filepath.Join(to, "tsig"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestHeadNobodyProves: a target that claims a newer root note and can't show it stops
// nobody, and fails alone.
func TestHeadNobodyProves(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	other := reopen(t, b.backup("other"))
	anotherRootKey(t, other)
	for name, bad := range map[string]Target{
		"it has no such note":      showing("bad", claiming(t, b.p, 9), b.p),
		"the head is not under it": showing("bad", claiming(t, b.p, 2), other),
		"it can't be read back":    {Name: "bad", Publisher: &shelf{head: claiming(t, b.p, 2).Text()}},
	} {
		t.Run(name, func(t *testing.T) {
			to := append(slices.Clone(b.into), bad)
			doubts, err := b.p.CheckTargets(t.Context(), to)
			if err != nil || len(doubts) != 1 || !errors.Is(doubts[0], errUnproven) {
				t.Errorf("doubts %v, error %v", doubts, err)
			}
			if r := b.p.Push(t.Context(), to, nil); r[0].Err != nil || !errors.Is(r[1].Err, errUnproven) || Final(r[1].Err) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestRootNoteOfAnotherMachine: what was packed elsewhere under a newer root note is seen
// wherever notes can be read back.
func TestRootNoteOfAnotherMachine(t *testing.T) {
	p, _ := withHosted(t, false)
	dir := t.TempDir()
	cfg := p.Config()
	cfg.Targets = append(cfg.Targets, TargetConfig{Name: "stick", Folder: filepath.Join(dir, "stick")}, TargetConfig{Name: "www", Mirror: filepath.Join(dir, "www")})
	if err := p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	packDay(t, p, 0, 0)
	pushTo(t, p)
	copied := func(name string) *Publisher {
		copyFolder(t, filepath.Join(dir, name), p.dir)
		return reopen(t, filepath.Join(dir, name))
	}
	stale, own := copied("stale"), copied("own")
	anotherRootKey(t, own) // and never pushed
	anotherRootKey(t, p)
	anotherRootKey(t, p)
	packDay(t, p, 1, 1)
	pushTo(t, p)
	for q, want := range map[*Publisher]error{stale: ErrAhead, own: ErrOtherRoots, p: nil} {
		for _, name := range []string{"zone", "stick", "www"} {
			to, err := q.Targets(&netreal.Network{}, name)
			if err != nil {
				t.Fatal(err)
			}
			if doubts, err := q.CheckTargets(t.Context(), to); !errors.Is(err, want) || len(doubts) > 0 {
				t.Errorf("%s: error %v, not %v; doubts %v", name, err, want, doubts)
			}
		}
	}
}

// TestRecoverPastAForgedHead: a zone that claims a newer root note keeps nobody from
// recovering.
func TestRecoverPastAForgedHead(t *testing.T) {
	p, srv := withHosted(t, false)
	dir := t.TempDir()
	cfg := p.Config()
	cfg.Targets = append(cfg.Targets, TargetConfig{Name: "stick", Folder: filepath.Join(dir, "stick")})
	if err := p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	packDay(t, p, 0, 0)
	pushTo(t, p)
	copyFolder(t, filepath.Join(dir, "backup"), p.dir)
	packDay(t, p, 1, 1)
	pushTo(t, p, "stick")
	var text strings.Builder
	for i, c := range claiming(t, p, 9).Compact() {
		if i > 0 && i%255 == 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "\\%03d", c)
	}
	srv.Spoil(p.Channel().Label()+"."+hostedZone+".", text.String())
	q := reopen(t, filepath.Join(dir, "backup"))
	f, err := q.Find(t.Context(), &netreal.Network{})
	if err != nil || f.Target != "stick" || len(f.Unread) != 1 || !errors.Is(f.Unread[0], errUnproven) {
		t.Errorf("found %v, %v", f, err)
	}
}

// TestSecondRootNote: a copy of the folder from before a root note can't put another one of
// that number in place where a target shows the first; the same one can be put in place
// again, in whatever copy.
func TestSecondRootNote(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	stale, same := reopen(t, b.backup("stale")), reopen(t, b.backup("same"))
	draft := anotherKeysDraft(t, b.p)
	if doubts, err := b.p.CheckRoots(t.Context(), b.into, draft); err != nil || len(doubts) > 0 {
		t.Fatalf("before anybody has another: %v, doubts %v", err, doubts)
	}
	if err := b.p.UseRoot(draft); err != nil {
		t.Fatal(err)
	}
	b.pack(1)
	if _, err := same.CheckRoots(t.Context(), b.into, draft); err != nil {
		t.Errorf("the same root note: %v", err)
	}
	if _, err := stale.CheckRoots(t.Context(), b.into, anotherKeysDraft(t, stale)); !errors.Is(err, ErrOtherRoots) {
		t.Errorf("another one of its number: %v", err)
	}
	anotherRootKey(t, b.p)
	b.pack(2)
	if _, err := same.CheckRoots(t.Context(), b.into, draft); !errors.Is(err, ErrOtherRoots) {
		t.Errorf("there is a newer one: %v", err)
	}
}

// TestUnopenedTarget: what can't be opened fails alone, and others get the news.
func TestUnopenedTarget(t *testing.T) {
	p, _ := withHosted(t, false)
	dir := t.TempDir()
	cfg := p.Config()
	cfg.Targets = append(cfg.Targets, TargetConfig{Name: "stick", Folder: dir})
	if err := p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.dir, "tsig")); err != nil {
		t.Fatal(err)
	}
	packDay(t, p, 0, 0)
	to, err := p.Targets(&netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if doubts, err := p.CheckTargets(t.Context(), to); err != nil || len(doubts) != 1 || !strings.Contains(doubts[0].Error(), "zone: it can't be used: credentials: ") {
		t.Errorf("%v, doubts %v", err, doubts)
	}
	for _, r := range p.Push(t.Context(), to, nil) {
		if bad := r.Target == "zone"; bad != (r.Err != nil) || bad && !Final(r.Err) {
			t.Errorf("%+v", r)
		}
	}
}

package publisher

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// watcher is a folder that is a witness, too.
type watcher struct {
	file.Folder
	p    *Publisher
	self channel.Witness
	key  ed25519.PrivateKey
	// late: it knows the channel only when it has an edition. down: it does not answer.
	// asked counts calls.
	late, down bool
	last       *channel.Checkpoint
	asked      int
	refuses    error
}

func newWatcher(t *testing.T, p *Publisher, name string) *watcher {
	sum := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(sum[:])
	return &watcher{
		Folder: file.Folder{Dir: filepath.Join(t.TempDir(), name)}, p: p, key: key,
		self: channel.Witness{Name: name + ".example", Key: key.Public().(ed25519.PublicKey)},
	}
}

// Cosign is what c2sp.org/tlog-witness asks of a witness.
func (w *watcher) Cosign(ctx context.Context, s channel.Submission) ([]byte, error) {
	w.asked++
	if w.refuses != nil {
		return nil, w.refuses
	}
	if w.down {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := os.Stat(w.Dir); w.late && err != nil {
		return nil, transport.ErrNotFound
	}
	c, err := w.p.Roots().Checkpoint(s.Checkpoint)
	if err != nil {
		return nil, err
	}
	var size uint64
	if w.last != nil {
		size = w.last.Size
	}
	if s.Old != size {
		return nil, &transport.SizeError{Size: size}
	}
	if err := c.Follows(w.last, s.Proof); err != nil {
		return nil, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	w.last = c
	line, _ := c.Cosign(w.self.Name, w.key, time.Now())
	return line, nil
}

// watched is a publisher of one edition, and the one witness that its root note names.
func watched(t *testing.T) (*Publisher, *watcher) {
	t.Helper()
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	a := newWatcher(t, p, "a")
	named(t, p, 1, a)
	packStory(t, p, 1)
	return p, a
}

// named puts the witnesses into the root note.
func named(t *testing.T, p *Publisher, quorum int, ws ...*watcher) {
	t.Helper()
	var list []channel.Witness
	for _, w := range ws {
		list = append(list, w.self)
	}
	d, err := p.SetWitnesses(list, quorum)
	if err == nil {
		err = p.UseRoot(d)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func targetsOf(ws ...*watcher) (out []Target) {
	for _, w := range ws {
		out = append(out, Target{Name: w.self.Name, Publisher: w})
	}
	return out
}

func seenBy(t *testing.T, p *Publisher, want channel.Witnessed) {
	t.Helper()
	if w, missing, err := p.Witnessed(); err != nil || w != want || len(missing) != want.Of-want.Seen {
		t.Errorf("seen %+v, not by %v, instead of %+v: %v", w, missing, want, err)
	}
}

// holdsSeen is what a folder's newest head was seen by.
func holdsSeen(t *testing.T, p *Publisher, w *watcher, want int) {
	t.Helper()
	raw, err := w.Current(t.Context(), p.Channel())
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.Roots().Head(raw)
	if err != nil || h.Size != p.Size() || p.Roots().Witnessed(h).Seen != want {
		t.Errorf("%s holds edition %d, seen by %d instead of %d: %v", w.self.Name, h.Edition, p.Roots().Witnessed(h).Seen, want, err)
	}
}

func TestPushCollectsCosignatures(t *testing.T) {
	dir := t.TempDir()
	p, err := Init(filepath.Join(dir, "p"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	a, b, c := newWatcher(t, p, "a"), newWatcher(t, p, "b"), newWatcher(t, p, "c")
	stranger := newWatcher(t, p, "stranger")
	push := func(ws ...*watcher) []Pushed {
		t.Helper()
		rs := p.Push(t.Context(), targetsOf(ws...), nil)
		for _, r := range rs {
			if r.Err != nil {
				t.Errorf("%+v", r)
			}
		}
		return rs
	}
	packStory(t, p, 1)
	push(a)
	seenBy(t, p, channel.Witnessed{})
	if a.asked != 0 {
		t.Error("a witness is asked that no root note names")
	}

	// Two of three are at hand; c is a name in the root note alone.
	named(t, p, 2, a, b, c)
	seenBy(t, p, channel.Witnessed{Seen: 0, Of: 3, Quorum: 2})
	packStory(t, p, 2)
	push(a, b, stranger)
	seenBy(t, p, channel.Witnessed{Seen: 2, Of: 3, Quorum: 2})
	for _, w := range []*watcher{a, b, stranger} {
		holdsSeen(t, p, w, 2)
	}

	// Cosignatures are on disk.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, filepath.Join(dir, "p"))
	for _, w := range []*watcher{a, b, c, stranger} {
		w.p = p
	}
	seenBy(t, p, channel.Witnessed{Seen: 2, Of: 3, Quorum: 2})

	// The third comes later: the head goes out once more, to who has not got it.
	if rs := push(a, c); rs[0].Editions != 1 || rs[1].Editions == 0 {
		t.Errorf("%+v", rs)
	}
	seenBy(t, p, channel.Witnessed{Seen: 3, Of: 3, Quorum: 2})
	holdsSeen(t, p, a, 3)
	holdsSeen(t, p, b, 2)
	asked := a.asked + b.asked + c.asked
	if rs := push(a, c); rs[0].Editions+rs[1].Editions != 0 || a.asked+b.asked+c.asked != asked {
		t.Errorf("all is done, and again: %+v", rs)
	}
	push(b)
	holdsSeen(t, p, b, 3)

	// One that has missed some editions is told what came between.
	for i := range 3 {
		packStory(t, p, 3+i)
		push(a)
	}
	push(a, b, c)
	seenBy(t, p, channel.Witnessed{Seen: 3, Of: 3, Quorum: 2})
	if _, err := p.CheckTargets(t.Context(), targetsOf(a, b, c)); err != nil {
		t.Error(err)
	}
}

// A relay that does not know the channel before it has an edition is asked again
// then, and has the head with all that came of it in the end.
func TestPushToNewWitness(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := newWatcher(t, p, "a"), newWatcher(t, p, "b")
	a.late, b.late = true, true
	named(t, p, 2, a, b)
	packStory(t, p, 1)
	for _, r := range p.Push(t.Context(), targetsOf(a, b), nil) {
		if r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
	seenBy(t, p, channel.Witnessed{Seen: 2, Of: 2, Quorum: 2})
	holdsSeen(t, p, a, 2)
	holdsSeen(t, p, b, 2)
}

// A witness that does not answer holds up nothing for long, and is no failure of
// the push; one that has seen something else is.
func TestPushDespiteWitnesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p, err := Init(filepath.Join(dir, "p"), "Radio", []string{"en"})
		if err != nil {
			t.Fatal(err)
		}
		a, down := newWatcher(t, p, "a"), newWatcher(t, p, "down")
		down.down = true
		named(t, p, 1, a, down)
		packStory(t, p, 1)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, "backup"), os.DirFS(filepath.Join(dir, "p"))); err != nil {
			t.Fatal(err)
		}
		p = reopen(t, filepath.Join(dir, "p"))
		a.p, down.p = p, p
		packStory(t, p, 2)
		began := time.Now()
		for _, r := range p.Push(t.Context(), targetsOf(a, down), nil) {
			if r.Err != nil || r.Newest != 1 {
				t.Errorf("%+v", r)
			}
		}
		if took := time.Since(began); took > cosignTime+lateCosignTime+time.Second {
			t.Errorf("the push took %s", took)
		}
		seenBy(t, p, channel.Witnessed{Seen: 1, Of: 2, Quorum: 1})

		// The backup has packed something else, and one edition less or as many. The
		// target that it pushes to knows nothing; the witness does.
		old := reopen(t, filepath.Join(dir, "backup"))
		a.p = old
		fresh := newWatcher(t, old, "fresh")
		to := []Target{{Name: "w", Witness: true, Publisher: a}, {Name: "fresh", Publisher: fresh.Folder}}
		if r := old.Push(t.Context(), to, nil); !errors.As(r[0].Err, new(*claimError)) || Final(r[0].Err) || r[1].Err != nil {
			t.Errorf("%+v", r)
		}
		packStory(t, old, 3)
		if r := old.Push(t.Context(), to, nil); !errors.Is(r[0].Err, transport.ErrRefused) || !Final(r[0].Err) {
			t.Errorf("%+v", r)
		}
		seenBy(t, old, channel.Witnessed{Seen: 0, Of: 2, Quorum: 1})
	})
}

// A head is replaced by a rename: a push that is killed leaves the old one or the new.
func TestReplaceHeadKeepsTheEdition(t *testing.T) {
	p, a := watched(t)
	before, err := os.ReadFile(p.carName(0))
	if err != nil {
		t.Fatal(err)
	}
	head, err := p.headOf(0)
	if err != nil {
		t.Fatal(err)
	}
	line, err := a.Cosign(t.Context(), channel.Submission{Checkpoint: head.Checkpoint()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.replaceHead(p.roots.Cosigned(head, line)); err != nil {
		t.Fatal(err)
	}
	seenBy(t, p, channel.Witnessed{Seen: 1, Of: 1, Quorum: 1})
	with, err := p.headOf(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.replaceHead(with.Bare()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(p.carName(0))
	if err != nil || string(after) != string(before) {
		t.Errorf("there and back again is another file: %v", err)
	}
}

func TestWitnessTargets(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, url := range []string{"http://witness.example", "witness.example", "https://user@witness.example", "https://witness.example/?a", "ftp://witness.example"} {
		if err := p.AddWitness("w", url); err == nil || strings.Contains(err.Error(), "user") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := p.AddWitness("w", "https://witness.example/sub"); err != nil {
		t.Fatal(err)
	}
	to, err := p.Targets(&netreal.Network{})
	if err != nil || len(to) != 1 || !to[0].Witness {
		t.Fatalf("%+v, %v", to, err)
	}
	packStory(t, p, 1)
	// It is not even asked: the root note names no witness.
	if r := p.Push(t.Context(), to, nil); r[0].Err == nil || !strings.Contains(r[0].Err.Error(), "root note") {
		t.Errorf("%+v", r)
	}
	d, err := p.SetWitnesses([]channel.Witness{{Name: "w", Key: p.roots.IPNSKey()}}, 1)
	if !errors.Is(err, channel.ErrRootNote) {
		t.Errorf("a key in two roles: %+v, %v", d, err)
	}
}

// A target may hold a head that was signed later than ours, of a copy of the folder that
// has sent a heartbeat: that is no reason to push ours, which would be refused.
func TestLaterHeadStays(t *testing.T) {
	p, a := watched(t)
	if r := p.Push(t.Context(), targetsOf(a), nil)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	ours, err := p.headOf(0)
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]bool{-time.Hour: true, 0: true, time.Hour: false} {
		theirs, err := channel.SignHead(ours.Leaf, ours.Path, ours.Generation, ours.Time.Add(after), p.keys.key(p.keys.Log))
		if err != nil {
			t.Fatal(err)
		}
		for form, raw := range map[string][]byte{"text": theirs.Text(), "compact": theirs.Compact()} {
			if old, err := p.outdated(raw, theirs); err != nil || old != want {
				t.Errorf("%s, signed %s after ours: %v, %v", form, after, old, err)
			}
		}
	}
}

// Witnesses that were named after the newest edition was packed can't be counted before
// the next one: pushing says so, fails of nothing, and keeps no head that would lose
// them when it is read. Those that it does name are collected as ever.
func TestPushBeforeNewWitnessesArePacked(t *testing.T) {
	p, a := watched(t)
	b := newWatcher(t, p, "b")
	named(t, p, 2, a, b)
	to := []Target{{Name: "b", Publisher: b}, {Name: "b, only asked", Witness: true, Publisher: newWatcher(t, p, "b")}, {Name: "a", Publisher: a}}
	for i := range 3 {
		before := snapshot(t, p.dir)
		r := p.Push(t.Context(), to[:2+i/2], nil)
		if r[0].Err != nil || !errors.Is(r[1].Err, errUnnamed) || Final(r[1].Err) || i == 2 && r[2].Err != nil {
			t.Errorf("push %d: %+v", i, r)
		}
		if i < 2 && string(snapshot(t, p.dir)) != string(before) {
			t.Errorf("push %d writes the edition anew", i)
		}
		if ws, err := p.Unnamed(); err != nil || len(ws) != 1 || ws[0].Name != b.self.Name {
			t.Errorf("push %d: %v, %v", i, ws, err)
		}
	}
	seenBy(t, p, channel.Witnessed{Seen: 1, Of: 2, Quorum: 2})
	if _, err := p.Pack(nil, time.Unix(1_700_200_000, 0)); err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Push(t.Context(), to, nil) {
		if r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
	seenBy(t, p, channel.Witnessed{Seen: 2, Of: 2, Quorum: 2})
	if ws, err := p.Unnamed(); err != nil || len(ws) != 0 {
		t.Errorf("%v, %v", ws, err)
	}
}

// One witness that says that it has seen more than there is spoils no push, however
// often it says so, and is not asked again and again: its word is signed by nobody.
func TestWitnessClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := Init(t.TempDir(), "Radio", []string{"en"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		a, b, liar := newWatcher(t, p, "a"), newWatcher(t, p, "b"), newWatcher(t, p, "liar")
		named(t, p, 2, a, b, liar)
		packStory(t, p, 1)
		liar.refuses = &transport.SizeError{Size: 9}
		to := append(targetsOf(a, b), Target{Name: "liar", Witness: true, Publisher: liar})
		r := p.Push(t.Context(), to, nil)
		if r[0].Err != nil || r[1].Err != nil || liar.asked != 1 {
			t.Errorf("%+v, asked %d times", r, liar.asked)
		}
		if err := r[2].Err; err == nil || Final(err) || errors.Is(err, ErrAhead) || !strings.Contains(err.Error(), "9 editions, of which 1 are here") {
			t.Errorf("the liar: %v", err)
		}
		seenBy(t, p, channel.Witnessed{Seen: 2, Of: 3, Quorum: 2})
		// A relay that need be none is heard, too: the folder may have been restored.
		packStory(t, p, 2)
		to[2].Witness = false
		if r := p.Push(t.Context(), to, nil); r[2].Err == nil || !strings.Contains(r[2].Err.Error(), "claims") {
			t.Errorf("%+v", r[2])
		}
	})
}

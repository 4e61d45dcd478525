package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// rekey answers a stolen log key: what p packs from now on goes on from its first
// two editions, under another key.
func (p *press) rekey(t *testing.T) {
	t.Helper()
	const good = 2
	last := p.roots.Last()
	n := *last
	n.Version, n.Channel, n.Previous = last.Version+1, p.ch, last.Hash()
	p.log, p.tree = keyFrom("new log key"), channel.NewLog(slices.Clone(p.tree.Leaves()[:good]))
	n.Log = channel.LogKey{
		Generation: last.Log.Generation + 1, Key: public(p.log),
		Base: good, BaseHash: channel.TreeHash(slices.Values(p.tree.Leaves())),
	}
	note, err := n.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	p.notes = append(slices.Clip(p.notes), note)
	if p.roots, err = p.roots.Extend(note); err != nil {
		t.Fatal(err)
	}
	p.generation = n.Log.Generation
}

// robbed is a relay that has taken a thief's editions, and the publisher.
func robbed(t *testing.T, name string) (r *Relay, p, thief *press, first *sheet) {
	t.Helper()
	p = newPress(t, name)
	first = p.edition(t, 0)
	second := p.edition(t, 0)
	other := *p
	thief = &other
	thief.tree = channel.NewLog(slices.Clone(p.tree.Leaves()))
	r = start(t, Config{})
	for _, s := range []*sheet{first, second, thief.edition(t, 11), thief.edition(t, 12), thief.edition(t, 13)} {
		push(t, r, s)
	}
	return r, p, thief, first
}

// TestStolenLogKey: a relay goes over to the new generation of a channel's log, drops
// what that has left out, and takes nothing more of the old one; also after a restart,
// be it in the middle.
func TestStolenLogKey(t *testing.T) {
	r, p, thief, first := robbed(t, "stolen")
	p.rekey(t)
	next := p.edition(t, 0)
	if next.head.Edition != 2 {
		t.Fatalf("edition %d", next.head.Edition)
	}
	dir := filepath.Join(r.cfg.Dir, "editions", p.ch.String())
	before := carFiles(t, dir)
	aside := t.TempDir()
	if err := os.CopyFS(aside, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	push(t, r, next)
	check := func(what string) {
		t.Helper()
		if h, roots := r.store.Head(p.ch); h == nil || h.Edition != 2 || h.Generation != 1 || roots.Version() != 2 {
			t.Fatalf("%s: %+v is held", what, h)
		}
		if n := len(r.store.snapshot(p.ch)); n != 3 {
			t.Errorf("%s: %d editions are held", what, n)
		}
		if _, err := r.store.Block(p.ch, first.head.Root); err != nil {
			t.Errorf("%s: the first edition: %v", what, err)
		}
	}
	check("pushed")
	refused(t, r, thief.edition(t, 14), "older root notes")
	if after := carFiles(t, dir); len(after) != 3 || len(before) != 5 {
		t.Errorf("%d files were there, %d are", len(before), len(after))
	}
	r.Close()
	// Killed between storing the new one and dropping the old ones.
	for _, name := range before {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(aside, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = start(t, Config{Dir: r.cfg.Dir})
	check("started again")
	push(t, r, p.edition(t, 0))
	if h, _ := r.store.Head(p.ch); h.Edition != 3 {
		t.Errorf("edition %d is held", h.Edition)
	}
}

func carFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.car"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

// TestGenerationBeginsWhereItSays: the new key alone can't make a relay take a log that
// is not what the root keys have said it goes on from.
func TestGenerationBeginsWhereItSays(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		r, p, thief, _ := robbed(t, "begins")
		if fresh {
			r = start(t, Config{})
		}
		p.rekey(t)
		coerced := *p
		coerced.tree = channel.NewLog([]channel.Hash{sha256.Sum256([]byte("another past")), thief.tree.Leaves()[1]})
		bad := coerced.edition(t, 0)
		worse := coerced.edition(t, 0)
		for _, s := range []*sheet{bad, worse} {
			err := pusher(t, r.cfg.Network, target(t, r, p.ch)).Publish(t.Context(), s.source(), nil)
			if !errors.Is(err, transport.ErrRefused) {
				t.Errorf("edition %d of another past: %v", s.head.Edition, err)
			}
		}
		push(t, r, p.edition(t, 0))
	}
}

// TestTellsOfTheNewGeneration: who holds more than the relay, and older root notes, is
// told at once, whatever he asks with.
func TestTellsOfTheNewGeneration(t *testing.T) {
	r, p, _, _ := robbed(t, "tells")
	tg := target(t, r, p.ch)
	const far = 1 << 32
	ask := func(h transport.Heads) (notes int, head *channel.Head, err error) {
		for piece, err := range h.(transport.Opener).Open(t.Context(), transport.Ask{Channel: p.ch, Have: far, Root: 1}) {
			switch {
			case err != nil:
				return notes, head, err
			case piece.Kind == transport.PieceRootNote:
				notes++
			case piece.Kind == transport.PieceHead:
				if head, err = p.roots.Head(piece.Data); err != nil {
					return notes, nil, err
				}
			}
		}
		return notes, head, nil
	}
	openers := slices.DeleteFunc(paths(t, r.cfg.Network, tg.Relay(p.batch)), func(p transport.Path) bool { _, ok := p.Heads.(transport.Opener); return !ok })
	if len(openers) < 2 {
		t.Fatalf("%d paths open anything", len(openers))
	}
	for _, path := range openers {
		if _, _, err := ask(path.Heads); !errors.Is(err, transport.ErrNoNewer) {
			t.Errorf("%s, before: %v", path.Name, err)
		}
		if _, err := path.Heads.Head(t.Context(), p.ch, far); !errors.Is(err, transport.ErrNoNewer) {
			t.Errorf("%s, before: %v", path.Name, err)
		}
	}
	p.rekey(t)
	next := p.edition(t, 0)
	push(t, r, next)
	for _, path := range openers {
		notes, head, err := ask(path.Heads)
		if err != nil || notes != 1 || head == nil || head.Size != next.head.Size {
			t.Errorf("%s: %d root notes, %v, %v", path.Name, notes, head, err)
		}
		raw, err := path.Heads.Head(t.Context(), p.ch, far)
		if err != nil {
			t.Errorf("%s: %v", path.Name, err)
		} else if h, err := p.roots.Head(raw); err != nil || h.Size != next.head.Size {
			t.Errorf("%s: %v", path.Name, err)
		}
	}
}

// TestFollowsIntoTheNewGeneration: a relay that holds more of the thief's than the one
// it follows holds of the true log goes over with it.
func TestFollowsIntoTheNewGeneration(t *testing.T) {
	r, p, thief, _ := robbed(t, "followed")
	p.rekey(t)
	behind := start(t, Config{})
	push(t, behind, p.edition(t, 0))
	line, err := behind.PullLine(p.ch)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := wire.NewPuller(r.cfg.Network, line)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	f := &follower{store: r.store, carried: r.carried, ch: p.ch, peer: peer, id: "0", race: &race{}, log: r.cfg.Log, asked: true}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.once(ctx); err != nil {
		t.Fatal(err)
	}
	if h, _ := r.store.Head(p.ch); h.Edition != 2 || h.Generation != 1 {
		t.Errorf("edition %d of generation %d is held", h.Edition, h.Generation)
	}
	// The other way round nothing is fetched: who shows the old one lags.
	if old := thief.edition(t, 14); r.store.wants(p.ch, old.head.Root, old.head.Text()) {
		t.Error("a head of the replaced key is worth fetching")
	}
}

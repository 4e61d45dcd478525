package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport/dns"
	"tamizdat/transport/file"
	"tamizdat/transport/transporttest"
)

// backed is a channel's folder, its backup, and a folder that it is pushed to.
type backed struct {
	t    *testing.T
	p    *Publisher
	dir  string // of p, its backups beside it
	into []Target
}

func newBacked(t *testing.T) *backed {
	t.Helper()
	dir := t.TempDir()
	p, err := Init(filepath.Join(dir, "pub"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := p.Config()
	cfg.Targets = []TargetConfig{{Name: "stick", Folder: filepath.Join(dir, "stick")}}
	if err := p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return &backed{t: t, p: p, dir: dir, into: []Target{{Name: "stick", Publisher: file.Folder{Dir: filepath.Join(dir, "stick")}}}}
}

// pack packs articles of transporttest, with pictures, and pushes.
func (b *backed) pack(n int) {
	b.t.Helper()
	if _, err := b.p.Pack(transporttest.Articles(n), transporttest.Start.Add(time.Duration(n)*time.Hour)); err != nil {
		b.t.Fatal(err)
	}
	if r := b.p.Push(b.t.Context(), b.into, nil); r[0].Err != nil {
		b.t.Fatal(r[0].Err)
	}
}

// backup copies the folder as it is.
func (b *backed) backup(name string) string {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(b.dir, "pub"))); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// TestRecover: a folder that is restored from a backup can't pack before it has taken
// over what it lacks, and then goes on as if nothing had happened: no number is
// signed twice, no article packed twice, nobody who was revoked let in.
func TestRecover(t *testing.T) {
	for name, since := range map[string]func(t *testing.T, b *backed){
		"one edition": func(t *testing.T, b *backed) { b.pack(1) },
		"some": func(t *testing.T, b *backed) {
			for n := 1; n < 5; n++ {
				b.pack(n)
			}
		},
		"a revocation and other root keys": func(t *testing.T, b *backed) {
			b.pack(1)
			if _, err := b.p.Invite("students"); err != nil {
				t.Fatal(err)
			}
			if err := b.p.Revoke("students"); err != nil {
				t.Fatal(err)
			}
			next, err := NewRootKey(filepath.Join(b.dir, "a.key"))
			if err != nil {
				t.Fatal(err)
			}
			d, err := b.p.Rotate(Rotation{Keys: append(slices.Clone(b.p.Roots().Last().RootKeys), next), Threshold: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.p.UseRoot(d); err != nil {
				t.Fatal(err)
			}
			b.pack(2)
		},
		"more than the window": func(t *testing.T, b *backed) {
			b.pack(1)
			b.pack(400) // in hours
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacked(t)
			b.pack(0)
			old := b.backup("backup")
			if _, err := b.p.Find(t.Context(), &netreal.Network{}); !errors.Is(err, ErrNotBehind) {
				t.Errorf("nothing to recover: %v", err)
			}
			since(t, b)
			p := reopen(t, old)
			if _, err := p.CheckTargets(t.Context(), b.into); !errors.Is(err, ErrAhead) {
				t.Fatalf("before: %v", err)
			}
			if r := p.Push(t.Context(), b.into, nil); !errors.Is(r[0].Err, ErrAhead) {
				t.Fatalf("before: %v", r[0].Err)
			}
			before := snapshot(t, old)
			found, err := p.Find(t.Context(), &netreal.Network{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, snapshot(t, old)) {
				t.Error("to look changes something")
			}
			if len(found.Editions) != int(b.p.Size())-1 || found.RootNotes != int(b.p.Roots().Version())-1 || found.Epochs != len(b.p.keys.Epochs)-1 {
				t.Errorf("found %+v", found)
			}
			if err := p.Adopt(found); err != nil {
				t.Fatal(err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = reopen(t, old)
			ours, theirs := p.history(p.Size()).Leaves(), b.p.history(b.p.Size()).Leaves()
			if !slices.Equal(ours, theirs) {
				t.Fatalf("a log of %d leaves instead of %d", len(ours), len(theirs))
			}
			if _, err := p.CheckTargets(t.Context(), b.into); err != nil {
				t.Errorf("after: %v", err)
			}
			// All that was packed and can be found again is known.
			again := transporttest.Articles(newestArticles(b.p))
			p.keys.Renew = time.Time{} // an epoch that has ended is no news of theirs
			if _, err := p.Pack(again, p.Date(p.Size()-1)); !errors.Is(err, ErrNothingNew) {
				t.Errorf("what the newest edition brought is packed once more: %v", err)
			}
			made, err := p.Pack([]bundle.Article{story(9)}, transporttest.Start.Add(500*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if made.Edition != b.p.Size() {
				t.Errorf("edition %d instead of %d", made.Edition, b.p.Size())
			}
			if r := p.Push(t.Context(), b.into, nil); r[0].Err != nil || r[0].Newest != made.Edition {
				t.Errorf("%+v", r[0])
			}
			for i := range p.keys.Batches {
				if p.keys.Batches[i].Until != b.p.keys.Batches[i].Until {
					t.Errorf("batch %d: revoked %d instead of %d", i, p.keys.Batches[i].Until, b.p.keys.Batches[i].Until)
				}
			}
			if p.keys.Serial <= b.p.keys.Serial {
				t.Error("serials of grants are used twice")
			}
			if _, err := p.Find(t.Context(), &netreal.Network{}); !errors.Is(err, ErrNotBehind) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// TestRecoverAfterRevoking: who revokes a batch in a folder that is behind has revoked
// that batch and no other, whatever epoch the channel has come to meanwhile.
func TestRecoverAfterRevoking(t *testing.T) {
	for name, since := range map[string]func(b *backed){
		"nobody since": func(*backed) {},
		"another one, too": func(b *backed) {
			if err := b.p.Revoke("before"); err != nil {
				b.t.Fatal(err)
			}
		},
		"the same, and another one after": func(b *backed) {
			if err := errors.Join(b.p.Revoke("students"), b.p.Revoke("before")); err != nil {
				b.t.Fatal(err)
			}
		},
		"by itself, twice": func(b *backed) { b.p.keys.newEpoch(); b.p.keys.newEpoch() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacked(t)
			students, readers := invited(t, b.p, "students"), invited(t, b.p, "readers")
			invited(t, b.p, "before")
			b.pack(0)
			old := b.backup("backup")
			since(b)
			b.pack(1)
			p := reopen(t, old)
			if err := p.Revoke("students"); err != nil {
				t.Fatal(err)
			}
			found, err := p.Find(t.Context(), &netreal.Network{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Adopt(found); err != nil {
				t.Fatal(err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = reopen(t, old)
			for i, k := range p.keys.Batches {
				if want := b.p.keys.Batches[i].revoked() || k.Name == "students"; k.revoked() != want {
					t.Errorf("batch %d: revoked %v", i, k.revoked())
				}
			}
			if _, err := p.Pack([]bundle.Article{story(9)}, transporttest.Start.Add(500*time.Hour)); err != nil {
				t.Fatal(err)
			}
			if r := p.Push(t.Context(), b.into, nil); r[0].Err != nil {
				t.Error(r[0].Err)
			}
			epoch := p.editions[p.Size()-1].leaf.Epoch
			opens := func(p *Publisher, seed channel.Seed) (key channel.EpochKey, ok bool) {
				g, _ := grantFor(t, p, seed)
				for _, e := range g.Epochs {
					if e.Number == epoch {
						return e.Key, true
					}
				}
				return key, false
			}
			key, ok := opens(p, readers)
			if !ok || key != p.keys.Epochs[epoch] {
				t.Error("who was not revoked can't open the next edition")
			}
			for _, p := range []*Publisher{p, b.p} {
				if had, ok := opens(p, students); ok && had == key {
					t.Error("who was revoked opens the next edition")
				}
			}
			if _, err := p.Denied(channel.Pin{1}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRecoverWithMoreBatches: batches that were made for the restored folder, since its
// publisher.toml asks for more than the backup has, are no obstacle.
func TestRecoverWithMoreBatches(t *testing.T) {
	b := newBacked(t)
	readers := invited(t, b.p, "readers")
	b.pack(0)
	old := b.backup("backup")
	b.pack(1)
	p := reopen(t, old)
	cfg := p.Config()
	cfg.Batches = 2 * leastBatches
	if err := errors.Join(p.Configure(cfg), p.Close()); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, old)
	found, err := p.Find(t.Context(), &netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if found.Revoked != 0 {
		t.Errorf("%d batches are revoked", found.Revoked)
	}
	if err := p.Adopt(found); err != nil {
		t.Fatal(err)
	}
	packStory(t, p, 9)
	for _, seed := range []channel.Seed{readers, p.keys.Batches[leastBatches].Seed} {
		if g, _ := grantFor(t, p, seed); len(g.Epochs) != len(p.keys.Epochs) {
			t.Errorf("%d epochs", len(g.Epochs))
		}
	}
}

// TestRecoverOverGenerations: where the log was begun anew twice since the backup, it is
// the earlier of the two trees that this folder has in common with it.
func TestRecoverOverGenerations(t *testing.T) {
	b := newBacked(t)
	for n := range 4 {
		b.pack(n)
	}
	old := b.backup("backup")
	rekey := func(good uint64) {
		t.Helper()
		d, err := b.p.Rotate(Rotation{NewLog: true, Good: good})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.p.UseRoot(d); err != nil {
			t.Fatal(err)
		}
	}
	rekey(2)
	b.pack(5)
	b.pack(6)
	rekey(3)
	b.pack(7)
	p := reopen(t, old)
	found, err := p.Find(t.Context(), &netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Editions) != 2 || found.Editions[0].Number != 2 {
		t.Errorf("found %+v", found.Editions)
	}
	if err := errors.Join(p.Adopt(found), p.Close()); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, old)
	if !slices.Equal(p.history(p.Size()).Leaves(), b.p.history(b.p.Size()).Leaves()) {
		t.Errorf("another log, of %d editions", p.Size())
	}
	if _, err := p.CheckTargets(t.Context(), b.into); err != nil {
		t.Error(err)
	}
}

// newestArticles is the number of the articles that the newest edition brought.
func newestArticles(p *Publisher) int {
	return int(p.Date(p.Size()-1).Sub(transporttest.Start) / time.Hour)
}

// snapshot is all of a folder.
func snapshot(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		b, err := os.ReadFile(name)
		fmt.Fprintf(&out, "%s %x\n", name, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestRecoverAside: a folder that has packed from its backup while no target could be
// asked gives up what it has packed under numbers that readers know from others, loses
// nothing of it, and goes on from what they have.
func TestRecoverAside(t *testing.T) {
	for name, c := range map[string]struct{ theirs, ours int }{
		"fewer": {3, 1}, "as many": {2, 2}, "more": {1, 3},
	} {
		for _, crash := range []string{"", "between editions", "within one"} {
			t.Run(fmt.Sprint(name, " ", crash), func(t *testing.T) {
				b := newBacked(t)
				invited(t, b.p, "readers")
				b.pack(0)
				old := b.backup("backup")
				for n := range c.theirs {
					b.pack(n + 1)
				}
				p := reopen(t, old)
				if err := p.Revoke("readers"); err != nil { // a new epoch, of another key
					t.Fatal(err)
				}
				for n := range c.ours {
					packStory(t, p, 20+n)
				}
				f, err := p.Find(t.Context(), &netreal.Network{})
				if err != nil {
					t.Fatal(err)
				}
				if len(f.Editions) != c.theirs || len(f.Aside) != c.ours || f.Aside[0].Number != 1 || !f.Aside[0].Known {
					t.Fatalf("%+v\naside %+v", f.Editions, f.Aside)
				}
				files := 2 * c.ours
				if crash != "" { // after some were put aside
					if err := p.moveAside(uint64(c.ours), 0); err != nil {
						t.Fatal(err)
					}
					if name := fmt.Sprintf("%d.json", c.ours); crash == "within one" {
						if err := os.Rename(filepath.Join(old, "editions", leftOutDir, "0-"+name), filepath.Join(old, "editions", name)); err != nil {
							t.Fatal(err)
						}
						files-- // what describes it gives way to what describes the other
					}
					_ = p.Close()
					p = reopen(t, old)
					if f, err = p.Find(t.Context(), &netreal.Network{}); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Adopt(f); err != nil {
					t.Fatal(err)
				}
				_ = p.Close()
				p = reopen(t, old)
				if p.Size() != b.p.Size() || !slices.Equal(p.history(p.Size()).Leaves(), b.p.history(p.Size()).Leaves()) {
					t.Fatal("it does not go on from what readers have")
				}
				if aside, err := os.ReadDir(filepath.Join(old, "editions", leftOutDir)); err != nil || len(aside) != files {
					t.Errorf("put aside: %v, %v", aside, err)
				}
				// What was put aside is packed again, and everybody takes it.
				packStory(t, p, 20)
				if r := p.Push(t.Context(), b.into, nil); r[0].Err != nil {
					t.Fatal(r[0].Err)
				}
				if _, err := p.Find(t.Context(), &netreal.Network{}); !errors.Is(err, ErrNotBehind) {
					t.Error(err)
				}
			})
		}
	}
}

// TestRecoverEpochs: a batch that the lost folder had revoked has the keys of the epochs
// that the restored one began before it knew. Nothing is packed in them any more.
func TestRecoverEpochs(t *testing.T) {
	for _, newLog := range []bool{false, true} {
		t.Run(fmt.Sprint(newLog), func(t *testing.T) {
			b := newBacked(t)
			readers := invited(t, b.p, "readers")
			invited(t, b.p, "x1")
			invited(t, b.p, "x2")
			b.pack(0)
			old := b.backup("backup")
			if newLog {
				d, err := b.p.Rotate(Rotation{NewLog: true, Good: 1})
				if err == nil {
					err = b.p.UseRoot(d)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := b.p.Revoke("readers"); err != nil {
				t.Fatal(err)
			}
			b.pack(1)
			p := reopen(t, old)
			for i, x := range []string{"x1", "x2"} {
				if err := p.Revoke(x); err != nil {
					t.Fatal(err)
				}
				packStory(t, p, 20+i)
			}
			told, _ := grantFor(t, p, readers)
			f, err := p.Find(t.Context(), &netreal.Network{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Adopt(f); err != nil {
				t.Fatal(err)
			}
			epoch := uint64(len(p.keys.Epochs) - 1) // of what is packed next
			for _, e := range told.Epochs {
				if e.Number == epoch && e.Key == p.keys.Epochs[epoch] {
					t.Errorf("who was revoked has the key of epoch %d, which goes on", epoch)
				}
			}
		})
	}
}

// TestRecoverRetracted: what only editions that give way took back is named, if it stands
// again; nothing else is.
func TestRecoverRetracted(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	b.pack(1)
	first, second := transporttest.Articles(0)[0].ID, transporttest.Articles(1)[0].ID
	if _, err := b.p.Retract([]string{second}, transporttest.Start.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	old := b.backup("backup")
	if _, err := b.p.Restore(second); err != nil {
		t.Fatal(err)
	}
	b.pack(1) // brings it back
	for _, packs := range []bool{false, true} {
		p := reopen(t, old)
		var want []string
		if packs {
			packStory(t, p, 20)
			if _, err := p.Retract([]string{story(20).ID, first}, transporttest.Start.Add(600*time.Hour)); err != nil {
				t.Fatal(err)
			}
			want = []string{first}
		}
		f, err := p.Find(t.Context(), &netreal.Network{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.Retract, want) {
			t.Errorf("%v instead of %v", f.Retract, want)
		}
		if packs {
			if err := p.Adopt(f); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Retract(f.Retract, transporttest.Start.Add(601*time.Hour)); err != nil {
				t.Error(err)
			}
		}
		_ = p.Close()
	}
}

// TestRecoverRefuses: what does not go on from here is not taken, whoever has signed it.
func TestRecoverRefuses(t *testing.T) {
	t.Run("a damaged edition", func(t *testing.T) {
		b := newBacked(t)
		b.pack(0)
		old := b.backup("backup")
		b.pack(1)
		name := filepath.Join(b.dir, "stick", "edition-000001.car")
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p := reopen(t, old)
		for _, size := range []int{len(whole) / 2, len(whole) - 1} {
			if err := os.WriteFile(name, whole[:size], 0o600); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, old)
			if _, err := p.Find(t.Context(), &netreal.Network{}); err == nil {
				t.Errorf("%d of %d bytes are enough", size, len(whole))
			}
			if !bytes.Equal(before, snapshot(t, old)) {
				t.Error("something was taken all the same")
			}
		}
	})
	t.Run("other keys", func(t *testing.T) {
		b := newBacked(t)
		invited(t, b.p, "readers")
		b.pack(0)
		old := b.backup("backup")
		b.pack(1)
		for name, other := range map[string]int{"of readers": 1, "of all, and nobody has any": leastBatches} {
			keys := b.p.keys
			keys.Batches = slices.Clone(keys.Batches)
			if other > 1 {
				keys.Batches[0].Name = ""
			}
			for i := range other {
				keys.Batches[i].Seed = channel.Seed(random())
			}
			raw, err := json.Marshal(keys)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(old, "keys", "keys.json"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			p := reopen(t, old)
			if _, err := p.Find(t.Context(), &netreal.Network{}); !errors.Is(err, errNoGrant) {
				t.Errorf("%s: keys of another folder are good enough: %v", name, err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("nobody to ask", func(t *testing.T) {
		b := newBacked(t)
		b.pack(0)
		cfg := b.p.Config()
		cfg.Targets = []TargetConfig{{Name: "gone", Folder: filepath.Join(b.dir, "nowhere")}}
		if err := b.p.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := b.p.Find(t.Context(), &netreal.Network{}); !errors.Is(err, ErrNotBehind) {
			t.Error(err)
		}
	})
}

// TestRecoverIsCutOff: whatever of it is on disk when the machine fails, the folder
// signs nothing before it is recovered whole.
func TestRecoverIsCutOff(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	old := b.backup("backup")
	for n := 1; n < 4; n++ {
		b.pack(n)
	}
	whole := b.backup("whole")
	p := reopen(t, whole)
	_ = p.Close()
	// In the order in which they are written: keys, then what is hollow, then the newest.
	p = reopen(t, old)
	found, err := p.Find(t.Context(), &netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	for done := range 3 {
		dir := b.backup(fmt.Sprint("cut ", done))
		for n := 1; n < 4; n++ {
			for _, name := range []string{fmt.Sprintf("%d.car", n), fmt.Sprintf("%d.json", n)} {
				if err := os.Remove(filepath.Join(dir, "editions", name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, e := range found.editions[:done] {
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "editions", fmt.Sprintf("%d.json", i+1)), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := reopen(t, dir)
		if p.Size() != uint64(1+done) {
			t.Fatalf("%d editions", p.Size())
		}
		if _, err := p.Pack([]bundle.Article{story(9)}, time.Now()); done > 0 && !errors.Is(err, errTorn) {
			t.Errorf("%d done: it packs: %v", done, err)
		} else if done == 0 {
			continue // only the targets tell, as before
		}
		if r := p.Push(t.Context(), b.into, nil); r[0].Err == nil {
			t.Errorf("%d done: it pushes", done)
		}
		handsOutNothing(t, p)
		again, err := p.Find(t.Context(), &netreal.Network{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Adopt(again); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.history(p.Size()).Leaves(), b.p.history(4).Leaves()) {
			t.Errorf("%d done: another log", done)
		}
	}
}

// handsOutNothing checks that all that shows the newest edition says why it can't, also
// where nothing but its hash is known, or a target holds as much.
func handsOutNothing(t *testing.T, p *Publisher) {
	t.Helper()
	last := p.Size() - 1
	known := p.editions[last]
	defer func() { p.editions[last] = known }()
	for _, front := range []*bundle.Front{known.Front, nil} {
		p.editions[last].Front = front
		var zone bytes.Buffer
		name := filepath.Join(t.TempDir(), "news.car")
		_, inZone := p.Zone(&zone, dns.Zone{Name: hostedZone}, false, time.Now())
		_, inPointer := p.Zone(&zone, dns.Zone{Name: hostedZone}, true, time.Now())
		_, _, seen := p.Witnessed()
		for what, err := range map[string]error{"export": p.Export(t.Context(), name), "zone": inZone, "pointer": inPointer, "witnesses": seen} {
			if !errors.Is(err, errTorn) {
				t.Errorf("%s, front page known: %v: %v", what, front != nil, err)
			}
		}
		if _, err := os.Stat(name); zone.Len() > 0 || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d bytes of a zone, a file: %v", zone.Len(), err)
		}
	}
}

// TestPushWhileCutOff: targets and witnesses are told nothing, and what is said is why,
// not which file is missing.
func TestPushWhileCutOff(t *testing.T) {
	b := newBacked(t)
	w := newWatcher(t, b.p, "w")
	named(t, b.p, 1, w)
	b.pack(0)
	b.pack(1)
	if err := os.Remove(b.p.carName(1)); err != nil {
		t.Fatal(err)
	}
	hollow(b.p, 1)
	to := append(b.into, Target{Name: "w", Witness: true, Publisher: w}) // the stick holds as many
	for _, r := range b.p.Push(t.Context(), to, nil) {
		if !errors.Is(r.Err, errTorn) || errors.Is(r.Err, fs.ErrNotExist) {
			t.Errorf("%s: %v", r.Target, r.Err)
		}
	}
	if w.asked > 0 {
		t.Error("a witness was asked")
	}
}

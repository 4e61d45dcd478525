package relay

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

// copied is a thief with a copy of p's folder.
func copied(p *press) *press {
	c := *p
	c.tree = channel.NewLog(slices.Clone(p.tree.Leaves()))
	return &c
}

// renew gives p a new IPNS key, with one more root note and the same log key.
func (p *press) renew(t *testing.T, name string) {
	t.Helper()
	last := p.roots.Last()
	n := *last
	n.Version, n.Channel, n.Previous, n.IPNS = last.Version+1, p.ch, last.Hash(), public(keyFrom(name))
	note, err := n.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	p.notes = append(slices.Clip(p.notes), note)
	if p.roots, err = p.roots.Extend(note); err != nil {
		t.Fatal(err)
	}
}

// split is a publisher under its second root note, whose folder was copied when there
// was but one and two editions, and what the thief makes: with a new log key, with a note
// more, and with the same log key. two is the publisher as he was then.
func split(t *testing.T, name string) (p, two *press, own, other []*sheet) {
	t.Helper()
	p = newPress(t, name)
	own = append(own, p.edition(t, 0), p.edition(t, 0))
	thief, quiet := copied(p), copied(p)
	two = copied(p)
	p.renew(t, name+" two")
	own = append(own, p.edition(t, 0))
	thief.rekey(t)
	other = append(other, thief.edition(t, 11))
	longer := copied(thief)
	longer.renew(t, name+" three")
	quiet.renew(t, name+" quiet")
	return p, two, own, append(other, longer.edition(t, 12), quiet.edition(t, 13))
}

// numbers are a channel's editions, newest first.
func numbers(s *Store, ch channel.ID) (out []uint64) {
	for _, e := range s.snapshot(ch) {
		out = append(out, e.head.Edition)
	}
	return out
}

// TestHoldsToRootNotes: whoever makes another root note 2 takes nothing off a relay,
// which holds the channel to the one that it has seen, also after a restart, and
// without any edition. What goes on from it is taken as ever.
func TestHoldsToRootNotes(t *testing.T) {
	p, two, own, other := split(t, "two notes")
	r := start(t, Config{})
	for _, s := range own {
		push(t, r, s)
	}
	check := func(what string, want ...uint64) {
		t.Helper()
		for _, s := range other {
			refused(t, r, s, "root note 2 is another one than is held here")
		}
		if got := numbers(r.store, p.ch); !slices.Equal(got, want) {
			t.Errorf("%s: editions %v", what, got)
		}
		if files := carFiles(t, filepath.Join(r.cfg.Dir, "editions", p.ch.String())); len(files) != len(want) {
			t.Errorf("%s: %v", what, files)
		}
	}
	check("pushed", 2, 1, 0)
	dir := filepath.Join(r.cfg.Dir, "editions", p.ch.String())
	again := func() {
		t.Helper()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = start(t, Config{Dir: r.cfg.Dir})
	}
	again()
	check("started again", 2, 1, 0)
	// A relay that knew no chains held the same.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, notesFile)); err != nil {
		t.Fatal(err)
	}
	again()
	check("of an older relay", 2, 1, 0)
	p.renew(t, "third")
	push(t, r, p.edition(t, 0))
	check("a note more", 3, 2, 1, 0)
	two.notes, two.roots = p.notes, p.roots
	two.rekey(t)
	push(t, r, two.edition(t, 21))
	check("another log key", 2, 1, 0)
	// All editions went, as those of a channel do that is carried no more.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range carFiles(t, dir) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	again()
	check("nothing but the notes")
	push(t, r, own[0]) // under note 1, with which all of them begin
	check("the first edition", 0)
	// What the volunteer does for a publisher who says that it is the wrong one.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	again()
	push(t, r, other[0])
}

// TestFirstRootNoteStands: the thief who comes first shuts the publisher out of this
// relay, with a line that says what to do, and the editions that were there stay.
func TestFirstRootNoteStands(t *testing.T) {
	_, _, own, other := split(t, "first")
	r := start(t, Config{})
	push(t, r, own[1])
	push(t, r, other[2]) // the same log
	for _, s := range []*sheet{own[2], other[0], other[1]} {
		refused(t, r, s, "ask who runs the relay to remove what it holds of the channel")
	}
	if got := numbers(r.store, own[0].head.Channel); len(got) != 2 {
		t.Errorf("editions %v", got)
	}
}

// TestFollowsNoOtherRootNotes: nor does a relay take them from the one that it follows.
func TestFollowsNoOtherRootNotes(t *testing.T) {
	p, _, own, other := split(t, "followed notes")
	r, behind := start(t, Config{}), start(t, Config{})
	for _, s := range own {
		push(t, r, s)
	}
	target(t, behind, p.ch)
	push(t, behind, other[0])
	line, err := behind.PullLine(p.ch)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := wire.NewPuller(r.cfg.Network, line)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	f := &follower{store: r.store, carried: r.carried, ch: p.ch, peer: peer, id: "0", race: &race{}, log: r.cfg.Log}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.once(ctx); !errors.Is(err, errBad) || !strings.Contains(err.Error(), "root note 2") {
		t.Errorf("followed: %v", err)
	}
	if got := numbers(r.store, p.ch); len(got) != 3 {
		t.Errorf("editions %v", got)
	}
}

// TestFleetHoldsToRootNotes: one relay of a fleet has seen a note, and all hold to it,
// whichever the thief comes to, and when he comes at the same time as the publisher.
func TestFleetHoldsToRootNotes(t *testing.T) {
	for _, name := range []string{"memory", "s3"} {
		t.Run(name, func(t *testing.T) {
			again := backends[name](t)
			p, _, own, other := split(t, "fleet's notes")
			a, b := storeOn(t, again(), Limits{}), storeOn(t, again(), Limits{})
			look := func(s *Store) {
				t.Helper()
				if err := s.refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			cars := func() (n int) {
				objects, err := again().list(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range objects {
					if isEdition(o.file) {
						n++
					}
				}
				return n
			}
			for _, s := range own {
				if err := store(t, a, s); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range other {
				if err := store(t, b, s); !errors.Is(err, errBad) || !strings.Contains(err.Error(), "root note 2") {
					t.Errorf("to the other one: %v", err)
				}
			}
			look(b)
			if got := numbers(b, p.ch); !slices.Equal(got, []uint64{2, 1, 0}) {
				t.Errorf("editions %v", got)
			}
			held := slices.Clone(a.snapshot(p.ch))
			// Another relay was faster by a hair: its word is in the bucket, and its edition.
			ctx, kept := t.Context(), again()
			loaded := func(sh *sheet) *edition {
				t.Helper()
				e, err := checkEdition(strings.NewReader(string(sh.car)), int64(len(sh.car)), p.ch, nil)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			save := func(c chain) {
				t.Helper()
				if err := kept.save(ctx, kept.at(p.ch, notesFile), c.marshal()); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(t.TempDir(), "part")
			if err := os.WriteFile(file, other[0].car, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := kept.take(ctx, kept.at(p.ch, "000000000002-9.car"), file); err != nil {
				t.Fatal(err)
			}
			look(a) // before its word is there
			if got := numbers(a, p.ch); !slices.Equal(got, []uint64{2, 1, 0}) {
				t.Errorf("with the other's edition beside them: %v", got)
			}
			save(loaded(other[0]).chain)
			p.renew(t, "meanwhile")
			if err := a.admit(p.ch, loaded(p.edition(t, 0)), "none"); !errors.Is(err, errTurned) {
				t.Errorf("stored against the fleet's word: %v", err)
			}
			look(a)
			look(b)
			c := storeOn(t, again(), Limits{})
			for i, s := range []*Store{a, b, c} {
				// Of what was there, what its root notes don't speak against.
				if got := numbers(s, p.ch); !slices.Equal(got, []uint64{2, 1, 0}) {
					t.Errorf("relay %d: editions %v", i, got)
				}
				if h, _ := s.Head(p.ch); h.Generation != 1 {
					t.Errorf("relay %d: generation %d", i, h.Generation)
				}
				if err := store(t, s, own[2]); !errors.Is(err, errBad) {
					t.Errorf("relay %d: %v", i, err)
				}
			}
			save(loaded(own[2]).chain)
			look(a)
			look(b)
			for i, s := range []*Store{a, b} {
				if got := s.snapshot(p.ch); len(got) != 3 || !got[0].headCID.Equals(held[0].headCID) {
					t.Errorf("relay %d, back again: %d editions", i, len(got))
				}
			}
			if n := cars(); n < 4 {
				t.Errorf("%d editions are in the bucket", n)
			}
			// The volunteer has removed it all.
			objects, err := kept.list(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if err := kept.remove(ctx, kept.at(o.ch, o.file)); err != nil {
					t.Fatal(err)
				}
			}
			if err := store(t, a, other[0]); err != nil {
				t.Errorf("after all was removed: %v", err)
			}
		})
	}
}

func FuzzChain(f *testing.F) {
	var ch channel.ID
	f.Add(chain{ch}.marshal())
	f.Add(chain{ch, {1}, {2}}.marshal())
	f.Add([]byte(strings.Repeat("0", 64)))
	f.Add([]byte(strings.Repeat("0", 64) + "\n" + strings.Repeat("A", 64) + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseChain(ch, b); err == nil && string(c.marshal()) != string(b) {
			t.Errorf("%q", b)
		}
	})
}

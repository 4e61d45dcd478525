package channel

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// rekey answers a stolen log key: the next root note names another one, whose log goes
// on from the first good leaves. What is published from then on is signed with it.
func (r *rotated) rekey(t *testing.T, good int) []byte {
	t.Helper()
	last := r.note
	n := last
	n.Version, n.Channel, n.Previous = last.Version+1, r.id, sha256.Sum256(last.Text())
	r.next = key(fmt.Sprint("log key ", n.Version))
	n.Log = LogKey{Generation: last.Log.Generation + 1, Key: pub(r.next), Base: uint64(good)}
	r.history = NewLog(slices.Clone(r.history.Leaves()[:good]))
	if good > 0 {
		n.Log.BaseHash = TreeHash(slices.Values(r.history.Leaves()))
	}
	signed, err := n.Sign(r.root)
	if err != nil {
		t.Fatal(err)
	}
	r.note = n
	r.notes = append(r.notes, signed)
	return signed
}

// goOn publishes under the log key in force.
func (r *rotated) goOn(t *testing.T, salt string) *Head {
	t.Helper()
	leaf := r.leaf(salt)
	leaf.RootVersion = r.note.Version
	h, err := SignHead(leaf, r.history.Edge(), r.note.Log.Generation, leaf.Date.Add(time.Minute), r.next)
	if err != nil {
		t.Fatal(err)
	}
	r.history.Append(leaf.Hash())
	return h
}

// robbed is a channel of five editions, its thief, who goes on from the first so many
// of them, and readers who have joined at the third.
func robbed(t *testing.T, common int) (r *rotated, thief *publisher, honest []*Head) {
	t.Helper()
	p := newPublisher(t, "a")
	thief = newPublisher(t, "a")
	for i := range 5 {
		honest = append(honest, p.publish(t, fmt.Sprint(i)))
		if i < common {
			thief.publish(t, fmt.Sprint(i))
		}
	}
	return &rotated{publisher: p, notes: [][]byte{p.signed}}, thief, honest
}

func mustConsider(t *testing.T, v *View, h *Head, want Verdict) {
	t.Helper()
	checked, err := v.Check(h.Text())
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Consider(checked); got != want {
		t.Fatalf("edition %d is %v instead of %v", h.Edition, got, want)
	}
}

func extend(t *testing.T, v *View, note []byte) {
	t.Helper()
	if err := v.ExtendRoots(note); err != nil {
		t.Fatal(err)
	}
}

// TestStolenLogKey: whatever a thief has made a reader hold, the next generation takes
// it back and goes on.
func TestStolenLogKey(t *testing.T) {
	for name, c := range map[string]struct {
		common int // editions that the thief goes on from
		held   int // of them when the reader has joined at the third, of his own else
		theirs int // the thief's editions held then
		good   int // what the next generation begins with
		// first is what is withdrawn, -1 for nothing; known, how many leaves are left.
		first, known int
	}{
		"nothing was held past it":     {5, 5, 0, 5, -1, 5},
		"one edition of the thief's":   {5, 5, 1, 5, 5, 5},
		"many":                         {5, 5, 30, 5, 5, 5},
		"the last honest one, too":     {5, 5, 0, 4, 4, 4},
		"all that is known":            {5, 5, 2, 2, 2, 2},
		"before the reader joined":     {5, 5, 2, 1, 1, 0},
		"nothing is good":              {5, 5, 2, 0, 0, 0},
		"the thief parted before that": {3, 3, 2, 5, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, thief, honest := robbed(t, c.common)
			v := view(t, r.publisher)
			for _, h := range honest[2:c.held] {
				mustConsider(t, v, h, Newer)
			}
			for i := range c.theirs {
				mustConsider(t, v, thief.publish(t, fmt.Sprint("theirs ", i)), Newer)
			}
			extend(t, v, r.rekey(t, c.good))
			first, ok := v.Withdrawn()
			if ok != (c.first >= 0) || ok && first != uint64(c.first) {
				t.Errorf("withdrawn from %d, %v", first, ok)
			}
			if v.Size() != uint64(c.known) || (v.Head() == nil) != ok {
				t.Errorf("%d leaves are known, head %v", v.Size(), v.Head())
			}
			v.Withdrew()
			v = reopen(t, v)
			if got := len(v.Evidence()); (got != 0) != ok || v.Forked() || len(v.Unproven()) != 0 {
				t.Errorf("%d pieces of evidence, forked %v, %d unproven", got, v.Forked(), len(v.Unproven()))
			}
			for _, e := range v.Evidence() {
				one, other, err := v.Roots().CheckEvidence(e)
				if err != nil || one != nil || other == nil {
					t.Errorf("evidence: %v, %v, %v", one, other, err)
				}
			}
			// What the thief still signs is of no interest.
			if _, err := v.Check(thief.publish(t, "more").Text()); !errors.Is(err, ErrOldRoots) {
				t.Errorf("the thief's next edition: %v", err)
			}
			next := r.goOn(t, "after")
			h, err := v.Check(next.Compact())
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Consider(h); got != Newer {
				t.Fatalf("the next edition is %v", got)
			}
			v = reopen(t, v)
			mustConsider(t, v, r.goOn(t, "and on"), Newer)
			if v = reopen(t, v); v.Size() != r.history.size() {
				t.Errorf("%d editions are held", v.Size())
			}
		})
	}
}

// TestJoinedAfterTheTheft: who has joined with an edition of the thief's may have read
// of his earlier ones, too, as far back as anybody can say.
func TestJoinedAfterTheTheft(t *testing.T) {
	r, thief, _ := robbed(t, 2)
	v := view(t, r.publisher)
	for i := range 4 {
		if h := thief.publish(t, fmt.Sprint("theirs ", i)); i > 1 {
			mustConsider(t, v, h, Newer) // from edition 4 on
		}
	}
	extend(t, v, r.rekey(t, 5))
	if first, ok := v.Withdrawn(); !ok || first != 0 || v.Size() != 0 {
		t.Errorf("withdrawn from %d, %v; %d leaves are known", first, ok, v.Size())
	}
}

func (l *Log) size() uint64 { return uint64(len(l.leaves)) }

// TestBehindTheTheft: who was away, and knows less than what the next generation
// begins with, goes on if what he knows is a part of it; who was misled before that is
// told by the whole log, and by nothing less.
func TestBehindTheTheft(t *testing.T) {
	for name, c := range map[string]struct{ held, theirs, first int }{
		"what he knows is true":   {2, 0, -1},
		"the thief's second":      {1, 1, 1},
		"the thief's second to 4": {1, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r, thief, honest := robbed(t, c.held)
			v := view(t, r.publisher)
			for _, h := range honest[:c.held] {
				mustConsider(t, v, h, Newer)
			}
			for i := range c.theirs {
				mustConsider(t, v, thief.publish(t, fmt.Sprint("theirs ", i)), Newer)
			}
			size := v.Size()
			extend(t, v, r.rekey(t, 5))
			if _, ok := v.Withdrawn(); ok || v.Size() != size || v.Head() == nil {
				t.Fatal("dropped before it is known to be false")
			}
			v = reopen(t, v)
			h := r.goOn(t, "after")
			mustConsider(t, v, h, Provisional)
			leaves := r.history.Leaves()[:h.Edition]
			err := v.Fold(h, leaves[size:])
			if c.first < 0 {
				if err != nil || v.Head() != h {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrBegunAnew) || len(v.Evidence()) != 0 {
				t.Fatalf("%v, %d pieces of evidence", err, len(v.Evidence()))
			}
			wrong := slices.Clone(leaves)
			wrong[0][0] ^= 1
			for what, bad := range map[string][]Hash{"too few": leaves[1:], "none": nil, "another log": wrong} {
				if err := v.Replace(h, bad); !errors.Is(err, ErrHead) || v.Size() != size {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := v.Replace(h, leaves); err != nil {
				t.Fatal(err)
			}
			if first, ok := v.Withdrawn(); !ok || first != uint64(c.first) {
				t.Errorf("withdrawn from %d, %v", first, ok)
			}
			v = reopen(t, v)
			if v.Size() != 6 || v.FirstTime() || v.Forked() || len(v.Evidence()) != 1 {
				t.Errorf("%d editions, %d pieces of evidence", v.Size(), len(v.Evidence()))
			}
			one, other, err := v.Roots().CheckEvidence(v.Evidence()[0])
			if err != nil || one == nil || other.Size != size {
				t.Errorf("the evidence: %v", err)
			}
			mustConsider(t, v, r.goOn(t, "and on"), Newer)
		})
	}
}

// TestCoercedAfterTheTheft: the new key alone can't lead a reader off what the root
// keys have said it begins with, though he knows less than that.
func TestCoercedAfterTheTheft(t *testing.T) {
	r, _, honest := robbed(t, 5)
	v := view(t, r.publisher)
	for _, h := range honest[:2] {
		mustConsider(t, v, h, Newer)
	}
	extend(t, v, r.rekey(t, 5))
	other := &rotated{publisher: newPublisher(t, "a"), next: r.next}
	other.note = r.note
	for i := range 7 {
		other.history.Append(sha256.Sum256(fmt.Append(nil, "other ", i)))
	}
	h, err := v.Check(other.goOn(t, "a lie").Text())
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Consider(h); got != Provisional {
		t.Fatal(got)
	}
	leaves := other.history.Leaves()[:h.Edition]
	if err := v.Fold(h, leaves[2:]); !errors.Is(err, ErrBegunAnew) {
		t.Errorf("folded: %v", err)
	}
	if err := v.Replace(h, leaves); !errors.Is(err, ErrHead) || v.Size() != 2 {
		t.Errorf("replaced: %v", err)
	}
	// A head that shows by itself what it goes on from is refused at once.
	for name, lie := range map[string]*Log{
		"the next after another past": NewLog(slices.Clone(leaves[:5])),
		"another past of that size":   NewLog(slices.Clone(leaves[:4])),
		"a shorter one":               NewLog(slices.Clone(leaves[:3])),
		"the first of all":            NewLog(nil),
	} {
		other.history = lie
		if _, err := v.Check(other.goOn(t, "a lie").Text()); !errors.Is(err, ErrHead) || errors.Is(err, ErrOldRoots) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The last good edition may be signed again by the new key.
	last := honest[4]
	again, err := SignHead(last.Leaf, last.Path, 1, last.Time, r.next)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = v.Check(again.Text()); err != nil {
		t.Fatal(err)
	}
	if err := v.Fold(h, r.history.Leaves()[2:4]); err != nil || v.Size() != 5 {
		t.Errorf("signed again: %v", err)
	}
}

// TestHugeTree: a thief may sign a tree of any size. One that no head can be of is
// refused as it is; the largest is taken by a reader who is new, and taken back.
func TestHugeTree(t *testing.T) {
	r, _, honest := robbed(t, 5)
	huge := func(edition uint64) *Head {
		leaf := r.leaf("huge")
		leaf.Edition = edition
		path := make([]Hash, 0, 64)
		for n := edition; n > 0; n &= n - 1 {
			path = append(path, sha256.Sum256(fmt.Append(nil, n)))
		}
		h, err := SignHead(leaf, path, 0, time.Unix(1_900_000_000, 0), r.log)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	v := view(t, r.publisher)
	for _, n := range []uint64{1 << 40, 1 << 62, maxNumber + 1} {
		if _, err := v.Check(huge(n).Text()); !errors.Is(err, ErrHead) {
			t.Errorf("edition %d: %v", n, err)
		}
	}
	known := view(t, r.publisher)
	mustConsider(t, known, honest[4], Newer)
	mustConsider(t, known, huge(maxNumber), Provisional)
	if err := known.Fold(huge(maxNumber), nil); !errors.Is(err, ErrHead) {
		t.Errorf("folded without its leaves: %v", err)
	}
	mustConsider(t, v, huge(maxNumber), Newer)
	if v = reopen(t, v); v.Size() != maxNumber+1 {
		t.Fatalf("%d editions are held", v.Size())
	}
	mustConsider(t, v, honest[4], Stale)
	note := r.rekey(t, 5)
	next := r.goOn(t, "after")
	for _, v := range []*View{v, known} {
		extend(t, v, note)
		mustConsider(t, v, next, Newer)
		if v = reopen(t, v); v.Size() != 6 || v.Forked() {
			t.Errorf("%d editions are held, forked %v", v.Size(), v.Forked())
		}
		// The size says nothing across generations; neither does the time.
		if !next.Newer(huge(maxNumber)) || huge(maxNumber).Newer(next) {
			t.Error("the larger tree is the newer one")
		}
	}
}

// TestGenerations: several thefts in a row, for readers who have slept through some of
// them, and a base that goes back behind an earlier one.
func TestGenerations(t *testing.T) {
	r, thief, honest := robbed(t, 5)
	follow, sleeper := view(t, r.publisher), view(t, r.publisher)
	for _, h := range honest {
		mustConsider(t, follow, h, Newer)
		mustConsider(t, sleeper, h, Newer)
	}
	mustConsider(t, sleeper, thief.publish(t, "theirs"), Newer)
	for i, good := range []int{5, 6, 3, 4} {
		note := r.rekey(t, good)
		extend(t, follow, note)
		follow.Withdrew()
		mustConsider(t, follow, r.goOn(t, fmt.Sprint("generation ", i)), Newer)
	}
	for _, note := range r.notes[1:] {
		extend(t, sleeper, note)
	}
	if first, ok := sleeper.Withdrawn(); !ok || first != 3 {
		t.Errorf("withdrawn from %d, %v", first, ok)
	}
	newest := r.goOn(t, "now")
	mustConsider(t, follow, newest, Newer)
	mustConsider(t, sleeper, newest, Provisional)
	if err := sleeper.Fold(newest, r.history.Leaves()[3:newest.Edition]); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*View{follow, sleeper} {
		if v = reopen(t, v); v.Size() != newest.Size || v.Forked() || len(v.Evidence()) > 2*maxEvidence {
			t.Errorf("%d editions, %d pieces of evidence", v.Size(), len(v.Evidence()))
		}
		for _, e := range v.Evidence() {
			if _, _, err := v.Roots().CheckEvidence(e); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestForkSettledByRootKeys: an alarm about a fork ends when the root keys have said
// which history is true, and its proof stays. A new fork is a new alarm.
func TestForkSettledByRootKeys(t *testing.T) {
	r, thief, honest := robbed(t, 3)
	v := view(t, r.publisher)
	for _, h := range honest {
		mustConsider(t, v, h, Newer)
	}
	mustConsider(t, v, thief.publish(t, "theirs"), Fork)
	if !v.Forked() {
		t.Fatal("no alarm")
	}
	extend(t, v, r.rekey(t, 5))
	if v.Forked() || len(v.Evidence()) != 1 {
		t.Errorf("forked %v, %d pieces of evidence", v.Forked(), len(v.Evidence()))
	}
	if _, _, err := v.Roots().CheckEvidence(v.Evidence()[0]); err != nil {
		t.Error(err)
	}
	mustConsider(t, v, r.goOn(t, "after"), Newer)
	split := &rotated{publisher: &publisher{id: r.id, note: r.note, history: NewLog(slices.Clone(r.history.Leaves()[:5]))}, next: r.next}
	mustConsider(t, v, split.goOn(t, "otherwise"), Fork)
	if v = reopen(t, v); !v.Forked() || len(v.Evidence()) != 2 {
		t.Errorf("forked %v, %d pieces of evidence", v.Forked(), len(v.Evidence()))
	}
}

// TestEvidenceOfTheft: a head that was left out stands alone; one that was not does not.
func TestEvidenceOfTheft(t *testing.T) {
	r, thief, honest := robbed(t, 4)
	theirs := thief.publish(t, "theirs") // as many as the honest ones
	further := thief.publish(t, "further")
	r.rekey(t, 5)
	roots, err := ParseRoots(r.id, r.notes)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		h     *Head
		proof bool
	}{
		"in the log that goes on": {honest[2], false},
		"its last":                {honest[4], false},
		"another of its size":     {theirs, true},
		"beyond it":               {further, true},
		"of the new generation":   {r.goOn(t, "after"), false},
	} {
		_, h, err := roots.CheckEvidence(Evidence{Theirs: c.h.Text()})
		if c.proof != (err == nil) || err != nil && !errors.Is(err, ErrNotProven) || h == nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, good, err := roots.Ended(c.h.Text()); err != nil || good == c.proof {
			t.Errorf("%s: good %v, %v", name, good, err)
		}
		before, err := ParseRoots(r.id, r.notes[:1])
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := before.CheckEvidence(Evidence{Theirs: c.h.Text()}); err == nil {
			t.Errorf("%s: proven without the root note that ended it", name)
		}
	}
}

// TestGrantsOfAStolenKey: whoever had the log key and an invite could give a grant any
// number. It counts for nothing in the next generation.
func TestGrantsOfAStolenKey(t *testing.T) {
	r, _, _ := robbed(t, 5)
	v := view(t, r.publisher)
	seal := func(serial uint64, generation uint64, key ed25519.PrivateKey, host string) []byte {
		g := Grant{
			Channel: r.id, Serial: serial, Epochs: []Epoch{{0, EpochKey{byte(serial)}}},
			Places: Places{Relays: []Relay{{Host: host, Port: 443, Pin: Pin{1}}}},
		}
		file, err := SealGrant(g, v.Invite().Seed, generation, key, 0)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	false1 := seal(1<<62, 0, r.log, "thief.example")
	if err := v.SetGrant(false1); err != nil {
		t.Fatal(err)
	}
	extend(t, v, r.rekey(t, 5))
	if err := v.SetGrant(false1); !errors.Is(err, ErrGrant) {
		t.Errorf("the old key's: %v", err)
	}
	if err := v.SetGrant(seal(3, 1, r.next, "relay.example")); err != nil {
		t.Fatal(err)
	}
	v = reopen(t, v)
	if k, _ := v.EpochKey(0); k != (EpochKey{3}) || v.Places().Relays[0].Host != "relay.example" {
		t.Error("the thief's grant holds on")
	}
}

// TestLongLog: of a log as long as a thief may make it the oldest leaves are forgotten; what
// is stored stays small, is read again, and goes on, also where the root keys leave out
// all that is remembered.
func TestLongLog(t *testing.T) {
	p := newPublisher(t, "a")
	v := view(t, p)
	v.Consider(p.publish(t, "first"))
	short := slices.Clone(p.history.Leaves())
	for v.Size() < 3*maxLeaves/2 {
		from := v.Size()
		for range maxLeaves/2 + 1 {
			p.history.Append(Hash{1})
		}
		h := p.publish(t, "next")
		if err := v.Fold(h, p.history.Leaves()[from:h.Edition]); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.leaves) > maxLeaves || len(v.leaves) < keptLeaves {
		t.Errorf("%d leaves are remembered", len(v.leaves))
	}
	b, err := v.Marshal()
	if err != nil || len(b) > 15<<20 {
		t.Fatalf("%d bytes are stored, %v", len(b), err)
	}
	if v, err = ParseView(b); err != nil {
		t.Fatal(err)
	}
	mustConsider(t, v, p.publish(t, "and on"), Newer)
	n := p.note
	n.Version, n.Channel, n.Previous = 2, p.id, sha256.Sum256(p.note.Text())
	n.Log = LogKey{Generation: 1, Key: pub(key("the next log key")), Base: 1, BaseHash: TreeHash(slices.Values(short))}
	msg, err := n.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, v, msg)
	if first, yes := v.Withdrawn(); !yes || first > 1 || v.Size() != 0 {
		t.Errorf("withdrawn from %d, %v; %d editions", first, yes, v.Size())
	}
}

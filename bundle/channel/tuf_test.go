package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// What The Update Framework asks of a client (its specification, section 5, and the
// conformance suite's tests, by whose names the cases here go) is asked of ours, where
// we have such a thing. Its root metadata is our root note; its timestamp, snapshot
// and targets are one thing here, the head: it states number, contents and past of the
// newest edition at once, so they can't be mixed. Nothing expires here: news that is
// old is shown, with its age.

// tufVersion is one version of the root note: which keys it names, how many of them
// must sign, and who has.
type tufVersion struct {
	keys      []int
	threshold int
	sigs      []int
}

// TestTUFRootRotation is test_root_rotation. All versions but the last are in order.
func TestTUFRootRotation(t *testing.T) {
	for name, c := range map[string]struct {
		versions []tufVersion
		refused  bool
	}{
		"1-of-1-key-rotation":                   {versions: []tufVersion{{[]int{1}, 1, []int{1}}, {[]int{2}, 1, []int{2, 1}}, {[]int{2}, 1, []int{2}}}},
		"1-of-1-key-rotation-unused-signatures": {versions: []tufVersion{{[]int{1}, 1, []int{3, 1, 4}}, {[]int{2}, 1, []int{3, 2, 1, 4}}, {[]int{2}, 1, []int{3, 2, 4}}}},
		"3-of-5-sign-with-different-keycombos": {versions: []tufVersion{
			{[]int{0, 1, 2, 3, 4}, 3, []int{0, 2, 4}},
			{[]int{0, 1, 2, 3, 4}, 3, []int{0, 4, 1}},
			{[]int{0, 1, 2, 3, 4}, 3, []int{0, 1, 3}},
			{[]int{0, 1, 2, 3, 4}, 3, []int{0, 1, 3}},
		}},
		"3-of-5-one-key-rotated": {versions: []tufVersion{{[]int{0, 1, 2, 3, 4}, 3, []int{0, 2, 4}}, {[]int{0, 1, 3, 4, 5}, 3, []int{0, 4, 1}}}},
		"3-of-5-one-key-rotated-with-intermediate-step": {versions: []tufVersion{
			{[]int{0, 1, 2, 3, 4}, 3, []int{0, 2, 4}},
			{[]int{0, 1, 3, 4, 5}, 3, []int{0, 2, 4, 5}},
			{[]int{0, 1, 3, 4, 5}, 3, []int{0, 4, 5}},
		}},
		"3-of-5-all-keys-rotated-with-intermediate-step": {versions: []tufVersion{
			{[]int{0, 1, 2, 3, 4}, 3, []int{0, 2, 4}},
			{[]int{5, 6, 7, 8, 9}, 3, []int{0, 2, 4, 5, 6, 7}},
			{[]int{5, 6, 7, 8, 9}, 3, []int{5, 6, 7}},
		}},
		"1-of-3-threshold-increase-to-2-of-3":                             {versions: []tufVersion{{[]int{1, 2, 3}, 1, []int{1}}, {[]int{1, 2, 3}, 2, []int{1, 2}}}},
		"2-of-3-threshold-decrease-to-1-of-3":                             {versions: []tufVersion{{[]int{1, 2, 3}, 2, []int{1, 2}}, {[]int{1, 2, 3}, 1, []int{1, 2}}, {[]int{1, 2, 3}, 1, []int{1}}}},
		"1-of-2-threshold-increase-to-2-of-2":                             {versions: []tufVersion{{[]int{1}, 1, []int{1}}, {[]int{1, 2}, 2, []int{1, 2}}}},
		"1-of-1-key-rotation-fail-not-signed-with-old-key":                {[]tufVersion{{[]int{1}, 1, []int{1}}, {[]int{2}, 1, []int{2, 3, 4}}}, true},
		"1-of-1-key-rotation-fail-not-signed-with-new-key":                {[]tufVersion{{[]int{1}, 1, []int{1}}, {[]int{2}, 1, []int{1, 3, 4}}}, true},
		"3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys":          {[]tufVersion{{[]int{0, 1, 2, 3, 4}, 3, []int{0, 2, 4}}, {[]int{0, 1, 3, 4, 5}, 3, []int{0, 2, 4}}}, true},
		"3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys":          {[]tufVersion{{[]int{0, 1, 2, 3, 4}, 3, []int{0, 2, 4}}, {[]int{0, 1, 3, 4, 5}, 3, []int{0, 4, 5}}}, true},
		"1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": {[]tufVersion{{[]int{1, 2, 3}, 1, []int{1}}, {[]int{1, 2, 3}, 2, []int{2}}}, true},
		"2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-reached": {[]tufVersion{{[]int{1, 2, 3}, 2, []int{1, 2}}, {[]int{1, 2, 3}, 1, []int{1}}}, true},
		// A key that signs twice is one key (test_duplicate_sig_keyids).
		"one-key-signs-twice": {[]tufVersion{{[]int{1, 2}, 2, []int{1, 2}}, {[]int{1, 2}, 2, []int{1, 1}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			notes := tufNotes(t, c.versions)
			good := notes
			if c.refused {
				good = notes[:len(notes)-1]
			}
			id := IDOf(textOf(t, notes[0]))
			roots, err := ParseRoots(id, good)
			if err != nil {
				t.Fatal(err)
			}
			v := NewView(&Invite{Channel: id, Seed: Seed{1}, IPNS: pub(key("ipns"))})
			for _, n := range good {
				extend(t, v, n)
			}
			if c.refused {
				if _, err := roots.Extend(notes[len(notes)-1]); !errors.Is(err, ErrRootNote) {
					t.Errorf("the last one: %v", err)
				}
				if err := v.ExtendRoots(notes[len(notes)-1]); !errors.Is(err, ErrRootNote) {
					t.Errorf("the last one, by a reader: %v", err)
				}
			}
			if v.Roots().Version() != uint64(len(good)) {
				t.Errorf("version %d is held instead of %d", v.Roots().Version(), len(good))
			}
		})
	}
}

func tufKey(i int) ed25519.PrivateKey { return key(fmt.Sprint("tuf ", i)) }

// tufNotes signs a chain of root notes, whether or not it is in order.
func tufNotes(t *testing.T, versions []tufVersion) (notes [][]byte) {
	t.Helper()
	var last *RootNote
	var id ID
	for i, v := range versions {
		n := RootNote{Version: uint64(i + 1), Threshold: v.threshold, Log: LogKey{Key: pub(key("log"))}, IPNS: pub(key("ipns"))}
		if last != nil {
			n.Channel, n.Previous = id, last.Hash()
		}
		for _, k := range v.keys {
			n.RootKeys = append(n.RootKeys, pub(tufKey(k)))
		}
		var keys []ed25519.PrivateKey
		for _, k := range v.sigs {
			keys = append(keys, tufKey(k))
		}
		msg, err := n.Sign(keys...)
		if err != nil {
			t.Fatal(err)
		}
		if last == nil {
			id = IDOf(n.Text())
		}
		last, notes = &n, append(notes, msg)
	}
	return notes
}

func textOf(t *testing.T, note []byte) []byte {
	t.Helper()
	text, _, err := parseNote(note)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTUFRootVersions: section 5.3. Versions are taken one by one; what is skipped,
// replayed, lower, or of other keys changes nothing.
func TestTUFRootVersions(t *testing.T) {
	same := tufVersion{[]int{1}, 1, []int{1}}
	notes := tufNotes(t, []tufVersion{same, {[]int{1, 2}, 1, []int{1}}, {[]int{2}, 1, []int{1, 2}}, {[]int{2, 3}, 2, []int{2, 3}}})
	others := tufNotes(t, []tufVersion{same, {[]int{1, 3}, 1, []int{1}}, {[]int{3}, 1, []int{1, 3}}})
	stranger := tufNotes(t, []tufVersion{{[]int{7}, 1, []int{7}}})
	id := IDOf(textOf(t, notes[0]))
	roots, err := ParseRoots(id, notes[:3])
	if err != nil {
		t.Fatal(err)
	}
	for name, note := range map[string][]byte{
		"skipped: not the first":  nil,
		"replayed: the last one":  notes[2],
		"lower: the one before":   notes[1],
		"lower: the first":        notes[0],
		"another of that version": others[2],
		"another channel's":       stranger[0],
		"a byte short":            notes[3][:len(notes[3])-1],
	} {
		if name == "skipped: not the first" {
			first, err := ParseRoots(id, notes[:1])
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range notes[2:] {
				if _, err := first.Extend(n); !errors.Is(err, ErrRootNote) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := ParseRoots(id, notes[1:]); !errors.Is(err, ErrRootNote) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if _, err := roots.Extend(note); !errors.Is(err, ErrRootNote) {
			t.Errorf("%s: %v", name, err)
		}
		v := NewView(&Invite{Channel: id, Seed: Seed{1}, IPNS: pub(key("ipns"))})
		for _, n := range notes[:3] {
			extend(t, v, n)
		}
		_ = v.ExtendRoots(note) // one of a version that is held is no error
		if v.Roots().Version() != 3 || !bytes.Equal(v.Roots().Notes()[2], notes[2]) {
			t.Errorf("%s: it is held now", name)
		}
	}
	if next, err := roots.Extend(notes[3]); err != nil || next.Version() != 4 {
		t.Errorf("the next one: %v", err)
	}
	// A reader several versions behind walks the chain, whatever the head says first.
	v := NewView(&Invite{Channel: id, Seed: Seed{1}, IPNS: pub(key("ipns"))})
	leaf := (&publisher{id: id, history: NewLog(nil)}).leaf("x")
	leaf.RootVersion = 4
	head, err := SignHead(leaf, nil, 0, leaf.Date, key("log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range notes {
		if _, err := v.Check(head.Text()); !errors.Is(err, ErrNewerRoots) {
			t.Errorf("before version %d: %v", v.Roots().Version()+1, err)
		}
		extend(t, v, n)
	}
	mustConsider(t, v, head, Newer)
}

// TestTUF: rollback, freeze, fast-forward, and mix-and-match.
func TestTUF(t *testing.T) {
	// Each case has a channel of five editions and a reader who holds them all.
	type world struct {
		r      *rotated
		thief  *publisher
		honest []*Head
		v      *View
	}
	at := func(h *Head, later time.Duration, generation uint64, key ed25519.PrivateKey) *Head {
		again, err := SignHead(h.Leaf, h.Path, generation, h.Time.Add(later), key)
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	recovers := func(t *testing.T, w world, forward int) {
		t.Helper()
		for i := range forward {
			mustConsider(t, w.v, w.thief.publish(t, fmt.Sprint("theirs ", i)), Newer)
		}
		if got := w.v.Size(); got != uint64(5+forward) {
			t.Fatalf("%d editions are held", got)
		}
		extend(t, w.v, w.r.rekey(t, 5))
		mustConsider(t, w.v, w.r.goOn(t, "recovered"), Newer)
		if w.v.Size() != 6 {
			t.Errorf("%d editions are held", w.v.Size())
		}
	}
	for name, play := range map[string]func(t *testing.T, w world){
		// Rollback: who shows what is older changes nothing, whenever it was signed.
		"test_new_timestamp_version_rollback": func(t *testing.T, w world) {
			later := at(w.honest[4], time.Hour, 0, w.r.log)
			mustConsider(t, w.v, later, Heartbeat)
			mustConsider(t, w.v, w.honest[4], Same)
			if !w.v.Head().Time.Equal(later.Time) {
				t.Error("the older time is held")
			}
		},
		"test_simple_snapshot_rollback": func(t *testing.T, w world) {
			for _, h := range w.honest[:4] {
				mustConsider(t, w.v, h, Stale)
			}
		},
		"test_snapshot_rollback": func(t *testing.T, w world) {
			mustConsider(t, w.v, at(w.honest[3], 1000*time.Hour, 0, w.r.log), Stale)
			if len(w.v.Evidence()) > 0 {
				t.Error("whoever lags was accused")
			}
		},
		"test_targets_rollback": func(t *testing.T, w world) { // the number goes on, what it names goes back
			leaf := w.honest[3].Leaf
			leaf.Edition = 4
			h, err := SignHead(leaf, w.honest[4].Path, 0, w.honest[4].Time.Add(time.Hour), w.r.log)
			if err != nil {
				t.Fatal(err)
			}
			mustConsider(t, w.v, h, Fork)
			if !w.v.Forked() {
				t.Error("no alarm")
			}
		},
		// Fast-forward: new keys take the number back.
		"test_new_timestamp_fast_forward_recovery": func(t *testing.T, w world) {
			mustConsider(t, w.v, at(w.honest[4], 1<<20*time.Hour, 0, w.r.log), Heartbeat)
			extend(t, w.v, w.r.rekey(t, 5))
			mustConsider(t, w.v, w.r.goOn(t, "recovered"), Newer)
		},
		"test_new_snapshot_fast_forward_recovery": func(t *testing.T, w world) { recovers(t, w, 1) },
		"test_new_targets_fast_forward_recovery":  func(t *testing.T, w world) { recovers(t, w, 95) },
		// Freeze: nothing expires, and no clock refuses a head; its age is known.
		"test_timestamp_expired": func(t *testing.T, w world) {
			mustConsider(t, w.v, w.honest[4], Same)
			signed := w.v.Head().Time
			for _, clock := range []time.Time{signed.Add(-3 * 365 * 24 * time.Hour), signed.Add(3 * 365 * 24 * time.Hour)} {
				if now := w.v.Now(clock); now.Before(signed) || now.Before(clock) {
					t.Errorf("at %v it is %v", clock, now)
				}
			}
		},
		"test_expired_metadata": func(t *testing.T, w world) { // old news leads on to new news
			mustConsider(t, w.v, w.r.publisher.publish(t, "five years later"), Newer)
		},
		"test_root_expired": func(t *testing.T, w world) { // a key has its time, and root notes have none
			n := w.r.note
			n.Version, n.Channel, n.Previous = 2, w.r.id, sha256.Sum256(w.r.note.Text())
			n.Log.NotAfter = w.honest[4].Time
			note, err := n.Sign(w.r.root)
			if err != nil {
				t.Fatal(err)
			}
			extend(t, w.v, note)
			mustConsider(t, w.v, w.honest[4], Same)
			if _, err := w.v.Check(at(w.honest[4], time.Second, 0, w.r.log).Text()); !errors.Is(err, ErrHead) {
				t.Errorf("after its time: %v", err)
			}
		},
		// Mix-and-match: a head is of one piece.
		"test_new_snapshot_version_mismatch": func(t *testing.T, w world) {
			for name, mix := range map[string]func(h *Head){
				"another edition's leaf":  func(h *Head) { h.Leaf = w.honest[3].Leaf },
				"another edition's past":  func(h *Head) { h.Path = w.honest[3].Path },
				"another edition's tree":  func(h *Head) { h.Tree, h.sig = w.honest[3].Tree, w.honest[3].sig },
				"another edition's time":  func(h *Head) { h.Time = w.honest[3].Time },
				"another edition's texts": func(h *Head) { h.Content = w.honest[3].Content },
				"another edition's front": func(h *Head) { h.Root = w.honest[3].Root },
			} {
				h := *w.honest[4]
				mix(&h)
				if _, err := w.v.Check(h.Text()); !errors.Is(err, ErrHead) {
					t.Errorf("%s: %v", name, err)
				}
			}
		},
		"test_new_targets_version_mismatch": func(t *testing.T, w world) { // the leaves between are another's
			w.r.publisher.publish(t, "5")
			ahead := w.r.publisher.publish(t, "6")
			mustConsider(t, w.v, ahead, Provisional)
			if err := w.v.Fold(ahead, []Hash{{1}}); !errors.Is(err, ErrFork) {
				t.Errorf("folded: %v", err)
			}
		},
		"mix-and-match across generations": func(t *testing.T, w world) {
			old := at(w.honest[4], time.Hour, 0, w.r.log)
			extend(t, w.v, w.r.rekey(t, 5))
			for name, h := range map[string]*Head{
				"the old key in the new generation": at(w.honest[4], time.Hour, 1, w.r.log),
				"the new key in the old generation": at(w.honest[4], time.Hour, 0, w.r.next),
			} {
				if _, err := w.v.Check(h.Text()); !errors.Is(err, ErrHead) || errors.Is(err, ErrOldRoots) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := w.v.Check(old.Text()); !errors.Is(err, ErrOldRoots) {
				t.Errorf("the old generation: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, thief, honest := robbed(t, 5)
			v := view(t, r.publisher)
			for _, h := range honest {
				mustConsider(t, v, h, Newer)
			}
			play(t, world{r, thief, slices.Clone(honest), v})
			if v = reopen(t, v); v.Size() < 5 {
				t.Errorf("%d editions are held", v.Size())
			}
		})
	}
}

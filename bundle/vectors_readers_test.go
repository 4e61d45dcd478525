package bundle_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tamizdat/bundle/channel"
)

func spelt(hs []channel.Hash) (out []string) {
	for _, h := range hs {
		out = append(out, base64.StdEncoding.EncodeToString(h[:]))
	}
	return out
}

// readers are told what section 8 is about: which head stands, and what goes.
func (m *historian) readers() {
	note := func(n int) historyStep { return historyStep{Note: m.v.RootNotes[n-1]} }
	see := func(name string, h *channel.Head, verdict string) historyStep {
		return historyStep{Head: m.file(name, h), Verdict: verdict}
	}
	a := func(n int, verdict string) historyStep { return see("a"+string(rune('0'+n)), m.a.heads[n], verdict) }
	b := func(n int, verdict string) historyStep { return see("b"+string(rune('0'+n)), m.b.heads[n], verdict) }
	c := func(n int, verdict string) historyStep { return see("c"+string(rune('0'+n)), m.c.heads[n], verdict) }
	d := func(n int, verdict string) historyStep { return see("d"+string(rune('0'+n)), m.d.heads[n], verdict) }
	folded := func(s historyStep, leaves []channel.Hash, folds string) historyStep {
		s.Leaves, s.Folds = spelt(leaves), folds
		return s
	}
	heartbeat := see("a4-later", m.head(4, 'a', m.a.heads[4].Path, 0, 900), "heartbeat")
	add := func(about string, steps ...historyStep) {
		m.v.Readers = append(m.v.Readers, told(m.t, m.id, historyReader{About: about, Steps: steps}, func(name string) []byte { return m.files[name] }))
	}
	add("an older head is stale, and a newer time is a heartbeat", note(1), a(2, "newer"), a(3, "newer"), a(4, "newer"), a(3, "stale"), a(4, "same"), heartbeat, a(4, "same"), a(0, "stale"))
	add("what is older than all that is known says nothing", note(1), a(4, "newer"), d(1, "stale"))
	add("back to a state that never was", note(1), a(3, "newer"), a(4, "newer"), b(3, "fork"), a(4, "same"))
	add("another tree of the same size", note(1), a(4, "newer"), b(4, "fork"))
	add("a larger tree that does not continue ours", note(1), a(4, "newer"), b(5, "fork"))
	add("far behind, and on", note(1), a(1, "newer"), folded(a(4, "provisional"), m.a.leaves[2:4], "newer"))
	add("far behind a larger tree that is another's", note(1), a(3, "newer"), folded(b(5, "provisional"), m.b.leaves[4:5], "fork"))
	add("the leaves between are wrong", note(1), a(1, "newer"), folded(a(4, "provisional"), m.b.leaves[2:4], "fork"))
	add("the same fork shown twice", note(1), a(4, "newer"), b(4, "fork"), b(4, "fork"))
	add("a theft is repaired", note(1), a(2, "newer"), b(3, "newer"), b(4, "newer"), note(2), b(5, "old"), c(3, "newer"), c(4, "newer"))
	add("nothing was held past L", note(1), a(2, "newer"), note(2), see("c2", m.again(2), "heartbeat"), c(3, "newer"))
	add("less than L was held", note(1), a(1, "newer"), note(2), folded(c(3, "provisional"), m.a.leaves[2:3], "newer"))
	began := folded(c(3, "provisional"), m.a.leaves[2:3], "begun anew")
	began.Log = spelt(m.c.leaves[:3])
	add("less than L was held, and it was another's", note(1), a(0, "newer"), d(1, "newer"), note(2), began)
	add("joined past L", note(1), b(4, "newer"), note(2), c(3, "newer"))
	add("the tree at L is another", note(1), a(0, "newer"), d(1, "newer"), d(2, "newer"), d(3, "newer"), note(2), c(4, "newer"))
	add("a fork ends with its generation", note(1), a(2, "newer"), a(3, "newer"), b(3, "fork"), note(2), c(3, "newer"))
}

// told plays a reader of a channel, to say what he holds in the end.
func told(t *testing.T, id channel.ID, r historyReader, read func(string) []byte) historyReader {
	t.Helper()
	v := channel.NewView(&channel.Invite{Channel: id, IPNS: public(signer("ipns key"))})
	for _, s := range r.Steps {
		played(t, v, s, r.About, read)
	}
	r.Size, r.Held, r.Tree = v.Size(), 0, ""
	if h := v.Head(); h != nil {
		r.Held, r.Tree = h.Size, stated(h).Tree
	}
	r.Evidence, r.Forked, r.Withdrawn = len(v.Evidence()), v.Forked(), nil
	if first, ok := v.Withdrawn(); ok {
		r.Withdrawn = &first
	}
	return r
}

// played shows a reader one thing, and checks what he says.
func played(t *testing.T, v *channel.View, s historyStep, about string, read func(string) []byte) {
	t.Helper()
	if s.Note != "" {
		if err := v.ExtendRoots(read(s.Note)); err != nil {
			t.Fatalf("%s: %v", about, err)
		}
		return
	}
	h, err := v.Check(read(s.Head))
	got := "old"
	if !errors.Is(err, channel.ErrOldRoots) {
		if err != nil {
			t.Fatalf("%s: %s: %v", about, s.Head, err)
		}
		got = v.Consider(h).String()
	}
	if got != s.Verdict {
		t.Errorf("%s: %s is %s instead of %s", about, s.Head, got, s.Verdict)
	}
	if s.Folds == "" {
		return
	}
	switch err := v.Fold(h, hashes(t, s.Leaves)); {
	case errors.Is(err, channel.ErrFork):
		got = "fork"
	case errors.Is(err, channel.ErrBegunAnew):
		got = "begun anew"
		if err := v.Replace(h, hashes(t, s.Log)); err != nil {
			t.Errorf("%s: %v", about, err)
		}
	case err != nil:
		t.Errorf("%s: %v", about, err)
	default:
		got = "newer"
	}
	if got != s.Folds {
		t.Errorf("%s: %s is %s, folded, instead of %s", about, s.Head, got, s.Folds)
	}
}

func hashes(t *testing.T, spelt []string) (out []channel.Hash) {
	t.Helper()
	for _, s := range spelt {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, channel.Hash(b))
	}
	return out
}

// TestHistoryVectors: the files are what is made here, and say what history.json does.
// Evidence is read by mirror/reader.
func TestHistoryVectors(t *testing.T) {
	m := &historian{t: t, files: map[string][]byte{}}
	for _, step := range []func(){m.histories, m.heads, m.proofs, m.readers, m.withoutProof, m.badHeads} {
		step()
	}
	m.put("history.json", indented(t, m.v))
	for name, want := range m.files {
		if *update || *add { // nothing in them is random
			if err := os.WriteFile(filepath.Join(vectorDir, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := readVector(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is not what it is made to be; go test ./bundle -update", name)
		}
	}
	there, err := filepath.Glob(filepath.Join(vectorDir, "history*"))
	if err != nil || len(there) != len(m.files) {
		t.Errorf("%d files instead of %d: %v", len(there), len(m.files), err)
	}
	for _, h := range m.v.Heads {
		roots, err := channel.ParseRoots(m.id, m.notes[:h.Notes])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{h.Text, h.Compact} {
			got, conclude := readHead(roots, readVector(t, name))
			if conclude != h.Conclude || got != nil && stated(got) != h.statement {
				t.Errorf("%s under %d notes: %s, %+v", name, h.Notes, conclude, got)
			}
		}
	}
	for _, r := range m.v.Readers {
		if diff := cmp.Diff(r, told(t, m.id, r, func(name string) []byte { return readVector(t, name) })); diff != "" {
			t.Errorf("%s:\n%s", r.About, diff)
		}
	}
	for _, c := range m.v.Refused {
		if c.As == "evidence" {
			continue
		}
		if err := refuse(t, nil, nil, m.id, c); err == nil || !bytes.Contains([]byte(err.Error()), []byte(c.Error)) {
			t.Errorf("%s: %v; %s", c.File, err, c.Check)
		}
	}
	if n := slices.IndexFunc(m.v.Refused, func(c invalid) bool { return c.As == "evidence" }); n < 0 {
		t.Error("no evidence is refused")
	}
}

// readHead says what a head is to who has these root notes.
func readHead(roots *channel.Roots, raw []byte) (*channel.Head, string) {
	h, err := roots.Head(raw)
	switch {
	case errors.Is(err, channel.ErrOldRoots):
		h, _, err = roots.Ended(raw)
		if err == nil {
			return h, "old"
		}
	case errors.Is(err, channel.ErrNewerRoots):
		return nil, "newer root note needed"
	case err == nil:
		return h, "good"
	}
	return nil, err.Error()
}

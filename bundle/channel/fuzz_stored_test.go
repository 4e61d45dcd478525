package channel

import (
	"bytes"
	"testing"

	"tamizdat/internal/testvectors"
)

// FuzzDraft: a draft that is read is written the same.
func FuzzDraft(f *testing.F) {
	testvectors.Seed(f, "root-*", "invalid/root-*")
	n, _, err := parseRootNote(testvectors.File(f, "root-1.note"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add((&Draft{Note: n}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDraft(b)
		if err != nil {
			return
		}
		if got := d.Marshal(); !bytes.Equal(got, b) {
			t.Fatalf("draft is written as other bytes:\n%q\n%q", b, got)
		}
		if n := d.SignedBy(d.Note.RootKeys...); n > len(d.Note.RootKeys) {
			t.Fatalf("%d of %d keys have signed", n, len(d.Note.RootKeys))
		}
	})
}

// FuzzGrantFile: no bytes pass for a grant but those that the batch's publisher made.
func FuzzGrantFile(f *testing.F) {
	roots := vectorRoots(f)
	testvectors.Seed(f, "grant.age", "invalid/grant-*")
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := roots.OpenGrant(file, Seed{1}); err == nil {
			t.Fatal("a grant for nobody opens")
		}
		if header, err := grantHeaderOf(file); err == nil && len(header) != grantHeader {
			t.Fatalf("a header of %d bytes passes", len(header))
		}
	})
}

// FuzzDeniedNote: a list that is taken was signed with the log key.
func FuzzDeniedNote(f *testing.F) {
	roots := vectorRoots(f)
	testvectors.Seed(f, "denied.note", "invalid/denied-*")
	f.Fuzz(func(t *testing.T, msg []byte) {
		d, err := roots.Denied(msg)
		if err != nil {
			return
		}
		text, sigs, err := parseNote(msg)
		if err != nil || !bytes.Equal(text, d.text()) || !sigs[0].verifiedBy(text, Origin(roots.Channel(), 0), roots.Last().Log.Key) {
			t.Fatalf("taken: %q", msg)
		}
	})
}

// FuzzView: what is read of a view that lay on a disk is written the same again.
func FuzzView(f *testing.F) {
	roots := vectorRoots(f)
	head := testvectors.File(f, "head-0.txt")
	inv := &Invite{Channel: roots.Channel(), Seed: Seed{1}, IPNS: roots.IPNSKey()}
	v := NewView(inv)
	for range 3 { // nothing, the root note, a head
		b, err := v.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		switch {
		case v.Roots().Version() == 0:
			err = v.ExtendRoots(roots.Notes()[0])
		case v.Head() == nil:
			var h *Head
			if h, err = v.Check(head); err == nil {
				v.Consider(h)
			}
		}
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseView(b)
		if err != nil {
			return
		}
		out, err := v.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseView(out)
		if err != nil {
			t.Fatalf("what it is written as is not read: %v", err)
		}
		if twice, err := again.Marshal(); err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("two spellings: %v\n%s\n%s", err, out, twice)
		}
	})
}

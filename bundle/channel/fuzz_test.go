package channel

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tamizdat/internal/testvectors"
)

// vectorRoots is the chain that the vectors' heads belong to.
func vectorRoots(f *testing.F) *Roots {
	f.Helper()
	note := testvectors.File(f, "root-1.note")
	n, _, err := parseRootNote(note)
	if err != nil {
		f.Fatal(err)
	}
	roots, err := ParseRoots(IDOf(n.Text()), [][]byte{note})
	if err != nil {
		f.Fatal(err)
	}
	return roots
}

// FuzzParseHead: whatever parses, in either form, encodes to the same bytes, and
// both forms say the same.
func FuzzParseHead(f *testing.F) {
	roots := vectorRoots(f)
	testvectors.Seed(f, "head-*", "witness-head-*", "invalid/head-*", "invalid/compact-*")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > MaxHead {
			return
		}
		if h, err := parseHead(raw); err == nil {
			if !bytes.Equal(h.Text(), raw) {
				t.Fatalf("head encodes to other bytes:\n%q\n%q", raw, h.Text())
			}
			if l, err := ParseLeaf(h.Leaf.Text()); err != nil || l.Hash() != h.Leaf.Hash() {
				t.Fatalf("its leaf does not parse again: %v", err)
			}
		}
		if len(raw) > 0 && raw[0] == compactVersion {
			h, err := roots.parseCompact(raw)
			if err != nil {
				return
			}
			if !bytes.Equal(h.Compact(), raw) {
				t.Fatalf("compact head encodes to other bytes:\n%x\n%x", raw, h.Compact())
			}
			if text, err := parseHead(h.Text()); err == nil && !bytes.Equal(text.Compact(), raw) {
				t.Fatal("the text form says something else")
			}
		}
		// The whole check must not panic, and takes nothing that was not signed.
		h, err := roots.Head(raw)
		if err == nil && h.Channel != roots.Channel() {
			t.Fatal("head of another channel accepted")
		}
	})
}

// FuzzRootNote: whatever parses encodes to the same bytes.
func FuzzRootNote(f *testing.F) {
	roots := vectorRoots(f)
	testvectors.Seed(f, "root-*", "witness-root.note", "witness-bad-*.note", "invalid/root-*")
	f.Fuzz(func(t *testing.T, msg []byte) {
		n, sigs, err := parseRootNote(msg)
		if err != nil {
			return
		}
		if got := formatNote(n.Text(), sigs...); !bytes.Equal(got, msg) {
			t.Fatalf("root note encodes to other bytes:\n%q\n%q", msg, got)
		}
		if n.Threshold < 1 || n.Threshold > len(n.RootKeys) || n.Quorum < 0 || n.Quorum > len(n.Witnesses) {
			t.Fatalf("threshold %d of %d, quorum %d of %d", n.Threshold, len(n.RootKeys), n.Quorum, len(n.Witnesses))
		}
		_, _ = roots.Extend(msg) // must not panic
	})
}

// FuzzGrantText: whatever parses encodes to the same bytes.
func FuzzGrantText(f *testing.F) {
	text, _, err := parseNote(testvectors.File(f, "grant.note"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	g := Grant{Channel: ID{1}, Serial: 1, Epochs: []Epoch{{0, EpochKey{1}}}, Places: testPlaces()}
	f.Add(g.text())
	f.Add((&Grant{}).text())
	for _, b := range [][]byte{text, g.text()} {
		if _, err := parseGrant(b); err != nil {
			f.Fatalf("a seed does not parse: %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := parseGrant(text)
		if err != nil {
			return
		}
		if !bytes.Equal(g.text(), text) {
			t.Fatalf("grant encodes to other bytes:\n%q\n%q", text, g.text())
		}
		if err := g.Places.check(); err != nil {
			t.Fatalf("malformed places accepted: %v", err)
		}
	})
}

// FuzzInvite: an invite is read however it was pasted, so other spellings of
// one are welcome; but what it says survives writing it again. body is what the
// checksum would keep a fuzzer from: it gets a fresh one.
func FuzzInvite(f *testing.F) {
	body := (&Invite{Channel: ID{9}, Seed: Seed{8}, IPNS: pub(key("ipns")), Places: testPlaces()}).raw()
	for _, b := range testvectors.Files(f, "invite.txt", "invalid/invite-*") {
		f.Add(string(b), body[:len(body)-inviteSum])
		if v, err := ParseInvite(string(b)); err == nil {
			raw := v.raw()
			f.Add(string(b), raw[:len(raw)-inviteSum])
		}
	}
	f.Fuzz(func(t *testing.T, s string, body []byte) {
		sum := sha256.Sum256(body)
		made := inviteScheme + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(bytes.Clone(body), sum[:inviteSum]...))
		for _, s := range []string{s, made} {
			v, err := ParseInvite(s)
			if err != nil {
				continue
			}
			if err := v.Validate(); err != nil {
				t.Fatalf("accepted, but not valid: %v", err)
			}
			again, err := ParseInvite(v.String())
			if err != nil {
				t.Fatalf("its own spelling is refused: %v", err)
			}
			if diff := cmp.Diff(v, again); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

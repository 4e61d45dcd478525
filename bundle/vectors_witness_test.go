package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
)

// witnessVectors is witness.json. Nothing in it, or in the files that it names, is
// random.
type witnessVectors struct {
	Channel     string              `json:"channel"`
	RootNote    string              `json:"root_note"`
	Quorum      int                 `json:"quorum"`
	Witnesses   []string            `json:"witnesses"` // verifier keys
	Heads       []witnessedHead     `json:"heads"`
	Submissions []witnessSubmission `json:"submissions"`
	// Readers are as in history.json.
	Readers []historyReader `json:"readers"`
	Refused []invalid       `json:"refused"`
}

// witnessedHead is one head in both forms, and who has seen it.
type witnessedHead struct {
	Text    string   `json:"text"`
	Compact string   `json:"compact"`
	Seen    []string `json:"seen"`
}

// witnessSubmission is what a witness is asked to cosign, when it has seen so many.
type witnessSubmission struct {
	File string `json:"file"`
	Old  uint64 `json:"old"`
	Size uint64 `json:"size"`
	Tree string `json:"tree"`
}

const witnessTime = 1_790_100_000

// cosigLine is a cosignature written apart from the package's own code.
func cosigLine(text, name string, key ed25519.PrivateKey) string {
	return cosigLineAt(witnessTime, text, name, key)
}

func cosigLineAt(at uint64, text, name string, key ed25519.PrivateKey) string {
	h := sha256.Sum256(append([]byte(name+"\n\x04"), public(key)...))
	raw := binary.BigEndian.AppendUint64(bytes.Clone(h[:4]), at)
	raw = append(raw, ed25519.Sign(key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// witnessFiles makes the vectors: witness.json, and what it names.
func witnessFiles(t *testing.T) (witnessVectors, map[string][]byte) {
	t.Helper()
	v, files := witnessVectors{Quorum: 2}, map[string][]byte{}
	put := func(name string, b []byte) string { files[name] = b; return name }
	root, log, keys := signer("root key"), signer("log key"), map[string]ed25519.PrivateKey{}
	note := channel.RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{public(root)}, Log: channel.LogKey{Key: public(log)}, IPNS: public(signer("ipns key")), Quorum: 2,
	}
	for _, name := range []string{"w1.example/a", "w2.example/b", "tamizdat/v1/witness/c"} {
		keys[name] = signer("witness " + name)
		w := channel.Witness{Name: name, Key: public(keys[name])}
		note.Witnesses, v.Witnesses = append(note.Witnesses, w), append(v.Witnesses, w.VKey())
	}
	signed, err := note.Sign(root)
	if err != nil {
		t.Fatal(err)
	}
	id := channel.IDOf(note.Text())
	v.Channel, v.RootNote = id.String(), put("witness-root.note", signed)

	history := channel.NewLog(nil)
	var heads []*channel.Head
	for n := range uint64(3) {
		mh, err := multihash.Sum([]byte{byte(n)}, multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		leaf := channel.Leaf{
			Channel: id, Edition: n, RootVersion: 1, Root: cid.NewCidV1(cid.DagProtobuf, mh), Front: record.Names{Large: record.Name{1}, Small: record.Name{2}},
			Content: channel.Hash{3}, Date: time.Unix(1_790_000_000+int64(n), 0).UTC(),
		}
		h, err := channel.SignHead(leaf, history.Edge(), 0, leaf.Date.Add(90*time.Second), log)
		if err != nil {
			t.Fatal(err)
		}
		history.Append(leaf.Hash())
		heads = append(heads, h)
	}
	roots, err := channel.ParseRoots(id, [][]byte{signed})
	if err != nil {
		t.Fatal(err)
	}
	h := heads[2]
	text, _, _ := strings.Cut(string(h.Checkpoint()), "\n\n")
	text += "\n"
	line := func(name string) string { return cosigLine(text, name, keys[name]) }
	bad := strings.Replace(line("w2.example/b"), "A", "B", 1)
	for i, c := range []struct {
		lines string
		seen  []string
	}{
		{"", nil},
		{line("w1.example/a") + line("tamizdat/v1/witness/c"), []string{"w1.example/a", "tamizdat/v1/witness/c"}},
		// In any order; one twice, a bad one, a stranger's, one under another's name, and one of another kind.
		{
			line("tamizdat/v1/witness/c") + line("tamizdat/v1/witness/c") + bad + cosigLine(text, "w9.example", signer("witness 9")) +
				cosigLine(text, "w2.example/b", keys["w1.example/a"]) + cosigLine(text+"x\n", "w1.example/a", keys["w1.example/a"]),
			[]string{"tamizdat/v1/witness/c"},
		},
		// At the first and the last time there is, before, and behind.
		{
			cosigLineAt(1, text, "w1.example/a", keys["w1.example/a"]) + cosigLineAt(1<<63-1, text, "w2.example/b", keys["w2.example/b"]) +
				cosigLineAt(0, text, "tamizdat/v1/witness/c", keys["tamizdat/v1/witness/c"]) + cosigLineAt(1<<63, text, "tamizdat/v1/witness/c", keys["tamizdat/v1/witness/c"]),
			[]string{"w1.example/a", "w2.example/b"},
		},
	} {
		raw := append(h.Text(), c.lines...)
		got, err := roots.Head(raw)
		if err != nil {
			t.Fatal(err)
		}
		v.Heads = append(v.Heads, witnessedHead{
			put(fmt.Sprintf("witness-head-%d.txt", i), raw), put(fmt.Sprintf("witness-head-%d.bin", i), got.Compact()), c.seen,
		})
	}
	// Somebody else's edition 2, and who of two has been seen.
	other := h.Leaf
	other.Content = channel.Hash{4}
	rival, err := channel.SignHead(other, h.Path, 0, h.Time, log)
	if err != nil {
		t.Fatal(err)
	}
	note1 := historyStep{Note: v.RootNote}
	see := func(name string, h *channel.Head, seen bool, verdict string) historyStep {
		raw := h.Text()
		if seen {
			text, _, _ := strings.Cut(string(h.Checkpoint()), "\n\n")
			for _, w := range []string{"w1.example/a", "w2.example/b"} {
				raw = append(raw, cosigLine(text+"\n", w, keys[w])...)
			}
			name += "-seen"
		}
		return historyStep{Head: put("witness-reader-"+name+".txt", raw), Verdict: verdict}
	}
	ours := func(seen bool, verdict string) historyStep { return see("ours", h, seen, verdict) }
	theirs := func(seen bool, verdict string) historyStep { return see("theirs", rival, seen, verdict) }
	for about, steps := range map[string][]historyStep{
		"what enough witnesses have seen overrules what they have not": {note1, ours(false, "newer"), theirs(false, "fork"), theirs(true, "overruled"), ours(false, "fork"), theirs(false, "same")},
		"what they have seen stays":                                    {note1, ours(true, "newer"), theirs(true, "fork")},
		"the same head, seen by more":                                  {note1, ours(false, "newer"), ours(true, "heartbeat"), ours(false, "same"), theirs(true, "fork")},
	} {
		v.Readers = append(v.Readers, told(t, id, historyReader{About: about, Steps: steps}, func(name string) []byte { return files[name] }))
	}
	slices.SortFunc(v.Readers, func(a, b historyReader) int { return strings.Compare(a.About, b.About) })
	for _, old := range []uint64{0, 2, 3} {
		proof, err := history.Consistency(old)
		if err != nil {
			t.Fatal(err)
		}
		s := channel.Submission{Old: old, Proof: proof, Checkpoint: h.Checkpoint()}
		v.Submissions = append(v.Submissions, witnessSubmission{
			put(fmt.Sprintf("witness-submission-%d.txt", old), s.Marshal()), old, h.Size, base64.StdEncoding.EncodeToString(h.Tree[:]),
		})
	}
	refused := func(name, as, check, errText string, b []byte) {
		v.Refused = append(v.Refused, invalid{File: put("witness-bad-"+name, b), As: as, Check: check, Error: errText})
	}
	const rootName = "tamizdat/v1/root"
	sub := func(old, with string) []byte {
		return signNote(strings.Replace(string(note.Text()), old, with, 1), rootName, root)
	}
	first, second := base64.StdEncoding.EncodeToString(note.Witnesses[0].Key), base64.StdEncoding.EncodeToString(note.Witnesses[1].Key)
	refused("key-twice.note", "root-note", "one key under two names", "one key in two places", sub(second, first))
	refused("log-key.note", "root-note", "one role a key", "one key in two places", sub(second, base64.StdEncoding.EncodeToString(public(log))))
	refused("quorum.note", "root-note", "the quorum is at most the number of witnesses", "quorum", sub("quorum 2", "quorum 4"))
	refused("name-plus.note", "root-note", "a name has no +", "witness name", sub("w1.example/a", "w1+example/a"))
	refused("name-long.note", "root-note", "a name has at most 100 characters", "witness name", sub("w1.example/a", strings.Repeat("w", 101)))
	refused("name-letters.note", "root-note", "a name is of visible ASCII", "witness name", sub("w1.example/a", "wé.example/a"))
	compact := files["witness-head-1.bin"]
	refused("compact-cut.bin", "head", "a cosignature has 76 bytes", "cut short", compact[:len(compact)-1])
	refused("compact-more.bin", "head", "a cosignature has 76 bytes", "cut short", append(bytes.Clone(compact), 0))
	long := append(bytes.Clone(compact), bytes.Repeat(compact[len(compact)-76:], 10)...)
	refused("compact-long.bin", "head", "at most 1,040 bytes", "larger than", long)
	body := string(files["witness-submission-2.txt"])
	refused("old.txt", "submission", "numbers have no leading zeros", "old size", []byte(strings.Replace(body, "old 2", "old 02", 1)))
	refused("proof.txt", "submission", "a line of the proof is base64 of 32 bytes", "no hash", []byte(strings.Replace(body, "\n", "\nAAAA\n", 1)))
	refused("proof-long.txt", "submission", "at most 63 hashes", "more than 63", []byte(strings.Replace(body, "\n", "\n"+strings.Repeat(first+"\n", 63), 1)))
	refused("checkpoint.txt", "submission", "an empty line and a checkpoint follow", "no checkpoint", []byte("old 2\n"))
	return v, files
}

// TestWitnessVectors: the files are what is made here, and say what witness.json does.
func TestWitnessVectors(t *testing.T) {
	v, files := witnessFiles(t)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	files["witness.json"] = b.Bytes()
	for name, want := range files {
		if *update || *add { // nothing in them is random
			if err := os.WriteFile(filepath.Join(vectorDir, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := readVector(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is not what it is made to be; go test ./bundle -update", name)
		}
	}
	there, err := filepath.Glob(filepath.Join(vectorDir, "witness*"))
	if err != nil || len(there) != len(files) {
		t.Errorf("%d files instead of %d: %v", len(there), len(files), err)
	}
	id, err := channel.ParseID(v.Channel)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := channel.ParseRoots(id, [][]byte{readVector(t, v.RootNote)})
	if err != nil {
		t.Fatal(err)
	}
	for i, vkey := range v.Witnesses {
		w, err := channel.ParseWitness(vkey)
		if diff := cmp.Diff(roots.Last().Witnesses[i], w); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	for _, h := range v.Heads {
		for _, f := range []string{h.Text, h.Compact} {
			head, err := roots.Head(readVector(t, f))
			if err != nil {
				t.Fatal(err)
			}
			var seen []string
			for _, w := range roots.SeenBy(head) {
				seen = append(seen, w.Name)
			}
			if diff := cmp.Diff(h.Seen, seen); diff != "" {
				t.Errorf("%s:\n%s", f, diff)
			}
		}
	}
	for _, r := range v.Readers {
		if diff := cmp.Diff(r, told(t, id, r, func(name string) []byte { return readVector(t, name) })); diff != "" {
			t.Errorf("%s:\n%s", r.About, diff)
		}
	}
	for _, c := range v.Submissions {
		s, err := channel.ParseSubmission(readVector(t, c.File))
		if err != nil {
			t.Fatal(err)
		}
		cp, err := roots.Checkpoint(s.Checkpoint)
		if err != nil || s.Old != c.Old || cp.Size != c.Size || base64.StdEncoding.EncodeToString(cp.Tree[:]) != c.Tree {
			t.Errorf("%s: %+v, %v", c.File, cp, err)
		}
	}
	for _, c := range v.Refused {
		b := readVector(t, c.File)
		var err error
		switch c.As {
		case "root-note":
			n, _, _ := strings.Cut(string(b), "\n\n")
			_, err = channel.ParseRoots(channel.IDOf([]byte(n+"\n")), [][]byte{b})
		case "head":
			_, err = roots.Head(b)
		case "submission":
			_, err = channel.ParseSubmission(b)
		default:
			err = errors.New("unknown kind")
		}
		if err == nil || !strings.Contains(err.Error(), c.Error) {
			t.Errorf("%s: %v; %s", c.File, err, c.Check)
		}
	}
}

package channel

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The examples of c2sp.org/signed-note, /tlog-checkpoint and /tlog-proof, and those
// of the note package (golang.org/x/mod/sumdb/note), which the specification grew
// from.
const (
	neumannText = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
	neumannKey  = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
	neumannSig  = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
	rootKey     = "ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
	rootSig     = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"

	specNote = `Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
`
	specCheckpoint = `example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
`
	// The specification's proof, its signatures cut short there.
	specProof = `c2sp.org/tlog-proof@v1
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

`
)

// noteKey takes the key out of the note package's spelling, a byte of type before it.
func noteKey(t *testing.T, s string) ed25519.PublicKey {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 1+ed25519.PublicKeySize || b[0] != algEd25519 {
		t.Fatalf("%q: %v", s, err)
	}
	return ed25519.PublicKey(b[1:])
}

func TestSignedNoteExamples(t *testing.T) {
	text, sigs, err := parseNote([]byte(neumannText + "\n" + neumannSig + rootSig))
	if err != nil || string(text) != neumannText || len(sigs) != 2 {
		t.Fatalf("%q, %d signatures, %v", text, len(sigs), err)
	}
	peter, enoch := noteKey(t, neumannKey), noteKey(t, rootKey)
	for name, c := range map[string]struct {
		s    sigLine
		as   string
		key  ed25519.PublicKey
		want bool
	}{
		"first":           {sigs[0], "PeterNeumann", peter, true},
		"second":          {sigs[1], "EnochRoot", enoch, true},
		"under his name":  {sigs[1], "PeterNeumann", enoch, false},
		"by his key":      {sigs[0], "PeterNeumann", enoch, false},
		"the other's key": {sigs[1], "EnochRoot", peter, false},
	} {
		if got := c.s.verifiedBy(text, c.as, c.key); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	// The last empty line separates, and what is in the text stays there.
	text, sigs, err = parseNote([]byte(specNote))
	if err != nil || len(sigs) != 1 || sigs[0].name != "quasimodo.example/salvatore" || !strings.HasSuffix(string(text), ":\n\ned è subito sera.\n") {
		t.Errorf("%q, %v, %v", text, sigs, err)
	}
	// At least sixteen signatures are to be read.
	for n, ok := range map[int]bool{16: true, maxSigLines: true, maxSigLines + 1: false, 0: false} {
		if _, _, err := parseNote([]byte(neumannText + "\n" + strings.Repeat(rootSig, n))); (err == nil) != ok {
			t.Errorf("%d signatures: %v", n, err)
		}
	}
}

func TestMalformedNotes(t *testing.T) {
	for _, msg := range []string{
		neumannText,
		neumannText + "\n",
		neumannText + "\n" + neumannSig[:len(neumannSig)-1],
		neumannText + neumannSig,
		"\x01" + neumannText + "\n" + neumannSig,
		"\t" + neumannText + "\n" + neumannSig,
		strings.Replace(neumannText, "\n", "\r\n", 1) + "\n" + neumannSig,
		"\xff" + neumannText + "\n" + neumannSig,
		neumannText + "\n" + neumannSig + "Unexpected line.\n",
		neumannText + "\n" + neumannSig + "\n",
		neumannText + "\n" + strings.Replace(neumannSig, "— ", "- ", 1),
		neumannText + "\n" + strings.Replace(neumannSig, "PeterNeumann", "Peter Neumann", 1),
		neumannText + "\n" + strings.Replace(neumannSig, "PeterNeumann", "Peter\u00a0Neumann", 1),
		neumannText + "\n" + strings.Replace(neumannSig, "PeterNeumann", "Peter+Neumann", 1),
		neumannText + "\n" + strings.Replace(neumannSig, "PeterNeumann", "", 1),
		neumannText + "\n" + strings.Replace(neumannSig, "AM=", "AN=", 1), // unused bits
		neumannText + "\n— PeterNeumann x08gow==\n",                       // a key ID alone
	} {
		if text, _, err := parseNote([]byte(msg)); err == nil {
			t.Errorf("taken, with the text %q: %q", text, msg)
		}
	}
	// Signatures that say nothing are no reason to refuse the others.
	for _, line := range []string{
		strings.Replace(rootSig, "EnochRoot", "CarmenSandiego", 1),
		strings.Replace(rootSig, "rwz+", "xxxx", 1),
		"— EnochRoot rwz+eAAA\n",
	} {
		text, sigs, err := parseNote([]byte(neumannText + "\n" + line + neumannSig))
		if err != nil || len(sigs) != 2 || !sigs[1].verifiedBy(text, "PeterNeumann", noteKey(t, neumannKey)) || sigs[0].verifiedBy(text, "EnochRoot", noteKey(t, rootKey)) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// The specification's own proof is read by what reads the outer form of ours, and comes
// out as it was.
func TestSpecProof(t *testing.T) {
	raw := specProof + specCheckpoint
	var p proof.TLogProof
	if err := p.Unmarshal([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	if p.Index != 73894 || len(p.Hashes) != 5 || len(p.ExtraData) != 0 || string(p.Checkpoint) != specCheckpoint {
		t.Errorf("index %d, %d hashes, extra data %q, checkpoint %q", p.Index, len(p.Hashes), p.ExtraData, p.Checkpoint)
	}
	if got := base64.StdEncoding.EncodeToString(p.Hashes[4][:]); got != "AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=" {
		t.Errorf("last hash %s", got)
	}
	if got := string(p.Marshal()); got != raw {
		t.Errorf("written again:\n%s", got)
	}
}

// What is in order for the specification alone is none of ours: a head is of a log
// of a channel, and its entry a leaf.
func TestCheckpointsOfOthers(t *testing.T) {
	p := newPublisher(t, "a")
	roots := p.roots(t)
	if _, _, err := parseNote([]byte(specCheckpoint)); err != nil {
		t.Errorf("as a note: %v", err)
	}
	head := string(p.publish(t, "one").Text())
	at := strings.Index(head, "\n\n") + 2
	for name, raw := range map[string]string{
		"the checkpoint alone":      specCheckpoint,
		"the proof without its end": specProof,
		"the proof":                 specProof + specCheckpoint,
		"our proof, their log":      head[:at] + specCheckpoint,
		"their proof, our log":      specProof + head[at:],
	} {
		if _, err := roots.Head([]byte(raw)); !errors.Is(err, ErrHead) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is lax in the libraries that read the form.
	for name, change := range map[string][2]string{
		"size 007":               {"\n1\n", "\n007\n"},
		"size +1":                {"\n1\n", "\n+1\n"},
		"size with a blank":      {"\n1\n", "\n1 \n"},
		"hash without padding":   {"=\ntime", "\ntime"},
		"blank extension line":   {"\ntime ", "\n\ntime "},
		"another extension line": {"\n\n— tamizdat", "\nmore\n\n— tamizdat"},
		"no time":                {"\ntime ", "\nTIME "},
		"time 007":               {"\ntime ", "\ntime 00"},
		"index 00":               {"\nindex 0\n", "\nindex 00\n"},
		"CR LF":                  {"\nindex 0\n", "\r\nindex 0\r\n"},
		"generation 00":          {"/0\n", "/00\n"},
		"an edge for edition 0":  {"index 0\n", "index 0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"},
	} {
		bad := strings.Replace(head, change[0], change[1], 1)
		if bad == head {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := roots.Head([]byte(bad)); !errors.Is(err, ErrHead) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The other way round: what others' libraries make of ours.
func TestOthersReadOurs(t *testing.T) {
	p := newPublisher(t, "a")
	verifier := func(name string, key ed25519.PublicKey) note.Verifier {
		v, err := note.NewVerifier(fmt.Sprintf("%s+%08x+%s", name, keyID(name, key), base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, key...))))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if n, err := note.Open(p.signed, note.VerifierList(verifier(rootKeyName, pub(p.root)))); err != nil || n.Text != string(p.note.Text()) {
		t.Errorf("root note: %v", err)
	}
	d := Denied{Channel: p.id, Pin: Pin{7}, Epoch: 1, Tags: [][8]byte{{1}}}
	list, err := d.Sign(0, p.log)
	if err != nil {
		t.Fatal(err)
	}
	log := note.VerifierList(verifier(Origin(p.id, 0), pub(p.log)))
	if _, err := note.Open(list, log); err != nil {
		t.Errorf("list of revoked batches: %v", err)
	}
	for n := range int64(40) {
		h := p.publish(t, fmt.Sprint(n))
		_, checkpoint, _ := bytes.Cut(h.Text(), []byte("\n\n"))
		if _, err := note.Open(checkpoint, log); err != nil {
			t.Fatalf("checkpoint %d: %v", n, err)
		}
		if got := tlog.RecordHash(h.Leaf.Text()); got != tlog.Hash(h.Leaf.Hash()) {
			t.Fatalf("leaf %d: another hash", n)
		}
		var path tlog.RecordProof
		for _, p := range h.Path {
			path = append(path, tlog.Hash(p))
		}
		if err := tlog.CheckRecord(path, n+1, tlog.Hash(h.Tree), n, tlog.RecordHash(h.Leaf.Text())); err != nil {
			t.Fatalf("proof of leaf %d: %v", n, err)
		}
	}
	later, err := SignHead(p.leaf("later"), p.history.Edge(), 0, time.Unix(1_800_000_000, 0), p.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckRecord(nil, int64(later.Size), tlog.Hash(later.Tree), int64(later.Edition), tlog.RecordHash(later.Leaf.Text())); err == nil {
		t.Error("a proof of nothing is taken: this test tells nothing")
	}
}

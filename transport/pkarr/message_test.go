package pkarr

import (
	"bytes"
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
)

// signed signs any value.
func signed(key ed25519.PrivateKey, seq int64, value []byte) *Item {
	i := &Item{Seq: seq, key: public(key), value: value}
	copy(i.sig[:], bep44.Sign(key, nil, seq, bencoded(value)))
	return i
}

func answerTo(t testing.TB, m krpc.Msg) []byte {
	t.Helper()
	b, err := bencode.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bad are messages that are no answers; some of them end a program that decodes them as
// they come.
var bad = map[string]string{
	"empty":                       "",
	"no dictionary":               "le",
	"half":                        "d1:t1:a",
	"more behind":                 "d1:t1:a1:y1:r1:rd2:id20:aaaaaaaaaaaaaaaaaaaaeee",
	"an address of one byte":      "d2:ip1:x1:t1:a1:y1:rd2:id20:aaaaaaaaaaaaaaaaaaaaee",
	"an address of one byte, 2":   "d2:ip1:x1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t1:a1:y1:re",
	"an address of no bytes":      "d2:ip0:1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t1:a1:y1:re",
	"a hundred megabytes":         "d1:t99999999:a",
	"more than there are numbers": "d1:t99999999999999999999:a",
	"a number without end":        "di" + "1",
	"deep":                        "d1:a" + strings.Repeat("l", 1000) + strings.Repeat("e", 1000) + "1:t1:a1:y1:re",
	"a question":                  "d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t1:a1:y1:qe",
	"a question without anything": "d1:q3:put1:t1:a1:y1:qe",
	"no answer in it":             "d1:t1:a1:y1:re",
	"of another kind":             "d1:t1:a1:y1:xe",
	"without a number":            "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:y1:re",
	"a short id":                  "d1:rd2:id1:ae1:t1:a1:y1:re",
	"nodes that are cut":          "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes5:xxxxxe1:t1:a1:y1:re",
	"minus nothing":               "d1:ai-e1:t1:a1:y1:re",
	"a letter in a number":        "d1:ai1x1e1:t1:a1:y1:re",
}

func TestBadMessages(t *testing.T) {
	for name, text := range bad {
		if m, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestMessage(t *testing.T) {
	seq, token := int64(5), "token"
	want := krpc.Msg{T: "ab", Y: "r", R: &krpc.Return{ID: krpc.RandomNodeID(), Token: &token, Bep44Return: krpc.Bep44Return{V: bencoded([]byte("value")), Seq: &seq, K: [32]byte{1}, Sig: [64]byte{2}}}}
	m, err := parse(answerTo(t, want))
	if err != nil || m.T != "ab" || m.R.ID != want.R.ID || *m.R.Token != token || *m.R.Seq != seq || string(m.R.V) != "5:value" || m.R.Sig != want.R.Sig {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err := parse([]byte("d1:eli203e4:nonee1:t1:a1:y1:ee")); err != nil || m.Y != "e" {
		t.Errorf("an error: %+v, %v", m, err)
	}
}

// FuzzMessage: whatever a node sends is an answer or none, and ends nothing.
func FuzzMessage(f *testing.F) {
	for _, text := range bad {
		f.Add([]byte(text))
	}
	seq, token := int64(5), "token"
	f.Add(answerTo(f, krpc.Msg{T: "ab", Y: "r", R: &krpc.Return{Token: &token, Bep44Return: krpc.Bep44Return{V: []byte("5:value"), Seq: &seq}}}))
	key := keyOf("ipns")
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		if m.T == "" || m.Y == "r" && m.R == nil {
			t.Fatalf("%q: %+v", b, m)
		}
		if m.R == nil {
			return
		}
		w := &walk{allow: allowAll}
		w.init()
		w.heard(node{}, m.R)
		if len(w.known) > maxTold || len(w.answered) != 1 {
			t.Fatalf("%d nodes, %d answered", len(w.known), len(w.answered))
		}
		if i, err := itemIn(public(key), m.R); err == nil && !bytes.Equal(bencoded(i.value), m.R.V) {
			t.Fatal("another value")
		}
	})
}

// The corpora are there: a folder that was lost would make the fuzzing of CI empty.
func TestCorpora(t *testing.T) {
	for _, name := range []string{"FuzzMessage", "FuzzItem"} {
		if files, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*")); err != nil || len(files) == 0 {
			t.Errorf("%s has no corpus: %v", name, err)
		}
	}
}

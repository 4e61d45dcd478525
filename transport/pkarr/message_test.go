package pkarr

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
)

// signed signs any value.
func signed(key ed25519.PrivateKey, seq int64, value []byte) *Item {
	i := &Item{Seq: seq, key: public(key), value: value}
	copy(i.sig[:], ed25519.Sign(key, toSign(seq, value)))
	return i
}

// answerTo is a node's answer.
func answerTo(t string, r map[string]any) []byte {
	return encode(nil, map[string]any{"t": t, "y": "r", "r": r})
}

// The example of BEP 44 ("mutable test vector").
func TestSignature(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	value := []byte("Hello World!")
	if got := string(toSign(1, value)); got != "3:seqi1e1:v12:Hello World!" {
		t.Error(got)
	}
	key := unhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
	sig := unhex("305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01")
	if !ed25519.Verify(key, toSign(1, value), sig) {
		t.Error("its signature is refused")
	}
	if got := sha1.Sum(key); hex.EncodeToString(got[:]) != "4a533d47ec9c7d95b1ad75f576cffc641853b750" {
		t.Errorf("target %x", got)
	}
}

// bad are messages that are no answers; some of them end a program that decodes them as
// they come.
var bad = map[string]string{
	"empty":                       "",
	"no dictionary":               "le",
	"half":                        "d1:t1:a",
	"more behind":                 "d1:t1:a1:y1:r1:rd2:id20:aaaaaaaaaaaaaaaaaaaaeee",
	"an address of one byte":      "d2:ip1:x1:t1:a1:y1:rd2:id20:aaaaaaaaaaaaaaaaaaaaee",
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
	"a number with a zero":        "d1:ai01e1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t1:a1:y1:re",
	"a length with a zero":        "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t01:a1:y1:re",
	"a length below zero":         "d-1:ai1ee",
	"a number for a key":          "di1ei1ee",
	"the same twice":              "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t1:a1:t1:b1:y1:re",
}

func TestBadMessages(t *testing.T) {
	for name, text := range bad {
		if m, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestMessage(t *testing.T) {
	id := strings.Repeat("i", 20)
	r := map[string]any{
		"id": id, "token": "token", "seq": int64(5), "v": "value", "sig": "sig",
		"nodes": id + "\xc0\x00\x02\x01\x1a\xe1", "nodes6": id + "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x1a\xe1",
	}
	a, err := parse(answerTo("ab", r))
	if err != nil || a.t != "ab" || string(a.id[:]) != id || a.token != "token" || a.seq != 5 || a.value != "value" || a.sig != "sig" {
		t.Errorf("%+v, %v", a, err)
	}
	if len(a.nodes) != 2 || a.nodes[0].addr.String() != "192.0.2.1:6881" || a.nodes[1].addr.String() != "[2001:db8::1]:6881" {
		t.Errorf("%v", a.nodes)
	}
	if a, err := parse([]byte("d1:eli203e4:nonee1:t1:a1:y1:ee")); err != nil || !a.refused {
		t.Errorf("an error: %+v, %v", a, err)
	}
	delete(r, "seq")
	r["token"] = strings.Repeat("x", maxToken+1)
	if a, err := parse(answerTo("ab", r)); err != nil || a.value != "" || a.token != "" {
		t.Errorf("without a number, with an endless token: %+v, %v", a, err)
	}
	want := "d1:ad2:id1:x4:wantl2:n4ee1:q3:get2:roi1e1:t1:a1:y1:qe"
	if got := string(question("a", "get", map[string]any{"want": []any{"n4"}, "id": "x"})); got != want {
		t.Error(got)
	}
}

// FuzzMessage: whatever a node sends is an answer or none, ends nothing, and is encoded as
// it came, but for the order of keys.
func FuzzMessage(f *testing.F) {
	for _, text := range bad {
		f.Add([]byte(text))
	}
	f.Add(answerTo("ab", map[string]any{"id": strings.Repeat("i", 20), "token": "t", "v": "value", "seq": int64(5)}))
	key := keyOf("ipns")
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, rest, ok := decode(b, 0); ok {
			again := encode(nil, v)
			if len(again) != len(b)-len(rest) {
				t.Fatalf("%q became %q", b, again)
			}
			if w, left, ok := decode(again, 0); !ok || len(left) > 0 || !bytes.Equal(encode(nil, w), again) {
				t.Fatalf("%q became another thing", again)
			}
		}
		a, err := parse(b)
		if err != nil || a.refused {
			return
		}
		w := &walk{allow: allowAll}
		w.init()
		w.heard(node{}, a)
		if a.t == "" || len(w.known) > maxTold || len(w.answered) != 1 {
			t.Fatalf("%d nodes, %d answered", len(w.known), len(w.answered))
		}
		if i, err := itemIn(public(key), a); err == nil && string(i.value) != a.value {
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

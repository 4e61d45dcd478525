package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"tamizdat/internal/testvectors"
)

// TestDistinctKeys compares it with the same made of encoding/json's tokens, on
// odd texts and on front pages with bytes changed, left out and doubled.
func TestDistinctKeys(t *testing.T) {
	var many []string
	for i := range maxList + 2 {
		many = append(many, strings.Repeat("k", i%40)+string(rune('a'+i%26))+strings.Repeat("z", i/40))
	}
	quoted := func(keys []string) string { return `{"` + strings.Join(keys, `":1,"`) + `":1}` }
	texts := []string{
		``, ` `, `1`, `"a"`, `{}`, `[]`, ` {"a":1} `, `{"a":1}{"a":1}`, `{"a":1}x`, `{"a":1,"a":1}`, `{"a":1,"A":1}`, `{"a":1,"\u0041":1}`,
		`{"k":1,"\u212a":1}`, `{"s":1,"ſ":1}`, `{"a":"a","b":"a"}`, `{"a":{"a":1},"b":{"a":1}}`, `[{"a":1},{"a":1}]`, `{"a\"":1,"a\\":2}`,
		`{"a":[1,2,{"b":[]}],"B":null,"c":true,"d":-1.5e3}`, `[[[[[[[[]]]]]]]]`, `[[[[[[[[[]]]]]]]]]`, `{"":1,"":2}`, `["\ud800"]`, "[\"\xff\"]",
		`{"a":"` + "\\\\" + `","a":1}`, `[1,2`, `{"a":1,}`, quoted(many[:20]), quoted(append(many[:20:20], many[18])), quoted(many[:maxList]),
		quoted(many[:maxList+1]), `[` + strings.Repeat(`1,`, maxList-1) + `1]`, `[` + strings.Repeat(`1,`, maxList) + `1]`,
	}
	accepted := 0
	check := func(text string) {
		t.Helper()
		b := []byte(text)
		want := distinctTokens(b)
		if !json.Valid(b) {
			want = errors.New("not JSON")
		}
		got := distinctKeys(b)
		if (got == nil) != (want == nil) {
			t.Fatalf("%.200q: %v instead of %v", text, got, want)
		}
		if got == nil {
			accepted++
		}
	}
	for _, text := range texts {
		check(text)
	}
	front := testvectors.File(t, "front-1.json")
	luck := rand.New(rand.NewPCG(7, 7))
	for range 3000 {
		b := bytes.Clone(front)
		for range 1 + luck.IntN(2) {
			i := luck.IntN(len(b) - 40)
			n := luck.IntN(40)
			switch luck.IntN(3) {
			case 0:
				b[i] = "{}[],:\"\\ 1aA"[luck.IntN(12)]
			case 1:
				b = append(b[:i:i], b[i+n:]...)
			default:
				b = append(b[:i+n:i+n], b[i:]...)
			}
		}
		check(string(b))
	}
	if accepted < 100 {
		t.Errorf("only %d texts were accepted", accepted)
	}
}

// distinctTokens is distinctKeys made of encoding/json's tokens.
func distinctTokens(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	type level struct {
		keys map[string]bool // nil in an array
		n    int
		key  bool // the next token is a key
	}
	var stack []level
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if delim, ok := tok.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if n := len(stack); n > 0 {
			top := &stack[n-1]
			if top.key {
				k := strings.ToLower(strings.ToUpper(tok.(string))) // folds as encoding/json does
				if top.keys[k] {
					return errors.New("a key stands twice")
				}
				top.keys[k], top.key = true, false
				continue
			}
			if top.n++; top.n > maxList {
				return errors.New("too many elements")
			}
			top.key = top.keys != nil
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{keys: map[string]bool{}, key: true})
		case json.Delim('['):
			stack = append(stack, level{})
		}
		if len(stack) > maxNested {
			return errors.New("nested too deep")
		}
	}
}

package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// ReadJSON reads one JSON value as all JSON of the format is read: FORMAT.md, section
// 2.5, says what is refused of any.
func ReadJSON(b []byte, to any) error { return unmarshal(b, to) }

// unmarshal reads one JSON value. Unknown keys are ignored, so that a later
// version can add some.
func unmarshal(b []byte, to any) error {
	if err := distinctKeys(b); err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// Base64 are bytes in JSON, in their one spelling. encoding/json takes line ends in it,
// unused bits that are set, and lists of numbers.
type Base64 []byte

// UnmarshalJSON takes null for what is absent.
func (b *Base64) UnmarshalJSON(js []byte) error {
	if string(js) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(js, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || base64.StdEncoding.EncodeToString(raw) != s {
		return errors.New("base64 in another spelling")
	}
	*b = raw
	return nil
}

// marshal writes compact JSON without escaping <, > and &.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// maxList bounds every array and object of a front page or a text line, before
// anything is made of its elements: 4 MiB of "{}," would become a gigabyte.
// maxNested bounds how deep they lie in each other.
const (
	maxList   = 2000
	maxNested = 8
)

// jsonLevel is an object or array that has begun.
type jsonLevel struct {
	object bool
	key    bool // the next string is a key
	n      int  // elements so far
	few    []string
	many   map[string]bool // once there are too many to look through
}

// add notes a key, and reports whether it is new.
func (l *jsonLevel) add(k string) bool {
	const look = 16
	for _, o := range l.few {
		if o == k {
			return false
		}
	}
	if len(l.few) < look {
		l.few = append(l.few, k)
		return true
	}
	if l.many == nil {
		l.many = map[string]bool{}
	}
	if l.many[k] {
		return false
	}
	l.many[k] = true
	return true
}

// distinctKeys refuses what two readers could take for two things: a key twice
// in one object, letter case aside, or bytes that are not UTF-8. It goes over
// the bytes itself, since the tokens of encoding/json take longer than all
// else that is done with a front page.
func distinctKeys(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	if !json.Valid(b) { // also if something stands behind the value
		return errors.New("not JSON")
	}
	var stack [maxNested + 1]jsonLevel
	depth := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch c {
		case ' ', '\t', '\r', '\n', ',', ':':
			continue
		case '}', ']':
			depth--
			continue
		}
		top := &stack[depth]
		if c == '"' {
			end := stringEnd(b, i)
			if top.key {
				k, err := foldedKey(b[i:end])
				if err != nil {
					return err
				}
				if top.key = false; !top.add(k) {
					return errors.New("a key stands twice")
				}
				i = end - 1
				continue
			}
			i = end - 1
		}
		if top.n++; depth > 0 && top.n > maxList {
			return errors.New("too many elements")
		}
		top.key = top.object
		switch c {
		case '"':
		case '{', '[':
			if depth++; depth > maxNested {
				return errors.New("nested too deep")
			}
			l := &stack[depth]
			*l = jsonLevel{object: c == '{', key: c == '{', few: l.few[:0]}
		default: // a number or a literal
			if n := bytes.IndexAny(b[i:], ",]} \t\r\n"); n > 0 {
				i += n - 1
			} else {
				i = len(b)
			}
		}
	}
	return nil
}

// stringEnd is the index behind the string that begins at i, in valid JSON.
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// foldedKey is a quoted key as encoding/json compares them.
func foldedKey(quoted []byte) (string, error) {
	plain := true
	for _, c := range quoted[1 : len(quoted)-1] {
		if c < 'a' || c > 'z' {
			plain = false
			break
		}
	}
	if plain {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var k string
	err := json.Unmarshal(quoted, &k)
	return strings.ToLower(strings.ToUpper(k)), err
}

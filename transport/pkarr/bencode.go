package pkarr

import (
	"maps"
	"slices"
	"strconv"
)

// maxDepth is how deep lists and dictionaries may nest; four levels are in use.
const maxDepth = 8

// A bencoded value (BEP 3) is an int64, a string, a []any or a map[string]any.

// encode appends a value. It takes what decode makes, and panics at anything else.
func encode(b []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		b = append(b, 'i')
		return append(strconv.AppendInt(b, v, 10), 'e')
	case string:
		b = strconv.AppendInt(b, int64(len(v)), 10)
		return append(append(b, ':'), v...)
	case []any:
		b = append(b, 'l')
		for _, e := range v {
			b = encode(b, e)
		}
		return append(b, 'e')
	case map[string]any:
		b = append(b, 'd')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b = encode(encode(b, k), v[k])
		}
		return append(b, 'e')
	}
	panic("pkarr: not a bencoded value") // can't be: all calls are in this package
}

// decode reads the value that b begins with, and returns what is behind it. Nothing is
// allocated for lengths that are not there.
func decode(b []byte, depth int) (v any, rest []byte, ok bool) {
	if len(b) == 0 || depth > maxDepth {
		return nil, nil, false
	}
	switch c := b[0]; {
	case c == 'i':
		return number(b[1:], 'e')
	case c >= '0' && c <= '9':
		return text(b)
	case c == 'l':
		list := []any{}
		for b = b[1:]; len(b) > 0 && b[0] != 'e'; {
			if v, b, ok = decode(b, depth+1); !ok {
				return nil, nil, false
			}
			list = append(list, v)
		}
		return list, after(b), len(b) > 0
	case c == 'd':
		dict := map[string]any{}
		for b = b[1:]; len(b) > 0 && b[0] != 'e'; {
			k, rest, ok := text(b)
			if !ok {
				return nil, nil, false
			}
			if v, b, ok = decode(rest, depth+1); !ok || dict[k] != nil {
				return nil, nil, false // what stands there twice could mean either
			}
			dict[k] = v
		}
		return dict, after(b), len(b) > 0
	}
	return nil, nil, false
}

// after is b without its first byte, if it has one.
func after(b []byte) []byte { return b[min(1, len(b)):] }

// text reads a string.
func text(b []byte) (s string, rest []byte, ok bool) {
	n, rest, ok := number(b, ':')
	if length, _ := n.(int64); ok && length >= 0 && length <= int64(len(rest)) {
		return string(rest[:length]), rest[length:], true
	}
	return "", nil, false
}

// number reads an integer, as it is written canonically, up to its end.
func number(b []byte, end byte) (v any, rest []byte, ok bool) {
	const longest = 20
	i := slices.Index(b[:min(len(b), longest+1)], end)
	if i < 0 {
		return nil, nil, false
	}
	n, err := strconv.ParseInt(string(b[:i]), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(b[:i]) {
		return nil, nil, false
	}
	return n, b[i+1:], true
}

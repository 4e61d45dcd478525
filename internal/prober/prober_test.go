package prober

import (
	"strings"
	"testing"
)

func TestProbesHaveNames(t *testing.T) {
	kinds := make(map[string]int)
	seen := make(map[string]bool)
	paths := Paths{Page: "/page", Known: []string{"/", "/a"}, Near: []string{"/near"}, Large: "/large"}
	for _, p := range append(Probes(paths), Held(paths)...) {
		if seen[p.Name] {
			t.Errorf("%s is there twice", p.Name)
		}
		seen[p.Name] = true
		kind, _, _ := strings.Cut(p.Name, ":")
		kinds[kind]++
	}
	for kind, least := range map[string]int{"h1": 150, "h2": 60, "h3": 60, "early data": 12, "replayed": 4, "tls": 40, "tcp": 20, "quic": 9, "udp": 16, "held": 50} {
		if kinds[kind] < least {
			t.Errorf("%d probes over %s, at least %d", kinds[kind], kind, least)
		}
	}
}

func TestH3Answer(t *testing.T) {
	b := append(frame(frameHeaders, h3Fields("b", "2", "a", "1")), frame(frameData, []byte("bo"))...)
	b = append(append(b, frame(0x21, []byte{7})...), frame(frameData, []byte("dy"))...)
	if got := h3Answer(b); got != "a: 1\nb: 2\nframe 0x21: 07\nbody" {
		t.Errorf("%q", got)
	}
	for n := range b {
		h3Answer(b[:n]) // ends, at least
	}
	if got := h3Answer([]byte{frameData, 5, 'x'}); !strings.HasPrefix(got, "cut off") {
		t.Errorf("%q", got)
	}
}

func TestKindOf(t *testing.T) {
	versions := append([]byte{0x80, 0, 0, 0, 0, 1, 'a', 1, 'b'}, 0x6b, 0x33, 0x43, 0xcf, 0x1a, 0x2a, 0x3a, 0x4a, 0, 0, 0, 1)
	for text, b := range map[string][]byte{
		`versions [1 6b3343cf reserved] for "a" "b"`:  versions,
		"short header, 40 bytes":                      append([]byte{0x40}, make([]byte, 39)...),
		"long header c, version 00000001, 1200 bytes": append([]byte{0xc3, 0, 0, 0, 1}, make([]byte, 1195)...),
	} {
		if got := kindOf(b); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	for n := range versions {
		kindOf(versions[:n])
		has0RTT(versions[:n])
	}
}

func TestHas0RTT(t *testing.T) {
	initial := append([]byte{0xc0, 0, 0, 0, 1, 0, 0, 0, 3}, 1, 2, 3)
	early := []byte{0xd0, 0, 0, 0, 1, 0, 0, 1, 9}
	for _, c := range []struct {
		b    []byte
		want bool
	}{{initial, false}, {early, true}, {append(append([]byte{}, initial...), early...), true}, {initial[:7], false}, {nil, false}} {
		if got := has0RTT(c.b); got != c.want {
			t.Errorf("%x: %t", c.b, got)
		}
	}
}

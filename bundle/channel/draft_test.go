package channel

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

func TestDraft(t *testing.T) {
	p := newPublisher(t, "a")
	roots := p.roots(t)
	a, b := key("root a"), key("root b")
	d, err := roots.Next(func(n *RootNote) { n.RootKeys, n.Threshold = []ed25519.PublicKey{pub(a), pub(b)}, 2 })
	if err != nil {
		t.Fatal(err)
	}
	old := roots.Last().RootKeys
	// It travels after every step.
	travel := func() {
		t.Helper()
		raw := d.Marshal()
		if d, err = ParseDraft(raw); err != nil || !bytes.Equal(d.Marshal(), raw) {
			t.Fatalf("%v\n%s", err, raw)
		}
	}
	travel()
	for i, k := range []ed25519.PrivateKey{a, a, b} {
		if _, err := roots.Extend(d.Marshal()); !errors.Is(err, ErrRootNote) {
			t.Errorf("%d signatures: %v", i, err)
		}
		if err := d.Sign(k); err != nil {
			t.Fatal(err)
		}
		travel()
	}
	if n, m := d.SignedBy(old...), d.SignedBy(d.Note.RootKeys...); n != 0 || m != 2 || len(d.sigs) != 2 {
		t.Errorf("%d old, %d new, %d signatures", n, m, len(d.sigs))
	}
	if err := d.Sign(p.root); err != nil {
		t.Fatal(err)
	}
	travel()
	if next, err := roots.Extend(d.Marshal()); err != nil || next.Version() != 2 {
		t.Errorf("signed by all: %v", err)
	}
	for i := range maxSigLines {
		err = d.Sign(key(string(rune('A' + i))))
	}
	if !errors.Is(err, ErrRootNote) {
		t.Errorf("too many signatures: %v", err)
	}
	if _, err := roots.Next(func(n *RootNote) { n.Threshold = 9 }); !errors.Is(err, ErrRootNote) {
		t.Errorf("a threshold out of range: %v", err)
	}
	text := d.Note.Text()
	for name, raw := range map[string][]byte{
		"empty": nil, "a line end": []byte("\n"), "two": []byte("\n\n"), "text alone": text, "cut": text[:40],
		"CRLF": bytes.ReplaceAll(d.Marshal(), []byte("\n"), []byte("\r\n")), "long": append(bytes.Repeat([]byte("x\n"), MaxRootNote), '\n'),
	} {
		if _, err := ParseDraft(raw); !errors.Is(err, ErrRootNote) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

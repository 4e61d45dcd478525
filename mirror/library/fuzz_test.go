package library

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// FuzzSlot: no bytes on the disk make a key slot open, or cost more than it may ask
// for. Passes, lanes and memory are kept cheap: what may be asked for has tests.
func FuzzSlot(f *testing.F) {
	slot, err := sealSlot(bytes.Repeat([]byte{7}, 32), []byte("passphrase"), cheap)
	if err != nil {
		f.Fatal(err)
	}
	if key, err := openSlot(slot, []byte("passphrase")); err != nil || key[0] != 7 {
		f.Fatalf("the seed does not open: %v", err)
	}
	f.Add(slot[:sumAt])
	f.Add([]byte{1, 1, 1, 0, 0, 0, 0, 64})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := make([]byte, sumAt)
		copy(s, b)
		s[1], s[2] = min(s[1], 1), min(s[2], 1)
		copy(s[4:], []byte{0, 0, 0})
		sum := sha256.Sum256(s)
		if _, err := openSlot(append(s, sum[:]...), []byte("another")); err == nil {
			t.Fatal("it opens")
		}
		if _, err := openSlot(b, []byte("another")); err == nil {
			t.Fatal("it opens")
		}
	})
}

// FuzzCursor: a place in the list has one spelling.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"1", "01", "+1", "-1", "9223372036854775807", "9223372036854775808", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCursor(s); err == nil && (c.String() != s || c <= 0) {
			t.Fatalf("%q is read as %s", s, c)
		}
	})
}

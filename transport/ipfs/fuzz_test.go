package ipfs

import (
	"bytes"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport/transporttest"
)

// FuzzRecord: a record that is taken is signed, and has a root and a head within
// bounds.
func FuzzRecord(f *testing.F) {
	v := transporttest.NewVectors(f)
	name, err := Name(v.Roots.IPNSKey())
	if err != nil {
		f.Fatal(err)
	}
	rec, err := Record(v.IPNS, v.Head(f, 1), 7, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec)
	f.Add(rec[:len(rec)-1])
	f.Add(bytes.Replace(rec, []byte("_head"), []byte("_tail"), 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		compact, root, err := HeadFromRecord(name, raw)
		if err != nil {
			return
		}
		if len(compact) == 0 || len(compact) > maxCompact || bundle.CheckCID(root) != nil {
			t.Fatalf("a head of %d bytes and the root %s", len(compact), root)
		}
		if _, err := Sequence(raw); err != nil {
			t.Fatalf("taken, but without a number: %v", err)
		}
	})
}

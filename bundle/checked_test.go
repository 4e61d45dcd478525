package bundle

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
)

// Only what has the right hash, size and kind is vouched for, and nothing else makes a
// Checked that names a block.
func TestCheck(t *testing.T) {
	data := []byte("a block")
	c := RawCID(data)
	b, err := Check(c, data)
	if err != nil || !b.CID().Equals(c) || !bytes.Equal(b.Data(), data) {
		t.Fatalf("%v: %q, %v", b.CID(), b.Data(), err)
	}
	large := make([]byte, MaxBlock+1)
	for name, bad := range map[string]struct {
		c    cid.Cid
		data []byte
	}{
		"other bytes": {c, []byte("a clock")}, "cut off": {c, data[:3]}, "too large": {RawCID(large), large},
		"version 0": {cid.NewCidV0(c.Hash()), data}, "no CID": {cid.Undef, data},
	} {
		if b, err := Check(bad.c, bad.data); !errors.Is(err, ErrBlock) || b.CID().Defined() || b.Data() != nil {
			t.Errorf("%s: %v, %v", name, b.CID(), err)
		}
	}
	if (Checked{}).CID().Defined() {
		t.Error("the zero value names a block")
	}
}

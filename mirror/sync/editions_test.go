package sync

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/mirror/library"
)

// TestEditionsFit: as many editions as are remembered can be stored, each with all
// that there is to know of it.
func TestEditionsFit(t *testing.T) {
	lib, err := library.Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lib.Close() })
	root, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum([]byte("root"))
	if err != nil {
		t.Fatal(err)
	}
	// The log has at most 2^20 leaves; epochs are as large as their publisher says.
	const first, epoch = 1<<20 - 1 - keepEditions - 5, 1<<64 - 1
	label := strings.Repeat("a", record.LabelLen)
	names := &bundle.Names{Large: label, Small: label}
	prologue := bytes.Repeat([]byte{1}, bundle.PrologueSize)
	known := map[uint64]editionInfo{}
	for n := uint64(first); n < 1<<20; n++ {
		known[n] = editionInfo{
			Number: n, Epoch: epoch, Root: root.String(), By: n, At: names, Text: names, Front: true, Images: true,
			Dict:      &bundle.Dict{Edition: n, Size: 1 << 20, Names: names},
			Prologues: map[string][]byte{bundle.LayerText: prologue, bundle.LayerMedia: prologue},
		}
	}
	ch := channel.ID{1}
	if err := storeEditions(t.Context(), lib, ch, known); err != nil {
		t.Fatal(err)
	}
	if known, err = loadEditions(t.Context(), lib, ch); err != nil || len(known) != keepEditions {
		t.Errorf("%d editions, %v", len(known), err)
	}
}

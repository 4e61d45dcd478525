package dns

import (
	"testing"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// place agrees with a file laid out by hand, depth first, at every size around
// the width of a node.
func TestPlace(t *testing.T) {
	for _, leaves := range []int{1, 2, 173, 174, 175, 176, 348, 349, 1000} {
		type block struct {
			node   bool
			offset int64
		}
		offset := func(k int) int64 {
			if k == 0 {
				return 0
			}
			return firstBlock + int64(k-1)*nextBlock
		}
		var blocks []block
		if leaves > 1 {
			blocks = append(blocks, block{true, 0})
		}
		for k := range leaves {
			if leaves > nodeWidth && k%nodeWidth == 0 {
				blocks = append(blocks, block{true, offset(k)})
			}
			blocks = append(blocks, block{false, offset(k)})
		}
		f, err := layout(len(blocks))
		if err != nil || f.leaves != leaves {
			t.Fatalf("%d blocks: %d leaves instead of %d, %v", len(blocks), f.leaves, leaves, err)
		}
		for i, b := range blocks {
			if f.isNode(i) != b.node {
				t.Errorf("%d leaves: block %d node=%v", leaves, i, !b.node)
			}
			got, err := place(transport.Want{Layer: bundle.LayerText, Node: b.node, Offset: b.offset}, len(blocks))
			found := false
			for _, g := range got {
				found = found || g == i
			}
			if err != nil || !found || len(got) > 1 && b.offset != 0 {
				t.Errorf("%d leaves: block %d placed at %v, %v", leaves, i, got, err)
			}
		}
	}
	for _, n := range []int{-1, 0, 2, 176, 177, 1 << 20} {
		if f, err := layout(n); err == nil {
			t.Errorf("a file of %d blocks: %+v", n, f)
		}
	}
}

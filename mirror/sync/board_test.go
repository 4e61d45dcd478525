package sync

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// What is urgent is taken first, whenever it was put up: texts of an older edition
// turn up when its front page has come, long after the pictures.
func TestUrgentFirst(t *testing.T) {
	b := newBoard(newCrew(), &purse{})
	l := b.crew.lane(transport.Path{Name: "p", Hints: transport.Hints{Batch: 1}}, remembered{})
	b.crew.keeps(l, 0)
	b.join(l)
	var ranks []int
	for i, rank := range []int{rankImages, rankOlder, rankText, rankImages, rankLangs, rankRest, rankLangs} {
		id, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256}.Sum([]byte(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		b.add(&job{rank: rank}, []bundle.Want{{CID: id, Size: 100}})
	}
	for {
		n, _ := b.take(l)
		if n == nil {
			break
		}
		ranks = append(ranks, n.wants[0].rank)
		b.arrived(n.wants[0].CID, n, 100)
		b.release(n, true, mayRecover)
	}
	if len(ranks) != 7 || !slices.IsSorted(ranks) {
		t.Errorf("taken in the order %v", ranks)
	}
}

package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
)

// TestGoneAndCorrected: the next front page says what was taken back and since when
// the others stand.
func TestGoneAndCorrected(t *testing.T) {
	first, err := Pack(input(article(1), article(2), article(3)))
	if err != nil {
		t.Fatal(err)
	}
	next := func() Input {
		fixed := article(3)
		fixed.Corrected = time.Unix(1_700_000_000, 999).In(time.FixedZone("", 3600))
		in := input(fixed)
		in.Edition, in.Previous, in.PreviousLeaf = 1, first.Front, &first.Leaf
		in.Leaves = []channel.Hash{first.Leaf.Hash()}
		in.Gone = []string{article(2).ID}
		return in
	}
	in := next()
	second, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	v := volume(in, second, blocksOf(second))
	f, err := v.Front()
	if err != nil || len(f.Articles) != 2 || !slices.Equal(f.Gone, in.Gone) {
		t.Fatalf("%+v, %v", f, err)
	}
	for i := range f.Articles {
		e := &f.Articles[i]
		if e.ID != article(3).ID {
			if !e.Corrected.IsZero() {
				t.Errorf("%s is corrected, too", e.ID)
			}
			continue
		}
		if a, err := v.Article(e); err != nil || !a.Corrected.Equal(time.Unix(1_700_000_000, 0)) || a.Corrected != e.Corrected {
			t.Errorf("%v, %v, %v", e.Corrected, a.Corrected, err)
		}
	}
	in = next()
	in.Gone = append(in.Gone, article(3).ID)
	if _, err := Pack(in); err == nil || !strings.Contains(err.Error(), "both packed and taken back") {
		t.Errorf("packed and taken back: %v", err)
	}
	in = next()
	for i := range MaxGone {
		in.Gone = append(in.Gone, fmt.Sprintf("%016x", 0xf000+i))
	}
	if _, err := Pack(in); !errors.Is(err, ErrFront) {
		t.Errorf("one too many: %v", err)
	}
	in.Gone = in.Gone[1:]
	if _, err := Pack(in); err != nil {
		t.Errorf("as many as there is room for: %v", err)
	}
}

// TestFreed: what can go of an edition is never what reading the rest takes.
func TestFreed(t *testing.T) {
	var list []Article
	for i := range 5 {
		a := article(10+i, (1+i)*40_000)
		a.Body = fmt.Sprintf("<p>%x</p>", noise(uint64(i), (1+i*40)<<10))
		list = append(list, a)
	}
	in := input(list...)
	p, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	freed := 0
	for mask := range 1 << len(list) {
		var gone, left []Entry
		for i, e := range p.Front.Articles {
			if mask>>i&1 == 1 {
				gone = append(gone, e)
			} else {
				left = append(left, e)
			}
		}
		blocks := blocksOf(p)
		v := volume(in, p, blocks)
		free, err := v.Freed(gone, left)
		if err != nil {
			t.Fatal(err)
		}
		freed += len(free)
		for _, w := range free {
			delete(blocks, w.CID)
		}
		for i := range left {
			if _, err := v.Article(&left[i]); err != nil {
				t.Errorf("%05b: an article that is left: %v", mask, err)
			}
			for j := range left[i].Images {
				if _, err := v.Image(&left[i], j); err != nil {
					t.Errorf("%05b: a picture that is left: %v", mask, err)
				}
			}
		}
		if len(left) == 0 {
			if _, err := v.Article(&gone[0]); !errors.Is(err, ErrMissing) {
				t.Errorf("nothing is left, and an article can be read: %v", err)
			}
		}
		if len(gone) == 0 && len(free) > 0 {
			t.Errorf("nothing is gone, and %d blocks are free", len(free))
		}
	}
	if freed < 100 {
		t.Errorf("%d blocks freed in all: this tested nothing", freed)
	}
	// Without what lists them nothing is known.
	v := volume(in, p, blocksOf(p))
	d, err := v.Directory()
	if err != nil {
		t.Fatal(err)
	}
	get := v.Get
	v.Get = func(c cid.Cid) ([]byte, error) {
		if c == d.Layers[LayerText] {
			return nil, ErrMissing
		}
		return get(c)
	}
	if free, err := v.Freed(p.Front.Articles, nil); err != nil || slices.ContainsFunc(free, func(w Want) bool { return w.Layer == LayerText }) {
		t.Errorf("%d, %v", len(free), err)
	}
}

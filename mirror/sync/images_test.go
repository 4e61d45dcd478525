package sync_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// illustrated are two editions with one article each that has pictures.
func illustrated(t *testing.T) (*transporttest.Channel, bundle.Article, bundle.Article) {
	t.Helper()
	c := published(t, 2)
	one, two := c.Editions()[0].Articles[0], c.Editions()[1].Articles[0]
	if len(one.Images) == 0 || len(two.Images) == 0 {
		t.Fatal("the articles have no pictures")
	}
	return c, one, two
}

// sees checks whether all pictures of an article are here.
func (r *reader) sees(a bundle.Article, want bool) {
	r.t.Helper()
	for i := range a.Images {
		img, err := sync.Shelf{Library: r.lib}.Image(r.t.Context(), r.c.ID(), a.ID, i)
		switch {
		case want && (err != nil || !bytes.Equal(img.Data, a.Images[i].Data)):
			r.t.Errorf("picture %d of %s: %v", i, a.ID, err)
		case !want && !errors.Is(err, bundle.ErrMissing):
			r.t.Errorf("picture %d of %s, for which nobody asked: %v", i, a.ID, err)
		}
	}
}

// TestImages: the pictures of one article, although images are left out.
func TestImages(t *testing.T) {
	c, one, two := illustrated(t)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		r := newReader(t, c, m.Path("p"))
		r.e.Budget.TextOnly = true
		r.sync()
		r.sees(two, false)
		heads := m.Path("p")
		heads.Heads = downHeads{} // they are not needed
		r.over(heads)
		res, err := r.e.Images(t.Context(), c.ID(), two.ID)
		if err != nil || res.Unreached || res.Received < res.Bytes || res.Delivered["images"] != "p" {
			t.Fatalf("%+v, %v", res, err)
		}
		r.sees(two, true)
		r.sees(one, false)
		if most := int64(len(two.Images[0].Data)+len(two.Images[1].Data)) * 11 / 10; res.Bytes > most {
			t.Errorf("%d bytes came, of pictures of %d", res.Bytes, most)
		}
		once(t, m)
		calls := m.Calls()
		if res, err := r.e.Images(t.Context(), c.ID(), two.ID); err != nil || res.Blocks != 0 || m.Calls() != calls {
			t.Errorf("they are here: %+v, %v", res, err)
		}
		if _, err := r.e.Images(t.Context(), c.ID(), "fedcba9876543210"); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("of no article: %v", err)
		}
	})
}

// TestImagesWithinTheBudget: the limit holds, and what came is kept.
func TestImagesWithinTheBudget(t *testing.T) {
	c, _, two := illustrated(t)
	synctest.Test(t, func(t *testing.T) {
		p := newRoad(t, 20*time.Millisecond, 1<<20, c.Editions()...)
		r := newReader(t, c, p.path("p", transport.KindTCP))
		r.e.Budget.TextOnly = true
		r.sync()
		r.e.Budget.Bytes = sync.LeastBytes
		for n := 1; ; n++ {
			before := p.partial
			res, err := r.e.Images(t.Context(), c.ID(), two.ID)
			if came := int64(p.partial - before); came > sync.LeastBytes || res.Received > sync.LeastBytes {
				t.Errorf("%d bytes came, %d were counted", came, res.Received)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, sync.ErrBudget) || res.Blocks == 0 || n > 10 {
				t.Fatalf("%d: %+v, %v", n, res, err)
			}
		}
		r.sees(two, true)
	})
}

// TestImagesFromNobody: a path without them is not one that can't be reached, a
// narrow one is not asked, and a liar is reported.
func TestImagesFromNobody(t *testing.T) {
	c, _, two := illustrated(t)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		p := m.Path("p")
		p.Kind = transport.KindTCP
		r := newReader(t, c, p)
		r.e.Budget.TextOnly = true
		r.sync()
		before, err := sync.Reports(t.Context(), r.lib, c.ID())
		if err != nil {
			t.Fatal(err)
		}
		empty := transporttest.NewMemory(t).Path("p")
		empty.Kind = p.Kind
		narrow := m.Path("narrow")
		narrow.Hints.Text = true
		calls := m.Calls()
		res, err := r.over(empty, narrow).e.Images(t.Context(), c.ID(), two.ID)
		if !errors.Is(err, sync.ErrIncomplete) || !res.Unreached || m.Calls() != calls {
			t.Errorf("%+v, %v", res, err)
		}
		after, err := sync.Reports(t.Context(), r.lib, c.ID())
		if err != nil || len(after) != 1 || after[0] != before[0] {
			t.Errorf("reported %+v instead of %+v, %v", after, before, err)
		}
		if res, err := r.over().e.Images(t.Context(), c.ID(), two.ID); !errors.Is(err, sync.ErrIncomplete) || !res.Unreached {
			t.Errorf("no path at all: %+v, %v", res, err)
		}
		r.sees(two, false)
	})
}

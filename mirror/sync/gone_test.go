package sync_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// long is an article whose text has blocks of its own, with a picture.
func long(n int) bundle.Article {
	a := transporttest.Brief(n)
	a.ID = fmt.Sprintf("%016x", 0x1000+n)
	a.Title = fmt.Sprintf("Long story %d", n)
	a.Body = fmt.Sprintf("<p>story%d %x</p>", n, transporttest.Noise(uint64(n), 400<<10))
	a.Images = []bundle.Image{{Type: "image/webp", Width: 10, Height: 10, Alt: "A picture", Data: transporttest.Noise(uint64(100+n), 400<<10)}}
	return a
}

// realReader is one with the store that readers have.
func realReader(t *testing.T, c *transporttest.Channel) (*reader, *library.Library) {
	t.Helper()
	lib, err := library.Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lib.Close() })
	r := &reader{t: t, c: c, lib: lib, e: sync.Engine{Library: lib}}
	if _, err := sync.Add(t.Context(), lib, c.Invite(channel.Places{})); err != nil {
		t.Fatal(err)
	}
	return r, lib
}

// held counts the blocks of an edition's layers that are in a library.
func held(t *testing.T, lib sync.Library, e *transporttest.Edition, layers ...string) (n, all int) {
	t.Helper()
	for _, w := range e.Wants(layers...) {
		has, err := lib.Has(t.Context(), w.CID)
		if err != nil {
			t.Fatal(err)
		}
		if all++; has[0] {
			n++
		}
	}
	return n, all
}

// TestTakenBack: an article that was taken back leaves the library with the next
// sync, with its words and the blocks that held nothing else; also that of a reader
// who was away while it happened; and neither an older edition nor a friend's file
// brings it back.
func TestTakenBack(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	first := c.Publish(long(1), long(2))
	c.Publish(transporttest.Brief(3))
	for _, away := range []int{0, 1, 20} { // editions between
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			c := c.Fork()
			taken := long(1)
			c.Gone = []string{taken.ID}
			c.Publish()
			history(c, away)
			newest := c.Newest()
			r, lib := realReader(t, c)
			m := transporttest.NewMemory(t, c.Editions()[:2]...)
			r.over(m.OpenerPath("p"))
			r.sync()
			r.reads(true, c.Editions()[:2]...)
			before, _ := held(t, lib, first, bundle.LayerText, bundle.LayerMedia)
			res := r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
			if res.Gone != 1 || res.Corrected != 0 {
				t.Errorf("%d gone, %d corrected", res.Gone, res.Corrected)
			}
			absent := func(when string) {
				t.Helper()
				if _, err := (sync.Shelf{Library: lib}).Article(t.Context(), c.ID(), taken.ID); !errors.Is(err, transport.ErrNotFound) {
					t.Errorf("%s: %v", when, err)
				}
				for h, err := range lib.Headlines(t.Context(), library.Query{Search: "story1"}) {
					if err != nil {
						t.Fatal(err)
					}
					t.Errorf("%s: a search finds %q", when, h.Title)
				}
				if gone, err := lib.Gone(t.Context(), c.ID()); err != nil || len(gone) != 1 || gone[0].ID != taken.ID {
					t.Errorf("%s: gone are %+v, %v", when, gone, err)
				}
			}
			absent("after the sync")
			after, all := held(t, lib, first, bundle.LayerText, bundle.LayerMedia)
			if before != all || after > all-6 { // of over four blocks of text and two of a picture
				t.Errorf("%d of %d blocks before, %d after", before, all, after)
			}
			// What lay beside it is whole.
			shelf := sync.Shelf{Library: lib}
			a, err := shelf.Article(t.Context(), c.ID(), long(2).ID)
			if err != nil || a.Body != long(2).Body {
				t.Errorf("the article beside it: %v", err)
			}
			if img, err := shelf.Image(t.Context(), c.ID(), long(2).ID, 0); err != nil || !bytes.Equal(img.Data, long(2).Images[0].Data) {
				t.Errorf("its picture: %v", err)
			}

			// Nothing is fetched for it again, nor told twice.
			again := transporttest.NewMemory(t, c.Editions()...)
			if res := r.over(again.OpenerPath("p")).sync(); res.Blocks != 0 || res.Gone != 0 {
				t.Errorf("once more: %d blocks, %d gone", res.Blocks, res.Gone)
			}
			r.over(transporttest.NewMemory(t, c.Editions()[:2]...).OpenerPath("p"))
			_, _ = r.e.Sync(t.Context(), c.ID()) // it lags
			absent("after an older edition was offered")
			r.holds(newest)
			for _, e := range c.Editions()[:2] {
				if err := lib.SetFront(t.Context(), c.ID(), e.Packed.Front); err != nil {
					t.Fatal(err)
				}
			}
			absent("after older front pages came late")

			// Somebody new never has it, whatever front pages he fetches.
			fresh, lib2 := realReader(t, c)
			m2 := transporttest.NewMemory(t, c.Editions()...)
			if res := fresh.over(m2.OpenerPath("p")).sync(); res.Gone != 0 {
				t.Errorf("somebody new is told of %d", res.Gone)
			}
			if _, err := lib2.Headline(t.Context(), c.ID(), taken.ID); !errors.Is(err, transport.ErrNotFound) {
				t.Errorf("somebody new: %v", err)
			}
			if n, _ := held(t, lib2, first, bundle.LayerText, bundle.LayerMedia); n > all-6 {
				t.Errorf("somebody new fetched %d of %d blocks", n, all)
			}
			if gone, err := lib2.Gone(t.Context(), c.ID()); err != nil || len(gone) != 0 {
				t.Errorf("somebody new hears of %+v, %v", gone, err)
			}
		})
	}
}

// TestSweepGoesOn: who is killed between the front page and the blocks drops them
// the next time.
func TestSweepGoesOn(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	first := c.Publish(long(1), long(2))
	r, lib := realReader(t, c)
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	all, _ := held(t, lib, first, bundle.LayerText, bundle.LayerMedia)
	c.Gone = []string{long(1).ID}
	e := c.Publish()
	if err := lib.SetFront(t.Context(), c.ID(), e.Packed.Front); err != nil { // and here he is killed
		t.Fatal(err)
	}
	if n, _ := held(t, lib, first, bundle.LayerText, bundle.LayerMedia); n != all {
		t.Fatalf("%d of %d blocks", n, all)
	}
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	if n, _ := held(t, lib, first, bundle.LayerText, bundle.LayerMedia); n > all-6 {
		t.Errorf("%d of %d blocks are left", n, all)
	}
}

// TestSweepOfTexts: it drops the texts of whoever has no pictures.
func TestSweepOfTexts(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	first := c.Publish(long(1), long(2))
	r, lib := realReader(t, c)
	r.e.Budget.TextOnly = true
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	c.Gone = []string{long(1).ID}
	c.Publish()
	before, _ := held(t, lib, first, bundle.LayerText)
	pictures, _ := held(t, lib, first, bundle.LayerMedia)
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	if n, _ := held(t, lib, first, bundle.LayerText); n > before-3 || pictures != 0 {
		t.Errorf("%d of %d blocks of text are left; there were %d of pictures", n, before, pictures)
	}
}

// TestCorrection: a corrected text takes the place of the old one, which is gone with
// its blocks; there is one article, as read as it was, and it says when.
func TestCorrection(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	first := c.Publish(long(1), long(2))
	r, lib := realReader(t, c)
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	if err := lib.SetRead(t.Context(), c.ID(), long(1).ID, true); err != nil {
		t.Fatal(err)
	}
	fixed := long(1)
	fixed.Title, fixed.Body, fixed.Corrected = "Long story, told right", "<p>This is how it was.</p>", transporttest.Start.Add(time.Hour)
	fixed.Images = nil
	c.Publish(fixed)
	history(c, 3)
	_, all := held(t, lib, first, bundle.LayerText, bundle.LayerMedia)
	res := r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync()
	if res.Corrected != 1 || res.Gone != 0 {
		t.Errorf("%d corrected, %d gone", res.Corrected, res.Gone)
	}
	var found []library.Headline
	for h, err := range lib.Headlines(t.Context(), library.Query{Search: "long story"}) {
		if err != nil {
			t.Fatal(err)
		}
		if h.ID == fixed.ID {
			found = append(found, h)
		}
	}
	if len(found) != 1 || !found[0].Read || !found[0].Text || found[0].Title != fixed.Title || !found[0].Corrected.Equal(fixed.Corrected) {
		t.Errorf("%+v", found)
	}
	a, err := (sync.Shelf{Library: lib}).Article(t.Context(), c.ID(), fixed.ID)
	if err != nil || a.Body != fixed.Body || !a.Corrected.Equal(fixed.Corrected) {
		t.Errorf("%+v, %v", a, err)
	}
	if n, _ := held(t, lib, first, bundle.LayerText, bundle.LayerMedia); n > all-6 {
		t.Errorf("%d of %d blocks of the old edition are left", n, all)
	}
	for h, err := range lib.Headlines(t.Context(), library.Query{Search: "story1"}) {
		t.Errorf("the old text is found: %q, %v", h.Title, err)
	}
	if gone, err := lib.Gone(t.Context(), c.ID()); err != nil || len(gone) != 0 {
		t.Errorf("gone are %+v, %v", gone, err)
	}
	// Who never had the old one sees that there was one.
	fresh, lib2 := realReader(t, c)
	if res := fresh.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("p")).sync(); res.Corrected != 0 {
		t.Errorf("somebody new is told of %d corrections", res.Corrected)
	}
	if h, err := lib2.Headline(t.Context(), c.ID(), fixed.ID); err != nil || !h.Corrected.Equal(fixed.Corrected) {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestThiefTakesBack: what somebody took back who had stolen the log key comes again,
// texts and pictures, when the publisher has put another one in its place.
func TestThiefTakesBack(t *testing.T) {
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(long(1), long(2))
	c.Publish(transporttest.Brief(3))
	thief := c.Fork()
	thief.Gone = []string{long(1).ID, transporttest.Brief(3).ID}
	for range 3 {
		thief.Publish()
	}
	r, lib := realReader(t, c)
	r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("honest")).sync()
	if res := r.over(transporttest.NewMemory(t, thief.Editions()...).OpenerPath("thief's")).sync(); res.Gone != 2 {
		t.Fatalf("the thief took back %d", res.Gone)
	}
	c.Rekey(2)
	c.Publish(transporttest.Brief(4))
	res := r.over(transporttest.NewMemory(t, c.Editions()...).OpenerPath("honest")).sync()
	if res.Gone != 0 {
		t.Errorf("the publisher took back %d", res.Gone)
	}
	r.holds(c.Newest())
	r.reads(true, c.Editions()...)
	if gone, err := lib.Gone(t.Context(), c.ID()); err != nil || len(gone) != 0 {
		t.Errorf("gone are %+v, %v", gone, err)
	}
}

// TestPardon: a path that lied is asked last for a day, or until that is forgotten.
func TestPardon(t *testing.T) {
	c := published(t, 1)
	good, bad := transporttest.NewMemory(t, c.Editions()...), transporttest.NewMemory(t, c.Editions()...)
	other := transporttest.NewChannel(t, "Another")
	other.Publish(transporttest.Brief(1))
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.WithHead(bad.Path("bad"), other.Newest().Head.Text()), good.Path("good"))
		state(t, r.sync(), "bad", "lied")
		asked := func() bool {
			res := r.over(bad.Path("bad"), good.Path("good")).sync()
			return slices.ContainsFunc(res.Paths, func(p sync.PathReport) bool { return p.Name == "bad" && p.State == "ok" })
		}
		if asked() {
			t.Fatal("a liar was asked as any other: this tests nothing")
		}
		if err := sync.Pardon(t.Context(), r.lib, c.ID()); err != nil {
			t.Fatal(err)
		}
		if !asked() {
			t.Error("it was not asked though all is forgotten")
		}
	})
}

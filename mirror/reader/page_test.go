package reader

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// What the engine calls a path's state is what the page is told.
func TestPathStatus(t *testing.T) {
	for state, want := range map[string]web.PathState{
		"ok": web.PathWorking, "failed": web.PathBlocked, "slow": web.PathResting, "lied": web.PathLied, "idle": web.PathUntried, "of a later version": web.PathUntried,
	} {
		if got := pathStatus(newsync.PathReport{State: state, At: time.Now()}); got.State != want || got.Last.IsZero() == (state == "ok") && state != "idle" && state != "of a later version" {
			t.Errorf("%q: %+v", state, got)
		}
	}
}

// A tap brings the pictures of one article, although images are left out; the
// page says what goes on, and the day's limit holds.
func TestPicturesOnTap(t *testing.T) {
	c := published(t)
	var with []bundle.Article
	for _, a := range c.Newest().Articles {
		if len(a.Images) > 0 {
			with = append(with, a)
		}
	}
	size := func(a bundle.Article) (n int64) {
		for _, img := range a.Images {
			n += int64(len(img.Data))
		}
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		r := inMemory(t, c, func(cfg *Config) { cfg.TextOnly, cfg.DayBytes = true, 10<<20 }, m.Path("p"))
		page := r.Engine(t.Context())
		if _, err := r.Sync(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
		a := with[0]
		here := func() bool {
			for i := range a.Images {
				if _, err := page.Image(t.Context(), c.ID(), a.ID, i); err != nil {
					return false
				}
			}
			return true
		}
		if here() {
			t.Fatal("the pictures are here already")
		}
		looked := page.Status(t.Context()).LastSync
		before, err := r.spent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		page.FetchImages(t.Context(), c.ID(), a.ID)
		page.FetchImages(t.Context(), c.ID(), a.ID)
		if st := page.Status(t.Context()); !slices.Equal(st.Fetching, []string{a.ID}) {
			t.Errorf("being fetched: %q", st.Fetching)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		st := page.Status(t.Context())
		if !here() || len(st.Fetching) != 0 || st.Syncing || !st.LastSync.Equal(looked) {
			t.Errorf("here %v, being fetched %q, %+v", here(), st.Fetching, st)
		}
		got := whats(st.Events)
		if got[len(got)-1] != web.EventPictured || !slices.Contains(got, web.EventPictures) {
			t.Errorf("events %q", got)
		}
		after, err := r.spent(t.Context())
		if spent := after.Bytes - before.Bytes; err != nil || spent < size(a) || spent > size(a)*11/10 {
			t.Errorf("%d bytes were spent on pictures of %d, %v", spent, size(a), err)
		}
		// Nothing more may be spent today.
		r.cfg.DayBytes = after.Bytes + newsync.LeastBytes - 1
		m.Forget()
		if _, err := r.Images(t.Context(), c.ID(), a.ID); err == nil {
			t.Error("the day's limit does not hold")
		}
		if got := whats(page.Status(t.Context()).Events); got[len(got)-1] != web.EventLimit {
			t.Errorf("events %q", got)
		}
	})
	// Nor do they come over a way that can't carry them, and that is said.
	synctest.Test(t, func(t *testing.T) {
		p := transporttest.NewMemory(t, c.Editions()...).Path("dns n.example")
		p.Kind, p.Hints.Text = transport.KindDNS, true
		r := inMemory(t, c, nil, p)
		page := r.Engine(t.Context())
		if _, err := r.Sync(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
		page.FetchImages(t.Context(), c.ID(), with[0].ID)
		synctest.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		st := page.Status(t.Context())
		if got := whats(st.Events); got[len(got)-1] != web.EventUnpictured || len(st.Fetching) != 0 {
			t.Errorf("events %q, being fetched %q", got, st.Fetching)
		}
	})
}

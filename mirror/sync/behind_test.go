package sync_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// TestKnownAndOnItsWay: a newer head is known and its front page on a slow way
// when many say that there is nothing newer. It is waited for.
func TestKnownAndOnItsWay(t *testing.T) {
	c := published(t, 1)
	history(c, 32)
	joined, now := c.Editions()[:3], c.Editions()
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, joined...).Path("p"))
		r.sync()
		r.holds(joined[2])
		paths := []transport.Path{newRoad(t, 30*time.Millisecond, 12<<10, now...).path("slow", transport.KindQUIC)}
		for i := range 4 {
			p := newRoad(t, 90*time.Millisecond, 0, joined...).path(fmt.Sprintf("behind %d", i), transport.KindQUIC)
			p.Source = p.Name
			paths = append(paths, p)
		}
		if res := r.over(paths...).sync(); !res.New {
			t.Errorf("%+v", res)
		}
		r.holds(now[len(now)-1])
	})
}

// always shows the same head, whatever is held.
type always struct {
	transport.Heads
	head []byte
}

func (a always) Head(ctx context.Context, _ channel.ID, _ uint64) ([]byte, error) {
	return a.head, sleep(ctx, 100*time.Millisecond)
}

// TestOlderIsNoAnswer: those that show an older head than the reader's don't know
// whether there is a newer one, however many they are. Whoever is slower is heard.
func TestOlderIsNoAnswer(t *testing.T) {
	c := published(t, 1)
	history(c, 5)
	joined, now := c.Editions()[:3], c.Editions()
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, joined...).Path("p"))
		r.sync()
		paths := []transport.Path{
			newRoad(t, time.Second, 0, now...).path("slow", transport.KindQUIC),
			newRoad(t, 50*time.Millisecond, 0, joined...).path("up to here", transport.KindQUIC),
		}
		for i := range 4 {
			old := transporttest.NewMemory(t, c.Editions()[:1]...)
			p := old.Path(fmt.Sprintf("older %d", i))
			p.Heads, p.Source = always{old, c.Editions()[0].Head.Text()}, p.Name
			paths = append(paths, p)
		}
		r.over(paths...).sync()
		r.holds(now[len(now)-1])
	})
}

// TestTwoThatNeedTheLog: two heads came with their front pages, and both want the
// log fetched before they can be shown. One is fetched for, not now this one and
// now that one for ever.
func TestTwoThatNeedTheLog(t *testing.T) {
	c := published(t, 1)
	history(c, 40)
	joined, now := c.Editions()[:3], c.Editions()
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, transporttest.NewMemory(t, joined...).Path("p"))
		r.sync()
		r.over(
			newRoad(t, 50*time.Millisecond, 300<<10, now...).path("a", transport.KindQUIC),
			newRoad(t, 50*time.Millisecond, 300<<10, now[:len(now)-1]...).path("b", transport.KindQUIC),
		).sync()
		r.holds(now[len(now)-1])
	})
}

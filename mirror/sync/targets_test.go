package sync_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// plain takes the opener from a path.
func plain(p transport.Path) transport.Path {
	p.Heads = struct{ transport.Heads }{p.Heads}
	return p
}

// hoarder shows its head and gives out no block, ever.
func hoarder(p transport.Path) transport.Path {
	p.Blocks = hung{}
	return plain(p)
}

type hung struct{}

func (hung) Fetch(ctx context.Context, _ transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		<-ctx.Done()
		yield(transport.Block{}, ctx.Err())
	}
}

// boaster shows many heads in one opening.
func boaster(p transport.Path, heads ...*channel.Head) transport.Path {
	p.Heads = boasts{p.Heads, heads}
	return p
}

type boasts struct {
	transport.Heads
	heads []*channel.Head
}

func (b boasts) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		for p, err := range b.Heads.(transport.Opener).Open(ctx, ask) {
			if p.Kind != transport.PieceHead {
				if !yield(p, err) {
					return
				}
				continue
			}
			for _, h := range b.heads {
				if !yield(transport.Piece{Kind: transport.PieceHead, Data: h.Text()}, nil) {
					return
				}
			}
		}
	}
}

// forks are other histories of c, each with so many editions more than it, which
// one by one show a longer head.
func forks(c *transporttest.Channel, n, longer int) (all []*transporttest.Channel) {
	for i := range n {
		f := c.Fork()
		for j := range longer + i {
			f.Publish(transporttest.Brief(1000*(i+1) + j))
		}
		all = append(all, f)
	}
	return all
}

// TestContradictingHeads: a reader who comes back after a while is shown, before
// the true head, more heads than anybody could try at once, all signed by the
// channel's keys, all longer than the true one, none of them of the history that
// the reader holds. The true news is read all the same, and soon.
func TestContradictingHeads(t *testing.T) {
	const many = 6
	type evil = func(i int, m *road) transport.Path
	fast := func(i int, rd *road) transport.Path {
		return rd.path(fmt.Sprintf("relay 192.0.2.%d:443 quic", i), transport.KindQUIC)
	}
	for name, test := range map[string]struct {
		path  evil
		state string
		limit time.Duration
	}{
		"front pages that open": {fast, "lied", 3 * time.Second},
		"front pages to fetch":  {func(i int, rd *road) transport.Path { return plain(fast(i, rd)) }, "lied", 10 * time.Second},
		"front pages nobody has": {func(i int, rd *road) transport.Path {
			p := plain(fast(i, rd))
			p.Blocks = nil
			return p
		}, "", 10 * time.Second},
		"front pages that never come": {func(i int, rd *road) transport.Path { return hoarder(fast(i, rd)) }, "", (many + 1) * 5 * time.Second},
	} {
		for _, opener := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, true one with its front page %v", name, opener), func(t *testing.T) {
				c := published(t, 1)
				synctest.Test(t, func(t *testing.T) {
					others := forks(c, many, 5)
					c.Publish(transporttest.Articles(1)...)
					r := newReader(t, c, newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("relay 198.51.100.1:443 quic", transport.KindQUIC))
					r.sync()
					history(c, 2)
					c.Publish(transporttest.Articles(7)...)
					good := newRoad(t, 200*time.Millisecond, 0, c.Editions()...).path("relay 198.51.100.1:443 quic", transport.KindQUIC)
					if !opener {
						good = plain(good)
					}
					paths := []transport.Path{good}
					for i, f := range others {
						paths = append(paths, test.path(i, newRoad(t, 20*time.Millisecond, 0, f.Editions()...)))
					}
					res, err := r.over(paths...).e.Sync(t.Context(), c.ID())
					r.holds(c.Newest())
					r.reads(true, c.Newest())
					if !res.New || res.ToHeadlines == 0 || res.ToHeadlines > test.limit {
						t.Errorf("the true news after %s (%v)", res.ToHeadlines, err)
					}
					if limit := time.Second; opener && test.state == "" && res.ToHeadlines > limit {
						t.Errorf("its front page came along, and it is shown after %s", res.ToHeadlines)
					}
					if res.ToText == 0 || res.ToText > test.limit+time.Second {
						t.Errorf("its texts are here after %s", res.ToText)
					}
					state(t, res, good.Name, "ok")
					for _, p := range paths[1:] {
						if test.state != "" {
							state(t, res, p.Name, test.state)
						}
					}
					if test.state == "lied" && (!res.Fork || len(r.view().Evidence()) == 0) {
						t.Error("no alarm, or no proof of the other histories")
					}
				})
			})
		}
	}
}

// TestManyHeadsInOneAnswer: one path shows as many heads as it likes. That is a
// lie, and keeps nothing from the reader.
func TestManyHeadsInOneAnswer(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		others := forks(c, 20, 5)
		c.Publish(transporttest.Articles(1)...)
		r := newReader(t, c, newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("good", transport.KindQUIC))
		r.sync()
		history(c, 3)
		var heads []*channel.Head
		for _, f := range others {
			heads = append(heads, f.Newest().Head)
		}
		good := plain(newRoad(t, 200*time.Millisecond, 0, c.Editions()...).path("good", transport.KindQUIC))
		bad := boaster(newRoad(t, 20*time.Millisecond, 0, others[0].Editions()...).path("bad", transport.KindQUIC), heads...)
		res := r.over(good, bad).sync()
		r.holds(c.Newest())
		r.reads(true, c.Newest())
		state(t, res, "bad", "lied")
		state(t, res, "good", "ok")
		if res.ToHeadlines > 2*time.Second {
			t.Errorf("the true news after %s", res.ToHeadlines)
		}
	})
}

// TestOnlyForksSoFar: the heads that come at once are all false, and the only
// honest path takes longer than a reader would wait for a front page.
func TestOnlyForksSoFar(t *testing.T) {
	c := published(t, 1)
	synctest.Test(t, func(t *testing.T) {
		others := forks(c, 2, 5)
		c.Publish(transporttest.Articles(1)...)
		r := newReader(t, c, newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("good", transport.KindQUIC))
		r.sync()
		history(c, 3)
		slow := newRoad(t, 25*time.Second, 0, c.Editions()...).path("good", transport.KindQUIC)
		res := r.over(slow, newRoad(t, 20*time.Millisecond, 0, others[0].Editions()...).path("a", transport.KindQUIC),
			newRoad(t, 30*time.Millisecond, 0, others[1].Editions()...).path("b", transport.KindQUIC)).sync()
		r.holds(c.Newest())
		if !res.Fork || !res.New {
			t.Errorf("fork %v, new %v", res.Fork, res.New)
		}
	})
}

// TestForkAfterWhatWasHeld: two histories that both continue the one held. Who is
// first is followed; the other is no liar, since nobody knows which one is true,
// and there is an alarm and a proof.
func TestForkAfterWhatWasHeld(t *testing.T) {
	for _, more := range []int{1, 3} {
		c := published(t, 2)
		synctest.Test(t, func(t *testing.T) {
			r := newReader(t, c, newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("one", transport.KindQUIC))
			r.sync()
			theirs := c.Fork()
			history(c, more)
			theirs.Publish(transporttest.Brief(900))
			for i := range more {
				theirs.Publish(transporttest.Brief(901 + i))
			}
			res := r.over(newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("one", transport.KindQUIC),
				newRoad(t, 30*time.Millisecond, 0, theirs.Editions()...).path("two", transport.KindQUIC)).sync()
			if !res.Fork || len(r.view().Evidence()) == 0 {
				t.Errorf("%d more: no alarm", more)
			}
			for _, p := range []string{"one", "two"} {
				if got := report(t, res, p); got.State == "lied" {
					t.Errorf("%d more: %s is called a liar: %s", more, p, got.Error)
				}
			}
		})
	}
}

// TestForkOvertaken: while another history's front page is on its way, the true one comes to
// the same size and is held. The other is a fork then, and nothing of it is shown.
func TestForkOvertaken(t *testing.T) {
	c := published(t, 1)
	start, theirs := c.Editions(), c.Fork()
	theirs.Publish(transporttest.Brief(900))
	theirs.Publish(transporttest.Brief(901))
	history(c, 2)
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t, c, newRoad(t, 20*time.Millisecond, 0, start...).path("start", transport.KindQUIC))
		r.sync()
		bad := plain(newRoad(t, 20*time.Millisecond, 0, theirs.Editions()...).path("bad", transport.KindQUIC))
		bad.Blocks = later{bad.Blocks, 600 * time.Millisecond}
		r.over(bad, plain(newRoad(t, 50*time.Millisecond, 0, c.Editions()[:2]...).path("one", transport.KindQUIC)),
			plain(newRoad(t, 100*time.Millisecond, 0, c.Editions()...).path("two", transport.KindQUIC)))
		for i := range 2 {
			if res := r.sync(); i == 0 && !res.Fork {
				t.Error("no alarm")
			}
			r.holds(c.Newest())
			r.reads(false, c.Editions()[1:]...)
			r.gone(theirs.Editions()[1:]...)
			if n := len(r.view().Evidence()); n != 1 {
				t.Errorf("%d pieces of evidence", n)
			}
		}
	})
}

// later gives its blocks after a while.
type later struct {
	transport.Blocks
	after time.Duration
}

func (l later) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		if err := sleep(ctx, l.after); err != nil {
			yield(transport.Block{}, err)
			return
		}
		for b, err := range l.Blocks.Fetch(ctx, r) {
			if !yield(b, err) {
				return
			}
		}
	}
}

// rotated is c with a second root note that names another log key, under which
// its newest head is signed.
type rotated struct {
	transport.Heads
	head *channel.Head
	note []byte
}

func rotate(t *testing.T, c *transporttest.Channel, name string) rotated {
	t.Helper()
	key := func(seed string) ed25519.PrivateKey {
		sum := sha256.Sum256([]byte(seed))
		return ed25519.NewKeyFromSeed(sum[:])
	}
	next := key("the next log key")
	n := *c.Roots().Last()
	n.Version, n.Channel, n.Previous = 2, c.ID(), sha256.Sum256(c.Roots().Last().Text())
	n.Log = channel.LogKey{Generation: 1, Key: next.Public().(ed25519.PublicKey)}
	note, err := n.Sign(key(name + " root 1")) // as transporttest.NewChannel has it
	if err != nil {
		t.Fatal(err)
	}
	e := c.Newest()
	h, err := channel.SignHead(e.Packed.Leaf, e.Head.Path, 1, e.Head.Time, next)
	if err != nil {
		t.Fatal(err)
	}
	return rotated{head: h, note: note}
}

func (r rotated) path(p transport.Path) transport.Path {
	r.Heads = p.Heads
	p.Heads = r
	return p
}

func (r rotated) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	if _, err := r.Heads.Head(ctx, ch, have); err != nil {
		return nil, err
	}
	return r.head.Text(), nil
}

func (r rotated) RootNote(ctx context.Context, ch channel.ID, v uint64) ([]byte, error) {
	if v == 2 {
		return r.note, nil
	}
	return r.Heads.RootNote(ctx, ch, v)
}

// TestLogKeyReplaced: a path that still shows a head of the old log key lags; it
// does not lie, it does not count for how new the news is, and its blocks are
// taken. The reader follows the new key, also after a restart in the middle.
func TestLogKeyReplaced(t *testing.T) {
	for _, first := range []string{"new", "old"} {
		t.Run(first+" one first", func(t *testing.T) {
			c := published(t, 1)
			synctest.Test(t, func(t *testing.T) {
				r := newReader(t, c, newRoad(t, 20*time.Millisecond, 0, c.Editions()...).path("relay 203.0.113.1:443 quic", transport.KindQUIC))
				r.sync()
				c.Publish(transporttest.Articles(1)...)
				before := c.Editions()
				c.Publish(transporttest.Articles(2)...)
				by := rotate(t, c, "Kolokol")
				quick, slow := 20*time.Millisecond, 60*time.Millisecond
				if first == "old" {
					quick, slow = slow, quick
				}
				paths := []transport.Path{
					by.path(newRoad(t, quick, 0, c.Editions()...).path("relay 198.51.100.1:443 quic", transport.KindQUIC)),
					transporttest.WithHead(plain(newRoad(t, slow, 0, before...).path("relay 192.0.2.1:443 quic", transport.KindQUIC)), before[1].Head.Text()),
				}
				for i := range 3 { // the second time the new key is known when the old head comes
					res := r.over(paths...).sync()
					if h := r.view().Head(); i > 0 || first == "new" {
						r.reads(true, c.Editions()...)
						if h == nil || h.Size != 3 || h.Generation != 1 {
							t.Fatalf("sync %d: the new key's head is not held", i)
						}
						state(t, res, paths[0].Name, "ok")
					}
					if p := report(t, res, paths[1].Name); p.State == "lied" || res.Fork {
						t.Errorf("sync %d: the path that lags: %+v", i, p)
					}
				}
				reports, err := sync.Reports(t.Context(), r.lib, c.ID())
				if err != nil {
					t.Fatal(err)
				}
				f := sync.Judge(r.view(), reports, whole(r.view(), nil), time.Now())
				if f.Sources != 1 || first == "new" && f.Answered != 1 {
					t.Errorf("%d sources are said to show the newest head, %d to have answered", f.Sources, f.Answered)
				}
			})
		})
	}
}

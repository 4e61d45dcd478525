package reader

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// counted is a path that counts what it sends; each time, before it does, at
// hears how much that will be in all.
type counted struct {
	transport.Heads
	blocks transport.Blocks
	sent   atomic.Int64

	mu sync.Mutex // a path may still be at work when the sync that asked it has ended
	at func(sent int64)
}

func count(p transport.Path) (*counted, transport.Path) {
	c := &counted{Heads: p.Heads, blocks: p.Blocks}
	p.Kind, p.Heads, p.Blocks = transport.KindTCP, c, c
	return c, p
}

func (c *counted) send(n int) {
	sent := c.sent.Add(int64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(sent)
}

// tell has at called from here on.
func (c *counted) tell(at func(sent int64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

func (c *counted) Head(ctx context.Context, ch channel.ID, size uint64) ([]byte, error) {
	b, err := c.Heads.Head(ctx, ch, size)
	c.send(len(b))
	return b, err
}

func (c *counted) RootNote(ctx context.Context, ch channel.ID, v uint64) ([]byte, error) {
	b, err := c.Heads.RootNote(ctx, ch, v)
	c.send(len(b))
	return b, err
}

func (c *counted) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	b, err := c.Heads.Grant(ctx, ch, name)
	c.send(len(b))
	return b, err
}

func (c *counted) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		for b, err := range c.blocks.Fetch(ctx, r) {
			c.send(len(b.Data))
			if !yield(b, err) {
				return
			}
		}
	}
}

func (r *Reader) today(t *testing.T) int64 {
	t.Helper()
	today, err := r.spent(t.Context())
	if err != nil {
		t.Error(err)
	}
	return today.Bytes
}

// What comes under a day's limit is noted before it comes, and what is noted and
// does not come is given back.
func TestDayIsChargedAhead(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		path, p := count(transporttest.NewMemory(t, c.Editions()...).Path("p"))
		const limit = 4 << 20
		r := inMemory(t, c, func(cfg *Config) { cfg.DayBytes = limit }, p)
		path.tell(func(sent int64) {
			if today := r.today(t); today < sent || today > limit {
				t.Errorf("%d bytes are noted when %d have come", today, sent)
			}
		})
		res, err := r.Sync(t.Context(), c.ID())
		if err != nil {
			t.Fatal(err)
		}
		if today := r.today(t); today != res.Received || today != path.sent.Load() {
			t.Errorf("noted %d of %d bytes, %d were sent", today, res.Received, path.sent.Load())
		}
	})
}

// A program that is killed again and again gets no more in a day than one that
// is not; and killed once, it is not shut out for the day.
func TestDayLimitSurvivesKills(t *testing.T) {
	c := published(t)
	const limit = 900_000
	for _, after := range []int64{0, 1000, 50_000, 200_000} { // when it is killed
		synctest.Test(t, func(t *testing.T) {
			path, p := count(transporttest.NewMemory(t, c.Editions()...).Path("p"))
			var note, atDeath []byte // the day's, as the next start finds it
			kills := 0
			for ; ; kills++ {
				// Each time from nothing, as if the library did not keep what comes.
				r := inMemory(t, c, func(cfg *Config) { cfg.DayBytes = limit }, p)
				if err := r.lib.SetNote(t.Context(), dayNote, note); err != nil {
					t.Fatal(err)
				}
				ctx, kill := context.WithCancel(t.Context())
				atDeath = nil
				before := path.sent.Load()
				path.tell(func(sent int64) {
					if sent-before < after || atDeath != nil {
						return
					}
					b, err := r.lib.Note(t.Context(), dayNote)
					if err != nil {
						t.Error(err)
					}
					atDeath = b
					kill()
				})
				_, err := r.Sync(ctx, c.ID())
				kill()
				path.tell(func(int64) {}) // the dead note nothing
				if errors.Is(err, ErrDayLimit) {
					break
				}
				if atDeath == nil || kills > 100 {
					t.Fatalf("kill %d: not reached, %v", kills, err)
				}
				note = atDeath // it got no further
			}
			if sent := path.sent.Load(); sent > limit {
				t.Errorf("killed after %d bytes, %d times: %d bytes came of %d", after, kills, sent, limit)
			}
			if kills < 3 {
				t.Errorf("killed after %d bytes, %d times, and shut out", after, kills)
			}
		})
	}
}

// A sum that can't be noted is the library's trouble, and not the limit.
func TestDayThatCannotBeNoted(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		path, p := count(transporttest.NewMemory(t, c.Editions()...).Path("p"))
		path.tell(func(int64) {})
		r := inMemory(t, c, nil, p)
		full := errors.New("the disk is full")
		e := r.engine(t.Context(), r.paths, newsync.Budget{Bytes: 1 << 20, Charge: func(n int64) (int64, error) {
			if n > 100_000 {
				return 0, full
			}
			return n, nil
		}}, r.heard)
		if _, err := e.Sync(t.Context(), c.ID()); !errors.Is(err, full) || errors.Is(err, newsync.ErrBudget) {
			t.Errorf("%v", err)
		}
		if sent := path.sent.Load(); sent > 100_000 || sent == 0 {
			t.Errorf("%d bytes came", sent)
		}
	})
}

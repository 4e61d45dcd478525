package dns

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"tamizdat/bundle/record"
)

const (
	// Index records are needed again for the next block; leaves only if a block
	// is asked for again after it failed half-way.
	indexCache = 512 << 10
	leafCache  = 1 << 20
)

// cache lets one query do for all who want the same record of a zone at the same
// time, and keeps what came.
type cache struct {
	kept   *kept
	mu     sync.Mutex
	flying map[record.Name]*flight
}

// kept are checked records, least recently used out first. A record has the same name
// in every zone, so the clients of all have them in common: where one zone is cooled
// down in the middle of a block another brings the rest of it.
type kept struct {
	mu     sync.Mutex
	index  lru
	leaves lru
}

type flight struct {
	done chan struct{}
	rec  []byte
	err  error
}

func newKept() *kept { return &kept{index: newLRU(indexCache), leaves: newLRU(leafCache)} }

func newCache(k *kept) *cache { return &cache{kept: k, flying: map[record.Name]*flight{}} }

// get returns a record from memory, or from a get under way elsewhere, or from
// fetch. Whoever fetches for others and is cancelled passes the work on.
func (c *cache) get(ctx context.Context, name record.Name, fetch func() ([]byte, error)) ([]byte, error) {
	for {
		c.mu.Lock()
		if rec := c.kept.get(name); rec != nil {
			c.mu.Unlock()
			return rec, nil
		}
		f := c.flying[name]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			c.flying[name] = f
			c.mu.Unlock()
			f.rec, f.err = fetch()
			if f.err == nil {
				c.kept.put(name, f.rec)
			}
			c.mu.Lock()
			delete(c.flying, name)
			c.mu.Unlock()
			close(f.done)
			return f.rec, f.err
		}
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return f.rec, f.err
		}
	}
}

// know puts in a record that came earlier; its name is its own.
func (c *cache) know(rec []byte) { c.kept.put(record.NameOf(rec), rec) }

func (k *kept) get(name record.Name) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if rec := k.index.get(name); rec != nil {
		return rec
	}
	return k.leaves.get(name)
}

func (k *kept) put(name record.Name, rec []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if record.KindByte(record.ClassOf(rec), record.Leaf) == rec[0] {
		k.leaves.put(name, rec)
	} else {
		k.index.put(name, rec)
	}
}

// lru is a least-recently-used cache bounded in bytes.
type lru struct {
	limit, used int
	order       *list.List
	items       map[record.Name]*list.Element
}

type lruItem struct {
	name record.Name
	rec  []byte
}

func newLRU(limit int) lru {
	return lru{limit: limit, order: list.New(), items: map[record.Name]*list.Element{}}
}

func (l *lru) get(name record.Name) []byte {
	e := l.items[name]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return e.Value.(lruItem).rec
}

func (l *lru) put(name record.Name, rec []byte) {
	if l.items[name] != nil {
		return
	}
	l.items[name] = l.order.PushFront(lruItem{name, rec})
	for l.used += len(rec) + entryCost; l.used > l.limit; {
		e := l.order.Back()
		it := l.order.Remove(e).(lruItem)
		delete(l.items, it.name)
		l.used -= len(it.rec) + entryCost
	}
}

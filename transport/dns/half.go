package dns

import (
	"encoding/binary"
	"sync"
	"time"

	"tamizdat/bundle/record"
)

const (
	// maxHalf is how many bytes are kept of one piece, with two in front of each
	// record: all but its last few records.
	maxHalf = 64 << 10
	// fewRecords are not worth keeping.
	fewRecords = 4
	// saveEvery is how often what has come is stored while more comes: who is killed
	// loses no more than that.
	saveEvery = 5 * time.Second
)

// half is what has come so far of one piece. The pool's Keeper has it from one run
// to the next, so that it need not be asked for again: a block is a hundred
// questions and more, and where only DNS works ten a second are many.
type half struct {
	keeper Keeper
	key    string

	mu    sync.Mutex
	recs  []byte // each with its length in front
	fresh int    // of them are not stored
	kept  bool   // some are
	saved time.Time
}

// halfOf begins or goes on with the piece whose first child has this name. What is
// kept of it goes into the cache.
func (c *Client) halfOf(first record.Name) *half {
	h := &half{keeper: c.pool.cfg.Keeper, key: "dns/half/" + first.Label(), saved: time.Now()}
	if h.keeper == nil {
		return h
	}
	b := h.keeper.Load(h.key)
	for len(b) > 2 && len(h.recs) <= maxHalf {
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n == 0 || n > len(b) || n > record.MaxRecord {
			break
		}
		rec := b[:n:n]
		b = b[n:]
		c.cache.know(rec)
		h.append(rec)
		h.kept = true
	}
	return h
}

func (h *half) append(rec []byte) {
	h.recs = binary.BigEndian.AppendUint16(h.recs, uint16(len(rec)))
	h.recs = append(h.recs, rec...)
}

// add notes one more record, and stores all of them now and then.
func (h *half) add(rec []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keeper == nil || len(h.recs)+2+len(rec) > maxHalf {
		return
	}
	h.append(rec)
	h.fresh++
	if time.Since(h.saved) >= saveEvery {
		h.save()
	}
}

// save stores what has come since the last time; h.mu is held.
func (h *half) save() {
	if h.fresh < fewRecords {
		return
	}
	h.keeper.Store(h.key, h.recs)
	h.fresh, h.kept, h.saved = 0, true, time.Now()
}

// end stores what has come, or forgets it if that is all.
func (h *half) end(whole bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.keeper == nil:
	case !whole:
		h.save()
	case h.kept:
		h.keeper.Store(h.key, nil)
	}
}

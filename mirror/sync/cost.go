package sync

import (
	"context"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// chunk is the plaintext of a layer that lies in one block, in bytes.
const chunk = 64 << 10

// place names one block of a text layer.
type place struct {
	edition uint64
	block   int64
}

// sizes is what is known of text layers before any of their blocks is here: where
// the last of their texts ends, by edition.
type sizes map[uint64]int64

func (z sizes) add(e bundle.Entry) {
	z[e.Edition] = max(z[e.Edition], e.Text.Offset+e.Text.Size)
}

// of is about how large a block is.
func (z sizes) of(p place) int64 {
	return min(chunk, z[p.edition]-p.block*chunk) + bundle.PrologueSize
}

// blocks are those that hold some texts, with their sizes.
func (z sizes) blocks(entries []bundle.Entry) map[place]int64 {
	out := map[place]int64{}
	for _, e := range entries { // of an older front page, perhaps
		z.add(e)
	}
	for _, e := range entries {
		for _, p := range blocksOf(e) {
			out[p] = z.of(p)
		}
	}
	return out
}

// blocksOf are the blocks that hold a text.
func blocksOf(e bundle.Entry) (ps []place) {
	for b := e.Text.Offset / chunk; b <= (e.Text.Offset+e.Text.Size-1)/chunk; b++ {
		ps = append(ps, place{e.Edition, b})
	}
	return ps
}

// dictBlock stands for a dictionary's file among the blocks of the edition that it
// was made for.
const dictBlock = -1

// dictLeft is how many bytes the edition's dictionary has, if it is not here yet.
func (e editionInfo) dictLeft(vol *bundle.Volume) int64 {
	if e.Dict == nil {
		return 0
	}
	if missing, err := vol.Missing(bundle.LayerDict); err == nil && len(missing) == 0 {
		return 0
	}
	return e.Dict.Size
}

// left is how many bytes of texts are still to come: those that the board knows,
// and of jobs that have not come so far what their front pages say.
func (w *work) left() int64 {
	known, sized := w.board.sized("text")
	counted := map[place]bool{}
	for _, j := range w.jobs {
		if j.sized = j.sized || sized[j]; j.sized || j.done || j.stage != "text" {
			continue
		}
		for p, n := range j.blocks {
			if !counted[p] {
				counted[p], known = true, known+n
			}
		}
	}
	return known
}

// sized sums up the wants of a stage whose size is known, and says whose they are.
func (b *board) sized(stage string) (bytes int64, of map[*job]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of = map[*job]bool{}
	for _, w := range b.wants {
		if w.done || w.stage != stage || w.Size == 0 || w.Node {
			continue
		}
		bytes += int64(w.Size)
		for _, j := range w.jobs {
			of[j] = true
		}
	}
	return bytes, of
}

// cost is what so many bytes take, if all ways that have answered are narrow: by
// the one that takes the least time. Else it is the zero value.
func (s *session) cost(bytes int64) (least transport.Cost) {
	if bytes <= 0 {
		return least
	}
	for _, p := range s.paths {
		if s.report(p).State != stateOK || p.Blocks == nil {
			continue
		}
		slow, ok := p.Blocks.(transport.Costly)
		if !ok {
			return transport.Cost{}
		}
		if c := slow.Cost(bytes); least.Queries == 0 || c.Time < least.Time {
			least = c
		}
	}
	return least
}

// Lacking is what has not come of a channel's texts.
type Lacking struct {
	Articles int   `json:"articles"`
	Bytes    int64 `json:"bytes"` // of the blocks that hold them, about
	// Cost is what that takes where only DNS works; zero if the channel is not in
	// DNS.
	Cost transport.Cost `json:"cost,omitzero"`
}

// Lacks says what has not come of a channel's texts, and what it takes over the
// narrowest of ways. It asks nobody.
func Lacks(ctx context.Context, lib Library, ways Ways, ch channel.ID) (Lacking, error) {
	var l Lacking
	known, err := loadEditions(ctx, lib, ch)
	if err != nil {
		return l, err
	}
	ends, missing, dicts := sizes{}, map[place]bool{}, map[uint64]bool{}
	for h, err := range lib.Headlines(ctx, library.Query{Channel: ch}) {
		if err != nil {
			return l, err
		}
		ends.add(h.Entry)
		if _, ok := known[h.Edition]; h.Text || !ok {
			continue
		}
		l.Articles++
		for _, p := range blocksOf(h.Entry) {
			missing[p] = true
		}
	}
	if l.Articles == 0 {
		return l, nil
	}
	view, err := View(ctx, lib, ch)
	if err != nil {
		return l, err
	}
	for p := range missing {
		l.Bytes += ends.of(p)
		e := known[p.edition]
		if e.Dict == nil || dicts[e.Dict.Edition] {
			continue
		}
		dicts[e.Dict.Edition] = true
		if vol, err := e.volume(view); err == nil {
			vol.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, lib, c) }
			l.Bytes += e.dictLeft(vol)
		}
	}
	if ways == nil {
		return l, nil
	}
	// Zones are all that is narrow; to make the ways to IPFS peers would start a node.
	for _, p := range ways.Paths(ch, view.Invite().IPNS, channel.Places{Zones: view.Places().Zones}) {
		slow, ok := p.Blocks.(transport.Costly)
		if !ok {
			continue
		}
		if c := slow.Cost(l.Bytes); l.Cost.Queries == 0 || c.Time < l.Cost.Time {
			l.Cost = c
		}
	}
	return l, nil
}

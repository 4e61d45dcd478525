package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Memory is a transport over maps: one holder of editions, which may be read
// over any number of paths and published to. Its methods may be called at once.
type Memory struct {
	// Compact makes Head return the compact form. Hold makes it wait for a newer
	// head if have > 0 (long poll). Delay is slept before each block. All are set
	// before use.
	Compact, Hold bool
	Delay         time.Duration

	mu      sync.Mutex
	newest  map[channel.ID]*held
	blocks  map[cid.Cid][]byte
	fetched map[cid.Cid]int
	calls   int
	changed chan struct{}
}

// held is one channel's newest edition.
type held struct {
	head   *channel.Head
	notes  [][]byte
	grants map[string][]byte
	front  []transport.Block // directory, then front page
}

var (
	_ transport.Heads     = (*Memory)(nil)
	_ transport.Blocks    = (*Memory)(nil)
	_ transport.Publisher = (*Memory)(nil)
	_ transport.Opener    = memoryOpener{}
)

// NewMemory holds these editions.
func NewMemory(t TB, editions ...*Edition) *Memory {
	t.Helper()
	m := &Memory{
		newest: map[channel.ID]*held{}, blocks: map[cid.Cid][]byte{}, fetched: map[cid.Cid]int{}, changed: make(chan struct{}),
	}
	for _, e := range editions {
		if err := m.Publish(context.Background(), e.Source(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TB is what NewMemory needs of a test.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// Path reads m, without Opener.
func (m *Memory) Path(name string) transport.Path {
	return transport.Path{Name: name, Kind: transport.KindFile, Heads: struct{ transport.Heads }{m}, Blocks: m, Hints: transport.Hints{Batch: 4, Parallel: 2}}
}

// OpenerPath reads m, with Opener.
func (m *Memory) OpenerPath(name string) transport.Path {
	p := m.Path(name)
	p.Heads = memoryOpener{m}
	return p
}

// Fetched tells how often each block was given out, opening answers included.
func (m *Memory) Fetched() map[cid.Cid]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.fetched)
}

// Calls tells how many Fetches there were.
func (m *Memory) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Forget resets what Fetched and Calls tell.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.fetched)
	m.calls = 0
}

// Drop loses a block.
func (m *Memory) Drop(c cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blocks, c)
}

// DropGrants loses the channel's grants, but not as blocks.
func (m *Memory) DropGrants(ch channel.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest[ch].grants = nil
}

// SetGrant puts other bytes under a grant's name.
func (m *Memory) SetGrant(ch channel.ID, name string, file []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest[ch].grants = map[string][]byte{name: file}
}

// Publish implements transport.Publisher.
func (m *Memory) Publish(ctx context.Context, s transport.Source, progress func(held, total int64)) error {
	r, err := car.NewReader(io.NewSectionReader(s.CAR, 0, s.Size))
	if err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	intro, err := r.Intro()
	if err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	roots, err := channel.ParseRoots(s.Channel, intro.RootNotes)
	if err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	h := &held{notes: intro.RootNotes, grants: map[string][]byte{}}
	if h.head, err = roots.Head(intro.Head); err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	blocks := map[cid.Cid][]byte{}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		blocks[b.CID] = bytes.Clone(b.Data)
		if progress != nil {
			progress(r.End(), s.Size)
		}
	}
	if err := h.index(blocks); err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.blocks, blocks)
	old := m.newest[s.Channel]
	if old == nil || h.head.Newer(old.head) {
		m.newest[s.Channel] = h
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return nil
}

// index finds front page and grants among the edition's blocks.
func (h *held) index(blocks map[cid.Cid][]byte) error {
	v := &bundle.Volume{Channel: h.head.Channel, Root: h.head.Root, Get: func(c cid.Cid) ([]byte, error) {
		if b, ok := blocks[c]; ok {
			return b, nil
		}
		return nil, bundle.ErrMissing
	}}
	err := v.Walk(func(w bundle.Want, b []byte) error {
		if w.Layer == bundle.LayerDirectory || w.Layer == bundle.LayerFront {
			h.front = append(h.front, transport.Block{CID: w.CID, Data: b})
		}
		return nil
	})
	if err != nil {
		return err
	}
	d, err := v.Directory()
	if err != nil {
		return err
	}
	links, err := bundle.ParseFolder(d.Grants, blocks[d.Grants])
	for _, l := range links {
		h.grants[l.Name] = blocks[l.CID]
	}
	return err
}

// Current implements transport.Publisher.
func (m *Memory) Current(ctx context.Context, ch channel.ID) ([]byte, error) {
	return m.Head(ctx, ch, 0)
}

func (m *Memory) get(ch channel.ID) (*held, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest[ch], m.changed
}

// headOnly stands for the root notes of one who asks for a head and does not say which
// he holds.
const headOnly = math.MaxUint64

// wait returns the newest edition larger than have, or one with root notes above
// root.
func (m *Memory) wait(ctx context.Context, ch channel.ID, have, root uint64) (*held, error) {
	for {
		h, changed := m.get(ch)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case h == nil:
			return nil, transport.ErrNotFound
		case have == 0 || h.head.Size > have || uint64(len(h.notes)) > root || root == headOnly && h.head.Generation > 0 && !m.Hold:
			return h, nil
		case !m.Hold:
			return nil, transport.ErrNoNewer
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Head implements transport.Heads.
func (m *Memory) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	h, err := m.wait(ctx, ch, have, headOnly)
	if err != nil {
		return nil, err
	}
	if m.Compact {
		return h.head.Compact(), nil
	}
	return h.head.Text(), nil
}

// RootNote implements transport.Heads.
func (m *Memory) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	h, _ := m.get(ch)
	if h == nil || version < 1 || version > uint64(len(h.notes)) {
		return nil, transport.ErrNotFound
	}
	return h.notes[version-1], ctx.Err()
}

// Grant implements transport.Heads.
func (m *Memory) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	h, _ := m.get(ch)
	if h == nil {
		return nil, transport.ErrNotFound
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := h.grants[name]
	if !ok {
		return nil, transport.ErrNotFound
	}
	return g, ctx.Err()
}

// memoryOpener adds transport.Opener.
type memoryOpener struct{ *Memory }

func (m memoryOpener) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		h, err := m.wait(ctx, ask.Channel, ask.Have, ask.Root)
		if now, _ := m.get(ask.Channel); err != nil && now != nil && now.head.Size == ask.Have && !ask.Signed.IsZero() && now.head.Time.After(ask.Signed) {
			yield(transport.Piece{Kind: transport.PieceHead, Data: now.head.Text()}, nil)
			return
		}
		if err != nil {
			yield(transport.Piece{}, err)
			return
		}
		for _, n := range h.notes[min(ask.Root, uint64(len(h.notes))):] {
			if !yield(transport.Piece{Kind: transport.PieceRootNote, Data: n}, nil) {
				return
			}
		}
		if !yield(transport.Piece{Kind: transport.PieceHead, Data: h.head.Text()}, nil) {
			return
		}
		if g, err := m.Grant(ctx, ask.Channel, ask.Grant); err == nil && !yield(transport.Piece{Kind: transport.PieceGrant, Data: g}, nil) {
			return
		}
		for _, b := range h.front {
			m.count(b.CID)
			if !yield(transport.Piece{Kind: transport.PieceBlock, CID: b.CID, Data: b.Data}, nil) {
				return
			}
		}
	}
}

func (m *Memory) count(c cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetched[c]++
}

// Fetch implements transport.Blocks.
func (m *Memory) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		m.mu.Lock()
		m.calls++
		m.mu.Unlock()
		done := map[cid.Cid]bool{}
		for i, w := range r.Wants {
			if m.Delay > 0 {
				select {
				case <-time.After(m.Delay):
				case <-ctx.Done():
				}
			}
			if err := ctx.Err(); err != nil {
				yield(transport.Block{}, err)
				return
			}
			m.mu.Lock()
			b, ok := m.blocks[w.CID]
			if ok && !done[w.CID] {
				m.fetched[w.CID]++
			}
			m.mu.Unlock()
			if !ok || done[w.CID] {
				continue
			}
			done[w.CID] = true
			if r.Got != nil {
				r.Got(i, len(b))
			}
			if !yield(transport.Block{CID: w.CID, Data: b}, nil) {
				return
			}
		}
	}
}

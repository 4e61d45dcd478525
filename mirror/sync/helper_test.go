package sync_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	gosync "sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// memory is a sync.Library over maps. What it took stays, as with the real one;
// it can be told to fail.
type memory struct {
	mu        gosync.Mutex
	state     map[channel.ID][]byte
	blocks    map[cid.Cid][]byte
	headlines map[string]library.Headline
	texts     map[string]string
	notes     map[string][]byte
	gone      map[string]uint64 // the newest edition that said so
	said      map[string]uint64 // the edition whose front page a headline is from
	parts     map[uint64][]cid.Cid
	loose     []bundle.Entry
	// writes counts calls that change something; before, if not nil, hears of
	// each first and may refuse it.
	writes int
	before func(n int) error
}

var _ sync.Library = (*memory)(nil)

func newMemory() *memory {
	return &memory{
		state: map[channel.ID][]byte{}, blocks: map[cid.Cid][]byte{}, headlines: map[string]library.Headline{},
		texts: map[string]string{}, notes: map[string][]byte{}, gone: map[string]uint64{}, said: map[string]uint64{},
		parts: map[uint64][]cid.Cid{},
	}
}

func (m *memory) write(ctx context.Context, f func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.writes++
	if m.before != nil {
		if err := m.before(m.writes); err != nil {
			return err
		}
	}
	f()
	return nil
}

func read[K comparable, V any](ctx context.Context, m *memory, from map[K]V, k K) (V, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := from[k]
	if !ok {
		return v, transport.ErrNotFound
	}
	return v, ctx.Err()
}

func (m *memory) State(ctx context.Context, ch channel.ID) ([]byte, error) {
	return read(ctx, m, m.state, ch)
}

func (m *memory) SetState(ctx context.Context, ch channel.ID, b []byte) error {
	return m.write(ctx, func() { m.state[ch] = bytes.Clone(b) })
}

func (m *memory) Block(ctx context.Context, c cid.Cid) ([]byte, error) {
	return read(ctx, m, m.blocks, c)
}

func (m *memory) Has(ctx context.Context, cids ...cid.Cid) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	has := make([]bool, len(cids))
	for i, c := range cids {
		_, has[i] = m.blocks[c]
	}
	return has, ctx.Err()
}

func (m *memory) PutBlocks(ctx context.Context, _ channel.ID, edition uint64, bs []bundle.Checked) error {
	return m.write(ctx, func() {
		for _, b := range bs {
			m.blocks[b.CID()] = bytes.Clone(b.Data())
			m.parts[edition] = append(m.parts[edition], b.CID())
		}
	})
}

func (m *memory) SetFront(ctx context.Context, ch channel.ID, f *bundle.Front) error {
	return m.write(ctx, func() {
		for _, e := range f.Articles {
			old, ok := m.headlines[e.ID]
			switch edition, gone := m.gone[e.ID]; {
			case ok && old.Edition >= e.Edition, gone && edition >= e.Edition:
				continue
			case ok:
				m.loose = append(m.loose, old.Entry)
			}
			m.headlines[e.ID], m.said[e.ID] = library.Headline{Channel: ch, Entry: e}, f.Edition
		}
		for _, id := range f.Gone {
			if old, ok := m.headlines[id]; ok && old.Edition <= f.Edition {
				m.loose = append(m.loose, old.Entry)
				delete(m.headlines, id)
				delete(m.texts, id)
			}
			m.gone[id] = max(m.gone[id], f.Edition)
		}
	})
}

func (m *memory) Loose(ctx context.Context, _ channel.ID) ([]bundle.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.loose), ctx.Err()
}

func (m *memory) DropLoose(ctx context.Context, _ channel.ID, edition uint64, cids []cid.Cid) error {
	return m.write(ctx, func() {
		for _, c := range cids {
			delete(m.blocks, c)
		}
		m.loose = slices.DeleteFunc(m.loose, func(e bundle.Entry) bool { return e.Edition == edition })
	})
}

func (m *memory) Withdraw(ctx context.Context, _ channel.ID, first uint64, forged ...uint64) (n int, err error) {
	err = m.write(ctx, func() {
		for id, h := range m.headlines {
			if h.Edition >= first || m.said[id] >= first {
				delete(m.headlines, id)
				n++
				continue
			}
			h.Text = false
			m.headlines[id] = h
		}
		for _, edition := range forged {
			for _, c := range m.parts[edition] {
				delete(m.blocks, c)
			}
			delete(m.parts, edition)
		}
		maps.DeleteFunc(m.gone, func(_ string, edition uint64) bool { return edition >= first })
	})
	return n, err
}

func (m *memory) Headline(ctx context.Context, _ channel.ID, id string) (library.Headline, error) {
	return read(ctx, m, m.headlines, id)
}

func (m *memory) Headlines(context.Context, library.Query) iter.Seq2[library.Headline, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Collect(maps.Values(m.headlines))
	return func(yield func(library.Headline, error) bool) {
		for _, h := range all {
			if !yield(h, nil) {
				return
			}
		}
	}
}

func (m *memory) IndexTexts(ctx context.Context, _ channel.ID, texts []library.Text) error {
	return m.write(ctx, func() {
		for _, t := range texts {
			if h, ok := m.headlines[t.ID]; ok {
				h.Text = true
				m.headlines[t.ID], m.texts[t.ID] = h, t.Plain
			}
		}
	})
}

func (m *memory) Note(ctx context.Context, key string) ([]byte, error) {
	return read(ctx, m, m.notes, key)
}

func (m *memory) SetNote(ctx context.Context, key string, b []byte) error {
	return m.write(ctx, func() { m.notes[key] = bytes.Clone(b) })
}

func (m *memory) has(c cid.Cid) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.blocks[c] != nil
}

// ways is sync.Ways with the same paths for everybody.
type ways []transport.Path

func (w ways) Paths(channel.ID, ed25519.PublicKey, channel.Places) []transport.Path {
	return slices.Clone(w)
}

// reader is one device that follows one channel.
type reader struct {
	t   *testing.T
	c   *transporttest.Channel
	lib sync.Library
	mem *memory // lib, if it is the fake
	e   sync.Engine
}

func newReader(t *testing.T, c *transporttest.Channel, paths ...transport.Path) *reader {
	t.Helper()
	m := newMemory()
	r := &reader{t: t, c: c, lib: m, mem: m, e: sync.Engine{Library: m, Ways: ways(paths)}}
	places := channel.Places{Zones: []channel.Zone{{Name: "n.example"}}, Gateways: []string{"https://gateway.example"}}
	if _, err := sync.Add(t.Context(), m, c.Invite(places)); err != nil {
		t.Fatal(err)
	}
	return r
}

// over changes the paths.
func (r *reader) over(paths ...transport.Path) *reader {
	r.e.Ways = ways(paths)
	return r
}

// sync is a Sync that has to succeed.
func (r *reader) sync() *sync.Result {
	r.t.Helper()
	res, err := r.e.Sync(r.t.Context(), r.c.ID())
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

// fails is a Sync that must not succeed.
func (r *reader) fails(want error) *sync.Result {
	r.t.Helper()
	res, err := r.e.Sync(r.t.Context(), r.c.ID())
	if !errors.Is(err, want) {
		r.t.Fatalf("%v instead of %v", err, want)
	}
	return res
}

func (r *reader) view() *channel.View {
	r.t.Helper()
	v, err := sync.View(r.t.Context(), r.lib, r.c.ID())
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// reads sees that every article of these editions is here as it was published.
func (r *reader) reads(pictures bool, editions ...*transporttest.Edition) {
	r.t.Helper()
	shelf := sync.Shelf{Library: r.lib}
	for _, e := range editions {
		for _, want := range e.Articles {
			got, err := shelf.Article(r.t.Context(), r.c.ID(), want.ID)
			if err != nil {
				r.t.Errorf("article %s: %v", want.ID, err)
				continue
			}
			if diff := cmp.Diff(want, *got, cmpopts.IgnoreFields(bundle.Image{}, "Data")); diff != "" {
				r.t.Errorf("article %s:\n%s", want.ID, diff)
			}
			for i := range want.Images {
				img, err := shelf.Image(r.t.Context(), r.c.ID(), want.ID, i)
				switch {
				case pictures && (err != nil || !bytes.Equal(img.Data, want.Images[i].Data)):
					r.t.Errorf("picture %d of %s: %v", i, want.ID, err)
				case !pictures && !errors.Is(err, bundle.ErrMissing):
					r.t.Errorf("picture %d of %s, which nobody asked for: %v", i, want.ID, err)
				}
			}
		}
	}
}

// holds sees that the head held is this edition's.
func (r *reader) holds(e *transporttest.Edition) {
	r.t.Helper()
	h := r.view().Head()
	if h == nil || !bytes.Equal(h.Text(), e.Head.Text()) {
		r.t.Errorf("another head is held than that of edition %d", e.Head.Edition)
	}
}

// report finds a path's report.
func report(t *testing.T, res *sync.Result, name string) sync.PathReport {
	t.Helper()
	i := slices.IndexFunc(res.Paths, func(p sync.PathReport) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no report of path %q", name)
	}
	return res.Paths[i]
}

func state(t *testing.T, res *sync.Result, name, want string) {
	t.Helper()
	if p := report(t, res, name); p.State != want || (want == "ok") != (p.Error == "") {
		t.Errorf("path %q: state %q (%s) instead of %q", name, p.State, p.Error, want)
	}
}

// guarded fails the test if a path is asked for a block that the library has.
type guarded struct {
	transport.Blocks
	t   *testing.T
	lib *memory
}

func (g guarded) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	for _, w := range r.Wants {
		if g.lib.has(w.CID) {
			g.t.Errorf("block of layer %q at %d is asked for, and here", w.Layer, w.Offset)
		}
	}
	return g.Blocks.Fetch(ctx, r)
}

// published is a channel with that many editions of real articles.
func published(t *testing.T, editions int) *transporttest.Channel {
	t.Helper()
	c := transporttest.NewChannel(t, "Kolokol")
	for n := range editions {
		c.Publish(transporttest.Articles(n)...)
	}
	return c
}

// history publishes small editions.
func history(c *transporttest.Channel, n int) {
	for range n {
		c.Publish(transporttest.Brief(len(c.Editions())))
	}
}

func sum(ms ...*transporttest.Memory) map[cid.Cid]int {
	all := map[cid.Cid]int{}
	for _, m := range ms {
		for c, n := range m.Fetched() {
			all[c] += n
		}
	}
	return all
}

func once(t *testing.T, ms ...*transporttest.Memory) {
	t.Helper()
	for c, n := range sum(ms...) {
		if n > 1 {
			t.Errorf("block %s was fetched %d times", c, n)
		}
	}
}

func names(n int, f func(i int) transport.Path) []transport.Path {
	var ps []transport.Path
	for i := range n {
		p := f(i)
		p.Name = fmt.Sprintf("%s %d", p.Name, i)
		ps = append(ps, p)
	}
	return ps
}

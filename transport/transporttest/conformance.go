package transporttest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// World is what the suite publishes and a transport has to carry.
type World struct {
	// Channel has two editions, the second under a second root note. Newest is
	// that one; the first is Channel.Editions()[0].
	Channel *Channel
	Newest  *Edition
	// Network is what the reader's side opens its sockets through, nil if Run
	// was given none. The carrying side must not use it.
	Network *Network
}

// Subject is what a Maker made of a World.
type Subject struct {
	// Paths carry the world's channel; each is judged alone.
	Paths []transport.Path
	// Old tells that the first edition's blocks are to be had too.
	Old bool
	// NoRootNotes and NoGrants: the transport has no such thing by name; asked
	// for it, it says transport.ErrNotFound.
	NoRootNotes, NoGrants bool
	// OneChannel: heads are those of one channel, whichever is asked for, as
	// with an IPNS name. The caller's check of the head decides.
	OneChannel bool
	// PlainHeads: heads travel unprotected and unchecked, so that a censor's
	// changes reach the caller, whose check decides.
	PlainHeads bool
}

// Maker carries the world and returns the paths to it; what it opens it closes
// by t.Cleanup.
type Maker func(t *testing.T, w *World) Subject

// patience is how long anything of the suite may take. It is no measure: what
// runs into it hangs.
const patience = 40 * time.Second

// Run judges a transport. network, if not nil, is what stands under the
// reader's sockets (the real one, on loopback): then the suite puts a censor
// between, too.
func Run(t *testing.T, network transport.Network, mk Maker) {
	c := NewChannel(t, "Conformance")
	c.Publish(Articles(0)...)
	c.Rotate()
	newest := c.Publish(append(Articles(1), Long(1))...)
	set := func(t *testing.T) (*World, Subject) {
		t.Helper()
		w := &World{Channel: c, Newest: newest}
		if network != nil {
			w.Network = NewNetwork(network)
			t.Cleanup(func() { _ = w.Network.Close() })
		}
		s := mk(t, w)
		if len(s.Paths) == 0 {
			t.Fatal("no path to judge")
		}
		return w, s
	}
	t.Run("honest", func(t *testing.T) {
		w, s := set(t)
		for _, p := range s.Paths {
			t.Run(p.Name, func(t *testing.T) {
				j := &judge{t: t, w: w, s: s, p: p}
				j.honest()
			})
		}
	})
	if network == nil {
		return
	}
	t.Run("censored", func(t *testing.T) { censored(t, set) })
}

// judge is one path under judgement.
type judge struct {
	t *testing.T
	w *World
	s Subject
	p transport.Path
}

func (j *judge) run(name string, f func(j *judge)) {
	j.t.Run(name, func(t *testing.T) {
		inner := *j
		inner.t = t
		f(&inner)
	})
}

func (j *judge) honest() {
	if j.p.Name == "" || j.p.Kind == "" {
		j.t.Error("a path without name or kind")
	}
	if j.p.Heads != nil {
		j.run("head", (*judge).head)
		j.run("small", (*judge).small)
		j.run("nothing newer", (*judge).nothingNewer)
		j.run("open", (*judge).open)
	}
	if j.p.Blocks != nil {
		j.run("fetch", (*judge).fetch)
		j.run("unknown", (*judge).unknown)
		j.run("break", (*judge).breakOff)
		j.run("cancel", (*judge).cancel)
	}
	j.run("at once", (*judge).atOnce)
}

// soon bounds a call that should come back.
func (j *judge) soon() context.Context {
	ctx, cancel := context.WithTimeout(j.t.Context(), patience)
	j.t.Cleanup(cancel)
	return ctx
}

func (j *judge) head() {
	for _, have := range []uint64{0, 1} {
		raw, err := j.p.Heads.Head(j.soon(), j.w.Channel.ID(), have)
		if err != nil {
			j.t.Fatalf("have %d: %v", have, err)
		}
		h, err := j.w.Channel.Roots().Head(raw)
		if err != nil {
			j.t.Fatalf("have %d: head of %d bytes: %v", have, len(raw), err)
		}
		if !bytes.Equal(h.Text(), j.w.Newest.Head.Text()) {
			j.t.Errorf("have %d: edition %d instead of %d", have, h.Edition, j.w.Newest.Head.Edition)
		}
	}
	stranger := NewChannel(j.t, "Stranger").ID()
	raw, err := j.p.Heads.Head(j.soon(), stranger, 0)
	if j.s.OneChannel {
		return
	}
	if !errors.Is(err, transport.ErrNotFound) {
		j.t.Errorf("head of an unknown channel: %d bytes, %v", len(raw), err)
	}
}

// small is root notes and grants.
func (j *judge) small() {
	ch, h := j.w.Channel.ID(), j.p.Heads
	for i, want := range j.w.Newest.Notes {
		got, err := h.RootNote(j.soon(), ch, uint64(i+1))
		if j.s.NoRootNotes {
			if !errors.Is(err, transport.ErrNotFound) {
				j.t.Errorf("root note %d: %v", i+1, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, want) {
			j.t.Errorf("root note %d: %d bytes, %v", i+1, len(got), err)
		}
	}
	for _, version := range []uint64{0, 3, 1 << 62} {
		if got, err := h.RootNote(j.soon(), ch, version); !errors.Is(err, transport.ErrNotFound) {
			j.t.Errorf("root note %d, which is not there: %d bytes, %v", version, len(got), err)
		}
	}
	name := j.w.Channel.GrantName()
	got, err := h.Grant(j.soon(), ch, name)
	switch {
	case j.s.NoGrants:
		if !errors.Is(err, transport.ErrNotFound) {
			j.t.Errorf("grant: %v", err)
		}
	case err != nil || !bytes.Equal(got, j.w.Newest.Grants[name]):
		j.t.Errorf("grant: %d bytes, %v", len(got), err)
	}
	for _, name := range []string{channel.Seed{1, 2, 3}.GrantName(ch), "", "..", "a/b", "1"} {
		if got, err := h.Grant(j.soon(), ch, name); !errors.Is(err, transport.ErrNotFound) {
			j.t.Errorf("grant %q, which is not there: %d bytes, %v", name, len(got), err)
		}
	}
}

func (j *judge) nothingNewer() {
	size := j.w.Newest.Head.Size
	for _, have := range []uint64{size, size + 5} {
		raw, err := j.p.Heads.Head(j.soon(), j.w.Channel.ID(), have)
		if errors.Is(err, transport.ErrNoNewer) {
			continue
		}
		if h, herr := j.w.Channel.Roots().Head(raw); err != nil || herr != nil || h.Size != size {
			j.t.Errorf("have %d: %v, %v", have, err, herr)
		}
	}
}

// open holds an Opener to the order and the meaning of its pieces.
func (j *judge) open() {
	o, ok := j.p.Heads.(transport.Opener)
	if !ok {
		return
	}
	c, ch := j.w.Channel, j.w.Channel.ID()
	blocks := j.w.Newest.Blocks()
	for root := range uint64(3) {
		notes, last := root, transport.PieceKind(0)
		var head *channel.Head
		var grant []byte
		got := map[cid.Cid]bool{}
		for p, err := range o.Open(j.soon(), transport.Ask{Channel: ch, Root: root, Grant: c.GrantName()}) {
			if err != nil {
				j.t.Fatalf("root %d: %v", root, err)
			}
			if p.Kind < last || p.Kind == last && (p.Kind == transport.PieceHead || p.Kind == transport.PieceGrant) {
				j.t.Errorf("root %d: piece of kind %d after one of kind %d", root, p.Kind, last)
			}
			last = p.Kind
			switch p.Kind {
			case transport.PieceRootNote:
				if notes++; notes > 2 || !bytes.Equal(p.Data, j.w.Newest.Notes[notes-1]) {
					j.t.Errorf("root %d: another root note than %d", root, notes)
				}
			case transport.PieceHead:
				h, err := c.Roots().Head(p.Data)
				if err != nil {
					j.t.Fatal(err)
				}
				head = h
			case transport.PieceGrant:
				grant = p.Data
			case transport.PieceBlock:
				if !bytes.Equal(blocks[p.CID], p.Data) || got[p.CID] {
					j.t.Errorf("root %d: block %s is not the edition's, or comes twice", root, p.CID)
				}
				got[p.CID] = true
			default:
				j.t.Errorf("piece of kind %d", p.Kind)
			}
		}
		if head == nil || head.Size != j.w.Newest.Head.Size {
			j.t.Errorf("root %d: no head, or another one", root)
		}
		if grant != nil && !bytes.Equal(grant, j.w.Newest.Grants[c.GrantName()]) {
			j.t.Errorf("root %d: another grant", root)
		}
	}
	for p, err := range o.Open(j.soon(), transport.Ask{Channel: ch, Root: 2, Have: j.w.Newest.Head.Size}) {
		if err == nil && p.Kind == transport.PieceHead {
			if h, herr := c.Roots().Head(p.Data); herr != nil || h.Size != j.w.Newest.Head.Size {
				j.t.Errorf("have the newest: %v", herr)
			}
		}
		if err != nil && !errors.Is(err, transport.ErrNoNewer) {
			j.t.Errorf("have the newest: %v", err)
		}
	}
	for p, err := range o.Open(j.soon(), transport.Ask{Channel: NewChannel(j.t, "Stranger").ID()}) {
		if !j.s.OneChannel && !errors.Is(err, transport.ErrNotFound) {
			j.t.Errorf("unknown channel: piece of kind %d, %v", p.Kind, err)
		}
	}
	// Breaking off after any piece is allowed.
	for n := 1; n <= 4; n++ {
		left := n
		for _, err := range o.Open(j.soon(), transport.Ask{Channel: ch, Grant: c.GrantName()}) {
			if left--; err != nil || left == 0 {
				break
			}
		}
	}
}

// wants are those of the edition that the path can carry at all.
func (j *judge) wants(e *Edition) []transport.Want {
	return slices.DeleteFunc(e.Wants(), func(w transport.Want) bool { return !suits(j.p, w) })
}

func suits(p transport.Path, w transport.Want) bool {
	switch {
	case p.Hints.MaxBlock > 0 && w.Size > p.Hints.MaxBlock:
		return false
	case !p.Hints.Text:
		return true
	}
	// A text path holds what its trees hold; root notes and grants it has by name.
	return w.Layer == bundle.LayerDirectory || w.Layer == bundle.LayerFront || w.Layer == bundle.LayerText || w.Layer == bundle.LayerDict || w.Layer == bundle.LayerLog
}

// batches cuts wants as the engine would.
func (j *judge) batches(ws []transport.Want) iter.Seq[[]transport.Want] {
	n := j.p.Hints.Batch
	if n == 0 {
		n = 8
	}
	return slices.Chunk(ws, n)
}

func (j *judge) fetch() {
	j.fetchAll(j.soon(), j.w.Newest)
	if j.s.Old {
		j.fetchAll(j.soon(), j.w.Channel.Editions()[0])
	}
}

// fetchAll fetches every block and compares.
func (j *judge) fetchAll(ctx context.Context, e *Edition) {
	j.t.Helper()
	blocks, wants := e.Blocks(), j.wants(e)
	got := map[cid.Cid]int{}
	var came []transport.Block
	var mu sync.Mutex
	for batch := range j.batches(wants) {
		heard := make([]int, len(batch))
		r := transport.Request{Edition: e.Where(), Wants: batch, Got: func(i, n int) {
			mu.Lock()
			defer mu.Unlock()
			if i < 0 || i >= len(heard) || n < 0 {
				j.t.Errorf("Got(%d, %d) of %d wants", i, n, len(heard))
				return
			}
			heard[i] += n
		}}
		for b, err := range j.p.Blocks.Fetch(ctx, r) {
			if err != nil {
				j.t.Errorf("%v", err)
				continue
			}
			if !slices.ContainsFunc(batch, func(w transport.Want) bool { return w.CID.Equals(b.CID) }) {
				j.t.Errorf("block %s was not asked for", b.CID)
			}
			if !bytes.Equal(b.Data, blocks[b.CID]) {
				j.t.Errorf("block %s: %d bytes that are not the edition's", b.CID, len(b.Data))
			}
			got[b.CID]++
			came = append(came, b)
		}
		mu.Lock()
		for i, n := range heard {
			if n > 0 && n < batch[i].Size {
				j.t.Errorf("Got heard of %d bytes of %d", n, batch[i].Size)
			}
		}
		mu.Unlock()
	}
	for _, w := range wants {
		if got[w.CID] != 1 {
			j.t.Errorf("block %s of layer %q at %d: yielded %d times", w.CID, w.Layer, w.Offset, got[w.CID])
		}
	}
	for _, b := range came {
		if !bytes.Equal(b.Data, blocks[b.CID]) {
			j.t.Errorf("block %s: changed after it was yielded", b.CID)
		}
	}
}

// unknown asks for blocks that nobody has, between some that are there, and for
// one of them twice.
func (j *judge) unknown() {
	e := j.w.Newest
	good := j.wants(e)
	good = good[:min(3, len(good))]
	var wants []transport.Want
	strange := map[cid.Cid]bool{}
	for i, w := range good {
		w2 := w
		w2.CID = bundle.RawCID(Noise(uint64(77+i), 100))
		if i%2 == 0 { // a place where nothing lies, and one where something else does
			w2.Layer, w2.Node, w2.Size, w2.Offset = bundle.LayerText, false, 0, 999*65552+165
		}
		strange[w2.CID] = true
		wants = append(wants, w2, w)
	}
	wants = append(wants, good[0])
	blocks := e.Blocks()
	got := map[cid.Cid]int{}
	for b, err := range j.p.Blocks.Fetch(j.soon(), transport.Request{Edition: e.Where(), Wants: wants}) {
		var one *transport.WantError
		switch {
		case errors.As(err, &one):
			if !strange[one.CID] {
				j.t.Errorf("a block that is there: %v", err)
			}
		case err != nil:
			j.t.Errorf("an unknown block ended the request: %v", err)
		case strange[b.CID]:
			j.t.Errorf("%d bytes yielded for a block that does not exist", len(b.Data))
		case !bytes.Equal(b.Data, blocks[b.CID]):
			j.t.Errorf("block %s has other bytes", b.CID)
		}
		got[b.CID]++
	}
	for i, w := range good {
		// The one that was asked for twice may come twice.
		if n := got[w.CID]; n != 1 && (i > 0 || n != 2) {
			j.t.Errorf("block %s: yielded %d times", w.CID, n)
		}
	}
	// Nothing asked, nothing told.
	for b, err := range j.p.Blocks.Fetch(j.soon(), transport.Request{Edition: e.Where()}) {
		j.t.Errorf("no wants, and got %s, %v", b.CID, err)
	}
}

// breakOff leaves iterators early and then counts goroutines.
func (j *judge) breakOff() {
	e := j.w.Newest
	r := transport.Request{Edition: e.Where(), Wants: j.wants(e)}
	j.leaks(func() {
		for _, err := range j.p.Blocks.Fetch(j.soon(), r) {
			if err != nil {
				j.t.Error(err)
			}
			break
		}
	})
}

// cancel ends ctx in the middle; the iterator has to end, and says why or ends
// cleanly.
func (j *judge) cancel() {
	e := j.w.Newest
	r := transport.Request{Edition: e.Where(), Wants: j.wants(e)}
	j.leaks(func() {
		ctx, cancel := context.WithCancel(j.t.Context())
		defer cancel()
		after := 0
		j.within("Fetch", func() {
			for range j.p.Blocks.Fetch(ctx, r) {
				if ctx.Err() != nil {
					after++
				}
				cancel()
			}
		})
		// What was under way may still come, but not all the rest.
		if after > len(r.Wants)/2+1 {
			j.t.Errorf("%d of %d wants were yielded after the end", after, len(r.Wants))
		}
	})
	ctx, cancel := context.WithCancel(j.t.Context())
	cancel()
	j.within("Fetch with an ended context", func() {
		for b, err := range j.p.Blocks.Fetch(ctx, r) {
			if err == nil {
				j.t.Errorf("block %s after the end", b.CID)
			}
		}
	})
	if j.p.Heads != nil {
		j.within("Head with an ended context", func() { _, _ = j.p.Heads.Head(ctx, j.w.Channel.ID(), j.w.Newest.Head.Size) })
	}
}

// within fails the test if f does not come back.
func (j *judge) within(what string, f func()) {
	j.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		j.t.Fatalf("%s hangs", what)
	}
}

// leaks runs f many times and sees that the number of goroutines does not grow
// with it. Some come and go with connections.
func (j *judge) leaks(f func()) {
	j.t.Helper()
	const times, slack = 40, 30
	f() // connections are up now
	before := quiet()
	for range times {
		f()
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before+slack {
		if time.Now().After(deadline) {
			buf := make([]byte, 64<<10)
			j.t.Fatalf("%d goroutines before, %d after %d times:\n%s", before, runtime.NumGoroutine(), times, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond) // until the runtime has caught up
	}
}

// quiet is the number of goroutines once it has stopped falling.
func quiet() int {
	n := runtime.NumGoroutine()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		m := runtime.NumGoroutine()
		if m >= n {
			return m
		}
		n = m
	}
	return n
}

// atOnce uses the path from several goroutines; the race detector watches.
func (j *judge) atOnce() {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if j.p.Blocks != nil {
				j.fetchAll(j.soon(), j.w.Newest)
			}
		})
		if j.p.Heads == nil {
			continue
		}
		wg.Go(func() {
			if _, err := j.p.Heads.Head(j.soon(), j.w.Channel.ID(), uint64(i%2)); err != nil {
				j.t.Errorf("head: %v", err)
			}
			if _, err := j.p.Heads.Grant(j.soon(), j.w.Channel.ID(), j.w.Channel.GrantName()); err != nil && !j.s.NoGrants {
				j.t.Errorf("grant: %v", err)
			}
			if o, ok := j.p.Heads.(transport.Opener); ok {
				for _, err := range o.Open(j.soon(), transport.Ask{Channel: j.w.Channel.ID(), Grant: j.w.Channel.GrantName()}) {
					if err != nil {
						j.t.Errorf("open: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
}

package sync

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/transport"
)

const (
	// A want that a path took, and of which nothing arrived for this long, may be
	// taken by another one as well.
	stallAfter = 700 * time.Millisecond
	// The same for one that trickles.
	trickleAfter = 20 * time.Second
	// A batch of which nothing comes for this long is over.
	silence = time.Minute
	// A path that has not answered in this sync lets those that have go first.
	unprovenPatience = time.Second
	failedPatience   = 3 * time.Second
	// A path that has failed this often in a row rests for this sync.
	maxFailures = 3
	// What has arrived is stored in batches: a call of the library costs a sync
	// of the disk.
	putBatch     = 32
	defaultBatch = 8
)

// errSilent and errFlood end a batch.
var (
	errSilent = errors.New("it took the request and sent nothing")
	errFlood  = errors.New("it sends more than it was asked for")
)

// want is one block to fetch and who has tried.
type want struct {
	bundle.Want
	done   bool
	takers map[string]bool // paths at work on it
	taken  time.Time       // when the last one took it
	since  time.Time       // the same, or when something of its batch arrived
	failed map[string]bool
}

// stalled reports whether another path should try too.
func (w *want) stalled() bool {
	return time.Since(w.since) > stallAfter || time.Since(w.taken) > trickleAfter
}

// board is the list of wants that all paths work on.
type board struct {
	mu      gosync.Mutex
	wants   []*want
	byCID   map[cid.Cid]*want
	left    int
	changed chan struct{} // closed and replaced when something may be taken
}

func newBoard(wants []bundle.Want) *board {
	b := &board{byCID: map[cid.Cid]*want{}, changed: make(chan struct{})}
	for _, w := range wants {
		if b.byCID[w.CID] == nil {
			n := &want{Want: w, takers: map[string]bool{}, failed: map[string]bool{}}
			b.byCID[w.CID] = n
			b.wants = append(b.wants, n)
		}
	}
	b.left = len(b.wants)
	return b
}

func (b *board) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// take gives a path up to n wants that it has not failed: those nobody is at
// work on, or else those that stalled elsewhere. When there is nothing to take
// now, over says whether there ever can be, and else the channel says when to
// ask again.
func (b *board) take(p transport.Path, n int) (got []*want, over bool, again <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := false
	var stalled []*want
	for _, w := range b.wants {
		if w.done || w.failed[p.Name] || !suits(p, w.Want) {
			continue
		}
		open = true
		switch {
		case len(w.takers) == 0:
			if len(got) < n {
				got = append(got, w)
			}
		case !w.takers[p.Name] && len(stalled) < n && w.stalled():
			// Only another path's: one that stalls would stall it twice.
			stalled = append(stalled, w)
		}
	}
	if len(got) == 0 {
		got = stalled
	}
	for _, w := range got {
		w.takers[p.Name] = true
		w.taken = time.Now()
		w.since = w.taken
	}
	return got, !open, b.changed
}

// suits reports whether a path can carry a block at all.
func suits(p transport.Path, w bundle.Want) bool {
	return (p.Hints.MaxBlock == 0 || w.Size <= p.Hints.MaxBlock) && !(p.Hints.Text && w.Layer == bundle.LayerMedia)
}

// alive notes that something of a batch has arrived: what else is in it waits
// its turn.
func (b *board) alive(ws []*want) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range ws {
		w.since = time.Now()
	}
}

// arrived marks a want as done; false if it was not wanted (any more).
func (b *board) arrived(c cid.Cid) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.byCID[c]
	if w == nil || w.done {
		return false
	}
	w.done = true
	b.left--
	b.wake()
	return true
}

// release gives back what a path took; what is not done, it has failed.
func (b *board) release(p transport.Path, ws []*want) (failed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range ws {
		delete(w.takers, p.Name)
		if !w.done {
			w.failed[p.Name] = true
			failed++
		}
	}
	b.wake()
	return failed
}

func (b *board) missing() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// fetch brings the wants of one edition into the library, from every path that
// delivers. It returns an error wrapping ErrIncomplete if some can't be had now.
func (s *session) fetch(ctx context.Context, stage string, ed transport.Edition, wants []bundle.Want) error {
	b := newBoard(wants)
	if err := s.useStash(ctx, ed, b); err != nil {
		return err
	}
	left := b.missing()
	if left == 0 {
		return nil
	}
	caller := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	blocks := make(chan arrival)
	var workers gosync.WaitGroup
	for _, p := range s.paths {
		if p.Blocks == nil || s.report(p).State == stateLied {
			continue
		}
		patience := s.patience(p)
		for range max(1, p.Hints.Parallel) {
			workers.Go(func() { work(ctx, b, p, patience, ed, blocks) })
		}
	}
	go func() { workers.Wait(); close(blocks) }()
	err := s.store(ctx, stage, ed, left, blocks)
	cancel()
	for range blocks { //nolint:revive // let the workers end
	}
	if err != nil {
		return err
	}
	if err := caller.Err(); err != nil {
		return err
	}
	if n := b.missing(); n > 0 {
		return s.incomplete(n)
	}
	return nil
}

// patience is how long a path lets others go first: its own, and more if it has
// not proven itself in this sync. It bounds what a blocked path costs.
func (s *session) patience(p transport.Path) time.Duration {
	proven, quieter := false, false
	for _, o := range s.paths {
		ok := s.report(o).State == stateOK
		proven = proven || ok
		quieter = quieter || ok && o.Hints.Patience < p.Hints.Patience
	}
	switch state := s.report(p).State; {
	case state == stateOK && !quieter:
		return 0 // it waited long enough before it gave us the head
	case !proven || state == stateOK:
		return p.Hints.Patience
	case state == stateFailed:
		return p.Hints.Patience + failedPatience
	}
	return p.Hints.Patience + unprovenPatience
}

func (s *session) incomplete(n int) error {
	err := fmt.Errorf("%w: %d blocks are missing", ErrIncomplete, n)
	for _, p := range s.paths {
		if r := s.report(p); r.Error != "" {
			err = fmt.Errorf("%w; %s: %s", err, p.Name, r.Error)
		}
	}
	return err
}

// arrival is a block or a failure of one path.
type arrival struct {
	path transport.Path
	transport.Block
	err error
}

// work lets one path take wants until there is nothing more for it.
func work(ctx context.Context, b *board, p transport.Path, patience time.Duration, ed transport.Edition, out chan<- arrival) {
	if !pause(ctx, patience, nil) {
		return
	}
	batch := p.Hints.Batch
	if batch == 0 {
		batch = defaultBatch
	}
	for failures := 0; failures < maxFailures; {
		ws, over, again := b.take(p, batch)
		if over {
			return
		}
		if len(ws) == 0 {
			if !pause(ctx, stallAfter, again) {
				return
			}
			continue
		}
		err := fetchBatch(ctx, b, p, ed, ws, out)
		failed := b.release(p, ws)
		if ctx.Err() != nil {
			return
		}
		if failed == 0 {
			failures = 0
			continue
		}
		failures++
		if err == nil {
			err = transport.ErrNotFound
		}
		if errors.Is(err, bundle.ErrBlock) {
			failures = maxFailures
		}
		select {
		case out <- arrival{path: p, err: err}:
		case <-ctx.Done():
			return
		}
	}
}

// pause waits for d or for a change; false when ctx ended.
func pause(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
		return false
	}
	return true
}

// fetchBatch asks one path for some wants and checks what comes. A block counts
// as arrived from here on, so that no other path fetches it again; store puts it
// into the library.
func fetchBatch(ctx context.Context, b *board, p transport.Path, ed transport.Edition, ws []*want, out chan<- arrival) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	alive := func() {
		quiet.Reset(silence)
		b.alive(ws)
	}
	req := transport.Request{Edition: ed, Got: func(_, n int) {
		if n > 0 {
			alive()
		}
	}}
	for _, w := range ws {
		req.Wants = append(req.Wants, w.Want)
	}
	var last error
	yields := 0
	for block, err := range p.Blocks.Fetch(ctx, req) {
		if yields++; yields > 2*len(ws)+1 {
			return errFlood
		}
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			return errSilent
		}
		if err != nil {
			last = err
			var one *transport.WantError
			if errors.As(err, &one) {
				continue
			}
			return err
		}
		if err := bundle.CheckBlock(block.CID, block.Data); err != nil {
			return err // a liar: nothing more from this path
		}
		if !b.arrived(block.CID) {
			continue
		}
		alive()
		select {
		case out <- arrival{path: p, Block: block}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return last
}

// store puts what arrives into the library and ends when all of it is there or
// every path has given up.
func (s *session) store(ctx context.Context, stage string, ed transport.Edition, wants int, in <-chan arrival) error {
	for wants > 0 {
		a, ok := <-in
		if !ok {
			return nil
		}
		batch := s.note(nil, a)
	more: // whatever else is there already goes into the same transaction
		for len(batch) < min(putBatch, wants) {
			select {
			case a, ok := <-in:
				if !ok {
					break more
				}
				batch = s.note(batch, a)
			default:
				break more
			}
		}
		if len(batch) == 0 {
			continue
		}
		if err := s.Library.PutBlocks(context.WithoutCancel(ctx), ed.Channel, ed.Number, batch); err != nil {
			return err
		}
		wants -= len(batch)
		s.tell(stage, wants)
	}
	return nil
}

// note writes one arrival into the reports and adds its block to the batch.
func (s *session) note(batch []transport.Block, a arrival) []transport.Block {
	r := s.report(a.path)
	r.At = time.Now()
	switch {
	case a.err == nil:
		r.State, r.Error = stateOK, ""
		s.credit(a.path, a.Data)
		return append(batch, a.Block)
	case errors.Is(a.err, bundle.ErrBlock):
		r.State, r.Error = stateLied, a.err.Error()
		s.log.Warn("path lied", "path", a.path.Kind)
	case r.State != stateLied:
		r.State, r.Error = stateFailed, a.err.Error()
		s.log.Info("path failed", "path", a.path.Kind, "error", a.err)
	}
	return batch
}

// credit counts a block that a path brought.
func (s *session) credit(p transport.Path, data []byte) {
	r, n := s.report(p), int64(len(data))
	r.Blocks++
	r.Bytes += n
	s.res.Blocks++
	s.res.Bytes += n
}

// useStash takes what opening answers brought along.
func (s *session) useStash(ctx context.Context, ed transport.Edition, b *board) error {
	var batch []transport.Block
	for c, st := range s.stash {
		if b.arrived(c) {
			batch = append(batch, transport.Block{CID: c, Data: st.data})
			s.credit(st.path, st.data)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return s.Library.PutBlocks(ctx, ed.Channel, ed.Number, batch)
}

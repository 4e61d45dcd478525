package sync

import (
	"context"
	"errors"
	gosync "sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/transport"
)

const (
	// A want is doubled when that saves at least this much time.
	doubleGain = 300 * time.Millisecond
	// maxTakers bounds how many paths are asked for one block at once.
	maxTakers    = 3
	defaultBatch = 8
)

// job is the work on one edition: try does what it can and returns a
// *bundle.MissingError for the blocks that it needs first.
type job struct {
	ed     transport.Edition
	urgent bool // before those jobs that are not
	try    func() error

	rounds, open int // tries so far, wants on the board
	done         bool
	err          error
}

// want is one block to fetch.
type want struct {
	bundle.Want
	ed     *transport.Edition
	jobs   []*job
	urgent bool
	done   bool // it is here; stored: in the library
	stored bool
	takers []*batch
	failed map[*lane]bool
}

// size is the most bytes that the block may have.
func (w *want) size() int64 {
	if w.Size > 0 {
		return int64(w.Size)
	}
	return bundle.MaxBlock
}

// batch is one request to one path.
type batch struct {
	lane    *lane
	ed      *transport.Edition
	wants   []*want
	doubled bool  // others are late with these
	size    int64 // reserved: the most that may come
	known   int64 // of which are known to come
	open    int   // wants that are still of use
	cancel  context.CancelCauseFunc
	taken   time.Time
	first   time.Duration // to the first byte, 0 before
	heard   time.Time     // when something came last
	came    int64         // bytes, as Got had them or as blocks
	yielded int64         // bytes of blocks
	useful  int64         // bytes of blocks that were not here yet
}

// errNotNeeded ends a batch of which nothing is wanted any more.
var errNotNeeded = errors.New("others brought it")

// board is the list of wants that all paths work on.
type board struct {
	crew  *crew
	purse *purse
	since time.Time
	lanes []*lane

	mu      gosync.Mutex
	wants   []*want // urgent ones first
	byCID   map[cid.Cid]*want
	flying  int // batches on their way
	stopped bool
	starved bool          // the budget doesn't allow the next want
	changed chan struct{} // closed and replaced when something may be taken
	landed  chan struct{} // told when a batch has ended
}

func newBoard(c *crew, p *purse, lanes []*lane) *board {
	return &board{
		crew: c, purse: p, lanes: lanes, since: time.Now(),
		byCID: map[cid.Cid]*want{}, changed: make(chan struct{}), landed: make(chan struct{}, 1),
	}
}

// news is closed when something may be taken that could not be before.
func (b *board) news() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *board) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// add puts up what a job needs.
func (b *board) add(j *job, wants []bundle.Want) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, bw := range wants {
		w := b.byCID[bw.CID]
		if w == nil {
			w = &want{Want: bw, ed: &j.ed, urgent: j.urgent, failed: map[*lane]bool{}}
			b.byCID[bw.CID] = w
			b.wants = append(b.wants, w)
		}
		if w.stored {
			continue // and lost there: the next rounds tell
		}
		w.jobs = append(w.jobs, j)
		j.open++
		if w.urgent = w.urgent || j.urgent; w.urgent {
			b.raise(w)
		}
	}
	b.wake()
}

// raise moves an urgent want behind the last urgent one.
func (b *board) raise(w *want) {
	to, from := 0, 0
	for i, o := range b.wants {
		if o == w {
			from = i
			break
		}
		if o.urgent {
			to = i + 1
		}
	}
	copy(b.wants[to+1:from+1], b.wants[to:from])
	b.wants[to] = w
}

// stop lets nothing more be taken; what is on its way may land.
func (b *board) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.wake()
}

// take gives a path about half a second of work: wants that nobody is at work
// on, or else those that are late elsewhere. Without any, the channel says when
// to ask again; what is late can be told by time only.
func (b *board) take(l *lane) (*batch, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || b.crew.out(l) {
		return nil, b.changed
	}
	n := &batch{lane: l, taken: time.Now()}
	n.heard = n.taken
	b.gather(n, func(w *want) bool { return len(w.takers) == 0 })
	if len(n.wants) == 0 {
		n.doubled = true
		b.gather(n, func(w *want) bool { return b.late(w, l) })
	}
	if len(n.wants) == 0 {
		return nil, b.changed
	}
	for _, w := range n.wants {
		w.takers = append(w.takers, n)
	}
	n.open = len(n.wants)
	b.flying++
	return n, nil
}

// gather fills a batch with wants of one edition.
func (b *board) gather(n *batch, ok func(*want) bool) {
	count, share := n.lane.Hints.Batch, b.crew.share(n.lane)
	if count == 0 {
		count = defaultBatch
	}
	for _, w := range b.wants {
		if w.done || w.failed[n.lane] || !suits(n.lane.Path, w.Want) || n.ed != nil && n.ed.Root != w.ed.Root || !ok(w) {
			continue
		}
		if len(n.wants) > 0 && n.size+w.size() > share {
			return
		}
		if !b.purse.reserve(w.size()) {
			return
		}
		n.ed, n.wants = w.ed, append(n.wants, w)
		n.known += int64(w.Size)
		if n.size += w.size(); len(n.wants) == count {
			return
		}
	}
}

// late reports whether l would bring a want much sooner than all who are at
// work on it.
func (b *board) late(w *want, l *lane) bool {
	if len(w.takers) >= maxTakers {
		return false
	}
	soon := 2*b.crew.expect(l, int64(w.Size)) + doubleGain
	for _, t := range w.takers {
		// Only another path's: one that stalls would stall it twice.
		if t.lane == l || b.remaining(t) < soon {
			return false
		}
	}
	return true
}

// remaining is how long a batch will still take, as far as can be told: by what
// came of it, or by what its path did before; and if it is overdue or quiet, as
// long again as it has been so.
func (b *board) remaining(t *batch) time.Duration {
	now := time.Now()
	age, quiet := now.Sub(t.taken), now.Sub(t.heard)
	if t.came == 0 {
		return max(b.crew.expect(t.lane, t.known)-age, quiet)
	}
	left := float64(max(t.known-t.came, 0)) / float64(t.came)
	return max(time.Duration(left*float64(age)), quiet)
}

// suits reports whether a path can carry a block at all.
func suits(p transport.Path, w bundle.Want) bool {
	return (p.Hints.MaxBlock == 0 || w.Size <= p.Hints.MaxBlock) && !(p.Hints.Text && w.Layer == bundle.LayerMedia)
}

// heard notes that bytes of a batch came: as Got tells, or a whole block. It
// reports false if that is more than was asked for.
func (b *board) heard(t *batch, got, block int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.heard = time.Now()
	if t.first == 0 {
		t.first = t.heard.Sub(t.taken)
	}
	t.came += int64(got)
	t.yielded += int64(block)
	t.came = max(t.came, t.yielded) // not every path has Got
	return t.came <= t.size
}

// tally is what came of a batch.
type tally struct {
	came, useful int64
	first        time.Duration
}

func (b *board) sum(t *batch) tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return tally{t.came, t.useful, t.first}
}

// arrived marks a want as done, for good; nil if it was not wanted (any more).
// Requests of which nothing is wanted any more are ended.
func (b *board) arrived(c cid.Cid, by *batch, n int) *want {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.byCID[c]
	if w == nil || w.done {
		return nil
	}
	w.done = true
	if by != nil {
		by.useful += int64(n)
	}
	for _, t := range w.takers {
		if t.open--; t.open == 0 && t != by && t.cancel != nil {
			t.cancel(errNotNeeded)
		}
	}
	b.wake()
	return w
}

// begin gives the batch the means to be ended.
func (b *board) begin(t *batch, cancel context.CancelCauseFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.cancel = cancel; t.open == 0 {
		cancel(errNotNeeded)
	}
}

// release ends a batch. With final, what it did not bring its path will not be
// asked for again on this board. It returns how many wants that are still open
// it did not bring, and how many bytes came in vain.
func (b *board) release(t *batch, final bool) (undone int, vain int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range t.wants {
		for i, o := range w.takers {
			if o == t {
				w.takers = append(w.takers[:i], w.takers[i+1:]...)
				break
			}
		}
		if !w.done {
			undone++
			if final {
				w.failed[t.lane] = true
			}
		}
	}
	b.purse.settle(t.size, t.came)
	b.flying--
	b.wake()
	select {
	case b.landed <- struct{}{}:
	default:
	}
	return undone, max(t.came-t.useful, 0)
}

// over reports whether nothing is on its way and nobody can be asked for more:
// all is here, all paths have failed the rest, or the budget doesn't allow it.
func (b *board) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flying > 0 {
		return false
	}
	if b.stopped {
		return true
	}
	for _, w := range b.wants {
		if w.done {
			continue
		}
		for _, l := range b.lanes {
			if w.failed[l] || !suits(l.Path, w.Want) || b.crew.out(l) {
				continue
			}
			b.starved = !b.purse.fits(w.size())
			return b.starved
		}
	}
	return true
}

// missing counts what is not here, and its bytes as far as they are known.
func (b *board) missing() (n int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wants {
		if !w.done {
			n++
			bytes += int64(w.Size)
		}
	}
	return n, bytes
}

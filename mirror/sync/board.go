package sync

import (
	"context"
	"errors"
	"slices"
	gosync "sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/transport"
)

const (
	// A want is doubled, or left to another path, when that saves at least this
	// much time.
	doubleGain   = 300 * time.Millisecond
	defaultBatch = 8
	// maxLeft bounds how many wants a path looks at that are better left to others.
	maxLeft = 64
	// When all paths have failed, those that answered before are asked again for
	// what they did not refuse, so often and after such a rest, twice as long each
	// time: lines have bad minutes.
	maxWinds  = 3
	firstWind = 5 * time.Second
)

// The order in which wants are worked on.
const (
	rankTapped = iota // texts that somebody waits for, and front pages
	rankLangs         // texts in the reader's languages
	rankText          // other texts
	rankOlder         // older front pages
	rankImages        // pictures
	rankRest
)

// job is the work on one edition: try does what it can and returns a
// *bundle.MissingError for the blocks that it needs first.
type job struct {
	ed    transport.Edition
	stage string
	rank  int // lower ones first
	try   func() error
	// then, if not nil, takes in what a job without an error has brought, and
	// returns the jobs that follow from it.
	then func() ([]*job, error)
	// blocks are those that hold what it is about, with their sizes, as far as they
	// are known beforehand; sized: the board had them.
	blocks map[place]int64
	sized  bool

	rounds, open int // tries so far, wants on the board
	done         bool
	err          error
}

// want is one block to fetch.
type want struct {
	bundle.Want
	ed     *transport.Edition
	stage  string
	rank   int
	jobs   []*job
	since  time.Time
	done   bool // it is here; stored: in the library
	stored bool
	takers []*batch
	failed map[*lane]fault // by whom it is not to be asked for
	winds  int             // second ones so far
}

// fault is how a path failed to bring a want.
type fault bool

const (
	mayRecover fault = false // it said nothing, or broke
	refused    fault = true  // it has not got it, or what it sent was of no use
)

func (w *want) failedBy(l *lane) bool {
	_, failed := w.failed[l]
	return failed
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
	due     time.Duration    // how long it should take
	first   time.Duration    // to the first byte, 0 before
	heard   time.Time        // when something came last
	came    int64            // bytes, as Got had them or as blocks
	yielded int64            // bytes of blocks
	useful  int64            // bytes of blocks that were not here yet
	silent  map[cid.Cid]bool // wants that failed without a no
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
	wants   []*want // by rank
	byCID   map[cid.Cid]*want
	flying  map[*batch]bool // on their way
	texts   int             // jobs that come before pictures and are not done
	stopped bool
	starved bool          // the budget doesn't allow the next want
	landed  chan struct{} // told when a batch has ended
}

func newBoard(c *crew, p *purse) *board {
	return &board{
		crew: c, purse: p, since: time.Now(),
		byCID: map[cid.Cid]*want{}, flying: map[*batch]bool{}, landed: make(chan struct{}, 1),
	}
}

// join lets one more path work on it.
func (b *board) join(l *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes = append(b.lanes, l)
}

// wait is how long l lets the others go first.
func (b *board) wait(l *lane) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crew.wait(l, b.lanes, b.since)
}

// open counts jobs that come before pictures: done ones with -1.
func (b *board) open(j *job, n int) {
	if j.rank >= rankOlder {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.texts += n; b.texts == 0 {
		b.crew.wake()
	}
}

// add puts up what a job needs.
func (b *board) add(j *job, wants []bundle.Want) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, bw := range wants {
		w := b.byCID[bw.CID]
		if w == nil {
			w = &want{Want: bw, ed: &j.ed, stage: j.stage, rank: j.rank, since: time.Now(), failed: map[*lane]fault{}}
			b.byCID[bw.CID] = w
			b.wants = append(b.wants, w)
		}
		if w.stored {
			continue // and lost there: the next rounds tell
		}
		w.jobs = append(w.jobs, j)
		j.open++
		w.rank = min(w.rank, j.rank)
	}
	slices.SortStableFunc(b.wants, func(a, b *want) int { return a.rank - b.rank })
	b.crew.wake()
}

// stop lets nothing more be taken; what is on its way may land.
func (b *board) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.crew.wake()
}

// take gives a path about half a second of work: wants that nobody is at work
// on, or else those that are late elsewhere. Without any, the channel says when
// to ask again; what is late can be told by time only.
func (b *board) take(l *lane) (*batch, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := b.crew.news()
	if b.stopped {
		return nil, news
	}
	g := b.look()
	c := g.of(l)
	if !c.able || !c.kept && c.free < max(1, l.Hints.Parallel) {
		return nil, news // who has brought nothing so far gets one request at a time
	}
	n := &batch{lane: l, taken: g.now, heard: g.now}
	// While texts are missing, a path that brings some brings nothing else, and
	// one request is left free for them.
	texts := b.texts > 0 && (c.free < 2 || c.texts)
	left, ahead := 0, int64(0) // wants that come first and are left to others
	b.gather(n, func(w *want) bool {
		if len(w.takers) > 0 || w.rank > rankText && texts {
			return false
		}
		if left < maxLeft && g.others(c, w, ahead) {
			left, ahead = left+1, ahead+w.size()
			return false
		}
		return left < maxLeft
	})
	if len(n.wants) == 0 {
		n.doubled = true
		b.gather(n, func(w *want) bool { return len(w.takers) > 0 && (w.rank <= rankText || !texts) && g.late(c, w) })
	}
	if len(n.wants) == 0 {
		return nil, news
	}
	for _, w := range n.wants {
		w.takers = append(w.takers, n)
	}
	n.open = len(n.wants)
	n.due = g.expect(c, n.known)
	b.flying[n] = true
	b.crew.wake() // others may have left something to l
	return n, nil
}

// gather fills a batch with wants of one edition.
func (b *board) gather(n *batch, ok func(*want) bool) {
	count, share := n.lane.Hints.Batch, b.crew.share(n.lane)
	if count == 0 {
		count = defaultBatch
	}
	b.wants = slices.DeleteFunc(b.wants, func(w *want) bool { return w.done })
	kept, sum := b.crew.known(n.lane).kept, int64(0)
	for _, w := range b.wants {
		if w.failedBy(n.lane) || !suits(n.lane.Path, w.Want) || n.ed != nil && n.ed.Root != w.ed.Root || !ok(w) {
			continue
		}
		// What doesn't say its size is mostly small, but not from everybody.
		size := int64(w.Size)
		if !kept {
			size = w.size()
		}
		if sum += size; len(n.wants) > 0 && sum > share {
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
	came, yielded, useful int64
	first                 time.Duration
	stalled               bool
}

func (b *board) sum(t *batch) tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return tally{t.came, t.yielded, t.useful, t.first, b.stalled(t)}
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
	b.crew.wake()
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

// silent notes that one want of a batch failed, unless that was a no.
func (b *board) silent(t *batch, one *transport.WantError) {
	if errors.Is(one, transport.ErrNotFound) || errors.Is(one, bundle.ErrBlock) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.silent == nil {
		t.silent = map[cid.Cid]bool{}
	}
	t.silent[one.CID] = true
}

// release ends a batch. With final, what it did not bring its path will not be
// asked for again on this board, or, where it was no refusal, not before a second
// wind. It returns how many wants that are still open it did not bring, and how
// many bytes came in vain.
func (b *board) release(t *batch, final bool, why fault) (undone int, vain int64) {
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
				w.failed[t.lane] = why && fault(!t.silent[w.CID])
			}
		}
	}
	b.purse.settle(t.size, t.came)
	delete(b.flying, t)
	b.crew.wake()
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
	if len(b.flying) > 0 {
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
			if w.failedBy(l) || !suits(l.Path, w.Want) || b.crew.out(l) {
				continue
			}
			b.starved = !b.purse.fits(w.size())
			return b.starved
		}
	}
	return !b.secondWind()
}

// secondWind lets paths that answered in this sync, and then failed, try once
// more; false if there are none, or nothing is left that they may still have.
func (b *board) secondWind() bool {
	rise := false
	for _, w := range b.wants {
		if w.done || w.rank == rankRest || w.winds >= maxWinds {
			continue
		}
		again := false
		for _, l := range b.lanes {
			why, failed := w.failed[l]
			if failed && why == refused || !suits(l.Path, w.Want) || !b.crew.revive(l, firstWind<<w.winds) {
				continue
			}
			delete(w.failed, l)
			again = true
		}
		if again {
			w.winds++
			rise = true
		}
	}
	if rise {
		b.crew.wake()
	}
	return rise
}

// missing counts what is not here of a stage (of all with ""), and its bytes as
// far as they are known.
func (b *board) missing(stage string) (n int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wants {
		if !w.done && (stage == "" || w.stage == stage) {
			n++
			bytes += int64(w.Size)
		}
	}
	return n, bytes
}

package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	// maxRootNotes bounds how many root notes one path may make us fetch.
	maxRootNotes = 256
	// maxStash bounds the blocks taken from one opening answer, in bytes.
	maxStash = 8 << 20
	// maxPieces bounds the pieces of one opening answer.
	maxPieces = 2 * maxRootNotes
	// openPatience is how long an opening may bring nothing once its head is
	// here: the rest can be had in other ways.
	openPatience = 15 * time.Second
	// headTimeout bounds the whole search.
	headTimeout = 2 * time.Minute
	// While no newer front page is here, a path that failed without a reason of its own
	// is asked again: so often if nobody has answered so far, and so often if
	// somebody has, after a rest that doubles each time.
	triesDark = 2
	triesOpen = 5
	firstTry  = time.Second
	// Whoever was silent for this long, as everybody else was, need not be asked
	// again: people wait to hear that nobody answers.
	darkTime = 30 * time.Second
)

var (
	errNoAnswer = errors.New("no answer")
	// errCut ends an opening whose front page is here already.
	errCut = errors.New("its front page is here already")
)

// heard is something that one path said, verified on its own.
type heard struct {
	ask   *ask
	begun bool // it was asked just now; opens: for an opening, which cut ends
	opens bool
	cut   context.CancelCauseFunc
	// A head comes with the root notes that it needed.
	head  *channel.Head
	roots *channel.Roots
	grant []byte
	block bundle.Checked
	// end: nothing more comes, with err if it failed; again: it failed, and is asked
	// once more. same: the path answered that it has nothing newer. lied: err is no
	// accident.
	end, again, same, lied bool
	err                    error
}

// ask is the question to one path for its newest head.
type ask struct {
	*lane
	delay time.Duration // after the start of the search

	// What the session's goroutine heard of it.
	begun, ended, answered bool
	at, last               time.Time     // when it was asked, when something came last
	took                   time.Duration // to its head
	opens                  bool
	cut                    context.CancelCauseFunc
	head                   *channel.Head
	blocks                 int64 // bytes of its blocks
	err                    error
}

// asks asks all paths for the newest head: the fast and quiet ones first, the
// others after their delay, or at once when all that were asked have failed.
// The answers come out of out, in pieces.
type asks struct {
	out   chan heard
	purse *purse
	start time.Time
	quit  <-chan struct{} // closed when nobody listens any more

	mu      gosync.Mutex
	waiting []*ask
	asked   int
	hopeful int  // asked, and not failed so far
	open    bool // somebody has answered
	changed chan struct{}
	// What the next question says: the channel, what is held, and the tree size of
	// the front page of this sync that is here, 0 for none (then heads are enough).
	q      transport.Ask
	roots  *channel.Roots
	shown  uint64
	doubts bool // see doubt
	// held is the tree size when the sync began. led: the quiet ones are known to
	// work here. If one has brought something newer, the loud ones are not asked at
	// all; that they all say "nothing newer" may be what a censor wants us to hear.
	held uint64
	led  bool
}

func newAsks(p *purse, held uint64, quit <-chan struct{}) *asks {
	return &asks{held: held, out: make(chan heard, 64), purse: p, start: time.Now(), quit: quit, changed: make(chan struct{})}
}

// set tells what is held now.
func (as *asks) set(q transport.Ask, roots *channel.Roots, shown uint64) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.q, as.roots, as.shown = q, roots, shown
}

// anew says that the log was begun anew, and how much of it is held.
func (as *asks) anew(held uint64) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.held, as.shown = held, 0
}

// doubt says whether too few witnesses have seen what is held. Then "nothing newer"
// is not enough: somebody may have another head, that more of them have seen.
func (as *asks) doubt(yes bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.doubts = yes
}

// inDoubt is what doubt said.
func (as *asks) inDoubt() bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.doubts
}

// has reports whether a front page is here that is as new as this head.
func (as *asks) has(h *channel.Head) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.shown >= h.Size && h.Generation <= generation(as.roots)
}

// add plans more questions; led: to paths that are known.
func (as *asks) add(list []*ask, led bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.led = led
	as.waiting = append(as.waiting, list...)
	slices.SortStableFunc(as.waiting, func(a, b *ask) int { return int(a.delay - b.delay) })
	as.wake()
}

func (as *asks) wake() {
	close(as.changed)
	as.changed = make(chan struct{})
}

// run asks each path when its time has come, until ctx ends.
func (as *asks) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	go func() {
		<-as.quit
		cancel()
	}()
	for {
		as.mu.Lock()
		wait, changed := time.Duration(-1), as.changed
		if len(as.waiting) > 0 {
			wait = time.Until(as.start.Add(as.waiting[0].delay))
			if as.asked > 0 && as.hopeful == 0 {
				wait = 0
			}
			if wait <= 0 {
				wait = 0
				a := as.waiting[0]
				as.waiting = as.waiting[1:]
				if !as.led || as.shown <= as.held || a.Hints.Patience == 0 {
					as.asked++
					as.hopeful++
					go as.put(ctx, a, as.q, as.roots, as.shown > 0)
				}
			}
		}
		as.mu.Unlock()
		switch {
		case wait < 0:
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		case !pause(ctx, wait, changed):
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

// failed notes that a path's answer is worth nothing.
func (as *asks) failed() {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.hopeful--
	as.wake()
}

// question is one ask under way: what only its own goroutine touches.
type question struct {
	path  *ask
	as    *asks
	ask   transport.Ask
	known uint64 // tree size that is held
	roots *channel.Roots
	head  *channel.Head
	grant bool
	end   heard
}

// put asks one path until it has answered or there is no use in asking.
func (as *asks) put(ctx context.Context, a *ask, q transport.Ask, roots *channel.Roots, shown bool) {
	for try := 1; ; try++ {
		f := &question{path: a, as: as, ask: q, known: q.Have, roots: roots}
		doubt := as.inDoubt()
		if doubt { // heads alone: a front page is here
			f.ask.Have = 0
		}
		f.once(ctx, shown || doubt)
		if f.end.err != nil && try == 1 {
			as.failed()
		}
		again := as.worthwhile(f, try) && ctx.Err() == nil
		if again {
			f.say(heard{again: true, err: f.end.err})
			again = pause(ctx, restOf(a.Path, firstTry<<(try-1)), nil)
			as.mu.Lock()
			q, roots, shown = as.q, as.roots, as.shown > 0
			again = again && as.shown <= as.held // else others were faster
			as.mu.Unlock()
		}
		if !again {
			f.end.end = true
			f.say(f.end)
			return
		}
	}
}

// worthwhile reports whether a question that was put so often should be put again.
func (as *asks) worthwhile(f *question, tries int) bool {
	err := f.end.err
	as.mu.Lock()
	defer as.mu.Unlock()
	as.open = as.open || f.head != nil || f.end.same || errors.Is(err, transport.ErrLost)
	switch {
	case err == nil || f.end.lied || as.shown > as.held:
		return false
	case errors.Is(err, ErrBudget), errors.Is(err, errNoAnswer), errors.Is(err, transport.ErrUnsupported), errors.Is(err, transport.ErrNotFound):
		return false
	case as.open:
		return tries < triesOpen
	}
	return tries < triesDark && time.Since(as.start) < darkTime
}

// once puts a question: for an opening in one flight if the path can, else step
// by step, and for the head alone if a front page is here already. Whatever does
// not verify makes the path a liar.
func (f *question) once(ctx context.Context, shown bool) {
	a, as := f.path, f.as
	opening, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	o, opens := a.Heads.(transport.Opener)
	opens = opens && !shown && as.purse.reserveOpening(bundle.MaxBlock)
	f.say(heard{begun: true, opens: opens, cut: cut})
	if opens {
		f.open(ctx, opening, cut, o)
	} else {
		have := f.ask.Have
		if as.news() {
			have = 0 // the head itself says more than "nothing newer"
		}
		raw, err := f.small(channel.MaxHead, func() ([]byte, error) { return a.Heads.Head(ctx, f.ask.Channel, have) })
		f.take(ctx, raw, err)
	}
	if f.head != nil && (f.head.Size > f.known || f.head.RootVersion > f.ask.Root) && !f.grant && !f.end.lied && context.Cause(opening) != errCut { //nolint:errorlint // ours, as it is
		g, err := f.small(channel.GrantLarge, func() ([]byte, error) { return a.Heads.Grant(ctx, f.ask.Channel, f.ask.Grant) })
		switch {
		case err == nil:
			f.say(heard{grant: g})
		case f.end.err == nil && as.needsGrant() && !errors.Is(err, transport.ErrNotFound) && !errors.Is(err, ErrBudget):
			f.end.err = fmt.Errorf("grant: %w", err)
		}
	}
	if f.end.err != nil && ctx.Err() != nil {
		f.end.err = errNoAnswer
	}
}

// news reports whether something newer than what was held is shown.
func (as *asks) news() bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.shown > as.held
}

// needsGrant reports whether nothing can be shown so far: perhaps for want of a
// grant, which else may be held already.
func (as *asks) needsGrant() bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.shown == 0
}

func (f *question) say(h heard) {
	h.ask = f.path
	select {
	case f.as.out <- h:
	case <-f.as.quit:
	}
}

// small gets a head, a root note or a grant, within the budget.
func (f *question) small(limit int64, get func() ([]byte, error)) ([]byte, error) {
	if !f.as.purse.reserve(limit) {
		return nil, ErrBudget
	}
	b, err := get()
	f.as.purse.settle(limit, int64(len(b)))
	return b, err
}

// open reads an opening; each piece is reserved before it is asked for, the
// first one by the caller.
func (f *question) open(ctx, opening context.Context, cut context.CancelCauseFunc, o transport.Opener) {
	reserved := int64(bundle.MaxBlock)
	defer func() { f.as.purse.settleOpening(reserved, 0) }()
	stashed, pieces, came := 0, 0, int64(0)
	var stalled *time.Timer
	for piece, err := range o.Open(opening, f.ask) {
		if err != nil {
			switch {
			case errors.Is(context.Cause(opening), errCut):
			case f.head != nil && opening.Err() != nil && ctx.Err() == nil: // it stalled
			default:
				f.fail(err)
			}
			return
		}
		f.as.purse.settleOpening(reserved, int64(len(piece.Data)))
		reserved, came = 0, came+int64(len(piece.Data))
		if pieces++; pieces > maxPieces {
			f.lie(errFlood)
			return
		}
		if stalled != nil {
			stalled.Reset(openPatience)
		}
		switch piece.Kind {
		case transport.PieceRootNote:
			next, err := f.roots.Extend(piece.Data)
			if err != nil {
				f.lie(err)
				return
			}
			f.roots = next
		case transport.PieceHead:
			if f.take(ctx, piece.Data, nil); f.end.err != nil {
				return
			}
			if f.as.has(f.head) {
				cut(errCut) // the rest of it is here
				return
			}
			if stalled == nil {
				stalled = time.AfterFunc(openPatience, func() { cut(errSilent) })
				defer stalled.Stop()
			}
		case transport.PieceGrant:
			f.grant = true
			f.say(heard{grant: piece.Data})
		case transport.PieceBlock:
			block, err := bundle.Check(piece.CID, piece.Data)
			if err != nil {
				f.lie(err)
				return
			}
			if stashed += len(piece.Data); stashed > maxStash {
				return
			}
			f.say(heard{block: block})
		}
		if came >= f.as.purse.share() || !f.as.purse.reserveOpening(bundle.MaxBlock) {
			break
		}
		reserved = bundle.MaxBlock
	}
	if f.head == nil && f.end.err == nil && !f.end.same {
		f.fail(transport.ErrNotFound)
	}
}

// take verifies a head, fetching the root notes it needs.
func (f *question) take(ctx context.Context, raw []byte, err error) {
	if err != nil {
		f.fail(err)
		return
	}
	for range maxRootNotes {
		if f.roots.Version() > 0 {
			h, err := f.roots.Head(raw)
			if err == nil {
				f.head = h
				f.say(heard{head: h, roots: f.roots})
				return
			}
			if !errors.Is(err, channel.ErrNewerRoots) {
				f.lie(err)
				return
			}
		}
		n := f.roots.Version() + 1
		note, err := f.small(channel.MaxRootNote, func() ([]byte, error) { return f.path.Heads.RootNote(ctx, f.roots.Channel(), n) })
		if err != nil {
			f.fail(fmt.Errorf("root note %d: %w", n, err))
			return
		}
		next, err := f.roots.Extend(note)
		if err != nil {
			f.lie(err)
			return
		}
		f.roots = next
	}
	f.lie(errors.New("too many root notes"))
}

func (f *question) fail(err error) {
	if errors.Is(err, transport.ErrNoNewer) {
		f.end.same = true
		return
	}
	// What the bytes of a head or a block prove wrong is no accident.
	f.end.lied = errors.Is(err, bundle.ErrBlock) || errors.Is(err, channel.ErrHead) || errors.Is(err, channel.ErrRootNote)
	f.end.err = err
}

func (f *question) lie(err error) { f.end.err, f.end.lied = err, true }

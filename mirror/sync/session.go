package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	// After the first answer the others are heard for as long again as it took,
	// within these bounds, or until the news is here if that takes longer.
	minListen = 50 * time.Millisecond
	maxListen = 2 * time.Second
	// When nobody had anything newer, fewer than so many independent sources said
	// so and others may still answer, those are heard for longer: one relay that
	// lags would keep the news from a reader whose other ways are slow.
	quorum  = 3
	inDoubt = 4 * time.Second
	// When heads came but no front page could be had, others may answer for this
	// long.
	lastHope = 30 * time.Second
	// How long the rest of an opening may take after its head before the front
	// page is fetched in other ways: twice what the head took, and at least this;
	// or, when no other path is open, more.
	openingPause      = 250 * time.Millisecond
	openingPauseAlone = 2 * time.Second
	// maxTries is how often a front page is tried, maxGrants how many grants are
	// told apart.
	maxTries  = 3
	maxGrants = 4
)

// stashed is a block of an opening answer and who brought it.
type stashed struct {
	lane  *lane
	block bundle.Checked
}

// target is a head whose front page is to be shown.
type target struct {
	head *channel.Head
	from *ask // nil for the head that was held before
	// tried: its front page could not be had, because of err, and nothing has come
	// since that could help. online: what came with openings is not enough.
	tried, online bool
	tries         int
	err           error
	// late is how often it was put behind what waited for it.
	late int
}

// session is one run of Sync. Only its own goroutine touches it; what the
// goroutines of paths touch is in crew, purse, asks and boards, which guard
// themselves.
type session struct {
	*Engine
	ch      channel.ID
	start   time.Time
	log     *slog.Logger
	view    *channel.View
	before  *channel.View // as it was when the sync began
	paths   []transport.Path
	crew    *crew
	purse   purse
	memory  *memory
	asks    *asks
	list    []*ask
	meter   meter
	stage   string // the last one told
	reports map[string]*PathReport
	old     []PathReport // those stored before this sync, once they were read
	res     *Result
	// stash holds checked blocks of opening answers until somebody wants them.
	stash map[cid.Cid]stashed
	// targets are heads that are news, shown the best of those whose front page
	// is in the library, front that page; working is the one being fetched.
	targets []*target
	shown   *channel.Head
	front   *bundle.Front
	working *target
	since   time.Time // when the work on it began
	// offline: fetches take what is in the stash, or fail with errStash.
	offline bool
	// done: all has been tried for what is shown.
	done bool
	// first is when a path first had news or said that there is none, any when one
	// answered at all.
	first, any time.Time
	// told: people have heard that nobody has answered so far; stored: so the
	// reports say, which is to be taken back when somebody does.
	told, stored bool
	changed      bool   // the view, since it was stored
	held         uint64 // the tree size that was held when the sync began, 0 for none
	broke        bool   // something was not asked for the budget's sake
	grants       [][]byte
	failures     []error
	// turns counts how often the log was begun anew, or overruled; forgetHeads: what was reported of
	// heads before this sync is of a generation that has ended.
	turns       int
	forgetHeads bool
	shares      map[string]map[string]int64 // bytes by stage and path
	wasted      map[*lane]int64             // bytes that came in vain
}

func newSession(e *Engine, ch channel.ID) *session {
	s := &session{
		Engine: e, ch: ch, start: time.Now(), log: e.Log, crew: newCrew(),
		stash: map[cid.Cid]stashed{}, reports: map[string]*PathReport{}, res: &Result{Delivered: map[string]string{}},
		shares: map[string]map[string]int64{}, wasted: map[*lane]int64{},
	}
	s.purse.limit, s.purse.charge = e.Budget.Bytes, e.Budget.Charge
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// now is the clock that people read.
func (s *session) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *session) lane(p transport.Path) *lane { return s.crew.lane(p, s.memory.path(p.Name)) }

func (s *session) run(ctx context.Context) (err error) {
	if s.view, err = View(ctx, s.Library, s.ch); err != nil {
		return err
	}
	s.held, s.before = s.view.Size(), s.view.Clone()
	if s.memory, err = loadMemory(ctx, s.Library, s.ch, s.Network); err != nil {
		return err
	}
	s.res.Head = s.view.Head()
	s.findPaths()
	if len(s.paths) == 0 {
		return fmt.Errorf("%w: none is known; ask for a new invite", ErrNoPath)
	}
	s.tell("head", 0, 0)
	s.asks = newAsks(&s.purse, s.held, ctx.Done())
	s.askThem()
	go s.asks.run(ctx)
	return s.loop(ctx)
}

// loop shows the best front page there is, brings what belongs to it, and begins
// anew when a better one comes.
func (s *session) loop(ctx context.Context) error {
	var bodies error
	for ctx.Err() == nil {
		t, wait := s.next()
		switch {
		case t != nil:
			s.show(ctx, t)
		case s.shown != nil && !s.done:
			if bodies = s.bring(ctx); !errors.Is(bodies, errTurned) {
				s.done = true
			}
		case wait < 0 && s.over(): // a better one on its way is waited for
			if s.shown == nil && s.fallBack() {
				continue
			}
			s.prove(ctx)
			return s.conclude(bodies)
		default:
			if wait < 0 {
				wait = s.listenFor()
			}
			select {
			case h := <-s.asks.out:
				if err := s.hear(ctx, h); err != nil {
					return err
				}
			case <-after(wait):
			case <-after(s.darkIn()):
				if err := s.tellDark(ctx); err != nil {
					return err
				}
			case <-ctx.Done():
			}
		}
	}
	return ctx.Err()
}

// after is time.After, and never for a negative time.
func after(d time.Duration) <-chan time.Time {
	if d < 0 {
		return nil
	}
	return time.After(d)
}

// next is the best target whose front page can be had now: one that came with an
// opening before any that has to be fetched. Without one, wait is when there will
// be, negative for never. It ends the turn of the one being fetched (targets.go).
func (s *session) next() (best *target, wait time.Duration) {
	if t := s.stashedTarget(); t != nil {
		return t, 0
	}
	if s.working != nil {
		if wait = s.turn(); wait != 0 {
			return nil, wait
		}
		best, s.working = s.working, nil
	}
	wait = -1
	for _, t := range s.candidates() {
		switch d := s.opening(t.head); {
		case d <= 0:
			return t, 0
		case wait < 0 || d < wait:
			wait = d
		}
	}
	return best, wait
}

// opening is how long to wait for the rest of openings that have shown this
// head; 0 if there is none or all are overdue.
func (s *session) opening(h *channel.Head) time.Duration {
	var wait time.Duration
	for _, a := range s.list {
		if a.head == nil || a.head.Root != h.Root || !a.opens || a.ended {
			continue
		}
		pause := max(2*a.took, openingPause)
		if !s.otherThan(a) {
			pause = max(2*pause, openingPauseAlone)
		}
		// It may go on bringing something for a while, but not for ever: what comes
		// need not be what the front page wants.
		wait = max(wait, min(time.Until(a.last.Add(pause)), time.Until(a.at.Add(a.took+8*pause))))
	}
	return wait
}

// otherThan reports whether a path other than a's is open for blocks.
func (s *session) otherThan(a *ask) bool {
	return slices.ContainsFunc(s.list, func(o *ask) bool { return o != a && o.answered && o.Blocks != nil && !s.crew.out(o.lane) })
}

// show gets a target's front page. What keeps it from that is in the target.
func (s *session) show(ctx context.Context, t *target) {
	outer, turns := s.working, s.turns
	s.working, s.since = t, time.Now()
	before, was := s.view.Size(), s.inGoodOrder()
	f, err := s.frontOf(ctx, t.head)
	if s.working = outer; turns != s.turns {
		s.working = nil // of a history that counts for nothing, perhaps
	}
	if err != nil {
		s.excuse(t, was)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case errors.Is(err, errTurned), errors.Is(err, errStash):
		t.online = true
		return
	case errors.Is(err, channel.ErrOldRoots):
		t.tried, t.tries = true, maxTries
		return
	default:
		t.tried, t.err = true, err
		t.tries++
		if errors.Is(err, channel.ErrFork) {
			s.forkedBy(ctx, t)
		}
		return
	}
	if s.shown != nil && t.from != nil {
		s.event("headlines", EventTurned, t.from.Path)
	}
	s.shown, s.front, s.done = t.head, f, false
	s.res.New = s.res.New || t.head.Size > before
	s.res.Head = s.view.Head()
	s.res.ToHeadlines, s.res.ToText, s.res.ToImages = time.Since(s.start), 0, 0
	if t.from != nil {
		s.res.Delivered["head"] = t.from.Name
	}
	s.delivered("headlines")
	s.tellAsks()
	for _, a := range s.list {
		s.cutShort(a)
	}
	// While the rest comes, people can be told how fresh this is.
	if err := s.reportSoFar(ctx); err != nil {
		s.log.Warn("reports are not stored", "error", err)
	}
}

// cutShort ends an opening whose front page is not needed any more. Its head was
// of interest all the same.
func (s *session) cutShort(a *ask) {
	if s.shown != nil && a.opens && !a.ended && a.head != nil && a.head.Size <= s.shown.Size {
		a.cut(errCut)
	}
}

// over reports whether nobody needs to be heard any more.
func (s *session) over() bool {
	if !slices.ContainsFunc(s.list, func(a *ask) bool { return !a.ended }) {
		return true
	}
	return s.listenFor() == 0
}

// listenFor is how much longer the asks are to be heard when there is nothing
// else to do; negative for as long as they go on.
func (s *session) listenFor() time.Duration {
	fair := func(since time.Time, least time.Duration) time.Duration {
		took := since.Sub(s.start)
		if s.memory.leads {
			took *= 2 // the others began later on purpose
		}
		return max(0, time.Until(since.Add(min(max(took, least), maxListen))))
	}
	switch {
	case s.shown != nil && !s.first.IsZero() && s.shown.Size <= s.held && s.sources() < quorum:
		return max(0, time.Until(s.first.Add(inDoubt)))
	case s.shown != nil && !s.first.IsZero():
		return fair(s.first, minListen)
	case s.shown != nil: // what was held, since nobody had anything newer
		return 0
	case !s.first.IsZero() && slices.ContainsFunc(s.list, func(a *ask) bool { return a.answered && !a.ended }):
		return -1 // the grant or the front page may still come
	case !s.first.IsZero() && s.onlyForks():
		return -1 // what came was no news: whoever is still silent may have some
	case !s.first.IsZero():
		return max(0, time.Until(s.first.Add(lastHope)))
	case !s.any.IsZero() && s.view.Head() != nil:
		return fair(s.any, maxListen)
	}
	return -1
}

// sources counts the independent ones that say that there is nothing newer than
// what was held. Who shows an older head, or another one, doesn't know; nor does
// a file.
func (s *session) sources() int {
	var seen [][]string
	for _, a := range s.list {
		if r := s.report(a.Path); a.answered && a.Kind != transport.KindFile && r.State != stateLied && (a.head == nil || a.head.Size == s.held) {
			seen = append(seen, sourcesOf(*r))
		}
	}
	return independent(seen)
}

// fallBack makes the head that was held before a target: it may lack texts.
func (s *session) fallBack() bool {
	h := s.view.Head()
	return h != nil && s.target(h, nil)
}

// conclude is what people are told at the end.
func (s *session) conclude(bodies error) error {
	var behind error
	for _, t := range s.targets {
		if t.err != nil && !errors.Is(t.err, channel.ErrFork) && (s.shown == nil || t.head.Size > s.shown.Size) {
			behind = oneLine(behind, t.err)
		}
	}
	answered := slices.ContainsFunc(s.list, func(a *ask) bool { return a.answered })
	switch {
	case s.broke && !answered:
		return ErrBudget
	case s.shown != nil && !answered:
		// Nobody answered. What is held may still have lacked texts.
		return oneLine(joinPaths(ErrNoPath, s.failures), behind, bodies)
	case s.shown != nil || behind != nil:
		return oneLine(behind, bodies)
	case len(s.targets) > 0:
		for _, t := range s.targets {
			if _, ok := s.view.EpochKey(t.head.Epoch); ok {
				return s.nothingShown()
			}
		}
		return joinPaths(ErrNoKey, s.failures)
	}
	return joinPaths(ErrNoPath, s.failures)
}

// nothingShown is why no front page came of heads that can be opened.
func (s *session) nothingShown() error {
	if s.res.Fork || slices.ContainsFunc(s.targets, func(t *target) bool { return errors.Is(t.err, channel.ErrFork) }) {
		return channel.ErrFork
	}
	return joinPaths(fmt.Errorf("%w: no path brought the front page", ErrIncomplete), s.failures)
}

// finish counts who answered, and reports the paths that are still silent when
// the sync ends.
func (s *session) finish() {
	s.res.Unreached = true
	for _, a := range s.list {
		s.res.Unreached = s.res.Unreached && !a.answered
		if a.answered && a.Kind != transport.KindFile && s.report(a.Path).State != stateLied {
			s.res.Answered++
		}
	}
	for _, st := range s.stash { // what openings brought and nobody wanted
		s.waste(st.lane, int64(len(st.block.Data())))
	}
	for l, n := range s.wasted {
		if s.report(l.Path).State == stateLied {
			s.res.Junk += n
		} else {
			s.res.Twice += n
		}
	}
	s.res.Received = s.purse.received()
	for _, a := range s.list {
		r := s.report(a.Path)
		if a.begun && !a.ended && !a.answered && s.res.ToHeadlines > 0 && r.State != stateLied && r.State != stateFailed {
			r.State, r.Error, r.At = stateSlow, "no answer before others had the news", s.now()
		}
	}
}

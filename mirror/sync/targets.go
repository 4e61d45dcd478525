package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// A target is a head that may be news. Everybody who has the channel's log key,
// be it by theft or by force, can sign heads that are longer than the true one
// and whose front pages nobody has, or whose history turns out to be another one
// when they are here at last. Nothing tells them from the true head before. So:
//
//   - A path shows one head for each question; one that shows two lies.
//   - However many there are, each has its turn. One whose front page does not
//     come while others wait goes behind them, and behind the texts of what is
//     shown: see turn.
//   - A front page that came with an opening costs nothing and is shown at once,
//     whatever is being fetched.
//   - Nothing is shown before its history is known to continue the one held.
//   - Who contradicts what was held when the sync began has lied. Of two that both
//     continue it, neither is known to be the true one: the proof is kept and the
//     alarm raised, but nobody is called a liar.

const (
	// turnTime is how long a front page may take while others wait, four times as
	// long each time more.
	turnTime = 5 * time.Second
	// maxTargets bounds how many heads one sync keeps in mind: one for each path
	// that a reader is likely to have.
	maxTargets = 64
)

// laggard is what is said of a path that shows something older than is held.
const laggard = "it lags behind: an older edition"

// errTwoHeads: an answer has one head.
var errTwoHeads = errors.New("it shows two heads in one answer")

// sameTree reports whether two heads state the same.
func sameTree(a, b *channel.Head) bool { return a.Size == b.Size && a.Tree == b.Tree }

// target makes a head one whose front page is to be shown, and reports whether
// it was none before.
func (s *session) target(h *channel.Head, from *ask) bool {
	for _, t := range s.targets {
		if sameTree(t.head, h) {
			t.head = h // signed later, perhaps
			return false
		}
	}
	if len(s.targets) >= maxTargets && !s.makeRoom() {
		return false
	}
	s.targets = append(s.targets, &target{head: h, from: from})
	return true
}

// makeRoom forgets the target that is worth the least: one that was tried, was
// late, or comes from where most others do. False if each has a source of its own
// and has still to be tried.
func (s *session) makeRoom() bool {
	from := map[string]int{}
	for _, t := range s.targets {
		from[s.origin(t)]++
	}
	worst, least := -1, 0
	for i, t := range s.targets {
		worth := -t.late
		switch {
		case t == s.working, s.shown != nil && sameTree(t.head, s.shown):
			continue
		case t.tried:
			worth = -2 * maxTargets
		case from[s.origin(t)] > 1:
			worth -= from[s.origin(t)]
		}
		if worth < least {
			worst, least = i, worth
		}
	}
	if worst < 0 {
		return false
	}
	s.targets = slices.Delete(s.targets, worst, worst+1)
	return true
}

// origin is the source that showed a target first.
func (s *session) origin(t *target) string {
	if t.from == nil {
		return ""
	}
	return strings.Join(sourcesOf(*s.report(t.from.Path)), "\n")
}

// again lets targets be tried once more whose front page could not be had.
func (s *session) again() {
	for _, t := range s.targets {
		if t.tried && t.tries < maxTries && errors.Is(t.err, ErrIncomplete) {
			t.tried, t.online = false, false
		}
	}
}

// better reports whether a target is to take the place of what is shown.
func (s *session) better(t *target) bool {
	return s.shown == nil || s.view.Overrules(t.head) || t.head.Size > s.shown.Size && (t.late == 0 || s.done)
}

// candidates are the targets better than what is shown, best first: those that
// were never late, then those that more sources have shown, then the higher. The
// late ones wait for the texts of what is shown.
func (s *session) candidates() []*target {
	var ts []*target
	backing := map[*target]int{}
	for _, t := range s.targets {
		if t.tried || !s.better(t) {
			continue
		}
		if _, ok := s.view.EpochKey(t.head.Epoch); ok {
			ts, backing[t] = append(ts, t), s.backing(t)
		}
	}
	slices.SortStableFunc(ts, func(a, b *target) int {
		return cmp.Or(cmp.Compare(a.late, b.late), cmp.Compare(backing[b], backing[a]), cmp.Compare(b.head.Size, a.head.Size))
	})
	return ts
}

// backing counts the independent sources that have shown a target.
func (s *session) backing(t *target) int {
	var seen [][]string
	for _, a := range s.list {
		if r := s.report(a.Path); a.head != nil && sameTree(a.head, t.head) && r.State != stateLied {
			seen = append(seen, sourcesOf(*r))
		}
	}
	return independent(seen)
}

// stashedTarget is the highest target whose front page is here without any fetch.
func (s *session) stashedTarget() (best *target) {
	for _, t := range s.candidates() {
		if !t.online && t != s.working && (best == nil || t.head.Size > best.head.Size) && s.frontHere(t.head) {
			best = t
		}
	}
	return best
}

// turn is how much longer the target being fetched may keep what waits: other
// targets, and the texts of what is shown. Negative if nothing does. 0 says that
// its turn is over, and has put it behind them.
func (s *session) turn() time.Duration {
	t := s.working
	waits := s.shown != nil && !s.done ||
		slices.ContainsFunc(s.candidates(), func(o *target) bool { return o != t })
	if !waits {
		return -1
	}
	if left := time.Until(s.since.Add(turnTime << (2 * min(t.late, maxTries)))); left > 0 {
		return left
	}
	if t.late++; t.late >= maxTries {
		t.tried, t.err = true, fmt.Errorf("%w: the front page of edition %d is too slow in coming", ErrIncomplete, t.head.Edition)
		t.tries = maxTries
	}
	return 0
}

// inGoodOrder is how those who have answered are reported just now.
func (s *session) inGoodOrder() map[*ask]PathReport {
	was := map[*ask]PathReport{}
	for _, a := range s.list {
		if r := s.report(a.Path); a.answered && r.State == stateOK {
			was[a] = *r
		}
	}
	return was
}

// excuse takes back what was said of paths that do not have the front page of
// somebody else's head: they did not promise it.
func (s *session) excuse(t *target, was map[*ask]PathReport) {
	for a, r := range was {
		now := s.report(a.Path)
		if now.State == stateFailed && strings.HasSuffix(now.Error, transport.ErrNotFound.Error()) && (a.head == nil || !sameTree(a.head, t.head)) {
			now.State, now.Error = r.State, r.Error
		}
	}
}

// onlyForks reports whether all heads that came were of other histories.
func (s *session) onlyForks() bool {
	return len(s.targets) > 0 && !slices.ContainsFunc(s.targets, func(t *target) bool { return !errors.Is(t.err, channel.ErrFork) })
}

// forkedBy notes who showed a target that is a fork.
func (s *session) forkedBy(ctx context.Context, t *target) {
	lie := s.contradicts(ctx, t.head)
	for _, a := range s.list {
		if a.head != nil && sameTree(a.head, t.head) {
			s.forked(a, lie)
		}
	}
}

// contradicts reports whether a fork, whose front page is here, contradicts what
// was held when the sync began, as far as the leaf hashes at hand tell.
func (s *session) contradicts(ctx context.Context, h *channel.Head) bool {
	held := s.before.Size()
	vol, err := s.volume(ctx, infoOf(h))
	if held == 0 || err != nil {
		return false
	}
	f, err := vol.Front()
	if err != nil {
		return false
	}
	first, hs, err := f.Hashes()
	if err == nil && first > held {
		first = held
		hs, err = vol.Hashes(held)
	}
	return err == nil && held-first <= uint64(len(hs)) &&
		errors.Is(s.before.Clone().Fold(h, hs[held-first:]), channel.ErrFork)
}

// forked notes who showed another history; lie: it contradicts the one that was
// held before.
func (s *session) forked(a *ask, lie bool) {
	if lie {
		s.lied(a.lane, channel.ErrFork)
		return
	}
	r := s.report(a.Path)
	if r.State == stateLied {
		return
	}
	r.State, r.Error = stateFailed, "it shows another history of the channel than the first way did"
	r.Seen = time.Time{} // it confirms nothing
}

// overruled begins anew with a head that contradicts what was held and has taken
// its place, since enough witnesses have seen it: what came of the other history is
// taken back before the view is stored, and what is on its way of it given up. Nobody is called a liar: who showed it may have been
// shown nothing else.
func (s *session) overruled(h *channel.Head, from *ask) {
	s.changed, s.res.Fork, s.res.New, s.res.Head = true, true, true, h
	for _, a := range s.list {
		if a.head != nil && s.strays(a.head) {
			s.forked(a, false)
		}
	}
	s.targets = slices.DeleteFunc(s.targets, func(t *target) bool { return t != s.working })
	s.turns++
	s.shown, s.front, s.done = nil, nil, false
	s.held, s.before = 0, channel.NewView(s.view.Invite())
	s.target(h, from)
	s.tellAsks()
}

// strays reports whether a head contradicts what is held, as far as it tells without
// its front page.
func (s *session) strays(h *channel.Head) bool { return s.view.Clone().Consider(h) == channel.Fork }

// lags notes who answered with a head from before the channel changed its log
// key: it has not heard of that, and says nothing about how new the news is.
func (s *session) lags(a *ask) {
	s.answered(a)
	r := s.report(a.Path)
	if r.State != stateLied {
		r.Error, r.Seen = laggard, time.Time{}
	}
}

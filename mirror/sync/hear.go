package sync

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// maxStashes bounds what all openings of one sync together bring along.
const maxStashes = 4 * maxStash

// findPaths asks for paths anew: a grant may have named more places.
func (s *session) findPaths() {
	s.paths = s.Ways.Paths(s.ch, s.view.Invite().IPNS, s.view.Places())
	slices.SortStableFunc(s.paths, func(a, b transport.Path) int { return int(a.Hints.Patience - b.Hints.Patience) })
}

// askThem plans a question to each path that was not asked yet.
func (s *session) askThem() {
	s.tellAsks()
	var list []*ask
	for _, p := range s.paths {
		if p.Heads == nil || slices.ContainsFunc(s.list, func(a *ask) bool { return a.Name == p.Name }) {
			continue
		}
		list = append(list, &ask{lane: s.lane(p), delay: s.memory.delay(p, s.paths, s.now())})
	}
	if len(s.list) == 0 && len(list) > 0 {
		// Nobody waits for those that are not there.
		least := slices.MinFunc(list, func(a, b *ask) int { return cmp.Compare(a.delay, b.delay) }).delay
		for _, a := range list {
			a.delay -= least
		}
	}
	s.list = append(s.list, list...)
	s.asks.add(list, s.memory.leads)
}

// tellAsks says what is held, for the next questions.
func (s *session) tellAsks() {
	q := transport.Ask{Channel: s.ch, Have: s.view.Size(), Root: s.view.Roots().Version(), Grant: s.view.Invite().Seed.GrantName(s.ch)}
	if h := s.view.Head(); h != nil {
		q.Signed = h.Time
		if _, ok := s.view.EpochKey(h.Epoch); !ok {
			q.Have = 0 // "nothing newer" would bring no grant
		}
	}
	shown := uint64(0)
	if s.shown != nil {
		shown = s.shown.Size
	}
	s.asks.doubt(!s.view.Witnessed().Met())
	s.asks.set(q, s.view.Roots(), shown)
}

// hear takes in what a path said, and whatever else has been said by now. Its
// error is the library's.
func (s *session) hear(ctx context.Context, h heard) error {
	s.judge(ctx, h)
	for {
		select {
		case h := <-s.asks.out:
			s.judge(ctx, h)
			continue
		default:
		}
		break
	}
	if err := s.tellLight(ctx); err != nil {
		return err
	}
	if !s.changed {
		return nil
	}
	s.changed = false
	if err := s.saveState(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	s.findPaths()
	s.askThem()
	return nil
}

func (s *session) judge(ctx context.Context, h heard) {
	a := h.ask
	a.last = time.Now()
	switch {
	case h.begun:
		a.begun, a.at, a.head = true, a.last, nil
		a.opens, a.cut = h.opens, h.cut
		s.event("head", EventAsked, a.Path)
	case h.head != nil:
		s.extend(h.roots)
		s.judgeHead(a, h.head)
		s.cutShort(a)
	case h.grant != nil:
		s.judgeGrant(a, h.grant)
	case h.end:
		s.judgeEnd(a, h)
	case h.again:
		s.failedFor(a, h.err)
	default:
		s.judgeBlock(ctx, a, h.block)
	}
}

func (s *session) extend(roots *channel.Roots) {
	notes, before := roots.Notes(), generation(s.view.Roots())
	for _, note := range notes[min(int(s.view.Roots().Version()), len(notes)):] {
		if s.view.ExtendRoots(note) == nil {
			s.changed = true
		}
	}
	if generation(s.view.Roots()) > before {
		s.beginAnew()
	}
}

func (s *session) judgeHead(a *ask, head *channel.Head) {
	// Again, with the chain that we keep: another path may have shown another.
	h, err := s.view.Check(head.Text())
	switch {
	case errors.Is(err, channel.ErrOldRoots):
		s.lags(a)
		return
	case err == nil && a.head != nil && !sameTree(a.head, h):
		err = errTwoHeads
	}
	if err != nil {
		if errors.Is(err, errTwoHeads) && s.strays(h) {
			s.accuse(h)
		}
		s.lied(a.lane, err)
		return
	}
	s.answered(a)
	a.head = h
	r := s.report(a.Path)
	r.Head, r.Tree, r.HeadTime = h.Size, treeMark(h), h.Time
	news := true
	v := channel.Provisional
	if s.view.Overrules(h) {
		s.accuse(h) // all that is here goes for it, and that not before its front page has come
	} else {
		v = s.view.Consider(h)
	}
	switch v {
	case channel.Newer, channel.Heartbeat:
		s.changed = true
		s.res.New = s.res.New || v == channel.Newer
		s.res.Head = h
		s.target(h, a)
	case channel.Provisional:
		s.target(h, a)
	case channel.Same:
		s.target(h, a)
	case channel.Fork:
		s.changed, s.res.Fork, news = true, true, false
		s.forked(a, s.before.Clone().Consider(h) == channel.Fork)
	case channel.Overruled:
		s.overruled(h, a)
	case channel.Stale:
		r.Error, news = laggard, false
	}
	if news && s.first.IsZero() {
		s.first = time.Now()
	}
	if s.res.ToHead == 0 || s.shown != nil && h.Size > s.shown.Size {
		s.res.ToHead = time.Since(s.start)
	}
}

// accuse keeps a head as evidence of a fork.
func (s *session) accuse(h *channel.Head) {
	s.view.Accuse(h)
	s.changed, s.res.Fork = true, true
}

// answered notes that a path is open.
func (s *session) answered(a *ask) {
	a.answered = true
	a.took = time.Since(a.at)
	if s.any.IsZero() {
		s.any = time.Now()
	}
	r := s.report(a.Path)
	if r.State == stateLied {
		return // once is enough
	}
	s.crew.answered(a.lane, a.took)
	r.State, r.Error, r.At = stateOK, "", s.now()
	r.Seen = r.At
	s.event("head", EventAnswered, a.Path)
}

func (s *session) judgeGrant(a *ask, grant []byte) {
	if slices.ContainsFunc(s.grants, func(g []byte) bool { return bytes.Equal(g, grant) }) {
		return // opening one takes a while
	}
	if len(s.grants) < maxGrants {
		s.grants = append(s.grants, grant)
	}
	if err := s.view.SetGrant(grant); err != nil {
		s.log.Info("grant refused", "path", a.Kind, "error", err)
		return
	}
	s.changed = true
}

func (s *session) judgeBlock(ctx context.Context, a *ask, b bundle.Checked) {
	size := len(b.Data())
	a.blocks += int64(size)
	held := 0
	for _, st := range s.stash {
		held += len(st.block.Data())
	}
	_, twice := s.stash[b.CID()]
	if !twice {
		_, err := s.Library.Block(ctx, b.CID())
		twice = err == nil
	}
	if twice || held+size > maxStashes {
		s.waste(a.lane, int64(size))
		return
	}
	s.crew.keeps(a.lane, a.took)
	s.stash[b.CID()] = stashed{a.lane, b}
	s.again()
}

func (s *session) judgeEnd(a *ask, h heard) {
	a.ended, a.err = true, h.err
	switch {
	case errors.Is(h.err, channel.ErrOldRoots):
		s.lags(a)
		s.again()
		return
	case h.lied:
		s.lied(a.lane, h.err)
	case errors.Is(h.err, ErrBudget):
		s.broke = true // our limit, not the path's fault
		return
	case h.err != nil:
		s.failedFor(a, h.err)
	case h.same:
		s.answered(a)
		if s.first.IsZero() {
			s.first = time.Now()
		}
		if s.res.ToHead == 0 {
			s.res.ToHead = time.Since(s.start)
		}
		if held := s.view.Head(); held != nil {
			s.target(held, nil)
		}
	case a.opens:
		s.crew.opened(a.lane, a.blocks, a.took, time.Since(a.at)-a.took)
	}
	if h.err != nil {
		s.failures = append(s.failures, fmt.Errorf("%s: %w", a.Name, h.err))
	}
	s.again()
}

// failedFor notes that a path did not bring what it was asked for at the start.
func (s *session) failedFor(a *ask, err error) {
	s.crew.doubt(a.lane)
	if r := s.report(a.Path); r.State != stateLied {
		r.State, r.Error, r.At = stateFailed, err.Error(), s.now()
		s.event("head", EventFailed, a.Path)
	}
	s.log.Info("path failed", "path", a.Kind, "error", err)
}

// lied drops a path for good.
func (s *session) lied(l *lane, err error) {
	s.crew.lie(l)
	r := s.report(l.Path)
	if r.State != stateLied {
		s.event(s.stage, EventLied, l.Path)
		s.log.Warn("path lied", "path", l.Kind, "error", err)
	}
	r.State, r.Error, r.At = stateLied, err.Error(), s.now()
}

// frontHere reports whether a head's front page can be opened from what is here.
func (s *session) frontHere(h *channel.Head) bool {
	vol, err := infoOf(h).volume(s.view)
	if err != nil {
		return false
	}
	vol.Get = func(c cid.Cid) ([]byte, error) {
		if st, ok := s.stash[c]; ok {
			return st.block.Data(), nil
		}
		return getBlock(context.Background(), s.Library, c)
	}
	_, err = vol.Front()
	return !errors.Is(err, bundle.ErrMissing)
}

// saveState stores the view, after what it has withdrawn is gone.
func (s *session) saveState(ctx context.Context) error {
	if err := s.withdraw(ctx); err != nil {
		return err
	}
	state, err := s.view.Marshal()
	if err != nil {
		return err
	}
	return s.Library.SetState(ctx, s.ch, state)
}

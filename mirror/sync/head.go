package sync

import (
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

const (
	// After the first head that verifies, others get as long again as it took,
	// within these bounds: a higher one may be on its way.
	minGrace = 50 * time.Millisecond
	maxGrace = 2 * time.Second
	// maxRootNotes bounds how many root notes one path may make us fetch.
	maxRootNotes = 256
	// maxStash bounds the blocks kept of one opening answer, in bytes.
	maxStash = 8 << 20
	// maxPieces bounds the pieces of one opening answer.
	maxPieces = 2 * maxRootNotes
	// openPatience is how long an opening may bring nothing once the head is
	// here: the rest can be had in other ways.
	openPatience = 15 * time.Second
	// maxTargets bounds how many provisional heads one sync tries.
	maxTargets = 4
	// headTimeout bounds the whole search.
	headTimeout = 2 * time.Minute
)

// found is what one path said, verified on its own.
type found struct {
	path  transport.Path
	roots *channel.Roots
	head  *channel.Head
	grant []byte
	stash map[cid.Cid][]byte
	// same: the path answered that it has nothing newer.
	same bool
	err  error
	lied bool
}

// size is that of the head's tree, 0 without a head.
func (f *found) size() uint64 {
	if f.head == nil {
		return 0
	}
	return f.head.Size
}

// head asks all paths and returns the heads whose front pages are to be tried,
// best first: provisional ones, then the one held. It returns none if nothing is
// held and no path had any; the error then names each path's failure.
func (s *session) head(ctx context.Context) ([]*channel.Head, error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	answers := make(chan found)
	waiting := map[string]transport.Path{}
	roots, have := s.view.Roots(), s.view.Size()
	if !s.keyed() {
		have = 0 // "nothing newer" would bring no grant
	}
	for _, p := range s.paths {
		if p.Heads == nil {
			continue
		}
		waiting[p.Name] = p
		ask := transport.Ask{Channel: s.ch, Have: have, Root: roots.Version(), Grant: s.view.Invite().Seed.GrantName(s.ch)}
		go func() {
			f := s.ask(ctx, p, roots, ask)
			select {
			case answers <- f:
			case <-ctx.Done():
			}
		}()
	}
	var all []found
	var grace <-chan time.Time
	for len(waiting) > 0 {
		select {
		case f := <-answers:
			delete(waiting, f.path.Name)
			all = append(all, f)
			if grace == nil && (f.same || f.head != nil && f.head.Size >= have) {
				grace = time.After(min(max(time.Since(s.start), minGrace), maxGrace))
			}
			continue
		case <-grace:
			for _, p := range waiting {
				if time.Since(s.start) > p.Hints.Patience { // else it was not even asked
					*s.report(p) = PathReport{Name: p.Name, Kind: p.Kind, State: stateSlow, Error: "no answer before others had the news", At: time.Now()}
				}
			}
		case <-ctx.Done():
			for _, p := range waiting {
				all = append(all, found{path: p, roots: roots, err: errNoAnswer})
			}
		}
		break
	}
	cancel()
	targets, err := s.judge(context.WithoutCancel(ctx), all)
	if caller.Err() != nil {
		return nil, caller.Err()
	}
	return targets, err
}

var errNoAnswer = errors.New("no answer")

// keyed reports whether the edition held can be opened.
func (s *session) keyed() bool {
	h := s.view.Head()
	if h == nil {
		return false
	}
	_, ok := s.view.EpochKey(h.Epoch)
	return ok
}

// ask gets one path's opening: with Opener in one flight, else step by step.
// Whatever does not verify makes the path a liar.
func (s *session) ask(ctx context.Context, p transport.Path, roots *channel.Roots, ask transport.Ask) found {
	f := found{path: p, roots: roots, stash: map[cid.Cid][]byte{}}
	select {
	case <-time.After(p.Hints.Patience):
	case <-ctx.Done():
		f.err = ctx.Err()
		return f
	}
	if o, ok := p.Heads.(transport.Opener); ok {
		f.open(ctx, o, ask)
	} else {
		raw, err := p.Heads.Head(ctx, ask.Channel, ask.Have)
		f.take(ctx, raw, err)
	}
	if f.head != nil && f.head.Size > ask.Have && f.grant == nil && !f.lied {
		// Not having one is no failure of the path: the grant may be held already.
		f.grant, _ = p.Heads.Grant(ctx, ask.Channel, ask.Grant)
	}
	return f
}

func (f *found) open(ctx context.Context, o transport.Opener, ask transport.Ask) {
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	stashed, pieces := 0, 0
	var stalled *time.Timer
	for piece, err := range o.Open(opening, ask) {
		if err != nil {
			f.fail(err)
			return
		}
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
			if f.take(ctx, piece.Data, nil); f.err != nil {
				return
			}
			if stalled == nil {
				stalled = time.AfterFunc(openPatience, cancel)
				defer stalled.Stop()
			}
		case transport.PieceGrant:
			f.grant = piece.Data
		case transport.PieceBlock:
			if err := bundle.CheckBlock(piece.CID, piece.Data); err != nil {
				f.lie(err)
				return
			}
			if stashed += len(piece.Data); stashed > maxStash {
				return
			}
			f.stash[piece.CID] = piece.Data
		}
	}
	if f.head == nil && f.err == nil && !f.same {
		f.fail(transport.ErrNotFound)
	}
}

// take verifies a head, fetching the root notes it needs.
func (f *found) take(ctx context.Context, raw []byte, err error) {
	if err != nil {
		f.fail(err)
		return
	}
	for range maxRootNotes {
		if f.roots.Version() > 0 {
			h, err := f.roots.Head(raw)
			if err == nil {
				f.head = h
				return
			}
			if !errors.Is(err, channel.ErrNewerRoots) {
				f.lie(err)
				return
			}
		}
		note, err := f.path.Heads.RootNote(ctx, f.roots.Channel(), f.roots.Version()+1)
		if err != nil {
			f.fail(fmt.Errorf("root note %d: %w", f.roots.Version()+1, err))
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

func (f *found) fail(err error) {
	if errors.Is(err, transport.ErrNoNewer) {
		f.same = true
		return
	}
	// What the bytes of a head or a block prove wrong is no accident.
	f.lied = errors.Is(err, bundle.ErrBlock) || errors.Is(err, channel.ErrHead) || errors.Is(err, channel.ErrRootNote)
	f.err = err
}

func (f *found) lie(err error) { f.err, f.lied = err, true }

// judge takes what all paths said into the view, the highest head first.
func (s *session) judge(ctx context.Context, all []found) ([]*channel.Head, error) {
	slices.SortStableFunc(all, func(a, b found) int {
		if c := cmp.Compare(b.size(), a.size()); c != 0 || a.head == nil {
			return c
		}
		return b.head.Time.Compare(a.head.Time)
	})
	var failures []error
	var provisional []*channel.Head
	changed := false
	for _, f := range all {
		r := s.report(f.path)
		r.At = time.Now()
		switch {
		case f.lied:
			r.State, r.Error = stateLied, f.err.Error()
		case f.err != nil:
			r.State, r.Error = stateFailed, f.err.Error()
		default:
			r.State, r.Error = stateOK, ""
		}
		if f.err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", f.path.Name, f.err))
			s.log.Info("path failed", "path", f.path.Kind, "error", f.err)
		}
		for _, note := range f.roots.Notes()[min(int(s.view.Roots().Version()), len(f.roots.Notes())):] {
			if s.view.ExtendRoots(note) == nil {
				changed = true
			}
		}
		if f.grant != nil && s.view.Roots().Version() > 0 {
			if err := s.view.SetGrant(f.grant); err != nil {
				s.log.Info("grant refused", "path", f.path.Kind, "error", err)
			} else {
				changed = true
			}
		}
		if f.head == nil {
			continue
		}
		// Again, with the chain that we keep: another path may have shown another.
		h, err := s.view.Check(f.head.Text())
		if err != nil {
			r.State, r.Error = stateLied, err.Error()
			continue
		}
		for c, b := range f.stash {
			s.stash[c] = stashed{f.path, b}
		}
		switch v := s.view.Consider(h); v {
		case channel.Newer, channel.Heartbeat:
			changed = true
			s.res.New = s.res.New || v == channel.Newer
		case channel.Provisional:
			if len(provisional) < maxTargets && !slices.ContainsFunc(provisional, func(o *channel.Head) bool { return o.Tree == h.Tree }) {
				provisional = append(provisional, h)
			}
		case channel.Fork:
			changed, s.res.Fork = true, true
			r.State, r.Error = stateLied, channel.ErrFork.Error()
		case channel.Stale:
			r.Error = "it lags behind: an older edition"
		case channel.Same:
		}
	}
	if changed {
		if err := s.saveState(ctx); err != nil {
			return nil, err
		}
		s.findPaths()
	}
	// Every provisional head: one that proves to be of a fork must not hide another.
	targets := provisional
	if h := s.view.Head(); h != nil {
		targets = append(targets, h)
	}
	if len(targets) == 0 {
		return nil, joinPaths(ErrNoPath, failures)
	}
	if len(failures) == len(all) && len(all) > 0 && !s.res.New {
		// Nobody answered. What is held may still lack texts, so go on, but say so.
		s.res.Unreached = true
		s.nobody = joinPaths(ErrNoPath, failures)
	}
	readable := func(h *channel.Head) bool { _, ok := s.view.EpochKey(h.Epoch); return ok }
	if !slices.ContainsFunc(targets, readable) {
		return nil, joinPaths(ErrNoKey, failures)
	}
	return targets, nil
}

// joinPaths is one line: a reason and each path's failure.
func joinPaths(reason error, failures []error) error {
	for _, f := range failures {
		reason = fmt.Errorf("%w; %w", reason, f)
	}
	return reason
}

package sync

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	// maxForkedLog is how many editions' leaf hashes are fetched for evidence: 2 MB.
	maxForkedLog = 1 << 16
	// proveTime is how long a sync may take for evidence when all else is done.
	proveTime = 10 * time.Second
)

// prove gets the logs of forks that are larger than what is held, so that the
// evidence convinces others, too. Without them there are two heads of different
// sizes, which only who holds the leaves between knows to contradict each other. It
// fails silently: who shows a fork need not show its log, and the next sync tries
// again.
func (s *session) prove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, proveTime)
	defer cancel()
	proven := false
	for _, h := range s.view.Unproven() {
		if h.Edition > maxForkedLog {
			continue
		}
		for _, a := range s.list {
			if a.head == nil || !sameTree(a.head, h) || a.Blocks == nil {
				continue
			}
			if leaves, err := s.logOf(ctx, a, h); err == nil && s.view.Prove(h, leaves) == nil {
				proven = true
				break
			}
		}
	}
	if !proven {
		return
	}
	s.changed = true
	if err := s.saveState(context.WithoutCancel(ctx)); err != nil {
		s.log.Warn("evidence is not stored", "error", err)
	}
}

// logOf has a path that shows a head show its log as well. That path may be one that
// nothing else is asked of any more, since it has lied. Nothing of it is stored.
func (s *session) logOf(ctx context.Context, a *ask, h *channel.Head) ([]channel.Hash, error) {
	info := infoOf(h)
	vol, err := info.volume(s.view)
	if err != nil {
		return nil, err
	}
	held := map[cid.Cid][]byte{}
	vol.Get = func(c cid.Cid) ([]byte, error) {
		if b, ok := held[c]; ok {
			return b, nil
		}
		return nil, bundle.ErrMissing
	}
	for range maxRounds {
		leaves, err := vol.Hashes(0)
		var m *bundle.MissingError
		if !errors.As(err, &m) {
			return leaves, err
		}
		before := len(held)
		if err := s.fetchInto(ctx, held, a, transport.Request{Edition: info.edition(s.ch), Wants: m.Wants}); err != nil {
			return nil, err
		}
		if len(held) == before {
			break
		}
	}
	return nil, transport.ErrNotFound
}

// fetchInto puts what a path has of some wants into held, checked, within the
// budget.
func (s *session) fetchInto(ctx context.Context, held map[cid.Cid][]byte, a *ask, r transport.Request) error {
	wanted, room := map[cid.Cid]bool{}, int64(len(r.Wants))*bundle.MaxBlock
	for _, w := range r.Wants {
		wanted[w.CID] = true
	}
	if !s.purse.reserve(room) {
		return ErrBudget
	}
	var came int64
	defer func() { s.purse.settle(room, came) }()
	for b, err := range a.Blocks.Fetch(ctx, r) {
		came += int64(len(b.Data))
		switch {
		case errors.As(err, new(*transport.WantError)):
		case err != nil:
			return err
		case !wanted[b.CID]:
			return bundle.ErrBlock
		default:
			if err := bundle.CheckBlock(b.CID, b.Data); err != nil {
				return err
			}
			held[b.CID] = b.Data
		}
	}
	return nil
}

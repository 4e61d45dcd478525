package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tamizdat/bundle/channel"
)

// errUnseenBeat: a heartbeat would take the place of what more witnesses have seen.
var errUnseenBeat = errors.New("the heartbeat was not sent: too few witnesses could be reached, and the head that enough of them have seen stays; send it when they can be")

// Heartbeat signs the newest edition's head again, with a later time, durably: readers
// who get it know that there was no newer edition then. It says nothing else anew: the
// leaf and the log stay what they are. Push carries it to targets that hold the edition
// already.
//
// A head that enough witnesses have seen gives way only to one that enough of those
// among the targets have cosigned, too: else new readers would be told of too few. The
// targets stay open.
func (p *Publisher) Heartbeat(ctx context.Context, targets []Target, now time.Time) error {
	switch {
	case p.Size() == 0:
		return errNothingPacked
	case p.torn():
		return errTorn
	case p.Unsaid():
		return errUnsaid
	case !p.roots.Last().Log.Key.Equal(p.public(p.keys.Log)):
		return errNoLogKey
	}
	n := p.Size() - 1
	old, then, err := p.headUnder(n)
	if err != nil {
		return err
	}
	if !now.Truncate(time.Second).After(old.Time) { // the clock was ahead once
		now = old.Time.Add(time.Second)
	}
	head, err := channel.SignHead(old.Leaf, old.Path, old.Generation, now, p.keys.key(p.keys.Log))
	if err != nil {
		return err
	}
	if head.Tree != old.Tree { // nothing else may ever be signed for one index
		return fmt.Errorf("editions/%d.car does not fit its head; restore it from a backup", n)
	}
	if then.Witnessed(old).Met() && !then.Witnessed(head).Met() {
		_, head = p.collect(ctx, head, then, targets, cosignTime, func(int) bool { return true })
		if !then.Witnessed(head).Met() {
			return errUnseenBeat
		}
	}
	return p.replaceHead(head)
}

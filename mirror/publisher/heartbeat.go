package publisher

import (
	"fmt"
	"time"

	"tamizdat/bundle/channel"
)

// Heartbeat signs the newest edition's head again, with a later time, durably: readers
// who get it know that there was no newer edition then. It says nothing else anew: the
// leaf and the log stay what they are. Push carries it to targets that hold the edition
// already.
func (p *Publisher) Heartbeat(now time.Time) error {
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
	old, err := p.headOf(n)
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
	return p.replaceHead(head)
}

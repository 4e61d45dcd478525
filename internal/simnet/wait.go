package simnet

import (
	"sync"
	"time"
)

// wait waits for cond, whose lock is n.mu, or until a deadline (zero: none).
// The deadline is in the queue only while somebody waits for it, so that the
// deadlines of idle sockets don't hold up the clock. Who is woken looks for
// himself what happened.
func (n *Net) wait(cond *sync.Cond, deadline time.Time) {
	if !deadline.IsZero() {
		e := &event{run: cond.Broadcast}
		n.schedule(e, deadline.Sub(n.epoch))
		defer n.cancel(e)
	}
	cond.Wait()
}

// over reports whether a deadline has passed.
func over(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

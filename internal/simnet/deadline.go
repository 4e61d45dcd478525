package simnet

import (
	"os"
	"sync"
	"time"
)

var errTimeout = os.ErrDeadlineExceeded

// deadline is one of a socket's, guarded by net.mu like the rest of it.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set changes it; when it is over, whoever waits for wake is woken.
func (d *deadline) set(t time.Time, wake *sync.Cond) {
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if t.IsZero() {
		return
	}
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() {
			wake.L.Lock()
			defer wake.L.Unlock()
			wake.Broadcast()
		})
		return
	}
	wake.Broadcast()
}

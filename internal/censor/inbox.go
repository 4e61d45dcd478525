package censor

import (
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// arrival is something that reaches the reader at a time: a datagram, a piece
// of a stream, or an error of the socket below.
type arrival struct {
	due  time.Time
	data []byte
	from net.Addr
	err  error
}

// inbox is what is on its way to the reader, in order of arrival. It is bounded
// by whoever fills it.
type inbox struct {
	mu       sync.Mutex
	items    []arrival
	size     int   // bytes in items
	end      error // what comes after the last item; nil: more may come
	closed   bool
	deadline time.Time
	changed  chan struct{} // closed and replaced when any of it changes
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{})} }

// change runs f under the lock and wakes whoever waits.
func (q *inbox) change(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	close(q.changed)
	q.changed = make(chan struct{})
}

// put adds a. It comes after all that are due at the same time or before; if
// fifo, after all.
func (q *inbox) put(a arrival, fifo bool) {
	q.change(func() {
		i := len(q.items)
		if fifo && i > 0 && a.due.Before(q.items[i-1].due) {
			a.due = q.items[i-1].due
		}
		for i > 0 && a.due.Before(q.items[i-1].due) {
			i--
		}
		q.items = slices.Insert(q.items, i, a)
		q.size += len(a.data)
	})
}

// room reports whether fewer than n bytes and packets wait, and what to wait
// for if not. It says yes when nobody will read any more.
func (q *inbox) room(bytes, packets int) (bool, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed || q.size < bytes && len(q.items) < packets, q.changed
}

// finish says that nothing comes after what is under way but err. at once: not
// even that.
func (q *inbox) finish(err error, atOnce bool) {
	q.change(func() {
		if q.end == nil || atOnce {
			q.end = err
		}
		if atOnce {
			q.items, q.size = nil, 0
		}
	})
}

func (q *inbox) setDeadline(t time.Time) { q.change(func() { q.deadline = t }) }

func (q *inbox) close() {
	q.change(func() { q.closed, q.items, q.size = true, nil, 0 })
}

// take waits for the next arrival and copies it to p. What does not fit is lost
// if it is a datagram, and stays if it is a stream.
func (q *inbox) take(p []byte, stream bool) (int, net.Addr, error) {
	for {
		q.mu.Lock()
		now := time.Now()
		var wake time.Time // when to look again
		switch {
		case q.closed:
			q.mu.Unlock()
			return 0, nil, net.ErrClosed
		case !q.deadline.IsZero() && !q.deadline.After(now):
			q.mu.Unlock()
			return 0, nil, os.ErrDeadlineExceeded
		case len(q.items) > 0 && !q.items[0].due.After(now):
			n, a := q.pop(p, stream)
			q.mu.Unlock()
			return n, a.from, a.err
		case len(q.items) > 0:
			wake = q.items[0].due
		case q.end != nil:
			err := q.end
			q.mu.Unlock()
			return 0, nil, err
		}
		if !q.deadline.IsZero() && (wake.IsZero() || q.deadline.Before(wake)) {
			wake = q.deadline
		}
		changed := q.changed
		q.mu.Unlock()
		await(changed, wake)
	}
}

// pop takes the first item; call with mu held.
func (q *inbox) pop(p []byte, stream bool) (int, arrival) {
	a := q.items[0]
	n := copy(p, a.data)
	if stream && n < len(a.data) {
		q.items[0].data = a.data[n:]
		q.size -= n
		return n, a
	}
	q.items[0] = arrival{}
	q.items = q.items[1:]
	q.size -= len(a.data)
	close(q.changed) // there is room
	q.changed = make(chan struct{})
	return n, a
}

// await waits for c, or until t unless that is zero.
func await(c <-chan struct{}, t time.Time) {
	if t.IsZero() {
		<-c
		return
	}
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	}
}

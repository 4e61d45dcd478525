package simnet

import (
	"time"
)

// queue holds what is still to happen, first things first, and the one timer
// that waits for it. A binary heap of our own: events leave it early all the
// time (timeouts that did not come), and container/heap costs twice as much.
type queue struct {
	net    *Net
	heap   []*event
	seq    uint64
	timer  *time.Timer
	armed  bool
	wakeAt time.Duration // what the timer is set to, if armed
	firing bool          // fire is at work and sets the timer itself when done
}

// event happens at a time, after those put in before it for the same time:
// run is called, or else p arrives.
type event struct {
	at  time.Duration // since Net.epoch
	seq uint64
	pos int // place in the heap plus one, 0 if not in it
	run func()
	p   *packet
}

func (q *queue) init(n *Net) { q.net = n }

// now is the time since the net was made.
func (n *Net) now() time.Duration { return time.Since(n.epoch) }

// schedule puts e in, or moves it.
func (q *queue) schedule(e *event, at time.Duration) {
	if q.net.closed {
		return
	}
	if e.pos > 0 {
		q.remove(e)
	}
	q.seq++
	e.at, e.seq = at, q.seq
	q.heap = append(q.heap, e)
	e.pos = len(q.heap)
	q.up(e.pos - 1)
	q.arm()
}

// cancel takes e out, if it is in.
func (q *queue) cancel(e *event) {
	if e.pos > 0 {
		q.remove(e)
		q.arm()
	}
}

// stop empties the queue for good.
func (q *queue) stop() {
	for _, e := range q.heap {
		e.pos = 0
	}
	q.heap = nil
	q.arm()
}

// arm sets the timer. One that is set too early is left alone, since finding
// nothing to do once is cheaper than setting it each time; but an empty queue
// has none, so that the fake clock can jump.
func (q *queue) arm() {
	switch {
	case q.firing:
	case len(q.heap) == 0:
		if q.armed {
			q.timer.Stop()
			q.armed = false
		}
	case !q.armed || q.heap[0].at < q.wakeAt:
		q.armed, q.wakeAt = true, q.heap[0].at
		d := max(0, q.wakeAt-q.net.now())
		if q.timer == nil {
			q.timer = time.AfterFunc(d, q.fire)
		} else {
			q.timer.Reset(d)
		}
	}
}

// fire does all that is due.
func (q *queue) fire() {
	n := q.net
	n.mu.Lock()
	defer n.mu.Unlock()
	q.armed, q.firing = false, true
	for now := n.now(); ; {
		if len(q.heap) > 0 && q.heap[0].at <= now {
			e := q.heap[0]
			q.remove(e)
			if e.p != nil {
				n.arrive(e.p)
			} else {
				e.run()
			}
		} else if len(n.acks) > 0 {
			n.flushAcks()
		} else {
			break
		}
	}
	q.firing = false
	q.arm()
}

func (q *queue) less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *queue) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].pos, q.heap[j].pos = i+1, j+1
}

func (q *queue) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q.heap) {
			return
		}
		if child+1 < len(q.heap) && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			return
		}
		q.swap(i, child)
		i = child
	}
}

func (q *queue) remove(e *event) {
	i, last := e.pos-1, len(q.heap)-1
	if i != last {
		q.swap(i, last)
	}
	q.heap[last] = nil
	q.heap = q.heap[:last]
	e.pos = 0
	if i != last {
		q.down(i)
		q.up(i)
	}
}

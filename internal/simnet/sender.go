package simnet

import (
	"math"
	"net"
	"slices"
	"sort"
	"sync"
	"syscall"
	"time"
)

// What congestion control goes by: RFC 5681 with the initial window of RFC 6928,
// and a timeout as Linux has it.
const (
	initialWindow = 10 // segments
	minTimeout    = 200 * time.Millisecond
	maxTimeout    = time.Minute
	maxTries      = 15 // timeouts in a row before the connection is given up
	duplicates    = 3  // later segments that came, before one counts as lost
)

// sender is what an end knows of what it sends.
type sender struct {
	unsent   []*segment
	waiting  int        // bytes in unsent
	flight   []*segment // sent and not acknowledged, by offset
	una      uint64     // offset of the first of flight
	sentTo   uint64     // end of the last
	written  uint64     // end of unsent
	limit    uint64     // how far the peer lets us send
	finished bool       // FIN is in unsent, in flight, or done
	writing  bool       // somebody is in Write
	writable sync.Cond
	wd       time.Time

	cwnd, ssthresh int
	inFlight       int    // bytes that are under way: neither lost nor known to have come
	nLost          int    // segments of flight that are lost
	judged         uint64 // segments before this have been held lost or not
	recovering     bool
	timedOut       bool   // recovering from a timeout
	recoverTo      uint64 // recovering ends when this is acknowledged

	peak     int    // most that was under way lately: a window that isn't used doesn't grow
	peakTo   uint64 // lately is until this is acknowledged
	lastSent time.Duration
	srtt     time.Duration
	lastRTT  time.Duration
}

// mss is how many bytes a segment holds.
func (c *tcpConn) mss() int { return max(c.out.mtu()-c.out.header(), 64) }

// enqueue cuts bytes into segments.
func (c *tcpConn) enqueue(b []byte) {
	mss := c.mss()
	if last := len(c.unsent) - 1; last >= 0 {
		s := c.unsent[last]
		k := min(max(mss-len(s.data), 0), len(b))
		s.data = append(s.data, b[:k]...)
		c.waiting += k
		c.written += uint64(k)
		b = b[k:]
	}
	if len(b) == 0 {
		return
	}
	own := slices.Clone(b)
	for len(own) > 0 {
		k := min(mss, len(own))
		c.unsent = append(c.unsent, &segment{off: c.written, data: own[:k:k]})
		c.waiting += k
		c.written += uint64(k)
		own = own[k:]
	}
}

// finish puts FIN behind what was written.
func (c *tcpConn) finish() {
	if c.finished {
		return
	}
	c.finished = true
	if last := len(c.unsent) - 1; last >= 0 {
		c.unsent[last].fin = true
	} else {
		c.unsent = append(c.unsent, &segment{off: c.written, fin: true})
	}
	c.written++
	c.writable.Broadcast()
	c.pump()
}

// pump sends what the windows let it: first what was lost.
func (c *tcpConn) pump() {
	if c.state != stateOpen || c.err != nil || c.frozen || len(c.unsent) == 0 && c.nLost == 0 {
		return
	}
	c.rest()
	mss := c.mss()
	for i := 0; c.nLost > 0 && i < len(c.flight); i++ {
		s := c.flight[i]
		if !s.lost {
			continue
		}
		if len(s.data) > mss && s.got == 0 {
			c.flight = slices.Insert(c.flight, i+1, s.split(mss))
			c.nLost++
		}
		if !c.fits(s) {
			break
		}
		s.lost = false
		c.nLost--
		c.transmit(s)
	}
	full := c.waiting >= sendBuffer
	for c.nLost == 0 && len(c.unsent) > 0 {
		s := c.unsent[0]
		if len(s.data) > mss {
			c.unsent = slices.Insert(c.unsent, 1, s.split(mss))
		}
		if !c.fits(s) || s.end() > c.limit {
			break
		}
		c.unsent[0] = nil
		c.unsent = c.unsent[1:]
		c.waiting -= len(s.data)
		c.flight = append(c.flight, s)
		c.sentTo = s.end()
		c.transmit(s)
	}
	if len(c.unsent) == 0 {
		c.unsent = nil
	}
	if full && c.waiting < sendBuffer {
		c.writable.Broadcast()
	}
	if c.inFlight > c.peak || c.una >= c.peakTo {
		c.peak, c.peakTo = c.inFlight, c.sentTo
	}
}

// split cuts a segment down and returns its rest.
func (s *segment) split(at int) *segment {
	rest := &segment{off: s.off + uint64(at), data: s.data[at:], fin: s.fin, lost: s.lost, times: s.times, sent: s.sent}
	s.data, s.fin = s.data[:at:at], false
	return rest
}

// fits reports whether the congestion window has room; there is always room for
// one segment.
func (c *tcpConn) fits(s *segment) bool {
	return c.inFlight == 0 || c.inFlight+s.size() <= c.cwnd
}

func (c *tcpConn) transmit(s *segment) {
	n := c.net
	now := n.now()
	c.lastSent, s.sent = now, now
	s.times++
	c.inFlight += s.size()
	p := n.packet(c.out)
	p.seg, p.from, p.to = s, c, c.peer
	n.send(p, len(s.data)+c.out.header())
	if c.timer.pos == 0 {
		c.armIn(c.timeout())
	}
}

// rest halves the window for each timeout in which nothing was sent, down to the
// initial one (RFC 2861, as Linux has it).
func (c *tcpConn) rest() {
	if c.inFlight > 0 || c.recovering {
		return
	}
	mss := c.mss()
	initial := min(initialWindow*mss, max(2*mss, 14600))
	idle, step := c.net.now()-c.lastSent, c.timeout()
	for ; idle > step && c.cwnd > initial; idle -= step {
		c.ssthresh = max(c.ssthresh, c.cwnd/4*3)
		c.cwnd = max(c.cwnd/2, initial)
	}
}

// acked is the arrival of an acknowledgement.
func (c *tcpConn) acked(a ack) {
	c.limit = max(c.limit, a.edge)
	before := c.una
	now := c.net.now()
	var sent time.Duration = -1 // when the last segment was sent of which this is the first news
	for len(c.flight) > 0 && c.flight[0].end() <= a.next {
		s := c.flight[0]
		c.flight[0] = nil
		c.flight = c.flight[1:]
		switch {
		case s.lost:
			c.nLost--
		case !s.sacked:
			c.inFlight -= s.size()
		}
		if s.times == 1 && !s.sacked { // of others one can't tell which copy it was (RFC 6298, section 3)
			sent = s.sent
		}
		c.una = s.end()
	}
	if c.una > before {
		if sent >= 0 {
			c.sample(now - sent)
		}
		c.tries = 0
		if len(c.flight) == 0 {
			c.flight = nil
			c.net.cancel(&c.timer)
		} else {
			c.due = now + c.timeout()
		}
	}
	if c.recovering && c.una >= c.recoverTo {
		c.recovering, c.timedOut = false, false
	}
	fresh := c.scan(a)
	if c.una > before && (!c.recovering || c.timedOut) {
		c.grow(int(c.una - before))
	}
	if fresh && !c.recovering {
		c.ssthresh = max(c.cwnd/2, 2*c.mss())
		c.cwnd = c.ssthresh
		c.recovering, c.recoverTo = true, c.sentTo
		if i := slices.IndexFunc(c.flight, func(s *segment) bool { return s.lost }); i >= 0 {
			c.flight[i].lost = false // the first goes at once, RFC 6675 section 5
			c.nLost--
			c.transmit(c.flight[i])
			c.due = now + c.timeout()
		}
	}
	c.pump()
	c.retire()
}

// scan marks what came behind a gap, and what is held lost for that; it reports
// whether something is.
func (c *tcpConn) scan(a ack) bool {
	if a.high <= c.una {
		return false
	}
	end := sort.Search(len(c.flight), func(i int) bool { return c.flight[i].off >= a.high })
	for _, s := range c.flight[:end] {
		if s.got == 0 || s.got > a.count || s.sacked {
			continue
		}
		s.sacked = true
		if s.lost {
			s.lost = false
			c.nLost--
		} else {
			c.inFlight -= s.size()
		}
	}
	came := 0
	for end > 0 && came < duplicates {
		if end--; c.flight[end].sacked {
			came++
		}
	}
	if came < duplicates {
		return false
	}
	start := sort.Search(end, func(i int) bool { return c.flight[i].off >= c.judged })
	fresh := false
	for _, s := range c.flight[start:end] {
		if s.sacked || s.lost || s.times > 1 {
			continue
		}
		s.lost = true
		c.nLost++
		c.inFlight -= s.size()
		fresh = true
	}
	c.judged = max(c.judged, c.flight[end].off)
	return fresh
}

// grow widens the window for acknowledged bytes, if it was used.
func (c *tcpConn) grow(acked int) {
	switch mss := c.mss(); {
	case c.cwnd < c.ssthresh:
		if c.cwnd < 2*c.peak || c.timedOut {
			c.cwnd += acked
		}
	case c.peak+mss >= c.cwnd:
		c.cwnd += max(1, mss*min(acked, c.cwnd)/c.cwnd)
	}
	c.cwnd = min(c.cwnd, math.MaxInt32)
}

// sample takes a measured round trip in (RFC 6298).
func (c *tcpConn) sample(rtt time.Duration) {
	c.lastRTT = rtt
	if c.srtt == 0 {
		c.srtt = rtt
	} else {
		c.srtt += (rtt - c.srtt) / 8
	}
}

// timeout is how long an acknowledgement may take.
func (c *tcpConn) timeout() time.Duration {
	t := max(minTimeout, 2*max(c.srtt, c.lastRTT))
	return min(t<<min(c.tries, 20), maxTimeout)
}

// armIn sets the timer.
func (c *tcpConn) armIn(d time.Duration) {
	c.due = c.net.now() + d
	c.net.schedule(&c.timer, c.due)
}

// onTimer sends again what was not answered. Towards a dead host nothing is
// sent until it is back, or the clock would never come to rest.
func (c *tcpConn) onTimer() {
	now := c.net.now()
	switch {
	case now < c.due:
		c.net.schedule(&c.timer, c.due)
	case c.state == stateSYN:
		c.tries++
		switch {
		case c.listener == nil && c.tries > synTries, c.listener != nil && c.tries > synAckTries:
			c.die(syscall.ETIMEDOUT)
		case c.listener == nil:
			c.sendSYN()
		default:
			c.sendSYNACK()
		}
	case c.host.down || c.peer.host.down:
		if c.closed {
			c.die(net.ErrClosed)
		}
	default:
		if c.tries++; c.tries > maxTries {
			c.die(syscall.ETIMEDOUT)
			return
		}
		if c.tries == 1 {
			c.ssthresh = max(c.cwnd/2, 2*c.mss())
		}
		c.cwnd = c.mss()
		c.recovering, c.timedOut, c.recoverTo = true, true, c.sentTo
		for _, s := range c.flight {
			if !s.lost && !s.sacked {
				s.lost = true
				c.nLost++
			}
		}
		c.inFlight = 0
		c.pump()
	}
}

// thaw has an end go on when a host is back.
func (c *tcpConn) thaw() {
	if c.state != stateOpen || c.err != nil || c.frozen {
		return
	}
	c.control(pktAck) // one that said there is room may have vanished
	if len(c.flight) > 0 && c.timer.pos == 0 {
		c.armIn(c.timeout())
	}
	c.pump()
}

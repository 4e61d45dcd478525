package simnet

import (
	"sync"
	"time"
)

// receiver is what an end knows of what comes.
type receiver struct {
	inbox    []*segment // in order, the first from headRead on
	headRead int
	unread   int    // bytes in inbox
	next     uint64 // offset of what comes next
	early    map[uint64]*segment
	count    uint64 // segments that came
	high     uint64 // end of the furthest
	edge     uint64 // how far the peer may send, as it was told last
	owes     bool   // an acknowledgement
	eof      bool
	deaf     bool // CloseRead
	readable sync.Cond
	rd       time.Time
}

// take moves bytes that have come to the reader.
func (c *tcpConn) take(b []byte) int {
	k := 0
	for k < len(b) && len(c.inbox) > 0 {
		s := c.inbox[0]
		m := copy(b[k:], s.data[c.headRead:])
		k += m
		if c.headRead += m; c.headRead == len(s.data) {
			c.inbox[0] = nil
			c.inbox = c.inbox[1:]
			c.headRead = 0
		}
	}
	if len(c.inbox) == 0 {
		c.inbox = nil
	}
	c.unread -= k
	if c.err == nil && c.allowed() >= c.edge+receiveWindow/4 {
		c.control(pktAck)
	}
	return k
}

// allowed is how far the peer may send.
func (c *tcpConn) allowed() uint64 { return c.next - uint64(c.unread) + receiveWindow }

// arrived is the arrival of a segment.
func (c *tcpConn) arrived(s *segment) {
	if s.got == 0 {
		if c.closed && len(s.data) > 0 { // nobody will ever read it
			c.reset()
			return
		}
		c.count++
		s.got = c.count
		c.high = max(c.high, s.end())
		if s.off == c.next {
			for ; s != nil; s = c.early[c.next] {
				delete(c.early, s.off)
				c.accept(s)
			}
			c.readable.Broadcast()
		} else {
			if c.early == nil {
				c.early = make(map[uint64]*segment)
			}
			c.early[s.off] = s
		}
	}
	c.owe()
}

// accept takes the segment that comes next.
func (c *tcpConn) accept(s *segment) {
	c.next = s.end()
	if len(s.data) > 0 && !c.deaf {
		c.inbox = append(c.inbox, s)
		c.unread += len(s.data)
	}
	c.eof = c.eof || s.fin
}

// owe has an acknowledgement sent when all that arrives now has arrived.
func (c *tcpConn) owe() {
	if !c.owes {
		c.owes = true
		c.net.acks = append(c.net.acks, c)
	}
}

// ack is what an acknowledgement says: all before next has come, of what lies
// behind that the first count that came (which stands for the ranges of RFC
// 2018), up to high, and that data up to edge is welcome.
type ack struct {
	next, count, high, edge uint64
}

func (c *tcpConn) tellAck() ack {
	c.edge = c.allowed()
	return ack{c.next, c.count, c.high, c.edge}
}

func (n *Net) flushAcks() {
	for _, c := range n.acks {
		c.owes = false
		if c.err != nil || c.frozen {
			continue
		}
		p := n.packet(c.out)
		p.kind, p.from, p.to, p.ack = pktAck, c, c.peer, c.tellAck()
		n.send(p, c.out.header())
	}
	n.acks = n.acks[:0]
}

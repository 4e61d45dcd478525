package dns

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// link is one socket to one resolver, over UDP or TCP, shared by all queries
// under way. Its reader hands every response whose ID and question match to
// whoever waits, as many as come: a forged one is only the first.
type link struct {
	conn   net.Conn
	stream bool

	mu      sync.Mutex
	pending map[uint16]*pending
	dead    error
}

// pending is one query sent, still to be answered, and answered again.
type pending struct {
	name   string
	class  record.Class
	check  func(rec []byte) verdict
	events chan<- event
	try    int
	link   *link
	id     uint16
}

// event is what the reader of a link tells the query that waits.
type event struct {
	kind   answerKind
	rec    []byte // a candidate, and what its check said: take or hold
	check  verdict
	try    int
	stream bool
	err    error // the link broke; nothing else is set
}

var (
	errTooMany  = errors.New("too many queries on one socket")
	errLinkDown = errors.New("connection to the resolver broke")
)

func newLink(ctx context.Context, nw transport.Network, addr string, stream bool) (*link, error) {
	network := "udp"
	if stream {
		network = "tcp"
	}
	conn, err := nw.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, stream: stream, pending: map[uint16]*pending{}}
	go l.read()
	return l, nil
}

// send sends one query; forget must be called on p afterwards if that went well.
func (l *link) send(p *pending) error {
	p.link = l
	l.mu.Lock()
	if l.dead != nil {
		l.mu.Unlock()
		return l.dead
	}
	for range 64 { // a random ID is one more thing to guess for who can't see us
		p.id = uint16(rand.Uint32())
		if l.pending[p.id] == nil {
			break
		}
	}
	if l.pending[p.id] != nil {
		l.mu.Unlock()
		return errTooMany
	}
	l.pending[p.id] = p
	l.mu.Unlock()

	msg := appendQuery(make([]byte, 0, 128), p.id, p.name, p.class)
	_ = l.conn.SetWriteDeadline(time.Now().Add(tcpWrite))
	var err error
	if l.stream {
		err = writeFrame(l.conn, msg)
	} else {
		_, err = l.conn.Write(msg)
	}
	if err != nil {
		p.forget()
		if l.stream {
			l.fail(err) // a half-written frame garbles all that follow
		}
		return err
	}
	return nil
}

func (p *pending) forget() {
	p.link.mu.Lock()
	delete(p.link.pending, p.id)
	p.link.mu.Unlock()
}

// read runs until the socket is closed or useless.
func (l *link) read() {
	buf := make([]byte, maxMessage+1)
	failures := 0
	for {
		msg, err := l.next(buf)
		if err != nil {
			// A refused datagram (ICMP, which anyone may forge) doesn't end a UDP
			// socket; a stream has lost its place at any error.
			if failures++; l.stream || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || failures > 100 {
				l.fail(errLinkDown)
				return
			}
			continue
		}
		failures = 0
		l.deliver(msg)
	}
}

func (l *link) next(buf []byte) ([]byte, error) {
	if l.stream {
		return readFrame(l.conn, buf[:maxMessage])
	}
	n, err := l.conn.Read(buf)
	if err != nil {
		return nil, err
	}
	if n > maxMessage {
		return nil, nil // larger than any answer of ours; the rest was cut off
	}
	return buf[:n], nil
}

func (l *link) deliver(msg []byte) {
	id, ok := readID(msg)
	if !ok {
		return
	}
	l.mu.Lock()
	p := l.pending[id]
	l.mu.Unlock()
	if p == nil {
		return
	}
	a, err := readAnswer(msg, p.name)
	if err != nil {
		return
	}
	if a.kind != answerRecords {
		p.tell(event{kind: a.kind})
		return
	}
	// Checked here and not by who waits, so that no flood of forgeries can crowd
	// the true answer out.
	spoiled := false
	for _, data := range a.txt {
		rec, ok := untext(p.class, data)
		v := drop
		if ok {
			v = p.check(rec)
		}
		if v == drop {
			spoiled = true
			continue
		}
		p.tell(event{kind: answerRecords, rec: rec, check: v})
	}
	if spoiled {
		p.tell(event{kind: answerJunk})
	}
}

// tell never blocks: the buffer takes what matters, and an answer that is lost
// here is lost like any datagram.
func (p *pending) tell(ev event) {
	ev.try, ev.stream = p.try, p.link.stream
	if ev.kind == answerJunk && len(p.events) > cap(p.events)/2 {
		return // the other half is for answers
	}
	select {
	case p.events <- ev:
	default:
	}
}

// fail closes the link and tells all that wait on it.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return
	}
	l.dead = err
	_ = l.conn.Close()
	for _, p := range l.pending {
		p.tell(event{err: err})
	}
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead == nil
}

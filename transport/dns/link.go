package dns

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// stuckAfter is how long a stream may be silent while something was asked over
// it: a censor that freezes connections closes none. It is as long as a kernel
// takes to send a lost segment twice again.
const stuckAfter = 3 * time.Second

// maxUseless is how many messages in a row a stream may bring that answer nothing;
// a few come too late always, at most as many as were asked.
const maxUseless = 2 * maxWindow

// link is one way to one resolver, open and shared by all queries under way.
// Every response whose ID and question match is handed to whoever waits, as many
// as come: a forged one is only the first.
type link struct {
	carry  carrier
	stream bool
	secret bool // nobody sees inside: questions are padded

	mu      sync.Mutex
	pending map[uint16]*pending
	dead    error
	proven  bool      // an answer has come
	waiting time.Time // something was asked then, and nothing has come since; zero if not
}

// carrier takes messages to a resolver; what comes back goes to link.deliver, an
// end to link.fail. Its methods may be called at once.
type carrier interface {
	// send may return before the message is gone. An error means that this one is
	// not, and nothing else; broken that no other one will go.
	send(p *pending, msg []byte) (broken bool, err error)
	close()
}

// pending is one query sent, still to be answered, and answered again.
type pending struct {
	name   string
	mixed  string // how the name is spelled, if not in lower case
	from   *resolver
	class  record.Class
	check  func(rec []byte) verdict
	events chan<- event
	try    int
	link   *link
	id     uint16
	sent   time.Time
	stop   func() // gives up waiting for it, if that costs something; nil if not

	without Without
}

// event is what the reader of a link tells the query that waits.
type event struct {
	kind   answerKind
	rec    []byte // a candidate, and what its check said: take or hold
	check  verdict
	from   *resolver
	try    int
	stream bool
	name   int           // characters of the name asked for
	took   time.Duration // since it was asked
	// mixed: it was spelled with both kinds of letters; recased: and not so in the
	// answer.
	mixed, recased bool
	err            error // the link broke; nothing else is set
}

var (
	errTooMany  = errors.New("too many queries on one socket")
	errLinkDown = errors.New("connection to the resolver broke")
	errFlood    = errors.New("resolver sends what nobody asked for")
	errStuck    = errors.New("connection to the resolver is stuck")
)

// newLink opens a link over UDP, TCP or TLS.
func newLink(ctx context.Context, nw transport.Network, to Address, trust gateway.Trust, stream bool) (*link, error) {
	network := "udp"
	if stream {
		network = "tcp"
	}
	conn, err := nw.Dial(ctx, network, to.dial())
	if err != nil {
		return nil, err
	}
	if to.Way == TLS {
		c := tls.Client(conn, to.tls(trust))
		if err := c.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = c
	}
	s := &socket{conn: conn, stream: stream}
	l := &link{carry: s, stream: stream, secret: to.Way == TLS, pending: map[uint16]*pending{}}
	go s.read(l)
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
	p.sent = time.Now()
	l.pending[p.id] = p
	if l.waiting.IsZero() {
		l.waiting = time.Now()
	}
	l.mu.Unlock()

	name := p.name
	if p.mixed != "" {
		name = p.mixed
	}
	msg := appendQuery(make([]byte, 0, paddedTo), p.id, name, p.class)
	if l.secret {
		msg = padQuery(msg)
	}
	broken, err := l.carry.send(p, msg)
	if err != nil {
		p.forget()
		if broken {
			l.fail(err)
		}
		return err
	}
	return nil
}

func (p *pending) forget() {
	p.link.mu.Lock()
	delete(p.link.pending, p.id)
	p.link.mu.Unlock()
	if p.stop != nil {
		p.stop()
	}
}

// socket carries messages over a datagram socket or a byte stream.
type socket struct {
	conn   net.Conn
	stream bool
	write  sync.Mutex // a frame and its deadline belong together
}

func (s *socket) close() { _ = s.conn.Close() }

func (s *socket) send(_ *pending, msg []byte) (broken bool, err error) {
	if !s.stream {
		_ = s.conn.SetWriteDeadline(time.Now().Add(tcpWrite))
		if _, err = s.conn.Write(msg); err != nil {
			// It may be what became of an earlier one, by ICMP, which anyone may forge.
			_, err = s.conn.Write(msg)
		}
		return false, err
	}
	s.write.Lock()
	defer s.write.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(tcpWrite))
	err = writeFrame(s.conn, msg)
	return err != nil, err // a half-written frame garbles all that follow
}

// read runs until the socket is closed or useless.
func (s *socket) read(l *link) {
	buf := make([]byte, maxMessage+1)
	failures, useless := 0, 0
	for {
		msg, err := s.next(buf)
		if err != nil {
			// A refused datagram (ICMP, which anyone may forge) doesn't end a UDP
			// socket; a stream has lost its place at any error.
			if failures++; s.stream || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || failures > 100 {
				l.fail(errLinkDown)
				return
			}
			continue
		}
		failures = 0
		if l.deliver(msg) || !s.stream {
			useless = 0
		} else if useless++; useless > maxUseless {
			l.fail(errFlood) // on a stream nobody else can put it there
			return
		}
	}
}

func (s *socket) next(buf []byte) ([]byte, error) {
	if s.stream {
		return readFrame(s.conn, buf[:maxMessage])
	}
	n, err := s.conn.Read(buf)
	if err != nil {
		return nil, err
	}
	if n > maxMessage {
		return nil, nil // larger than any answer of ours; the rest was cut off
	}
	return buf[:n], nil
}

// deliver hands a message to whoever waits for it; it reports whether it answers
// anything.
func (l *link) deliver(msg []byte) bool {
	id, ok := readID(msg)
	if !ok {
		return false
	}
	l.mu.Lock()
	p := l.pending[id]
	if p != nil && p.without.Listening {
		delete(l.pending, id)
	}
	l.mu.Unlock()
	return p != nil && p.hear(msg)
}

// hear takes a response that may answer p; it reports whether it does.
func (p *pending) hear(msg []byte) bool {
	a, err := readAnswer(msg, p.name)
	if err != nil || p.without.Case && !spelled(msg, cmp.Or(p.mixed, p.name)) {
		return false
	}
	p.link.answers()
	if a.kind != answerRecords {
		p.tell(event{kind: a.kind})
		return true
	}
	// Checked here and not by who waits, so that no flood of forgeries can crowd
	// the true answer out.
	spoiled, recased := false, p.mixed != "" && !spelled(msg, p.mixed)
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
		p.tell(event{kind: answerRecords, rec: rec, check: v, mixed: p.mixed != "", recased: recased})
	}
	if spoiled {
		p.tell(event{kind: answerJunk})
	}
	return true
}

// answers notes that something came that answers a question.
func (l *link) answers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proven, l.waiting = true, time.Time{}
}

// stuck reports whether a stream has been silent for too long.
func (l *link) stuck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream && !l.waiting.IsZero() && time.Since(l.waiting) >= stuckAfter
}

// worked reports whether an answer has ever come.
func (l *link) worked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proven
}

// tell never blocks: the buffer takes what matters, and an answer that is lost
// here is lost like any datagram.
func (p *pending) tell(ev event) {
	ev.from, ev.try, ev.stream, ev.name = p.from, p.try, p.link.stream, len(p.name)
	ev.took = time.Since(p.sent)
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
	if l.dead != nil {
		l.mu.Unlock()
		return
	}
	l.dead = err
	for _, p := range l.pending {
		p.tell(event{err: err})
	}
	l.mu.Unlock()
	l.carry.close() // TLS says goodbye first, which may take a while
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead == nil
}

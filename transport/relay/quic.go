package relay

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/transport"
)

const (
	// minPacket is the smallest packet size QUIC may start with: larger ones
	// fail silently where the path is narrow.
	minPacket = 1200
	// earlyPadding makes a request in early data larger, in bytes: before the
	// relay knows that the reader's address is his, it may answer with three
	// times what it got (RFC 9000, section 8.1). With this much, and a ClientHello
	// of two packets, 16 KiB go out at once (4,000 sometimes do not do: ClientHellos
	// vary).
	earlyPadding = 4400
	// paddingField carries it. Relays ignore it as any unknown field; it is inside
	// TLS, and never logged.
	paddingField = "X-Padding"
	// maxTokens are kept for the next connections, each used once.
	maxTokens = 4
	// retireTime is how long a connection that is out of use is kept for answers
	// under way: as long as the longest takes.
	retireTime = MaxWait + openTimeout
	// maxBad is how many addresses are remembered as dead.
	maxBad = 8
	// maxUnheard is how often a request is sent again whose header was lost for so
	// long that the relay stopped waiting for it.
	maxUnheard = 3
)

// newQUIC speaks HTTP/3.
//
// A first connection costs a round trip before the request is sent. A later one
// costs none: with a session ticket, a repeatable request goes out in the first
// flight as early data (0-RTT). The address token of an earlier connection, if
// it is from the same address, spares the relay the limit on what it may answer;
// without one the padding lifts it far enough.
func newQUIC(network transport.Network, to peer) conn {
	q := &quicConn{network: network, to: to, worked: worked{keep: to.keep, where: to.where, relay: to.name}}
	for _, v := range versions {
		q.dialers = append(q.dialers, newDialer(to, v))
	}
	q.http = http3.Transport{MaxResponseHeaderBytes: maxHeaderBytes, DisableCompression: true}
	q.life, q.end = context.WithCancel(context.Background())
	return q
}

// quicConn keeps one QUIC connection.
type quicConn struct {
	network transport.Network
	dialers []dialer        // one a version
	http    http3.Transport // makes HTTP/3 of connections; dials none
	life    context.Context // ends with Close
	end     context.CancelFunc
	worked  worked

	mu  sync.Mutex
	to  peer // more of its ports may become known
	cur *line
	// good is the address that answered last, bad are those that did not since,
	// the last one to fail last. An address is never both.
	good netip.Addr
	bad  []netip.Addr
	// doubt: the last connection was never made, or went silent. The next dial
	// then waits until somebody has answered, ticket or not.
	doubt bool
	// vain is how many races in a row nobody has answered, vainAt when the last one
	// ended.
	vain      int
	vainAt    time.Time
	vainWhere string
	// via, if not nil, is the one way to go.
	via *way
}

// line is one connection, from the moment when it is wanted.
type line struct {
	ready chan struct{} // closed when the fields below are set
	at    way
	conn  *quic.Conn
	h3    *http3.ClientConn
	err   error
	// overtaken: nobody had answered on it when somebody did on another one.
	overtaken atomic.Bool
}

// complete reports whether the other end has shown that it is there.
func (l *line) complete() bool {
	select {
	case <-l.conn.HandshakeComplete():
		return true
	default:
		return false
	}
}

var errClosed = errors.New("relay: client is closed")

// RoundTrip implements http.RoundTripper. A request that met a connection at
// its end, or was refused as early data, is sent once more.
func (q *quicConn) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := q.roundTrip(req)
	if err != nil && req.Body != nil {
		_ = req.Body.Close() // as the interface demands; twice does no harm
	}
	return resp, err
}

func (q *quicConn) roundTrip(req *http.Request) (*http.Response, error) {
	for early, unheard := true, 0; ; early = false {
		l, mine, err := q.line(req.Context())
		if err != nil {
			return nil, err
		}
		asEarly := early && isRepeatable(req) && !l.complete()
		out := req
		if asEarly {
			out = padded(req)
		}
		resp, err := l.h3.RoundTrip(out)
		if err == nil && (resp.StatusCode != http.StatusTooEarly || !asEarly) {
			resp.Request = req
			return resp, nil
		}
		if err == nil { // RFC 8470, section 5.2: again, when the handshake is done
			resp.Body.Close()
			continue
		}
		if req.Context().Err() != nil {
			return nil, err
		}
		if isUnheard(err) && unheard < maxUnheard {
			unheard++
		} else {
			again := q.failed(l, err)
			fresh := mine && !asEarly && !errors.Is(err, quic.Err0RTTRejected) && !l.overtaken.Load()
			if !again || !early || fresh { // a connection made for it would fail the same way again
				return nil, err
			}
		}
		if req, err = afresh(req, err); err != nil {
			return nil, err
		}
	}
}

// afresh is a request that can be sent again after it failed with err, which is
// returned if it can't.
func afresh(req *http.Request, err error) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, err
	}
	body, bodyErr := req.GetBody()
	if bodyErr != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Body = body
	return req, nil
}

// padded is req as it goes out in early data.
func padded(req *http.Request) *http.Request {
	out := req.Clone(req.Context())
	out.Method = http3.MethodGet0RTT
	out.Header.Set(paddingField, strings.Repeat("X", earlyPadding)) // no code of QPACK's makes an X shorter
	return out
}

// failed takes a connection out of use if err is about it and not about one
// request, and reports whether the request may get through on another one.
func (q *quicConn) failed(l *line, err error) bool {
	if l.conn.Context().Err() == nil && isReset(err) {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cur == l {
		q.cur = nil
		q.judge(l, err)
	}
	if errors.Is(err, quic.Err0RTTRejected) {
		// The relay does not know the ticket any more. The connection could go on
		// (quic.Conn.NextConnection), but http3 v0.64.1 resets the refused stream in
		// it, whose number is that of the next request.
		_ = l.conn.CloseWithError(0, "")
	}
	// Else, if not dead, it is of no use for new requests. Answers that are under way
	// may still come.
	time.AfterFunc(retireTime, func() { _ = l.conn.CloseWithError(0, "") })
	return true
}

// isReset reports whether err is about one request that was begun, and says
// nothing of its connection. Of a connection that the relay has closed streams
// hear before its context ends; and a rejected request was not begun (RFC 9114,
// section 5.2).
func isReset(err error) bool {
	var reset *quic.StreamError
	return errors.As(err, &reset) && http3.ErrCode(reset.ErrorCode) != http3.ErrCodeRequestRejected
}

// isUnheard reports whether the relay has never got a request's header whole: later
// packets told it that there is one, and it waits only so long (RFC 9114, section
// 8.1). Nothing was begun, and the connection is as good as any.
func isUnheard(err error) bool {
	var reset *quic.StreamError
	return errors.As(err, &reset) && reset.Remote && http3.ErrCode(reset.ErrorCode) == http3.ErrCodeRequestIncomplete
}

// line returns the connection, dialling if there is none; mine says that it
// was dialled now. The dial does not end with the request that happened to come
// first, since others wait for the same connection.
func (q *quicConn) line(ctx context.Context) (l *line, mine bool, err error) {
	q.mu.Lock()
	if q.life.Err() != nil {
		q.mu.Unlock()
		return nil, false, errClosed
	}
	if q.cur != nil && q.cur.over() {
		q.judge(q.cur, q.cur.why())
		q.cur = nil
	}
	if q.cur == nil {
		mine = true
		q.begin()
	}
	l = q.cur
	q.mu.Unlock()
	select {
	case <-l.ready:
		return l, mine, l.err
	case <-ctx.Done():
		return nil, mine, context.Cause(ctx)
	}
}

// over reports whether a line has failed or died.
func (l *line) over() bool {
	select {
	case <-l.ready:
		return l.err != nil || l.conn.Context().Err() != nil
	default:
		return false
	}
}

// why is the reason for which a line that is over has ended.
func (l *line) why() error {
	if l.err != nil {
		return l.err
	}
	return context.Cause(l.conn.Context())
}

// begin makes a new current line; q.mu is held.
func (q *quicConn) begin() {
	l := &line{ready: make(chan struct{})}
	q.cur = l
	go func() {
		ctx, cancel := context.WithTimeout(q.life, 2*handshakeTimeout)
		defer cancel()
		r, err := q.newRace(ctx)
		if err != nil {
			l.err = err
			close(l.ready)
			return
		}
		defer r.end()
		first := r.next(true)
		q.settle(l, first)
		close(l.ready)
		if l.err != nil || !first.early {
			return
		}
		// Nobody has answered on it so far. If somebody does on another way, that is
		// the connection, and requests that wait on this one are sent again there.
		if other := r.next(false); other.err == nil && other.conn != l.conn {
			q.replace(l, other)
		}
	}()
}

// settle puts what a race has brought into a line that nobody else has yet.
func (q *quicConn) settle(l *line, m made) {
	l.at, l.conn, l.err = m.way, m.conn, m.err
	if l.err == nil && q.life.Err() != nil { // closed meanwhile
		_ = l.conn.CloseWithError(0, "")
		l.err = errClosed
	}
	if l.err == nil {
		l.h3 = q.http.NewClientConn(l.conn)
	}
}

// replace makes another connection the current one, and ends the old one.
func (q *quicConn) replace(old *line, m made) {
	l := &line{ready: make(chan struct{})}
	q.settle(l, m)
	close(l.ready)
	q.mu.Lock()
	current := q.cur == old && l.err == nil && !old.complete()
	if current {
		q.cur = l
		q.failedAt(old.at.addr)
	}
	q.mu.Unlock()
	if !current {
		if l.err == nil {
			_ = l.conn.CloseWithError(0, "")
		}
		return
	}
	old.overtaken.Store(true)
	_ = old.conn.CloseWithError(0, "")
}

// know takes in what has become known of the relay.
func (q *quicConn) know(ports []uint16, ech []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.to.ports, q.to.ech = ports, ech
}

func (q *quicConn) Close() error {
	q.end()
	q.mu.Lock()
	l := q.cur
	q.mu.Unlock()
	if l == nil {
		return nil
	}
	<-l.ready
	if l.err != nil {
		return nil // it never was
	}
	return l.conn.CloseWithError(0, "")
}

// judge notes what a connection that goes out of use says about its address;
// q.mu is held. It comes before the next dial, which must not go the same way.
func (q *quicConn) judge(l *line, err error) {
	var idle *quic.IdleTimeoutError
	switch {
	case l.err != nil: // the race has noted the addresses
		q.doubt = true
	case !l.complete() && !errors.Is(err, quic.Err0RTTRejected):
		q.failedAt(l.at.addr)
		q.doubt = true
	default:
		q.good = l.at.addr
		q.bad = slices.DeleteFunc(q.bad, func(a netip.Addr) bool { return a == l.at.addr })
		q.doubt = errors.As(err, &idle) // blocked meanwhile, or the device slept
	}
}

// failedAt notes that nobody answered at an address; q.mu is held.
func (q *quicConn) failedAt(a netip.Addr) {
	if q.good == a {
		q.good = netip.Addr{}
	}
	q.bad = append(slices.DeleteFunc(q.bad, func(b netip.Addr) bool { return a == b }), a)
	q.bad = q.bad[max(0, len(q.bad)-maxBad):]
}

// failedOn notes that nobody answered on a way.
func (q *quicConn) failedOn(w way) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failedAt(w.addr)
}

// order sorts a host's addresses by what is known of them.
func (q *quicConn) order(addrs []netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return q.rank(a) - q.rank(b) })
}

// rank is lower for addresses to be tried earlier; q.mu is held.
func (q *quicConn) rank(a netip.Addr) int {
	if a == q.good {
		return 0
	}
	return 2 + slices.Index(q.bad, a) // 1 if nothing is known
}

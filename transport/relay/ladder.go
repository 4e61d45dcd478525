package relay

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/transport"
)

// versions of QUIC, in the order in which they are tried: 2 (RFC 9369) is the
// same protocol under other numbers, which censors who look for version 1 pass.
var versions = []quic.Version{quic.Version1, quic.Version2}

const (
	// stagger is how much later than the one before it the next way to a relay is
	// tried: enough for a round trip and its repetition nearly everywhere.
	stagger = 300 * time.Millisecond
	// maxWays is how many ways are tried for one connection.
	maxWays = 8
	// laterTime is how long those after the first have: where nothing gets through
	// each costs four times its first packets then, instead of six.
	laterTime = 2 * time.Second
	// Where nobody has answered on any way, the next connections within nobodyTime
	// are tried one way each, in turn: a reader whose relays are all blocked should
	// not pay for ladders.
	nobodyTime = time.Minute
)

// rung is one step of the ladder: a way to dial a relay that another censor
// passes than the one before it.
type rung struct {
	version quic.Version
	// port is one of the relay's. A known filter takes a flow whose source port
	// is not above the destination's for a server's answers: 61001 and more are
	// above what the usual systems give to clients.
	port uint16
	// ech hides the relay's name (RFC 9849). Some censors drop what does.
	ech bool
}

// way is a rung at one of the relay's addresses.
type way struct {
	addr netip.Addr
	rung rung
}

// rungs are a relay's in the order in which they are tried.
func (p peer) rungs() []rung {
	ports := append([]uint16{p.port}, p.ports...)
	out := make([]rung, 0, 2*(len(ports)+1))
	for _, ech := range []bool{true, false} {
		if ech && len(p.ech) == 0 {
			continue
		}
		for _, v := range versions {
			out = append(out, rung{v, p.port, ech})
		}
		for _, port := range ports[1:] {
			out = append(out, rung{quic.Version1, port, ech})
		}
	}
	return p.without.of(out)
}

// dialer is how connections of one version are made.
type dialer struct {
	version quic.Version
	tls     *tls.Config
	quic    *quic.Config
}

// newDialer keeps tickets and address tokens of each version apart: those of one
// are of no use with another (RFC 9369, section 5).
func newDialer(to peer, v quic.Version) dialer {
	if to.tickets != nil && v != quic.Version1 {
		to.tickets = to.tickets.also(v.String())
	}
	d := dialer{version: v, tls: to.tlsConfig()}
	d.tls.NextProtos = []string{http3.NextProtoH3}
	d.quic = &quic.Config{
		InitialPacketSize: minPacket,
		KeepAlivePeriod:   keepAlive, MaxIdleTimeout: idleTimeout,
		MaxIncomingStreams: -1, // a server opens none in HTTP/3
		Versions:           []quic.Version{v},
	}
	if to.without.Small {
		d.quic.InitialPacketSize = 0
	}
	if to.tickets != nil {
		d.quic.TokenStore = quic.NewLRUTokenStore(1, maxTokens)
	}
	return d
}

// dial makes a connection one way, from a socket of its own: a censor who dropped
// the last flow by its ports has to find this one first. With a ticket it returns
// before anybody has answered.
func (q *quicConn) dial(ctx context.Context, w way, limit time.Duration) (*quic.Conn, error) {
	local := "0.0.0.0:0"
	if w.addr.Is6() {
		local = "[::]:0"
	}
	pc, err := q.network.ListenPacket(ctx, "udp", local)
	if err != nil {
		return nil, err
	}
	var g gap
	tr := &quic.Transport{Conn: g.over(pc)}
	shut := func() { _, _ = tr.Close(), pc.Close() }
	d := q.dialers[slices.Index(versions, w.rung.version)]
	cfg, quicCfg := d.tls, d.quic.Clone()
	quicCfg.HandshakeIdleTimeout = limit
	if w.rung.ech {
		cfg = q.peer().hide(cfg)
	}
	c, err := tr.DialEarly(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.addr, w.rung.port)), cfg, quicCfg)
	if err != nil {
		shut()
		return nil, err
	}
	g.conn.Store(c)
	stop := context.AfterFunc(q.life, func() { _ = c.CloseWithError(0, "") })
	context.AfterFunc(c.Context(), func() { stop(); shut() })
	return c, nil
}

// made is what came of one way. early: nobody has answered yet, there is only a
// ticket; another one follows when somebody has.
type made struct {
	way   way
	conn  *quic.Conn
	early bool
	err   error
}

// race tries ways one after the other, each stagger after the one before, or when
// one has failed. Whoever is answered first has won.
type race struct {
	q     *quicConn
	ctx   context.Context
	stop  context.CancelFunc
	usual rung
	ways  []way
	out   chan made
	timer *time.Timer
	begun int
	left  int // of the begun, those that have not ended
	kept  []*quic.Conn
	errs  []error
}

// newRace plans the ways to a relay: by the rung and the address that worked last,
// then all others, near ones first.
func (q *quicConn) newRace(ctx context.Context) (*race, error) {
	if q.via != nil {
		r := &race{q: q, usual: q.via.rung, ways: []way{*q.via}, out: make(chan made, 2), timer: time.NewTimer(0)}
		r.ctx, r.stop = context.WithCancel(ctx)
		return r, nil
	}
	addrs, err := q.network.Resolve(ctx, q.to.host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: no address", transport.ErrNotFound)
	}
	q.order(addrs)
	rungs := q.peer().rungs()
	r := &race{q: q, usual: rungs[0], timer: time.NewTimer(0)}
	if last := q.worked.last(); slices.Contains(rungs, last) {
		rungs = slices.DeleteFunc(rungs, func(r rung) bool { return r == last })
		rungs = slices.Insert(rungs, 0, last)
	}
	for sum := range len(rungs) + len(addrs) - 1 {
		for i := range min(sum+1, len(rungs)) {
			if j := sum - i; j < len(addrs) {
				r.ways = append(r.ways, way{addrs[j], rungs[i]})
			}
		}
	}
	r.ways = r.ways[:min(len(r.ways), maxWays)]
	if n := q.inVain(); n > 0 {
		r.ways = r.ways[n%len(r.ways):][:1]
	}
	r.out = make(chan made, 2*len(r.ways))
	r.ctx, r.stop = context.WithCancel(ctx)
	return r, nil
}

// next is the first way that somebody has answered on or, if early will do, that
// can be used before. An error is that of all ways.
func (r *race) next(early bool) made {
	early = early && !r.q.doubts()
	for {
		select {
		case <-r.timer.C:
			r.begin()
		case m := <-r.out:
			switch {
			case m.err != nil:
				if m.conn != nil { // its time was over just then
					_ = m.conn.CloseWithError(0, "")
				}
				r.left--
				r.errs = append(r.errs, m.err)
				r.q.failedOn(m.way)
				if r.left == 0 && r.begun == len(r.ways) {
					r.q.ended(false)
					return made{err: errors.Join(r.errs...)}
				}
				r.timer.Reset(0)
			case m.early && early:
				r.kept = append(r.kept, m.conn)
				return m
			case !m.early:
				r.left--
				r.kept = append(r.kept, m.conn)
				if r.q.via == nil {
					r.q.worked.note(m.way.rung, r.usual)
				}
				r.q.ended(true)
				return m
			}
		case <-r.ctx.Done():
			return made{err: errors.Join(append(r.errs, context.Cause(r.ctx))...)}
		}
	}
}

// begin tries one way more.
func (r *race) begin() {
	if r.begun == len(r.ways) {
		return
	}
	w, limit := r.ways[r.begun], handshakeTimeout/2
	if r.begun > 0 {
		limit = laterTime
	}
	r.begun++
	r.left++
	r.timer.Reset(stagger)
	go func() {
		c, err := r.q.dial(r.ctx, w, limit)
		if err != nil {
			r.out <- made{way: w, err: err}
			return
		}
		select {
		case <-c.HandshakeComplete():
		default:
			r.out <- made{way: w, conn: c, early: true}
		}
		select {
		case <-c.HandshakeComplete():
			r.out <- made{way: w, conn: c}
		case <-c.Context().Done():
			r.out <- made{way: w, err: context.Cause(c.Context())}
		case <-r.ctx.Done():
			r.out <- made{way: w, conn: c, err: context.Cause(r.ctx)}
		}
	}()
}

// end closes whatever was not kept.
func (r *race) end() {
	r.stop()
	r.timer.Stop()
	for ; r.left > 0; r.left-- {
		m := <-r.out
		for m.early {
			m = <-r.out
		}
		if m.conn != nil && !slices.Contains(r.kept, m.conn) {
			_ = m.conn.CloseWithError(0, "")
		}
	}
}

// ended notes how a race ended.
func (q *quicConn) ended(answered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	where := q.worked.place()
	if answered || where != q.vainWhere {
		q.vain = 0
	}
	if !answered {
		q.vain++
	}
	q.vainAt, q.vainWhere = time.Now(), where
}

// inVain is how many races in a row have ended without an answer, the last one
// lately.
func (q *quicConn) inVain() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.vainAt) > nobodyTime || q.worked.place() != q.vainWhere {
		q.vain = 0
	}
	return q.vain
}

// peer is what is known of the relay.
func (q *quicConn) peer() peer {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.to
}

// doubts reports whether to wait until somebody has answered.
func (q *quicConn) doubts() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.doubt
}

// worked remembers which rung led to a relay, for each network that the device
// was on: what one censor stops, the next one lets pass. It is kept with the
// sessions, under a hash that names neither.
type worked struct {
	keep  Sessions      // nil: for this run
	where func() string // nil: all networks are one
	relay string

	mu   sync.Mutex
	here map[string]remembered
}

// remembered is a rung that worked, and when that was found.
type remembered struct {
	rung rung
	at   time.Time
}

const (
	// maxWorked is how many networks are remembered in one run.
	maxWorked = 64
	// workedFor is how long a rung is tried first: then it is seen whether the usual
	// one, which may hide more, gets through again.
	workedFor = 24 * time.Hour
)

// last is the rung that worked last on this network, the zero one if none is
// known.
func (w *worked) last() rung {
	key := w.key()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastOf(key)
}

// lastOf is last of the network with that key; w.mu is held.
func (w *worked) lastOf(key string) rung {
	r, ok := w.here[key]
	if !ok && w.keep != nil {
		r = parseRemembered(w.keep.Load(key))
		w.set(key, r)
	}
	if age := time.Since(r.at); age < 0 || age > workedFor {
		return rung{}
	}
	return r.rung
}

// note remembers what worked. The usual rung needs no memory.
func (w *worked) note(r, usual rung) {
	if r == usual {
		r = rung{}
	}
	key, now := w.key(), remembered{r, time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lastOf(key) == r {
		return
	}
	w.set(key, now)
	switch {
	case w.keep == nil:
	case r == rung{}:
		w.keep.Store(key, nil)
	default:
		w.keep.Store(key, now.bytes())
	}
}

func (w *worked) set(key string, r remembered) {
	if w.here == nil || len(w.here) >= maxWorked {
		w.here = map[string]remembered{}
	}
	w.here[key] = r
}

// place is the network that the device is on.
func (w *worked) place() string {
	if w.where == nil {
		return ""
	}
	return w.where()
}

func (w *worked) key() string {
	sum := sha256.Sum256([]byte(w.place() + "\n" + w.relay))
	return "rung/" + hex.EncodeToString(sum[:16])
}

// bytes are version (1 or 2, 0 for TCP), port, whether the name is hidden, and the
// hour since 1970.
func (r remembered) bytes() []byte {
	b := []byte{byte(slices.Index(versions, r.rung.version) + 1)}
	b = binary.BigEndian.AppendUint16(b, r.rung.port)
	hidden := byte(0)
	if r.rung.ech {
		hidden = 1
	}
	return binary.BigEndian.AppendUint32(append(b, hidden), uint32(r.at.Unix()/3600))
}

// parseRemembered is the inverse of remembered.bytes; what it can't read is the
// zero rung, which is nobody's.
func parseRemembered(b []byte) remembered {
	if len(b) != 8 || int(b[0]) > len(versions) {
		return remembered{}
	}
	r := rung{tcpVersion, binary.BigEndian.Uint16(b[1:]), b[3] == 1}
	if b[0] > 0 {
		r.version = versions[b[0]-1]
	}
	return remembered{r, time.Unix(int64(binary.BigEndian.Uint32(b[4:]))*3600, 0)}
}

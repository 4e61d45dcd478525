package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"tamizdat/internal/durable"
	"tamizdat/transport"
)

// Traffic bounds what a relay sends; a zero field means no bound.
type Traffic struct {
	// PerSecond is how many bytes of answers may leave in a second, the website's
	// as well as the gateway's, all ports together. The beginnings of answers may
	// overtake, as long as they alone keep to the rate: headlines don't queue behind
	// pictures.
	PerSecond int64
	// PerMonth is how many bytes may leave in a calendar month (UTC), whatever for:
	// name server and IPFS node are counted, too. Once they are gone the relay
	// goes on with its website, with opening answers (head, headlines) and with its
	// name server, which is all that some readers have; no other way gives out blocks
	// until the month is over. Readers find them elsewhere. The website has half of
	// them, whatever readers need, and is shut when that is gone: together they may
	// come to half as much again.
	PerMonth int64
}

// pacer holds the answers of a whole relay to a rate. What overtakes is taken from
// both limits, so that the others wait for longer.
type pacer struct {
	all, overtaking *rate.Limiter
	// gate is held by the one whose turn is next. Who waits for it has not been
	// charged yet, so that those who ask and go keep nobody waiting.
	gate chan struct{}
}

// newPacer returns nil, which holds nothing back, if perSecond is 0.
func newPacer(perSecond int64) *pacer {
	if perSecond <= 0 {
		return nil
	}
	return &pacer{
		all:        rate.NewLimiter(rate.Limit(perSecond), pacedPiece),
		overtaking: rate.NewLimiter(rate.Limit(perSecond), max(pacedStart, int(min(perSecond, 1<<30)))),
		gate:       make(chan struct{}, 1),
	}
}

const (
	// pacedPiece is how many bytes are let go at a time: a few packets, so that
	// answers take turns.
	pacedPiece = 16 << 10
	// pacedStart is how much of each answer may overtake others: the whole of an
	// opening answer (head to front), less than a block of a picture.
	pacedStart = 32 << 10
)

func (p *pacer) wrap(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if p == nil {
		return w
	}
	return &paced{ResponseWriter: w, ctx: r.Context(), pacer: p}
}

// paced is one answer under a pacer.
type paced struct {
	http.ResponseWriter
	ctx   context.Context
	pacer *pacer
	sent  int
}

func (p *paced) Write(b []byte) (n int, err error) {
	for {
		piece := b[n:min(len(b), n+pacedPiece)]
		if err := p.wait(len(piece)); err != nil {
			return n, err
		}
		m, err := p.ResponseWriter.Write(piece)
		n += m
		if err != nil || n == len(b) {
			return n, err
		}
		// What net/http keeps in its buffers would leave in one go.
		_ = http.NewResponseController(p.ResponseWriter).Flush()
	}
}

// wait returns when n bytes may be written, which then they must be.
func (p *paced) wait(n int) error {
	now := time.Now()
	if p.sent += n; p.sent <= pacedStart && p.pacer.overtaking.AllowN(now, n) {
		p.pacer.all.ReserveN(now, n) // the others wait for it
		return nil
	}
	select {
	case p.pacer.gate <- struct{}{}:
	default:
		// The turnstile's deadline is for clients who don't take what they are given; the
		// next write sets it anew.
		_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Time{})
		select {
		case p.pacer.gate <- struct{}{}:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	defer func() { <-p.pacer.gate }()
	now = time.Now()
	turn := p.pacer.all.ReserveN(now, n)
	delay := turn.DelayFrom(now)
	if delay <= 0 {
		return nil
	}
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Time{})
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		turn.Cancel()
		return p.ctx.Err()
	}
}

// Unwrap is for http.ResponseController.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// trafficFile remembers what was sent this month, and what of it the website: "2026-11
// BYTES BYTES". Earlier versions did not write the latter.
const trafficFile = "traffic"

// ledger counts what leaves the relay's sockets in a month. What a kill or a power
// cut makes it forget is the last minute's.
type ledger struct {
	file  string
	limit int64
	log   *slog.Logger
	sent  atomic.Int64
	site  atomic.Int64 // what the website has had, see siteShare

	mu    sync.Mutex
	month string
	saved int64
	told  int  // how many of the volunteer's warnings this month has had
	shown bool // that the website is shut, the same
	stop  context.CancelFunc
	done  chan struct{}
}

// openLedger returns nil, which counts nothing, without a limit.
func openLedger(dir string, limit int64, log *slog.Logger) (*ledger, error) {
	if limit <= 0 {
		return nil, nil
	}
	l := &ledger{file: filepath.Join(dir, trafficFile), limit: limit, log: log, month: month(time.Now())}
	text, err := os.ReadFile(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	of, sent, site, err := parseTraffic(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: not a month and numbers of bytes; remove it to begin at nothing", l.file)
	}
	if of == l.month {
		l.sent.Store(sent)
		l.site.Store(site)
		l.saved = sent
	}
	return l, nil
}

func parseTraffic(text string) (of string, sent, site int64, err error) {
	fields := strings.Fields(text)
	if len(fields) == 2 {
		fields = append(fields, "0")
	}
	if len(fields) != 3 {
		return "", 0, 0, strconv.ErrSyntax
	}
	sent, err1 := strconv.ParseInt(fields[1], 10, 64)
	site, err2 := strconv.ParseInt(fields[2], 10, 64)
	if err = errors.Join(err1, err2); err == nil && min(sent, site) < 0 {
		err = strconv.ErrRange
	}
	return fields[0], sent, site, err
}

func month(t time.Time) string { return t.UTC().Format("2006-01") }

// start saves the count every minute until close.
func (l *ledger) start() {
	if l == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop, l.done = cancel, make(chan struct{})
	go func() {
		defer close(l.done)
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := l.save(); err != nil {
					l.log.Error("what was sent this month could not be saved", "err", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (l *ledger) close() error {
	if l == nil || l.stop == nil {
		return nil
	}
	l.stop()
	<-l.done
	l.stop = nil
	return l.save()
}

// save begins a new month if it is time, warns the volunteer, and writes the count
// if it has changed.
func (l *ledger) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := month(time.Now()); now != l.month {
		l.month, l.told, l.shown, l.saved = now, 0, false, -1
		l.sent.Store(0)
		l.site.Store(0)
	}
	n := l.sent.Load()
	if l.shut() && !l.shown {
		l.shown = true
		l.log.Warn("the website has had its half of this month's traffic: visitors are answered 503 until it is over; see month_gb in " + ConfigFile)
	}
	switch {
	case n >= l.limit && l.told < 2:
		l.told = 2
		l.log.Warn("this month's traffic is used up: headlines only until it is over; see month_gb in " + ConfigFile)
	case n >= l.limit/5*4 && l.told < 1:
		l.told = 1
		l.log.Warn("four fifths of this month's traffic are used; see month_gb in " + ConfigFile)
	}
	if n == l.saved {
		return nil
	}
	if err := durable.Write(l.file, 0o600, fmt.Appendf(nil, "%s %d %d\n", l.month, n, l.site.Load())); err != nil {
		return err
	}
	l.saved = n
	return nil
}

func (l *ledger) add(n int) { l.sent.Add(int64(max(0, n))) }

// spent reports whether the month's bytes are gone.
func (l *ledger) spent() bool { return l != nil && l.sent.Load() >= l.limit }

// network returns nw with everything counted that is sent through it.
func (l *ledger) network(nw transport.Network) transport.Network {
	if l == nil {
		return nw
	}
	return &metered{nw, l}
}

// metered is a network whose sockets count what they send, without the headers of
// IP, UDP and TCP.
type metered struct {
	transport.Network
	ledger *ledger
}

func (c *metered) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Network.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, c.ledger}, nil
}

func (c *metered) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	ln, err := c.Network.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedListener{ln, c.ledger}, nil
}

func (c *metered) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	pc, err := c.Network.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	// quic-go and libp2p look for their fast paths by the methods of *net.UDPConn.
	if udp, ok := pc.(*net.UDPConn); ok {
		return &countedUDP{udp, c.ledger}, nil
	}
	if sized, ok := pc.(sizedPacketConn); ok {
		return &countedPackets{sized, c.ledger}, nil
	}
	return nil, fmt.Errorf("counting what is sent: %w", transport.ErrUnsupported)
}

type countedListener struct {
	net.Listener
	ledger *ledger
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, l.ledger}, nil
}

type countedConn struct {
	net.Conn
	ledger *ledger
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.ledger.add(n)
	return n, err
}

// countedUDP is a UDP socket of the operating system.
type countedUDP struct {
	*net.UDPConn
	ledger *ledger
}

var _ quic.OOBCapablePacketConn = (*countedUDP)(nil)

func (c *countedUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.UDPConn.WriteTo(b, to)
	c.ledger.add(n)
	return n, err
}

func (c *countedUDP) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = c.UDPConn.WriteMsgUDP(b, oob, to)
	c.ledger.add(n)
	return n, oobn, err
}

// sizedPacketConn is what quic-go wants of any other datagram socket.
type sizedPacketConn interface {
	net.PacketConn
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

type countedPackets struct {
	sizedPacketConn
	ledger *ledger
}

func (c *countedPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.sizedPacketConn.WriteTo(b, to)
	c.ledger.add(n)
	return n, err
}

// spentMonth is the answer to who asks for blocks when the month's bytes are gone.
func spentMonth(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "86400")
	http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
}

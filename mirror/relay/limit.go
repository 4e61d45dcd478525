package relay

import (
	"cmp"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	wire "tamizdat/transport/relay"
)

// Throttle bounds what one client, or one batch of readers, may ask of a relay.
// A zero field means its default, a negative one no limit. All of it is in
// memory, in a table of bounded size, and never written.
type Throttle struct {
	// PerAddress is how many requests a second may come from one address, or from
	// one /64 of IPv6 (default 1,000); ten times as many may come at once. A CDN in
	// front has few addresses: then it is better off.
	PerAddress int
	// PerBatch is the same of the readers of one batch of invites together
	// (default 5,000).
	PerBatch int
	// PerIntake is the same of the requests of one channel's publisher
	// (default 50).
	PerIntake int
	// AtOnce is how many requests may be under way, polls that wait among them
	// (default 50,000; one takes about 15 kB), AtOncePerAddress how many of them of
	// one address (default 4,000): a connection may have 128.
	AtOnce, AtOncePerAddress int
	// PollsPerBatch is how many readers of one batch may wait for a new head at once
	// (default 10,000), so that who has stolen an invite leaves room for others.
	PollsPerBatch int
	// Conns bound connections.
	Conns wire.Limits
}

func (t Throttle) withDefaults() Throttle {
	t.PerAddress = cmp.Or(t.PerAddress, 1_000)
	t.PerBatch = cmp.Or(t.PerBatch, 5_000)
	t.PerIntake = cmp.Or(t.PerIntake, 50)
	t.AtOnce = cmp.Or(t.AtOnce, 50_000)
	t.AtOncePerAddress = cmp.Or(t.AtOncePerAddress, 4_000)
	t.PollsPerBatch = cmp.Or(t.PollsPerBatch, 10_000)
	return t
}

// burst is how many seconds' worth of requests may come at once.
const burst = 10

// maxRates bounds how many clients are remembered: the longest unheard are
// forgotten, some tens of thousands at once.
const maxRates = 1 << 16

// rates is a rate limit for each of many keys.
type rates[K comparable] struct {
	limit rate.Limit
	burst int

	mu         sync.Mutex
	young, old map[K]*rate.Limiter
}

// newRates allows so many a second; nil, which allows everything, if negative.
func newRates[K comparable](perSecond int) *rates[K] {
	if perSecond < 0 {
		return nil
	}
	return &rates[K]{limit: rate.Limit(perSecond), burst: burst * perSecond, young: map[K]*rate.Limiter{}}
}

func (r *rates[K]) allow(key K) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	l, ok := r.young[key]
	if !ok {
		if l, ok = r.old[key]; !ok {
			l = rate.NewLimiter(r.limit, r.burst)
		}
		if len(r.young) >= maxRates/2 {
			r.old, r.young = r.young, map[K]*rate.Limiter{}
		}
		r.young[key] = l
	}
	r.mu.Unlock()
	return l.AllowN(time.Now(), 1)
}

// tooMany is the answer to who asks too often, whatever he asks for.
func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
}

// turnstile stands before everything else. It sees addresses and no paths, so that
// website and gateway are limited alike, and gives each request some time for
// each piece of its answer and of its body.
type turnstile struct {
	next   http.Handler
	rates  *rates[netip.Prefix]
	places *wire.Places[netip.Prefix]
	pacer  *pacer
	copies sync.Pool // of *[copyBytes]byte
}

// copyBytes is how much of a body goes out at a time: a block, mostly.
const copyBytes = maxSection

// newTurnstile has all that t bounds of clients who are nobody's yet. pacer may be nil.
func newTurnstile(next http.Handler, t Throttle, pacer *pacer) *turnstile {
	t = t.withDefaults()
	return &turnstile{
		next: next, rates: newRates[netip.Prefix](t.PerAddress),
		places: wire.NewPlaces[netip.Prefix](t.AtOnce, t.AtOncePerAddress), pacer: pacer,
	}
}

func (d *turnstile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from := wire.Origin(r.RemoteAddr)
	extend(w)
	// Over HTTP/1.1 the last bytes leave after the handler, and the deadline is
	// the connection's: it is left standing for them.
	patience := sendTimeout
	defer func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience)) }()
	if from.IsValid() {
		leave, ok := d.places.Enter(from)
		if ok {
			defer leave()
		}
		if !d.rates.allow(from) || !ok {
			unread(r)
			tooMany(w)
			return
		}
	}
	if r.Body != nil && r.Body != http.NoBody {
		body := newPatient(w, r.Body)
		defer body.leave()
		r.Body = body
		if r.ProtoMajor == 1 { // what the handler leaves of it the server reads, before it answers
			c := http.NewResponseController(w)
			_ = c.SetReadDeadline(time.Now().Add(sendTimeout))
			patience = 2 * sendTimeout
		}
	}
	d.next.ServeHTTP(d.pacer.wrap(&steady{w, &d.copies}, r), r)
}

// steady gives the client time anew with each write.
type steady struct {
	http.ResponseWriter
	copies *sync.Pool
}

func (s *steady) WriteHeader(code int) {
	extend(s.ResponseWriter)
	s.ResponseWriter.WriteHeader(code)
}

func (s *steady) Write(b []byte) (int, error) {
	extend(s.ResponseWriter)
	return s.ResponseWriter.Write(b)
}

// ReadFrom is what io.Copy asks for, which would allocate a buffer for each answer.
// After an error the buffer is not used again: net/http may still be sending what a
// client has given up (HTTP/2), and nobody may find somebody else's bytes there.
// What is known to be short takes no more than its own size, since a client who reads
// nothing keeps it.
func (s *steady) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok && l.N < copyBytes/2 {
		return io.Copy(struct{ io.Writer }{s}, r)
	}
	buf, ok := s.copies.Get().(*[copyBytes]byte)
	if !ok {
		buf = new([copyBytes]byte)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{s}, r, buf[:])
	if err == nil {
		s.copies.Put(buf)
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (s *steady) Unwrap() http.ResponseWriter { return s.ResponseWriter }

package dns

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	initialWindow = 32
	maxWindow     = 192
	quietRate     = 10 // queries a second unless in a hurry
	quietBurst    = 32

	firstTimeout = time.Second
	minTimeout   = 200 * time.Millisecond
	maxTimeout   = 5 * time.Second
	minHedge     = 50 * time.Millisecond
	minGrace     = 100 * time.Millisecond
	maxGrace     = time.Second

	// smallFor is how long a resolver that can't carry Large records is spared
	// them: networks change under a reader's feet.
	smallFor = 10 * time.Minute
)

// resolver is what the client knows of one resolver: how much it may be asked
// at once (AIMD, like one TCP connection), how long its answers take (RFC 6298),
// and which class of records it carries.
type resolver struct {
	addr  Address
	nw    transport.Network
	trust gateway.Trust
	// standing is shared with the clients of other zones; its lock comes after ours.
	standing *standing

	mu       sync.Mutex
	window   float64
	ssthresh float64
	inFlight int
	waiting  []chan struct{}
	lastCut  time.Time

	srtt, rttvar time.Duration
	// guess is how long the last answer took that vouches for nothing: to ask a stranger
	// again sooner costs little, but its "no" is to be believed no sooner.
	guess time.Duration

	// How the Large class fares: good answers ever; spoiled ones and unanswered
	// tries since the last good one; truncations since the last good one over
	// UDP; good ones over TCP since then.
	good, spoiled, silent, truncated, overTCP int
	// quiet counts tries without any answer since the last one, which came at heard.
	quiet      int
	heard      time.Time
	smallUntil time.Time

	// refusals counts round trips, since the last answer that was something else, that
	// brought refusals alone; refused is when the last one ended, refusesSmall whether
	// the Small class was among them.
	refusals     int
	refused      time.Time
	refusesSmall bool

	// links are the open ones, dials what is being opened: over datagrams, and as a
	// stream.
	links [2]*link
	dials [2]*dial

	// A resolver that can't be reached, whose connections bring nothing, or that refuses
	// whatever it is asked, is left alone until then; vain counts how often in a row, why
	// is the last reason.
	coolUntil time.Time
	vain      int
	why       error
	// tcpOnly: until then HTTP/3 is not tried, since it brought nothing.
	tcpOnly time.Time

	// A spare is not asked for its own sake before then; probes counts in a row those
	// that brought nothing.
	probeAt time.Time
	probes  int
}

// newResolver begins with what the pool remembers, and is soon done with it if it
// isn't so any more.
func newResolver(p *Pool, addr Address) *resolver {
	r := &resolver{
		addr: addr, nw: p.cfg.Network, trust: p.cfg.Trust, standing: p.standing(addr),
		window: initialWindow, ssthresh: maxWindow,
	}
	f, now := r.standing.remembered(), time.Now()
	if age := now.Sub(f.Small); age >= 0 && age < smallAgain {
		r.smallUntil = now.Add(smallFor)
	}
	if !f.OK.IsZero() && f.RTT > 0 && f.RTT < maxTimeout {
		r.srtt, r.rttvar = f.RTT, f.RTT/2
		r.quiet = deadAfter - trustLess
	}
	if left := f.Cool.Sub(now); left > 0 && left <= maxCooling {
		r.coolUntil, r.why, r.vain = f.Cool, errRested, 1
	}
	return r
}

// errRested is why a resolver is left alone that could not be reached in an
// earlier run.
var errRested = errors.New("resolver could not be reached a moment ago")

// ready reports whether the resolver may be asked right now.
func (r *resolver) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inFlight < int(r.window) && r.standing.lim.Tokens() >= 1
}

// tryAcquire is acquire that does not wait; without true nothing is to be released.
func (r *resolver) tryAcquire() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight >= int(r.window) || !r.standing.lim.Allow() {
		return false
	}
	r.inFlight++
	return true
}

// acquire waits until one more query may be asked; release must follow.
func (r *resolver) acquire(ctx context.Context) error {
	r.mu.Lock()
	if r.inFlight < int(r.window) {
		r.inFlight++
		r.mu.Unlock()
		return r.limit(ctx)
	}
	turn := make(chan struct{})
	r.waiting = append(r.waiting, turn)
	r.mu.Unlock()
	select {
	case <-turn:
		return r.limit(ctx)
	case <-ctx.Done():
	}
	r.mu.Lock()
	if i := slices.Index(r.waiting, turn); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
		r.mu.Unlock()
	} else {
		r.mu.Unlock()
		r.release() // our turn came at the same moment
	}
	return ctx.Err()
}

func (r *resolver) limit(ctx context.Context) error {
	if err := r.standing.lim.Wait(ctx); err != nil {
		// Our turn would come after the deadline. Whoever fails now ends what others are
		// about to get until then.
		<-ctx.Done()
		r.release()
		return ctx.Err()
	}
	return nil
}

func (r *resolver) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	r.wake()
}

func (r *resolver) wake() {
	for len(r.waiting) > 0 && r.inFlight < int(r.window) {
		close(r.waiting[0])
		r.waiting = r.waiting[1:]
		r.inFlight++
	}
}

// answered records a good answer; rtt is 0 if it came late. Then it counts only from a
// stranger: one that never answers in time would be one for ever.
func (r *resolver) answered(class record.Class, ev event, rtt time.Duration) {
	size, stream := len(ev.rec), ev.stream
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet, r.heard, r.probes = 0, time.Now(), 0
	r.vain, r.coolUntil, r.why = 0, time.Time{}, nil
	r.refusals, r.refusesSmall = 0, false
	if r.window < r.ssthresh {
		r.window++
	} else {
		r.window += 1 / r.window
	}
	r.window = min(r.window, maxWindow)
	r.wake()
	if rtt == 0 && r.srtt == 0 && !stream && ev.took < maxTimeout {
		rtt = ev.took
	}
	if rtt > 0 {
		if r.srtt == 0 {
			r.srtt, r.rttvar = rtt, rtt/2
		} else {
			r.rttvar += ((r.srtt - rtt).Abs() - r.rttvar) / 4
			r.srtt += (rtt - r.srtt) / 8
		}
	}
	r.standing.answered(ev, r.srtt)
	if class == record.Large && size > plainSize { // a short one proves nothing
		r.good++
		r.spoiled, r.silent = 0, 0
		if stream {
			r.overTCP++
		} else {
			r.truncated, r.overTCP = 0, 0
		}
	} else if class == record.Small && r.good == 0 && r.silent >= 2 {
		r.onlySmall() // answers small ones, never large ones
	}
}

// guesses records an answer that vouches for nothing: of anybody on the way, it may be.
func (r *resolver) guesses(ev event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !ev.stream {
		r.guess = ev.took
	}
}

// lost records a try without a good answer; spoiled says that there was one,
// but not what was published.
func (r *resolver) lost(class record.Class, spoiled bool) {
	r.standing.lost()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.quiet++; spoiled {
		r.quiet = 0
	}
	r.cut()
	if class != record.Large {
		return
	}
	if !spoiled {
		r.silent++
		return
	}
	r.spoiled++
	if (r.good == 0 && r.spoiled >= 2) || r.spoiled >= 8 {
		r.onlySmall()
		r.spoiled, r.good = 0, 0
	}
}

// manyRefusals is how many round trips in a row have to bring nothing but refusals
// before a resolver is left alone.
const manyRefusals = 4

// errRefuses is why a resolver is left alone that says SERVFAIL, REFUSED or the like.
var errRefuses = errors.New("resolver refuses what it is asked")

// refuses records that a lost try was refused. Who refuses over a rate answers in
// between, and who is tired of a zone has answered lately and will again: both are asked
// on. A resolver that has never carried Large records may refuse no more than EDNS: it is
// asked for Small ones first.
func (r *resolver) refuses(class record.Class) {
	r.standing.refuses()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusesSmall = r.refusesSmall || class == record.Small
	now := time.Now()
	if now.Sub(r.refused) > max(r.srtt, minTimeout) {
		r.refused = now
		r.refusals++
	}
	if r.refusals >= manyRefusals && now.Sub(r.heard) >= lately && (r.refusesSmall || r.good > 0) {
		r.cools(errRefuses)
	}
}

// speaks records an answer that is no refusal, though it may be none of use.
func (r *resolver) speaks() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals, r.refusesSmall = 0, false
}

// onlySmall spares the resolver Large records for a while. r.mu is held.
func (r *resolver) onlySmall() {
	r.smallUntil = time.Now().Add(smallFor)
	r.standing.carriesSmall()
}

// outrun records that another resolver, asked later, was sooner.
func (r *resolver) outrun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet++
}

// cut halves the window, once a round trip: all that was under way shares one loss.
func (r *resolver) cut() {
	if now := time.Now(); now.Sub(r.lastCut) > max(r.srtt, minTimeout) {
		r.lastCut = now
		r.window = max(1, r.window/2)
		r.ssthresh = r.window
	}
}

// deadAfter is how many tries in a row have to be lost before a resolver counts as
// gone: 3 in 10,000 on a line that loses 60 %.
const deadAfter = 16

// known reports whether something good came from here, and not too long ago.
func (r *resolver) known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.srtt > 0 && r.quiet < deadAfter
}

// lately is so long: resolvers that have had enough of somebody are silent for a
// minute, mostly.
const lately = 2 * time.Minute

// moody reports whether something good came from here lately: if nothing does
// now, it may soon.
func (r *resolver) moody() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heard) < lately
}

// heardSince reports whether something good came from here since then.
func (r *resolver) heardSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard.After(t)
}

// dead reports whether a resolver that is asked a lot has stopped answering.
func (r *resolver) dead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet >= deadAfter
}

// carries reports whether the class is worth trying here.
func (r *resolver) carries(class record.Class) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return class == record.Small || !time.Now().Before(r.smallUntil)
}

// timeout is how long to wait for an answer to the given try, tryHedge like the first.
func (r *resolver) timeout(try int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	srtt, rttvar := r.srtt, r.rttvar
	if srtt == 0 {
		srtt, rttvar = r.guess, r.guess/2
	}
	if srtt == 0 {
		// A stranger: on a line that loses most of what is sent the next try is
		// worth more than a longer wait.
		t := firstTimeout
		for range try {
			t = t * 4 / 3
		}
		return min(t, maxTimeout)
	}
	return min(max(srtt+4*rttvar, minTimeout)<<min(max(try, 0), 5), maxTimeout)
}

// patience is how long an answer may take before a "no" counts.
func (r *resolver) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.srtt == 0 {
		return firstTimeout
	}
	return min(max(r.srtt+4*r.rttvar, minTimeout), maxTimeout)
}

// patience is the longest one of those that may be asked.
func (c *Client) patience() (d time.Duration) {
	for _, r := range c.resolvers {
		if !r.isCool() {
			d = max(d, r.patience())
		}
	}
	return min(d, maxGrace)
}

// hedge is after how long without an answer another resolver is worth asking as
// well: one answer in twenty takes longer. 0 for never.
func (r *resolver) hedge() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.srtt == 0 {
		return 0
	}
	return max(r.srtt+2*r.rttvar, minHedge)
}

// grace is how long to go on listening at least after a "no" or an answer that can't be
// checked: forgers are quick, the truth comes within a round trip. Where that is not
// known yet, a "no" counts once an answer is late.
func (r *resolver) grace() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(max(2*r.srtt, minGrace), maxGrace)
}

// truncates counts an answer that was cut over UDP.
func (r *resolver) truncates() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.truncated++
}

// prefersTCP reports whether Large answers are cut over UDP so often that asking
// there is a waste, and come over TCP.
func (r *resolver) prefersTCP() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.truncated >= 3 && r.overTCP > 0
}

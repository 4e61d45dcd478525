package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

var (
	// errSpoiled: answers come, but never what was published: this class does
	// not get through here.
	errSpoiled = errors.New("resolver spoils or cuts the answers")
	errSilent  = errors.New("no answer from the resolver")
	errLost    = fmt.Errorf("%w: %w", errSilent, transport.ErrLost)
	// errUnsent: this machine sent nothing, since it has no network or none that leads
	// there. Neither class, nor more patience, brings anything.
	errUnsent = errors.New("question was not sent")
)

// strangerTries is how often a resolver is asked that never gave a good answer:
// for about twenty seconds.
const strangerTries = 8

// longTries is how often a name with a random label in front may be lost in silence before
// the shorter one is asked for, which a resolver that drops long names may carry, though it may have
// kept an old answer to it.
const longTries = 4

// unsentTries is how often one is tried to which nothing can be sent: a phone that goes
// from one network to another has none for a moment.
const unsentTries = 3

// deadTries is how often one that has stopped answering is asked each question.
const deadTries = 6

// verdict is what a check says of a candidate.
type verdict int

const (
	drop  verdict = iota // forged or spoiled: go on listening
	take                 // this is it
	maybe                // take it, but it vouches for nobody: what it leads to tells
	hold                 // can't tell: take it if nothing better comes
)

// query is one question, asked until an answer passes its check.
type query struct {
	name  string // relative to the zone, lower case
	class record.Class
	tries int
	// once: nothing is to be asked for twice while it may still come.
	once bool
	// mixed: the name is spelled with both kinds of letters, to see what comes back.
	mixed bool
	// check judges a candidate. It is called by several goroutines at once and
	// must not block.
	check func(rec []byte) verdict
	// better, if not nil, says which of two that are held is taken in the end; else
	// it is the first.
	better func(a, b []byte) bool
	// stay, if not nil, is until when answers are still checked after one was taken.
	stay context.Context
	// recheck, if not nil, is closed when check may have learned enough to
	// judge what it held.
	recheck <-chan struct{}
}

// asking is a query under way.
type asking struct {
	query
	c      *Client
	full   string
	plain  string // the same without a random label in front
	events chan event
	wg     sync.WaitGroup

	mu      sync.Mutex
	sent    []*pending
	dropped int // tries that were lost in silence, and not refused

	second *resolver // asked as well, and to be released
	began  time.Time // when it was

	others bool // somebody else is left to ask if this one says no
	// instead: somebody else who is worth no less is left, in either class, if nothing can
	// be sent to this one.
	instead bool

	held    [][]byte
	no      bool // somebody said there is no such name
	spoiled bool
	silent  bool // nothing at all came of the last try
}

// ask asks until a candidate is taken. What was held is returned if nothing
// better came in time. Errors: transport.ErrNotFound, errSpoiled (try the other
// class), errSilent (with transport.ErrLost if a resolver answered lately), errUnsent, or
// the context's.
func (c *Client) ask(ctx context.Context, q query) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	q = c.pool.cfg.Without.of(q)
	a := c.asking(q)
	defer func() {
		cancel()
		a.wg.Wait()
		if q.stay != nil {
			context.AfterFunc(q.stay, a.forget)
		} else {
			a.forget()
		}
		if a.second != nil {
			a.second.release()
		}
	}()
	c.earn()
	turn := int(c.turn.Add(1))
	spoiled := false
	// One resolver's "no" (a censor's lie, a zone it can't reach, a blocked
	// address) counts only when no other resolver is left to ask.
	refused := map[*resolver]error{}
	silent, unsent, began := map[*resolver]int{}, map[*resolver]int{}, time.Now()
	var nowhere error
	for try := 0; try < q.tries; try++ {
		r := c.pick(q.class, len(a.plain), turn+try, refused)
		if r == nil {
			if nowhere = refusal(refused); !errors.Is(nowhere, errUnsent) {
				return nil, nowhere
			}
			break // what earlier ones brought may still count
		}
		if try >= strangerTries && !r.known() || try >= deadTries && r.dead() {
			break
		}
		if err := r.acquire(ctx); err != nil {
			return nil, err
		}
		if err := r.warm(ctx); err != nil {
			r.release()
			if ctx.Err() != nil {
				return nil, err
			}
			break // nobody is left who may be asked soon
		}
		refused[r] = nil
		a.others = c.pick(q.class, len(a.plain), turn, refused) != nil
		o := c.pick(record.Small, len(a.plain), turn, refused)
		a.instead = o != nil && (o.known() || !r.known()) && !r.moody()
		delete(refused, r)
		rec, err := a.try(ctx, r, try)
		r.release()
		switch {
		case err == nil || ctx.Err() != nil:
			if err == nil && q.stay == nil { // else what comes may vouch for nobody
				c.probe(q)
			}
			return rec, err
		case errors.Is(err, errUnsent):
			// One that answered a moment ago is waited for, as after any loss.
			switch unsent[r]++; {
			case a.instead:
				refused[r] = err
				try-- // nobody was asked
			case !r.moody() && unsent[r] >= unsentTries:
				refused[r] = err
			}
		case !errors.Is(err, errSilent):
			refused[r] = err
		case a.silent:
			silent[r]++
		}
		spoiled = spoiled || a.spoiled
	}
	for r, n := range silent {
		if n >= longTries && r.heardSince(began) {
			r.standing.dropsName(len(a.plain), false)
		}
	}
	switch {
	case len(a.held) > 0:
		return a.best(), nil
	case spoiled:
		return nil, errSpoiled
	case nowhere != nil:
		return nil, nowhere
	case c.allCool() != nil:
		return nil, fmt.Errorf("%w: %w", errSilent, c.allCool())
	case slices.ContainsFunc(c.resolvers, (*resolver).moody):
		return nil, errLost
	}
	return nil, errSilent
}

// refusal is what is said when nobody is left to ask: what a resolver said counts for more
// than that another one can't be reached from here.
func refusal(refused map[*resolver]error) error {
	why := errSpoiled
	for _, err := range refused {
		if why = err; !errors.Is(err, errUnsent) {
			break
		}
	}
	return why
}

func (c *Client) asking(q query) *asking {
	return &asking{
		query: q, c: c, full: q.name + "." + c.zone,
		plain:  q.name[strings.LastIndexByte(q.name, '.')+1:] + "." + c.zone,
		events: make(chan event, 32),
	}
}

// forget gives up what was asked.
func (a *asking) forget() {
	for _, p := range a.sent {
		p.forget()
	}
}

// tooLong reports whether the name seems to be too long for the resolvers.
func (a *asking) tooLong() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped >= longTries
}

// called is what r is asked for: the name, or the shorter one if it drops such long
// ones; and how that is spelled, if not in lower case.
func (a *asking) called(r *resolver) (name, mixed string) {
	name = a.full
	if (a.tooLong() || !r.standing.carriesName(len(name))) && !a.c.pool.cfg.Without.Shorter {
		name = a.plain
	}
	if a.mixed && r.standing.keepsCase() {
		mixed = mixedCase(name)
	}
	return name, mixed
}

// best is the one to take of what is held.
func (a *asking) best() []byte {
	best := a.held[0]
	for _, rec := range a.held[1:] {
		if a.better != nil && a.better(rec, best) {
			best = rec
		}
	}
	return best
}

// pick returns the resolver whose turn it is among those that carry the class
// and have not refused: one that has answered before, if there is any, and may be
// asked right now rather than later; one that could not be reached a moment ago, or
// drops names of so many characters, only if there is no other.
func (c *Client) pick(class record.Class, name, turn int, refused map[*resolver]error) *resolver {
	var busy, second, third, last *resolver
	for i := range c.resolvers {
		r := c.resolvers[(turn+i)%len(c.resolvers)]
		if _, no := refused[r]; no || !r.carries(class) {
			continue
		}
		switch cool := r.isCool(); {
		case !r.standing.carriesName(name):
			last = r
		case !cool && r.known() && r.ready():
			return r
		case !cool && r.known() && busy == nil:
			busy = r
		case !cool && r.known():
		case !cool && second == nil:
			second = r
		case cool && (third == nil || r.coolFor() < third.coolFor()):
			third = r
		}
	}
	switch {
	case busy != nil:
		return busy
	case second != nil:
		return second
	case third != nil:
		return third
	}
	return last
}

// try asks one resolver once and listens, to answers to earlier tries as well.
// errSilent: ask again. errUnsent: the same, but nothing went out.
func (a *asking) try(ctx context.Context, r *resolver, try int) ([]byte, error) {
	a.spoiled, a.silent = false, false
	only := r.addr.stream()
	stream := only || a.class == record.Large && r.prefersTCP()
	started := time.Now()
	l, err := a.open(ctx, r, stream, try)
	if err != nil && stream && !only {
		stream = false
		l, err = a.open(ctx, r, false, try)
	}
	switch {
	case err != nil && (hopeless(err) || ctx.Err() != nil):
		return nil, err
	case err != nil && only:
		if l != nil && !l.alive() {
			r.broke(l, err)
		}
		return nil, errSilent // it is being opened, or left alone: r knows why
	}
	lost := errSilent
	if err != nil {
		if lost = fmt.Errorf("%w: %w", errUnsent, err); a.instead {
			return nil, lost
		}
	}
	if only {
		started = time.Now() // without the handshakes
	}
	timer := time.NewTimer(r.timeout(try))
	defer timer.Stop()
	late := a.hedgeAfter(r)
	failed, heard := false, false // r has refused; r has said something else
	due := started.Add(r.patience())
	var grace <-chan time.Time
	var until time.Time // when grace is over
	wait := func(d time.Duration) {
		if t := time.Now().Add(d); grace == nil || t.Before(until) {
			grace, until = time.After(d), t
		}
	}
	for {
		select {
		case ev := <-a.events:
			if ev.from == r && ev.err == nil && ev.kind != answerFailed && !heard {
				heard = true
				r.speaks()
			}
			if ev.err == nil && ev.kind == answerRecords {
				if ev.from.standing.carried(ev.name); ev.from == r && ev.name < len(a.full) && a.tooLong() {
					r.standing.dropsName(len(a.full), false)
				}
			}
			switch {
			case ev.from != r && (ev.err != nil || ev.kind != answerRecords):
				// What others say, who were asked earlier or as well, counts if it is good.
				// Else r is still to be heard.
			case ev.err != nil && only:
				if ev.try != try {
					break // an earlier one, which has been seen to
				}
				if l.alive() { // only this answer was none
					r.lost(a.class, false)
				} else {
					r.broke(l, ev.err)
				}
				return nil, errSilent
			case ev.err != nil:
				// Truncated over UDP and no way over TCP: as good as spoiled.
				a.spoiled = a.spoiled || ev.stream
			case ev.kind == answerTruncated && !ev.stream && !stream:
				stream = true
				r.truncates()
				a.wg.Go(func() {
					if _, err := a.open(ctx, r, true, try); err != nil {
						select {
						case a.events <- event{from: r, try: try, stream: true, err: err}:
						default:
						}
					}
				})
				a.no, grace = false, nil        // what is cut is there
				timer.Reset(2 * r.timeout(try)) // TCP takes a round trip more
			case ev.kind == answerTruncated && ev.stream:
				// Cut where nothing needs cutting: waiting brings nothing else.
				a.spoiled = true
				r.lost(a.class, true)
				return nil, errSilent
			case ev.kind == answerJunk:
				a.spoiled = true
				r.guesses(ev)
			case ev.kind == answerFailed:
				// Anybody on the way can say so first: the truth may still come.
				failed = true
			case ev.kind == answerNone:
				a.no = true
				switch {
				case ev.stream:
					wait(0) // nobody else puts an answer there: in its place there is none
				case a.others:
					wait(r.grace()) // what comes after that is heard, too
				default:
					wait(max(r.grace(), time.Until(due)))
				}
				timer.Stop() // that ends it, and an answer is not asked for again
			case ev.kind == answerRecords && ev.check == take:
				rtt := time.Duration(0)
				switch {
				case ev.from == r && ev.try == try && (only || !stream):
					rtt = time.Since(started)
				case ev.from == a.second && ev.try == tryHedge && !ev.stream:
					rtt = time.Since(a.began)
				}
				if ev.from != r && ev.try == tryHedge {
					r.outrun()
				}
				ev.from.answered(a.class, ev, rtt)
				return ev.rec, nil
			case ev.kind == answerRecords && ev.check == maybe:
				ev.from.guesses(ev)
				return ev.rec, nil
			case ev.kind == answerRecords:
				if len(a.held) < maxCandidates {
					a.held = append(a.held, ev.rec)
				}
				if a.recheck == nil {
					wait(r.grace())
				}
			}
		case <-a.recheck:
			a.recheck = nil
			held := a.held
			a.held = nil
			for _, rec := range held {
				switch a.check(rec) {
				case take:
					r.answered(a.class, event{rec: rec, stream: stream}, 0)
					return rec, nil
				case maybe:
					return rec, nil
				case hold:
					a.held = append(a.held, rec)
				case drop:
					a.spoiled = true
				}
			}
			if len(a.held) > 0 {
				wait(r.grace())
			}
		case <-grace:
			if len(a.held) > 0 {
				return a.best(), nil
			}
			if a.recheck == nil || a.no {
				return nil, fmt.Errorf("dns: %w", transport.ErrNotFound)
			}
		case <-late:
			a.hedge(ctx, r)
		case <-timer.C:
			if lost != errSilent && !heard { // says nothing of the resolver
				return nil, lost
			}
			r.lost(a.class, a.spoiled)
			switch {
			case heard:
			case failed:
				r.refuses(a.class)
			default:
				a.silent = true
				a.mu.Lock()
				a.dropped++
				a.mu.Unlock()
			}
			if l != nil && l.stuck() {
				l.fail(errStuck)
				if only {
					r.broke(l, errStuck)
				}
			}
			return nil, errSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// open sends the question over a link that is open, or opened for it: over a way
// that needs a handshake it waits no longer for that than for an answer. With an
// error it returns the link if there was one.
func (a *asking) open(ctx context.Context, r *resolver, stream bool, try int) (*link, error) {
	if r.addr.stream() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout(try))
		defer cancel()
	}
	l, err := r.open(ctx, stream)
	if err != nil {
		return nil, err
	}
	name, mixed := a.called(r)
	p := &pending{name: name, mixed: mixed, from: r, class: a.class, check: a.check, events: a.events, try: try, without: a.c.pool.cfg.Without}
	if err := l.send(p); err != nil {
		return l, err
	}
	a.mu.Lock()
	a.sent = append(a.sent, p)
	a.mu.Unlock()
	return l, nil
}

package dns

import (
	"context"
	"time"

	"tamizdat/bundle/record"
)

// What is asked of a second resolver, though the first may still answer.

const (
	// hedgeShare is how many of all questions may be hedged, in the long run;
	// maxHedges how many in a row that were not before.
	hedgeShare = 0.1
	maxHedges  = 4
	// tryHedge stands for the try of a question that is asked of a second resolver.
	tryHedge = -1
	// While things work, a resolver that is not in use is asked one of our questions
	// too: one every probeGap, each of them every probeEvery, half as often for each
	// time it brought nothing.
	probeGap   = 5 * time.Second
	probeEvery = time.Minute
	maxProbes  = 6 // halvings
	// idleFor is after how long without a good answer a resolver is not in use.
	idleFor = 10 * time.Minute
)

// earn adds what one more question allows of hedging.
func (c *Client) earn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hedges = min(c.hedges+hedgeShare, maxHedges)
}

// hedgeAfter is when to ask another resolver as well; nil for never.
func (a *asking) hedgeAfter(r *resolver) <-chan time.Time {
	if a.once || a.second != nil || len(a.c.resolvers) < 2 {
		return nil
	}
	d := r.hedge()
	if d == 0 {
		return nil
	}
	return time.After(d)
}

// hedge asks another resolver, one that is known and may be asked at once, if there
// is one and the budget allows it.
func (a *asking) hedge(ctx context.Context, r *resolver) {
	c := a.c
	c.mu.Lock()
	allowed := c.hedges >= 1
	c.mu.Unlock()
	if !allowed {
		return
	}
	o := c.pick(a.class, len(a.plain), int(c.turn.Load()), map[*resolver]error{r: nil})
	if o == nil || !o.known() || o.isCool() || !o.tryAcquire() {
		return
	}
	c.mu.Lock()
	c.hedges--
	c.mu.Unlock()
	a.second, a.began = o, time.Now()
	a.wg.Go(func() {
		// It is the first one that answers for whether there is an answer: an error
		// here costs the chance.
		_, _ = a.open(ctx, o, o.addr.stream() || a.class == record.Large && o.prefersTCP(), tryHedge)
	})
}

// probe asks a spare what another resolver has just answered well, if it is time
// for that. So spares are known when they are needed, and nobody is asked anything
// but what is asked anyway.
func (c *Client) probe(q query) {
	if q.once || len(c.resolvers) < 2 {
		return
	}
	if !c.pool.probing() {
		return
	}
	r := c.spare(q)
	if r == nil {
		c.pool.probes.Done()
		return
	}
	c.enter()
	c.probes.Go(func() {
		defer c.pool.probes.Done()
		defer c.leave()
		defer r.release()
		ctx, cancel := context.WithTimeout(c.pool.life, maxTimeout)
		defer cancel()
		q.recheck, q.once = nil, true // what is held is none of our concern
		q.mixed = true
		a := c.asking(q)
		_, err := a.try(ctx, r, 0)
		cancel()
		a.wg.Wait()
		a.forget()
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			r.probes = min(r.probes+1, maxProbes)
		}
		r.probeAt = time.Now().Add(probeEvery << r.probes)
	})
}

// spare returns a resolver that is to be probed now, acquired, or nil.
func (c *Client) spare(q query) *resolver {
	now, name := time.Now(), len(c.asking(q).plain)
	c.mu.Lock()
	soon := now.Sub(c.probed) < probeGap
	c.mu.Unlock()
	if soon {
		return nil
	}
	for _, r := range c.resolvers {
		if r.isCool() || !r.carries(q.class) || !r.standing.carriesName(name) || !r.idle(now) || !r.tryAcquire() {
			continue
		}
		c.mu.Lock()
		c.probed = now
		c.mu.Unlock()
		return r
	}
	return nil
}

// idle reports whether the resolver is not in use, and was not probed lately.
func (r *resolver) idle(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.probeAt) || r.inFlight > 0 {
		return false
	}
	r.probeAt = now.Add(probeEvery) // while it is probed
	return r.srtt == 0 || r.quiet >= deadAfter || now.Sub(r.heard) >= idleFor
}

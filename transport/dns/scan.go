package dns

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// So many resolvers are probed at once, and so many more are begun a second.
	scanAtOnce = 64
	scanRate   = 20
	// The same for who is in a hurry.
	hurryAtOnce = 256
	hurryRate   = 200
	// scanTries is how often a resolver that is silent is asked, scanLeaves how many
	// records a good one is asked for at once.
	scanTries  = 2
	scanLeaves = 8
	// scanPatience is how long the parts of a long root note may take, and how long one may
	// keep the others waiting who was asked what to ask for.
	scanPatience = 15 * time.Second
)

// ScanConfig configures Scan. All but Trust, Hurry and Logger is required.
type ScanConfig struct {
	Network transport.Network
	// Trust is as in ClientConfig.
	Trust gateway.Trust
	// Zones and Channel are what the resolvers are asked for: for the next zone where
	// one brings nothing, since a censor may know one of them.
	Zones   []string
	Channel channel.ID
	// Hurry lifts the limit of 64 resolvers at once, 20 new ones a second, to four
	// times and ten times as many.
	Hurry  bool
	Logger *slog.Logger
}

// scan is one Scan under way.
type scan struct {
	cfg ScanConfig
	ch  channel.ID
	// worked is the zone that brought something last, which is tried first.
	worked atomic.Int32

	// leaves are full Large records of the newest front page: the first resolver
	// that works has told. Whoever holds turn may touch them.
	leaves []record.Name
	turn   chan struct{}
}

// Scan probes resolvers: whether each answers for a zone at all, and what it
// carries. done hears of the result for the i-th address, in the order in which
// they end, one call at a time; a Score of 0 means that it is of no use. A dead
// resolver is asked four questions for each zone, a good one about ten: what any reader asks,
// who begins to read. All answers are checked: the channel's own keys, or hashes,
// vouch for them.
//
// The error is ctx's, or says what is wrong with cfg.
func Scan(ctx context.Context, cfg ScanConfig, addrs iter.Seq[Address], done func(i int, f Facts)) error {
	for _, zone := range cfg.Zones {
		if _, err := checkZone(zone); err != nil {
			return err
		}
	}
	if cfg.Network == nil || len(cfg.Zones) == 0 {
		return errors.New("dns scan needs a network and a zone")
	}
	s := &scan{cfg: cfg, ch: cfg.Channel, turn: make(chan struct{}, 1)}
	atOnce, pace := scanAtOnce, rate.NewLimiter(scanRate, scanRate)
	if cfg.Hurry {
		atOnce, pace = hurryAtOnce, rate.NewLimiter(hurryRate, hurryRate)
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	var mu sync.Mutex
	i := 0
	for a := range addrs {
		if pace.Wait(ctx) != nil {
			break
		}
		n := i
		i++
		g.Go(func() error {
			f, err := s.probe(ctx, a)
			if err != nil || ctx.Err() != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done(n, f)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// probe asks one resolver, for one zone after the other until one brings something.
func (s *scan) probe(ctx context.Context, a Address) (f Facts, err error) {
	first := int(s.worked.Load())
	for i := range s.cfg.Zones {
		n := (first + i) % len(s.cfg.Zones)
		if f, err = s.probeZone(ctx, a, s.cfg.Zones[n]); err != nil {
			return f, err
		}
		if f.Score() > 0 {
			s.worked.Store(int32(n))
			break
		}
	}
	return f, nil
}

func (s *scan) probeZone(ctx context.Context, a Address, zone string) (Facts, error) {
	c, err := NewClient(ClientConfig{
		Network: s.cfg.Network, Trust: s.cfg.Trust, Zone: zone, Resolvers: []string{a.String()}, Logger: s.cfg.Logger,
	})
	if err != nil {
		return Facts{}, err
	}
	c.resolvers[0] = newResolver(c.pool, a) // a stamp's pins are not in the text
	c.enter()
	defer c.leave()
	who := c.resolvers[0].standing
	// Who drops the longest name may carry Large records all the same.
	large := s.note(ctx, c, record.Large, true)
	if !large {
		if large = s.note(ctx, c, record.Large, false); large {
			who.dropsName(inFront+len(s.ch.RootLabel(1))+1+len(zone), true)
		}
	}
	if !large || !s.large(ctx, c) {
		if !s.note(ctx, c, record.Small, false) {
			return Facts{Resolver: a.String(), Found: true, At: who.remembered().At}, ctx.Err()
		}
		who.carriesSmall()
	}
	f := who.remembered()
	f.Found = true
	return f, ctx.Err()
}

// note asks for the first root note, which the channel's ID vouches for: of the
// Large class, if long, by the longest name that it is ever asked for, spelled at random;
// else, in either class, by the plain one; of the Small class with nothing newer than
// RFC 1035.
func (s *scan) note(ctx context.Context, c *Client, class record.Class, long bool) bool {
	q := query{name: s.ch.RootLabel(1), class: class, tries: 1}
	if class == record.Small {
		q.name = smallLabel(q.name)
	}
	if long {
		q.name, q.mixed, q.tries = c.fresh(q.name, true), true, scanTries
	}
	ctx, cancel := context.WithTimeout(ctx, scanPatience)
	defer cancel()
	n := &naming{
		c: c, heard: map[record.Name]int{},
		fits: func(size int) bool { return size <= channel.MaxRootNote },
		ok: func(note []byte) bool {
			_, err := channel.ParseRoots(s.ch, [][]byte{note})
			return err == nil
		},
	}
	_, err := n.ask(ctx, q)
	return err == nil
}

// large asks for several full records at once, and reports whether most came. Where
// none is known yet, nothing can be told.
func (s *scan) large(ctx context.Context, c *Client) bool {
	names := s.known(ctx, c)
	var came atomic.Int32
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			_, err := c.ask(ctx, query{
				name: name.Label(), class: record.Large, tries: scanTries,
				check: func(rec []byte) verdict {
					if record.NameOf(rec) == name {
						return take
					}
					return drop
				},
			})
			if err == nil {
				came.Add(1)
			}
		})
	}
	wg.Wait()
	return 2*int(came.Load()) >= len(names)
}

// known are the names of full records, which the first resolver that works is
// asked for; others wait for its answer.
func (s *scan) known(ctx context.Context, c *Client) []record.Name {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil
	}
	if len(s.leaves) > 0 {
		return s.leaves
	}
	ctx, cancel := context.WithTimeout(ctx, scanPatience)
	defer cancel()
	h, _, err := c.verifiedHead(ctx, transport.Ask{Channel: s.ch})
	if err != nil || h == nil {
		return nil
	}
	names, err := c.fullLeaves(ctx, h.Front.Large)
	if err != nil {
		c.log.Debug("dns: no front page to scan with", "err", err)
		return nil
	}
	s.leaves = names[:min(len(names), scanLeaves)]
	return s.leaves
}

// fullLeaves are the names of leaves below a list of Large records, without the
// last one of each piece.
func (c *Client) fullLeaves(ctx context.Context, top record.Name) (names []record.Name, err error) {
	w := &walker{c: c, class: record.Large, got: func(int) {}}
	r, err := w.record(ctx, top)
	if err != nil {
		return nil, err
	}
	for r.Kind == record.List {
		if r, err = w.record(ctx, r.Names[len(r.Names)-1]); err != nil {
			return nil, err
		}
	}
	switch r.Kind {
	case record.ShortList:
		for i := range r.Sizes {
			leaves := r.LeavesOf(i)
			names = append(names, leaves[:len(leaves)-1]...)
		}
	case record.Piece: // of one level: its children are leaves
		names = r.Names[:len(r.Names)-1]
	default:
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("dns: front page of single records: %w", transport.ErrNotFound)
	}
	return names, nil
}

// Merge puts what a Scan has found into what is kept under a key, and returns all
// of it, the best first; the worst go if a Keeper has no room for them. What was found
// in earlier scans stays, as long as it is good. A stamp's hashes of certificates are not
// kept: authorities vouch for these. Where a Pool is open under that key, it is its Merge
// that is to be called: it would store what it knows itself over this.
func Merge(k Keeper, key string, found []Facts) []Facts {
	p := NewPool(PoolConfig{Keeper: k, Key: key})
	defer func() { _ = p.Close() }() // never fails
	return p.Merge(found)
}

// Merge is as the function of this name, for a pool that is open: what was found is
// stored at once, and its clients know of it.
func (p *Pool) Merge(found []Facts) []Facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range found {
		f.Found = true
		if f.Score() == 0 {
			continue
		}
		s := p.known[f.Resolver]
		if s == nil {
			p.put(f)
			continue
		}
		f.Rate, f.Limit = max(f.Rate, s.Rate), s.Limit
		s.Facts = f
	}
	p.dirty, p.saved = false, time.Now()
	return storeFacts(p.cfg.Keeper, p.cfg.Key, p.facts())
}

// Forget forgets all that is known of the resolvers, here and in the Keeper.
func (p *Pool) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.known {
		s.Facts = Facts{Resolver: key}
		s.limit()
	}
	p.dirty = false
	if p.cfg.Keeper != nil {
		p.cfg.Keeper.Store(p.cfg.Key, nil)
	}
}

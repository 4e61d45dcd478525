package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// inFront is how many characters a random label takes in front, with its dot.
	inFront     = 9
	maxChannels = 16
)

// Client reads one zone through one resolver or several. It implements
// transport.Heads, transport.Opener and transport.Blocks. All methods may be
// called at once. It holds sockets only while something is under way, so it
// needs no closing.
//
// It drops forged answers and goes on listening; asks again with growing
// timeouts (a lost datagram is DNS's to deal with, whatever Heads says of
// retries), and another resolver as well when one is late (spare.go); comes again
// over TCP when an answer is cut; and turns to Small records when Large ones don't
// come through.
type Client struct {
	zone      string
	pool      *Pool
	resolvers []*resolver
	cache     *cache
	log       *slog.Logger
	turn      atomic.Uint32
	probes    sync.WaitGroup

	mu       sync.Mutex
	active   int
	channels map[channel.ID]*channelState
	asked    map[string]bool // labels asked without a random one in front
	hedges   float64         // how many more queries may be hedged now
	probed   time.Time       // when a spare was probed last
}

var (
	_ transport.Heads  = (*Client)(nil)
	_ transport.Opener = (*Client)(nil)
	_ transport.Blocks = (*Client)(nil)
)

// ClientConfig configures a Client.
type ClientConfig struct {
	// Pool is shared by the clients of several zones; nil makes one of Network, Trust
	// and Hurry, which else are the pool's own.
	Pool    *Pool
	Network transport.Network
	// Zone is the zone's name.
	Zone string
	// Resolvers are asked in turn, each as ParseResolvers takes it. The zone's own
	// name server will do as well.
	Resolvers []string
	// Trust says by what certificates of resolvers asked over TLS are checked. The
	// zero value is what everybody uses.
	Trust gateway.Trust
	// Hurry lifts the limit of 10 queries a second with a burst of 32 for each
	// resolver. Some resolvers refuse faster clients, and it stands out.
	Hurry bool
	// Logger; nil discards.
	Logger *slog.Logger
}

// NewClient checks the configuration; it opens nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	zone, err := checkZone(cfg.Zone)
	if err != nil {
		return nil, err
	}
	pool := cfg.Pool
	if pool == nil {
		pool = NewPool(PoolConfig{Network: cfg.Network, Trust: cfg.Trust, Hurry: cfg.Hurry})
	}
	if pool.cfg.Network == nil || len(cfg.Resolvers) == 0 {
		return nil, errors.New("dns client needs a network and a resolver")
	}
	c := &Client{
		zone: zone, pool: pool, cache: newCache(pool.kept), log: cfg.Logger,
		channels: map[channel.ID]*channelState{}, asked: map[string]bool{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	addrs, err := ParseResolvers(cfg.Resolvers)
	if err != nil {
		return nil, fmt.Errorf("dns resolver: %w", err)
	}
	for _, a := range addrs {
		c.resolvers = append(c.resolvers, newResolver(pool, a))
	}
	return c, nil
}

// Path returns the client as a path.
func (c *Client) Path() transport.Path {
	const named = 3
	var addrs []string
	for _, r := range c.resolvers[:min(len(c.resolvers), named)] {
		addrs = append(addrs, r.addr.String())
	}
	via := strings.Join(addrs, ", ")
	if more := len(c.resolvers) - named; more > 0 {
		via += fmt.Sprintf(" and %d more", more)
	}
	return transport.Path{
		Name: "dns " + c.zone + " via " + via, Kind: transport.KindDNS,
		Heads: c, Blocks: c,
		Hints: transport.Hints{
			Batch: 2, Parallel: 2, MaxBlock: record.MaxPiece, Unit: record.Large.Payload(), Setup: 2,
			Burst: quietBurst, Overhead: 1.15, Patience: 300 * time.Millisecond, Text: true,
		},
	}
}

// enter and leave count what is under way; the last one out closes the sockets.
func (c *Client) enter() {
	c.mu.Lock()
	c.active++
	c.mu.Unlock()
}

func (c *Client) leave() {
	c.mu.Lock()
	c.active--
	last := c.active == 0
	c.mu.Unlock()
	if last {
		for _, r := range c.resolvers {
			r.close()
		}
		c.pool.save(saveFacts)
	}
}

// fresh returns a label, with a random one in front if the plain one was asked
// before: resolvers keep answers for longer than they are told.
func (c *Client) fresh(label string, force bool) string {
	if c.pool.cfg.Without.Labels {
		return label
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked[label] && !force {
		if len(c.asked) > 1024 {
			clear(c.asked)
		}
		c.asked[label] = true
		return label
	}
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, inFront-1, inFront+len(label))
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(append(append(b, '.'), label...))
}

// otherClass reports whether an error means that the other class may fare better.
func otherClass(err error) bool { return errors.Is(err, errSpoiled) || errors.Is(err, errSilent) }

// bothClasses runs f for Large records, then for Small ones if those don't come
// through.
func (c *Client) bothClasses(f func(class record.Class) error) error {
	if c.pool.cfg.Without.Small {
		return f(record.Large)
	}
	large := c.pick(record.Large, 0, 0, nil) != nil
	if large {
		err := f(record.Large)
		if err == nil || !otherClass(err) && !(errors.Is(err, errUnsent) && c.anySmall()) {
			return err
		}
		if errors.Is(err, errSilent) && c.provenLarge() {
			return err // it's the network that is down, not the class
		}
	}
	if err := f(record.Small); err != nil {
		return fmt.Errorf("small records: %w", err)
	}
	if large {
		c.log.Debug("dns: large records don't come through, small ones do")
	}
	return nil
}

// anySmall reports whether a resolver may be asked for Small records alone.
func (c *Client) anySmall() bool {
	return slices.ContainsFunc(c.resolvers, func(r *resolver) bool { return !r.carries(record.Large) })
}

// provenLarge reports whether every resolver that can be asked has carried Large
// records lately.
func (c *Client) provenLarge() bool {
	for _, r := range c.resolvers {
		if r.isCool() {
			continue
		}
		r.mu.Lock()
		good := r.good > 0
		r.mu.Unlock()
		if !good {
			return false
		}
	}
	return true
}

// Grant implements transport.Heads. What comes has one of the two sizes of a
// grant; more can't be told without the invite.
func (c *Client) Grant(ctx context.Context, _ channel.ID, name string) ([]byte, error) {
	c.enter()
	defer c.leave()
	return c.grant(ctx, name, false)
}

// grant fetches a grant, past the resolver's cache if fresh.
func (c *Client) grant(ctx context.Context, name string, fresh bool) ([]byte, error) {
	label := lowerASCII(name)
	if _, err := record.ParseLabel(label); err != nil {
		return nil, fmt.Errorf("dns: no such grant: %w", transport.ErrNotFound)
	}
	size := func(n int) bool { return n == channel.GrantSmall || n == channel.GrantLarge }
	data, err := c.named(ctx, label, fresh, size, func(data []byte) bool { return size(len(data)) })
	if err != nil {
		return nil, fmt.Errorf("grant: %w", err)
	}
	return data, nil
}

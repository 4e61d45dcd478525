package pkarr

import (
	"context"
	"crypto/ed25519"
	"crypto/sha1"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	// walkTime bounds one walk; most of it goes by waiting for nodes that have gone.
	walkTime = 20 * time.Second
	// listen is how long one goes on for a newer item after the first.
	listen = 2 * time.Second
	// maxNodes bounds the nodes that a configuration names, and how many of those that
	// have answered are remembered.
	maxNodes = 32
)

// Config configures a Client. Network and Nodes are required.
type Config struct {
	Network transport.Network
	// Nodes are where walks begin, each "HOST:PORT". Names are looked up with Network.
	// Nodes without a public address are asked only if one is written here as an address.
	Nodes []string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Client asks BitTorrent's DHT. It may be used from several goroutines at once, holds
// sockets only while it asks, and needs no closing.
type Client struct {
	nw    transport.Network
	nodes []string
	log   *slog.Logger

	mu   sync.Mutex
	good []netip.AddrPort // that have answered lately, the last ones last
}

// New checks the configuration; it opens nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Network == nil || len(cfg.Nodes) == 0 {
		return nil, errors.New("dht needs a network and a node")
	}
	if len(cfg.Nodes) > maxNodes {
		return nil, fmt.Errorf("more than %d nodes of the dht", maxNodes)
	}
	for _, n := range cfg.Nodes {
		if err := CheckNode(n); err != nil {
			return nil, err
		}
	}
	c := &Client{nw: cfg.Network, nodes: cfg.Nodes, log: cfg.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// CheckNode reports what is wrong with a node as it is written, "HOST:PORT".
func CheckNode(s string) error {
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || n == 0 || host == "" {
		return errors.New("a node of BitTorrent's DHT is HOST:PORT")
	}
	return nil
}

// Path returns the path to the head of the channel with this IPNS key.
func (c *Client) Path(key ed25519.PublicKey) transport.Path {
	return transport.Path{
		Name: "bittorrent dht", Kind: transport.KindDHT, Source: "bittorrent dht",
		Hints: transport.Hints{Patience: 2 * time.Second, Setup: 4},
		Heads: &heads{c: c, key: key},
	}
}

// Get looks for the newest item of a key. Errors: transport.ErrNotFound if nodes answered
// and have none, errSilent if none did, or the context's.
func (c *Client) Get(ctx context.Context, key ed25519.PublicKey) (*Item, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("dht: no key: %w", transport.ErrNotFound)
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	best, _, err := c.walk(ctx, s, key, true)
	return best, err
}

// Put puts an item to the nodes nearest to its key, and returns how many took it. They
// forget it after two hours. It is an error if none did, or if a newer item of the key is
// there.
func (c *Client) Put(ctx context.Context, i *Item) (taken int, err error) {
	s, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	newest, near, err := c.walk(ctx, s, i.key, false)
	if err != nil && !errors.Is(err, transport.ErrNotFound) {
		return 0, err
	}
	if newest != nil && newest.Seq > i.Seq {
		return 0, fmt.Errorf("%w: a newer one is there", ErrItem)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range near {
		if n.token == "" {
			continue
		}
		wg.Go(func() {
			_, err := s.query(ctx, n.addr, "put", map[string]any{
				"k": string(i.key), "v": string(i.value), "seq": i.Seq, "sig": string(i.sig[:]), "token": n.token,
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				taken++
			}
		})
	}
	wg.Wait()
	switch {
	case taken > 0:
		return taken, nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	return 0, fmt.Errorf("dht: %w", errRefused)
}

// open opens a socket for one walk.
func (c *Client) open(ctx context.Context) (*socket, error) {
	pc, err := c.nw.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	return newSocket(pc), nil
}

// walk looks for the newest item of a key, and for the nodes nearest to it; soon: not
// much longer than until one is found.
func (c *Client) walk(ctx context.Context, s *socket, key ed25519.PublicKey, soon bool) (best *Item, near []node, err error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, walkTime)
	defer cancel()
	var enough *time.Timer
	defer func() {
		if enough != nil {
			enough.Stop()
		}
	}()
	start, public, err := c.start(ctx)
	if err != nil {
		return nil, nil, err
	}
	w := &walk{s: s, target: sha1.Sum(key), allow: func(a netip.AddrPort) bool {
		return !public || isPublic(a.Addr()) // who names others leads nobody into his own network
	}}
	near = w.run(ctx, start, func(a answer) {
		if i, err := itemIn(key, a); err == nil && (best == nil || i.Seq > best.Seq) {
			best = i
		}
		if best != nil && soon && enough == nil {
			enough = time.AfterFunc(listen, cancel)
		}
	})
	c.remember(near)
	switch {
	case best != nil:
		return best, near, nil
	case len(near) > 0:
		return nil, near, fmt.Errorf("dht: %w", transport.ErrNotFound)
	case outer.Err() != nil:
		return nil, nil, outer.Err()
	}
	return nil, nil, fmt.Errorf("dht: %w", errSilent)
}

// itemIn is the item that a node has answered with, if it is one of the key.
func itemIn(key ed25519.PublicKey, a answer) (*Item, error) {
	i := &Item{Seq: a.seq, value: []byte(a.value)}
	if len(i.value) == 0 || len(a.sig) != len(i.sig) {
		return nil, ErrItem
	}
	copy(i.sig[:], a.sig)
	return i.checked(key)
}

// start are the nodes to begin with, and whether all addresses that the configuration
// names are public. Where a name leads is the word of whoever can forge an answer.
func (c *Client) start(ctx context.Context) (out []netip.AddrPort, public bool, err error) {
	public = true
	for _, n := range c.nodes {
		host, port, err := net.SplitHostPort(n)
		if err != nil {
			continue // New has checked it
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		addrs, bad := c.nw.Resolve(ctx, host)
		if bad != nil {
			c.log.Debug("dht: a node's name is not found")
			continue
		}
		if a, err := netip.ParseAddr(host); err == nil {
			public = public && isPublic(a.Unmap())
		}
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(p)))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out = append(out, c.good...)
	if len(out) == 0 {
		return nil, false, errors.New("dht: no node's name can be looked up")
	}
	return out, public, nil
}

func isPublic(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

func (c *Client) remember(near []node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range near {
		c.good = append(c.good, n.addr)
	}
	c.good = c.good[max(0, len(c.good)-maxNodes):]
}

// heads is transport.Heads of one key.
type heads struct {
	c   *Client
	key ed25519.PublicKey

	mu     sync.Mutex
	newest *Item // ever seen
}

var _ transport.Heads = (*heads)(nil)

// Head implements transport.Heads. The DHT has no long poll: it asks once. An item older
// than one that was seen before is not believed to be the newest.
func (h *heads) Head(ctx context.Context, _ channel.ID, have uint64) ([]byte, error) {
	i, err := h.c.Get(ctx, h.key)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.newest == nil || i.Seq > h.newest.Seq {
		h.newest = i
	}
	if c, ok := channel.ClaimOf(h.newest.Compact); ok && have > 0 && c.Generation == 0 && c.Size < have {
		return nil, transport.ErrNoNewer
	}
	return h.newest.Compact, nil
}

// RootNote implements transport.Heads: there are none here.
func (h *heads) RootNote(context.Context, channel.ID, uint64) ([]byte, error) {
	return nil, fmt.Errorf("dht: root note: %w", transport.ErrNotFound)
}

// Grant implements transport.Heads: there are none here.
func (h *heads) Grant(context.Context, channel.ID, string) ([]byte, error) {
	return nil, fmt.Errorf("dht: grant: %w", transport.ErrNotFound)
}

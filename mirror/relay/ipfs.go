package relay

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"tamizdat/internal/durable"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
)

// DefaultIPFSListen are the multiaddrs an IPFS node of a relay listens on.
var DefaultIPFSListen = []string{
	"/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001",
	"/ip6/::/udp/4001/quic-v1", "/ip6/::/tcp/4001",
}

const (
	// ipfsKeyFile holds the seed of the node's key, 64 hex characters: invites
	// name the peer ID that follows from it.
	ipfsKeyFile = "ipfs.secret"
	// ipfsAddressFile lists where the node listens, or listened last, for
	// "mirror-relay address" in another process; there is none if the relay
	// last started without a node.
	ipfsAddressFile = "ipfs.listening"
)

// IPFSConfig says how the relay takes part in IPFS. The zero value works.
type IPFSConfig struct {
	// Listen holds multiaddrs (see ipfs.Config); DefaultIPFSListen if empty.
	// Those that can't be opened are left out, as long as one can.
	Listen []string
	// DHT holds peers (multiaddrs that end in /p2p/ID) by which the node joins
	// a DHT as a full member, so that the channels are found by their IPNS
	// names alone. Everybody who knows such a name sees the relay's address
	// there. Empty: only who was told of the node finds it.
	DHT []string
	// Logger hears of the node's own events; nil means the relay's.
	Logger *slog.Logger
}

// ServeIPFS makes the relay an IPFS node as well: over bitswap it hands every
// block of the carried channels to whoever asks for it, and it answers for
// their IPNS records. Blocks are ciphertext in uniform sizes, and who knows
// none of their CIDs finds none, so there is no secret in the way. The node's
// key is kept in the data folder. Only after Start, and once; ctx bounds the
// start, and the node ends with the relay.
func (r *Relay) ServeIPFS(ctx context.Context, cfg IPFSConfig) (*ipfs.Node, error) {
	if r.store == nil || r.node != nil {
		return nil, errors.New("relay: not started, or an ipfs node already")
	}
	seed, err := loadSecret(filepath.Join(r.cfg.Dir, ipfsKeyFile))
	if err != nil {
		return nil, err
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = DefaultIPFSListen
	}
	c := ipfs.Config{
		Network: r.cfg.Network, Key: ed25519.NewKeyFromSeed(seed), Listen: cfg.Listen,
		Blocks: &carriedBlocks{r.store, r.carried, r.ledger, r.cfg.Log}, Peers: cfg.DHT,
		Logger: cmp.Or(cfg.Logger, r.cfg.Log),
	}
	if len(cfg.DHT) > 0 {
		c.DHT = ipfs.DHTServer
	}
	node, err := ipfs.New(ctx, c)
	if err != nil {
		return nil, err
	}
	text := strings.Join(node.Addrs(), "\n") + "\n"
	if err := durable.Write(filepath.Join(r.cfg.Dir, ipfsAddressFile), 0o600, []byte(text)); err != nil {
		return nil, errors.Join(err, node.Close())
	}
	give := func(rec *ipnsRecord) {
		if err := node.SetRecord(rec.name.String(), rec.raw); err != nil && !errors.Is(err, ipfs.ErrClosed) {
			r.cfg.Log.Error("ipns record not handed out over ipfs", "err", err)
		}
	}
	// What arrives from here on is given; what is given twice is ignored.
	r.store.onIPNS(give)
	for _, ch := range r.carried.channels() {
		if rec := r.store.ipns(ch.id); rec != nil {
			give(rec)
		}
	}
	r.node = node
	return node, nil
}

// carriedBlocks is what the node serves: all editions of all carried channels.
type carriedBlocks struct {
	store   *Store
	carried *carried
	ledger  *ledger
	log     *slog.Logger
}

var _ ipfs.Store = (*carriedBlocks)(nil)

// Get implements ipfs.Store.
func (b *carriedBlocks) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	if b.ledger.spent() {
		return nil, transport.ErrNotFound
	}
	for _, ch := range b.carried.channels() {
		if _, ok := b.store.size(ch.id, c); !ok {
			continue
		}
		data, err := b.store.Block(ch.id, c)
		if err == nil {
			return data, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			b.log.Error("block not served over ipfs", "err", err)
		}
	}
	return nil, transport.ErrNotFound
}

// Size implements ipfs.Store.
func (b *carriedBlocks) Size(_ context.Context, c cid.Cid) (int, error) {
	if b.ledger.spent() {
		return 0, transport.ErrNotFound
	}
	for _, ch := range b.carried.channels() {
		if n, ok := b.store.size(ch.id, c); ok {
			return n, nil
		}
	}
	return 0, transport.ErrNotFound
}

// Peers returns the multiaddrs under which others reach the relay's IPFS node,
// those that most readers can use first; nil if the relay runs without one, or
// last ran without. With a Host they are made of that, else of the machine's
// own addresses, without private ones if there are public ones.
func (r *Relay) Peers() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(r.cfg.Dir, ipfsAddressFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var addrs []ma.Multiaddr
	for _, line := range strings.Fields(string(text)) {
		a, err := ma.NewMultiaddr(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ipfsAddressFile, err)
		}
		addrs = append(addrs, a)
	}
	host := r.cfg.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h // the port is the website's
	}
	if host != "" {
		addrs, err = under(strings.Trim(host, "[]"), addrs)
	} else {
		addrs = reachable(addrs)
	}
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return cmp.Compare(rank(a), rank(b)) })
	var out []string
	for _, a := range addrs {
		if s := a.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, err
}

// under puts host in the place of each address it can stand for.
func under(host string, addrs []ma.Multiaddr) ([]ma.Multiaddr, error) {
	first := "/dns/" + host
	proto := 0 // any
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		first, proto = "/ip4/"+host, ma.P_IP4
	} else if err == nil {
		first, proto = "/ip6/"+host, ma.P_IP6
	}
	head, err := ma.NewMultiaddr(first)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var out []ma.Multiaddr
	for _, a := range addrs {
		if _, rest := ma.SplitFirst(a); proto == 0 || a[0].Protocol().Code == proto {
			out = append(out, head.Encapsulate(rest))
		}
	}
	return out, nil
}

// reachable keeps the addresses that are reachable from farthest away.
func reachable(addrs []ma.Multiaddr) []ma.Multiaddr {
	best := 2
	reach := func(a ma.Multiaddr) int {
		switch {
		case manet.IsPublicAddr(a):
			return 0
		case manet.IsIPLoopback(a) || manet.IsIP6LinkLocal(a):
			return 2
		}
		return 1
	}
	for _, a := range addrs {
		best = min(best, reach(a))
	}
	return slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool { return reach(a) != best })
}

// rank orders addresses for an invite, which has room for two: IPv4 and names
// before IPv6, QUIC before TCP.
func rank(a ma.Multiaddr) (n int) {
	if a[0].Protocol().Code == ma.P_IP6 {
		n += 2
	}
	if _, err := a.ValueForProtocol(ma.P_TCP); err == nil {
		n++
	}
	return n
}

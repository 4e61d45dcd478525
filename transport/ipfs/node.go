package ipfs

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap/network/bsnet"
	bsserver "github.com/ipfs/boxo/bitswap/server"
	"github.com/ipfs/boxo/ipns"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"tamizdat/transport"
)

// Mode says how far a node takes part in a DHT.
type Mode int

const (
	// DHTOff takes part in none: records are asked of given peers and handed
	// out to whoever asks, nothing is looked up or announced. The default.
	DHTOff Mode = iota
	// DHTClient looks up and announces, and answers nobody.
	DHTClient
	// DHTServer also answers and routes for others, as a public node does.
	DHTServer
)

// Config is what a Node is made of. Network is required; the zero value of the
// rest is a reader's node: ephemeral key, no listener, nothing served.
type Config struct {
	// Network opens every socket and resolves every name.
	Network transport.Network
	// Key is the node's identity. A relay keeps one, so that its address in
	// invites stays true; nil means a new one for this run.
	Key ed25519.PrivateKey
	// Listen holds multiaddrs: /ip4/0.0.0.0/udp/4001/quic-v1 or
	// /ip4/0.0.0.0/tcp/4001. Empty: never listen.
	Listen []string
	// Blocks is what the node serves over bitswap; nil serves nothing.
	Blocks Store
	// Peers are multiaddrs ending in /p2p/<id>. In a DHT they are where it
	// starts; without one they are only the default of Node.Path.
	Peers []string
	// DHT is DHTOff unless the operator asks for more.
	DHT Mode
	// MaxConns bounds the connections kept; 0 means 16, or 256 for a node that
	// listens. The oldest idle ones are closed above it.
	MaxConns int
	// Memory bounds what libp2p may reserve for streams and connections, in
	// bytes; 0 means 64 MiB, or 256 MiB for a node that listens.
	Memory int64
	// Logger hears of the node's own events, never of addresses; nil discards.
	Logger *slog.Logger
}

// Node is one libp2p host with bitswap and the little of the DHT protocol that
// carries IPNS records. All methods may be called at once.
type Node struct {
	log      *slog.Logger
	host     host.Host
	sockets  *sockets
	bitswap  *exchange
	server   *bsserver.Server
	dht      *dht.IpfsDHT
	peers    []peer.AddrInfo
	life     context.Context // ends with Close
	stop     context.CancelFunc
	stopOnce sync.Once

	mu      sync.Mutex
	records map[ipns.Name][]byte // what SetRecord was given, at most maxRecords
	serving bool                 // the GET_VALUE handler is registered
	closed  bool
	wg      sync.WaitGroup

	announcing chan struct{} // capacity maxAnnounces
}

// ErrClosed is returned by calls on a closed Node.
var ErrClosed = errors.New("ipfs node is closed")

// New starts a node. ctx bounds only the start; Close ends the node. It fails
// if a Listen address is malformed or none of them can be opened.
func New(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Network == nil {
		return nil, errors.New("ipfs node needs a network")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	quiet()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	key, err := hostKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	peers, err := parsePeers(cfg.Peers)
	if err != nil {
		return nil, err
	}
	listen := make([]ma.Multiaddr, 0, len(cfg.Listen))
	for _, s := range cfg.Listen {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("listen address: %w", err)
		}
		listen = append(listen, a)
	}

	life, stop := context.WithCancel(context.Background())
	n := &Node{
		log: cfg.Logger, peers: peers, life: life, stop: stop,
		records: make(map[ipns.Name][]byte), announcing: make(chan struct{}, maxAnnounces),
	}
	if err := n.start(life, cfg, key, listen); err != nil {
		return nil, flat(errors.Join(err, n.Close()))
	}
	return n, nil
}

func (n *Node) start(life context.Context, cfg Config, key crypto.PrivKey, listen []ma.Multiaddr) error {
	var err error
	n.host, n.sockets, err = newHost(life, cfg, key, listen)
	if err != nil {
		return fmt.Errorf("start libp2p: %w", err)
	}
	bn := bsnet.NewFromIpfsHost(n.host)
	n.bitswap = newExchange(n.host, bn)
	if cfg.Blocks == nil {
		bn.Start(n.bitswap)
	} else {
		n.server = bsserver.New(life, bn, readOnly{cfg.Blocks},
			bsserver.TaskWorkerCount(4),
			bsserver.EngineTaskWorkerCount(4),
			bsserver.EngineBlockstoreWorkerCount(8),
			bsserver.MaxOutstandingBytesPerPeer(1<<20),
			bsserver.MaxQueuedWantlistEntriesPerPeer(512),
			bsserver.MaxCidSize(64))
		bn.Start(n.server, n.bitswap)
	}
	if cfg.DHT == DHTOff {
		return nil
	}
	return n.startDHT(life, cfg.DHT)
}

// Close ends the node and every call in flight, and closes its sockets.
func (n *Node) Close() error {
	var errs []error
	n.stopOnce.Do(func() {
		n.stop()
		n.mu.Lock()
		n.closed = true // from here on nobody adds to wg
		n.mu.Unlock()
		n.wg.Wait()
		if n.dht != nil {
			errs = append(errs, n.dht.Close())
		}
		if n.bitswap != nil {
			n.bitswap.close()
		}
		if n.server != nil {
			n.server.Close()
		}
		if n.host != nil {
			errs = append(errs, n.host.Close())
		}
		if n.sockets != nil { // after the host, whose listeners they carry
			errs = append(errs, n.sockets.Close())
		}
	})
	return errors.Join(errs...)
}

// Addrs returns the addresses others can dial, each ending in /p2p/<id>.
func (n *Node) Addrs() []string {
	info := host.InfoFromHost(n.host)
	if len(info.Addrs) == 0 {
		return nil
	}
	addrs, err := peer.AddrInfoToP2pAddrs(info)
	if err != nil {
		return nil
	}
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

// ID returns the node's peer ID in base58.
func (n *Node) ID() string { return n.host.ID().String() }

// Connections returns how many connections are open, for status and metrics.
func (n *Node) Connections() int { return len(n.host.Network().Conns()) }

// connect opens a connection to p unless there is one. The swarm's memory of
// failed dials is set aside: when to try a path again is the caller's choice.
func (n *Node) connect(ctx context.Context, p peer.AddrInfo) error {
	if sw, ok := n.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(p.ID)
	}
	if err := n.host.Connect(ctx, p); err != nil {
		return fmt.Errorf("connect to peer: %w", shortDialError(err))
	}
	return nil
}

func hostKey(k ed25519.PrivateKey) (crypto.PrivKey, error) {
	if k == nil {
		_, fresh, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		k = fresh
	}
	if len(k) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("ipfs node key has %d bytes instead of %d", len(k), ed25519.PrivateKeySize)
	}
	return crypto.UnmarshalEd25519PrivateKey(k)
}

// maxPeers bounds the given peers of a node or a path.
const maxPeers = 32

// parsePeers reads multiaddrs that end in /p2p/<id>; several addresses of one
// peer are merged.
func parsePeers(addrs []string) ([]peer.AddrInfo, error) {
	if len(addrs) > 4*maxPeers {
		return nil, fmt.Errorf("%d peer addresses: more than %d", len(addrs), 4*maxPeers)
	}
	var mas []ma.Multiaddr
	for _, s := range addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, errors.New("a peer address is not a multiaddr")
		}
		mas = append(mas, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(mas...)
	if err != nil {
		return nil, errors.New("a peer address does not end in /p2p/ and a peer ID")
	}
	if len(infos) > maxPeers {
		return nil, fmt.Errorf("%d peers: more than %d", len(infos), maxPeers)
	}
	return infos, nil
}

// dialTimeout bounds one peer's dial over all its addresses. Callers usually
// bring a shorter one.
const dialTimeout = 20 * time.Second

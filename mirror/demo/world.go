// Package demo is all of it in one process on loopback: a publisher, two relays,
// a name server, two IPFS nodes, a stick, a reader, and a censor between the
// reader and all of them. Nothing in it is a stand-in: these are the parts that
// the three commands run.
//
//   - A [World] is everything but the reader. Its servers have loopback addresses
//     of their own where the system allows it (Linux does), else ports alone tell
//     them apart.
//   - [Switches] block a way by hand; a [Stage] has them and a censor who plays
//     the scenarios of internal/censor by name ([Find], [Playable]).
//   - [World.Check] fetches over each way alone, [World.Try] under a scenario.
//   - [Live] is the page: desk.go is what a person does there, panel.go what is
//     shown.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"tamizdat/bundle"
	"tamizdat/internal/censor"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/ipfs"
)

// zone is the demo's DNS zone; its readers use its name server as their resolver.
const zone = "news.demo.invalid"

// World is everything but the reader.
type World struct {
	dir     string
	network transport.Network
	log     *slog.Logger

	pub   *publisher.Publisher
	relay *relay.Relay // the first; name server and IPFS nodes serve what it holds
	// relays are the addresses of both.
	relays []netip.AddrPort
	node   *ipfs.Node // somebody's, besides the first relay's own
	liars  *liars
	names  names
	// places that the censor tells apart: kind, network, address.
	places [][3]string
	// resolvers of the demo's world: its name server answers for itself.
	resolvers []string

	// shade serves older and other histories in the second relay's stead, nil for
	// none; shades is how many there were.
	shade  *relay.Relay
	shades int

	vain time.Duration // how long Try waits where nothing can arrive

	mu       sync.Mutex // one publication at a time
	articles []bundle.Article
	closers  []io.Closer
}

// NewWorld starts a relay and founds a channel in a temporary folder.
func NewWorld(ctx context.Context, network transport.Network, name string, log *slog.Logger) (w *World, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "mirror-demo-")
	if err != nil {
		return nil, err
	}
	known := names{relayName: host(1)}
	w = &World{dir: dir, network: named{network, known}, log: log, liars: &liars{}, names: known, vain: vainTimeout}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.pub, err = publisher.Init(filepath.Join(dir, "publisher"), name, []string{"en", "ru", "fa", "zh", "be"}); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, w.pub)
	first, err := w.startRelay(ctx, "relay", 1, relay.Config{Host: relayName})
	if err != nil {
		return nil, err
	}
	w.relay = first
	second, err := w.startRelay(ctx, secondRelay, 2, relay.Config{Hooks: relay.Hooks{Wrap: w.liars.wrap}})
	if err != nil {
		return nil, err
	}
	if err := w.startDNS(ctx); err != nil {
		return nil, err
	}
	peers, err := w.startIPFS(ctx)
	if err != nil {
		return nil, err
	}
	cfg := publisher.Config{
		Name: name, Langs: []string{"en", "ru", "fa", "zh", "be"}, Zones: []string{zone}, Peers: peers,
	}
	for _, r := range []*relay.Relay{first, second} {
		line, err := r.Target(w.pub.Channel())
		if err != nil {
			return nil, err
		}
		cfg.Targets = append(cfg.Targets, publisher.TargetConfig{Name: fmt.Sprintf("relay %d", len(cfg.Targets)+1), Relay: line.String()})
	}
	cfg.Targets = append(cfg.Targets, publisher.TargetConfig{Name: "stick", Folder: w.Stick()})
	return w, w.pub.Configure(cfg)
}

// host is the n-th server's address. Linux answers on all of 127.0.0.0/8, other
// systems on 127.0.0.1 alone unless told.
func host(n byte) netip.Addr {
	if runtime.GOOS != "linux" {
		n = 1
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, n})
}

// relayPort and a few above it are tried first: some filters look only at flows
// whose source port is higher than the destination's, and systems take source
// ports from 32768 up.
const relayPort = 14443

func (w *World) startRelay(ctx context.Context, dir string, n byte, cfg relay.Config) (*relay.Relay, error) {
	cfg.Dir, cfg.Network, cfg.Log = filepath.Join(w.dir, dir), w.network, w.log
	for i := range uint16(16) { // another demo may run
		cfg.Listen = append(cfg.Listen, netip.AddrPortFrom(host(n), relayPort+uint16(n)+10*i).String())
	}
	cfg.Listen = append(cfg.Listen, netip.AddrPortFrom(host(n), 0).String())
	r, err := relay.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, r)
	at, err := netip.ParseAddrPort(r.Addr().String())
	if err != nil {
		return nil, err
	}
	w.relays = append(w.relays, at)
	w.place(transport.KindQUIC, "udp", at.String())
	w.place(transport.KindTCP, "tcp", at.String())
	return r, nil
}

func (w *World) startDNS(ctx context.Context) error {
	records, err := w.relay.Records()
	if err != nil {
		return err
	}
	w.closers = append(w.closers, records)
	server, err := dns.NewServer(dns.ServerConfig{Zones: []dns.Zone{{Name: zone}}, Store: records, Logger: w.log})
	if err != nil {
		return err
	}
	pc, ln, err := dns.Listen(ctx, w.network, "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &service{cancel: cancel}
	s.done.Go(func() {
		if err := server.Serve(ctx, pc, ln); err != nil && ctx.Err() == nil {
			w.log.Error("name server stopped", "error", err)
		}
	})
	w.closers = append(w.closers, s)
	authority := pc.LocalAddr().String()
	w.resolvers = []string{authority}
	w.place(transport.KindDNS, "udp", authority)
	w.place(transport.KindDNS, "tcp", authority)
	return nil
}

// service is something that serves until it is cancelled.
type service struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (s *service) Close() error {
	s.cancel()
	s.done.Wait()
	return nil
}

// startIPFS makes the first relay an IPFS node, and starts somebody's node that
// has what that relay has. An invite has room for two addresses: the relay's node
// is there over QUIC, the other one over TCP.
func (w *World) startIPFS(ctx context.Context) (peers []string, err error) {
	own, err := w.relay.ServeIPFS(ctx, relay.IPFSConfig{Listen: []string{fmt.Sprintf("/ip4/%s/udp/0/quic-v1", host(1))}})
	if err != nil {
		return nil, err
	}
	w.node, err = ipfs.New(ctx, ipfs.Config{
		Network: w.network, Blocks: peer{w.liars, w.pub.Channel(), w.relay}, Logger: w.log,
		Listen: []string{fmt.Sprintf("/ip4/%s/tcp/0", host(3))},
	})
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, w.node)
	for _, p := range slices.Concat(own.Addrs(), w.node.Addrs()) {
		network, address, err := socket(p)
		if err != nil {
			return nil, fmt.Errorf("ipfs address: %w", err)
		}
		w.place(transport.KindIPFS, network, address)
	}
	peers, err = w.relay.Peers() // as its operator tells publishers, by its name
	return append(peers, w.node.Addrs()...), err
}

// socket is the part of a multiaddr that the censor sees.
func socket(addr string) (network, address string, err error) {
	m, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		return "", "", err
	}
	outer, _ := multiaddr.SplitFunc(m, func(c multiaddr.Component) bool {
		code := c.Protocol().Code
		return code != multiaddr.P_IP4 && code != multiaddr.P_IP6 && code != multiaddr.P_UDP && code != multiaddr.P_TCP
	})
	network, address, err = manet.DialArgs(outer)
	if err != nil {
		return "", "", err
	}
	return network[:3], address, nil
}

func (w *World) place(kind, network, address string) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		address = ap.String()
	}
	w.places = append(w.places, [3]string{kind, network, address})
}

// Map is what the censor knows of this world. There are no servers of DNS over
// HTTPS in it, no public IPFS nodes and no CDN.
func (w *World) Map() censor.Map {
	m := censor.Map{Relays: w.relays, Names: []string{relayName}, Zones: []string{zone}}
	for _, r := range w.resolvers {
		if at, err := netip.ParseAddrPort(r); err == nil {
			m.Resolvers = append(m.Resolvers, at)
		}
	}
	return m
}

// Switches returns switches that know the world's places.
func (w *World) Switches() *Switches { return w.switches(w.network) }

func (w *World) switches(base transport.Network) *Switches {
	s := NewSwitches(base)
	s.names = w.names
	for _, p := range w.places {
		s.Know(p[0], p[1], p[2])
	}
	return s
}

// Stick is the folder into which the publisher copies each edition.
func (w *World) Stick() string { return filepath.Join(w.dir, "stick") }

// Invite is a reader's invite.
func (w *World) Invite() (string, error) {
	inv, err := w.pub.Invite("demo")
	if err != nil {
		return "", err
	}
	return inv.String(), nil
}

// Publish packs the articles and pushes them everywhere.
func (w *World) Publish(ctx context.Context, articles []bundle.Article) (*publisher.Packing, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	made, err := w.pub.Pack(articles, time.Now())
	if err != nil {
		return nil, err
	}
	targets, err := w.pub.Targets(w.network)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range w.pub.Push(ctx, targets, nil) {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Target, r.Err))
		}
	}
	w.articles = append(w.articles, articles...)
	return made, errors.Join(append(errs, w.pin())...)
}

// pin gives somebody's IPFS node the newest record, as a node that follows the
// channel would find it. The relay's has it from the publisher.
func (w *World) pin() error {
	record, err := w.pub.Record(time.Now())
	if err != nil {
		return err
	}
	inv, err := w.pub.Invite("demo")
	if err != nil {
		return err
	}
	name, err := ipfs.Name(inv.IPNS)
	if err != nil {
		return err
	}
	return w.node.SetRecord(name, record)
}

// Size is how many editions have been published.
func (w *World) Size() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pub.Size()
}

// Close stops everything and deletes the folder.
func (w *World) Close() error {
	var errs []error
	if w.shade != nil {
		errs = append(errs, w.shade.Close())
	}
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i].Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// Package demo is all of it in one process on loopback: a publisher, a relay
// with its name server and its IPFS node, a stick, a reader, and a censor with a
// switch for each path between them. Nothing in it is a stand-in: these are the
// parts that the three commands run.
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
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"tamizdat/bundle"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/dns"
)

// zone is the demo's DNS zone; its readers use its name server as their resolver.
const zone = "news.demo.invalid"

// World is everything but the reader.
type World struct {
	dir     string
	network transport.Network
	log     *slog.Logger

	pub   *publisher.Publisher
	relay *relay.Relay
	// places that the censor tells apart: kind, network, address.
	places [][3]string
	// resolvers of the demo's world: its name server answers for itself.
	resolvers []string

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
	w = &World{dir: dir, network: network, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.pub, err = publisher.Init(filepath.Join(dir, "publisher"), name, []string{"en", "ru", "fa", "zh", "be"}); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, w.pub)
	if err := w.startRelay(ctx); err != nil {
		return nil, err
	}
	if err := w.startDNS(ctx); err != nil {
		return nil, err
	}
	peers, err := w.startIPFS(ctx)
	if err != nil {
		return nil, err
	}
	line, err := w.relay.Target(w.pub.Channel())
	if err != nil {
		return nil, err
	}
	return w, w.pub.Configure(publisher.Config{
		Name: name, Langs: []string{"en", "ru", "fa", "zh", "be"},
		Targets: []publisher.TargetConfig{{Name: "relay", Relay: line.String()}, {Name: "stick", Folder: w.Stick()}},
		Zones:   []string{zone}, Peers: peers,
	})
}

func (w *World) startRelay(ctx context.Context) (err error) {
	w.relay, err = relay.New(relay.Config{
		Dir: filepath.Join(w.dir, "relay"), Network: w.network, Listen: []string{"127.0.0.1:0"}, Log: w.log,
	})
	if err != nil {
		return err
	}
	if err := w.relay.Start(ctx); err != nil {
		return err
	}
	w.closers = append(w.closers, w.relay)
	addr := w.relay.Addr().String()
	w.place(transport.KindQUIC, "udp", addr)
	w.place(transport.KindTCP, "tcp", addr)
	return nil
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

func (w *World) startIPFS(ctx context.Context) ([]string, error) {
	node, err := w.relay.ServeIPFS(ctx, relay.IPFSConfig{
		Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}, Logger: w.log,
	})
	if err != nil {
		return nil, err
	}
	peers := node.Addrs()
	for _, p := range peers {
		m, err := multiaddr.NewMultiaddr(p)
		if err != nil {
			return nil, err
		}
		transportPart, _ := multiaddr.SplitFunc(m, func(c multiaddr.Component) bool {
			code := c.Protocol().Code
			return code != multiaddr.P_IP4 && code != multiaddr.P_IP6 && code != multiaddr.P_UDP && code != multiaddr.P_TCP
		})
		network, addr, err := manet.DialArgs(transportPart)
		if err != nil {
			return nil, fmt.Errorf("ipfs address: %w", err)
		}
		w.place(transport.KindIPFS, network[:3], addr)
	}
	return peers, nil
}

func (w *World) place(kind, network, address string) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		address = ap.String()
	}
	w.places = append(w.places, [3]string{kind, network, address})
}

// Switches returns a censor that knows the world's places.
func (w *World) Switches() *Switches {
	s := NewSwitches(w.network)
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
	return made, errors.Join(errs...)
}

// Close stops everything and deletes the folder.
func (w *World) Close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i].Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

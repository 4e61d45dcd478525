package censorlab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/internal/simnet"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/file"
	"tamizdat/transport/ipfs"
	wire "tamizdat/transport/relay"
)

// World is the far end of everything. Build it inside a bubble; it ends with
// Close. Readers of one world follow one channel by one invite.
type World struct {
	Net *simnet.Net

	desk   *simnet.Host // the publisher's
	dir    string
	pub    *publisher.Publisher
	ca     *authority
	honest *relay.Relay // relay A
	relayB *relay.Relay
	hostB  *simnet.Host
	evil   *evil     // what relay B, the peer and the gateway do
	cache  *resolver // the ISP's
	stick  string    // folder of CAR files
	// lagging and forking are the lines of relay B's shadows.
	lagging, forking string
	closers          []io.Closer
	resolvers        []*resolver

	mu       sync.Mutex                // never held while something is under way
	articles map[string]bundle.Article // by ID, as published
	coerced  map[string]bundle.Article // what the other history says
	readers  int                       // made so far: each gets an address of its own
	size     uint64                    // of the log, as far as it was pushed
}

// NewWorld builds the servers, founds a channel and publishes its first
// editions, in a folder that is deleted with the world.
func NewWorld(ctx context.Context, seed uint64) (w *World, err error) {
	dir, err := os.MkdirTemp("", "censorlab-")
	if err != nil {
		return nil, err
	}
	w = &World{Net: simnet.New(seed), dir: dir, stick: filepath.Join(dir, "stick"), articles: map[string]bundle.Article{}, coerced: map[string]bundle.Article{}}
	begun := w
	defer func() {
		if err != nil {
			err = errors.Join(err, begun.Close())
		}
	}()
	w.Net.Name(nameRelayA, addrRelayA)
	w.Net.Name(nameCDN, addrCDN)
	w.Net.Name(nameGateway, addrGateway)
	w.Net.Name(nameMirror, addrMirror)
	w.desk = w.host("publisher", addrPublisher)
	if w.ca, err = newAuthority(); err != nil {
		return nil, err
	}
	if w.pub, err = publisher.Init(filepath.Join(dir, "publisher"), "Radio Meadow", langs); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, w.pub)
	if err := w.serve(ctx); err != nil {
		return nil, err
	}
	return w, w.history(ctx)
}

// Close ends all servers, then the net.
func (w *World) Close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i].Close())
	}
	errs = append(errs, w.Net.Close())
	for _, r := range w.resolvers {
		r.wg.Wait()
	}
	time.Sleep(time.Second) // no server waits for handlers that are asleep; a bubble must not end before them
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// serve starts everything that a reader's ways in lead to.
func (w *World) serve(ctx context.Context) error {
	w.evil = newEvil()
	a, err := w.relay(ctx, "relay A", addrRelayA, relay.Config{
		Host: nameRelayA, Also: []string{netip.AddrPortFrom(addrRelayA, highPort).String()}, ECH: nameOuter,
	})
	if err != nil {
		return err
	}
	w.honest = a
	b, err := w.relay(ctx, "relay B", addrRelayB, relay.Config{Hooks: relay.Hooks{Wrap: w.evil.relay}})
	if err != nil {
		return err
	}
	w.relayB = b
	// Relay B as it would be if it had stopped listening to the publisher, or
	// had been given another history: what it serves when it is dishonest.
	if w.evil.lagging, w.lagging, err = w.shadow(ctx, "lagging", addrLagging); err != nil {
		return err
	}
	if w.evil.forking, w.forking, err = w.shadow(ctx, "forking", addrForking); err != nil {
		return err
	}
	if err := w.names(ctx, a); err != nil {
		return err
	}
	if err := w.node(ctx); err != nil {
		return err
	}
	if err := w.web(ctx); err != nil {
		return err
	}
	if err := w.models(ctx); err != nil {
		return err
	}
	lineA, err := a.Target(w.pub.Channel())
	if err != nil {
		return err
	}
	lineB, err := b.Target(w.pub.Channel())
	if err != nil {
		return err
	}
	cfg := publisher.Config{
		Name: "Radio Meadow", Langs: langs, Headlines: headlines,
		Targets: []publisher.TargetConfig{
			{Name: "a", Relay: lineA.String(), Via: []string{"https://" + nameCDN}},
			{Name: "b", Relay: lineB.String()},
			{Name: "stick", Folder: w.stick},
		},
		Zones: []string{zoneNews}, Peers: w.evil.node.Addrs(), Gateways: []string{"https://" + nameGateway},
	}
	if err := w.pub.Configure(cfg); err != nil {
		return err
	}
	return w.evil.learn(w.pub, w.honest)
}

// host adds a server abroad.
func (w *World) host(name string, addr netip.Addr) *simnet.Host {
	return w.Net.Host(name, far(), addr)
}

// relay starts a relay that carries the channel.
func (w *World) relay(ctx context.Context, name string, addr netip.Addr, cfg relay.Config) (*relay.Relay, error) {
	host := w.host(name, addr)
	if cfg.Hooks.Wrap != nil {
		w.hostB = host
	}
	cfg.Dir, cfg.Network, cfg.Listen = filepath.Join(w.dir, name), host, []string{netip.AddrPortFrom(addr, 443).String()}
	if cfg.Host == "" {
		cfg.Host = addr.String()
	}
	r, err := relay.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, r)
	return r, nil
}

// shadow starts a relay with the keys of relay B, so that it opens to the same
// prefixes; readers are not told of it. It returns its line for publishers.
func (w *World) shadow(ctx context.Context, name string, addr netip.Addr) (http.Handler, string, error) {
	if err := os.CopyFS(filepath.Join(w.dir, name), secretsOf(filepath.Join(w.dir, "relay B"))); err != nil {
		return nil, "", err
	}
	r, err := w.relay(ctx, name, addr, relay.Config{})
	if err != nil {
		return nil, "", err
	}
	line, err := r.Target(w.pub.Channel())
	return r.Handler(), line.String(), err
}

// names starts the zone's name server, on relay A's records, and the ISP's resolver.
func (w *World) names(ctx context.Context, r *relay.Relay) error {
	records, err := r.Records()
	if err != nil {
		return err
	}
	w.closers = append(w.closers, records)
	server, err := dns.NewServer(dns.ServerConfig{Zones: []dns.Zone{{Name: zoneNews}, {Name: zoneMore}, {Name: zoneLong}}, Store: records})
	if err != nil {
		return err
	}
	at := w.host("authority", addrAuthority)
	pc, ln, err := dns.Listen(ctx, at, netip.AddrPortFrom(addrAuthority, 53).String())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &service{cancel: cancel}
	s.done.Go(func() { _ = server.Serve(ctx, pc, ln) })
	w.closers = append(w.closers, s)

	w.cache, err = w.resolver(ctx, w.Net.Host("isp", simnet.Link{}, addrResolver), addrResolver)
	return err
}

// resolver starts a recursive resolver on a host.
func (w *World) resolver(ctx context.Context, on *simnet.Host, addr netip.Addr) (*resolver, error) {
	pc, ln, err := dns.Listen(ctx, on, netip.AddrPortFrom(addr, 53).String())
	if err != nil {
		return nil, err
	}
	r := newResolver(on, map[string]string{
		zoneNews:   netip.AddrPortFrom(addrAuthority, 53).String(),
		zoneMore:   netip.AddrPortFrom(addrAuthority, 53).String(),
		zoneLong:   netip.AddrPortFrom(addrAuthority, 53).String(),
		nameMirror: netip.AddrPortFrom(addrTunnel, 53).String(),
		zoneTunnel: netip.AddrPortFrom(addrTunnel, 53).String(),
	})
	r.serve(pc, ln)
	w.resolvers = append(w.resolvers, r)
	w.closers = append(w.closers, pc, ln)
	return r, nil
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

// node starts somebody's IPFS node that pins the channel.
func (w *World) node(ctx context.Context) error {
	n, err := ipfs.New(ctx, ipfs.Config{
		Network: w.host("peer", addrPeer), Blocks: w.evil,
		// As many as there can be readers: a node that has too many says
		// goodbye to some, and waits for that in a way that stops the clock.
		MaxConns: 4096,
		Listen: []string{
			fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", addrPeer),
			fmt.Sprintf("/ip4/%s/tcp/4001", addrPeer),
		},
	})
	if err != nil {
		return err
	}
	w.evil.node = n
	w.closers = append(w.closers, n)
	return nil
}

// web starts the CDN, which hands requests on to relay A, and a public gateway.
func (w *World) web(ctx context.Context) error {
	if err := w.site(ctx, w.host("cdn", addrCDN), nameCDN, addrCDN, cdn(w.honest.Handler())); err != nil {
		return err
	}
	return w.site(ctx, w.host("gateway", addrGateway), nameGateway, addrGateway, w.evil.gateway())
}

// Publish packs articles at the bubble's time and pushes them to all targets.
// Those of dead (may be nil) may fail.
func (w *World) Publish(ctx context.Context, articles []bundle.Article, dead ...string) error {
	w.mu.Lock()
	for _, a := range articles {
		w.articles[a.ID] = a // before anybody can see them
	}
	_, err := w.pub.Pack(articles, time.Now())
	targets, terr := w.pub.Targets(w.desk)
	w.mu.Unlock()
	if err := errors.Join(err, terr); err != nil {
		return err
	}
	// Not under the lock: a simulated net stands still while somebody waits for it.
	var errs []error
	for _, r := range w.pub.Push(ctx, targets, nil) {
		if r.Err != nil && !slices.Contains(dead, r.Target) {
			errs = append(errs, fmt.Errorf("%s: %w", r.Target, r.Err))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = w.pub.Size()
	record, err := w.pub.Record(time.Now())
	if err != nil {
		return err
	}
	return errors.Join(append(errs, w.evil.setRecord(record))...)
}

// Size is how many editions have reached everything that is alive.
func (w *World) Size() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Invite is what every reader gets.
func (w *World) Invite() (*channel.Invite, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pub.Invite("lab")
}

// ReplaceRelay lets relay B die and starts its n-th successor, with the same
// keys at another address. The next edition tells readers of it.
func (w *World) ReplaceRelay(ctx context.Context, n int) error {
	w.hostB.SetDown(true)
	if err := w.relayB.Close(); err != nil {
		return err
	}
	name := fmt.Sprintf("relay B%d", n)
	if err := os.CopyFS(filepath.Join(w.dir, name), secretsOf(filepath.Join(w.dir, "relay B"))); err != nil {
		return err
	}
	addr := netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}) // RFC 2544
	r, err := w.relay(ctx, name, addr, relay.Config{Hooks: relay.Hooks{Wrap: w.evil.relay}})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relayB = r
	line, err := r.Target(w.pub.Channel())
	if err != nil {
		return err
	}
	cfg := w.pub.Config()
	for i := range cfg.Targets {
		if cfg.Targets[i].Name == "b" {
			cfg.Targets[i].Relay = line.String()
		}
	}
	return w.pub.Configure(cfg)
}

// history publishes the first editions, and shows relay B's shadows what they
// know: one misses the newest, the other has a different newest.
func (w *World) history(ctx context.Context) error {
	for n := range editions - 1 {
		if err := w.Publish(ctx, News(n, time.Now())); err != nil {
			return fmt.Errorf("edition %d: %w", n, err)
		}
		time.Sleep(6 * time.Hour)
	}
	if err := w.pushTo(ctx, w.pub, w.lagging); err != nil {
		return err
	}
	if err := w.evil.remember(w.stick); err != nil {
		return err
	}
	if err := w.fork(ctx); err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	return w.Publish(ctx, News(editions-1, time.Now()))
}

// fork lets a coerced publisher, a copy of ours, tell relay B's second shadow
// something else.
func (w *World) fork(ctx context.Context) (err error) {
	dir := filepath.Join(w.dir, "coerced")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(w.dir, "publisher"))); err != nil {
		return err
	}
	p, err := publisher.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	other := News(1000, time.Now())
	if _, err := p.Pack(other, time.Now()); err != nil {
		return err
	}
	for _, a := range other {
		w.coerced[a.ID] = a
	}
	if w.evil.other, err = p.Record(time.Now()); err != nil {
		return err
	}
	return w.pushTo(ctx, p, w.forking)
}

// pushTo pushes to one of relay B's shadows.
func (w *World) pushTo(ctx context.Context, p *publisher.Publisher, line string) error {
	target, err := wire.ParseTarget(line)
	if err != nil {
		return err
	}
	to, err := wire.NewPublisher(w.desk, target)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range p.Push(ctx, []publisher.Target{{Name: "shadow", Publisher: to}}, nil) {
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

// seat gives a new reader a place on the net.
func (w *World) seat(s censor.Scenario) *simnet.Host {
	w.mu.Lock()
	w.readers++
	n := w.readers
	w.mu.Unlock()
	return w.Net.Host(fmt.Sprintf("reader %d", n), line(s), readerAddr(n))
}

// article returns what was published under an ID.
func (w *World) article(id string) (bundle.Article, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.articles[id]
	return a, ok
}

// Stick is the channel as it travels by hand.
func (w *World) Stick() (transport.Path, error) {
	src, err := file.Open(w.stick)
	if err != nil {
		return transport.Path{}, err
	}
	return src.Path("stick"), nil
}

// tlsFor is a website's configuration.
func (w *World) tlsFor(name string) (*tls.Config, error) {
	cert, err := w.ca.issue(name)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
}

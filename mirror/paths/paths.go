// Package paths turns the places that invites and grants name into paths that
// mirror/sync can race.
//
// A [Set] keeps one client for each place, so that connections and what was
// learned about them last as long as the program runs.
package paths

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/gateway"
	"tamizdat/transport/ipfs"
	"tamizdat/transport/pkarr"
	"tamizdat/transport/relay"
)

// Config says what may be used. Network is required.
type Config struct {
	Network transport.Network
	// Resolvers are asked for DNS zones, each as dns.ParseResolvers takes it; empty
	// means the system's.
	Resolvers []string
	// Hurry lifts the limit on DNS queries a second.
	Hurry bool
	// BitTorrent are nodes of its DHT, "HOST:PORT" each, where every channel's newest head
	// is looked for as well; empty for not: it shows strangers who asks for what.
	BitTorrent []string
	// Extra paths are offered for every channel (a file, say).
	Extra []transport.Path
	// Roots are the authorities that vouch for gateways, for relays behind a CDN and
	// for resolvers asked over TLS, nil for the system's.
	Roots *x509.CertPool
	// Now is the clock that TLS certificates and session tickets are held
	// against, nil for time.Now. IPFS peers are known by their keys alone:
	// libp2p's own certificates are checked by the system's clock, and are
	// valid from an hour before they were made to 100 years after.
	Now func() time.Time
	// Sessions, if not nil, keeps relays' TLS sessions from one run to the next,
	// which spares a returning reader a round trip. They are secrets.
	Sessions relay.Sessions
	// Where says which network the device is on, in any words; nil means that all
	// are one. Relays remember for each how they were reached, DNS what its resolvers
	// carry.
	Where func() string
	// Keeper, if not nil, keeps what was learned of resolvers from one run to the
	// next. Those that a scan has found are asked beside the system's.
	Keeper dns.Keeper
	Log    *slog.Logger
	// Without is for the censor lab.
	Without Without
}

// Without names what paths do without, for the censor lab to see what each of these
// is worth. Nobody else sets any (internal/archtest).
type Without struct {
	Relay relay.Without
	DNS   dns.Without
}

func (c *Config) where() string {
	if c.Where == nil {
		return ""
	}
	return c.Where()
}

func (c *Config) trust() gateway.Trust { return gateway.Trust{Roots: c.Roots, Now: c.Now} }

// Set is a reader's paths. It may be used from several goroutines at once.
type Set struct {
	cfg Config

	mu       sync.Mutex
	known    map[string][]transport.Path // by place
	relays   map[string]*relay.Client    // by door
	closers  []io.Closer
	node     *ipfs.Node
	swarm    *pkarr.Client
	labels   map[string]int  // how many paths have this label
	networks []*network      // with zones, the one that we were on last behind
	system   func() []string // the resolvers of the network that we are on
}

// New makes an empty set; nothing is opened yet.
func New(cfg Config) *Set {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Set{cfg: cfg, system: (&asked{ask: SystemResolvers, where: cfg.where}).resolvers, known: map[string][]transport.Path{}, relays: map[string]*relay.Client{}, labels: map[string]int{}}
}

// Paths returns the paths to one channel: the same ones for the same places. A
// place that can't be used (malformed, no resolver known) is left out.
func (s *Set) Paths(_ channel.ID, ipns ed25519.PublicKey, places channel.Places) []transport.Path {
	var system []string
	if len(s.cfg.Resolvers) == 0 && len(places.Zones) > 0 {
		system = s.system() // it may take a while, and nobody is to wait for it who needs none
	}
	where := s.cfg.where()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]transport.Path(nil), s.cfg.Extra...)
	doors := gather(places.Relays)
	for _, r := range doors {
		out = append(out, s.relay(r)...)
	}
	for _, g := range places.Gateways {
		out = append(out, s.once("gateway", g+string(ipns), func() ([]transport.Path, error) {
			return s.gateway(g, ipns)
		})...)
	}
	for _, m := range places.Mirrors {
		out = append(out, s.once("mirror", m, func() ([]transport.Path, error) {
			return s.mirror(m)
		})...)
	}
	if len(places.Peers) > 0 {
		key := strings.Join(places.Peers, " ") + string(ipns)
		out = append(out, s.once("ipfs", key, func() ([]transport.Path, error) {
			return s.peers(ipns, places.Peers)
		})...)
	}
	if len(s.cfg.BitTorrent) > 0 && len(ipns) > 0 {
		out = append(out, s.once("dht", string(ipns), func() ([]transport.Path, error) {
			return s.dht(ipns)
		})...)
	}
	if len(places.Zones) == 0 {
		return out
	}
	// Each network has resolvers of its own.
	n, resolvers, found := s.networkOf(where), s.cfg.Resolvers, []string(nil)
	if len(resolvers) == 0 {
		resolvers, found = system, n.choose()
	}
	for _, z := range places.Zones {
		key := z.Name + "@" + z.Authority + " " + where + " " + strings.Join(resolvers, " ") + " " + strings.Join(found, " ")
		n.replace(s, z.Name+"@"+z.Authority, key)
		for _, p := range s.once("dns", key, func() ([]transport.Path, error) {
			return s.zone(z, resolvers, found, n.pool)
		}) {
			p.Source = s.zoneSource(z, doors)
			out = append(out, p)
		}
	}
	return out
}

// zoneSource is what a zone depends on. Zones that one name server answers for, or that
// one set of resolvers is asked for, confirm nothing to each other, nor does a relay's zone
// to the relay. Whose it is follows from the address, or from the domain that both are in.
func (s *Set) zoneSource(z channel.Zone, doors []*door) string {
	host, _, err := net.SplitHostPort(z.Authority)
	source := "name server " + host
	if err != nil {
		source = "resolvers"
	}
	for _, d := range doors {
		ps := s.known["relay "+d.key()]
		if len(ps) > 0 && !strings.Contains(source, ps[0].Source) && (d.Host == host || sameDomain(d.Host, z.Name)) {
			source += "\n" + ps[0].Source
		}
	}
	return source
}

// sameDomain reports whether two names are in a domain that one party has registered.
func sameDomain(a, b string) bool {
	x, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	if err != nil {
		return false
	}
	y, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return err == nil && x == y
}

// once makes the paths of a place the first time it is asked for, and again if
// that failed: what is missing, a resolver say, may be there by then.
func (s *Set) once(kind, place string, make func() ([]transport.Path, error)) []transport.Path {
	key := kind + " " + place
	if ps, ok := s.known[key]; ok {
		return ps
	}
	ps, err := make()
	if err != nil {
		s.cfg.Log.Warn("a way in can't be used", "kind", kind, "error", err)
		return ps
	}
	s.known[key] = ps
	return ps
}

// door is a relay with all the ports that it has for a batch.
type door struct {
	channel.Relay
	also []uint16
}

// key tells doors apart. A grant may name more ports of one than the invite did.
func (d *door) key() string { return d.Host + d.Prefix.Path() + string(d.Pin[:]) }

// gather puts together what is named once for each port; the first one counts.
func gather(relays []channel.Relay) []*door {
	var out []*door
	for _, r := range relays {
		d := &door{Relay: r}
		i := slices.IndexFunc(out, func(o *door) bool { return o.key() == d.key() })
		if i < 0 {
			out = append(out, d)
			continue
		}
		o := out[i]
		if r.Port != o.Port && !slices.Contains(o.also, r.Port) {
			o.also = append(o.also, r.Port)
		}
		if len(o.ECH) == 0 {
			o.ECH = r.ECH
		}
	}
	return out
}

func (s *Set) relay(d *door) []transport.Path {
	key := d.key()
	paths := s.once("relay", key, func() ([]transport.Path, error) {
		c, err := relay.New(relay.Config{Network: s.cfg.Network, Relay: d.Relay, Trust: s.cfg.trust(), Sessions: s.cfg.Sessions, Where: s.cfg.Where, Without: s.cfg.Without.Relay})
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, c)
		s.relays[key] = c
		return c.Paths(), nil
	})
	if c := s.relays[key]; c != nil {
		c.Know(append(d.also, d.Port), d.ECH) // it may be known by another one
	}
	return paths
}

// web makes a round tripper for hosts on the web.
func (s *Set) web() *http.Transport {
	life, end := context.WithCancel(context.Background())
	rt := gateway.NewTransport(life, s.cfg.Network, s.cfg.trust())
	s.closers = append(s.closers, closer(func() { end(); rt.CloseIdleConnections() }))
	return rt
}

func (s *Set) mirror(base string) ([]transport.Path, error) {
	c, err := gateway.New(base, s.web(), gateway.Options{Static: true})
	if err != nil {
		return nil, err
	}
	p := c.Path()
	p.Name = s.unique(p.Name) // one host may have several mirrors
	return []transport.Path{p}, nil
}

func (s *Set) gateway(base string, key ed25519.PublicKey) ([]transport.Path, error) {
	rt := s.web()
	c, err := gateway.New(base, rt, gateway.Options{Runs: gateway.RunsTried})
	if err != nil {
		return nil, err
	}
	p := c.Path()
	p.Heads, err = ipfs.GatewayHeads(rt, base, key)
	return []transport.Path{p}, err
}

func (s *Set) peers(key ed25519.PublicKey, peers []string) ([]transport.Path, error) {
	if s.node == nil {
		n, err := ipfs.New(context.Background(), ipfs.Config{Network: s.cfg.Network, Logger: s.cfg.Log})
		if err != nil {
			return nil, err
		}
		s.node = n
		s.closers = append(s.closers, n)
	}
	p, err := s.node.Path(s.unique(peerLabel(peers[0])), key, peers)
	if err != nil {
		return nil, err
	}
	return []transport.Path{p}, nil
}

func (s *Set) dht(key ed25519.PublicKey) ([]transport.Path, error) {
	if s.swarm == nil {
		c, err := pkarr.New(pkarr.Config{Network: s.cfg.Network, Nodes: s.cfg.BitTorrent, Logger: s.cfg.Log})
		if err != nil {
			return nil, err
		}
		s.swarm = c
	}
	p := s.swarm.Path(key)
	p.Name = s.unique(p.Name) // each channel has a key of its own
	return []transport.Path{p}, nil
}

// unique adds a number to a name that a path has already.
func (s *Set) unique(name string) string {
	if s.labels[name]++; s.labels[name] > 1 {
		name += " " + strconv.Itoa(s.labels[name])
	}
	return name
}

// peerLabel is the end of the peer ID that a multiaddr ends in: enough to tell
// peers apart, as IPFS tools show them too.
func peerLabel(addr string) string {
	id := addr[strings.LastIndexByte(addr, '/')+1:]
	return "peer " + id[max(0, len(id)-6):]
}

const (
	// maxFound is how many of the resolvers that a scan has found are asked.
	maxFound = 16
	// maxNetworks is of how many networks the clients are kept, with what they hold.
	maxNetworks = 8
)

// network is one that the device was on, with what all zones share there.
type network struct {
	where string
	pool  *dns.Pool
	found []string          // those that a scan has found and that are asked, sorted
	zones map[string]string // the key in Set.known, by zone and authority
}

// networkOf returns what is kept of a network; the one that we were not on for
// longest goes if they are too many.
func (s *Set) networkOf(where string) *network {
	i := slices.IndexFunc(s.networks, func(n *network) bool { return n.where == where })
	if i >= 0 {
		n := s.networks[i]
		s.networks = append(slices.Delete(s.networks, i, i+1), n)
		return n
	}
	if len(s.networks) == maxNetworks {
		old := s.networks[0]
		for _, key := range old.zones {
			delete(s.known, "dns "+key)
		}
		s.networks = slices.Delete(s.networks, 0, 1)
		_ = old.pool.Close() // never fails
	}
	n := &network{where: where, zones: map[string]string{}, pool: dns.NewPool(dns.PoolConfig{
		Network: s.cfg.Network, Trust: s.cfg.trust(), Hurry: s.cfg.Hurry, Keeper: s.cfg.Keeper, Key: PoolKey(where), Without: s.cfg.Without.DNS,
	})}
	s.networks = append(s.networks, n)
	return n
}

// choose returns the found resolvers to ask. Scores move with every question, and
// other resolvers mean another client, which knows nothing yet: so one that is asked
// stays until it is far behind.
func (n *network) choose() []string {
	best := n.pool.Found(2 * maxFound)
	out := slices.DeleteFunc(slices.Clone(n.found), func(r string) bool { return !slices.Contains(best, r) })
	for _, r := range best {
		if len(out) < maxFound && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	n.found = out
	return out
}

// replace drops a zone's client that asks others than the one under key. It holds no
// sockets unless somebody uses it, and he may go on with it.
func (n *network) replace(s *Set, zone, key string) {
	if old, ok := n.zones[zone]; ok && old != key {
		delete(s.known, "dns "+old)
	}
	n.zones[zone] = key
}

// pool is that of a network's resolvers: the one that zones there share, or one that knows
// what is kept. done must follow.
func (s *Set) pool(where string) (p *dns.Pool, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.networks {
		if n.where == where {
			return n.pool, func() {}
		}
	}
	p = dns.NewPool(dns.PoolConfig{Network: s.cfg.Network, Keeper: s.cfg.Keeper, Key: PoolKey(where)})
	return p, func() { _ = p.Close() } // never fails
}

// Resolvers says what is known of the resolvers of a network, the best first. It asks
// nobody.
func (s *Set) Resolvers(where string) []dns.Facts {
	p, done := s.pool(where)
	defer done()
	return p.Facts()
}

// Found keeps what a scan has found on a network, and returns all that is known there
// now, the best first.
func (s *Set) Found(where string, found []dns.Facts) []dns.Facts {
	p, done := s.pool(where)
	defer done()
	return p.Merge(found)
}

// Forget forgets what is known of the resolvers of a network.
func (s *Set) Forget(where string) {
	p, done := s.pool(where)
	defer done()
	p.Forget()
}

// PoolKey is under which key a Config.Keeper keeps what was learned of the
// resolvers of a network.
func PoolKey(where string) string { return "dns/resolvers/" + where }

func (s *Set) zone(z channel.Zone, resolvers, found []string, pool *dns.Pool) ([]transport.Path, error) {
	var authority []string
	if z.Authority != "" && !secret(slices.Concat(resolvers, found)) {
		authority = []string{z.Authority}
	}
	all := slices.Concat(resolvers, authority, found)
	if len(all) == 0 {
		return nil, errors.New("no resolver is known; name one with --resolver")
	}
	client := func(resolvers []string) (*dns.Client, error) {
		return dns.NewClient(dns.ClientConfig{Pool: pool, Zone: z.Name, Resolvers: resolvers, Logger: s.cfg.Log})
	}
	c, err := client(all)
	if err != nil {
		return nil, err
	}
	p := c.Path()
	// A path is known by its name, of a few resolvers. A zone may have several servers,
	// and which of those found are asked changes.
	named := slices.Concat(authority, resolvers)
	if len(named) == 0 {
		p.Name = "dns " + z.Name + " via found ones"
		return []transport.Path{p}, nil
	}
	of, err := client(named)
	if err != nil {
		return nil, err
	}
	if p.Name = of.Path().Name; len(found) > 0 {
		p.Name += " and found ones"
	}
	return []transport.Path{p}, nil
}

// secret reports whether resolvers are named, all of them encrypted: who chose that
// does not want the zone's own server asked in the clear beside them.
func secret(resolvers []string) bool {
	as, err := dns.ParseResolvers(resolvers)
	return err == nil && len(as) > 0 && !slices.ContainsFunc(as, func(a dns.Address) bool { return !a.Secret() })
}

// closer is something to be done at the end.
type closer func()

func (c closer) Close() error { c(); return nil }

// Close ends all connections.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	for _, n := range s.networks {
		errs = append(errs, n.pool.Close())
	}
	s.closers, s.known, s.labels, s.node = nil, map[string][]transport.Path{}, map[string]int{}, nil
	s.relays, s.networks = map[string]*relay.Client{}, nil
	return errors.Join(errs...)
}

package ipfs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"

	"tamizdat/transport"
)

const (
	// republish is how often a DHT is given the records and roots anew: its
	// nodes come and go, and forget both after 48 hours.
	republish = 6 * time.Hour
	// rejoin is how soon a DHT none of whose peers was reached is tried again at
	// first; the time doubles up to maxRejoin.
	rejoin    = 250 * time.Millisecond
	maxRejoin = time.Minute
	// maxAnnounces bounds the walks that put records at the same time.
	maxAnnounces = 4
	// announceTimeout bounds one walk that puts a record or a root.
	announceTimeout = 3 * time.Minute
	// maxProviders bounds whom a lookup of an edition's root adds to a fetch.
	maxProviders = 8
)

func (n *Node) startDHT(life context.Context, mode Mode) error {
	m := dht.ModeClient
	if mode == DHTServer {
		m = dht.ModeServer
	}
	d, err := dht.New(n.host, dht.Mode(m), dht.BootstrapPeers(n.peers...))
	if err != nil {
		return fmt.Errorf("start dht: %w", err)
	}
	n.dht = d
	n.wg.Go(func() { n.keepAnnounced(life) })
	return nil
}

// keepAnnounced joins the DHT, announces every record once it is in (those that
// were set before found nobody to be put to) and then anew in time.
func (n *Node) keepAnnounced(life context.Context) {
	retry := rejoin
	for {
		n.join(life)
		wait := republish
		if n.dht.RoutingTable().Size() == 0 {
			wait, retry = retry, min(2*retry, maxRejoin)
		} else {
			retry = rejoin
			n.mu.Lock()
			if !n.closed {
				for name := range n.records {
					n.announce(name)
				}
			}
			n.mu.Unlock()
		}
		t := time.NewTimer(wait)
		select {
		case <-life.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// join connects to the start peers unless others are known, and returns when
// the routing table was filled from whom was reached.
func (n *Node) join(life context.Context) {
	if n.dht.RoutingTable().Size() == 0 {
		for _, p := range n.peers {
			if err := n.connect(life, p); err != nil {
				n.log.Debug("dht start peer not reached", "err", err)
			}
		}
	}
	if err := n.dht.Bootstrap(life); err != nil {
		n.log.Warn("dht did not start", "err", tidy(err))
	}
	select { // Bootstrap only sets the walk off
	case err := <-n.dht.RefreshRoutingTable():
		if err != nil {
			n.log.Debug("dht routing table not refreshed", "err", tidy(err))
		}
	case <-life.Done():
	}
}

func (n *Node) dhtClient() bool { return n.dht.Mode() == dht.ModeClient }

// announce puts a record into the DHT and announces that we hold its root, in
// the background. n.mu is held.
func (n *Node) announce(name ipns.Name) {
	n.wg.Go(func() {
		select {
		case n.announcing <- struct{}{}:
		case <-n.life.Done():
			return
		}
		defer func() { <-n.announcing }()
		n.mu.Lock()
		raw, ok := n.records[name]
		n.mu.Unlock()
		if !ok { // removed while it waited for its turn
			return
		}
		ctx, cancel := context.WithTimeout(n.life, announceTimeout)
		defer cancel()
		if err := n.dht.PutValue(ctx, string(name.RoutingKey()), raw); err != nil {
			n.log.Debug("ipns record not put", "err", tidy(err))
		}
		r, err := parseRecord(name, raw)
		if err != nil {
			return
		}
		if err := n.dht.Provide(ctx, r.root, true); err != nil {
			n.log.Debug("edition root not announced", "err", tidy(err))
		}
	})
}

// lookup walks the DHT for a record. kad-dht refuses an expired one.
func (n *Node) lookup(ctx context.Context, name ipns.Name) (*signed, error) {
	raw, err := n.dht.GetValue(ctx, string(name.RoutingKey()))
	if errors.Is(err, routing.ErrNotFound) {
		return nil, fmt.Errorf("ipns record: %w", transport.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return parseRecord(name, raw)
}

// providers asks the DHT who holds an edition's root; nil without a DHT. The
// channel is closed at the end of the walk or of ctx.
func (n *Node) providers(ctx context.Context, root cid.Cid) <-chan peer.AddrInfo {
	if n.dht == nil || !root.Defined() {
		return nil
	}
	return n.dht.FindProvidersAsync(ctx, root, maxProviders)
}

// Package relay speaks to a relay, and listens as one.
//
// A relay is a website for everybody, on one port over HTTP/3 and HTTP/2. Under
// a secret path prefix it is an IPFS trustless gateway, plus one resource of
// its own: /head/CHANNEL, which answers with everything that a reader's front
// page takes, in one CAR.
//
//   - [New] makes the reader's paths to one relay: over QUIC and over TCP.
//   - [NewPublisher] pushes editions, by the [Target] line a volunteer gives.
//   - [Listen] serves a handler (mirror/relay has it) on both protocols.
//
// A relay is known by its [channel.Pin] and by nothing else. Every socket is
// opened through a transport.Network.
//
// # Resources under the prefix
//
//	GET  /ipfs/CID?format=raw|car        trustless gateway
//	GET  /ipns/NAME                      IPNS record, if the relay holds one
//	GET  /head/CHANNEL                   the opening answer, a CARv1
//	     root=V    leaves out root notes up to version V
//	     grant=N   adds the grant of that name
//	     only=roots|head|grant           ends after that part
//	     have=S    the caller's head covers S editions: answered by 304 unless
//	               there is a larger one, or another one of that size than
//	               If-None-Match names
//	     wait=T    with have: hold the answer up to T seconds for a new head
//	HEAD, PATCH /intake/CHANNEL/CID      under an intake prefix: how much is
//	                                     held of the upload whose head is CID;
//	                                     append to it (see Publisher)
package relay

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// Config says how to reach one relay.
type Config struct {
	Network transport.Network
	Relay   channel.Relay
	// Wait is how long Heads.Head lets the relay hold a request open when it
	// has nothing newer (long poll), at most MaxWait; 0 asks and returns.
	Wait time.Duration
}

// MaxWait is the longest a relay holds a long poll.
const MaxWait = 60 * time.Second

// Client is a reader's side of one relay. Its paths may be used at once; each
// keeps one connection, dialled when first needed and again when it has died.
type Client struct {
	paths []transport.Path
	conns []conn
}

// New prepares the paths to a relay; nothing is dialled yet.
func New(cfg Config) (*Client, error) {
	if cfg.Network == nil {
		return nil, errors.New("relay: no network")
	}
	if !validHost(cfg.Relay.Host) || cfg.Relay.Port == 0 {
		return nil, errors.New("relay: bad host or port")
	}
	addr := net.JoinHostPort(cfg.Relay.Host, strconv.Itoa(int(cfg.Relay.Port)))
	c := &Client{}
	for _, way := range []struct {
		kind string
		dial func(transport.Network, string, channel.Pin) conn
	}{{transport.KindQUIC, newQUIC}, {transport.KindTCP, newTCP}} {
		rt := way.dial(cfg.Network, cfg.Relay.Host, cfg.Relay.Pin)
		base := "https://" + addr + "/" + cfg.Relay.Prefix.Path()
		g, err := gateway.New(base, rt, gateway.Options{})
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, rt)
		c.paths = append(c.paths, transport.Path{
			Name: fmt.Sprintf("relay %s %s", addr, way.kind),
			Kind: way.kind,
			Hints: transport.Hints{
				Batch: 32, Parallel: 2, MaxBlock: bundle.MaxBlock, Setup: 1, Overhead: 1.04,
			},
			Heads:  &heads{rt: rt, base: base, wait: min(cfg.Wait, MaxWait), tags: map[channel.ID]string{}},
			Blocks: g,
		})
	}
	return c, nil
}

// Paths returns the path over QUIC and the one over TCP.
func (c *Client) Paths() []transport.Path { return c.paths }

// Close ends all connections.
func (c *Client) Close() error {
	var errs []error
	for _, cn := range c.conns {
		errs = append(errs, cn.Close())
	}
	return errors.Join(errs...)
}

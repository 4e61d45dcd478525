// Package relay speaks to a relay, and listens as one.
//
// A relay is a website for everybody, on one port over HTTP/3 and HTTP/2. Under
// a secret path prefix it is an IPFS trustless gateway, plus one resource of
// its own: /head/CHANNEL, which answers with everything that a reader's front
// page takes, in one CAR.
//
//   - [New] makes the reader's paths to one relay: over QUIC, over TCP, and over
//     many TCP connections that carry little each (small.go), for networks where
//     larger ones freeze.
//   - [NewPublisher] pushes editions, by the [Target] line a volunteer gives.
//   - [NewPuller] fetches them whole for another relay, by a [Pull] line.
//   - [Listen] serves a handler (mirror/relay has it) on both protocols.
//
// A relay is known by its [channel.Pin] and by nothing else, unless it is
// reached through a CDN's name: then by WebPKI. Every socket is opened through a
// transport.Network.
//
// Over QUIC there is a ladder of ways (ladder.go): its versions 1 and 2, the
// relay's other ports, its name hidden by ECH or not. They are tried one after the
// other, each a little later than the one before; what worked on a network is
// tried first there.
//
// A reader who comes back asks in his first flight (0-RTT) and has the front
// page one round trip later: see [Sessions]. Such a request carries an unused
// header field, X-Padding, to be large enough for a large answer.
//
// # Resources under the prefix
//
//	GET  /ipfs/CID?format=raw|car        trustless gateway
//	GET  /ipns/NAME                      IPNS record, if the relay holds one
//	GET  /head/CHANNEL                   the opening answer, a CARv1
//	     root=V    leaves out root notes up to version V
//	     grant=N   adds the grant of that name
//	     only=roots|head|grant           ends after that part
//	     signed=T with have=S            also a head of size S that was signed after T, alone
//	     have=S    the caller's head covers S editions: answered by 304 unless
//	               there is a larger one, or another one of that size than
//	               If-None-Match names
//	     wait=T    with have: hold the answer up to T seconds for a new head
//	GET  /edition/CHANNEL/CID            under a pull prefix: the CAR of the edition
//	                                     whose head is CID, with Range (see Puller)
//	HEAD, PATCH /intake/CHANNEL/CID      under an intake prefix: how much is
//	                                     held of the upload whose head is CID;
//	                                     append to it (see Publisher)
//	POST /witness/add-checkpoint         there too, if the relay is a witness:
//	                                     c2sp.org/tlog-witness (see Publisher.Cosign)
//	GET  /witness/HASH/checkpoint        what it has cosigned last; HASH is the
//	                                     origin's, for readers too
package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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
	// Trust checks a relay's certificate if the relay has no pin (see
	// channel.Pin.WebPKI); of a pinned relay's TLS it is only the clock.
	Trust gateway.Trust
	// Sessions, if not nil, keeps TLS session tickets from one run to the next, and
	// which way of dialling worked. Without it they last as long as the Client.
	Sessions Sessions
	// Where says which network the device is on, in any words: what worked is
	// remembered for each. nil means that all are one.
	Where func() string
	// Without is for the censor lab.
	Without Without
}

// MaxWait is the longest a relay holds a long poll.
const MaxWait = 60 * time.Second

// smallPatience is how long the other ways have before small connections are
// tried: they cost the relay a handshake for every 5 KB.
const smallPatience = time.Second

// Client is a reader's side of one relay. Its paths may be used at once; those
// over QUIC and TCP keep one connection each, dialled when first needed and again
// when it has died.
type Client struct {
	paths []transport.Path
	port  uint16 // the one that its paths are named by
	conns []conn
	bulk  *bulk
}

// New prepares the paths to a relay; nothing is dialled yet.
func New(cfg Config) (*Client, error) {
	if cfg.Network == nil {
		return nil, errors.New("relay: no network")
	}
	if !validHost(cfg.Relay.Host) || cfg.Relay.Port == 0 {
		return nil, errors.New("relay: bad host or port")
	}
	if _, err := netip.ParseAddr(cfg.Relay.Host); err == nil && cfg.Relay.Pin.WebPKI() {
		return nil, errors.New("relay: an address without a pin")
	}
	addr := net.JoinHostPort(cfg.Relay.Host, strconv.Itoa(int(cfg.Relay.Port)))
	c := &Client{port: cfg.Relay.Port}
	for _, way := range []struct {
		kind, name string
		dial       func(transport.Network, peer) conn
		hints      transport.Hints
	}{
		{transport.KindQUIC, "quic", newQUIC, transport.Hints{Batch: 256, Parallel: 2, Setup: 1, Overhead: 1.04}},
		{transport.KindTCP, "tcp", newTCP, transport.Hints{Batch: 256, Parallel: 2, Setup: 1, Overhead: 1.04}},
		{transport.KindTCP, "tcp, small connections", newSmall, transport.Hints{Batch: 2, Parallel: 2, Setup: 3, Overhead: 2, Patience: smallPatience}},
	} {
		rt := way.dial(cfg.Network, peer{
			host: cfg.Relay.Host, port: cfg.Relay.Port, ech: cfg.Relay.ECH, pin: cfg.Relay.Pin, trust: cfg.Trust,
			tickets: newTickets(cfg.Sessions, way.kind, cfg.Relay),
			keep:    cfg.Sessions, where: cfg.Where, name: nameOf(cfg.Relay), without: cfg.Without,
		})
		// The port that https means is left out of the Host field, as browsers do:
		// a CDN may not know its own name with it.
		base := "https://" + strings.TrimSuffix(addr, ":443") + "/" + cfg.Relay.Prefix.Path()
		runs := gateway.RunsTrusted
		if way.hints.Patience > 0 { // what is large does not come through there
			runs = gateway.RunsNever
		}
		g, err := gateway.New(base, rt, gateway.Options{Runs: runs})
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, rt)
		way.hints.MaxBlock = bundle.MaxBlock
		h := &heads{rt: rt, base: base, wait: min(cfg.Wait, MaxWait), tags: map[channel.ID]string{}}
		p := transport.Path{
			Name: fmt.Sprintf("relay %s %s", addr, way.name),
			Kind: way.kind, Source: source(cfg.Relay.Prefix), Hints: way.hints, Heads: h, Blocks: g,
		}
		if q, ok := rt.(*quicConn); ok {
			c.bulk = &bulk{network: cfg.Network, main: q, one: g, base: base}
			p.Blocks = c.bulk
		}
		if way.hints.Patience > 0 {
			p.Heads = struct{ transport.Heads }{h} // an opening is too large for one small connection
		}
		c.paths = append(c.paths, p)
	}
	return c, nil
}

// source stands for the server behind a prefix: a relay and its CDN have the same
// one. It tells nothing of the prefix.
func source(p channel.Prefix) string {
	sum := sha256.Sum256([]byte("tamizdat/v1/source\n" + p.Path()))
	return "relay " + hex.EncodeToString(sum[:8])
}

// Know takes in what a grant says that the invite did not: other ports that serve
// the same over UDP, and the relay's ECHConfigList, nil if it has none. It counts
// for the next connections.
func (c *Client) Know(ports []uint16, ech []byte) {
	ports = slices.DeleteFunc(slices.Clone(ports), func(p uint16) bool { return p == c.port })
	for _, cn := range c.conns {
		cn.know(ports, ech)
	}
}

// Paths returns the path over QUIC, the one over TCP, and the one over small
// connections.
func (c *Client) Paths() []transport.Path { return c.paths }

// Close ends all connections.
func (c *Client) Close() error {
	c.bulk.close()
	var errs []error
	for _, cn := range c.conns {
		errs = append(errs, cn.Close())
	}
	return errors.Join(errs...)
}

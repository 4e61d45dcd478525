package censorlab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"tamizdat/transport"
)

// A node's habits in the DHT.
const (
	dhtPort = 4001
	dhtALPN = "libp2p"
	// hopTries is how often a hop is tried, of hopTimeout each: it stands for the
	// next of the peers that are as near.
	hopTries   = 5
	hopTimeout = 10 * time.Second
	// tcpLater is how long a dial over QUIC goes ahead of TCP (go-libp2p's
	// dial ranking).
	tcpLater = 250 * time.Millisecond
	// askQUIC and askTCP are the round trips of a first question once the transport
	// is connected: identify and the query, and for TCP two for Noise and its
	// negotiation before them. More are saved by libp2p than are counted here.
	askQUIC = 2
	askTCP  = 4
)

// readIPNS walks what stands for the DHT, then fetches with our own IPFS path
// alone: it is a fair model of a node that speaks to one provider.
func readIPNS(ctx context.Context, m *modelled) error {
	bootstrap, err := hop(ctx, m, addrBootstrap)
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	defer func() { _ = bootstrap.Close() }()
	for walk := range 2 { // to the record, then to a provider
		if walk > 0 { // the connection to the first node is there
			if err := bootstrap.ask(ctx, 1); err != nil {
				return err
			}
		}
		for _, a := range addrHops {
			c, err := hop(ctx, m, a)
			if err != nil {
				return err
			}
			_ = c.Close()
		}
	}
	walked := m.since()
	rd, err := m.w.readerOn(ctx, m.network, Reading{Only: []string{transport.KindIPFS}}, m.clock)
	if err != nil {
		return err
	}
	o, err := rd.Sync(ctx)
	for _, t := range []struct{ to, from *time.Duration }{{&m.o.Head, &o.Head}, {&m.o.Headlines, &o.Headlines}, {&m.o.Text, &o.Text}, {&m.o.Images, &o.Images}} {
		if *t.from > 0 {
			*t.to = walked + *t.from
		}
	}
	return errors.Join(err, o.Err, rd.Close())
}

// hop connects to a node and asks it.
func hop(ctx context.Context, m *modelled, addr netip.Addr) (c *hopConn, err error) {
	for range hopTries {
		if c, err = hopOnce(ctx, m, netip.AddrPortFrom(addr, dhtPort)); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

func hopOnce(ctx context.Context, m *modelled, to netip.AddrPort) (*hopConn, error) {
	ctx, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	type dialled struct {
		c   *hopConn
		err error
	}
	done := make(chan dialled, 2)
	go func() {
		c, err := hopQUIC(ctx, m, to)
		done <- dialled{c, err}
	}()
	go func() {
		err := sleep(ctx, tcpLater)
		var c *hopConn
		if err == nil {
			c, err = hopTCP(ctx, m, to)
		}
		done <- dialled{c, err}
	}()
	first := <-done
	if first.err != nil {
		if first = <-done; first.err != nil {
			return nil, first.err
		}
	} else {
		go func() { // the slower of the two is not needed
			if second := <-done; second.err == nil {
				_ = second.c.Close()
			}
		}()
	}
	if err := first.c.ask(ctx, first.c.first); err != nil {
		_ = first.c.Close()
		return nil, err
	}
	return first.c, nil
}

// hopConn is a connection to a node of the DHT.
type hopConn struct {
	io.ReadWriter
	first int // round trips of the first question
	close func()
}

// Close ends it.
func (c *hopConn) Close() error { c.close(); return nil }

// ask plays round trips of small messages.
func (c *hopConn) ask(ctx context.Context, n int) error {
	defer context.AfterFunc(ctx, c.close)()
	buf := make([]byte, 200)
	copy(buf, "\x13/multistream/1.0.0\n")
	for range n {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
	}
	return nil
}

func hopTCP(ctx context.Context, m *modelled, to netip.AddrPort) (*hopConn, error) {
	c, err := m.network.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return &hopConn{c, askTCP, func() { _ = c.Close() }}, nil
}

func hopQUIC(ctx context.Context, m *modelled, to netip.AddrPort) (*hopConn, error) {
	pc, err := m.network.ListenPacket(ctx, "udp", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	t := &quic.Transport{Conn: pc}
	end := func() { _, _ = t.Close(), pc.Close() }
	c, err := t.Dial(ctx, net.UDPAddrFromAddrPort(to), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{dhtALPN}, MinVersion: tls.VersionTLS13, // a peer is known by its key
	}, &quic.Config{Versions: []quic.Version{quic.Version1}})
	if err != nil {
		end()
		return nil, err
	}
	s, err := c.OpenStream()
	if err != nil {
		end()
		return nil, err
	}
	return &hopConn{s, askQUIC, func() { _ = c.CloseWithError(0, ""); end() }}, nil
}

// dht starts the nodes that a walk meets. They repeat what they are told.
func (w *World) dht(ctx context.Context) error {
	cert, err := w.ca.issue("dht.example")
	if err != nil {
		return err
	}
	for _, a := range append([]netip.Addr{addrBootstrap}, addrHops...) {
		host, at := w.host("dht "+a.String(), a), netip.AddrPortFrom(a, dhtPort).String()
		ln, err := host.Listen(ctx, "tcp", at)
		if err != nil {
			return err
		}
		w.closers = append(w.closers, ln)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
			}
		}()
		pc, err := host.ListenPacket(ctx, "udp", at)
		if err != nil {
			return err
		}
		t := &quic.Transport{Conn: pc}
		w.closers = append(w.closers, pc, t)
		streams, err := t.Listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{dhtALPN}, MinVersion: tls.VersionTLS13}, nil)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := streams.Accept(context.Background())
				if err != nil {
					return
				}
				go func() {
					s, err := c.AcceptStream(context.Background())
					if err == nil {
						_, _ = io.Copy(s, s)
					}
					_ = c.CloseWithError(0, "")
				}()
			}
		}()
	}
	return nil
}

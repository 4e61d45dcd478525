package censorlab

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"tamizdat/transport"
)

// addrMouth is where the tunnel of random bytes ends, before relay B.
var addrMouth = netip.MustParseAddr("203.0.113.150")

const mouthPort = 8388

// random is a Network whose TCP connections go through that tunnel, whoever they
// are meant for: what is sent looks like nothing, from the first byte.
type random struct{ transport.Network }

func (n *random) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return n.Network.Dial(ctx, network, address)
	}
	c, err := n.Network.Dial(ctx, network, netip.AddrPortFrom(addrMouth, mouthPort).String())
	if err != nil {
		return nil, err
	}
	return newVeil(c, 1, 2), nil
}

// veil is a connection under a stream of noise each way. It hides nothing from who
// knows the seed, and need not: the censor looks at bytes alone.
type veil struct {
	net.Conn
	out, in *rand.ChaCha8
}

func newVeil(c net.Conn, out, in byte) *veil {
	return &veil{c, rand.NewChaCha8([32]byte{out}), rand.NewChaCha8([32]byte{in})}
}

func (v *veil) Write(b []byte) (int, error) { return v.Conn.Write(under(v.out, b)) }

func (v *veil) Read(b []byte) (int, error) {
	n, err := v.Conn.Read(b)
	copy(b, under(v.in, b[:n]))
	return n, err
}

func under(noise *rand.ChaCha8, b []byte) []byte {
	out := make([]byte, len(b))
	_, _ = noise.Read(out) // it never fails
	for i := range b {
		out[i] ^= b[i]
	}
	return out
}

// tunnelMouth lets the tunnel end at relay B.
func tunnelMouth(t *testing.T, w *World) {
	t.Helper()
	on := w.host("tunnel mouth", addrMouth)
	ln, err := on.Listen(t.Context(), "tcp", netip.AddrPortFrom(addrMouth, mouthPort).String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &service{cancel: func() { cancel(); _ = ln.Close() }}
	w.closers = append(w.closers, s)
	s.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.done.Go(func() { hand(ctx, on, newVeil(c, 2, 1)) })
		}
	})
}

// hand copies both ways until one has ended.
func hand(ctx context.Context, via transport.Network, from net.Conn) {
	defer from.Close()
	to, err := via.Dial(ctx, "tcp", netip.AddrPortFrom(addrRelayB, 443).String())
	if err != nil {
		return
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	_, _ = io.Copy(to, from)
	_ = to.Close()
	<-back
}

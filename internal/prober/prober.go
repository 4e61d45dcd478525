// Package prober asks two web servers the same things and tells where their
// answers differ, as a censor does who looks for servers that are more than
// they seem.
//
// It asks what a browser would and what none would: over HTTP/1.1 byte by byte,
// HTTP/2 and HTTP/3 frame by frame, TLS and QUIC with good and with bad
// handshakes, with tickets of its own and of others. What it compares is everything that comes back: status, header
// fields in their order (over HTTP/3 as a set), body, alerts and error codes,
// and whether the connection is kept, closed or reset. Of time it knows seconds:
// what Held returns waits for a server to lose its patience. Whether two servers do
// the same work is for who can look into them.
package prober

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Network opens a prober's sockets; a transport.Network is one.
type Network interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
}

// Server is who is asked: HTTPS over TCP and QUIC at one address ("host:port",
// an address rather than a name).
type Server struct {
	Network Network
	Addr    string
	// Plain: it speaks HTTP/1.1 without TLS, for PlainProbes.
	Plain bool
}

// udp is the server's address for datagrams.
func (s Server) udp() (net.Addr, error) {
	a, err := netip.ParseAddrPort(s.Addr)
	return net.UDPAddrFromAddrPort(a), err
}

// Host is the name that probes ask for.
const Host = "www.example.org"

// Probe is one thing to ask. Names are unique among what Probes and Held return.
type Probe struct {
	Name     string
	ask      func(ctx context.Context, s Server) string
	patience time.Duration // 0 for patience
}

// Ask returns everything that the server answered, in a form that is the same
// for the same behaviour: without the time, and without the server's own port.
func (p Probe) Ask(ctx context.Context, s Server) string {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.patience, patience))
	defer cancel()
	text := varying.ReplaceAllString(p.ask(ctx, s), "$1-")
	if _, port, err := net.SplitHostPort(s.Addr); err == nil {
		text = strings.ReplaceAll(text, ":"+port, ":port")
	}
	return text
}

// patience is how long a server may take before it counts as silent.
const patience = 20 * time.Second

// varying is the time, and the boundary of an answer in several parts.
var varying = regexp.MustCompile(`(?im)^(date: )[^\r\n]*|\b[0-9a-f]{60}\b`)

// Difference is a probe whose answers tell two servers apart.
type Difference struct {
	Probe string
	A, B  string // what each answered, the first time
}

// attempts is how often two answers may differ before they count as different:
// some behaviour is a race on any server, as a reset that overtakes an answer. A
// race that one of them wins in three of ten tries and the other in seven would
// look like a difference after 4 attempts once in 17 times; after 16, once in 90,000.
const attempts = 16

// workers is how many probes are under way at once.
const workers = 8

// Compare asks two servers each of the probes, and both the same number of
// times. A behaviour that varies is different only if none of what the one did
// was done by the other.
func Compare(ctx context.Context, a, b Server, probes []Probe) []Difference {
	found := make([]*Difference, len(probes))
	slots := make(chan struct{}, workers)
	var wg sync.WaitGroup
	for i, p := range probes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i] = compare(ctx, a, b, p)
		})
	}
	wg.Wait()
	var out []Difference
	for _, d := range found {
		if d != nil {
			out = append(out, *d)
		}
	}
	return out
}

func compare(ctx context.Context, a, b Server, p Probe) *Difference {
	var first *Difference
	byA, byB := make(map[string]bool), make(map[string]bool)
	for range attempts {
		ta, tb := p.Ask(ctx, a), p.Ask(ctx, b)
		if first == nil {
			first = &Difference{p.Name, ta, tb}
		}
		byA[ta], byB[tb] = true, true
		for t := range byA {
			if byB[t] {
				return nil
			}
		}
	}
	return first
}

// ending says how a connection ended, by the error of its last read.
func ending(err error) string {
	var alert tls.AlertError
	var ne net.Error
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return "closed"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut off"
	case errors.As(err, &alert):
		return "alert: " + alert.Error()
	case errors.As(err, &ne) && ne.Timeout():
		return "silence"
	}
	// Addresses differ, what happened does not.
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return text
}

// dialTLS connects with a deadline; want are the protocols offered.
func dialTLS(ctx context.Context, s Server, cfg *tls.Config) (*tls.Conn, error) {
	c, err := s.Network.Dial(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// halfCloser is a connection that can say that nothing more comes.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// dialH1 connects for HTTP/1.1.
func dialH1(ctx context.Context, s Server) (halfCloser, error) {
	if !s.Plain {
		return dialTLS(ctx, s, clientTLS("http/1.1"))
	}
	c, err := s.Network.Dial(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	half, ok := c.(halfCloser)
	if !ok {
		c.Close()
		return nil, errors.ErrUnsupported
	}
	return half, nil
}

func clientTLS(protos ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: Host, NextProtos: protos}
}

// Paths is what a prober knows of a website.
type Paths struct {
	// Page is there and short; it is asked for to see whether a connection is kept.
	Page string
	// Known are other paths of the site, and Near what could lead to something
	// that only looks like the site.
	Known, Near []string
	// Large is there and more than what waits in buffers on its way, for Held; "" for
	// none.
	Large string
	// Stale are ECHConfigLists (RFC 9849) of keys that neither server has.
	Stale [][]byte
	// Other is a third server, for its tickets; nil for none.
	Other *Server
}

// Probes returns everything there is to ask that needs no patience: see Held.
func Probes(p Paths) []Probe {
	var out []Probe
	out = append(out, h1Probes(p)...)
	out = append(out, h2Probes(p)...)
	out = append(out, h3Probes(p)...)
	out = append(out, earlyProbes(p)...)
	out = append(out, ticketProbes(p)...)
	out = append(out, tlsProbes()...)
	out = append(out, echProbes(p)...)
	return append(out, quicProbes()...)
}

// PlainProbes returns what can be asked over HTTP/1.1 alone, also of a server
// without TLS.
func PlainProbes(p Paths) []Probe { return h1Probes(p) }

func label(proto, what string, a ...any) string {
	text := fmt.Sprintf(what, a...)
	if len(text) > 100 {
		text = fmt.Sprintf("%s… (%d)", text[:100], len(text))
	}
	return proto + ": " + fmt.Sprintf("%+q", text)
}

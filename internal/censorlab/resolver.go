package censorlab

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"tamizdat/transport"
)

// resolver is an ISP's recursive resolver: it knows which server answers for
// which zone, keeps answers as long as it is told, and asks again over TCP when
// an answer was cut. It has no vices: those of a censor's resolver are played
// on the way to it.
type resolver struct {
	network transport.Network
	zones   map[string]string // zone → address of its server

	mu    sync.Mutex
	cache map[dns.Question]cached
	// asked counts what reached the servers of the zones.
	asked int
	wg    sync.WaitGroup
}

type cached struct {
	msg   *dns.Msg
	until time.Time
}

const resolverTimeout = 5 * time.Second

func newResolver(network transport.Network, zones map[string]string) *resolver {
	return &resolver{network: network, zones: zones, cache: map[dns.Question]cached{}}
}

// forget empties the cache.
func (r *resolver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.cache)
}

// serve answers on both sockets until they are closed.
func (r *resolver) serve(pc net.PacketConn, ln net.Listener) {
	r.wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			req := new(dns.Msg)
			if req.Unpack(buf[:n]) != nil || len(req.Question) != 1 {
				continue
			}
			r.wg.Go(func() {
				size := dns.MinMsgSize
				if o := req.IsEdns0(); o != nil {
					size = max(size, int(o.UDPSize()))
				}
				resp := r.answer(req)
				resp.Truncate(min(size, 1232))
				if b, err := resp.Pack(); err == nil {
					_, _ = pc.WriteTo(b, from)
				}
			})
		}
	})
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.stream(c) })
		}
	})
}

// stream answers one TCP connection's questions in turn.
func (r *resolver) stream(c net.Conn) {
	defer c.Close()
	for {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		b, err := readMessage(c)
		if err != nil {
			return
		}
		req := new(dns.Msg)
		if req.Unpack(b) != nil || len(req.Question) != 1 {
			return
		}
		b, err = r.answer(req).Pack()
		if err != nil || writeMessage(c, b) != nil {
			return
		}
	}
}

// answer resolves one question.
func (r *resolver) answer(req *dns.Msg) *dns.Msg {
	q := req.Question[0]
	q.Name = strings.ToLower(q.Name)
	r.mu.Lock()
	hit, ok := r.cache[q]
	r.mu.Unlock()
	if !ok || time.Now().After(hit.until) {
		msg, err := r.recurse(q)
		if err != nil {
			msg = new(dns.Msg)
			msg.Rcode = dns.RcodeServerFailure
		}
		hit = cached{msg, time.Now().Add(lifetime(msg))}
		r.mu.Lock()
		r.cache[q] = hit
		r.mu.Unlock()
	}
	resp := hit.msg.Copy()
	resp.Id, resp.Response, resp.RecursionAvailable, resp.Authoritative = req.Id, true, true, false
	resp.Question = req.Question // as it was spelled
	resp.RecursionDesired, resp.Truncated = req.RecursionDesired, false
	// A name stands there once, as with all resolvers: a Small record fits 512 bytes then,
	// under the longest name.
	resp.Compress = true
	for _, rr := range resp.Answer {
		if h := rr.Header(); strings.EqualFold(h.Name, q.Name) {
			h.Name = req.Question[0].Name
		}
	}
	resp.Extra = nil
	if req.IsEdns0() != nil {
		resp.SetEdns0(1232, false)
	}
	return resp
}

// lifetime is how long an answer may be kept (RFC 2308 for those of nothing).
func lifetime(m *dns.Msg) time.Duration {
	ttl := uint32(0)
	for i, rr := range m.Answer {
		if h := rr.Header().Ttl; i == 0 || h < ttl {
			ttl = h
		}
	}
	if len(m.Answer) == 0 {
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				ttl = min(soa.Minttl, soa.Hdr.Ttl)
			}
		}
	}
	return time.Duration(ttl) * time.Second
}

var errNoZone = errors.New("no server is known for that name")

// recurse asks the server of the name's zone.
func (r *resolver) recurse(q dns.Question) (*dns.Msg, error) {
	server := ""
	for zone, at := range r.zones {
		if dns.IsSubDomain(dns.Fqdn(zone), q.Name) {
			server = at
		}
	}
	if server == "" {
		return nil, errNoZone
	}
	req := new(dns.Msg)
	req.SetQuestion(q.Name, q.Qtype)
	req.RecursionDesired = false
	req.SetEdns0(1232, false)
	ctx, cancel := context.WithTimeout(context.Background(), resolverTimeout)
	defer cancel()
	r.mu.Lock()
	r.asked++
	r.mu.Unlock()
	resp, err := r.exchange(ctx, "udp", server, req)
	if err == nil && resp.Truncated {
		resp, err = r.exchange(ctx, "tcp", server, req)
	}
	return resp, err
}

func (r *resolver) exchange(ctx context.Context, network, server string, req *dns.Msg) (*dns.Msg, error) {
	c, err := r.network.Dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	b, err := req.Pack()
	if err != nil {
		return nil, err
	}
	if network == "udp" {
		_, err = c.Write(b)
	} else {
		err = writeMessage(c, b)
	}
	if err != nil {
		return nil, err
	}
	if network == "udp" {
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		b = buf[:n]
	} else if b, err = readMessage(c); err != nil {
		return nil, err
	}
	resp := new(dns.Msg)
	return resp, resp.Unpack(b)
}

// readMessage and writeMessage are DNS over a stream (RFC 1035, section 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

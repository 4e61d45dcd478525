package censorlab

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tamizdat/internal/censor"
	"tamizdat/transport"
	dnspath "tamizdat/transport/dns"
)

// Model is one of the ways in which people get blocked news today, modelled:
// its round trips, packets and bytes are played on the same net against the
// same censor, by a small program of the lab and not by the real one. Each is
// given its best case: one server that is up, nothing else to load, and
// headlines, texts and pictures of the same size as ours.
type Model struct {
	// Name is for the table, Says what exactly is modelled.
	Name, Says string
	// censored is what the censor has found out of it.
	censored func(m *censor.Map)
	read     func(ctx context.Context, m *modelled) error
}

// Models are the stand-ins of the scorecard.
func Models() []Model {
	return []Model{
		{
			Name: "mirror site",
			Says: "one HTTPS mirror of the news site in a browser: name looked up at the ISP's resolver, TLS over TCP, a page of headlines, one of texts, pictures at once",
			censored: func(m *censor.Map) {
				m.Relays = append([]netip.AddrPort{netip.AddrPortFrom(addrMirror, 443)}, m.Relays...)
			},
			read: readSite,
		},
		{
			Name: "IPNS over IPFS",
			Says: "an IPFS node that finds the IPNS record and a provider in the DHT (a bootstrap node, then three hops, each a new connection, twice), then fetches from the one provider",
			censored: func(*censor.Map) {
			},
			read: readIPNS,
		},
		{
			Name:     "DNS tunnel",
			Says:     "a tunnel through the ISP's resolver: 130 bytes up and 900 down a query, 32 queries in flight, repeated after a second, four round trips of handshakes",
			censored: func(*censor.Map) {},
			read:     readTunnel,
		},
	}
}

// modelled is one run of a model.
type modelled struct {
	w       *World
	network *censor.Censor
	clock   time.Duration
	start   time.Time
	o       *Outcome
}

// Model puts a new reader who has only that into a scenario.
func (w *World) Model(ctx context.Context, m Model, s censor.Scenario, r Reading) (Outcome, error) {
	if err := w.evil.set(s.Far, r.Seed); err != nil {
		return Outcome{}, err
	}
	w.cache.forget()
	host := w.seat(s)
	defer w.Net.Remove(host)
	known := Map()
	m.censored(&known)
	o := Outcome{By: map[string]string{}}
	run := &modelled{w: w, network: censor.New(host, known, s, r.Seed, r.Trace), clock: s.Clock, start: time.Now(), o: &o}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Limit, patient))
	defer cancel()
	o.Err = m.read(ctx, run)
	o.Up, o.Down = run.network.Bytes()
	return o, nil
}

func (m *modelled) since() time.Duration { return time.Since(m.start) }

// sizes are what the newest edition's parts take.
func (w *World) sizes() (front, text, image int) {
	s := w.pub.EditionSizes(w.pub.Size() - 1)
	return int(s["front"]), int(s["text"]), int(s["media"])
}

// readSite is the mirror site's browser.
func readSite(ctx context.Context, m *modelled) error {
	addr, err := lookup(ctx, m.network, nameMirror)
	if err != nil {
		return err
	}
	rt := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return m.network.Dial(ctx, network, netip.AddrPortFrom(addr, 443).String())
		},
		TLSClientConfig:   &tls.Config{RootCAs: m.w.ca.pool, Time: func() time.Time { return time.Now().Add(m.clock) }},
		ForceAttemptHTTP2: true, DisableCompression: true,
	}
	defer rt.CloseIdleConnections()
	get := func(what string, first *time.Duration) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+nameMirror+"/"+what, nil)
		if err != nil {
			return err
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if first != nil {
			*first = m.since()
		}
		want, _ := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
		n, err := io.Copy(io.Discard, resp.Body)
		if err == nil && n != want {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := get("headlines", &m.o.Head); err != nil {
		return err
	}
	m.o.Headlines = m.since()
	if err := get("texts", nil); err != nil {
		return err
	}
	m.o.Text = m.since()
	if err := get("images", nil); err != nil {
		return err
	}
	m.o.Images = m.since()
	return nil
}

// mirrorSite serves it.
func (w *World) mirrorSite() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		front, text, image := w.sizes()
		n, ok := map[string]int{"/headlines": front, "/texts": text, "/images": image}[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = rw.Write(noise(1, n))
	})
}

// lookup asks the ISP's resolver for an address, as a stub resolver does: it
// believes the first answer to its question.
func lookup(ctx context.Context, network transport.Network, name string) (netip.Addr, error) {
	req := new(dns.Msg)
	req.SetQuestion(dns.Fqdn(name), dns.TypeA)
	for range 3 {
		resp, err := ask(ctx, network, req, 2*time.Second)
		if err != nil {
			if ctx.Err() != nil {
				return netip.Addr{}, ctx.Err()
			}
			continue
		}
		for _, rr := range resp.Answer {
			if a, ok := rr.(*dns.A); ok {
				if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
					return addr, nil
				}
			}
		}
		return netip.Addr{}, errors.New("no such name")
	}
	return netip.Addr{}, errors.New("the resolver is silent")
}

// ask sends one question over UDP and returns the first answer to it.
func ask(ctx context.Context, network transport.Network, req *dns.Msg, patience time.Duration) (*dns.Msg, error) {
	c, err := network.Dial(ctx, "udp", netip.AddrPortFrom(addrResolver, 53).String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := req.Pack()
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		resp := new(dns.Msg)
		if resp.Unpack(buf[:n]) == nil && resp.Id == req.Id && len(resp.Question) == 1 && strings.EqualFold(resp.Question[0].Name, req.Question[0].Name) {
			return resp, nil
		}
	}
}

// readIPNS walks what stands for the DHT, then fetches with our own IPFS path
// alone: it is a fair model of a node that speaks to one provider.
func readIPNS(ctx context.Context, m *modelled) error {
	hop := func(addr netip.Addr) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		c, err := m.network.Dial(ctx, "tcp", netip.AddrPortFrom(addr, 4001).String())
		if err != nil {
			return err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		// Multistream, Noise, multistream, muxer, identify, query: libp2p saves some
		// of these round trips; four are left.
		buf := make([]byte, 200)
		copy(buf, "/multistream/1.0.0\n")
		for range 4 {
			if _, err := c.Write(buf); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				return err
			}
		}
		return nil
	}
	for range 2 { // the record, then a provider
		if err := hop(addrBootstrap); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		for _, a := range addrHops {
			if err := hop(a); err != nil {
				return err
			}
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

// A tunnel's sizes and habits.
const (
	tunnelUp      = 130
	tunnelDown    = 900
	tunnelFlight  = 32
	tunnelTimeout = time.Second
	tunnelTries   = 8
	tunnelSetup   = 4
)

// readTunnel is a tunnel's client: it asks for the stretches of one stream.
func readTunnel(ctx context.Context, m *modelled) error {
	front, text, image := m.w.sizes()
	session := int(m.start.UnixNano() % 1e9)
	for i := range tunnelSetup {
		if err := pull(ctx, m.network, session, -1-i); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
	}
	m.o.Head = m.since()
	from := 0
	for _, part := range []struct {
		size int
		at   *time.Duration
	}{{front, &m.o.Headlines}, {text, &m.o.Text}, {image, &m.o.Images}} {
		n := (part.size + tunnelDown - 1) / tunnelDown
		if err := pullAll(ctx, m.network, session, from, n); err != nil {
			return err
		}
		from += n
		*part.at = m.since()
	}
	return nil
}

func pullAll(ctx context.Context, network transport.Network, session, from, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs, errs := make(chan int), make(chan error)
	for range tunnelFlight {
		go func() {
			var err error
			for i := range jobs {
				if err == nil {
					err = pull(ctx, network, session, i)
				}
			}
			errs <- err
		}()
	}
	for i := range n {
		jobs <- from + i
	}
	close(jobs)
	var failed error
	for range tunnelFlight {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// pull gets one stretch. Its name is as long as a tunnel's names are.
func pull(ctx context.Context, network transport.Network, session, n int) error {
	var err error
	for try := range tunnelTries {
		req := new(dns.Msg)
		label := fmt.Sprintf("s%dn%dt%d-", session, n, try)
		pad := strings.Repeat("q", tunnelUp*8/5-len(label))
		name := label + pad
		var labels []string
		for len(name) > 0 {
			k := min(57, len(name))
			labels = append(labels, name[:k])
			name = name[k:]
		}
		req.SetQuestion(strings.Join(labels, ".")+"."+zoneTunnel+".", dns.TypeTXT)
		req.SetEdns0(1232, false)
		var resp *dns.Msg
		if resp, err = ask(ctx, network, req, tunnelTimeout); err == nil {
			got := 0
			for _, rr := range resp.Answer {
				if txt, ok := rr.(*dns.TXT); ok {
					for _, s := range txt.Txt {
						got += len(s)
					}
				}
			}
			if got >= tunnelDown {
				return nil
			}
			err = errors.New("the answer was cut or refused")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// models starts the stand-ins' servers.
func (w *World) models(ctx context.Context) error {
	if err := w.site(ctx, w.host("mirror", addrMirror), nameMirror, addrMirror, w.mirrorSite()); err != nil {
		return err
	}
	for _, a := range append([]netip.Addr{addrBootstrap}, addrHops...) {
		ln, err := w.host("dht "+a.String(), a).Listen(ctx, "tcp", netip.AddrPortFrom(a, 4001).String())
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
	}
	pc, ln, err := dnspath.Listen(ctx, w.host("tunnel", addrTunnel), netip.AddrPortFrom(addrTunnel, 53).String())
	if err != nil {
		return err
	}
	w.closers = append(w.closers, pc, ln)
	go tunnelServer(pc)
	return nil
}

// tunnelServer answers for the tunnel's zone, and for the mirror site's name.
func tunnelServer(pc net.PacketConn) {
	chunk := make([]string, 0, 4)
	for n := tunnelDown; n > 0; n -= 250 {
		chunk = append(chunk, strings.Repeat("x", min(250, n)))
	}
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
		resp := new(dns.Msg).SetReply(req)
		hdr := dns.RR_Header{Name: req.Question[0].Name, Rrtype: req.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
		switch {
		case req.Question[0].Qtype == dns.TypeA && strings.EqualFold(req.Question[0].Name, nameMirror+"."):
			resp.Answer = []dns.RR{&dns.A{Hdr: hdr, A: addrMirror.AsSlice()}}
		case req.Question[0].Qtype == dns.TypeTXT:
			hdr.Ttl = 0
			resp.Answer = []dns.RR{&dns.TXT{Hdr: hdr, Txt: chunk}}
		}
		resp.SetEdns0(1232, false)
		if b, err := resp.Pack(); err == nil {
			_, _ = pc.WriteTo(b, from)
		}
	}
}

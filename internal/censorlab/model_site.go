package censorlab

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// reloads are when a browser loads a page that failed again of its own accord:
// Chromium's delays (components/error_page, net_error_auto_reloader.cc). After
// the last the model gives up, an hour having passed.
var reloads = []time.Duration{
	time.Second, 5 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
}

// standstill is how long somebody looks at a page that has stopped coming before
// they reload it themselves.
const standstill = 30 * time.Second

// errStill: nothing came for that long.
var errStill = errors.New("the page stands still")

// browser is the mirror site's reader. What TCP sends again is the simulated
// net's. HTTP/3 is left out: on a first visit a browser hears of it only in the
// answer.
type browser struct {
	m    *modelled
	addr netip.Addr      // once it was looked up
	rt   *http.Transport // of the connection under way
	end  context.CancelFunc
}

func readSite(ctx context.Context, m *modelled) error {
	b := &browser{m: m}
	defer b.leave()
	for _, page := range []struct {
		name string
		at   *time.Duration
	}{{"headlines", &m.o.Headlines}, {"texts", &m.o.Text}, {"images", &m.o.Images}} {
		if err := b.load(ctx, page.name); err != nil {
			return err
		}
		*page.at = m.since()
	}
	return nil
}

// load loads a page, again and again if need be. Over a certificate that is not
// valid a browser does not try again: it warns.
func (b *browser) load(ctx context.Context, page string) error {
	for try := 0; ; try++ {
		err := b.once(ctx, page)
		var invalid *tls.CertificateVerificationError
		if err == nil || ctx.Err() != nil || errors.As(err, &invalid) || try == len(reloads) {
			return err
		}
		b.leave()
		if errors.Is(err, errStill) {
			continue
		}
		if err := sleep(ctx, reloads[try]); err != nil {
			return err
		}
	}
}

// leave closes the connection, so that the next try takes another. One that hangs
// is not idle, and one that is being made is not there: both end with their life.
func (b *browser) leave() {
	if b.rt != nil {
		b.end()
		b.rt.CloseIdleConnections()
		b.rt = nil
	}
}

// once tries to load a page.
func (b *browser) once(ctx context.Context, page string) error {
	if !b.addr.IsValid() {
		addr, err := lookup(ctx, b.m.network, nameMirror)
		if err != nil {
			return err
		}
		b.addr = addr
	}
	if b.rt == nil {
		var life context.Context
		life, b.end = context.WithCancel(context.WithoutCancel(ctx))
		dial := gateway.DialWithin(life, b.m.network)
		b.rt = &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dial(ctx, network, netip.AddrPortFrom(b.addr, 443).String())
			},
			TLSClientConfig:   &tls.Config{RootCAs: b.m.w.ca.pool, Time: func() time.Time { return time.Now().Add(b.m.clock) }},
			ForceAttemptHTTP2: true, DisableCompression: true,
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(standstill, func() { cancel(errStill) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+nameMirror+"/"+page, nil)
	if err != nil {
		return err
	}
	resp, err := b.rt.RoundTrip(req)
	if err != nil {
		return because(ctx, err)
	}
	defer resp.Body.Close()
	if b.m.o.Head == 0 {
		b.m.o.Head = b.m.since()
	}
	want, _ := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
	n, err := io.Copy(io.Discard, moving{resp.Body, watch})
	if err == nil && n != want {
		err = io.ErrUnexpectedEOF
	}
	return because(ctx, err)
}

// because is err, or why ctx ended if it did.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// moving puts the watch back whenever something comes.
type moving struct {
	io.Reader
	watch *time.Timer
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.watch.Reset(standstill)
	}
	return n, err
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

// lookup asks the ISP's resolver for an address, as a stub resolver does: three
// times, and it believes the first answer to its question.
func lookup(ctx context.Context, network transport.Network, name string) (netip.Addr, error) {
	req := new(dns.Msg)
	req.SetQuestion(dns.Fqdn(name), dns.TypeA)
	for range 3 {
		resp, err := ask(ctx, network, req, 2*time.Second, nil)
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

// ask sends one question over UDP and returns the first answer to it that good
// (nil: any) takes.
func ask(ctx context.Context, network transport.Network, req *dns.Msg, patience time.Duration, good func(*dns.Msg) bool) (*dns.Msg, error) {
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
		if resp.Unpack(buf[:n]) == nil && resp.Id == req.Id && len(resp.Question) == 1 &&
			strings.EqualFold(resp.Question[0].Name, req.Question[0].Name) && (good == nil || good(resp)) {
			return resp, nil
		}
	}
}

package dns

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	dnsMessage = "application/dns-message"
	// webTimeout bounds one request, whoever still waits for it.
	webTimeout = 2 * maxTimeout
	// maxWebHeader bounds the fields of an answer, in bytes.
	maxWebHeader = 16 << 10
	// webWindow is how much of one body may be under way before we have looked at
	// any: HTTP/2 has no smaller one than 64 KiB at the start of a stream.
	webWindow = 64 << 10
	// webBuffer is the same for all bodies together.
	webBuffer = 1 << 20
	// minPacket is the smallest packet size QUIC may start with: larger ones fail
	// silently where the path is narrow.
	minPacket = 1200
)

// errWeb is wrapped by errors about an HTTP answer that is no DNS message.
var errWeb = errors.New("resolver's web server does not answer DNS")

// web carries messages to a DoH server (RFC 8484) over one HTTP connection.
//
// POST, not GET: a question in the URL would stand in the logs of whatever is in
// front of the server, and is a third longer; what GET would gain, answers kept by
// HTTP caches between, can't be had under TLS. Requests name no program and carry
// no cookie; redirects are not followed.
type web struct {
	url  string
	rt   http.RoundTripper
	over string // overHTTP3 or overHTTP2
	shut func()
	life context.Context // ends with the link
	end  context.CancelFunc
}

const (
	overHTTP2 = "HTTP/2"
	overHTTP3 = "HTTP/3"
)

// opened is a connection that an HTTP request may go over.
type opened struct {
	rt   http.RoundTripper
	over string
	shut func()
	err  error
}

// newWebLink connects over HTTP/3 and, beside it, over HTTP/2 (or 1.1, where a
// server knows no better); whoever is ready first is used. quick is false where
// HTTP/3 was connected lately and then brought nothing.
func newWebLink(ctx context.Context, nw transport.Network, to Address, trust gateway.Trust, quick bool) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the dial that lost
	ways := []func(context.Context, transport.Network, Address, gateway.Trust) opened{openHTTP2}
	if quick {
		ways = append(ways, openHTTP3)
	}
	out := make(chan opened, len(ways))
	for _, open := range ways {
		go func() { out <- open(ctx, nw, to, trust) }()
	}
	var tcp, udp error
	for i := range ways {
		o := <-out
		switch {
		case o.err != nil && o.over == overHTTP2:
			tcp = o.err
			continue
		case o.err != nil:
			udp = o.err
			continue
		}
		if rest := len(ways) - i - 1; rest > 0 {
			cancel()
			go func() {
				if late := <-out; late.err == nil {
					late.shut()
				}
			}()
		}
		w := &web{url: "https://" + to.authority() + to.Path, rt: o.rt, over: o.over, shut: o.shut}
		w.life, w.end = context.WithCancel(context.Background())
		return &link{carry: w, stream: true, secret: true, pending: map[uint16]*pending{}}, nil
	}
	if udp == nil {
		return nil, tcp
	}
	return nil, fmt.Errorf("%w (and over HTTP/3: %v)", tcp, udp) // TCP decides whether the way is blocked or not to be had
}

func openHTTP2(ctx context.Context, nw transport.Network, to Address, trust gateway.Trust) opened {
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return nw.Dial(ctx, network, to.dial())
		},
		TLSClientConfig:        to.tls(trust, "h2", "http/1.1"),
		TLSHandshakeTimeout:    maxTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxWebHeader,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: webWindow, MaxReceiveBufferPerConnection: webBuffer},
	}
	c, err := t.NewClientConn(ctx, "https", to.dial())
	if err != nil {
		return opened{err: err, over: overHTTP2}
	}
	return opened{rt: c, over: overHTTP2, shut: func() { _ = c.Close() }}
}

func openHTTP3(ctx context.Context, nw transport.Network, to Address, trust gateway.Trust) opened {
	c, shut, err := dialQUIC(ctx, nw, to, to.tls(trust, http3.NextProtoH3))
	if err != nil {
		return opened{err: err, over: overHTTP3}
	}
	t := &http3.Transport{DisableCompression: true, MaxResponseHeaderBytes: maxWebHeader}
	return opened{rt: t.NewClientConn(c), over: overHTTP3, shut: func() { _ = c.CloseWithError(0, ""); shut() }}
}

func dialQUIC(ctx context.Context, nw transport.Network, to Address, cfg *tls.Config) (*quic.Conn, func(), error) {
	at := to.At
	if !at.IsValid() {
		addrs, err := nw.Resolve(ctx, to.Host)
		if err != nil {
			return nil, nil, err
		}
		if len(addrs) == 0 {
			return nil, nil, fmt.Errorf("resolver's name: %w", transport.ErrNotFound)
		}
		at = addrs[0] // TCP beside it tries the others
	}
	local := "0.0.0.0:0"
	if at.Is6() {
		local = "[::]:0"
	}
	pc, err := nw.ListenPacket(ctx, "udp", local)
	if err != nil {
		return nil, nil, err
	}
	tr := &quic.Transport{Conn: pc}
	shut := func() { _, _ = tr.Close(), pc.Close() }
	c, err := tr.Dial(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, to.Port)), cfg, &quic.Config{
		InitialPacketSize: minPacket, HandshakeIdleTimeout: maxTimeout, MaxIdleTimeout: 30 * time.Second,
		InitialStreamReceiveWindow: webWindow, MaxStreamReceiveWindow: webWindow,
		InitialConnectionReceiveWindow: webBuffer, MaxConnectionReceiveWindow: webBuffer,
		MaxIncomingStreams: -1, MaxIncomingUniStreams: 8, // the three of HTTP/3, and what it reserves
	})
	if err != nil {
		shut()
		return nil, nil, err
	}
	return c, shut, nil
}

func (w *web) close() {
	w.end()
	w.shut()
}

// send posts the message and returns. Any answer but a DNS message ends the link.
func (w *web) send(p *pending, msg []byte) (broken bool, err error) {
	ctx, cancel := context.WithTimeout(w.life, webTimeout)
	p.stop = cancel
	msg[0], msg[1] = 0, 0 // one question is the same for all then (RFC 8484, section 4.1)
	go func() {
		defer cancel()
		resp, err := w.post(ctx, msg)
		switch {
		case ctx.Err() != nil: // nobody waits any more, or far too long
		case err != nil:
			p.link.fail(err)
		case len(resp) >= 2 && resp[0]|resp[1] != 0 || !p.hear(resp):
			p.tell(event{err: fmt.Errorf("%w: something else", errBadMessage)})
		}
	}()
	return false, nil
}

func (w *web) post(ctx context.Context, msg []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(msg))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", dnsMessage)
	req.Header.Set("Accept", dnsMessage)
	req.Header.Set("User-Agent", "") // names nobody
	resp, err := w.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: status %d", errWeb, resp.StatusCode)
	}
	if t := resp.Header.Get("Content-Type"); t != dnsMessage {
		return nil, fmt.Errorf("%w: it sends something else", errWeb)
	}
	if resp.ContentLength > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", errBadMessage, resp.ContentLength)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	if err == nil && len(body) > maxMessage {
		err = fmt.Errorf("%w: more than %d bytes", errBadMessage, maxMessage)
	}
	return body, err
}

package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tamizdat/transport"
)

// What follows speaks HTTP/1.1, HTTP/2 and HTTP/3 by the frame, as no client
// that means well does.

// secure is a TLS connection on which one protocol was agreed on.
func secure(t *testing.T, nw transport.Network, addr, protocol string) *tls.Conn {
	t.Helper()
	raw, err := nw.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// h2Raw is a connection over HTTP/2 (RFC 9113).
type h2Raw struct {
	*http2.Framer
	*tls.Conn
	mu   sync.Mutex // held to write while watch is at work
	next uint32     // the next stream
	buf  bytes.Buffer
	enc  *hpack.Encoder
}

func dialH2(t *testing.T, nw transport.Network, addr string, settings ...http2.Setting) *h2Raw {
	t.Helper()
	c := &h2Raw{Conn: secure(t, nw, addr, "h2"), next: 1}
	c.enc = hpack.NewEncoder(&c.buf)
	if _, err := io.WriteString(c.Conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c.Framer = http2.NewFramer(c.Conn, c.Conn)
	if err := c.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// fields compresses a request's header.
func (c *h2Raw) fields(method, path string, more ...string) []byte {
	c.buf.Reset()
	kv := append([]string{":method", method, ":scheme", "https", ":authority", "x", ":path", path}, more...)
	for i := 0; i+1 < len(kv); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}) // a buffer takes it
	}
	return c.buf.Bytes()
}

// watch reads what comes, answers pings, and sends on the channel that it returns
// how each stream ends: true if it was reset. The channel is closed with the
// connection.
func (c *h2Raw) watch() <-chan bool {
	ends := make(chan bool, 1000)
	go func() {
		defer close(ends)
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.PingFrame:
				if !f.IsAck() {
					c.mu.Lock()
					_ = c.WritePing(true, f.Data) // who can't write can't read any more
					c.mu.Unlock()
				}
			case *http2.RSTStreamFrame:
				ends <- true
			case *http2.DataFrame:
				if f.Length > 0 { // the connection's window is never what stops an answer
					c.mu.Lock()
					_ = c.WriteWindowUpdate(0, f.Length)
					c.mu.Unlock()
				}
				if f.StreamEnded() {
					ends <- false
				}
			case *http2.HeadersFrame:
				if f.StreamEnded() {
					ends <- false
				}
			}
		}
	}()
	return ends
}

// open begins a request, end says that there is no body.
func (c *h2Raw) open(end bool, method, path string, more ...string) (stream uint32, err error) {
	stream = c.next
	c.next += 2
	return stream, c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.fields(method, path, more...), EndStream: end, EndHeaders: true,
	})
}

// h3Raw is a connection over HTTP/3 (RFC 9114), its control stream open.
type h3Raw struct{ *quic.Conn }

func dialH3(t *testing.T, nw transport.Network, addr string, cfg *quic.Config) *h3Raw {
	t.Helper()
	pc, err := nw.ListenPacket(t.Context(), "udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: pc}
	c, err := tr.Dial(t.Context(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.CloseWithError(0, "")
		tr.Close()
		pc.Close()
	})
	control, err := c.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Write([]byte{0, 4, 0}); err != nil { // no settings
		t.Fatal(err)
	}
	return &h3Raw{c}
}

// open begins a request; its body, if any, and its end are for the caller.
func (c *h3Raw) open(ctx context.Context, method, path string, more ...string) (*quic.Stream, error) {
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	_, err = s.Write(h3Header(method, path, more...))
	return s, err
}

// h3Header is the HEADERS frame of a request.
func h3Header(method, path string, more ...string) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	kv := append([]string{":method", method, ":scheme", "https", ":authority", "x", ":path", path}, more...)
	for i := 0; i+1 < len(kv); i += 2 {
		_ = e.WriteField(qpack.HeaderField{Name: kv[i], Value: kv[i+1]}) // a buffer takes it
	}
	return h3Frame(1, b.Bytes())
}

func h3Frame(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// awake keeps a connection from ending because nothing is said on it.
func awake(cfg quic.Config) *quic.Config {
	cfg.KeepAlivePeriod = 10 * time.Second
	return &cfg
}

package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// smallPiece is how much of a block one connection brings. A handshake takes
	// about 4 KB both ways together, a request and its answer's header half of one:
	// below 10 KB in all, and known censors let 16 through.
	smallPiece = 5 << 10
	// smallConns is how many connections there are at once: at 100 ms they bring
	// 250 kB a second.
	smallConns = 16
	// smallTime bounds one connection: one that stands still is not worth more.
	// smallTries is how often a piece is asked for.
	smallTime  = 10 * time.Second
	smallTries = 3
)

// newSmall speaks HTTP/1.1 over connections that carry little and are then closed,
// for networks where those freeze that carry more (net4people/bbs#490). Blocks come
// in pieces by Range (RFC 9110, section 14); whatever else is asked for has to be
// small by itself.
func newSmall(network transport.Network, to peer) conn {
	if to.tickets != nil {
		to.tickets = to.tickets.also("small")
	}
	c := &smallConn{tlsDialer: newTLSDialer(network, to, "http/1.1")}
	c.http = http.Transport{
		DialContext:            c.dial,
		DialTLSContext:         c.dialTLS,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxConnsPerHost:        smallConns,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
	return c
}

type smallConn struct {
	*tlsDialer
	http http.Transport
}

func (c *smallConn) Close() error {
	c.end()
	c.http.CloseIdleConnections()
	return nil
}

// RoundTrip implements http.RoundTripper.
func (c *smallConn) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/ipfs/") {
		return c.http.RoundTrip(req)
	}
	ctx, cancel := context.WithCancel(req.Context())
	first, head, err := c.piece(ctx, req, 0)
	if err != nil {
		cancel()
		return nil, err
	}
	size, err := sizeOf(head, len(first))
	if err != nil {
		cancel()
		return nil, err
	}
	status := head.status
	if status == http.StatusPartialContent {
		status = http.StatusOK
	}
	resp := &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: head.header, ContentLength: size, Request: req,
	}
	resp.Body = c.rest(ctx, cancel, req, first, size)
	return resp, nil
}

// sizeOf is the length of what an answer is a piece of. One of more than a block
// may have is refused before anything of it is asked for.
func sizeOf(head preamble, got int) (int64, error) {
	if head.status != http.StatusPartialContent {
		return int64(got), nil // the whole of it, or why there is none
	}
	var from, to, size int64
	if n, err := fmt.Sscanf(head.header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size); n != 3 || err != nil ||
		from != 0 || to != int64(got)-1 || size < int64(got) || size > bundle.MaxBlock {
		return 0, fmt.Errorf("%w: malformed Content-Range", gateway.ErrStatus)
	}
	return size, nil
}

// rest is a body whose beginning is here. The other pieces come at once, each over
// a connection of its own.
func (c *smallConn) rest(ctx context.Context, cancel context.CancelFunc, req *http.Request, first []byte, size int64) io.ReadCloser {
	b := &smallBody{cancel: cancel}
	b.cur.Write(first)
	for at := int64(len(first)); at < size && len(first) > 0; at += smallPiece {
		part := make(chan []byte, 1)
		b.parts = append(b.parts, part)
		b.wg.Go(func() {
			defer close(part)
			data, head, err := c.piece(ctx, req, at)
			if err == nil && head.status == http.StatusPartialContent && int64(len(data)) == min(smallPiece, size-at) {
				part <- data
			}
		})
	}
	return b
}

// piece asks for smallPiece bytes from at, over a new connection each time.
func (c *smallConn) piece(ctx context.Context, req *http.Request, at int64) (data []byte, head preamble, err error) {
	for range smallTries {
		if data, head, err = c.pieceOnce(ctx, req, at); err == nil || ctx.Err() != nil {
			break
		}
	}
	return data, head, err
}

func (c *smallConn) pieceOnce(ctx context.Context, req *http.Request, at int64) ([]byte, preamble, error) {
	ctx, cancel := context.WithTimeout(ctx, smallTime)
	defer cancel()
	return askRange(ctx, &c.http, req, at, smallPiece, nil)
}

// preamble is what an answer says before its body.
type preamble struct {
	status int
	header http.Header
}

// askRange asks for so many bytes of a block from at. A server that knows no ranges
// may answer with the whole block instead. got, if not nil, hears of bytes as they
// arrive.
func askRange(ctx context.Context, rt http.RoundTripper, req *http.Request, at, size int64, got func(n int)) ([]byte, preamble, error) {
	out := req.Clone(ctx)
	out.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, at+size-1))
	resp, err := rt.RoundTrip(out)
	if err != nil {
		return nil, preamble{}, err
	}
	defer resp.Body.Close()
	limit := size
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		limit = bundle.MaxBlock
	default: // what an error page says interests nobody
		return nil, preamble{resp.StatusCode, resp.Header}, nil
	}
	body := io.LimitReader(resp.Body, limit+1)
	if got != nil {
		body = io.TeeReader(body, counter(got))
	}
	data, err := io.ReadAll(body)
	switch {
	case err != nil:
		return nil, preamble{}, err
	case int64(len(data)) > limit:
		return nil, preamble{}, fmt.Errorf("%w: more than it was asked for", gateway.ErrStatus)
	}
	return data, preamble{resp.StatusCode, resp.Header}, nil
}

// counter is a Writer that tells how much was written.
type counter func(n int)

func (c counter) Write(b []byte) (int, error) {
	c(len(b))
	return len(b), nil
}

// smallBody reads pieces in their order.
type smallBody struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	cur    bytes.Buffer
	parts  []chan []byte
}

func (b *smallBody) Read(p []byte) (int, error) {
	for b.cur.Len() == 0 {
		if len(b.parts) == 0 {
			return 0, io.EOF
		}
		data, ok := <-b.parts[0]
		if !ok {
			return 0, io.ErrUnexpectedEOF
		}
		b.cur.Reset()
		b.cur.Write(data)
		b.parts = b.parts[1:]
	}
	return b.cur.Read(p)
}

func (b *smallBody) Close() error {
	b.cancel()
	b.wg.Wait()
	return nil
}

// Package gateway fetches blocks from an IPFS Trustless Gateway
// (https://specs.ipfs.tech/http-gateways/trustless-gateway/) over any
// http.RoundTripper.
//
// The same client speaks to a public gateway on the web, to a static mirror
// (a web host with plain files under ipfs/ and head/, see [Options.Static]), and
// to a relay under its secret prefix: only base URL and round tripper differ.
// Raw blocks are asked for in parallel; over HTTP/2 and HTTP/3 that is one flight.
// On a line that brings much, neighbours are asked for as one CAR (runs.go).
//
// Whatever comes back is hostile until hashed: bodies are bounded, redirects
// are not followed, and a raw block that does not match its CID is dropped here
// with a *transport.WantError, so that the engine can blame the path. The
// engine checks again; blocks that came in a CAR it alone checks.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// ErrStatus is wrapped by errors about an HTTP status that means neither "here
// it is" nor "not found".
var ErrStatus = errors.New("unexpected answer")

const (
	// DefaultParallel is how many requests one Fetch keeps in flight.
	DefaultParallel = 16
	// maxRecord bounds an IPNS record (its specification says 10 KiB).
	maxRecord = 10 << 10
)

// Records turns IPNS records into heads; transport/ipfs has one. Without it a
// gateway has blocks only.
type Records interface {
	// Name returns the channel's IPNS name, ok false if it is not known.
	Name(ch channel.ID) (name string, ok bool)
	// Head returns the head that an unchecked IPNS record carries.
	Head(ch channel.ID, record []byte) ([]byte, error)
}

// Runs says whether neighbouring blocks may be asked for as one CAR.
type Runs int

const (
	// RunsNever asks for raw blocks alone.
	RunsNever Runs = iota
	// RunsTried is for gateways of which it is not known how well they make CARs:
	// after one that is odd they are asked for raw blocks.
	RunsTried
	// RunsTrusted is for relays: one that sends what was not asked for lies.
	RunsTrusted
)

// Options of a Client; the zero value works.
type Options struct {
	// Parallel is how many requests one Fetch keeps in flight, DefaultParallel
	// if 0.
	Parallel int
	// Records, if not nil, gives the path Heads.
	Records Records
	// Runs says whether neighbours are asked for as one CAR.
	Runs Runs
	// Static tells that base is a static mirror (FORMAT.md, section 11): requests
	// have no query, and head/ gives the path Heads.
	Static bool
	// BlockTimeout bounds one block from request, or from the block before it, to
	// last byte; 30 s if 0. It is what a body of one byte a second runs into.
	BlockTimeout time.Duration
}

// Client fetches from one gateway. Its methods may be called at once.
type Client struct {
	base string
	rt   http.RoundTripper
	opts Options
	pace pace
}

var _ transport.Blocks = (*Client)(nil)

// New makes a client of the gateway at base, an http or https URL without
// query under which ipfs/ lies. rt must not ask for compression on its own.
func New(base string, rt http.RoundTripper, opts Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("gateway: base is not a plain http or https URL") // not quoted: it may hold a secret prefix
	}
	if opts.Parallel <= 0 {
		opts.Parallel = DefaultParallel
	}
	if opts.BlockTimeout <= 0 {
		opts.BlockTimeout = 30 * time.Second
	}
	return &Client{base: strings.TrimSuffix(base, "/"), rt: rt, opts: opts}, nil
}

// Path returns the client as a path of kind gateway, named by its host. It is
// to be called once: a static mirror's heads remember what they have read.
func (c *Client) Path() transport.Path {
	u, err := url.Parse(c.base)
	if err != nil {
		panic(err) // New parsed it
	}
	p := transport.Path{
		Name: "gateway " + u.Host, Kind: transport.KindGateway, Blocks: c,
		Hints: transport.Hints{Batch: 64, Parallel: 2, MaxBlock: bundle.MaxBlock, Setup: 3, Overhead: 1.05},
	}
	switch {
	case c.opts.Static:
		p.Name, p.Heads = "mirror "+u.Host, &mirror{c: c}
	case c.opts.Records != nil:
		p.Heads = &heads{c}
	}
	return p
}

// Trust says by what certificates of the web's authorities (WebPKI) are
// checked. The zero value is what everybody uses.
type Trust struct {
	// Roots are the authorities, nil for the system's.
	Roots *x509.CertPool
	// Now is the clock that certificates and session tickets are held against,
	// nil for time.Now.
	Now func() time.Time
}

// NewTransport returns a round tripper for gateways on the web: HTTP/2 or 1.1
// over TLS with certificates checked by trust, every socket opened through
// network. What is being dialled ends with life.
func NewTransport(life context.Context, network transport.Network, trust Trust) *http.Transport {
	return &http.Transport{
		DialContext:            DialWithin(life, network),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trust.Roots, Time: trust.Now},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    4,
		MaxConnsPerHost:        DefaultParallel,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  60 * time.Second,
		MaxResponseHeaderBytes: 32 << 10,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second,
			MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connWindow,
		},
	}
}

// How much a gateway may send before we have looked at any of it (RFC 9113, section
// 5.2): what a round trip brings at most, and what answers that have no end cost
// before they are cut. HTTP/2 has one window for the answers of a connection, be
// they blocks or runs.
const (
	// streamWindow is for one answer. The few runs under way (maxRuns) have to bring
	// no less in a round trip than blocks do, of which there are DefaultParallel.
	streamWindow = 1 << 20
	// connWindow is for all answers together, the most that net/http takes: the runs
	// of two Fetches (Hints.Parallel). Go's own 1 GiB would be no bound.
	connWindow = 4<<20 - 1
)

// dialTimeout bounds a TCP handshake: a lost first packet is sent again after
// 1, 3 and 7 seconds, and who has not answered then is not worth more.
const dialTimeout = 15 * time.Second

// DialWithin is network.Dial for an http.Transport, which lets a dial go on when
// the request that wanted it has ended. Dials and connections end with life (a
// connection that is there a moment too late would stay open, since nobody asks
// for it any more), and dials soon in any case: where a censor drops packets, the
// operating system would try for minutes.
func DialWithin(life context.Context, network transport.Network) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, proto, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		c, err := network.Dial(ctx, proto, address)
		if err != nil {
			return nil, err
		}
		return &mortal{c, context.AfterFunc(life, func() { _ = c.Close() })}, nil
	}
}

// mortal is a connection that is closed when a context ends.
type mortal struct {
	net.Conn
	stop func() bool
}

func (m *mortal) Close() error {
	m.stop()
	return m.Conn.Close()
}

// Block fetches one block and checks its hash. got, if not nil, hears of bytes
// as they arrive. The error wraps transport.ErrNotFound if the gateway says
// that it has none, and is a *transport.WantError if the bytes are wrong.
func (c *Client) Block(ctx context.Context, id cid.Cid, size int, got func(n int)) ([]byte, error) {
	data, err := c.block(ctx, transport.Want{CID: id, Size: size}, got)
	if err != nil {
		return nil, err
	}
	return data, nil
}

// block is Block for a want; with an error it returns what has come.
func (c *Client) block(ctx context.Context, w transport.Want, got func(n int)) ([]byte, error) {
	id := w.CID
	ctx, cancel := context.WithTimeout(ctx, c.opts.BlockTimeout)
	defer cancel()
	resp, err := c.get(ctx, c.blockPath(id), acceptRaw)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := readBlock(resp.Body, resp.ContentLength, most(w), w.Size, got)
	if err != nil {
		return data, &transport.WantError{CID: id, Err: err}
	}
	if err := bundle.CheckBlock(id, data); err != nil {
		return nil, &transport.WantError{CID: id, Err: err}
	}
	return data, nil
}

func (c *Client) blockPath(id cid.Cid) string {
	if c.opts.Static {
		return "/ipfs/" + id.String()
	}
	return trustlessPath(id)
}

func trustlessPath(id cid.Cid) string { return "/ipfs/" + id.String() + "?format=raw" }

// BlockRequest asks for one raw block at the gateway under base, as the trustless
// gateway specification says: for who asks in ways of his own, such as for a range.
func BlockRequest(ctx context.Context, base string, id cid.Cid) (*http.Request, error) {
	return request(ctx, base+trustlessPath(id), acceptRaw)
}

const acceptRaw = "application/vnd.ipld.raw"

func request(ctx context.Context, url, accept string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errors.New("gateway: malformed request")
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "") // names nobody
	return req, nil
}

// StatusError is what a status means that brings no block: transport.ErrNotFound if
// the gateway has none, else ErrStatus.
func StatusError(status int) error {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return transport.ErrNotFound
	}
	return fmt.Errorf("%w: status %d", ErrStatus, status)
}

// get sends one GET and returns an answer with status 200.
func (c *Client) get(ctx context.Context, path, accept string) (*http.Response, error) {
	return c.ask(ctx, path, accept, "", "")
}

// ask is get with a condition, unless field is empty: if it does not hold, the
// error is errSame.
func (c *Client) ask(ctx context.Context, path, accept, field, value string) (*http.Response, error) {
	req, err := request(ctx, c.base+path, accept)
	if err != nil {
		return nil, err
	}
	if field != "" {
		req.Header.Set(field, value)
	}
	resp, err := c.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if c.opts.Static && isPage(resp) {
			resp.Body.Close()
			return nil, transport.ErrNotFound
		}
		return resp, nil
	case http.StatusNotModified:
		if field != "" {
			resp.Body.Close()
			return nil, errSame
		}
	}
	resp.Body.Close()
	return nil, StatusError(resp.StatusCode)
}

var (
	errTooLong = errors.New("longer than it may be")
	// errFlood: what is longer than the block can't be it, as surely as if its hash
	// were wrong.
	errFlood = fmt.Errorf("%w: %w", bundle.ErrBlock, errTooLong)
)

// maxFileNode bounds a block of links within a file: 174 of them (FORMAT.md,
// section 3.1), each with its CID, its two sizes and no name.
const maxFileNode = 12 << 10

// most is how many bytes a want's block may have by FORMAT.md (sections 3, 5, 9
// and 14): a body is cut behind them, so that what it could go on with costs
// little. Of a folder nothing is known beforehand but the limit of all blocks.
func most(w transport.Want) int {
	node := w.Node || w.CID.Type() == cid.DagProtobuf
	switch {
	case w.Size > 0:
		return min(w.Size, bundle.MaxBlock)
	case node && slices.Contains(files, w.Layer):
		return maxFileNode
	case !node && w.Layer == bundle.LayerRoot:
		return channel.MaxRootNote
	case !node && w.Layer == bundle.LayerGrants:
		return channel.GrantLarge
	}
	return bundle.MaxBlock
}

// files are the parts of an edition that are files of blocks of their own.
var files = []string{bundle.LayerFront, bundle.LayerText, bundle.LayerMedia, bundle.LayerDict, bundle.LayerLog}

// readBlock reads a body of at most limit bytes, and no fewer than want, trusting
// no length that is announced. With an error it returns what has come.
func readBlock(body io.Reader, announced int64, limit, want int, got func(n int)) ([]byte, error) {
	if announced > int64(limit) {
		return nil, errFlood
	}
	buf := make([]byte, 0, limit+1)
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 && got != nil {
			got(n)
		}
		switch {
		case len(buf) > limit:
			return nil, errFlood
		case err == io.EOF:
			if len(buf) < want {
				return buf, io.ErrUnexpectedEOF
			}
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

// heads reads heads out of IPNS records; root notes and grants a gateway does
// not have by name (they are blocks of the edition).
type heads struct{ c *Client }

var _ transport.Heads = (*heads)(nil)

func (h *heads) Head(ctx context.Context, ch channel.ID, _ uint64) ([]byte, error) {
	name, ok := h.c.opts.Records.Name(ch)
	if !ok {
		return nil, transport.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, h.c.opts.BlockTimeout)
	defer cancel()
	resp, err := h.c.get(ctx, "/ipns/"+url.PathEscape(name)+"?format=ipns-record", "application/vnd.ipfs.ipns-record")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	record, err := io.ReadAll(io.LimitReader(resp.Body, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(record) > maxRecord {
		return nil, fmt.Errorf("ipns record: %w", errTooLong)
	}
	return h.c.opts.Records.Head(ch, record)
}

func (h *heads) RootNote(context.Context, channel.ID, uint64) ([]byte, error) {
	return nil, transport.ErrNotFound
}

func (h *heads) Grant(context.Context, channel.ID, string) ([]byte, error) {
	return nil, transport.ErrNotFound
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// Pull is what one volunteer hands to another, in one line: where his relay is,
// how to know it, and the prefix under which it gives one channel's editions
// away. Nothing can be pushed with it, and no other prefix be made.
type Pull struct {
	// Host is a DNS name or an IP address without brackets.
	Host    string
	Port    uint16
	Pin     channel.Pin
	Prefix  channel.Prefix
	Channel channel.ID
}

// pullScheme begins the text form and carries its version.
const pullScheme = "pull1:"

// ErrBadPull is wrapped by every refusal of ParsePull.
var ErrBadPull = errors.New("not a line to pull from a relay by")

// String returns the one line "pull1:HOST:PORT/PIN/PREFIX/CHANNEL". It holds a
// secret.
func (p Pull) String() string {
	return pullScheme + p.address() + "/" + p.Pin.String() + "/" + p.Prefix.Path() + "/" + p.Channel.String()
}

func (p Pull) address() string { return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))) }

// ParsePull is the inverse of Pull.String; spaces and line breaks around it are
// ignored, other spellings refused. Errors wrap ErrBadPull and quote nothing of
// the line.
func ParsePull(s string) (Pull, error) {
	var p Pull
	s = strings.TrimSpace(s)
	refuse := func(what string) (Pull, error) { return Pull{}, fmt.Errorf("%w: %s", ErrBadPull, what) }
	if strings.HasPrefix(s, targetScheme) {
		return refuse("it is the line for a publisher, with which one may push; ask for one from mirror-relay address --pull")
	}
	rest, ok := strings.CutPrefix(s, pullScheme)
	if !ok {
		return refuse("it does not begin with " + pullScheme)
	}
	f := strings.Split(rest, "/")
	if len(f) != 4 {
		return refuse(fmt.Sprintf("%d parts instead of HOST:PORT/PIN/PREFIX/CHANNEL; is the line complete?", len(f)))
	}
	host, port, err := net.SplitHostPort(f[0])
	if err != nil || !validHost(host) {
		return refuse("bad HOST:PORT")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return refuse("bad port")
	}
	p.Host, p.Port = host, uint16(n)
	if p.Pin, err = channel.ParsePin(f[1]); err != nil || p.Pin.WebPKI() {
		return refuse("bad pin")
	}
	if p.Prefix, ok = channel.ParsePrefix(f[2]); !ok {
		return refuse("bad prefix")
	}
	if p.Channel, err = channel.ParseID(f[3]); err != nil {
		return refuse("bad channel")
	}
	if p.String() != s {
		return refuse("not in canonical form")
	}
	return p, nil
}

// Puller fetches whole editions of one channel from another relay. It tries
// QUIC first, TCP if that does not connect, and stays with what worked. Nothing
// that it returns was checked. Its methods may be called at once.
type Puller struct {
	pull Pull
	base string
	*either
	heads *heads
}

// NewPuller prepares pulling from a relay; nothing is dialled yet.
func NewPuller(network transport.Network, p Pull) (*Puller, error) {
	if network == nil {
		return nil, errors.New("relay: no network")
	}
	if !validHost(p.Host) || p.Port == 0 || p.Pin.WebPKI() {
		return nil, fmt.Errorf("%w: bad host, port or pin", ErrBadPull)
	}
	out := &Puller{
		pull: p, base: "https://" + p.address() + "/" + p.Prefix.Path(),
		either: newEither(network, peer{host: p.Host, port: p.Port, pin: p.Pin}),
	}
	out.heads = &heads{rt: out, base: out.base, wait: MaxWait, tags: map[channel.ID]string{}}
	return out, nil
}

// Head waits, up to MaxWait, until the relay's newest head covers more than have
// editions, is another one than it gave last, or comes with root notes above root,
// and returns it. transport.ErrNoNewer if nothing came.
func (p *Puller) Head(ctx context.Context, have, root uint64) ([]byte, error) {
	if have > 0 {
		q := url.Values{"only": {"head"}, "root": {strconv.FormatUint(root, 10)}}
		return p.heads.first(ctx, transport.Ask{Channel: p.pull.Channel, Have: have}, q, MaxWait, transport.PieceHead)
	}
	q := url.Values{
		"only": {"head"}, "root": {"9007199254740991"},
		"have": {"0"}, "wait": {strconv.Itoa(int(MaxWait / time.Second))}, // also for the first edition of all
	}
	raw, err := p.heads.first(ctx, transport.Ask{Channel: p.pull.Channel}, q, MaxWait, transport.PieceHead)
	if errors.Is(err, transport.ErrNotFound) {
		err = transport.ErrNoNewer
	}
	return raw, err
}

// Edition asks for the CAR of the edition whose head is head, from that byte on,
// and returns what comes and how long the whole CAR is said to be.
// transport.ErrNotFound if the relay does not hold it, or not so much of it.
func (p *Puller) Edition(ctx context.Context, head cid.Cid, from int64) (body io.ReadCloser, total int64, err error) {
	h := http.Header{}
	if from > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := p.get(ctx, "/edition/"+p.pull.Channel.String()+"/"+head.String(), h)
	if err != nil {
		return nil, 0, err
	}
	first, total := int64(0), resp.ContentLength
	if from > 0 {
		first, total = parseContentRange(resp.Header.Get("Content-Range"))
	}
	switch code := resp.StatusCode; {
	case (code == http.StatusOK && from == 0 || code == http.StatusPartialContent) && first == from && total > from:
		return resp.Body, total, nil
	case code == http.StatusRequestedRangeNotSatisfiable && total == from: // all of it is here already
		resp.Body.Close()
		return http.NoBody, total, nil
	case code == http.StatusNotFound || code == http.StatusRequestedRangeNotSatisfiable:
		err = transport.ErrNotFound
	default:
		err = fmt.Errorf("%w: status %d", gateway.ErrStatus, code)
	}
	resp.Body.Close()
	return nil, 0, err
}

// Record returns the relay's IPNS record of that name.
func (p *Puller) Record(ctx context.Context, name string) ([]byte, error) {
	resp, err := p.get(ctx, "/ipns/"+url.PathEscape(name)+"?format=ipns-record", http.Header{"Accept": {RecordType}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, transport.ErrNotFound
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, transport.MaxRecord+1))
	if err == nil && len(raw) > transport.MaxRecord {
		err = errors.New("relay: larger than an IPNS record may be")
	}
	return raw, err
}

func (p *Puller) get(ctx context.Context, path string, h http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return nil, errors.New("relay: malformed request")
	}
	req.Header = h
	req.Header.Set("User-Agent", "")
	return p.RoundTrip(req)
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" or "bytes */TOTAL" (RFC 9110,
// section 14.4); -1 for what is missing.
func parseContentRange(s string) (first, total int64) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	total, err := strconv.ParseInt(size, 10, 64)
	if !ok || !ok2 || err != nil {
		return -1, -1
	}
	from, _, _ := strings.Cut(span, "-")
	if first, err = strconv.ParseInt(from, 10, 64); err != nil {
		return -1, total
	}
	return first, total
}

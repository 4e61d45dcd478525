package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/witness"
)

// Header fields of an upload, as in draft-ietf-httpbis-resumable-upload.
const (
	// HeaderOffset counts the bytes held (in answers) or skipped (in requests).
	HeaderOffset = "Upload-Offset"
	// HeaderLength is the length of the whole CAR.
	HeaderLength = "Upload-Length"
	// HeaderComplete is "?1" when the edition is checked and durable.
	HeaderComplete = "Upload-Complete"
)

const (
	// pushPart is how much one request carries. The relay acknowledges each
	// part when it is on disk.
	pushPart = 1 << 20
	// pushTimeout bounds one part: 1 MiB at 64 kbit/s, and the check of a whole
	// edition at the end.
	pushTimeout = 3 * time.Minute
	// pushMore is how many requests an upload may take beyond those that its parts
	// need, for parts that were taken in half.
	pushMore = 8
)

var errStuck = errors.New("relay: the upload does not advance")

// Publisher pushes editions to one relay. It tries QUIC first, TCP if that
// does not connect, and stays with what worked.
type Publisher struct {
	target Target
	*either
}

var (
	_ transport.Publisher = (*Publisher)(nil)
	_ transport.HeadTaker = (*Publisher)(nil)
	_ transport.Cosigner  = (*Publisher)(nil)
)

// NewPublisher prepares pushing to a relay; nothing is dialled yet.
func NewPublisher(network transport.Network, t Target) (*Publisher, error) {
	if network == nil {
		return nil, errors.New("relay: no network")
	}
	if !validHost(t.Host) || t.Port == 0 {
		return nil, fmt.Errorf("%w: bad host or port", ErrBadTarget)
	}
	if t.Pin.WebPKI() { // a publisher goes to the relay itself
		return nil, fmt.Errorf("%w: no pin", ErrBadTarget)
	}
	to := peer{host: t.Host, port: t.Port, pin: t.Pin}
	return &Publisher{t, newEither(network, to)}, nil
}

// Publish implements transport.Publisher.
func (p *Publisher) Publish(ctx context.Context, s transport.Source, progress func(held, total int64)) error {
	path, _, err := p.upload(s)
	if err != nil {
		return err
	}
	st, err := p.ask(ctx, http.MethodHead, path, nil, 0, s.Size)
	if err != nil {
		return err
	}
	// Each part once, and twice again for a relay that falls back twice at the end. One
	// that acknowledges a byte at a time would have the whole sent for each.
	most := 3*int((s.Size+pushPart-1)/pushPart) + pushMore
	for asked, behind := 0, 0; !st.complete; asked++ {
		if asked == most {
			return errStuck
		}
		if st.offset < 0 || st.offset > s.Size {
			return fmt.Errorf("%w: it holds more than there is", transport.ErrRefused)
		}
		if progress != nil {
			progress(st.offset, s.Size)
		}
		n := min(pushPart, s.Size-st.offset)
		part := io.NewSectionReader(s.CAR, st.offset, n)
		next, err := p.ask(ctx, http.MethodPatch, path, part, st.offset, s.Size)
		if err != nil {
			return err
		}
		if !next.complete && next.offset <= st.offset {
			// It fell back (another push, or it lost its disk): once or twice
			// is life, more is a relay that will never be done.
			if behind++; behind > 2 {
				return errStuck
			}
		}
		st = next
	}
	if progress != nil {
		progress(s.Size, s.Size)
	}
	return nil
}

// PublishHead implements transport.HeadTaker: it uploads no more than what stands before
// the edition's directory. A relay that holds the edition has the rest; one that does not,
// or is of an older version, waits for it, and Publish goes on from there.
func (p *Publisher) PublishHead(ctx context.Context, s transport.Source) (int64, error) {
	path, r, err := p.upload(s)
	if err != nil {
		return 0, err
	}
	if _, err := r.Intro(); err != nil {
		return 0, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	front := r.End()
	st, err := p.ask(ctx, http.MethodHead, path, nil, 0, s.Size)
	switch {
	case err != nil || st.complete:
		return 0, err
	case st.offset < 0 || st.offset >= front:
		return 0, errNotAgain
	}
	part := io.NewSectionReader(s.CAR, st.offset, front-st.offset)
	if st, err = p.ask(ctx, http.MethodPatch, path, part, st.offset, s.Size); err == nil && !st.complete {
		err = errNotAgain
	}
	return part.Size(), err
}

var errNotAgain = fmt.Errorf("relay: it does not complete the edition by itself: %w", transport.ErrNotFound)

// upload is the path of an edition's upload, and its CAR behind the header.
func (p *Publisher) upload(s transport.Source) (path string, r *car.Reader, err error) {
	if r, err = car.NewReader(io.NewSectionReader(s.CAR, 0, s.Size)); err != nil {
		return "", nil, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	roots := r.Roots()
	if len(roots) < 2 {
		return "", nil, fmt.Errorf("%w: it names no head", transport.ErrRefused)
	}
	return p.intakePath("intake", s.Channel) + "/" + roots[len(roots)-2].String(), r, nil
}

// Current implements transport.Publisher.
func (p *Publisher) Current(ctx context.Context, ch channel.ID) ([]byte, error) {
	var tag [8]byte // the publisher's own readers' prefix; any tag is valid
	base := "https://" + p.target.Address() + "/" + p.target.Mint.Mint(tag).Path()
	h := &heads{rt: p, base: base, tags: map[channel.ID]string{}}
	return h.Head(ctx, ch, 0)
}

// Cosign implements transport.Cosigner, if the relay is a witness.
func (p *Publisher) Cosign(ctx context.Context, s channel.Submission) ([]byte, error) {
	return witness.New("https://"+p.target.Address()+"/"+p.target.intakePrefix().Path()+"/witness", p).Cosign(ctx, s)
}

type uploadState struct {
	offset   int64
	complete bool
}

// intakePath is a path of the channel's intake, each time under another prefix.
func (p *Publisher) intakePath(kind string, ch channel.ID) string {
	return "/" + p.target.intakePrefix().Path() + "/" + kind + "/" + ch.String()
}

// ask sends one request of an upload.
func (p *Publisher) ask(ctx context.Context, method, path string, part *io.SectionReader, offset, total int64) (uploadState, error) {
	h := http.Header{}
	if part != nil {
		h.Set("Content-Type", "application/partial-upload")
		h.Set(HeaderOffset, strconv.FormatInt(offset, 10))
		h.Set(HeaderLength, strconv.FormatInt(total, 10))
	}
	return p.send(ctx, method, path, part, h)
}

// send sends one request to the intake and reads its answer. Only an intake
// says HeaderOffset: whatever else answers is the website.
func (p *Publisher) send(ctx context.Context, method, path string, body *io.SectionReader, h http.Header) (uploadState, error) {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+p.target.Address()+path, nil)
	if err != nil {
		return uploadState{}, errors.New("relay: malformed request")
	}
	req.Header = h
	req.Header.Set("User-Agent", "")
	if body != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(body, 0, body.Size())), nil
		}
		req.Body, _ = req.GetBody()
		req.ContentLength = body.Size()
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		return uploadState{}, err
	}
	defer resp.Body.Close()
	reason := firstLine(resp.Body)
	held, err := strconv.ParseInt(resp.Header.Get(HeaderOffset), 10, 64)
	switch code := resp.StatusCode; {
	case err != nil && code < 500 && code != http.StatusTooManyRequests:
		return uploadState{}, fmt.Errorf("%w: what answers there is no intake (wrong line, or the channel is not carried)", transport.ErrRefused)
	case code/100 == 2 || code == http.StatusConflict:
		return uploadState{held, resp.Header.Get(HeaderComplete) == "?1"}, nil
	case code/100 == 4 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		return uploadState{}, fmt.Errorf("%w: %s", transport.ErrRefused, reason)
	default:
		return uploadState{}, fmt.Errorf("relay: status %d: %s", code, reason)
	}
}

// firstLine reads a short reason, printable ASCII only: it ends up on a terminal.
func firstLine(r io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(r, 512))
	b, _, _ = bytes.Cut(b, []byte{'\n'})
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b))
	if s = strings.TrimSpace(s); s == "" {
		return "no reason given"
	}
	return s
}

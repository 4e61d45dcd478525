package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// maxOpening bounds an opening answer in bytes. A front page takes 16 KiB
	// and seldom much more.
	maxOpening = 8 << 20
	// openTimeout bounds an opening answer in time, besides the long poll.
	openTimeout = time.Minute
	maxGrant    = 8192
)

// heads reads opening answers.
type heads struct {
	rt   http.RoundTripper
	base string
	wait time.Duration

	mu   sync.Mutex
	tags map[channel.ID]string // ETag of the newest head yielded
}

var (
	_ transport.Heads  = (*heads)(nil)
	_ transport.Opener = (*heads)(nil)
)

// Head implements transport.Heads.
func (h *heads) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	q := url.Values{"only": {"head"}, "root": {"9007199254740991"}}
	wait := time.Duration(0)
	if have > 0 {
		wait = h.wait
	}
	return h.first(ctx, transport.Ask{Channel: ch, Have: have}, q, wait, transport.PieceHead)
}

// RootNote implements transport.Heads.
func (h *heads) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	if version == 0 {
		return nil, transport.ErrNotFound
	}
	q := url.Values{"only": {"roots"}, "root": {strconv.FormatUint(version-1, 10)}}
	return h.first(ctx, transport.Ask{Channel: ch}, q, 0, transport.PieceRootNote)
}

// Grant implements transport.Heads.
func (h *heads) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	q := url.Values{"only": {"grant"}, "root": {"9007199254740991"}, "grant": {name}}
	return h.first(ctx, transport.Ask{Channel: ch}, q, 0, transport.PieceGrant)
}

// first returns the first piece of a kind.
func (h *heads) first(ctx context.Context, ask transport.Ask, q url.Values, wait time.Duration, kind transport.PieceKind) ([]byte, error) {
	for p, err := range h.read(ctx, ask, q, wait) {
		if err != nil {
			return nil, err
		}
		if p.Kind == kind {
			return p.Data, nil
		}
	}
	return nil, transport.ErrNotFound
}

// Open implements transport.Opener. It never waits for a newer head.
func (h *heads) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	q := url.Values{}
	if ask.Root > 0 {
		q.Set("root", strconv.FormatUint(ask.Root, 10))
	}
	if ask.Grant != "" {
		q.Set("grant", ask.Grant)
	}
	return h.read(ctx, ask, q, 0)
}

// read yields the pieces of one opening answer.
func (h *heads) read(ctx context.Context, ask transport.Ask, q url.Values, wait time.Duration) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		fail := func(err error) { yield(transport.Piece{}, err) }
		ctx, cancel := context.WithTimeout(ctx, openTimeout+wait)
		defer cancel()
		resp, err := h.get(ctx, ask, q, wait)
		if err != nil {
			fail(err)
			return
		}
		defer resp.Body.Close()
		r, err := car.NewReader(io.LimitReader(resp.Body, maxOpening))
		if err != nil {
			fail(fmt.Errorf("opening: %w", err))
			return
		}
		sort, err := newSorter(r.Roots())
		if err != nil {
			fail(err)
			return
		}
		for {
			b, err := r.Next()
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				fail(fmt.Errorf("opening: %w", err))
				return
			}
			p, err := sort.piece(b.CID, b.Data)
			if err != nil {
				fail(err)
				return
			}
			if p.Kind == transport.PieceHead {
				h.remember(ask.Channel, resp.Header.Get("Etag"))
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// remember keeps the tag of the head that the caller is about to get.
func (h *heads) remember(ch channel.ID, tag string) {
	if len(tag) > 256 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.tags) >= 1024 {
		clear(h.tags)
	}
	h.tags[ch] = tag
}

func (h *heads) get(ctx context.Context, ask transport.Ask, q url.Values, wait time.Duration) (*http.Response, error) {
	var tag string
	if ask.Have > 0 {
		q.Set("have", strconv.FormatUint(ask.Have, 10))
		if wait > 0 {
			q.Set("wait", strconv.Itoa(int(wait/time.Second)))
		}
		h.mu.Lock()
		tag = h.tags[ask.Channel]
		h.mu.Unlock()
	}
	if wait == 0 {
		// Who replays it learns nothing: the answer is encrypted to the one who
		// asked first, and says what he was told.
		ctx = repeatable(ctx)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+"/head/"+ask.Channel.String()+"?"+q.Encode(), nil)
	if err != nil {
		return nil, errors.New("relay: malformed request")
	}
	req.Header.Set("Accept", "application/vnd.ipld.car")
	req.Header.Set("User-Agent", "")
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := h.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp, nil
	case http.StatusNotModified:
		err = transport.ErrNoNewer
	case http.StatusNotFound, http.StatusGone:
		err = transport.ErrNotFound
	default:
		err = fmt.Errorf("%w: status %d", gateway.ErrStatus, resp.StatusCode)
	}
	resp.Body.Close()
	return nil, err
}

// sorter tells what the blocks of an opening answer are: its header names root
// notes, head and edition in this order, and a grant is the one raw block of a
// grant's size right behind the head.
type sorter struct {
	notes     []cid.Cid
	head      cid.Cid
	afterHead bool
}

func newSorter(roots []cid.Cid) (*sorter, error) {
	if len(roots) < 2 {
		return nil, errors.New("opening: it names no head")
	}
	n := len(roots) - 2
	return &sorter{notes: roots[:n], head: roots[n]}, nil
}

func (s *sorter) piece(c cid.Cid, data []byte) (transport.Piece, error) {
	tooLong := func(what string) (transport.Piece, error) {
		return transport.Piece{}, fmt.Errorf("opening: %s of %d bytes", what, len(data))
	}
	behindHead := s.afterHead
	s.afterHead = false
	p := transport.Piece{Kind: transport.PieceBlock, CID: c, Data: data}
	switch {
	case c.Equals(s.head):
		if len(data) > channel.MaxHead {
			return tooLong("head")
		}
		s.afterHead = true
		p.Kind, p.CID = transport.PieceHead, cid.Undef
	case len(s.notes) > 0 && c.Equals(s.notes[0]):
		if len(data) > channel.MaxRootNote {
			return tooLong("root note")
		}
		s.notes = s.notes[1:]
		p.Kind, p.CID = transport.PieceRootNote, cid.Undef
	case behindHead && c.Prefix().Codec == cid.Raw && (len(data) == 4096 || len(data) == maxGrant):
		p.Kind, p.CID = transport.PieceGrant, cid.Undef
	}
	return p, nil
}

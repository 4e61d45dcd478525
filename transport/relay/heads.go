package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// openTimeout bounds an opening answer in time, besides the long poll.
const openTimeout = time.Minute

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
		for p, err := range gateway.Opening(resp.Body) {
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
		if !ask.Signed.IsZero() {
			q.Set("signed", strconv.FormatInt(max(0, ask.Signed.Unix()), 10))
		}
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

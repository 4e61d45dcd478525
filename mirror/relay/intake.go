package relay

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	wire "tamizdat/transport/relay"
)

// intake takes a publisher's upload: HEAD asks how far it has come, PATCH
// appends; and, by PUT, the channel's IPNS record and its signed packet. Every answer carries
// Upload-Offset, by which the publisher knows that it speaks to an intake and
// not to the website.
func (h *Handler) intake(w http.ResponseWriter, r *http.Request, ch channel.ID, rest string) {
	answer := func(code int, held int64, complete bool, reason string) {
		w.Header().Set(wire.HeaderOffset, strconv.FormatInt(held, 10))
		w.Header().Set("Cache-Control", "no-store")
		if complete {
			w.Header().Set(wire.HeaderComplete, "?1")
		}
		if reason == "" {
			w.WriteHeader(code)
			return
		}
		http.Error(w, reason, code)
	}
	kind, rest, _ := strings.Cut(rest, "/")
	if kind == "witness" {
		h.cosign(w, r, ch, rest, true)
		return
	}
	small := map[string]func(http.ResponseWriter, *http.Request, channel.ID) (code, held int, reason string){
		"ipns": h.takeIPNS, "packet": h.takePacket, "denied": h.takeDenied,
	}
	if take := small[kind]; take != nil && rest == ch.String() {
		code, held, reason := take(w, r, ch)
		answer(code, int64(held), code == http.StatusNoContent, reason)
		return
	}
	id, name, _ := strings.Cut(rest, "/")
	headCID, ok := parseCID(name)
	if kind != "intake" || id != ch.String() || !ok || headCID.Version() != 1 {
		answer(http.StatusNotFound, 0, false, "no such upload")
		return
	}
	body := newPatient(w, r.Body)
	u, err := h.store.open(r.Context(), ch, headCID, body.stop)
	if err != nil {
		answer(http.StatusServiceUnavailable, 0, false, err.Error())
		return
	}
	defer u.unlock()
	switch r.Method {
	case http.MethodHead, http.MethodGet:
		held, complete, err := u.state()
		if err != nil {
			h.log.Error("upload not readable", "err", err)
			answer(http.StatusInternalServerError, 0, false, "the relay's disk fails")
			return
		}
		answer(http.StatusNoContent, held, complete, "")
	case http.MethodPatch:
		off, err1 := strconv.ParseInt(r.Header.Get(wire.HeaderOffset), 10, 64)
		total, err2 := strconv.ParseInt(r.Header.Get(wire.HeaderLength), 10, 64)
		if err1 != nil || err2 != nil || off < 0 || total <= 0 {
			answer(http.StatusBadRequest, 0, false, "malformed upload headers")
			return
		}
		held, complete, err := u.append(off, total, body)
		// The deadline is left: over HTTP/1.1 the server reads what is left of the body.
		switch {
		case errors.Is(err, errTooBig):
			answer(http.StatusRequestEntityTooLarge, held, false, err.Error())
		case errors.Is(err, errCrowded):
			answer(http.StatusInsufficientStorage, held, false, err.Error())
		case errors.Is(err, errFull):
			h.log.Warn("upload refused; see total_mb in "+ConfigFile, "err", err)
			answer(http.StatusInsufficientStorage, held, false, err.Error())
		case errors.Is(err, errBad):
			h.log.Warn("upload refused", "err", err)
			answer(http.StatusUnprocessableEntity, held, false, strings.TrimPrefix(err.Error(), errBad.Error()+": "))
		case errors.Is(err, errOffset):
			answer(http.StatusConflict, held, complete, err.Error())
		case err != nil:
			h.log.Warn("upload interrupted", "err", err)
			if durable.Full(err) {
				answer(http.StatusInsufficientStorage, held, false, "the relay's disk is full")
			} else {
				answer(http.StatusInternalServerError, held, false, "the upload was not stored")
			}
		default:
			answer(http.StatusNoContent, held, complete, "")
		}
	default:
		w.Header().Set("Allow", "HEAD, PATCH")
		answer(http.StatusMethodNotAllowed, 0, false, "method not allowed")
	}
}

// minRate is how slow a body may come on average, in bytes a second.
const minRate = 2000

// patient reads a body that may be slow but not silent, until it is stopped.
type patient struct {
	w http.ResponseWriter
	io.ReadCloser
	began time.Time

	mu      sync.Mutex
	stopped bool
	n       int64
}

func newPatient(w http.ResponseWriter, body io.ReadCloser) *patient {
	if p, ok := body.(*patient); ok {
		return p
	}
	return &patient{w: w, ReadCloser: body, began: time.Now()}
}

var errStopped = errors.New("stopped for a newer request")

func (p *patient) Read(b []byte) (int, error) {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return 0, errStopped
	}
	// By the time that what has come should have taken at the least, and as long again.
	till := p.began.Add(sendTimeout + time.Duration(p.n)*time.Second/minRate)
	if now := time.Now().Add(sendTimeout); now.Before(till) {
		till = now
	}
	_ = http.NewResponseController(p.w).SetReadDeadline(till)
	p.mu.Unlock()
	n, err := p.ReadCloser.Read(b)
	p.mu.Lock()
	p.n += int64(n)
	p.mu.Unlock()
	return n, err
}

// stop ends Read at once, and for good. It must not be called after the request.
func (p *patient) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	_ = http.NewResponseController(p.w).SetReadDeadline(time.Unix(1, 0))
}

// leave ends Read when the request's handler does, without a word to the connection:
// a body that was handed on is read in another goroutine, which may be late, and
// would set the deadline of what is no more.
func (p *patient) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

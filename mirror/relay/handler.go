package relay

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

// Handler is the relay's http.Handler: a website for everyone, and a gateway
// to one channel's editions for whoever knows a secret path prefix of it.
//
// The prefix is looked for in the raw escaped path of every request, before
// anything else looks at the path. A request without a valid one is handed to
// the website untouched, unless the month of that is over, and nothing of what
// decided that shows in the answer.
type Handler struct {
	store   *Store
	carried *carried
	site    http.Handler
	log     *slog.Logger
	ledger  *ledger     // nil if nothing is counted
	pin     channel.Pin // the relay's
	witness *witness    // nil if it is none
	polls   polls
	waiting *wire.Places[[8]byte] // of polls
	batches *rates[[8]byte]       // also of relays that follow
	pushes  *rates[channel.ID]
}

// Hooks are optional parts of a Handler that other packages fill in.
type Hooks struct {
	// Wrap stands between the listener and the handler: a meter, or, in the
	// censor lab, a relay's dishonesty.
	Wrap func(http.Handler) http.Handler
}

var _ http.Handler = (*Handler)(nil)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	segment, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	kind, ch, tag := h.carried.match(segment)
	if kind == accessRead && h.store.denies(ch, tag) {
		kind = accessNone
	}
	switch kind {
	case accessRead, accessPull:
		if !h.batches.allow(tag) {
			unread(r)
			tooMany(w)
			return
		}
		h.read(w, r, ch, tag, rest, kind == accessPull)
	case accessIntake:
		if !h.pushes.allow(ch) {
			unread(r)
			tooMany(w)
			return
		}
		h.intake(w, r, ch, rest)
	default:
		if h.ledger.shut() {
			unread(r)
			spentMonth(w)
			return
		}
		h.site.ServeHTTP(h.ledger.website(w), r)
	}
}

// read serves one channel to its readers, and to relays that follow this one.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, ch channel.ID, tag [8]byte, rest string, relay bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	// A body means nothing here. Over HTTP/1.1 a reader who owes one could not be seen
	// to go; over HTTP/2 it would be kept for as long as the answer takes.
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		_ = http.NewResponseController(w).EnableFullDuplex() // or it waits for the body first
		w.Header().Set("Connection", "close")
		http.Error(w, "a body with "+r.Method, http.StatusBadRequest)
		return
	}
	unread(r)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	kind, rest, _ := strings.Cut(rest, "/")
	switch kind {
	case "ipfs":
		if h.ledger.spent() {
			spentMonth(w)
			return
		}
		h.ipfs(w, r, h.blocksOf(ch), rest)
	case "ipns":
		h.ipns(w, r, ch, rest)
	case "head":
		if rest != ch.String() {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		h.head(w, r, ch, tag, relay)
	case "witness":
		h.cosign(w, r, ch, rest, false)
	case "edition":
		id, name, _ := strings.Cut(rest, "/")
		if !relay || id != ch.String() {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		if h.ledger.spent() {
			spentMonth(w)
			return
		}
		h.edition(w, r, ch, name)
	default:
		http.Error(w, "not found", http.StatusNotFound)
	}
}

// unread gives a body up that nobody will read. Over HTTP/2 up to a megabyte a
// connection would be held until the answer is taken. Nothing of it shows on the
// wire.
func unread(r *http.Request) {
	if r.ProtoMajor == 2 && r.Body != nil {
		_ = r.Body.Close() // there is nothing to be lost
	}
}

// send writes a short answer in one go.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, body []byte) {
	extend(w)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// sendTimeout is how long a client may take for one block's worth of answer.
const sendTimeout = 30 * time.Second

// extend gives the client another sendTimeout to take what is written next.
func extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTimeout))
}

// parseCID reads a CID as a URL segment.
func parseCID(s string) (cid.Cid, bool) {
	if len(s) > 128 {
		return cid.Undef, false
	}
	c, err := cid.Decode(s)
	return c, err == nil
}

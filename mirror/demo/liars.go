package demo

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
)

// liars are the servers at the far end that may be dishonest: the second relay
// and somebody's IPFS node. In scenarios they play what they can do to single
// answers; the relay shows older and other histories when World.Lie tells it to.
type liars struct {
	mu          sync.Mutex
	relay, peer []censor.Evil // told in turn; none: honest
	told        int
	// only is the one lie that the relay tells, whatever scenarios say, "" for none;
	// history, if not nil, is what it serves then instead of its own.
	only    censor.Evil
	history http.Handler
}

// playable are the lies that are played in scenarios.
var playable = []censor.Evil{censor.EvilFlip, censor.EvilCut, censor.EvilEndless, censor.EvilTrickle, censor.EvilGarbage}

// set makes them as dishonest as a scenario says.
func (l *liars) set(far censor.Far) {
	known := func(all []censor.Evil) []censor.Evil {
		return slices.DeleteFunc(slices.Clone(all), func(e censor.Evil) bool { return !slices.Contains(playable, e) })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.relay, l.peer = known(far.Relay), known(far.Peer)
}

// tell makes the relay tell one lie, "" for none.
func (l *liars) tell(only censor.Evil, history http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.only, l.history = only, history
}

// switched is that lie, and the history that is served then.
func (l *liars) switched() (censor.Evil, http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.only != "" {
		l.told++
	}
	return l.only, l.history
}

// next is the lie that the next answer tells, "" for none.
func (l *liars) next(of *[]censor.Evil) censor.Evil {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(*of) == 0 {
		return ""
	}
	l.told++
	return (*of)[l.told%len(*of)]
}

// wrap stands before a relay's handler. What publishers push is taken as it is.
func (l *liars) wrap(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fromPublisher(r) {
			honest.ServeHTTP(w, r)
			return
		}
		lie, history := l.switched()
		if history != nil {
			history.ServeHTTP(w, deaf(r))
			return
		}
		if lie == "" {
			lie = l.next(&l.relay)
		}
		if lie == "" {
			honest.ServeHTTP(w, r)
			return
		}
		lw := &lyingWriter{ResponseWriter: w, lie: lie, done: r.Context().Done()}
		honest.ServeHTTP(lw, r)
		junk := make([]byte, 16<<10)
		for lie == censor.EvilEndless && r.Context().Err() == nil {
			if _, err := w.Write(junk); err != nil {
				return
			}
			lw.rest(100 * time.Millisecond) // without end, not without mercy for the machine that shows it
		}
	})
}

// fromPublisher reports whether a publisher speaks. Readers send nothing but GET; who
// pushes, or asks what is held under the tag of zeros (transport/relay,
// Publisher.Current), is told the truth by liars that don't want to be found out.
func fromPublisher(r *http.Request) bool {
	return r.Method != http.MethodGet || strings.Contains(r.URL.Path, "/intake/") || strings.HasPrefix(r.URL.Path, "/AAAAAAAAAA")
}

// deaf is a request without what its sender has already: an honest relay of that
// history would answer that it has nothing newer.
func deaf(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	q := r.URL.Query()
	q.Del("have")
	q.Del("wait")
	r.URL.RawQuery = q.Encode()
	r.Header.Del("If-None-Match")
	return r
}

// lyingWriter spoils an answer on its way out.
type lyingWriter struct {
	http.ResponseWriter
	lie  censor.Evil
	done <-chan struct{}
	sent int
}

// cutAfter is where a cut answer ends: past the head, in the midst of a block.
const cutAfter = 1500

// WriteHeader implements http.ResponseWriter.
func (w *lyingWriter) WriteHeader(code int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *lyingWriter) Write(p []byte) (int, error) {
	if w.sent == 0 {
		w.Header().Del("Content-Length")
	}
	switch w.lie {
	case censor.EvilFlip, censor.EvilGarbage:
		p = bytes.Clone(p)
		for i := range p {
			if w.lie == censor.EvilGarbage || (w.sent+i)%1000 == 999 {
				p[i] ^= byte(1 + i%255)
			}
		}
	case censor.EvilCut:
		if w.sent+len(p) > cutAfter {
			_, _ = w.ResponseWriter.Write(p[:max(0, cutAfter-w.sent)])
			_ = http.NewResponseController(w.ResponseWriter).Flush()
			panic(http.ErrAbortHandler)
		}
	case censor.EvilTrickle:
		for i := range p {
			if !w.rest(time.Second) {
				return i, context.Canceled
			}
			if n, err := w.ResponseWriter.Write(p[i : i+1]); err != nil {
				return i + n, err
			}
			_ = http.NewResponseController(w.ResponseWriter).Flush()
		}
		return len(p), nil
	default:
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += n
	return n, err
}

// rest waits, unless the reader goes away.
func (w *lyingWriter) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.done:
		return false
	}
}

// Unwrap is for http.ResponseController.
func (w *lyingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// peer is what somebody's IPFS node serves: what the first relay holds.
type peer struct {
	*liars
	ch     channel.ID
	source *relay.Relay
}

var _ ipfs.Store = peer{}

// Get implements ipfs.Store. A node that spoils a block serves it under another
// name, since names are hashes: whoever asked waits in vain.
func (p peer) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	b, err := p.source.Store().Block(p.ch, c)
	if err != nil {
		return nil, err
	}
	switch p.next(&p.peer) {
	case censor.EvilFlip, censor.EvilGarbage:
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	case censor.EvilCut:
		b = b[:len(b)/2]
	case censor.EvilEndless, censor.EvilTrickle:
		return nil, transport.ErrNotFound
	default:
	}
	return b, nil
}

// Size implements ipfs.Store.
func (p peer) Size(_ context.Context, c cid.Cid) (int, error) {
	b, err := p.source.Store().Block(p.ch, c)
	return len(b), err
}

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
// and somebody's IPFS node. Of what servers can lie about, they play what they
// can do to single answers; older and other histories are the censor lab's.
type liars struct {
	mu          sync.Mutex
	relay, peer []censor.Evil // told in turn; none: honest
	told        int
}

// playable are the lies that the demo plays.
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
		lie := l.next(&l.relay)
		if lie == "" || strings.Contains(r.URL.Path, "/intake/") {
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

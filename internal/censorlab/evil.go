package censorlab

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/mirror/publisher"
	"tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
)

// evil is what the servers that may be dishonest have in common: relay B, the
// IPFS peer and the public gateway. With no vice each is as honest as relay A.
type evil struct {
	relayVice, peerVice atomic.Value // censor.Evil

	lagging, forking http.Handler
	node             *ipfs.Node

	ch     channel.ID
	name   string // IPNS
	source *relay.Relay

	mu sync.Mutex
	// record is the IPNS record of now, old the one of an earlier edition, other
	// one of another history.
	record, old, other []byte
}

var _ ipfs.Store = (*evil)(nil)

func newEvil() *evil {
	e := &evil{}
	e.relayVice.Store(censor.Evil(""))
	e.peerVice.Store(censor.Evil(""))
	return e
}

// set makes them as dishonest as a scenario says: of several lies, the one that
// it is the seed's turn to tell.
func (e *evil) set(f censor.Far, seed uint64) error {
	pick := func(all []censor.Evil, n uint64) censor.Evil {
		if len(all) == 0 {
			return ""
		}
		return all[n%uint64(len(all))]
	}
	e.relayVice.Store(pick(f.Relay, seed))
	e.peerVice.Store(pick(f.Peer, 3*seed+1)) // in pairs not the same as the relay's
	return e.give(e.recordNow())
}

// recordNow is the IPNS record that a peer or gateway hands out.
func (e *evil) recordNow() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.peerVice.Load().(censor.Evil) {
	case censor.EvilOld:
		return e.old
	case censor.EvilFork:
		return e.other
	default:
		return e.record
	}
}

// learn tells them whose blocks they serve, and under which IPNS name.
func (e *evil) learn(p *publisher.Publisher, source *relay.Relay) error {
	inv, err := p.Invite("lab")
	if err != nil {
		return err
	}
	e.ch, e.source = p.Channel(), source
	e.name, err = ipfs.Name(inv.IPNS)
	return err
}

// setRecord hands out a new IPNS record.
func (e *evil) setRecord(raw []byte) error {
	e.mu.Lock()
	e.record = raw
	e.mu.Unlock()
	return e.give(e.recordNow())
}

// remember keeps the record of now as the old one.
func (e *evil) remember() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.old = e.record
}

// give makes the node hand out a record, an older one as well.
func (e *evil) give(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	if err := e.node.RemoveRecord(e.name); err != nil {
		return err
	}
	return e.node.SetRecord(e.name, raw)
}

// Get implements ipfs.Store. A node that spoils a block serves it under another
// name, since names are hashes; so whoever asked waits in vain.
func (e *evil) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	b, err := e.source.Store().Block(e.ch, c)
	if err != nil {
		return nil, err
	}
	switch e.peerVice.Load().(censor.Evil) {
	case censor.EvilFlip, censor.EvilForeign, censor.EvilGarbage:
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	case censor.EvilCut:
		b = b[:len(b)/2]
	case censor.EvilEndless, censor.EvilTrickle:
		return nil, transport.ErrNotFound
	default: // its blocks are true
	}
	return b, nil
}

// Size implements ipfs.Store.
func (e *evil) Size(_ context.Context, c cid.Cid) (int, error) {
	b, err := e.source.Store().Block(e.ch, c)
	return len(b), err
}

// relay stands before relay B's handler.
func (e *evil) relay(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		vice := e.relayVice.Load().(censor.Evil)
		if strings.Contains(r.URL.Path, "/intake/") {
			vice = "" // it takes what it is given, like any relay
		}
		serve := honest
		switch vice {
		case censor.EvilOld:
			serve = e.lagging
		case censor.EvilFork:
			serve = e.forking
		default: // see spoil
		}
		spoil(vice, serve, w, r)
	})
}

// gateway is a public gateway that has the channel's blocks and record.
func (e *evil) gateway() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		vice := e.peerVice.Load().(censor.Evil)
		spoil(vice, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			switch kind {
			case "ipfs":
				c, err := cid.Decode(name)
				if err != nil {
					http.Error(w, "bad request", http.StatusBadRequest)
					return
				}
				b, err := e.source.Store().Block(e.ch, c)
				if err != nil {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/vnd.ipld.raw")
				_, _ = w.Write(b)
			case "ipns":
				raw := e.recordNow()
				w.Header().Set("Content-Type", "application/vnd.ipfs.ipns-record")
				_, _ = w.Write(raw)
			default:
				http.NotFound(w, r)
			}
		}), w, r)
	})
}

// spoil answers as honest does, with a vice. What a vice makes of an answer is
// made of the whole of it.
func spoil(vice censor.Evil, honest http.Handler, w http.ResponseWriter, r *http.Request) {
	if vice == "" || vice == censor.EvilOld || vice == censor.EvilFork {
		honest.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	honest.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	switch vice {
	case censor.EvilGarbage:
		_, _ = w.Write(noise(uint64(len(body)), len(body)))
	case censor.EvilFlip:
		for i := 999; i < len(body); i += 1000 {
			body[i] ^= 1
		}
		_, _ = w.Write(body)
	case censor.EvilForeign: // true blocks of nobody's asking: the second half is another's
		for i := len(body) / 2; i < len(body); i++ {
			body[i] = byte(i)
		}
		_, _ = w.Write(body)
	case censor.EvilCut:
		_, _ = w.Write(body[:len(body)/2])
		flush(w)
		panic(http.ErrAbortHandler)
	case censor.EvilEndless:
		_, _ = w.Write(body)
		junk := make([]byte, 16<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	case censor.EvilTrickle:
		for i := range body {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
			if _, err := w.Write(body[i : i+1]); err != nil {
				return
			}
			flush(w)
		}
	default: // an honest answer of a dishonest server
	}
}

func flush(w io.Writer) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

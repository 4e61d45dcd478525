package censorlab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
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
	// earlier are the blocks of an older edition: true ones that nobody asks for.
	earlier []car.Block
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

// telling says which lies are told now, "" if none.
func (e *evil) telling() string {
	var out []string
	if v := e.relayVice.Load().(censor.Evil); v != "" {
		out = append(out, "relay "+string(v))
	}
	if v := e.peerVice.Load().(censor.Evil); v != "" {
		out = append(out, "peer "+string(v))
	}
	return strings.Join(out, ", ")
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

// remember keeps the record of now as the old one, and the blocks of the newest
// of the editions in a folder of CAR files.
func (e *evil) remember(stick string) error {
	names, err := filepath.Glob(filepath.Join(stick, "*.car"))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("no edition on the stick")
	}
	f, err := os.Open(slices.Max(names))
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		return err
	}
	blocks, err := drain(r)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.old, e.earlier = e.record, blocks
	return nil
}

// drain reads all blocks of a CAR file.
func drain(r *car.Reader) (all []car.Block, err error) {
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		b.Data = bytes.Clone(b.Data)
		all = append(all, b)
	}
}

// instead is the n-th block of an older edition, or the next if the n-th is the
// one that was asked for.
func (e *evil) instead(n int, asked []byte) car.Block {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.earlier[n%len(e.earlier)]; !bytes.Equal(b.Data, asked) {
		return b
	}
	return e.earlier[(n+1)%len(e.earlier)]
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

// Get implements ipfs.Store. A node that spoils a block or sends another serves it
// under another name, since names are hashes; so whoever asked waits in vain.
func (e *evil) Get(_ context.Context, c cid.Cid) ([]byte, error) {
	b, err := e.source.Store().Block(e.ch, c)
	if err != nil {
		return nil, err
	}
	switch e.peerVice.Load().(censor.Evil) {
	case censor.EvilFlip, censor.EvilGarbage:
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	case censor.EvilForeign:
		b = e.instead(len(b), b).Data
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
		e.spoil(vice, serve, w, r)
	})
}

// gateway is a public gateway that has the channel's blocks and record.
func (e *evil) gateway() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		vice := e.peerVice.Load().(censor.Evil)
		e.spoil(vice, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
func (e *evil) spoil(vice censor.Evil, honest http.Handler, w http.ResponseWriter, r *http.Request) {
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
		flip(body)
		_, _ = w.Write(body)
	case censor.EvilForeign:
		_, _ = w.Write(e.foreign(rec.Header().Get("Content-Type"), body))
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

// flip flips one bit in every thousand bytes, and one in a shorter answer.
func flip(body []byte) {
	for i := min(999, len(body)/2); i < len(body); i += 1000 {
		body[i] ^= 1
	}
}

// foreign makes of an answer one with true blocks that nobody asked for: each is
// what its name says, signed for by this channel, and of an older edition. A bare
// block is another one; in a CAR all are but the root notes and the head, which
// come first and whet the appetite. What is neither stays as it is.
func (e *evil) foreign(kind string, body []byte) []byte {
	switch {
	case strings.HasPrefix(kind, "application/vnd.ipld.raw"):
		return e.instead(len(body), body).Data
	case !strings.HasPrefix(kind, "application/vnd.ipld.car"):
		return body
	}
	r, err := car.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	blocks, err := drain(r)
	if err != nil {
		return body
	}
	var out bytes.Buffer
	w, err := car.NewWriter(&out, r.Roots())
	intro := r.Roots()[:max(0, len(r.Roots())-1)] // the last is a directory, or what was asked for
	for i, b := range blocks {
		if !slices.ContainsFunc(intro, b.CID.Equals) {
			b = e.instead(i, b.Data)
		}
		if err == nil {
			err = w.Put(b.CID, b.Data)
		}
	}
	if err != nil {
		return body
	}
	return out.Bytes()
}

func flush(w io.Writer) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

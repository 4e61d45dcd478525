package relay

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

// polls counts requests that wait for a new head, so that they don't all wake
// in one instant.
type polls struct{ n atomic.Int64 }

const (
	// pollSpread is how much later the last poll wakes for each poll there is,
	// maxSpread the limit: 10,000 readers come back over ten seconds.
	pollSpread = time.Millisecond
	maxSpread  = 10 * time.Second
)

// head answers with the opening of the newest edition (see package
// transport/relay for the parameters). A relay that follows is told of a new
// head at once: readers elsewhere wait for it.
func (h *Handler) head(w http.ResponseWriter, r *http.Request, ch channel.ID, tag [8]byte, relay bool) {
	q := r.URL.Query()
	number := func(name string) (uint64, bool) {
		s := q.Get(name)
		if s == "" {
			return 0, true
		}
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			http.Error(w, "malformed "+name, http.StatusBadRequest)
		}
		return n, err == nil
	}
	root, ok1 := number("root")
	if !ok1 {
		return
	}
	have, ok2 := number("have")
	if !ok2 {
		return
	}
	wait, ok3 := number("wait")
	if !ok3 {
		return
	}
	signed, ok4 := number("signed")
	if !ok4 {
		return
	}
	beats := func(e *edition) bool {
		return q.Has("signed") && e.head.Size == have && e.head.Time.Unix() > int64(signed)
	}
	tagged := r.Header.Get("If-None-Match") != ""
	fresh := func(e *edition) bool {
		switch {
		case e == nil:
			return false
		case q.Has("have") && (q.Has("root") && root < e.roots.Version() || e.anew(have) && wait == 0 && q.Get("only") == "head"):
			return true
		case q.Has("have") && beats(e):
			return true
		case q.Has("have"):
			return e.head.Size > have || e.head.Size == have && tagged && !noneMatch(r.Header, headTag(e))
		}
		return !noneMatch(r.Header, headTag(e))
	}
	if wait > 0 {
		leave, ok := h.waiting.Enter(tag)
		if !ok {
			tooMany(w)
			return
		}
		defer leave()
		if r.ProtoMajor == 3 && r.Body != nil {
			_ = r.Body.Close() // tells the client to stop, which it need not know otherwise
		}
	}
	e := h.await(r.Context(), ch, tag, fresh, time.Duration(min(wait, uint64(wire.MaxWait/time.Second)))*time.Second, relay)
	if !relay && h.store.denies(ch, tag) { // since the request came
		w.Header().Del("X-Content-Type-Options")
		h.site.ServeHTTP(w, r)
		return
	}
	if e == nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Etag", headTag(e))
	w.Header().Set("Cache-Control", "no-cache")
	if !fresh(e) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	only := q.Get("only")
	if only == "" && q.Has("have") && beats(e) && root >= e.roots.Version() {
		only = "head" // the rest is what he holds
	}
	body, err := opening(e, root, q.Get("grant"), only)
	if errors.Is(err, os.ErrNotExist) {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if err != nil {
		h.log.Error("head not served", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", typeCAR+"; version=1")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	h.send(w, r, body)
}

// anew reports whether who holds so many editions, as many as e counts or more, has to
// be told of e: they may be those of a log that was begun anew since. Who waits, or
// wants more than the head, has to say which root notes he holds instead.
func (e *edition) anew(have uint64) bool { return e.head.Generation > 0 && e.head.Size <= have }

func headTag(e *edition) string { return `"` + e.headCID.String() + `"` }

// await returns the channel's newest edition, at once if it is fresh, else
// when a fresh one comes, the batch of that tag is revoked, or the time is over;
// readers of news then wait a little longer, each for another while, unless atOnce.
func (h *Handler) await(ctx context.Context, ch channel.ID, tag [8]byte, fresh func(*edition) bool, wait time.Duration, atOnce bool) *edition {
	e, wake := h.store.newest(ch)
	if wait <= 0 || fresh(e) {
		return e
	}
	waiting := h.polls.n.Add(1)
	defer h.polls.n.Add(-1)
	over := time.NewTimer(wait)
	defer over.Stop()
	for !fresh(e) {
		denied, shut := h.store.denied(ch)
		if denied.Has(tag) {
			return e
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return e
		case <-over.C:
			return e
		case <-wake:
			if !atOnce {
				spread := min(time.Duration(waiting)*pollSpread, maxSpread)
				select {
				case <-time.After(rand.N(spread)):
				case <-ctx.Done():
					return e
				}
			}
			e, wake = h.store.newest(ch)
		}
	}
	return e
}

// opening builds the CAR of one opening answer: root notes above root, head,
// grant, directory, front. only ends it early.
func opening(e *edition, root uint64, grant, only string) ([]byte, error) {
	notes := e.notes[min(root, uint64(len(e.notes))):]
	dir, err := e.block(e.head.Root)
	if err != nil {
		return nil, err
	}
	blocks := append(append([]cid.Cid{}, notes...), e.headCID)
	if grant != "" && only != "roots" && only != "head" {
		switch g, err := grantCID(e, dir, grant); {
		case err == nil:
			blocks = append(blocks, g)
		case only == "grant" || !errors.Is(err, os.ErrNotExist):
			return nil, err
		}
	}
	switch only {
	case "":
		blocks = append(blocks, e.head.Root)
		if front, ok := child(gotBlock{e.head.Root, dir}, "front.age"); ok {
			with, err := appendFile(e, blocks, front, maxDepth)
			switch {
			case errors.Is(err, errLarge): // the reader fetches it block by block
			case err != nil:
				return nil, err
			default:
				blocks = with
			}
		}
	case "roots":
		if len(notes) == 0 {
			return nil, os.ErrNotExist
		}
		blocks = notes
	case "grant":
		if grant == "" {
			return nil, os.ErrNotExist
		}
	}
	var out bytes.Buffer
	w, err := car.NewWriter(&out, append(append([]cid.Cid{}, notes...), e.headCID, e.head.Root))
	if err != nil {
		return nil, err
	}
	for _, c := range blocks {
		data, err := e.block(c)
		if err != nil {
			return nil, err
		}
		if err := w.Put(c, data); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// maxOpening bounds what one opening answer holds in memory, in bytes.
const maxOpening = 1 << 20

// maxOpeningBlocks bounds their number: 1 MiB takes 17 blocks of 64 KiB.
const maxOpeningBlocks = 1024

func (e *edition) sizeOf(blocks []cid.Cid) (n int) {
	for _, c := range blocks {
		n += e.index[c.KeyString()].len
	}
	return n
}

// grantCID finds a grant in the edition's grants folder. os.ErrNotExist if
// there is none of that name or it is no grant.
func grantCID(e *edition, dir []byte, name string) (cid.Cid, error) {
	folder, ok := child(gotBlock{e.head.Root, dir}, "grants")
	if !ok {
		return cid.Undef, os.ErrNotExist
	}
	data, err := e.block(folder)
	if err != nil {
		return cid.Undef, err
	}
	g, ok := child(gotBlock{folder, data}, name)
	if s := e.index[g.KeyString()]; !ok || g.Prefix().Codec != cid.Raw || (s.len != 4096 && s.len != 8192) {
		return cid.Undef, os.ErrNotExist
	}
	return g, nil
}

// errLarge: an opening would hold more than maxOpening.
var errLarge = errors.New("too large for an opening answer")

// appendFile appends a file's blocks in depth-first order. It stops as soon as
// they are too large, however often a node links to the same thing.
func appendFile(e *edition, blocks []cid.Cid, c cid.Cid, depth int) ([]cid.Cid, error) {
	blocks = append(blocks, c)
	if len(blocks) > maxOpeningBlocks || e.sizeOf(blocks) > maxOpening {
		return nil, errLarge
	}
	if c.Prefix().Codec != cid.DagProtobuf || depth == 0 {
		return blocks, nil
	}
	data, err := e.block(c)
	if err != nil {
		return nil, err
	}
	node, err := merkledag.DecodeProtobuf(data)
	if err != nil {
		return nil, err
	}
	for _, l := range node.Links() {
		if blocks, err = appendFile(e, blocks, l.Cid, depth-1); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

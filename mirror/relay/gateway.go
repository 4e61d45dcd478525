package relay

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle/channel"
)

// What follows is a trustless gateway
// (https://specs.ipfs.tech/http-gateways/trustless-gateway/) to the editions of
// one channel: raw blocks by CID, with Range; CARs by CID and path, of dag-scope
// block, entity and all, with entity-bytes, with or without duplicates, always
// depth-first; and the probe, bafkqaaa. What editions don't have it doesn't
// know: sharded folders and codecs but raw and dag-pb. Nothing is fetched from
// elsewhere, so a block that is not here is not found, and that at once.

const (
	typeRaw   = "application/vnd.ipld.raw"
	typeCAR   = "application/vnd.ipld.car"
	immutable = "public, max-age=29030400, immutable"
	// maxDepth is deeper than any UnixFS tree of an edition.
	maxDepth = 16
)

// blockSource is where a gateway finds its blocks.
type blockSource struct {
	// get returns a block, checked to be sound, or an error wrapping os.ErrNotExist.
	get func(cid.Cid) ([]byte, error)
	// has says the same without reading anything.
	has func(cid.Cid) bool
	// into, if not nil, is get, in buf if that has room.
	into func(c cid.Cid, buf []byte) ([]byte, error)
	// sections, if not nil, calls put with the sections of a CAR that hold these
	// raw blocks, in their order, some at a time; they are good until it returns.
	// Errors are those of get, and put's own.
	sections func(cs []cid.Cid, put func([]byte) error) error
}

// blocksOf are all blocks of one channel's editions, and those whose bytes are
// their CID (identity hashes): these nobody needs to hold.
func (h *Handler) blocksOf(ch channel.ID) blockSource {
	return blockSource{
		get:      func(c cid.Cid) ([]byte, error) { return h.store.Block(ch, c) },
		has:      func(c cid.Cid) bool { _, ok := h.store.size(ch, c); return ok },
		into:     func(c cid.Cid, buf []byte) ([]byte, error) { return h.store.blockInto(ch, c, buf) },
		sections: func(cs []cid.Cid, put func([]byte) error) error { return h.store.sections(ch, cs, put) },
	}.withIdentity()
}

func (b blockSource) withIdentity() blockSource {
	// Blocks are held by CIDs of version 1; the same bytes may be asked for by 0.
	held := func(c cid.Cid) cid.Cid { return cid.NewCidV1(c.Type(), c.Hash()) }
	out := blockSource{
		get: func(c cid.Cid) ([]byte, error) {
			if data, ok := inlined(c); ok {
				return data, nil
			}
			return b.get(held(c))
		},
		has: func(c cid.Cid) bool {
			_, ok := inlined(c)
			return ok || b.has(held(c))
		},
		sections: b.sections,
	}
	if b.into != nil {
		out.into = func(c cid.Cid, buf []byte) ([]byte, error) {
			if data, ok := inlined(c); ok {
				return data, nil
			}
			return b.into(held(c), buf)
		}
	}
	return out
}

// inlined returns the bytes that an identity CID is made of.
func inlined(c cid.Cid) ([]byte, bool) {
	d, err := multihash.Decode(c.Hash())
	if err != nil || d.Code != multihash.IDENTITY {
		return nil, false
	}
	return d.Digest, true
}

// ipfs answers /ipfs/CID[/PATH].
func (h *Handler) ipfs(w http.ResponseWriter, r *http.Request, blocks blockSource, rest string) {
	rest = strings.TrimRight(rest, "/")
	first, path, _ := strings.Cut(rest, "/")
	root, ok := parseCID(first)
	if !ok {
		http.Error(w, "not a CID", http.StatusBadRequest)
		return
	}
	w.Header().Set("Vary", "Accept")
	w.Header().Set("X-Ipfs-Path", "/ipfs/"+rest)
	want, bad := negotiate(r, formatRaw, formatCAR)
	var car carParams
	switch {
	case bad != nil:
	case want.format == formatCAR:
		car, bad = parseCARParams(r.URL.Query(), want.params)
	case path != "": // whoever gets one block can't check which path it is of
		bad = &refusal{http.StatusNotAcceptable, "paths are for format=car; ask for a block by its CID"}
	}
	if bad != nil {
		bad.send(w)
		return
	}
	if !blocks.has(root) {
		if r.Header.Get("Cache-Control") == "only-if-cached" {
			http.Error(w, "not held here", http.StatusPreconditionFailed)
			return
		}
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	// Whoever shows the tag had the answer from here: what it names need not be
	// read for him. "*" shows nothing, so a path must be walked first.
	etag := `"` + root.String() + `.raw"`
	if want.format == formatCAR {
		etag = car.etag(root, path)
	}
	if (path == "" || r.Header.Get("If-None-Match") != "*") && noneMatch(r.Header, etag) {
		notModified(w, etag)
		return
	}
	if want.format == formatRaw && blocks.into != nil { // one block, of no use when it was sent
		buf, done := h.store.buffers.one()
		// http.ServeContent copies it; several ranges in a goroutine, which may still be
		// at it when the client has left.
		defer done(!strings.Contains(r.Header.Get("Range"), ","))
		blocks.get = func(c cid.Cid) ([]byte, error) { return blocks.into(c, buf) }
	}
	chain, err := blocks.resolve(root, path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		http.Error(w, "not found", http.StatusNotFound)
		return
	case errors.Is(err, errPath):
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case err != nil:
		h.log.Error("block not served", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	last := chain[len(chain)-1]
	if bad := car.resolve(last); bad != nil {
		bad.send(w)
		return
	}
	if noneMatch(r.Header, etag) {
		notModified(w, etag)
		return
	}
	var roots []string
	for _, b := range chain {
		roots = append(roots, b.cid.String())
	}
	w.Header().Set("X-Ipfs-Roots", strings.Join(roots, ","))
	w.Header().Set("Cache-Control", immutable)
	w.Header().Set("Etag", etag)
	want.locate(w, r)
	if want.format == formatRaw {
		w.Header().Set("Content-Type", typeRaw)
		disposition(w, r, last.cid.String()+".bin")
		extend(w)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(last.data)) // HEAD and Range
		return
	}
	w.Header().Set("Content-Type", car.contentType())
	w.Header().Set("Accept-Ranges", "none") // entity-bytes is how to ask for a part
	disposition(w, r, last.cid.String()+".car")
	if r.Method != http.MethodHead {
		sendCAR(w, blocks, car, chain)
	}
}

type gotBlock struct {
	cid  cid.Cid
	data []byte
}

var errPath = errors.New("malformed path")

// resolve walks a path, as it stands in the URL, and returns the blocks on it,
// the last being what the path names. The error wraps os.ErrNotExist if there is
// no such thing, and errPath if there can't be.
func (b blockSource) resolve(root cid.Cid, path string) ([]gotBlock, error) {
	data, err := b.get(root)
	if err != nil {
		return nil, err
	}
	chain := []gotBlock{{root, data}}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" { // doubled slashes mean nothing
			continue
		}
		name, err := url.PathUnescape(segment)
		if err != nil || len(chain) > maxDepth {
			return nil, errPath
		}
		next, ok := child(chain[len(chain)-1], name)
		if !ok {
			return nil, os.ErrNotExist
		}
		if data, err = b.get(next); err != nil {
			return nil, err
		}
		chain = append(chain, gotBlock{next, data})
	}
	return chain, nil
}

// child finds a name in a UnixFS directory.
func child(b gotBlock, name string) (cid.Cid, bool) {
	if b.cid.Prefix().Codec != cid.DagProtobuf {
		return cid.Undef, false
	}
	node, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return cid.Undef, false
	}
	for _, l := range node.Links() {
		if l.Name == name && name != "" {
			return l.Cid, true
		}
	}
	return cid.Undef, false
}

package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// What follows is the part of the Trustless Gateway specification
// (https://specs.ipfs.tech/http-gateways/trustless-gateway/) that editions
// need: raw blocks, and CARs of dag-scope block, entity and all with
// entity-bytes, of blocks and of paths below a directory.

const (
	typeRaw   = "application/vnd.ipld.raw"
	typeCAR   = "application/vnd.ipld.car"
	immutable = "public, max-age=29030400, immutable"
	// maxDepth is deeper than any UnixFS tree of an edition.
	maxDepth = 16
)

func (h *Handler) ipfs(w http.ResponseWriter, r *http.Request, ch channel.ID, rest string) {
	segments := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	root, ok := parseCID(segments[0])
	if !ok || len(segments) > maxDepth {
		http.Error(w, "not a CID", http.StatusBadRequest)
		return
	}
	format := wanted(r)
	if format == "" {
		http.Error(w, "ask for format=raw or format=car", http.StatusNotAcceptable)
		return
	}
	chain, err := h.resolve(ch, root, segments[1:])
	if errors.Is(err, os.ErrNotExist) {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if err != nil {
		h.log.Error("block not served", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	last := chain[len(chain)-1]
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", immutable)
	if format == "raw" {
		w.Header().Set("Etag", `"`+last.cid.String()+`.raw"`)
		w.Header().Set("Content-Type", typeRaw)
		w.Header().Set("Content-Disposition", `attachment; filename="`+last.cid.String()+`.bin"`)
		extend(w)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(last.data)) // HEAD, Range, If-None-Match
		return
	}
	h.sendCAR(w, r, ch, chain)
}

// wanted returns "raw" or "car"; the query beats the Accept header.
func wanted(r *http.Request) string {
	switch f := r.URL.Query().Get("format"); f {
	case "raw", "car":
		return f
	case "":
	default:
		return ""
	}
	for _, t := range accepted(r) {
		switch t {
		case typeRaw:
			return "raw"
		case typeCAR:
			return "car"
		}
	}
	return ""
}

// accepted lists the media types of the Accept header, without parameters.
func accepted(r *http.Request) []string {
	var types []string
	for _, a := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		t, _, _ := strings.Cut(a, ";")
		types = append(types, strings.TrimSpace(t))
	}
	return types
}

type gotBlock struct {
	cid  cid.Cid
	data []byte
}

// resolve walks a path and returns the blocks on it, the last being what the
// path names. The error wraps os.ErrNotExist if there is no such thing.
func (h *Handler) resolve(ch channel.ID, root cid.Cid, path []string) ([]gotBlock, error) {
	data, err := h.store.Block(ch, root)
	if err != nil {
		return nil, err
	}
	chain := []gotBlock{{root, data}}
	for _, segment := range path {
		name, err := url.PathUnescape(segment)
		if err != nil {
			return nil, os.ErrNotExist
		}
		next, ok := child(chain[len(chain)-1], name)
		if !ok {
			return nil, os.ErrNotExist
		}
		if data, err = h.store.Block(ch, next); err != nil {
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

// sendCAR streams the blocks on the path and what dag-scope asks for below it.
func (h *Handler) sendCAR(w http.ResponseWriter, r *http.Request, ch channel.ID, chain []gotBlock) {
	q := r.URL.Query()
	scope := q.Get("dag-scope")
	switch scope {
	case "":
		scope = "all"
	case "block", "entity", "all":
	default:
		http.Error(w, "unknown dag-scope", http.StatusBadRequest)
		return
	}
	rng := byteRange{0, -1, false}
	if eb := q.Get("entity-bytes"); eb != "" && scope == "entity" {
		var err error
		if rng, err = parseEntityBytes(eb); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	last := chain[len(chain)-1]
	etag := fmt.Sprintf(`W/"%s.%d.%s.%s.car"`, last.cid, len(chain), scope, rng)
	w.Header().Set("Etag", etag)
	w.Header().Set("Content-Type", typeCAR+"; version=1; order=dfs; dups=n")
	w.Header().Set("Content-Disposition", `attachment; filename="`+last.cid.String()+`.car"`)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	out, err := car.NewWriter(w, []cid.Cid{last.cid})
	if err != nil {
		return
	}
	s := &dagSender{h: h, w: w, out: out, ch: ch, sent: map[string]bool{}}
	for _, b := range chain {
		if err = s.put(b); err != nil {
			break
		}
	}
	if err == nil {
		switch scope {
		case "all":
			err = s.below(last, maxDepth)
		case "entity":
			err = s.entity(last, 0, rng.resolve(last), maxDepth)
		}
	}
	if err != nil {
		// Headers are out: breaking the stream is the only honest answer left.
		panic(http.ErrAbortHandler)
	}
}

type dagSender struct {
	h    *Handler
	w    http.ResponseWriter
	out  *car.Writer
	ch   channel.ID
	sent map[string]bool
	// steps counts the links that entity followed.
	steps int
}

func (s *dagSender) put(b gotBlock) error {
	if s.sent[b.cid.KeyString()] {
		return nil
	}
	s.sent[b.cid.KeyString()] = true
	extend(s.w)
	return s.out.Put(b.cid, b.data)
}

func (s *dagSender) fetch(c cid.Cid) (gotBlock, error) {
	data, err := s.h.store.Block(s.ch, c)
	return gotBlock{c, data}, err
}

// below sends everything that b links to, depth first.
func (s *dagSender) below(b gotBlock, depth int) error {
	if b.cid.Prefix().Codec != cid.DagProtobuf || depth == 0 {
		return nil
	}
	node, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return err
	}
	for _, l := range node.Links() {
		if s.sent[l.Cid.KeyString()] {
			continue
		}
		c, err := s.fetch(l.Cid)
		if err != nil {
			return err
		}
		if err := s.put(c); err != nil {
			return err
		}
		if err := s.below(c, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// entity sends the blocks of a file that hold bytes of rng; base is where b's
// bytes begin in the file. Of a directory its own block is the entity.
func (s *dagSender) entity(b gotBlock, base int64, rng byteRange, depth int) error {
	if b.cid.Prefix().Codec != cid.DagProtobuf || depth == 0 {
		return nil
	}
	node, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return err
	}
	fs, err := unixfs.FSNodeFromBytes(node.Data())
	if err != nil || fs.Type() != unixfs.TFile || fs.NumChildren() != len(node.Links()) {
		return err
	}
	for i, l := range node.Links() {
		size := int64(fs.BlockSize(i))
		// A few nodes that link to each other many times over would keep this
		// walk going for ever, without a byte being written that could fail.
		if s.steps++; size < 0 || s.steps > maxBlocks {
			return errors.New("malformed file node")
		}
		if rng.touches(base, base+size) {
			c, err := s.fetch(l.Cid)
			if err != nil {
				return err
			}
			if err := s.put(c); err != nil {
				return err
			}
			if err := s.entity(c, base, rng, depth-1); err != nil {
				return err
			}
		}
		base += size
	}
	return nil
}

// byteRange is entity-bytes: from and to inclusive, to -1 for the end.
type byteRange struct {
	from, to int64
	fromEnd  bool // from counts back from the end of the file
}

func (b byteRange) String() string { return fmt.Sprintf("%d:%d:%t", b.from, b.to, b.fromEnd) }

var errRange = errors.New("malformed entity-bytes")

func parseEntityBytes(s string) (byteRange, error) {
	from, to, ok := strings.Cut(s, ":")
	if !ok {
		return byteRange{}, errRange
	}
	b := byteRange{to: -1}
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil || n == -1<<63 {
		return byteRange{}, errRange
	}
	if b.from = n; n < 0 {
		b.from, b.fromEnd = -n, true
	}
	if to != "*" {
		if b.to, err = strconv.ParseInt(to, 10, 64); err != nil || b.to < 0 {
			return byteRange{}, errRange // an end counted from the end is not offered
		}
	}
	return b, nil
}

// resolve makes a range that counts from the end absolute.
func (b byteRange) resolve(file gotBlock) byteRange {
	if !b.fromEnd {
		return b
	}
	size := int64(len(file.data))
	if node, err := merkledag.DecodeProtobuf(file.data); err == nil && file.cid.Prefix().Codec == cid.DagProtobuf {
		if fs, err := unixfs.FSNodeFromBytes(node.Data()); err == nil {
			size = int64(fs.FileSize())
		}
	}
	return byteRange{from: max(0, size-b.from), to: b.to}
}

// touches reports whether the range holds a byte of [from, to).
func (b byteRange) touches(from, to int64) bool {
	return to > b.from && (b.to < 0 || from <= b.to)
}

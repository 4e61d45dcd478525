package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
)

// The dag-scopes of a CAR request.
const (
	scopeBlock  = "block"
	scopeEntity = "entity"
	scopeAll    = "all"
)

// carParams is what a CAR request asks for.
type carParams struct {
	scope string
	rng   *byteRange // nil for all of the entity
	dups  bool
}

// canCAR reports whether CARs with these parameters are made here (IPIP-412):
// version 1, and depth-first, which will do for order=unk as well.
func canCAR(params map[string]string) bool {
	for k, v := range params {
		switch {
		case v == "":
		case k == "version" && v != "1", k == "order" && v != "dfs" && v != "unk", k == "dups" && v != "y" && v != "n":
			return false
		}
	}
	return true
}

// parseCARParams reads a request's query and the parameters of its media type,
// which the query beats.
func parseCARParams(q url.Values, params map[string]string) (carParams, *refusal) {
	p := carParams{scope: scopeAll}
	no := func(reason string) (carParams, *refusal) {
		return carParams{}, &refusal{http.StatusBadRequest, reason}
	}
	all := map[string]string{}
	for _, k := range []string{"version", "order", "dups"} {
		all[k] = params[k]
		if v := q.Get("car-" + k); v != "" {
			all[k] = v
		}
	}
	if !canCAR(all) {
		return no("no such kind of CAR here")
	}
	p.dups = all["dups"] == "y"
	if eb := q.Get("entity-bytes"); eb != "" {
		rng, err := parseEntityBytes(eb)
		if err != nil {
			return no(err.Error())
		}
		p.scope, p.rng = scopeEntity, &rng
	}
	switch s := q.Get("dag-scope"); s {
	case "":
	case scopeBlock, scopeEntity, scopeAll:
		p.scope = s
	default:
		return no("unknown dag-scope")
	}
	if p.scope != scopeEntity {
		p.rng = nil
	}
	return p, nil
}

func (p carParams) contentType() string {
	dups := "n"
	if p.dups {
		dups = "y"
	}
	return typeCAR + "; version=1; order=dfs; dups=" + dups
}

// etag names the CAR that p makes of a path. It is weak as all tags of CARs: the
// same blocks may come in another order from another gateway.
func (p carParams) etag(root cid.Cid, path string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%t\x00%v", path, p.scope, p.dups, p.rng))
	return `W/"` + root.String() + ".car." + hex.EncodeToString(sum[:8]) + `"`
}

// resolve makes the range absolute, now that the entity is known: of something
// that is no file it means nothing, and one that is empty leaves the block that
// says how large the file is. It is refused if all of it lies outside.
func (p *carParams) resolve(entity gotBlock) *refusal {
	if p.rng == nil {
		return nil
	}
	size, ok := fileSize(entity)
	if !ok {
		p.rng = nil
		return nil
	}
	from, to := p.rng.from, p.rng.to
	if from < 0 {
		from = max(0, size+from)
	}
	if to < 0 {
		to = size + to
	}
	switch {
	case p.rng.open:
		to = size - 1
	case to < 0 && size > 0:
		return &refusal{http.StatusBadRequest, "entity-bytes ends before the file begins"}
	}
	if from >= size && from > 0 {
		return &refusal{http.StatusBadRequest, "entity-bytes begins behind the file's end"}
	}
	if to < from {
		p.scope = scopeBlock
	}
	p.rng = &byteRange{from: from, to: to}
	return nil
}

// fileSize is the length of a file in bytes, ok false if b is no file.
func fileSize(b gotBlock) (size int64, ok bool) {
	if b.cid.Type() != cid.DagProtobuf {
		return int64(len(b.data)), b.cid.Type() == cid.Raw
	}
	_, fs := fileNode(b.data)
	if fs == nil {
		return 0, false
	}
	return int64(fs.FileSize()), fs.FileSize() < 1<<62
}

// fileNode decodes a node of a UnixFS file, nil if it is none.
func fileNode(data []byte) (*merkledag.ProtoNode, *unixfs.FSNode) {
	node, err := merkledag.DecodeProtobuf(data)
	if err != nil {
		return nil, nil
	}
	fs, err := unixfs.FSNodeFromBytes(node.Data())
	if err != nil || fs.Type() != unixfs.TFile || fs.NumChildren() != len(node.Links()) {
		return nil, nil
	}
	return node, fs
}

// sendCAR streams the blocks on the path and what the scope asks for below it.
func sendCAR(w http.ResponseWriter, blocks blockSource, p carParams, chain []gotBlock) {
	last := chain[len(chain)-1]
	extend(w)
	out, err := car.NewWriter(w, []cid.Cid{last.cid})
	if err != nil {
		return
	}
	s := &dagSender{blocks: blocks, w: w, out: out, dups: p.dups, sent: map[string]bool{}}
	for _, b := range chain {
		if err = s.put(b); err != nil {
			break
		}
	}
	if err == nil {
		switch p.scope {
		case scopeAll:
			err = s.below(last, maxDepth)
		case scopeEntity:
			err = s.entity(last, 0, p.rng, maxDepth)
		}
	}
	if err != nil {
		// Headers are out: breaking the stream is the only honest answer left.
		panic(http.ErrAbortHandler)
	}
}

type dagSender struct {
	blocks blockSource
	w      http.ResponseWriter
	out    *car.Writer
	dups   bool
	sent   map[string]bool
	run    []cid.Cid // put off
	// steps counts the links that were looked at.
	steps int
}

var errWalk = errors.New("endless or malformed")

// put sends a block; identity CIDs need none.
func (s *dagSender) put(b gotBlock) error {
	if _, ok := inlined(b.cid); ok || s.sent[b.cid.KeyString()] {
		return nil
	}
	if !s.dups {
		s.sent[b.cid.KeyString()] = true
	}
	extend(s.w)
	return s.out.Put(b.cid, b.data)
}

// step counts a link. A few nodes that link to each other many times over would
// keep a walk going for ever, without a byte being written that could fail.
func (s *dagSender) step() error {
	if s.steps++; s.steps > maxBlocks {
		return errWalk
	}
	return nil
}

// later notes a block to be sent together with its neighbours, which lie beside it
// in the store. It is false of one that has to be read now, since it may hold links,
// or that is not there as it is called here.
func (s *dagSender) later(c cid.Cid) bool {
	if s.blocks.sections == nil || bundle.CheckCID(c) != nil || c.Type() != cid.Raw {
		return false
	}
	if key := c.KeyString(); !s.sent[key] {
		s.run = append(s.run, c)
		if !s.dups {
			s.sent[key] = true
		}
	}
	return true
}

// flush sends what was put off.
func (s *dagSender) flush() error {
	if len(s.run) == 0 {
		return nil
	}
	run := s.run
	s.run = s.run[:0]
	return s.blocks.sections(run, func(b []byte) error {
		for piece := range slices.Chunk(b, maxSection) {
			extend(s.w)
			if _, err := s.w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
}

// fetch reads a block and sends it, after what was put off.
func (s *dagSender) fetch(c cid.Cid) (gotBlock, error) {
	if err := s.flush(); err != nil {
		return gotBlock{}, err
	}
	data, err := s.blocks.get(c)
	if err != nil {
		return gotBlock{}, err
	}
	b := gotBlock{c, data}
	return b, s.put(b)
}

// below sends everything that b links to, depth first.
func (s *dagSender) below(b gotBlock, depth int) error {
	if b.cid.Type() != cid.DagProtobuf {
		return nil
	}
	node, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return err
	}
	if depth == 0 && len(node.Links()) > 0 {
		return errWalk
	}
	for _, l := range node.Links() {
		if err := s.step(); err != nil {
			return err
		}
		if s.sent[l.Cid.KeyString()] || s.later(l.Cid) {
			continue
		}
		c, err := s.fetch(l.Cid)
		if err != nil {
			return err
		}
		if err := s.below(c, depth-1); err != nil {
			return err
		}
	}
	return s.flush()
}

// entity sends the blocks of a file that hold bytes of rng; base is where b's
// bytes begin in the file. Of a directory its own block is the entity.
func (s *dagSender) entity(b gotBlock, base int64, rng *byteRange, depth int) error {
	if b.cid.Type() != cid.DagProtobuf {
		return nil
	}
	node, fs := fileNode(b.data)
	if fs == nil {
		return nil
	}
	if depth == 0 {
		return errWalk
	}
	base += int64(len(fs.Data()))
	for i, l := range node.Links() {
		size := int64(fs.BlockSize(i))
		if err := s.step(); err != nil || size < 0 {
			return errWalk
		}
		if rng.touches(base, base+size) && !s.later(l.Cid) {
			c, err := s.fetch(l.Cid)
			if err != nil {
				return err
			}
			if err := s.entity(c, base, rng, depth-1); err != nil {
				return err
			}
		}
		base += size
	}
	return s.flush()
}

// byteRange is entity-bytes: from and to inclusive, counted from the end of the
// file if negative; open for "*" as its end.
type byteRange struct {
	from, to int64
	open     bool
}

func (b *byteRange) String() string {
	switch {
	case b == nil:
		return ""
	case b.open:
		return fmt.Sprintf("%d:*", b.from)
	}
	return fmt.Sprintf("%d:%d", b.from, b.to)
}

var errRange = errors.New("malformed entity-bytes")

func parseEntityBytes(s string) (byteRange, error) {
	from, to, ok := strings.Cut(s, ":")
	if !ok {
		return byteRange{}, errRange
	}
	number := func(s string) (int64, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < -1<<62 {
			return 0, errRange
		}
		return n, nil
	}
	var b byteRange
	var err error
	if b.from, err = number(from); err != nil {
		return byteRange{}, err
	}
	if to == "*" {
		b.open = true
		return b, nil
	}
	if b.to, err = number(to); err != nil {
		return byteRange{}, err
	}
	if b.from < 0 == (b.to < 0) && b.from > b.to {
		return byteRange{}, errRange
	}
	return b, nil
}

// touches reports whether the range holds a byte of [from, to); all bytes are in
// none.
func (b *byteRange) touches(from, to int64) bool {
	return b == nil || to > b.from && from <= b.to
}

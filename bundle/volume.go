package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
)

// Volume reads an edition's layers from blocks that somebody holds. Whatever
// needs a block that isn't there fails with a *MissingError that names it, so
// that a caller fetches and asks again; three rounds at most lead from nothing
// to any article (directory, node, chunks).
type Volume struct {
	Channel channel.ID
	Edition uint64
	// Root is the edition's directory, from a verified leaf or front page.
	Root cid.Cid
	Key  channel.EpochKey
	// Prologues are layers' headers and nonces, if a front page gave them.
	Prologues map[string][]byte
	// Dict is what a front page says of the edition's dictionary. Nil: its texts
	// have none, and are refused if they name one.
	Dict *Dict
	// Get returns the block that c names, or an error wrapping ErrMissing. It
	// must return nothing whose hash was not checked.
	Get func(c cid.Cid) ([]byte, error)
	// Holds, if not nil, tells of each block whether Get would return it, and reads
	// none: for who asks only what is missing.
	Holds func(cs []cid.Cid) ([]bool, error)

	opened atomic.Pointer[Dictionary] // what Dict says, once it is here
	last   atomic.Pointer[chunk]      // what was decrypted last
}

// chunk is a decrypted one. Texts are short, and the next one to be read lies in the
// same chunk as a rule: without it each would cost the fetching, hashing and
// decrypting of 64 KiB.
type chunk struct {
	layer string
	index int64
	plain []byte
}

// ErrMissing is what Volume.Get returns for a block that isn't held.
var ErrMissing = errors.New("block not held")

// MissingError lists blocks that are needed and not held.
type MissingError struct{ Wants []Want }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d blocks of the edition are not here yet", len(e.Wants))
}

// Unwrap makes errors.Is(err, ErrMissing) true.
func (e *MissingError) Unwrap() error { return ErrMissing }

// get returns one block or a *MissingError for it.
func (v *Volume) get(w Want) ([]byte, error) {
	b, err := v.Get(w.CID)
	if errors.Is(err, ErrMissing) {
		return nil, &MissingError{[]Want{w}}
	}
	return b, err
}

// Directory returns the edition's folder.
func (v *Volume) Directory() (*Directory, error) {
	b, err := v.get(Want{CID: v.Root, Layer: LayerDirectory, Node: true})
	if err != nil {
		return nil, err
	}
	return ParseDirectory(v.Root, b)
}

// Layer lists the blocks of a layer's file in order, without nodes. ok is false
// if the edition has no such layer.
func (v *Volume) Layer(layer string) (leaves []Want, ok bool, err error) {
	d, err := v.Directory()
	if err != nil {
		return nil, false, err
	}
	root, ok := d.Layers[layer]
	if !ok {
		return nil, false, nil
	}
	leaves, err = v.descend(Want{CID: root, Layer: layer, File: root}, nil, 0)
	return leaves, true, err
}

// maxDepth bounds nodes below nodes: 174² blocks of 64 KiB are over MaxLayer.
const maxDepth = 2

// blockOffset is where block i of a layer's file starts. Holding every file to
// it keeps chunk i in block i, and a few small nodes from unfolding into
// millions of links.
func blockOffset(layer string, i int) int64 {
	switch {
	case layer == LayerLog:
		return int64(i) * logChunk
	case i == 0:
		return 0
	}
	return firstBlock + int64(i-1)*sealedChunk
}

func (v *Volume) descend(w Want, to []Want, depth int) ([]Want, error) {
	if w.CID.Prefix().Codec == cid.Raw {
		if w.Offset != blockOffset(w.Layer, len(to)) {
			return nil, fmt.Errorf("%w: blocks not along chunks", ErrLayer)
		}
		return append(to, w), nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("%w: file too deep", ErrBlock)
	}
	b, err := v.get(Want{CID: w.CID, Layer: w.Layer, Node: true, Offset: w.Offset, File: w.File})
	if err != nil {
		return nil, err
	}
	links, err := ParseFile(w.CID, b, w.Offset)
	if err != nil {
		return nil, err
	}
	if n := len(links); depth > 0 && (n == 0 || links[n-1].Offset+links[n-1].Size != w.Offset+int64(w.Size)) {
		return nil, fmt.Errorf("%w: sizes don't add up", ErrBlock)
	}
	for i, l := range links {
		next := Want{CID: l.CID, Layer: w.Layer, Offset: l.Offset, Size: int(l.Size), File: w.File}
		if to, err = v.descend(next, to, depth+1); err != nil {
			return nil, v.andNodes(err, w, links[i+1:])
		}
	}
	return to, nil
}

// andNodes adds to a *MissingError the nodes of w's links that are missing too: one
// at a time they would be as many round trips.
func (v *Volume) andNodes(err error, w Want, links []Link) error {
	var m *MissingError
	if !errors.As(err, &m) {
		return err
	}
	for _, l := range links {
		if l.CID.Prefix().Codec == cid.Raw {
			continue
		}
		_, err := v.get(Want{CID: l.CID, Layer: w.Layer, Node: true, Offset: l.Offset, File: w.File})
		var also *MissingError
		switch {
		case errors.As(err, &also):
			m.Wants = append(m.Wants, also.Wants...)
		case err != nil:
			return err
		}
	}
	return m
}

// Missing lists the blocks of the layer that are not held, or *MissingError for
// what must be fetched before they can be listed.
func (v *Volume) Missing(layer string) ([]Want, error) {
	leaves, _, err := v.Layer(layer)
	if err != nil {
		return nil, err
	}
	return v.lacks(leaves)
}

// MissingOf lists the blocks that reading these spans of a layer takes and that are
// not held, each once, or *MissingError as Missing. Spans that can't be read are
// left out: whoever reads them hears of it.
func (v *Volume) MissingOf(layer string, spans []Span) ([]Want, error) {
	wants, err := v.BlocksOf(layer, spans)
	if err != nil {
		return nil, err
	}
	return v.lacks(wants)
}

// BlocksOf lists the blocks that reading these spans of a layer takes, held or not,
// each once and in order; errors and spans as in MissingOf. Without the layer's
// prologue at hand (Prologues) the first block is among them.
func (v *Volume) BlocksOf(layer string, spans []Span) ([]Want, error) {
	leaves, _, err := v.Layer(layer)
	if err != nil {
		return nil, err
	}
	_, have := v.Prologues[layer]
	needed := make([]bool, len(leaves))
	for _, s := range spans {
		first, last := s.Offset/chunkSize, (s.Offset+s.Size-1)/chunkSize
		if s.check() != nil || last >= int64(len(leaves)) {
			continue
		}
		needed[0] = needed[0] || !have
		for i := first; i <= last; i++ {
			needed[i] = true
		}
	}
	var wants []Want
	for i, w := range leaves {
		if needed[i] {
			wants = append(wants, w)
		}
	}
	return wants, nil
}

// lacks lists those of the wants that are not held.
func (v *Volume) lacks(wants []Want) (out []Want, err error) {
	if v.Holds == nil {
		for _, w := range wants {
			if _, err := v.get(w); errors.As(err, new(*MissingError)) {
				out = append(out, w)
			} else if err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	cs := make([]cid.Cid, len(wants))
	for i, w := range wants {
		cs[i] = w.CID
	}
	held, err := v.Holds(cs)
	if err != nil {
		return nil, err
	}
	for i, w := range wants {
		if !held[i] {
			out = append(out, w)
		}
	}
	return out, nil
}

// Copy writes a layer's file as it is, encrypted; ok is false if the edition has no
// such layer. Nothing is written if a block is not held (*MissingError).
func (v *Volume) Copy(w io.Writer, layer string) (ok bool, err error) {
	missing, err := v.Missing(layer)
	if err != nil {
		return false, err
	}
	if len(missing) > 0 {
		return true, &MissingError{missing}
	}
	leaves, ok, err := v.Layer(layer)
	for _, l := range leaves {
		b, err := v.get(l)
		if err != nil {
			return ok, err
		}
		if _, err := w.Write(b); err != nil {
			return ok, err
		}
	}
	return ok, err
}

// Front opens the edition's front page.
func (v *Volume) Front() (*Front, error) {
	leaves, _, err := v.Layer(LayerFront)
	if err != nil {
		return nil, err
	}
	file, err := v.join(leaves, maxFrontFile)
	if err != nil {
		return nil, err
	}
	return OpenFront(v.Key, v.Channel, v.Edition, file)
}

// maxFrontFile bounds what Front reads: a front page is small.
const maxFrontFile = 4 << 20

func (v *Volume) join(leaves []Want, limit int) ([]byte, error) {
	var file []byte
	missing := &MissingError{}
	for _, w := range leaves {
		b, err := v.get(w)
		var m *MissingError
		switch {
		case errors.As(err, &m):
			missing.Wants = append(missing.Wants, m.Wants...)
		case err != nil:
			return nil, err
		case len(file)+len(b) > limit:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrLayer, limit)
		default:
			file = append(file, b...)
		}
	}
	if len(missing.Wants) > 0 {
		return nil, missing
	}
	return file, nil
}

// Hashes reads the log layer: the leaf hashes from index first on.
func (v *Volume) Hashes(first uint64) ([]channel.Hash, error) {
	leaves, ok, err := v.Layer(LayerLog)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, nil
	}
	if first > MaxLayer/uint64(len(channel.Hash{})) {
		return nil, nil // past any log there can be; times 32 it would overflow
	}
	from := int64(first) * int64(len(channel.Hash{}))
	var keep []Want
	for _, w := range leaves {
		if len(leaves) == 1 || w.Offset+int64(w.Size) > from {
			keep = append(keep, w)
		}
	}
	b, err := v.join(keep, maxFrontFile)
	if err != nil || len(keep) == 0 {
		return nil, err
	}
	skip := from - keep[0].Offset
	if skip > int64(len(b)) {
		return nil, nil
	}
	return channel.SplitHashes(b[skip:])
}

// read decrypts one span of a layer's plaintext.
func (v *Volume) read(layer string, s Span) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	first, last := s.Offset/chunkSize, (s.Offset+s.Size-1)/chunkSize
	if c := v.last.Load(); c != nil && c.layer == layer && first == c.index && last == c.index {
		return within(c.plain, s, first)
	}
	leaves, ok, err := v.Layer(layer)
	if err != nil {
		return nil, err
	}
	if !ok || len(leaves) == 0 {
		return nil, fmt.Errorf("%w: the edition has no %s", ErrFront, layer)
	}
	if last >= int64(len(leaves)) {
		return nil, fmt.Errorf("%w: span past the layer's end", ErrFront)
	}
	prologue, have := v.Prologues[layer]
	missing := &MissingError{}
	chunks := make([][]byte, last-first+1)
	fetch := func(i int64) ([]byte, error) {
		b, err := v.get(leaves[i])
		var m *MissingError
		if errors.As(err, &m) {
			missing.Wants = append(missing.Wants, m.Wants...)
			return nil, nil
		}
		return b, err
	}
	if !have && first != 0 {
		if prologue, err = fetch(0); err != nil {
			return nil, err
		}
	}
	for i := first; i <= last; i++ {
		b, err := fetch(i)
		if err != nil {
			return nil, err
		}
		if size := leaves[i].Size; b != nil && size != 0 && size != len(b) {
			return nil, fmt.Errorf("%w: a block of another size than its link says", ErrBlock)
		}
		if i == 0 && b != nil {
			if len(b) < PrologueSize {
				return nil, fmt.Errorf("%w: cut off", ErrLayer)
			}
			if !have {
				prologue = b
			}
			b = b[PrologueSize:]
		}
		chunks[i-first] = b
	}
	if len(missing.Wants) > 0 {
		return nil, missing
	}
	size, err := v.fileSize(leaves)
	if err != nil {
		return nil, err
	}
	u, err := newUnsealer(prologue, Passphrase(v.Key, v.Channel, v.Edition, layer), size)
	if err != nil {
		return nil, err
	}
	var plain []byte
	for i, c := range chunks {
		p, err := u.chunk(first+int64(i), c)
		if err != nil {
			return nil, err
		}
		v.last.Store(&chunk{layer, first + int64(i), p})
		plain = append(plain, p...)
	}
	return within(plain, s, first)
}

// within cuts a span out of the chunks that it lies in, which begin with the first.
func within(plain []byte, s Span, first int64) ([]byte, error) {
	from := s.Offset - first*chunkSize
	if from+s.Size > int64(len(plain)) {
		return nil, fmt.Errorf("%w: span past the layer's end", ErrFront)
	}
	return plain[from : from+s.Size : from+s.Size], nil
}

// fileSize is the size of a layer's file. A file of one block doesn't say its
// size in any link.
func (v *Volume) fileSize(leaves []Want) (int64, error) {
	if len(leaves) == 1 {
		b, err := v.get(leaves[0])
		return int64(len(b)), err
	}
	last := leaves[len(leaves)-1]
	return last.Offset + int64(last.Size), nil
}

// Article opens the text of a headline. Images have no Data yet; Volume.Image
// gives it.
func (v *Volume) Article(e *Entry) (*Article, error) {
	b, err := v.line(e)
	if err != nil {
		return nil, err
	}
	var t textLine
	if err := unmarshal(b, &t); err != nil || t.V != 1 {
		return nil, fmt.Errorf("%w: article is not JSON of this version", ErrLayer)
	}
	if err := checkMeta(t.ID, t.Title, t.Lead, t.Lang, t.Dir, t.Source); err != nil {
		return nil, err
	}
	if t.ID != e.ID || len(t.Body) > maxBody || len(t.Images) > maxImages || len(t.Images) != len(e.Images) {
		return nil, fmt.Errorf("%w: article and headline don't agree", ErrLayer)
	}
	a := &Article{
		ID: t.ID, Title: t.Title, Lead: t.Lead, Body: safehtml.Sanitize(t.Body), Lang: t.Lang, Dir: t.Dir,
		Date: t.Date, Corrected: e.Corrected, Source: t.Source,
	}
	for i, img := range t.Images {
		if !line(img.Alt, 0, maxAlt) {
			return nil, fmt.Errorf("%w: malformed image", ErrLayer)
		}
		e := e.Images[i]
		a.Images = append(a.Images, Image{Type: e.Type, Alt: img.Alt, Width: e.Width, Height: e.Height})
	}
	return a, nil
}

// line is the decompressed text of a headline. What it and its dictionary lack is
// asked for at once: over DNS each round trip counts.
func (v *Volume) line(e *Entry) ([]byte, error) {
	frame, err := v.read(LayerText, e.Text)
	if v.Dict == nil {
		if err != nil {
			return nil, err
		}
		return decompress(frame, maxLine)
	}
	var m, also *MissingError
	if err != nil && !errors.As(err, &m) {
		return nil, err
	}
	d, err := v.dictionary()
	switch {
	case errors.As(err, &also) && m != nil:
		for _, w := range m.Wants { // both lack the folder, perhaps
			if !slices.ContainsFunc(also.Wants, func(o Want) bool { return o.CID.Equals(w.CID) }) {
				also.Wants = append(also.Wants, w)
			}
		}
		return nil, also
	case err != nil:
		return nil, err
	case m != nil:
		return nil, m
	}
	return d.decompress(frame)
}

// Image opens picture i of a headline.
func (v *Volume) Image(e *Entry, i int) (*Image, error) {
	if i < 0 || i >= len(e.Images) {
		return nil, fmt.Errorf("%w: no such image", ErrFront)
	}
	frame, err := v.read(LayerMedia, e.Images[i].Span)
	if err != nil {
		return nil, err
	}
	member, err := decompress(frame, maxImage+4096)
	if err != nil {
		return nil, err
	}
	r := tar.NewReader(bytes.NewReader(member))
	h, err := r.Next()
	if err != nil || h.Size > maxImage {
		return nil, fmt.Errorf("%w: image is not a tar member", ErrLayer)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: image cut off", ErrLayer)
	}
	m := e.Images[i]
	return &Image{Type: m.Type, Width: m.Width, Height: m.Height, Data: data}, nil
}

// Walk visits every block of the edition depth first from its directory, in the
// order of its CAR file. Blocks that aren't held are not descended into but
// listed in the *MissingError that Walk then returns in the end. visit may be nil:
// then only blocks of links are read, and their leaves asked for.
func (v *Volume) Walk(visit func(Want, []byte) error) error {
	missing := &MissingError{}
	seen := map[cid.Cid]bool{}
	var descend func(w Want, depth int) error
	descend = func(w Want, depth int) error {
		if seen[w.CID] {
			return nil
		}
		seen[w.CID] = true
		b, err := v.Get(w.CID)
		if errors.Is(err, ErrMissing) {
			missing.Wants = append(missing.Wants, w)
			return nil
		}
		if err != nil {
			return err
		}
		if visit != nil {
			err = visit(w, b)
		}
		if err != nil || !w.Node {
			return err
		}
		if depth > maxDepth { // the directory is above the files
			return fmt.Errorf("%w: edition too deep", ErrBlock)
		}
		links, err := v.links(w, b)
		if err != nil {
			return err
		}
		if visit == nil {
			var leaves []Want
			links = slices.DeleteFunc(links, func(l Want) bool {
				leaf := !l.Node && !seen[l.CID]
				if leaf {
					leaves = append(leaves, l)
					seen[l.CID] = true
				}
				return leaf
			})
			lacks, err := v.lacks(leaves)
			if err != nil {
				return err
			}
			missing.Wants = append(missing.Wants, lacks...)
		}
		for _, l := range links {
			if err := descend(l, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := descend(Want{CID: v.Root, Layer: LayerDirectory, Node: true}, 0); err != nil {
		return err
	}
	if len(missing.Wants) > 0 {
		return missing
	}
	return nil
}

// links turns a node's links into wants; the directory's front page comes first.
func (v *Volume) links(w Want, block []byte) ([]Want, error) {
	var links []Link
	var err error
	folder := w.Layer == LayerDirectory || w.Layer == LayerRoot || w.Layer == LayerGrants
	if folder {
		links, err = ParseFolder(w.CID, block)
	} else {
		links, err = ParseFile(w.CID, block, w.Offset)
	}
	if err != nil {
		return nil, err
	}
	out := make([]Want, 0, len(links))
	for _, l := range links {
		next := Want{CID: l.CID, Layer: w.Layer, Node: l.Node(), Offset: l.Offset, Size: int(l.Size), File: w.File}
		if next.Node && !folder {
			next.Size = 0 // the link's size is that of the bytes below
		}
		if w.Layer == LayerDirectory {
			if next.Layer = layerOf(l.Name); next.Layer == "" {
				continue // of a later version
			}
			if next.Layer != LayerRoot && next.Layer != LayerGrants {
				next.File = l.CID
			}
		}
		out = append(out, next)
	}
	if w.Layer == LayerDirectory {
		slices.SortStableFunc(out, func(a, b Want) int { return layerOrder(a.Layer) - layerOrder(b.Layer) })
	}
	return out, nil
}

// layers in the order in which an edition's file holds them: what a reader needs
// first comes first, so that a torn file is still worth something.
var layers = []string{LayerFront, LayerRoot, LayerGrants, LayerLog, LayerDict, LayerText, LayerMedia}

func layerOrder(layer string) int { return slices.Index(layers, layer) }

// layerOf is the layer that a name in the edition's folder stands for, "" if none.
func layerOf(name string) string {
	for _, l := range layers {
		if name == fileName(l) {
			return l
		}
	}
	return ""
}

// File returns the file of that name below root/ or grants/. ErrMissing as in all of Volume; ok is false if there is no such file.
func (v *Volume) File(folder, name string) (data []byte, ok bool, err error) {
	d, err := v.Directory()
	if err != nil {
		return nil, false, err
	}
	c := d.Grants
	if folder == LayerRoot {
		c = d.RootNotes
	}
	if !c.Defined() {
		return nil, false, nil
	}
	b, err := v.get(Want{CID: c, Layer: folder, Node: true})
	if err != nil {
		return nil, false, err
	}
	links, err := ParseFolder(c, b)
	if err != nil {
		return nil, false, err
	}
	for _, l := range links {
		if l.Name == name {
			data, err = v.get(Want{CID: l.CID, Layer: folder})
			return data, err == nil, err
		}
	}
	return nil, false, nil
}

package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/internal/safehtml"
)

// Input is what one packing starts from.
type Input struct {
	Channel channel.ID
	Name    string
	Langs   []string
	// Edition is the number of the edition to be made: the log's next index.
	Edition     uint64
	Epoch       uint64
	Key         channel.EpochKey
	RootVersion uint64
	Date        time.Time
	// Articles are the new and corrected ones; the latter say when in Corrected.
	Articles []Article
	// Previous is the front page so far and PreviousLeaf its edition's leaf; both
	// nil in edition 0.
	Previous     *Front
	PreviousLeaf *channel.Leaf
	// Keep is how many headlines the front page holds, 0 means DefaultKeep. It
	// never costs a new article its place; older ones are found through Past.
	Keep int
	// Window is how long ago an edition may have been packed to be named in
	// Past, and its articles in the front page; 0 means seven days.
	Window time.Duration
	// Gone are IDs of articles taken back, none of them among Articles and no more
	// than MaxGone; Replaces as in Front.
	Gone     []string
	Replaces map[string]string
	// Leaves are the log's leaf hashes 0 … Edition-1.
	Leaves []channel.Hash
	// RootNotes are the signed root notes in version order, Grants the grant
	// files by name.
	RootNotes [][]byte
	Grants    map[string][]byte
	// Dict is the dictionary for texts, nil for none. It is used if that makes the
	// edition smaller; for a new dictionary see DictionaryUses.
	Dict *Dictionary
	// DictFile is the newest dict.age so far, nil for none: if it holds Dict and is
	// of this epoch, it is used again as it is.
	DictFile *DictFile
}

// DefaultKeep is how many headlines a front page holds unless told otherwise:
// with leads in several languages about what one flight of packets carries.
const DefaultKeep = 60

const defaultWindow = 7 * 24 * time.Hour

// Packed is a finished edition, not yet signed.
type Packed struct {
	// Leaf is what the log takes up and the head states.
	Leaf  channel.Leaf
	Front *Front
	// Blocks are the edition's blocks, depth first from its directory, with the
	// front page's first: each one once.
	Blocks []Block
	// Sizes are the layers' file sizes in bytes.
	Sizes map[string]int64
}

// textLine is one line of the text layer. The salt keeps a later proof that one
// article was in an edition from saying anything about the others.
type textLine struct {
	V      int         `json:"v"`
	Salt   string      `json:"salt"`
	ID     string      `json:"id"`
	Title  string      `json:"title"`
	Lead   string      `json:"lead,omitempty"`
	Body   string      `json:"body"`
	Lang   string      `json:"lang"`
	Dir    string      `json:"dir"`
	Date   time.Time   `json:"date"`
	Source string      `json:"source,omitempty"`
	Images []textImage `json:"images,omitempty"`
}

type textImage struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Alt    string `json:"alt,omitempty"`
	Width  int    `json:"w"`
	Height int    `json:"h"`
}

// Pack makes an edition: bytes in, blocks out. The order of making is media,
// text, front, directory, leaf, so that nothing holds a hash of a later thing.
// Bodies are sanitised; an article past the limits is an error.
func Pack(in Input) (*Packed, error) {
	if len(in.Leaves) != int(in.Edition) {
		return nil, fmt.Errorf("edition %d with a log of %d leaves", in.Edition, len(in.Leaves))
	}
	p := &packer{in: in, layers: map[string]*file{}}
	p.in.Date = in.Date.UTC().Truncate(time.Second)
	if err := p.media(); err != nil {
		return nil, err
	}
	if err := p.text(); err != nil {
		return nil, err
	}
	if err := p.log(); err != nil {
		return nil, err
	}
	if err := p.frontPage(); err != nil {
		return nil, err
	}
	return p.directory()
}

type packer struct {
	in      Input
	layers  map[string]*file
	entries []Entry
	front   *Front
	content channel.Hash
	// lines are the texts as they stand in their layer, made is the edition of the
	// dictionary's file, if there is one.
	lines [][]byte
	made  uint64
}

// sealLayer pads, encrypts and cuts one layer.
func (p *packer) sealLayer(layer string, plain []byte) error {
	sealed, err := seal(pad(plain, layer), Passphrase(p.in.Key, p.in.Channel, p.in.Edition, layer))
	if err != nil {
		return err
	}
	if len(sealed) > MaxLayer {
		return fmt.Errorf("layer %s too large: %d bytes instead of at most %d", layer, len(sealed), MaxLayer)
	}
	p.layers[layer], err = buildFile(sealed, firstBlock, sealedChunk)
	return err
}

// media writes a tar of all images, one zstd frame a member, and notes where
// each lies.
func (p *packer) media() error {
	var layer []byte
	for _, a := range p.in.Articles {
		e := Entry{
			ID: a.ID, Title: a.Title, Lead: a.Lead, Lang: a.Lang, Dir: a.Dir,
			Date: a.Date.UTC().Truncate(time.Second), Source: a.Source, Edition: p.in.Edition,
			Corrected: a.Corrected.UTC().Truncate(time.Second),
		}
		for i, img := range a.Images {
			if len(img.Data) == 0 || len(img.Data) > maxImage || !line(img.Alt, 0, maxAlt) {
				return fmt.Errorf("article %s: image %d past the limits", a.ID, i)
			}
			member, err := tarMember(imageName(a.ID, i, img.Type), img.Data, p.in.Date)
			if err != nil {
				return err
			}
			frame := compress(member)
			e.Images = append(e.Images, ImageEntry{
				Type: img.Type, Width: img.Width, Height: img.Height,
				Span: Span{int64(len(layer)), int64(len(frame))},
			})
			layer = append(layer, frame...)
		}
		p.entries = append(p.entries, e)
	}
	if layer == nil {
		return nil
	}
	layer = append(layer, compress(make([]byte, 1024))...) // tar's end of archive
	return p.sealLayer(LayerMedia, layer)
}

func imageName(id string, i int, kind string) string {
	ext := map[string]string{"image/webp": "webp", "image/jpeg": "jpg"}[kind]
	return fmt.Sprintf("%s-%d.%s", id, i, ext)
}

// tarMember is one file as it stands in a tar archive: header, bytes, padding.
func tarMember(name string, data []byte, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: at, Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// text writes one JSON line an article, each a zstd frame.
func (p *packer) text() error {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i, a := range p.in.Articles {
		salt := make([]byte, 16)
		rand.Read(salt)
		t := lineOf(&p.in.Articles[i], salt)
		if len(t.Body) > maxBody {
			return fmt.Errorf("article %s: body of %d bytes instead of at most %d", a.ID, len(t.Body), maxBody)
		}
		b, err := marshal(t)
		if err != nil {
			return err
		}
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(b), nil); err != nil {
			return err
		}
		p.lines = append(p.lines, append(b, '\n'))
	}
	if p.lines == nil {
		p.content = channel.Hash(rfc6962.DefaultHasher.EmptyRoot())
		return nil
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	p.content = channel.Hash(root)
	frames, err := p.frames()
	if err != nil {
		return err
	}
	at := int64(0)
	for i, f := range frames {
		e := &p.entries[i]
		e.Text = Span{at, int64(len(f))}
		if err := e.check(); err != nil {
			return fmt.Errorf("article %s: %w", e.ID, err)
		}
		at += e.Text.Size
	}
	return p.sealLayer(LayerText, slices.Concat(frames...))
}

// lineOf is an article as a line of the text layer.
func lineOf(a *Article, salt []byte) textLine {
	t := textLine{
		V: 1, Salt: base64.StdEncoding.EncodeToString(salt), ID: a.ID, Title: a.Title, Lead: a.Lead,
		Body: safehtml.Sanitize(a.Body), Lang: a.Lang, Dir: a.Dir,
		Date: a.Date.UTC().Truncate(time.Second), Source: a.Source,
	}
	for i, img := range a.Images {
		t.Images = append(t.Images, textImage{imageName(a.ID, i, img.Type), img.Type, img.Alt, img.Width, img.Height})
	}
	return t
}

// frames compresses the texts, with the dictionary if that pays; its file is then a
// layer.
func (p *packer) frames() ([][]byte, error) {
	without, size := make([][]byte, len(p.lines)), 0
	for i, l := range p.lines {
		without[i] = compress(l)
		size += len(without[i])
	}
	d := p.in.Dict
	if d == nil {
		return without, nil
	}
	encoder, err := d.encoder()
	if err != nil {
		return nil, err
	}
	with, smallSize := make([][]byte, len(p.lines)), 0
	for i, l := range p.lines {
		with[i] = encoder.EncodeAll(l, nil)
		smallSize += len(with[i])
	}
	again := p.in.DictFile.holds(d, &p.in)
	plain, cost := []byte(nil), 0
	if !again {
		plain = compress(d.data)
		cost = padme(len(plain))
	}
	if !smaller(smallSize, size, cost) {
		return without, nil
	}
	if again {
		p.made = p.in.DictFile.Edition
		p.layers[LayerDict], err = buildFile(p.in.DictFile.File, firstBlock, sealedChunk)
	} else {
		p.made = p.in.Edition
		err = p.sealLayer(LayerDict, plain)
	}
	return with, err
}

// logChunk is the block size of the log layer: full blocks repeat from edition
// to edition.
const logChunk = 64 << 10

func (p *packer) log() (err error) {
	if p.in.Edition == 0 {
		return nil
	}
	p.layers[LayerLog], err = buildFile(channel.JoinHashes(p.in.Leaves), logChunk, logChunk)
	return err
}

// frontPage joins new headlines with those of the window.
func (p *packer) frontPage() error {
	in := p.in
	f := &Front{
		V: 1, Channel: in.Channel, Name: in.Name, Langs: in.Langs, Edition: in.Edition, Epoch: in.Epoch,
		Date: in.Date, Gone: in.Gone, Replaces: in.Replaces, Articles: p.entries,
		Leaves: channel.JoinHashes(in.Leaves[max(0, len(in.Leaves)-FrontLeaves):]),
	}
	if f.Langs == nil {
		f.Langs = []string{}
	}
	out := map[string]bool{}
	for _, e := range f.Articles {
		out[e.ID] = true
	}
	for _, id := range in.Gone {
		if slices.ContainsFunc(p.entries, func(e Entry) bool { return e.ID == id }) {
			return fmt.Errorf("article %s: both packed and taken back", id)
		}
		out[id] = true
	}
	for _, old := range in.Replaces {
		out[old] = true
	}
	p.pastEditions(f)
	if in.Previous != nil {
		for _, e := range in.Previous.Articles {
			inWindow := slices.ContainsFunc(f.Past, func(p Past) bool { return p.Edition == e.Edition })
			if !out[e.ID] && inWindow && len(f.Articles) < cmp.Or(in.Keep, DefaultKeep) {
				f.Articles = append(f.Articles, e)
			}
		}
	}
	slices.SortStableFunc(f.Articles, func(a, b Entry) int { return b.Date.Compare(a.Date) })
	if f.Articles == nil {
		f.Articles = []Entry{}
	}
	for _, l := range []struct {
		layer string
		to    **Layer
	}{{LayerText, &f.Text}, {LayerMedia, &f.Media}} {
		if file := p.layers[l.layer]; file != nil {
			*l.to = &Layer{Prologue: slices.Clone(file.prologue())}
		}
	}
	if f.Text != nil {
		f.Text.Names = namesOf(p.layers[LayerText].records())
	}
	if l := p.layers[LayerDict]; l != nil {
		f.Dict = &Dict{Edition: p.made, Size: l.size, Names: namesOf(l.records())}
	}
	if l := p.layers[LayerLog]; l != nil {
		f.Log = namesOf(l.records())
	}
	if err := f.check(); err != nil {
		return err
	}
	b, err := marshal(f)
	if err != nil {
		return err
	}
	p.front = f
	return p.sealLayer(LayerFront, compress(b))
}

// pastEditions names the older editions of the window, so that a reader who
// missed them finds their front pages and articles.
func (p *packer) pastEditions(f *Front) {
	prev := p.in.Previous
	if prev == nil {
		return
	}
	known := slices.Clone(prev.Past)
	if l := p.in.PreviousLeaf; l != nil {
		last := Past{Edition: l.Edition, Epoch: l.Epoch, Root: l.Root.String(), Date: l.Date, Front: namesOf(l.Front)}
		if prev.Text != nil {
			last.Text = prev.Text.Names
		}
		last.Dict = prev.Dict
		for i := range prev.Articles {
			if prev.Articles[i].Edition == last.Edition {
				last.Articles++
			}
		}
		known = append(known, last)
	}
	since := p.in.Date.Add(-cmp.Or(p.in.Window, defaultWindow))
	for _, e := range known[max(0, len(known)-maxPast):] {
		if !e.Date.Before(since) {
			f.Past = append(f.Past, e)
		}
	}
}

// prologue is the age header and nonce at the start of a layer's file.
func (f *file) prologue() []byte {
	for _, b := range f.blocks {
		if b.CID.Prefix().Codec != nodeBuilder.Codec {
			return b.Data[:PrologueSize]
		}
	}
	return nil
}

// records are the DNS names of a layer: its node, if it has one, then its
// blocks in order, each a piece.
func (f *file) records() record.Names { return record.NamesOf(f.pieces()...) }

func (f *file) pieces() [][]byte {
	out := make([][]byte, len(f.blocks))
	for i, b := range f.blocks {
		out[i] = b.Data
	}
	return out
}

// directory makes the folder and the leaf, and puts all blocks in order.
func (p *packer) directory() (*Packed, error) {
	out := &Packed{Front: p.front, Sizes: map[string]int64{}}
	var entries []folderEntry
	var rest []*file
	add := func(name string, f *file) {
		entries = append(entries, folderEntry{name, f.root, f.tsize})
		rest = append(rest, f)
	}
	notes := map[string][]byte{}
	for i, n := range p.in.RootNotes {
		notes[strconv.Itoa(i+1)] = n
	}
	folders := map[string]map[string][]byte{LayerRoot: notes, LayerGrants: p.in.Grants}
	for _, layer := range layers {
		if f := p.layers[layer]; f != nil {
			add(fileName(layer), f)
			out.Sizes[layer] = f.size
		}
		if files := folders[layer]; len(files) > 0 {
			f, err := folderOf(files)
			if err != nil {
				return nil, err
			}
			add(layer, f)
			for _, b := range files {
				out.Sizes[layer] += int64(len(b))
			}
		}
	}
	dir, err := buildFolder(entries)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, f := range append([]*file{dir}, rest...) {
		for _, b := range f.blocks {
			if !seen[b.CID.KeyString()] {
				seen[b.CID.KeyString()] = true
				out.Blocks = append(out.Blocks, b)
			}
		}
	}
	pieces := append([][]byte{dir.blocks[0].Data}, p.layers[LayerFront].pieces()...)
	out.Leaf = channel.Leaf{
		Channel: p.in.Channel, Edition: p.in.Edition, Epoch: p.in.Epoch, RootVersion: p.in.RootVersion,
		Root: dir.root, Front: record.NamesOf(pieces...), Content: p.content, Date: p.in.Date,
	}
	return out, nil
}

// folderOf makes a folder of small files, each one raw block.
func folderOf(files map[string][]byte) (*file, error) {
	var entries []folderEntry
	var blocks []Block
	for name, data := range files {
		c := RawCID(data)
		entries = append(entries, folderEntry{name, c, uint64(len(data))})
		blocks = append(blocks, Block{c, data})
	}
	slices.SortFunc(blocks, func(a, b Block) int { return bytes.Compare(a.CID.Bytes(), b.CID.Bytes()) })
	f, err := buildFolder(entries)
	if err != nil {
		return nil, err
	}
	f.blocks = append(f.blocks, blocks...)
	return f, nil
}

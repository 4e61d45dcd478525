package bundle

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
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

// DefaultWindow is how long ago an edition may have been packed to be found through the
// newest front page unless told otherwise.
const DefaultWindow = 7 * 24 * time.Hour

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

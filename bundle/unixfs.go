package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// An edition is a UnixFS folder, so that any IPFS node or gateway can carry it
// and `ipfs get` can fetch it. Blocks follow age's chunks, so that each block
// but a layer's first is one chunk and can be decrypted alone.

// dagWidth is how many links a file's node holds (Kubo's default).
const dagWidth = 174

// maxNode bounds any block of links.
const maxNode = MaxBlock

// ErrBlock is wrapped by every refusal of a block.
var ErrBlock = errors.New("block refused")

// Block is one content-addressed block.
type Block struct {
	CID  cid.Cid
	Data []byte
}

// CheckBlock reports whether data is the block that c names: CIDv1, raw or
// dag-pb, SHA-256, at most MaxBlock bytes.
func CheckBlock(c cid.Cid, data []byte) error {
	if err := CheckCID(c); err != nil {
		return err
	}
	if len(data) > MaxBlock {
		return fmt.Errorf("%w: %d bytes instead of at most %d", ErrBlock, len(data), MaxBlock)
	}
	got, err := c.Prefix().Sum(data)
	if err != nil || !got.Equals(c) {
		return fmt.Errorf("%w: its bytes have another hash", ErrBlock)
	}
	return nil
}

// Checked is a block that Check has taken: who is given one need not hash it again. The
// zero value is none, and its CID undefined. Nobody changes its bytes.
type Checked struct{ block Block }

// Check is CheckBlock, and vouches for the block. It keeps data.
func Check(c cid.Cid, data []byte) (Checked, error) {
	if err := CheckBlock(c, data); err != nil {
		return Checked{}, err
	}
	return Checked{Block{c, data}}, nil
}

// CID names the block.
func (b Checked) CID() cid.Cid { return b.block.CID }

// Data are the block's bytes. They must not be changed.
func (b Checked) Data() []byte { return b.block.Data }

// CheckCID refuses CIDs of kinds that editions don't have.
func CheckCID(c cid.Cid) error {
	p := c.Prefix()
	if !c.Defined() || p.Version != 1 || (p.Codec != cid.Raw && p.Codec != cid.DagProtobuf) ||
		p.MhType != multihash.SHA2_256 || p.MhLength != 32 {
		return fmt.Errorf("%w: not a CIDv1 of raw or dag-pb and SHA-256", ErrBlock)
	}
	return nil
}

// RawCID is the CID of a raw block with these bytes.
func RawCID(data []byte) cid.Cid {
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		panic(err) // SHA-256 is always there
	}
	return c
}

var nodeBuilder = cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}

// file is a UnixFS file and its blocks, nodes before what they link to.
type file struct {
	root   cid.Cid
	size   int64 // of the file
	tsize  uint64
	blocks []Block
}

// buildFile cuts data into a first block of first bytes and later ones of rest.
func buildFile(data []byte, first, rest int) (*file, error) {
	dag := collector{}
	params := helpers.DagBuilderParams{Maxlinks: dagWidth, RawLeaves: true, CidBuilder: nodeBuilder, Dagserv: dag}
	b, err := params.New(&chunkSplitter{data: data, next: first, rest: rest})
	if err != nil {
		return nil, err
	}
	root, err := balanced.Layout(b)
	if err != nil {
		return nil, err
	}
	tsize, err := root.Size()
	if err != nil {
		return nil, err
	}
	f := &file{root: root.Cid(), size: int64(len(data)), tsize: tsize}
	f.blocks, err = dag.walk(root.Cid(), nil)
	return f, err
}

// chunkSplitter cuts along age's chunks. boxo loops for ever on a splitter that
// returns bytes together with io.EOF.
type chunkSplitter struct {
	data       []byte
	next, rest int
}

var _ chunker.Splitter = (*chunkSplitter)(nil)

func (s *chunkSplitter) Reader() io.Reader { return nil }

func (s *chunkSplitter) NextBytes() ([]byte, error) {
	if len(s.data) == 0 {
		return nil, io.EOF
	}
	n := min(s.next, len(s.data))
	chunk := s.data[:n]
	s.data, s.next = s.data[n:], s.rest
	return chunk, nil
}

// collector is the DAGService that boxo's builder writes to: a map.
type collector map[cid.Cid]ipld.Node

var _ ipld.DAGService = collector{}

func (c collector) Add(_ context.Context, n ipld.Node) error {
	c[n.Cid()] = n
	return nil
}

func (c collector) AddMany(ctx context.Context, ns []ipld.Node) error {
	for _, n := range ns {
		c[n.Cid()] = n
	}
	return nil
}

func (c collector) Get(_ context.Context, id cid.Cid) (ipld.Node, error) {
	if n, ok := c[id]; ok {
		return n, nil
	}
	return nil, ipld.ErrNotFound{Cid: id}
}

func (c collector) GetMany(context.Context, []cid.Cid) <-chan *ipld.NodeOption {
	ch := make(chan *ipld.NodeOption)
	close(ch)
	return ch
}

func (c collector) Remove(_ context.Context, id cid.Cid) error {
	delete(c, id)
	return nil
}

func (c collector) RemoveMany(context.Context, []cid.Cid) error { return nil }

// walk lists the blocks below id depth first, a node before its children.
func (c collector) walk(id cid.Cid, to []Block) ([]Block, error) {
	n, ok := c[id]
	if !ok {
		return nil, ipld.ErrNotFound{Cid: id}
	}
	to = append(to, Block{CID: id, Data: n.RawData()})
	for _, l := range n.Links() {
		var err error
		if to, err = c.walk(l.Cid, to); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// folderEntry is one name in a folder.
type folderEntry struct {
	name  string
	cid   cid.Cid
	tsize uint64
}

// buildFolder makes a UnixFS folder of one block, its links sorted by name.
func buildFolder(entries []folderEntry) (*file, error) {
	n := merkledag.NodeWithData(unixfs.FolderPBData())
	if err := n.SetCidBuilder(nodeBuilder); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := n.AddRawLink(e.name, &ipld.Link{Cid: e.cid, Size: e.tsize}); err != nil {
			return nil, err
		}
	}
	tsize, err := n.Size()
	if err != nil {
		return nil, err
	}
	data := n.RawData()
	if len(data) > maxNode {
		return nil, fmt.Errorf("folder of %d bytes", len(data))
	}
	return &file{root: n.Cid(), tsize: tsize, blocks: []Block{{n.Cid(), data}}}, nil
}

// Link is one link of a folder or of a file's node.
type Link struct {
	// Name within a folder, empty within a file.
	Name string
	CID  cid.Cid
	// Offset and Size are the bytes of the file that lie below, 0 in a folder.
	Offset, Size int64
}

// Node reports whether the link leads to a block of links.
func (l Link) Node() bool { return l.CID.Prefix().Codec == cid.DagProtobuf }

// parseNode checks block against c and reads it strictly as UnixFS.
func parseNode(c cid.Cid, block []byte) (*merkledag.ProtoNode, *unixfs.FSNode, error) {
	if err := CheckBlock(c, block); err != nil {
		return nil, nil, err
	}
	if c.Prefix().Codec != cid.DagProtobuf {
		return nil, nil, fmt.Errorf("%w: not a block of links", ErrBlock)
	}
	n, err := merkledag.DecodeProtobuf(block)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: malformed node", ErrBlock)
	}
	fs, err := unixfs.FSNodeFromBytes(n.Data())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: malformed UnixFS", ErrBlock)
	}
	for _, l := range n.Links() {
		if err := CheckCID(l.Cid); err != nil {
			return nil, nil, err
		}
	}
	// RawData of a decoded node is what was decoded; only force encodes anew.
	inner, err := fs.GetBytes()
	if err == nil && bytes.Equal(inner, n.Data()) {
		var outer []byte
		if outer, err = n.EncodeProtobuf(true); err == nil && bytes.Equal(outer, block) {
			return n, fs, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: not in canonical form", ErrBlock)
}

// plainFolder is the data of a folder that is nothing but one: without the times, modes
// and sharding that UnixFS could say.
var plainFolder = []byte{0x08, 0x01}

// ParseFolder reads a UnixFS folder's block, which c names.
func ParseFolder(c cid.Cid, block []byte) ([]Link, error) {
	n, _, err := parseNode(c, block)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(n.Data(), plainFolder) {
		return nil, fmt.Errorf("%w: not a folder", ErrBlock)
	}
	links := make([]Link, 0, len(n.Links()))
	for _, l := range n.Links() {
		if l.Name == "" || !utf8.ValidString(l.Name) || strings.ContainsAny(l.Name, "/\x00") || l.Name == "." || l.Name == ".." {
			return nil, fmt.Errorf("%w: malformed name in folder", ErrBlock)
		}
		links = append(links, Link{Name: l.Name, CID: l.Cid})
	}
	if !slices.IsSortedFunc(links, func(a, b Link) int { return strings.Compare(a.Name, b.Name) }) ||
		len(slices.CompactFunc(slices.Clone(links), func(a, b Link) bool { return a.Name == b.Name })) != len(links) {
		return nil, fmt.Errorf("%w: names not sorted or not distinct", ErrBlock)
	}
	return links, nil
}

// ParseFile reads a UnixFS file's node, which c names; base is where its bytes
// start in the file.
func ParseFile(c cid.Cid, block []byte, base int64) ([]Link, error) {
	n, fs, err := parseNode(c, block)
	if err != nil {
		return nil, err
	}
	if fs.Type() != unixfs.TFile || len(fs.Data()) != 0 || fs.NumChildren() != len(n.Links()) || len(n.Links()) == 0 || len(n.Links()) > dagWidth {
		return nil, fmt.Errorf("%w: not a file", ErrBlock)
	}
	links, at := make([]Link, 0, len(n.Links())), base
	for i, l := range n.Links() {
		size := fs.BlockSize(i)
		raw := l.Cid.Prefix().Codec == cid.Raw
		if l.Name != "" || size == 0 || size > MaxLayer || raw && size > MaxBlock || at+int64(size) > MaxLayer {
			return nil, fmt.Errorf("%w: malformed link in file", ErrBlock)
		}
		links = append(links, Link{CID: l.Cid, Offset: at, Size: int64(size)})
		at += int64(size)
	}
	if uint64(at-base) != fs.FileSize() {
		return nil, fmt.Errorf("%w: sizes don't add up", ErrBlock)
	}
	return links, nil
}

// Directory is an edition's folder.
type Directory struct {
	Root cid.Cid
	// Layers are the files by layer name: front, text, media, dict, log.
	Layers map[string]cid.Cid
	// RootNotes and Grants are folders; undefined if absent.
	RootNotes, Grants cid.Cid
}

// ParseDirectory reads an edition's folder block, which root names. Names it
// doesn't know are ignored.
func ParseDirectory(root cid.Cid, block []byte) (*Directory, error) {
	links, err := ParseFolder(root, block)
	if err != nil {
		return nil, err
	}
	d := &Directory{Root: root, Layers: map[string]cid.Cid{}}
	for _, l := range links {
		switch layer := layerOf(l.Name); layer {
		case "": // of a later version
		case LayerRoot:
			d.RootNotes = l.CID
		case LayerGrants:
			d.Grants = l.CID
		default:
			d.Layers[layer] = l.CID
		}
	}
	if !d.Layers[LayerFront].Defined() {
		return nil, fmt.Errorf("%w: edition without a front page", ErrBlock)
	}
	return d, nil
}

// Children lists what a block links to, for checking that a DAG is whole; none
// for raw blocks.
func Children(b Block) ([]cid.Cid, error) {
	if b.CID.Prefix().Codec == cid.Raw {
		return nil, CheckBlock(b.CID, b.Data)
	}
	n, _, err := parseNode(b.CID, b.Data)
	if err != nil {
		return nil, err
	}
	cids := make([]cid.Cid, 0, len(n.Links()))
	for _, l := range n.Links() {
		cids = append(cids, l.Cid)
	}
	return cids, nil
}

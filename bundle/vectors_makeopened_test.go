package bundle_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"filippo.io/age"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// fileOfNodes is a UnixFS file by hand: its blocks, the root first.
type fileOfNodes []bundle.Block

// fileCut cuts data into blocks of these sizes, the last one what is left, under one
// node; said, if not nil, is what the node says of their sizes.
func fileCut(data []byte, sizes []int, said []int) fileOfNodes {
	var leaves []bundle.Block
	for rest := data; len(rest) > 0; {
		n := len(rest)
		if len(leaves) < len(sizes) {
			n = min(n, sizes[len(leaves)])
		}
		leaves = append(leaves, bundle.Block{CID: bundle.RawCID(rest[:n]), Data: rest[:n]})
		rest = rest[n:]
	}
	return fileOver(leaves, said)
}

// fileOver is a node over blocks or files, the latter whole behind their node.
func fileOver(children []bundle.Block, said []int) fileOfNodes {
	n, inner, total := &merkledag.ProtoNode{}, []byte{0x08, 0x02}, 0
	var sizes []byte
	for i, c := range children {
		size := len(c.Data)
		if said != nil {
			size = said[i]
		}
		total += size
		sizes = binary.AppendUvarint(append(sizes, 0x20), uint64(size))
		if err := n.AddRawLink("", &ipld.Link{Cid: c.CID, Size: uint64(len(c.Data))}); err != nil {
			panic(err)
		}
	}
	inner = append(binary.AppendUvarint(append(inner, 0x18), uint64(total)), sizes...)
	n.SetData(inner)
	data, err := n.EncodeProtobuf(true)
	if err != nil {
		panic(err)
	}
	return append(fileOfNodes{{CID: nodeCID(data), Data: data}}, children...)
}

// remade is edition n with other files under some names of its folder, none where the
// file is nil, signed anew and whole.
func (m *maker) remade(n int, files map[string]fileOfNodes) []byte {
	p := m.packed[n]
	folder, err := merkledag.DecodeProtobuf(p.Blocks[0].Data)
	if err != nil {
		m.err = err
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := folder.RemoveNodeLink(name); err != nil {
			m.err = fmt.Errorf("%s: %w", name, err)
			return nil
		}
		if f := files[name]; f != nil {
			_ = folder.AddRawLink(name, &ipld.Link{Cid: f[0].CID, Size: uint64(len(f[0].Data))})
		}
	}
	data, err := folder.EncodeProtobuf(true)
	if err != nil {
		m.err = err
		return nil
	}
	leaf := m.heads[n].Leaf
	leaf.Root = nodeCID(data)
	held := map[cid.Cid][]byte{leaf.Root: data}
	for _, b := range p.Blocks[1:] {
		held[b.CID] = b.Data
	}
	for _, f := range files {
		for _, b := range f {
			held[b.CID] = b.Data
		}
	}
	return m.whole(leaf, m.heads[n].Path, held)
}

// whole is an edition's file, its blocks held.
func (m *maker) whole(leaf channel.Leaf, path []channel.Hash, held map[cid.Cid][]byte) []byte {
	head, err := channel.SignHead(leaf, path, 0, leaf.Date.Add(90*time.Second), m.log)
	if err != nil {
		m.err = err
		return nil
	}
	var file bytes.Buffer
	w, err := car.NewEdition(&file, car.Intro{RootNotes: [][]byte{m.signed}, Head: head.Text(), Root: leaf.Root})
	if err != nil {
		m.err = err
		return nil
	}
	put := map[cid.Cid]bool{}
	var descend func(c cid.Cid)
	descend = func(c cid.Cid) {
		if put[c] || m.err != nil {
			return
		}
		put[c] = true
		if err := w.Put(c, held[c]); err != nil {
			m.err = err
		}
		links, err := bundle.Children(bundle.Block{CID: c, Data: held[c]})
		if err != nil {
			m.err = err
		}
		for _, l := range links {
			descend(l)
		}
	}
	descend(leaf.Root)
	return file.Bytes()
}

// longLog is edition 2,049 without news, whose log is one block.
func (m *maker) longLog() []byte {
	const n = 2049
	front := m.seal(bundle.Passphrase(m.epoch, m.id, n, bundle.LayerFront), 1, padded(frame(fmt.Appendf(nil,
		`{"v":1,"channel":%q,"name":"x","langs":[],"edition":%d,"epoch":0,"date":"2026-09-21T00:00:00Z","articles":[]}`, m.id, n)), 3000, 0))
	log := make([]byte, 32*n)
	folder, held := merkledag.NodeWithData([]byte{8, 1}), map[cid.Cid][]byte{}
	for name, data := range map[string][]byte{"front.age": front, "log": log} {
		c := bundle.RawCID(data)
		held[c] = data
		_ = folder.AddRawLink(name, &ipld.Link{Cid: c, Size: uint64(len(data))})
	}
	data, err := folder.EncodeProtobuf(true)
	if err != nil {
		m.err = err
		return nil
	}
	leaf := m.heads[0].Leaf
	leaf.Edition, leaf.Root = n, nodeCID(data)
	held[leaf.Root] = data
	return m.whole(leaf, []channel.Hash{{1}, {2}}, held)
}

// layerFile is a layer's file of an edition, and the root of it.
func (m *maker) layerFile(n int, name string) (cid.Cid, []byte) {
	p, h := m.packed[n], m.heads[n]
	held := map[cid.Cid][]byte{}
	for _, b := range p.Blocks {
		held[b.CID] = b.Data
	}
	vol := volumeOf(m.id, h, m.epoch, held)
	var out bytes.Buffer
	ok, err := vol.Copy(&out, name)
	if err != nil || !ok {
		m.err = fmt.Errorf("edition %d has no %s: %w", n, name, err)
	}
	d, err := vol.Directory()
	if err != nil {
		m.err = err
		return cid.Undef, nil
	}
	return d.Layers[name], out.Bytes()
}

// invalidOpened are whole editions, signed and sound block by block, in which something
// does not open: readers find out, and relays can't.
func (m *maker) invalidOpened() error {
	const first, rest = 65_717, 65_552
	_, media := m.layerFile(0, bundle.LayerMedia)
	_, text0 := m.layerFile(0, bundle.LayerText)
	_, text1 := m.layerFile(1, bundle.LayerText)
	_, dict := m.layerFile(2, bundle.LayerDict)
	_, log := m.layerFile(3, bundle.LayerLog)
	if m.err != nil {
		return m.err
	}
	if len(media) <= first || len(media) >= first+rest {
		return fmt.Errorf("a media layer of %d bytes is not one of two blocks", len(media))
	}
	one := func(b []byte) fileOfNodes { return fileOfNodes{{CID: bundle.RawCID(b), Data: b}} }
	good := m.remade(0, map[string]fileOfNodes{"media.age": fileCut(media, []int{first}, nil)})
	if err := opened(m.roots, m.id, m.epoch, nil, good); err != nil {
		return fmt.Errorf("an edition remade by hand: %w", err)
	}
	add := func(name, check, errText string, n int, files map[string]fileOfNodes) {
		m.refused(name, ".car", "opened", check, errText, m.remade(n, files))
	}
	add("opened-text-of-another-edition", "the passphrase is the edition's", "wrong key", 1, map[string]fileOfNodes{"text.age": one(text0)})
	add("opened-texts-swapped", "the passphrase is the layer's", "wrong key", 0, map[string]fileOfNodes{"text.age": fileCut(media, []int{first}, nil), "media.age": one(text0)})
	add("opened-text-cut", "the last chunk is marked as such", "does not decrypt", 1, map[string]fileOfNodes{"text.age": one(text1[:len(text1)-1])})
	add("opened-media-cut-at-a-chunk", "the last chunk is marked as such", "does not decrypt", 0, map[string]fileOfNodes{"media.age": one(media[:first])})
	add("opened-media-flipped", "age authenticates every chunk", "does not decrypt", 0, map[string]fileOfNodes{"media.age": fileCut(flip(media, len(media)-100), []int{first}, nil)})
	add("opened-text-missing", "a headline's text is in the edition that it names", "has no text", 1, map[string]fileOfNodes{"text.age": nil})
	add("opened-media-missing", "a headline's pictures are in the edition that it names", "has no media", 0, map[string]fileOfNodes{"media.age": nil})
	add("opened-blocks-not-along-chunks", "blocks are cut along age's chunks", "not along chunks", 0, map[string]fileOfNodes{"media.age": fileCut(media, []int{60_000}, nil)})
	swapped := fileCut(media, []int{first}, nil)
	add("opened-blocks-swapped", "a file's blocks are in their order", "along chunks", 0, map[string]fileOfNodes{"media.age": fileOver([]bundle.Block{swapped[2], swapped[1]}, nil)})
	add("opened-block-longer-than-its-link", "a block is as long as its link says", "another size", 0, map[string]fileOfNodes{"media.age": fileCut(media, []int{first}, []int{first, len(media) - first - 1})})
	inner := fileCut(media, []int{first}, nil)
	total := []int{len(media)}
	under := func(f fileOfNodes) fileOfNodes {
		return append(fileOver(f[:1:1], total), f[1:]...)
	}
	add("opened-file-too-deep", "no nodes below nodes below nodes", "too deep", 0, map[string]fileOfNodes{"media.age": under(under(inner))})
	node := under(inner)
	node = append(fileOver(node[1:2:2], []int{len(media) - 1}), node[2:]...)
	add("opened-node-shorter-than-its-link", "a node is as long as its link says", "add up", 0, map[string]fileOfNodes{"media.age": node})
	again, err := reheaded(text0, bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerText))
	if err != nil {
		return err
	}
	add("opened-text-with-another-header", "a layer begins with the prologue that the front page names, though both open it", "another prologue", 0, map[string]fileOfNodes{"text.age": one(again)})
	more := append(bytes.Clone(dict), 0)
	add("opened-dictionary-longer", "a dictionary's file is as long as the front page says", "than the front page says", 2, map[string]fileOfNodes{"dict.age": one(more)})
	add("opened-dictionary-missing", "a dictionary that the front page names is there", "has no dict", 2, map[string]fileOfNodes{"dict.age": nil})
	add("opened-dictionary-is-a-text", "the passphrase is the layer's", "than the front page says", 2, map[string]fileOfNodes{"dict.age": one(text1)})
	m.refused("opened-log-in-one-block", ".car", "opened", "log is cut into blocks of 65,536", "not along chunks", m.longLog())
	add("opened-log-cut", "log has a hash for each older edition", "leaves given", 3, map[string]fileOfNodes{"log": one(log[:len(log)-32])})
	add("opened-log-of-another", "log and leaf hash to the tree", "forked", 3, map[string]fileOfNodes{"log": one(flip(log, 40))})
	return m.err
}

// reheaded is an age file with another header, under which the same passphrase opens the
// same chunks.
func reheaded(file []byte, passphrase string) ([]byte, error) {
	const header = 149
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	key, err := age.DecryptHeader(file[:header], identity)
	if err != nil {
		return nil, err
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(1)
	stanzas, err := recipient.Wrap(key)
	if err != nil {
		return nil, err
	}
	base := base64.RawStdEncoding
	out := fmt.Appendf(nil, "age-encryption.org/v1\n-> scrypt %s 1\n%s\n---", stanzas[0].Args[0], base.EncodeToString(stanzas[0].Body))
	macKey, err := hkdf.Key(sha256.New, key, nil, "header", 32)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write(out)
	out = fmt.Appendf(out, " %s\n", base.EncodeToString(mac.Sum(nil)))
	out = append(out, file[header:]...)
	if _, err := age.Decrypt(bytes.NewReader(out), identity); err != nil {
		return nil, fmt.Errorf("a header written by hand: %w", err)
	}
	return out, nil
}

// opened reads all of an edition: front page, texts, pictures and log, as one does who
// holds the channel's first head and nothing since.
func opened(roots *channel.Roots, id channel.ID, key channel.EpochKey, first, file []byte) error {
	in, blocks, _, err := readCAR(file)
	if err != nil {
		return err
	}
	h, err := roots.Head(in.Head)
	if err != nil {
		return err
	}
	vol := volumeOf(id, h, key, blocks)
	f, err := vol.Front()
	if err != nil {
		return err
	}
	named := map[string][]byte{}
	for layer, l := range map[string]*bundle.Layer{bundle.LayerText: f.Text, bundle.LayerMedia: f.Media} {
		if l != nil {
			named[layer] = l.Prologue
		}
	}
	vol.Dict = f.Dict
	if err := openedLayers(vol, f); err != nil {
		return err
	}
	// Again, as one who keeps the front page.
	again := volumeOf(id, h, key, blocks)
	again.Dict, again.Prologues = f.Dict, named
	if err := openedLayers(again, f); err != nil {
		return err
	}
	if f.Edition == 0 {
		return nil
	}
	hashes, err := vol.Hashes(0)
	if err != nil {
		return err
	}
	view := channel.NewView(&channel.Invite{Channel: id})
	if err := view.ExtendRoots(roots.Notes()[0]); err != nil {
		return err
	}
	h0, err := view.Check(first)
	if err != nil {
		return err
	}
	view.Consider(h0)
	return view.Fold(h, hashes[min(1, len(hashes)):])
}

// openedLayers reads the texts and pictures of a front page's own edition.
func openedLayers(vol *bundle.Volume, f *bundle.Front) error {
	for i := range f.Articles {
		e := &f.Articles[i]
		if e.Edition != f.Edition {
			continue
		}
		if _, err := vol.Article(e); err != nil {
			return err
		}
		for j := range e.Images {
			if _, err := vol.Image(e, j); err != nil {
				return err
			}
		}
	}
	return nil
}

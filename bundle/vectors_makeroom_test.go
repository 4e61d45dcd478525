package bundle_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/ipfs/boxo/ipld/merkledag"
	ipld "github.com/ipfs/go-ipld-format"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// roomFor makes files that have something of a later writer's: what section 18 says
// that readers ignore. They are taken.
func (m *maker) roomFor() error {
	taken := func(name, as, check string, b []byte) *invalid {
		m.room = append(m.room, invalid{File: m.write("room/"+name, b), As: as, Check: check})
		return &m.room[len(m.room)-1]
	}
	// A signature of another type by another key, and one that is not valid.
	other := "— later.example " + base64.StdEncoding.EncodeToString(append([]byte{1, 2, 3, 4, 9}, make([]byte, 100)...)) + "\n— short.example AAAAAAA=\n"
	taken("root-1-more-lines.note", "root-note", "signature lines of others", append(bytes.Clone(m.signed), other...))
	taken("head-more-lines.txt", "head", "signature lines of others", append(m.heads[1].Text(), other...))
	taken("head-more-cosignatures.bin", "head", "cosignatures of others", append(m.heads[1].Compact(), bytes.Repeat([]byte{9}, 76)...))

	js, err := json.Marshal(m.packed[0].Front)
	if err != nil {
		return err
	}
	add := func(js []byte, old, with string) []byte {
		out := bytes.Replace(js, []byte(old), []byte(with), 1)
		if bytes.Equal(out, js) {
			m.err = fmt.Errorf("vector: %q is not in it", old)
		}
		return out
	}
	const later = `"later":[{"than":{"this":[1.5e3,null,true]}}],`
	deep := add(add(add(js, `{"v":1`, `{`+later+`"v":1`), `"text":{"prologue"`, `"text":{`+later+`"prologue"`), `"id":"00112233445566bb"`, later+`"id":"00112233445566bb"`)
	taken("front-more-keys.age", "front", "keys that nobody knows, at every level", m.sealFront(1, frame(deep)))
	many := `"later":[0` + string(bytes.Repeat([]byte(",0"), 1999)) + `],`
	taken("front-long-list.age", "front", "a list of 2,000 under a key that nobody knows", m.sealFront(1, frame(add(js, `{"v":1`, `{`+many+`"v":1`))))
	taken("front-eight-levels.age", "front", "8 levels under a key that nobody knows", m.sealFront(1, frame(add(js, `{"v":1`, `{"later":[[[[[[[]]]]]]],"v":1`))))
	taken("front-unpadded.age", "front", "padding of another size, none here", m.sealFront(1, frame(js)))
	taken("front-one-byte-of-padding.age", "front", "padding of another size, 9 bytes here", m.sealFront(1, padded(frame(js), 9, 0)))

	e, line := noticeAt(200)
	f := frame(add(line, `{"body"`, `{`+later+`"body"`))
	e.Text.Size = int64(len(f))
	headline, err := json.Marshal(e)
	if err != nil {
		return err
	}
	taken("text-more-keys.age", "text", "keys that nobody knows", m.spanned(f)).Headline = headline

	c := bundle.RawCID([]byte("some bytes"))
	dir := pb([]byte{0x08, 0x01}, link(c, "audio.age", 10), link(c, "front.age", 10), link(c, "later", 10), link(c, "text.age", 10))
	taken("directory-more-names.bin", "directory", "names that nobody knows", dir).CID = nodeCID(dir).String()

	raw := inviteBytes(m.invite.String())
	taken("invite-new-kinds.txt", "invite", "kinds of places that nobody knows", inviteText(append(append(bytes.Clone(raw[:97]), 7, 0, 255, 3, 'n', 'e', 'w'), raw[97:len(raw)-4]...)))

	// A whole edition is one with more names, too, if all below them is there.
	return m.laterEdition(taken)
}

// laterEdition is edition 1's file as a later writer might have it: its folder has one
// name more. What the leaf says of DNS is still of the old one.
func (m *maker) laterEdition(taken func(name, as, check string, b []byte) *invalid) error {
	extra := bundle.Block{CID: bundle.RawCID([]byte("of a later version")), Data: []byte("of a later version")}
	folder, err := merkledag.DecodeProtobuf(m.packed[1].Blocks[0].Data)
	if err != nil {
		return err
	}
	if err := folder.AddRawLink("later", &ipld.Link{Cid: extra.CID, Size: uint64(len(extra.Data))}); err != nil {
		return err
	}
	data, err := folder.EncodeProtobuf(true) // with its links in order
	if err != nil {
		return err
	}
	dir := bundle.Block{CID: nodeCID(data), Data: data}
	leaf := m.heads[1].Leaf
	leaf.Root = dir.CID
	head, err := channel.SignHead(leaf, m.heads[1].Path, 0, m.heads[1].Time, m.log)
	if err != nil {
		return err
	}
	var file bytes.Buffer
	w, err := car.NewEdition(&file, car.Intro{RootNotes: [][]byte{m.signed}, Head: head.Text(), Root: dir.CID})
	if err != nil {
		return err
	}
	for _, b := range append([]bundle.Block{dir, extra}, m.packed[1].Blocks[1:]...) {
		if err := w.Put(b.CID, b.Data); err != nil {
			return err
		}
	}
	taken("edition-more-names.car", "edition", "a name in the folder that nobody knows, and its block", file.Bytes())
	return m.err
}

package bundle_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// oneLayer is an edition of nothing but one layer of one block, and of a front page
// that isn't there.
func oneLayer(id channel.ID, key channel.EpochKey, layer string, file []byte) *bundle.Volume {
	return oneLayerAnd(id, key, layer, file, nil)
}

// oneLayerAnd is oneLayer with a dictionary for it, made for edition 0; nil for none.
func oneLayerAnd(id channel.ID, key channel.EpochKey, layer string, file, dict []byte) *bundle.Volume {
	block := bundle.RawCID(file)
	links := [][]byte{link(bundle.RawCID([]byte("front")), "front.age", 10), link(block, layer+".age", 10)}
	held := map[cid.Cid][]byte{block: file}
	var says *bundle.Dict
	if dict != nil {
		c := bundle.RawCID(dict)
		links, held[c] = append([][]byte{link(c, "dict.age", 10)}, links...), dict
		says = &bundle.Dict{Size: int64(len(dict))}
	}
	dir := pb([]byte{0x08, 0x01}, links...)
	held[nodeCID(dir)] = dir
	return &bundle.Volume{Dict: says, Channel: id, Root: nodeCID(dir), Key: key, Get: func(c cid.Cid) ([]byte, error) {
		if b, ok := held[c]; ok {
			return b, nil
		}
		return nil, bundle.ErrMissing
	}}
}

// invalidTexts makes text and media layers, each with the headline that leads there.
func (m *maker) invalidTexts() error {
	// Two of the article's headlines: with a picture and without.
	h := bundle.Entry{
		ID: "00112233445566dd", Title: "A swan on the ice", Lang: "en", Dir: "ltr",
		Date: time.Unix(1_790_000_000, 0).UTC(), Text: bundle.Span{Offset: 0},
	}
	salt := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 16))
	line := `{"v":1,"salt":"` + salt + `","id":"00112233445566dd","title":"A swan on the ice","body":"<p>It was freed.</p>","lang":"en","dir":"ltr","date":"2026-09-21T13:33:20Z"}`
	text := func(line string) ([]byte, bundle.Entry) {
		f := frame([]byte(line + "\n"))
		e := h
		e.Text.Size = int64(len(f))
		return m.seal(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerText), 1, padded(f, 100, 0)), e
	}
	file, e := text(line)
	if a, err := oneLayer(m.id, m.epoch, bundle.LayerText, file).Article(&e); err != nil || a.Title != h.Title {
		return fmt.Errorf("a text written by hand: %w", err)
	}
	refused := func(name, as, check, errText string, file []byte, e bundle.Entry) {
		headline, err := json.Marshal(e)
		if err != nil {
			m.err = err
		}
		m.refused(name, ".age", as, check, errText, file).Headline = headline
	}
	try := func(name, check, errText, old, with string) {
		changed := strings.Replace(line, old, with, 1)
		if changed == line {
			m.err = fmt.Errorf("vector: %q is not in the text", old)
		}
		file, e := text(changed)
		refused(name, "text", check, errText, file, e)
	}
	try("text-of-another-article", "the ID is the headline's", "don't agree", "00112233445566dd", "00112233445566ee")
	try("text-version-2", "v is 1", "not JSON of this version", `"v":1`, `"v":2`)
	try("text-key-twice", "no key twice", "not JSON of this version", `"v":1`, `"v":1,"v":1`)
	try("text-two-objects", "a line is one JSON object", "not JSON of this version", `Z"}`, `Z"}{}`)
	try("text-title-of-two-lines", "titles are one line", "malformed title", "A swan", `A\nswan`)
	try("text-script-source", "sources are http or https", "malformed source URL", `"lang"`, `"source":"javascript:x","lang"`)
	try("text-direction-unknown", "directions are ltr and rtl", "malformed direction", `"ltr"`, `"up"`)
	try("text-body-oversized", "a body of at most 1 MiB", "don't agree", "It was freed.", strings.Repeat("x", 1<<20))
	try("text-more-pictures", "as many pictures as the headline has", "don't agree", `"lang"`, `"images":[{"name":"00112233445566dd-0.jpg","type":"image/jpeg","w":1,"h":1}],"lang"`)
	try("text-line-oversized", "a line of at most 4 MiB", "oversized", `"lang"`, `"x":"`+strings.Repeat("x", 4<<20)+`","lang"`)
	withPicture := func(e bundle.Entry, span bundle.Span) bundle.Entry {
		e.Images = []bundle.ImageEntry{{Type: "image/jpeg", Width: 1, Height: 1, Span: span}}
		return e
	}
	file, e = text(strings.Replace(line, `"lang"`, `"images":[{"name":"00112233445566dd-0.jpg","type":"image/jpeg","alt":"a\nb","w":1,"h":1}],"lang"`, 1))
	refused("text-alt-of-two-lines", "text", "descriptions of pictures are one line", "malformed image", file, withPicture(e, bundle.Span{Size: 1}))
	file, e = text(strings.Replace(line, `"lang"`, `"images":[{"name":"00112233445566dd-0.jpg","type":"image/jpeg","alt":"`+strings.Repeat("x", 1001)+`","w":1,"h":1}],"lang"`, 1))
	refused("text-alt-oversized", "text", "a description of a picture has at most 1,000 bytes", "malformed image", file, withPicture(e, bundle.Span{Size: 1}))
	try("text-title-oversized", "a title has at most 500 bytes", "malformed title", "A swan on the ice", strings.Repeat("x", 501))
	try("text-lead-oversized", "a lead has at most 1,000 bytes", "malformed lead", `"lang"`, `"lead":"`+strings.Repeat("x", 1001)+`","lang"`)
	try("text-source-oversized", "a URL has at most 2,000 bytes", "malformed source URL", `"lang"`, `"source":"https://news.example/`+strings.Repeat("x", 1980)+`","lang"`)
	file, e = text(line)
	past, half, more := e, e, e
	past.Text.Size, half.Text.Size, more.Text.Size = 4000, e.Text.Size/2, e.Text.Size+8
	refused("text-span-past-the-end", "text", "a span lies in the layer", "past the layer's end", file, past)
	refused("text-span-of-half-a-frame", "text", "a span is one frame", "cut off", file, half)
	refused("text-span-of-more-than-a-frame", "text", "a span is one frame", "bytes after the frame", file, more)

	picture := func(name, check, errText string, member []byte) error {
		f := frame(member)
		file := m.seal(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerMedia), 1, padded(f, len(f)+100, 0))
		e := withPicture(h, bundle.Span{Size: int64(len(f))})
		e.Text.Size = 1
		if name == "" {
			img, err := oneLayer(m.id, m.epoch, bundle.LayerMedia, file).Image(&e, 0)
			if err != nil || len(img.Data) == 0 {
				return fmt.Errorf("a picture written by hand: %w", err)
			}
			return nil
		}
		refused(name, "picture", check, errText, file, e)
		return nil
	}
	whole, err := tarMember(1000)
	if err != nil {
		return err
	}
	if err := picture("", "", "", whole); err != nil {
		return err
	}
	large, err := tarMember(2<<20 + 1)
	if err != nil {
		return err
	}
	none, err := tarMember(0)
	if err != nil {
		return err
	}
	evil, err := tarMemberOf("../../evil", 3)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		name, check, errText string
		member               []byte
	}{
		{"picture-no-tar", "a frame of media is a member of a tar archive", "not a tar member", bytes.Repeat([]byte("picture "), 128)},
		{"picture-header-alone", "a member has its data", "cut off", whole[:512]},
		{"picture-checksum-wrong", "a tar header has its checksum", "not a tar member", flip(whole, 3)},
		{"picture-end-of-archive", "a frame of media is a member of a tar archive", "not a tar member", make([]byte, 1024)},
		{"picture-two-members", "a frame of media is one member", "not one tar member", slices.Concat(whole, evil)},
		{"picture-padding-not-zero", "zeros to a multiple of 512", "not one tar member", append(whole[:len(whole)-1:len(whole)-1], 1)},
		{"picture-padding-short", "zeros to a multiple of 512", "not one tar member", whole[:len(whole)-1]},
		{"picture-padding-long", "zeros to a multiple of 512, and no more", "not one tar member", append(bytes.Clone(whole), make([]byte, 512)...)},
		{"picture-of-no-bytes", "a picture has a byte", "not one tar member", none},
		{"picture-oversized", "a picture of at most 2 MiB", "not a tar member", large},
		{"picture-frame-oversized", "a frame of at most 2 MiB and 4 KiB", "oversized", append(bytes.Clone(whole), make([]byte, 3<<20)...)},
	} {
		if err := picture(p.name, p.check, p.errText, p.member); err != nil {
			return err
		}
	}
	return m.err
}

// tarMember is one member of so many zeros, without the archive's end.
func tarMember(size int) ([]byte, error) { return tarMemberOf("00112233445566dd-0.jpg", size) }

func tarMemberOf(name string, size int) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		return nil, err
	}
	err := w.Flush()
	return b.Bytes(), err
}

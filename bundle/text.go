package bundle

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
)

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

// text makes the text layer: one JSON line an article, each a zstd frame.
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
	without, size := p.compressed(compress)
	d := p.in.Dict
	if d == nil {
		return without, nil
	}
	encoder, err := d.encoder()
	if err != nil {
		return nil, err
	}
	with, smallSize := p.compressed(func(line []byte) []byte { return encoder.EncodeAll(line, nil) })
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

// compressed are the lines as frames, and their size in all.
func (p *packer) compressed(by func(line []byte) []byte) (frames [][]byte, size int) {
	for _, l := range p.lines {
		f := by(l)
		frames, size = append(frames, f), size+len(f)
	}
	return frames, size
}

// Article opens the text of a headline. Images have no Data yet; Volume.Image
// gives it.
func (v *Volume) Article(e *Entry) (*Article, error) {
	b, err := v.lineAt(e)
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
		if !line(img.Alt, 0, maxAlt) || min(img.Width, img.Height) < 0 || max(img.Width, img.Height) > maxSide {
			return nil, fmt.Errorf("%w: malformed image", ErrLayer)
		}
		e := e.Images[i]
		a.Images = append(a.Images, Image{Type: e.Type, Alt: img.Alt, Width: e.Width, Height: e.Height})
	}
	return a, nil
}

// lineAt is the line of the text layer that a headline leads to. What it and its
// dictionary lack is asked for at once: over DNS each round trip counts.
func (v *Volume) lineAt(e *Entry) ([]byte, error) {
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

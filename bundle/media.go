package bundle

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"
)

// media makes the media layer, a tar of all images, one zstd frame a member, and the
// headlines, which note where each lies.
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

// tarBlock is the size of a tar header, and what data is padded to.
const tarBlock = 512

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
	// What tar would take out of the whole layer is what is read here: one member, and
	// nothing else in the frame.
	rest, ok := bytes.CutPrefix(member[min(tarBlock, len(member)):], data)
	if !ok || len(data) == 0 || len(rest) >= tarBlock || len(member)%tarBlock != 0 || len(bytes.TrimLeft(rest, "\x00")) > 0 {
		return nil, fmt.Errorf("%w: image is not one tar member", ErrLayer)
	}
	m := e.Images[i]
	return &Image{Type: m.Type, Width: m.Width, Height: m.Height, Data: data}, nil
}
